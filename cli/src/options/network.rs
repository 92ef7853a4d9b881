//! `--network NAME`, or `--network name=NAME,alias=…,ip=…`, and the flags beside it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wharf_docker::container::{EndpointIpamConfig, EndpointSettings};

/// One network asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attachment {
    pub(crate) target: String,
    pub(crate) settings: EndpointSettings,
}

pub(crate) fn parse(text: &str) -> Result<Attachment, String> {
    if !text.contains('=') {
        return Ok(Attachment { target: text.to_owned(), ..Attachment::default() });
    }
    let mut attachment = Attachment::default();
    for field in super::csv(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim();
        let settings = &mut attachment.settings;
        let ipam = settings.ipam_config.get_or_insert_default();
        match key.trim().to_lowercase().as_str() {
            "name" => attachment.target = value.to_owned(),
            "alias" => settings.aliases.get_or_insert_default().push(value.to_owned()),
            "ip" => ipam.ipv4_address = address(value)?,
            "ip6" => ipam.ipv6_address = address(value)?,
            "mac-address" => settings.mac_address = value.to_owned(),
            "link-local-ip" => ipam.link_local_ips.push(address(value)?),
            "driver-opt" => {
                let (name, value) =
                    value.split_once('=').ok_or("invalid key value pair format in driver options")?;
                settings.driver_opts.get_or_insert_default().insert(name.to_owned(), value.to_owned());
            }
            "gw-priority" => {
                settings.gw_priority = value.parse().map_err(|_| format!("invalid gw-priority ({value})"))?;
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if attachment.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    if attachment.settings.ipam_config == Some(EndpointIpamConfig::default()) {
        attachment.settings.ipam_config = None;
    }
    Ok(attachment)
}

/// An address as a flag has it.
pub(crate) fn address(text: &str) -> Result<String, String> {
    text.parse::<IpAddr>()
        .map(|ip| ip.to_string())
        .map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// `--add-host name:ip` (or `name=ip`).
pub(crate) fn extra_host(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {text:?}");
    let (name, ip) = match text.split_once('=') {
        Some(pair) => pair,
        None => text.split_once(':').ok_or_else(bad)?,
    };
    if name.is_empty() || ip.is_empty() {
        return Err(bad());
    }
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if ip != "host-gateway" && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {ip:?}"));
    }
    Ok(format!("{name}:{ip}"))
}

/// What the flags beside `--network` say of the first network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside {
    pub(crate) aliases: Vec<String>,
    pub(crate) links: Vec<String>,
    pub(crate) ip: String,
    pub(crate) ip6: String,
    pub(crate) link_local_ips: Vec<String>,
    pub(crate) mac_address: String,
}

/// The network mode and the endpoints of a create request.
pub(crate) fn endpoints(
    attachments: Vec<Attachment>,
    beside: Beside,
) -> Result<(String, BTreeMap<String, Option<EndpointSettings>>), String> {
    let mut attachments = attachments;
    if attachments.is_empty() {
        attachments.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
    }
    let user_defined = |name: &str| {
        !matches!(name, "bridge" | "host" | "none" | "default") && !name.starts_with("container:")
    };
    if attachments.len() > 1 && attachments.iter().any(|a| !user_defined(&a.target)) {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                .to_owned(),
        );
    }
    apply(&mut attachments[0], beside)?;
    let mode = attachments[0].target.clone();
    let mut endpoints = BTreeMap::new();
    for attachment in attachments {
        if attachment.target.starts_with("container:") {
            continue;
        }
        if endpoints.contains_key(&attachment.target) {
            return Err(format!("network {:?} is specified multiple times", attachment.target));
        }
        endpoints.insert(attachment.target, Some(attachment.settings));
    }
    Ok((mode, endpoints))
}

fn apply(first: &mut Attachment, beside: Beside) -> Result<(), String> {
    let conflict =
        |what: &str| Err(format!("conflicting options: cannot specify both --{what} and per-network {what}"));
    let settings = &mut first.settings;
    if !beside.aliases.is_empty() {
        if settings.aliases.is_some() {
            return Err(
                "conflicting options: cannot specify both --network-alias and per-network alias".to_owned()
            );
        }
        settings.aliases = Some(beside.aliases);
    }
    if !beside.links.is_empty() && !matches!(first.target.as_str(), "bridge" | "default") {
        settings.links = Some(beside.links);
    }
    if !beside.mac_address.is_empty() {
        if !settings.mac_address.is_empty() {
            return conflict("mac-address");
        }
        settings.mac_address = beside.mac_address;
    }
    let given = EndpointIpamConfig {
        ipv4_address: beside.ip,
        ipv6_address: beside.ip6,
        link_local_ips: beside.link_local_ips,
    };
    if given != EndpointIpamConfig::default() {
        if settings.ipam_config.is_some() {
            return conflict("ip");
        }
        settings.ipam_config = Some(given);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_by_name_and_in_long_form() {
        assert_eq!(parse("host").map(|a| a.target), Ok("host".to_owned()));
        let long = parse("name=n,alias=a,alias=b,driver-opt=k=v,ip=1.2.3.4").expect("long form");
        assert_eq!(long.settings.aliases, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(long.settings.ipam_config.map(|i| i.ipv4_address).as_deref(), Some("1.2.3.4"));
        assert!(parse("alias=x").is_err() && parse("name=n,foo=1").is_err() && parse("name=n,ip=x").is_err());
    }

    #[test]
    fn the_first_network_takes_the_flags_beside_it() {
        let beside = || Beside { aliases: vec!["x".to_owned()], ..Beside::default() };
        let (mode, all) =
            endpoints(vec![parse("n").expect("n"), parse("m").expect("m")], beside()).expect("endpoints");
        assert_eq!((mode.as_str(), all.len()), ("n", 2));
        assert_eq!(all["n"].as_ref().and_then(|s| s.aliases.clone()), Some(vec!["x".to_owned()]));
        assert_eq!(
            endpoints(Vec::new(), Beside::default()).map(|(mode, all)| (mode, all.len())),
            Ok(("default".to_owned(), 1))
        );
        assert_eq!(
            endpoints(vec![parse("container:a").expect("c")], Beside::default()).map(|(_, all)| all.len()),
            Ok(0)
        );
        assert!(
            endpoints(vec![parse("n").expect("n"), parse("host").expect("h")], Beside::default()).is_err()
        );
        assert!(endpoints(vec![parse("name=n,alias=y").expect("n")], beside()).is_err());
    }

    #[test]
    fn extra_hosts_need_an_address() {
        assert_eq!(extra_host("a:1.2.3.4").as_deref(), Ok("a:1.2.3.4"));
        assert_eq!(extra_host("a=[::1]").as_deref(), Ok("a:::1"));
        assert_eq!(extra_host("a:host-gateway").as_deref(), Ok("a:host-gateway"));
        assert_eq!(extra_host("a"), Err("bad format for add-host: \"a\"".to_owned()));
        assert!(extra_host("a:b").is_err());
    }
}
