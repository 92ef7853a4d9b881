//! A container as a row of `ps`.

use std::collections::BTreeMap;
use std::rc::Rc;

use wharf_docker::container::{Port, Summary};
use wharf_vocab::ImageReference;

use crate::output::text::{ellipsis, local_time, short_id, since};
use crate::output::units::human_size;
use crate::template::quote::quote;
use crate::template::{Struct, Value};

pub(super) const HEADERS: &[(&str, &str)] = &[
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Names", "NAMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("Ports", "PORTS"),
    ("RunningFor", "CREATED"),
    ("Size", "SIZE"),
    ("State", "STATE"),
    ("Status", "STATUS"),
];

/// The fields that formats may show; `trunc` cuts ids and long texts.
pub(super) fn row(c: &Summary, trunc: bool) -> Struct {
    let labels: Vec<String> = c.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mounts: Vec<String> = c
        .mounts
        .iter()
        .map(|mount| if mount.name.is_empty() { &mount.source } else { &mount.name })
        .map(|name| if trunc { ellipsis(name, 15) } else { name.clone() })
        .collect();
    let networks: Vec<&str> = c.network_settings.networks.keys().map(String::as_str).collect();
    let local = c.mounts.iter().filter(|mount| mount.driver == "local").count();
    let command = if trunc { ellipsis(&c.command, 20) } else { c.command.clone() };
    let all_labels = c.labels.clone();
    Struct::row(
        "*formatter.ContainerContext",
        vec![
            ("Command", Value::Str(quote(&command))),
            ("CreatedAt", Value::Str(local_time(c.created))),
            ("ID", Value::Str(if trunc { short_id(&c.id) } else { c.id.clone() })),
            ("Image", Value::Str(image(c, trunc))),
            ("Labels", Value::Str(labels.join(","))),
            ("LocalVolumes", Value::Str(local.to_string())),
            ("Mounts", Value::Str(mounts.join(","))),
            ("Names", Value::Str(names(&c.names, trunc))),
            ("Networks", Value::Str(networks.join(","))),
            ("Platform", Value::NIL),
            ("Ports", Value::Str(ports(&c.ports))),
            ("RunningFor", Value::Str(since(c.created) + " ago")),
            ("Size", Value::Str(size(c))),
            ("State", Value::str(c.state.as_ref())),
            ("Status", Value::str(&c.status)),
        ],
    )
    .with_method("Label", Rc::new(move |name| all_labels.get(name).cloned().unwrap_or_default()))
}

/// Names without their slash; truncated, only the first that is no link's.
fn names(names: &[String], trunc: bool) -> String {
    let plain: Vec<&str> = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name)).collect();
    match plain.iter().find(|name| trunc && !name.contains('/')) {
        Some(name) => (*name).to_owned(),
        None => plain.join(","),
    }
}

fn image(c: &Summary, trunc: bool) -> String {
    if c.image.is_empty() {
        return "<no image>".to_owned();
    }
    if !trunc {
        return c.image.clone();
    }
    let short = short_id(&c.image_id);
    if short == short_id(&c.image) {
        return short;
    }
    match ImageReference::parse(&c.image) {
        // the tag stays, a digest does not
        Ok(reference) => match reference.tag() {
            Some(tag) => format!("{}:{tag}", reference.familiar_name()),
            None => reference.familiar_name(),
        },
        Err(_) => c.image.clone(),
    }
}

fn size(c: &Summary) -> String {
    let written = human_size(c.size_rw.unwrap_or(0) as f64, 3);
    match c.size_root_fs {
        Some(all @ 1..) => format!("{written} (virtual {})", human_size(all as f64, 3)),
        _ => written,
    }
}

/// `0.0.0.0:80->80/tcp, 9988-9990/tcp`: runs of ports are folded where nothing is renumbered.
fn ports(ports: &[Port]) -> String {
    let mut sorted: Vec<&Port> = ports.iter().collect();
    sorted.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.r#type).cmp(&(
            b.private_port,
            &b.ip,
            b.public_port,
            &b.r#type,
        ))
    });
    let mut order: Vec<String> = Vec::new();
    let mut groups: BTreeMap<String, (u16, u16)> = BTreeMap::new();
    let (mut out, mut renumbered) = (Vec::new(), Vec::new());
    for port in sorted {
        let current = port.private_port;
        let mut key = port.r#type.clone();
        if !port.ip.is_empty() {
            if port.public_port != current {
                let host = join_host(&port.ip, &port.public_port.to_string());
                renumbered.push(format!("{host}->{current}/{}", port.r#type));
                continue;
            }
            key = format!("{}/{}", port.ip, port.r#type);
        }
        match groups.get_mut(&key) {
            None => {
                order.push(key.clone());
                groups.insert(key, (current, current));
            }
            Some((_, last)) if current == last.saturating_add(1) => *last = current,
            Some(range) => {
                out.push(group(&key, *range));
                *range = (current, current);
            }
        }
    }
    out.extend(order.iter().filter_map(|key| groups.get(key).map(|range| group(key, *range))));
    out.extend(renumbered);
    out.join(", ")
}

fn join_host(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn group(key: &str, (first, last): (u16, u16)) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match key.split_once('/') {
        Some((ip, protocol)) => format!("{}->{range}/{protocol}", join_host(ip, &range)),
        None => format!("{range}/{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private_port: u16, public_port: u16, protocol: &str) -> Port {
        Port { ip: ip.to_owned(), private_port, public_port, r#type: protocol.to_owned() }
    }

    #[test]
    fn runs_of_ports_are_folded() {
        assert_eq!(
            ports(&[port("", 9989, 0, "tcp"), port("", 9988, 0, "tcp"), port("", 7, 0, "udp")]),
            "7/udp, 9988-9989/tcp"
        );
        assert_eq!(
            ports(&[
                port("0.0.0.0", 80, 80, "tcp"),
                port("0.0.0.0", 81, 81, "tcp"),
                port("::", 80, 8080, "tcp"),
                port("", 90, 0, "tcp")
            ]),
            "0.0.0.0:80-81->80-81/tcp, 90/tcp, [::]:8080->80/tcp"
        );
    }

    #[test]
    fn names_lose_their_slash_and_links_when_truncated() {
        let all = ["/other/alias".to_owned(), "/web".to_owned()];
        assert_eq!(names(&all, true), "web");
        assert_eq!(names(&all, false), "other/alias,web");
    }

    #[test]
    fn images_lose_their_digest_when_truncated() {
        let summary = |image: &str| Summary {
            image: image.to_owned(),
            image_id: "sha256:0123456789abcdef".to_owned(),
            ..Summary::default()
        };
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(image(&summary(&format!("busybox:1@{digest}")), true), "busybox:1");
        assert_eq!(image(&summary(&format!("reg:5000/busybox@{digest}")), true), "reg:5000/busybox");
        assert_eq!(image(&summary("sha256:0123456789abcdef"), true), "0123456789ab");
        assert_eq!(image(&summary(""), true), "<no image>");
    }
}
