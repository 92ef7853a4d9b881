//! What a container has mounted from outside: CRIU saves such a mount as a name only, and takes what is to be mounted
//! for the name from whoever restores. Both come from config.json, so that images of a checkpoint bring no host path in.

use crate::criu::Message;
use crate::rootfs::RootfsError;
use crate::rootfs::resolve::Root;
use crate::spec::Spec;
use crate::state::Record;
use oci_spec::runtime::LinuxNamespaceType;
use std::collections::BTreeMap;
use std::path::Path;

/// The name under which files that are masked are saved.
pub const MASK: &str = "/dev/null";

/// A mount from outside.
#[derive(Debug, PartialEq, Eq)]
pub struct External {
    /// Where it is in the container, which is its name too.
    pub target: String,
    /// Where it is on the host.
    pub source: String,
}

/// Adds an entry to criu_opts: the mount point and the name when saving, the name and the source when restoring.
pub fn add(message: &mut Message, key: &str, value: &str) {
    message.message(23, Message::default().text(1, key).text(2, value));
}

/// Bind mounts, and cgroups where they are no mounts of the container's own.
pub fn mounts(root: &Root, spec: &Spec, record: &Record) -> Result<Vec<External>, RootfsError> {
    let mut out = Vec::new();
    let linux = spec.linux.iter().flat_map(|l| l.namespaces().iter().flatten());
    let own_cgroups = linux.into_iter().any(|ns| ns.typ() == LinuxNamespaceType::Cgroup);
    for mount in spec.mounts.iter().flatten() {
        let kind = mount.typ().as_deref().unwrap_or_default();
        let is_bind = kind == "bind" || mount.options().iter().flatten().any(|o| o == "bind" || o == "rbind");
        if is_bind {
            let source = mount.source().clone().unwrap_or_default();
            out.push(External {
                target: text(&root.real(mount.destination())?),
                source: text(&record.bundle.join(source)),
            });
        } else if matches!(kind, "cgroup" | "cgroup2") && !own_cgroups {
            let target = text(&root.real(mount.destination())?);
            cgroups(&target, record, &mut out);
        }
    }
    Ok(out)
}

/// The container's directory on a host with version 2 alone, else one for each of version 1's hierarchies.
fn cgroups(target: &str, record: &Record, out: &mut Vec<External>) {
    let paths = &record.cgroup.0;
    if let (Some(dir), 1) = (paths.get(""), paths.len()) {
        out.push(External { target: target.to_owned(), source: text(dir) });
        return;
    }
    let mut dirs: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for (controller, dir) in paths.iter().filter(|(c, _)| !c.is_empty()) {
        dirs.entry(dir).or_default().push(controller.strip_prefix("name=").unwrap_or(controller));
    }
    for (dir, names) in dirs {
        out.push(External { target: format!("{target}/{}", names.join(",")), source: text(dir) });
    }
}

/// The device nodes of config.json, which are mounts where they could not be made.
pub fn devices(spec: &Spec) -> Vec<String> {
    let linux = spec.linux.iter();
    linux.flat_map(|l| l.devices().iter().flatten()).map(|d| text(d.path())).collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
