//! What CRIU is asked for: fields of criu_opts.

use super::{LOG, Options};
use crate::container::ContainerError;
use crate::container::checkpoint::{DESCRIPTORS, external};
use crate::criu::{FIRST_EXTRA_FD, Message};
use crate::plan::ContainerPlan;
use crate::rootfs::resolve::Root;
use crate::spec::Spec;
use crate::state::Record;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use wharf_sys::namespace::Namespaces;

/// More than three names of pipes take.
const MAX_DESCRIPTORS: u64 = 4096;

/// What the flags say.
pub fn options(options: &Options) -> Message {
    let mut m = options.choices.request(LOG);
    // the first process becomes this process's child
    m.flag(6, true).flag(26, true);
    if let Some(profile) = &options.lsm_profile {
        m.text(53, profile);
    }
    if let Some(context) = &options.lsm_mount_context {
        m.text(63, context);
    }
    m
}

/// Has CRIU use a descriptor of its own for what the images name.
pub fn inherit(message: &mut Message, name: &str, fd: i32) {
    message.message(27, Message::default().text(1, name).number(2, fd as u64));
}

/// A standard stream that was a pipe, for which the caller's takes over.
#[derive(Debug, PartialEq, Eq)]
pub struct Pipe {
    pub name: String,
    pub number: i32,
}

/// Reads what the checkpoint says of its standard streams. It comes with the images: only names of pipes count.
pub fn pipes(images: &Path) -> Result<Vec<Pipe>, ContainerError> {
    let path = images.join(DESCRIPTORS);
    let mut text = Vec::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(MAX_DESCRIPTORS).read_to_end(&mut text))
        .map_err(ContainerError::act(format!("open {}", path.display())))?;
    let names: Vec<String> = serde_json::from_slice(&text)
        .map_err(|e| ContainerError::Refused(format!("{}: {e}", path.display())))?;
    if names.len() > 3 {
        return Err(ContainerError::Refused(format!("{}: more than three descriptors", path.display())));
    }
    let pipes = names.into_iter().zip(0..).filter(|(name, _)| is_pipe(name));
    Ok(pipes.map(|(name, number)| Pipe { name, number }).collect())
}

/// `pipe:[12345]`
fn is_pipe(name: &str) -> bool {
    name.strip_prefix("pipe:[")
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|n| !n.is_empty() && n.len() <= 20 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// What is mounted from outside: by config.json, never by the images.
pub fn externals(
    rootfs: &Root,
    spec: &Spec,
    record: &Record,
    message: &mut Message,
) -> Result<(), ContainerError> {
    for mount in external::mounts(rootfs, spec, record)? {
        external::add(message, &mount.target, &mount.source);
    }
    if spec.linux.iter().any(|l| l.masked_paths().iter().flatten().next().is_some()) {
        external::add(message, external::MASK, external::MASK);
    }
    for device in external::devices(spec) {
        external::add(message, &device, &device);
    }
    Ok(())
}

/// Network and pid namespaces that others have made, which were saved by these names.
pub fn inherited(plan: &ContainerPlan) -> impl Iterator<Item = (&'static str, &Path)> {
    let ns = &plan.namespaces;
    ns.init_joins.iter().chain(&ns.parent_joins).filter_map(|join| match join.kind {
        Namespaces::NET => Some(("net", join.path.as_path())),
        Namespaces::PID => Some(("pid", join.path.as_path())),
        _ => None,
    })
}

/// Namespaces by path: those two by descriptor, which are returned; the others CRIU enters itself.
pub fn namespaces(plan: &ContainerPlan, message: &mut Message) -> Result<Vec<OwnedFd>, ContainerError> {
    let mut extra = Vec::new();
    for ((name, path), number) in inherited(plan).zip(FIRST_EXTRA_FD..) {
        let file = std::fs::File::open(path).map_err(|e| {
            ContainerError::Refused(format!(
                "Requested {name} namespace {} does not exist: {e}",
                path.display()
            ))
        })?;
        let key = if name == "net" { "extRootNetNS" } else { "extRootPidNS" };
        inherit(message, key, number);
        extra.push(file.into());
    }
    let ns = &plan.namespaces;
    for join in ns.init_joins.iter().chain(&ns.parent_joins).chain(&ns.user_join) {
        let name = match join.kind {
            Namespaces::MOUNT => "mnt",
            Namespaces::UTS => "uts",
            Namespaces::IPC => "ipc",
            Namespaces::USER => "user",
            Namespaces::TIME => "time",
            _ => continue,
        };
        message.message(39, Message::default().text(1, name).text(2, &join.path.to_string_lossy()));
    }
    Ok(extra)
}

/// The worker's cgroups, below which CRIU puts those of the images.
pub fn cgroup_roots(worker: i32, message: &mut Message) -> Result<(), ContainerError> {
    let path = PathBuf::from(format!("/proc/{worker}/cgroup"));
    let text =
        std::fs::read_to_string(&path).map_err(ContainerError::act(format!("reading {}", path.display())))?;
    for (controller, dir) in roots(&text) {
        message.message(25, Message::default().text(1, controller).text(2, dir));
    }
    Ok(())
}

/// `4:cpu,cpuacct:/a` gives two.
fn roots(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.splitn(3, ':').skip(1).collect::<Vec<_>>().try_into().ok()).flat_map(
        |[controllers, dir]: [&str; 2]| controllers.split(',').map(move |controller| (controller, dir)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pipes_of_the_three_streams_are_taken_from_the_images() {
        let dir = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(dir.path().join(DESCRIPTORS), text).unwrap();
        write(r#"["pipe:[12]", "extRootNetNS", "pipe:[345]"]"#);
        let pipe = |name: &str, number| Pipe { name: name.to_owned(), number };
        assert_eq!(pipes(dir.path()).unwrap(), [pipe("pipe:[12]", 0), pipe("pipe:[345]", 2)]);
        write(r#"["/dev/null", "file[a]pipe:[1]", "pipe:[]"]"#);
        assert_eq!(pipes(dir.path()).unwrap(), []);
        for bad in [r#"["a","b","c","pipe:[4]"]"#, "{}", "[1]", &"x".repeat(9000)] {
            write(bad);
            assert!(pipes(dir.path()).is_err(), "{bad:.20}");
        }
    }

    #[test]
    fn every_controller_has_a_root() {
        let text = "12:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c:d\n";
        let expected = [("cpu", "/a"), ("cpuacct", "/a"), ("name=systemd", "/b"), ("", "/c:d")];
        assert_eq!(roots(text).collect::<Vec<_>>(), expected);
    }
}
