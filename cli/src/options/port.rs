//! `-p [IP:][HOST:]CONTAINER[/PROTOCOL]` and `--expose`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wharf_docker::container::{Empty, PortBinding, PortMap};

/// A range of ports, both ends in it.
type Range = (u16, u16);

fn range(text: &str) -> Option<Range> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

fn split_protocol(spec: &str) -> Result<(&str, String), String> {
    let (ports, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    match protocol.to_lowercase().as_str() {
        known @ ("tcp" | "udp" | "sctp") => Ok((ports, known.to_owned())),
        "" => Ok((ports, "tcp".to_owned())),
        _ => Err(format!("invalid proto: {protocol}")),
    }
}

/// Publishes one `-p`, adding the bindings and the ports they expose.
pub(crate) fn publish(
    spec: &str,
    bindings: &mut PortMap,
    exposed: &mut BTreeMap<String, Empty>,
) -> Result<(), String> {
    let spec = if spec.contains('=') { long_form(spec)? } else { spec.to_owned() };
    let (rest, container) =
        spec.rsplit_once(':').map_or(("", spec.as_str()), |(rest, container)| (rest, container));
    let (container, protocol) = split_protocol(container)?;
    if container.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let (ip, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    let inside = range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    let outside = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?),
    };
    let count = |(first, last): Range| last - first;
    if let Some(outside) = outside
        && count(outside) != count(inside)
        // many host ports for one port inside: the daemon picks a free one
        && count(inside) != 0
    {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    for port in inside.0..=inside.1 {
        let host_port = match outside {
            None => String::new(),
            Some(range) if count(inside) == 0 && count(range) > 0 => host.to_owned(),
            Some((first, _)) => (first + (port - inside.0)).to_string(),
        };
        let key = format!("{port}/{protocol}");
        exposed.insert(key.clone(), Empty::default());
        bindings
            .entry(key)
            .or_insert_with(|| Some(Vec::new()))
            .get_or_insert_default()
            .push(PortBinding { host_ip: ip.to_owned(), host_port });
    }
    Ok(())
}

/// `published=8080,target=80,protocol=tcp` in the short form.
fn long_form(spec: &str) -> Result<String, String> {
    let (mut target, mut published, mut protocol) = (String::new(), String::new(), "tcp".to_owned());
    for field in super::csv(spec)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("invalid field {field}"));
        };
        match key.to_lowercase().as_str() {
            "target" => target = value.to_owned(),
            "published" => published = value.to_owned(),
            "protocol" => protocol = value.to_owned(),
            "mode" if matches!(value, "ingress" | "host") => {}
            "mode" => {
                return Err(format!(
                    "invalid publish mode value ({value}): must be one of \"ingress\" or \"host\""
                ));
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if target.is_empty() {
        return Err("missing mandatory field 'target'".to_owned());
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// One `--expose`.
pub(crate) fn expose(spec: &str, exposed: &mut BTreeMap<String, Empty>) -> Result<(), String> {
    if spec.contains(':') {
        return Err(format!("invalid port format for --expose: {spec}"));
    }
    let (ports, protocol) = split_protocol(spec)?;
    let (first, last) = range(ports).ok_or_else(|| {
        format!("invalid range format for --expose: {spec}, error: strconv.ParseUint: parsing {ports:?}: invalid syntax")
    })?;
    for port in first..=last {
        exposed.insert(format!("{port}/{protocol}"), Empty::default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(specs: &[&str]) -> Result<Vec<String>, String> {
        let (mut bindings, mut exposed) = (PortMap::new(), BTreeMap::new());
        for spec in specs {
            publish(spec, &mut bindings, &mut exposed)?;
        }
        assert!(bindings.keys().all(|key| exposed.contains_key(key)));
        let all = bindings.into_iter().flat_map(|(key, hosts)| {
            hosts.unwrap_or_default().into_iter().map(move |b| format!("{}|{}>{key}", b.host_ip, b.host_port))
        });
        Ok(all.collect())
    }

    #[test]
    fn ports_in_every_form() {
        for (spec, want) in [
            ("80", vec!["|>80/tcp"]),
            ("8080:80", vec!["|8080>80/tcp"]),
            ("8080:80/UDP", vec!["|8080>80/udp"]),
            ("127.0.0.1::80", vec!["127.0.0.1|>80/tcp"]),
            ("127.0.0.1:1:80", vec!["127.0.0.1|1>80/tcp"]),
            ("[::1]:1:80", vec!["::1|1>80/tcp"]),
            ("7000-7001:80-81", vec!["|7000>80/tcp", "|7001>81/tcp"]),
            ("7000-7009:80", vec!["|7000-7009>80/tcp"]),
            ("published=1,target=2,protocol=udp", vec!["|1>2/udp"]),
        ] {
            assert_eq!(published(&[spec]), Ok(want.into_iter().map(str::to_owned).collect()), "{spec}");
        }
        assert_eq!(published(&["1:80", "2:80"]).map(|all| all.len()), Ok(2));
    }

    #[test]
    fn malformed_ports_are_refused() {
        for (spec, want) in [
            ("x:80", "invalid hostPort: x"),
            ("80:x", "invalid containerPort: x"),
            ("x:1:80", "invalid IP address: x"),
            ("80/x", "invalid proto: x"),
            ("1-3:1-2", "invalid ranges specified for container and host Ports: 1-2 and 1-3"),
            ("70000:80", "invalid hostPort: 70000"),
            ("80:", "no port specified: 80:<empty>"),
        ] {
            assert_eq!(published(&[spec]), Err(want.to_owned()), "{spec}");
        }
        let mut exposed = BTreeMap::new();
        assert!(expose("90-91/udp", &mut exposed).is_ok() && exposed.len() == 2);
        assert!(expose("1:2", &mut exposed).is_err() && expose("x", &mut exposed).is_err());
    }
}
