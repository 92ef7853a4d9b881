//! Binds, volumes and tmpfs of a create request, resolved into the mounts a container has.

use std::collections::BTreeMap;

use wharf_docker::container::{Config, HostConfig, MountPoint};

use crate::config::EngineConfig;
use crate::error::EngineError;
use crate::volume::{Volumes, check_name};

/// A mount to be made, before volumes exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub point: MountPoint,
    /// The volume to make or find: its name, empty for one to be named.
    pub volume: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// A host directory that is made if it is missing.
    pub make_source: bool,
}

fn refuse<T>(text: impl Into<String>) -> Result<T, EngineError> {
    Err(EngineError::Invalid(text.into()))
}

/// Reads `Binds`, `Mounts`, `Tmpfs` and the image's and request's `Volumes`; later kinds give way to earlier ones on
/// the same destination, as Docker's do.
pub fn plan(engine: &EngineConfig, config: &Config, host: &HostConfig) -> Result<Vec<Wanted>, EngineError> {
    let mut all: Vec<Wanted> = Vec::new();
    for bind in host.binds.iter().flatten() {
        add(&mut all, parse_bind(bind)?)?;
    }
    for mount in host.mounts.iter().flatten() {
        add(&mut all, from_mount(mount)?)?;
    }
    for destination in host.tmpfs.iter().flatten().map(|(destination, _)| destination) {
        let point = MountPoint {
            r#type: "tmpfs".to_owned(),
            destination: clean(destination)?,
            rw: true,
            ..MountPoint::default()
        };
        add(&mut all, Wanted { point, volume: None, labels: BTreeMap::new(), make_source: false })?;
    }
    for destination in config.volumes.iter().flatten().map(|(destination, _)| destination) {
        let destination = clean(destination)?;
        if all.iter().any(|wanted| wanted.point.destination == destination) {
            continue;
        }
        add(&mut all, volume_at(String::new(), destination, "", true))?;
    }
    for wanted in &mut all {
        if let Some(name) = wanted.volume.as_deref().filter(|name| !name.is_empty()) {
            wanted.point.source = crate::config::text(&Volumes::path(engine, name));
        }
    }
    Ok(all)
}

fn add(all: &mut Vec<Wanted>, wanted: Wanted) -> Result<(), EngineError> {
    let destination = &wanted.point.destination;
    if all.iter().any(|other| other.point.destination == *destination) {
        return refuse(format!("Duplicate mount point: {destination}"));
    }
    all.push(wanted);
    Ok(())
}

