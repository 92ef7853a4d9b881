//! Mounts whose owners are shifted: the root filesystem of a container with a user namespace, from layers that belong
//! to the machine's own users.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, move_mount, open_tree,
};
use wharf_sys::mount::{MountChange, Propagation, attr, mount_setattr};
use wharf_sys::namespace::{Namespaces, unshare};

use crate::{Bind, Planned};

/// Ranges that the kernel takes for one user namespace.
const MAX_RANGES: usize = 340;

/// Makes a user namespace with a mapping, which no process is in: that needs a process of its own.
pub type MakeUsers<'a> = &'a dyn Fn(&Mapping) -> io::Result<OwnedFd>;

/// Which ids of a layer are which on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// As `/proc/<pid>/uid_map` takes it.
    pub users: String,
    /// As `gid_map` takes it.
    pub groups: String,
}

impl Mapping {
    /// Reads the values of `uidmap=` and `gidmap=`: `<container id>:<host id>:<size>`, several after commas.
    pub(crate) fn parse(users: Option<&str>, groups: Option<&str>) -> Result<Option<Mapping>, String> {
        let read = |name: &str, text: &str| {
            ranges(text).ok_or_else(|| format!("{name}={text:.128} is no list of container:host:size"))
        };
        match (users, groups) {
            (None, None) => Ok(None),
            (Some(users), Some(groups)) => {
                Ok(Some(Mapping { users: read("uidmap", users)?, groups: read("gidmap", groups)? }))
            }
            _ => Err("uidmap and gidmap go together".to_owned()),
        }
    }
}

fn ranges(text: &str) -> Option<String> {
    let mut lines = String::new();
    for (n, range) in text.split(',').enumerate() {
        let numbers = range.split(':').map(|number| number.parse().ok()).collect::<Option<Vec<u32>>>()?;
        let [inside, outside, size] = numbers[..] else { return None };
        let fits = |start: u32| size > 0 && start.checked_add(size).is_some();
        if n >= MAX_RANGES || !fits(inside) || !fits(outside) {
            return None;
        }
        lines.push_str(&format!("{inside} {outside} {size}\n"));
    }
    Some(lines)
}

/// Mounts one with its owners shifted on `target`.
pub(crate) fn execute(
    planned: &Planned,
    mapping: &Mapping,
    target: &Path,
    make: MakeUsers<'_>,
) -> io::Result<()> {
    let users = make(mapping)?;
    let mounted = match planned.bind {
        Some(bind) => shifted(Path::new(&planned.source), bind == Bind::Recursive, &users)?,
        None if planned.kind == "overlay" => overlay(planned, target, &users)?,
        None => {
            let text = format!("owners of a {} cannot be shifted", planned.kind);
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    };
    Ok(move_mount(&mounted, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// A folder's tree, detached, with the mapping of a user namespace.
fn shifted(folder: &Path, recursive: bool, users: &OwnedFd) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    let tree = open_tree(CWD, folder, flags)?;
    let idmap = Some(users.as_fd());
    mount_setattr(&tree, c"", &MountChange { idmap, recursive, ..MountChange::default() })?;
    Ok(tree)
}

/// An overlay, detached, whose lower layers are shifted; what is written belongs to whom it says.
///
/// An overlay takes layers of the caller's mount namespace only: they are put where nobody else sees them, in a mount
/// namespace that ends with its thread.
fn overlay(planned: &Planned, target: &Path, users: &OwnedFd) -> io::Result<OwnedFd> {
    let layers = planned.data.iter().find_map(|option| option.strip_prefix("lowerdir="));
    let layers: Vec<&Path> = layers.unwrap_or_default().split(':').map(Path::new).collect();
    let above = common(&layers);
    let names: Vec<_> = layers.iter().map(|layer| below(layer, &above)).collect();
    let mut data = vec![format!("lowerdir={}", names.join(":"))];
    data.extend(planned.data.iter().filter(|option| !option.starts_with("lowerdir=")).cloned());
    let tree = shifted(&above, false, users)?;
    // where the machine shares its mounts this copy would be a peer of the layers' own: what is mounted on it below would
    // cover the layers themselves
    let propagation = Some(Propagation::Private);
    mount_setattr(&tree, c"", &MountChange { set: attr::RDONLY, propagation, ..MountChange::default() })?;
    let make = || {
        unshare(Namespaces::MOUNT)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        // the thread's own working directory, since it left the others' with its mounts: names of layers are short
        rustix::process::chdir(target)?;
        let data = CString::new(data.join(","))?;
        mount(planned.source.as_str(), target, "overlay", planned.flags, &*data)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(CWD, target, flags)?)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("idmap".into()).stack_size(256 * 1024);
        let made = thread.spawn_scoped(scope, make)?.join();
        made.unwrap_or_else(|_| Err(io::Error::other("the mounting thread broke off")))
    })
}

/// The deepest folder that all layers are below.
fn common(layers: &[&Path]) -> PathBuf {
    let mut above = layers.first().and_then(|layer| layer.parent()).unwrap_or(Path::new("/"));
    while let Some(parent) = above.parent() {
        if layers.iter().all(|layer| layer.starts_with(above)) {
            break;
        }
        above = parent;
    }
    above.to_owned()
}

fn below(layer: &Path, above: &Path) -> String {
    let name = layer.strip_prefix(above).unwrap_or(layer).to_string_lossy().into_owned();
    if name.is_empty() { ".".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_read_as_the_kernel_takes_them() {
        let mapping = Mapping::parse(Some("0:1000:1,1:100000:65535"), Some("0:5:1")).unwrap().unwrap();
        assert_eq!(mapping, Mapping { users: "0 1000 1\n1 100000 65535\n".into(), groups: "0 5 1\n".into() });
        assert_eq!(Mapping::parse(None, None), Ok(None));
        for wrong in ["", "0:0", "0:0:0", "0:-1:5", "0:4294967295:2", "a:b:c", "0:0:1,"] {
            assert!(Mapping::parse(Some(wrong), Some("0:5:1")).is_err(), "{wrong}");
        }
        assert!(Mapping::parse(Some("0:5:1"), None).unwrap_err().contains("go together"));
    }

    #[test]
    fn layers_are_named_below_the_folder_they_share() {
        let names = |layers: &[&str]| {
            let layers: Vec<&Path> = layers.iter().map(Path::new).collect();
            let above = common(&layers);
            let names: Vec<_> = layers.iter().map(|layer| below(layer, &above)).collect();
            (above.display().to_string(), names.join(":"))
        };
        assert_eq!(names(&["/s/1/fs"]), ("/s/1".into(), "fs".into()));
        assert_eq!(names(&["/s/2/fs", "/s/10/fs"]), ("/s".into(), "2/fs:10/fs".into()));
        assert_eq!(names(&["/a", "/b/c"]), ("/".into(), "a:b/c".into()));
    }
}
