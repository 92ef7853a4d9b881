//! `--mount type=bind,source=…,target=…`.

use wharf_docker::container::{BindOptions, Driver, ImageOptions, Mount, TmpfsOptions, VolumeOptions};

use super::volume::clean;
use crate::flags::go_bool;
use crate::output::units::parse_memory;

pub(crate) fn parse(text: &str) -> Result<Mount, String> {
    // a volume unless it says otherwise
    let mut mount = Mount { r#type: "volume".to_owned(), ..Mount::default() };
    for field in super::csv(text)? {
        apply(&mut mount, &field)?;
    }
    check(&mount)?;
    Ok(mount)
}

fn apply(mount: &mut Mount, field: &str) -> Result<(), String> {
    let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
    let key = key.to_lowercase();
    let switch = || match value {
        None => Ok(true),
        Some(text) => go_bool(text).map_err(|_| format!("invalid value for {key}: {text}")),
    };
    match key.as_str() {
        "readonly" | "ro" => {
            mount.read_only = switch()?;
            return Ok(());
        }
        "volume-nocopy" => {
            volume(mount).no_copy = switch()?;
            return Ok(());
        }
        "bind-nonrecursive" => {
            bind(mount).non_recursive = switch()?;
            return Ok(());
        }
        _ => {}
    }
    let value = value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
    match key.as_str() {
        "type" => mount.r#type = value.to_lowercase(),
        "source" | "src" => {
            let relative =
                value == "." || value.starts_with("./") || value == ".." || value.starts_with("../");
            mount.source = match std::path::absolute(value) {
                Ok(absolute) if relative => clean(&absolute),
                _ => value.to_owned(),
            };
        }
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "consistency" => mount.consistency = value.to_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_lowercase(),
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                return Err(format!(
                    "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "volume-subpath" => volume(mount).subpath = value.to_owned(),
        "volume-label" => {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            volume(mount).labels.insert(name.to_owned(), value.to_owned());
        }
        "volume-driver" => driver(mount).name = value.to_owned(),
        "volume-opt" => {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            driver(mount).options.insert(name.to_owned(), value.to_owned());
        }
        "image-subpath" => {
            mount.image_options.get_or_insert_with(ImageOptions::default).subpath = value.to_owned();
        }
        "tmpfs-size" => {
            tmpfs(mount).size_bytes =
                parse_memory(value).ok_or_else(|| format!("invalid value for {key}: {value}"))?;
        }
        "tmpfs-mode" => {
            tmpfs(mount).mode =
                u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_with(BindOptions::default)
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_with(VolumeOptions::default)
}

fn driver(mount: &mut Mount) -> &mut Driver {
    volume(mount).driver_config.get_or_insert_with(Driver::default)
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default)
}

fn check(mount: &Mount) -> Result<(), String> {
    if mount.r#type.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    for (given, kind) in [
        (mount.volume_options.is_some(), "volume"),
        (mount.bind_options.is_some(), "bind"),
        (mount.tmpfs_options.is_some(), "tmpfs"),
        (mount.image_options.is_some(), "image"),
    ] {
        if given && mount.r#type != kind {
            return Err(format!("cannot mix '{kind}-*' options with mount type '{}'", mount.r#type));
        }
    }
    if let Some(options) = &mount.bind_options {
        if options.read_only_non_recursive && !mount.read_only {
            return Err(
                "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction"
                    .to_owned(),
            );
        }
        if options.read_only_force_recursive && !mount.read_only {
            return Err(
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_every_type() {
        let bind = parse("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").expect("bind");
        assert_eq!((bind.source.as_str(), bind.target.as_str(), bind.read_only), ("/a", "/b", true));
        assert_eq!(bind.bind_options.map(|options| options.propagation).as_deref(), Some("rslave"));
        let volume = parse("source=v,target=/b,volume-nocopy,\"volume-opt=o=x,y\",volume-driver=local")
            .expect("volume");
        assert_eq!(volume.r#type, "volume");
        let options = volume.volume_options.expect("options");
        assert!(options.no_copy);
        assert_eq!(options.driver_config.expect("driver").options["o"], "x,y");
        let tmpfs = parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777")
            .expect("tmpfs")
            .tmpfs_options
            .expect("options");
        assert_eq!((tmpfs.size_bytes, tmpfs.mode), (1 << 20, 0o1777));
        let relative = parse("type=bind,src=.,dst=/b").expect("relative");
        assert_eq!(relative.source, std::env::current_dir().expect("cwd").to_string_lossy());
    }

    #[test]
    fn malformed_mounts_are_refused_in_docker_s_words() {
        for (text, want) in [
            ("type=bind,src=/a", "target is required"),
            ("type=,dst=/a", "type is required"),
            ("type=bind,foo=bar,dst=/a", "unexpected key 'foo' in 'foo=bar'"),
            ("type=bind,dst", "invalid field 'dst' must be a key=value pair"),
            ("type=bind,dst=/a,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
            ("dst=/a,ro=maybe", "invalid value for ro: maybe"),
        ] {
            assert_eq!(parse(text), Err(want.to_owned()), "{text}");
        }
    }
}