/// Makes a container path absolute and plain; `/` itself cannot be mounted on.
fn clean(path: &str) -> Result<String, EngineError> {
    if !path.starts_with('/') {
        return refuse(format!("invalid mount path: '{path}' mount path must be absolute"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return refuse("invalid specification: destination can't be '/'");
    }
    Ok(format!("/{}", parts.join("/")))
}

fn volume_at(name: String, destination: String, mode: &str, rw: bool) -> Wanted {
    let point = MountPoint {
        r#type: "volume".to_owned(),
        name: name.clone(),
        destination,
        driver: "local".to_owned(),
        mode: mode.to_owned(),
        rw,
        ..MountPoint::default()
    };
    Wanted { point, volume: Some(name), labels: BTreeMap::new(), make_source: false }
}

/// `source:destination[:mode]` or a destination alone.
fn parse_bind(bind: &str) -> Result<Wanted, EngineError> {
    let bad = |why: &str| EngineError::Invalid(format!("invalid volume specification: '{bind}'{why}"));
    let parts: Vec<&str> = bind.split(':').collect();
    let (source, destination, mode) = match parts.as_slice() {
        [destination] => ("", *destination, ""),
        [source, destination] => (*source, *destination, ""),
        [source, destination, mode] => (*source, *destination, *mode),
        _ => return Err(bad("")),
    };
    if destination.is_empty() || (parts.len() > 1 && source.is_empty()) {
        return Err(bad(""));
    }
    let destination = clean(destination).map_err(|e| bad(&format!(": {e}")))?;
    let mode = parse_mode(mode).ok_or_else(|| bad(&format!(": invalid mode: {mode}")))?;
    if !source.starts_with('/') {
        if !source.is_empty() {
            check_name(source)?;
        }
        let text = if source.is_empty() || !mode.text.is_empty() { mode.text.as_str() } else { "z" };
        return Ok(volume_at(source.to_owned(), destination, text, mode.rw));
    }
    let point = MountPoint {
        r#type: "bind".to_owned(),
        source: clean(source).unwrap_or_else(|_| "/".to_owned()),
        destination,
        mode: mode.text,
        rw: mode.rw,
        propagation: mode.propagation.unwrap_or_else(|| "rprivate".to_owned()),
        ..MountPoint::default()
    };
    Ok(Wanted { point, volume: None, labels: BTreeMap::new(), make_source: true })
}

struct Mode {
    text: String,
    rw: bool,
    propagation: Option<String>,
}

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];

fn parse_mode(text: &str) -> Option<Mode> {
    let mut mode = Mode { text: text.to_owned(), rw: true, propagation: None };
    if text.is_empty() {
        return Some(mode);
    }
    let (mut access, mut label, mut copy, mut consistency) = (0, 0, 0, 0);
    for word in text.split(',') {
        match word {
            "ro" | "rw" => {
                mode.rw = word == "rw";
                access += 1;
            }
            "z" | "Z" => label += 1,
            "nocopy" => copy += 1,
            "consistent" | "cached" | "delegated" | "default" => consistency += 1,
            word if PROPAGATIONS.contains(&word) && mode.propagation.is_none() => {
                mode.propagation = Some(word.to_owned());
            }
            _ => return None,
        }
    }
    (access <= 1 && label <= 1 && copy <= 1 && consistency <= 1).then_some(mode)
}

fn from_mount(mount: &wharf_docker::container::Mount) -> Result<Wanted, EngineError> {
    let bad =
        |why: &str| EngineError::Invalid(format!("invalid mount config for type {:?}: {why}", mount.r#type));
    if mount.target.is_empty() {
        return Err(bad("field Target must not be empty"));
    }
    let destination = clean(&mount.target).map_err(|e| bad(&e.to_string()))?;
    let mut wanted = match mount.r#type.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(bad("field Source must not be empty"));
            }
            if !mount.source.starts_with('/') {
                let text = format!("invalid mount path: '{}' mount path must be absolute", mount.source);
                return Err(bad(&text));
            }
            let options = mount.bind_options.clone().unwrap_or_default();
            if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
                return Err(bad(&format!("invalid propagation mode: {}", options.propagation)));
            }
            if !options.create_mountpoint && !std::path::Path::new(&mount.source).exists() {
                return Err(bad(&format!("bind source path does not exist: {}", mount.source)));
            }
            let propagation =
                if options.propagation.is_empty() { "rprivate".to_owned() } else { options.propagation };
            let point = MountPoint {
                r#type: "bind".to_owned(),
                source: mount.source.clone(),
                destination,
                propagation,
                ..MountPoint::default()
            };
            Wanted { point, volume: None, labels: BTreeMap::new(), make_source: options.create_mountpoint }
        }
        "volume" => {
            let options = mount.volume_options.clone().unwrap_or_default();
            let driver = options.driver_config.map(|d| d.name).unwrap_or_default();
            if !matches!(driver.as_str(), "" | "local") {
                return Err(bad(&format!("volume driver {driver} is not available")));
            }
            if !options.subpath.is_empty() {
                return Err(EngineError::Unsupported("a volume's subpath is not supported yet".to_owned()));
            }
            if !mount.source.is_empty() {
                check_name(&mount.source)?;
            }
            let mode = if mount.source.is_empty() { "" } else { "z" };
            let mut wanted = volume_at(mount.source.clone(), destination, mode, true);
            wanted.labels = options.labels;
            wanted
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(bad("field Source must not be specified"));
            }
            let point = MountPoint { r#type: "tmpfs".to_owned(), destination, ..MountPoint::default() };
            Wanted { point, volume: None, labels: BTreeMap::new(), make_source: false }
        }
        "image" | "npipe" | "cluster" => {
            return Err(EngineError::Unsupported(format!(
                "mounts of type {:?} are not supported",
                mount.r#type
            )));
        }
        _ => return Err(bad("mount type unknown")),
    };
    wanted.point.rw = !mount.read_only;
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bind: &str) -> Result<MountPoint, String> {
        let host = HostConfig { binds: Some(vec![bind.to_owned()]), ..HostConfig::default() };
        let planned = plan(&EngineConfig::new("/d", "/x"), &Config::default(), &host);
        planned.map(|all| all[0].point.clone()).map_err(|e| e.to_string())
    }

    #[test]
    fn binds_parse_as_dockers() {
        let bind = one("/host/dir:/a/../b:ro,rshared,z").unwrap();
        assert_eq!((bind.source.as_str(), bind.destination.as_str()), ("/host/dir", "/b"));
        assert_eq!(
            (bind.rw, bind.propagation.as_str(), bind.mode.as_str()),
            (false, "rshared", "ro,rshared,z")
        );
        let volume = one("data:/var/lib").unwrap();
        assert_eq!(
            (volume.r#type.as_str(), volume.name.as_str(), volume.mode.as_str()),
            ("volume", "data", "z")
        );
        assert_eq!(volume.source, "/d/volumes/data/_data");
        assert_eq!(one("/anonymous").unwrap().r#type, "volume");
    }

    #[test]
    fn bad_binds_are_named() {
        for bind in ["", ":/x", "/a:/", "/a:b", "/a:/b:nope", "/a:/b:ro,rw", "a/b:/c", "/a:/b:c:d"] {
            assert!(one(bind).is_err(), "{bind}");
        }
    }

    #[test]
    fn a_destination_is_mounted_once() {
        let host = HostConfig {
            binds: Some(vec!["/a:/x".to_owned(), "/b:/x/".to_owned()]),
            ..HostConfig::default()
        };
        let error = plan(&EngineConfig::new("/d", "/x"), &Config::default(), &host).unwrap_err();
        assert_eq!(error.to_string(), "Duplicate mount point: /x");
    }

    #[test]
    fn an_images_volume_gives_way_to_a_bind() {
        let volumes = Some(BTreeMap::from([("/x/".to_owned(), wharf_docker::container::Empty {})]));
        let config = Config { volumes, ..Config::default() };
        let host = HostConfig { binds: Some(vec!["/a:/x".to_owned()]), ..HostConfig::default() };
        let all = plan(&EngineConfig::new("/d", "/x"), &config, &host).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].point.r#type, "bind");
    }
}
