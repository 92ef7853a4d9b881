//! `--device`.

use wharf_docker::container::DeviceMapping;

/// A device of the host, or one that a CDI specification names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    Host(DeviceMapping),
    Cdi(String),
}

/// `/dev/x[:/dev/y][:rwm]`, or `vendor.com/class=name`.
pub(crate) fn parse(text: &str) -> Result<Device, String> {
    if is_cdi(text) {
        return Ok(Device::Cdi(text.to_owned()));
    }
    let is_mode = |part: &str| !part.is_empty() && part.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, inside] => (*host, *inside, "rwm"),
        [host, inside, mode] if is_mode(mode) => (*host, *inside, *mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(format!("bad format for path: {text}")),
    };
    if host.is_empty() || inside.is_empty() {
        return Err(format!("invalid device specification: {text}"));
    }
    if !inside.starts_with('/') {
        return Err(format!("{inside} is not an absolute path"));
    }
    Ok(Device::Host(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: inside.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    }))
}

fn is_cdi(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
    };
    word(vendor) && word(class) && word(name)
}

/// `--device-cgroup-rule`: `c 42:* rmw`.
pub(crate) fn cgroup_rule(text: &str) -> Result<String, String> {
    let bad = || format!("invalid device cgroup format '{text}'");
    let [kind, numbers, access] = text.split(' ').collect::<Vec<_>>()[..] else { return Err(bad()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |part: &str| part == "*" || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let fits = matches!(kind, "a" | "b" | "c")
        && number(major)
        && number(minor)
        && (1..=3).contains(&access.len())
        && access.chars().all(|c| "rwm".contains(c));
    if fits { Ok(text.to_owned()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_in_every_form() {
        let host = |text: &str| match parse(text) {
            Ok(Device::Host(d)) => (d.path_on_host, d.path_in_container, d.cgroup_permissions),
            other => panic!("{text}: {other:?}"),
        };
        let three = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(host("/dev/a"), three("/dev/a", "/dev/a", "rwm"));
        assert_eq!(host("/dev/a:r"), three("/dev/a", "/dev/a", "r"));
        assert_eq!(host("/dev/a:/dev/b"), three("/dev/a", "/dev/b", "rwm"));
        assert_eq!(host("/dev/a:/dev/b:rw"), three("/dev/a", "/dev/b", "rw"));
        assert_eq!(parse("vendor.com/gpu=all"), Ok(Device::Cdi("vendor.com/gpu=all".to_owned())));
        assert!(parse("/dev/a:/dev/b:x").is_err() && parse("a:b:r:x").is_err() && parse(":/x").is_err());
        assert!(
            cgroup_rule("c 42:* rmw").is_ok()
                && cgroup_rule("c 42 r").is_err()
                && cgroup_rule("x 1:1 r").is_err()
        );
    }
}
