//! The machine's cgroup filesystems.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode as FileMode, OFlags, fstatfs, open, openat, statat, statfs};
use rustix::io::Errno;

use crate::error::CgroupError;
use crate::file::read_fd;
use crate::lexical::clean;

/// Where every distribution mounts its cgroup filesystems.
pub const DEFAULT_ROOT: &str = "/sys/fs/cgroup";

// linux/magic.h
const CGROUP_MAGIC: u64 = 0x0027_e0eb;
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// How this machine arranges its controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One v1 hierarchy for each controller or group of controllers.
    Legacy,
    /// As `Legacy`, and a v2 hierarchy without the usual controllers at `unified`.
    Hybrid,
    /// Version 2 alone.
    Unified,
}

/// One mounted hierarchy.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    /// `["cpu", "cpuacct"]`, `["name=systemd"]`; empty for version 2.
    pub(crate) controllers: Vec<String>,
    pub(crate) point: PathBuf,
    pub(crate) fd: OwnedFd,
    /// This process' own cgroup as /proc/self/cgroup shows it; only relative paths need it.
    pub(crate) own: String,
}

impl Hierarchy {
    pub(crate) fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }
}

/// The machine's cgroup filesystems, each opened once.
#[derive(Debug)]
pub struct Hierarchies {
    mode: Mode,
    all: Vec<Hierarchy>,
}

impl Hierarchies {
    /// Opens the hierarchies under [`DEFAULT_ROOT`], checking that each really is a cgroup filesystem.
    pub fn detect() -> Result<Self, CgroupError> {
        let own_path = Path::new("/proc/self/cgroup");
        let file = open(own_path, OFlags::RDONLY | OFlags::CLOEXEC, FileMode::empty())
            .map_err(|e| CgroupError::io("open", own_path, e))?;
        let own = read_fd(file).map_err(|e| CgroupError::io("read", own_path, e))?;
        let root = Path::new(DEFAULT_ROOT);
        let magic = statfs(root).map_err(|e| CgroupError::io("statfs", root, e))?.f_type as u64;
        Self::open(root, &own, magic == CGROUP2_MAGIC, true)
    }

    /// Opens the hierarchies under another root, without looking at filesystem types: `own` is text in the form
    /// of /proc/self/cgroup and says which there are. Version 2 alone if it has no other line than `0::`.
    pub fn at(root: &Path, own: &str) -> Result<Self, CgroupError> {
        let unified = own.lines().all(|l| l.starts_with("0::"));
        Self::open(root, own, unified, false)
    }

    fn open(root: &Path, own: &str, unified: bool, check: bool) -> Result<Self, CgroupError> {
        let mut all = Vec::new();
        if unified {
            let path = own.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/");
            let fd = open_dir(root).map_err(|e| CgroupError::io("open", root, e))?;
            all.push(Hierarchy { controllers: Vec::new(), point: root.to_owned(), fd, own: path.to_owned() });
            return Ok(Self { mode: Mode::Unified, all });
        }
        let root_fd = open_dir(root).map_err(|e| CgroupError::io("open", root, e))?;
        let mut mode = Mode::Legacy;
        for line in own.lines() {
            let Some((names, path)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':')) else {
                continue;
            };
            let controllers: Vec<String> =
                names.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect();
            let magic = if controllers.is_empty() { CGROUP2_MAGIC } else { CGROUP_MAGIC };
            // a hierarchy the kernel has and nobody mounted is left out, as every runtime does
            let Some((name, fd)) = mount_names(&controllers).into_iter().find_map(|name| {
                let fd = openat(
                    &root_fd,
                    &name,
                    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    FileMode::empty(),
                );
                Some((name, fd.ok()?))
            }) else {
                continue;
            };
            if check && fstatfs(&fd).map(|s| s.f_type as u64) != Ok(magic) {
                continue;
            }
            if controllers.is_empty() {
                mode = Mode::Hybrid;
            }
            all.push(Hierarchy { controllers, point: root.join(name), fd, own: path.to_owned() });
        }
        if all.iter().all(Hierarchy::is_v2) {
            return Err(CgroupError::NotMounted(root.to_owned()));
        }
        Ok(Self { mode, all })
    }

    /// The arrangement found.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn all(&self) -> &[Hierarchy] {
        &self.all
    }

    /// Whether a v1 hierarchy, or v2's `cgroup.controllers` in the root, offers `controller`.
    pub fn has(&self, controller: &str) -> bool {
        self.all.iter().any(|h| match h.is_v2() {
            false => h.controllers.iter().any(|c| c == controller),
            true => crate::file::read_at(h.fd.as_fd(), "cgroup.controllers")
                .is_ok_and(|t| t.split_whitespace().any(|c| c == controller)),
        })
    }
}

/// The directory names that a hierarchy may be mounted at: `cpu,cpuacct`, or one controller's symlink.
fn mount_names(controllers: &[String]) -> Vec<String> {
    match controllers {
        [] => vec!["unified".to_owned()],
        [one] => vec![one.strip_prefix("name=").unwrap_or(one).to_owned()],
        many => std::iter::once(many.join(",")).chain(many.iter().cloned()).collect(),
    }
}

pub(crate) fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, FileMode::empty())
}

/// Whether this process' own cgroup is at its own path below the mount point.
pub(crate) fn own_is_there(h: &Hierarchy) -> bool {
    let below = clean(&h.own).join("/");
    below.is_empty() || statat(&h.fd, below, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// This process' own cgroup below the mount point of `h`.
///
/// In a container without a cgroup namespace the mount shows a subtree only, and /proc/self/cgroup shows paths
/// from the host's root: the mount's root, from mountinfo, is taken off.
pub(crate) fn own_below_mount(h: &Hierarchy, mountinfo: &str) -> Vec<String> {
    let mounted = mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        (Path::new(point) == h.point).then_some(root)
    });
    let root = clean(mounted.unwrap_or("/"));
    let own = clean(&h.own);
    let below = own.strip_prefix(root.as_slice()).unwrap_or(&own);
    below.iter().map(|s| (*s).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_follow_the_lines_of_proc_self_cgroup() {
        let dir = tempfile::tempdir().unwrap();
        for d in ["cpu,cpuacct", "memory", "systemd", "unified"] {
            std::fs::create_dir(dir.path().join(d)).unwrap();
        }
        let own = "4:cpu,cpuacct:/\n3:memory:/a/b\n2:hugetlb:/\n1:name=systemd:/\n0::/\n";
        let h = Hierarchies::at(dir.path(), own).unwrap();
        assert_eq!(h.mode(), Mode::Hybrid);
        let points: Vec<_> = h.all().iter().map(|h| h.point.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(points, ["cpu,cpuacct", "memory", "systemd", "unified"], "hugetlb is not mounted");
        assert!(h.has("cpuacct") && !h.has("hugetlb"));

        std::fs::remove_dir(dir.path().join("unified")).unwrap();
        assert_eq!(Hierarchies::at(dir.path(), own).unwrap().mode(), Mode::Legacy);
        assert_eq!(Hierarchies::at(dir.path(), "0::/user.slice\n").unwrap().mode(), Mode::Unified);
    }

    #[test]
    fn controllers_mounted_together_are_found_through_a_symlink() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("cpuacct,cpu")).unwrap();
        std::os::unix::fs::symlink("cpuacct,cpu", dir.path().join("cpu")).unwrap();
        let h = Hierarchies::at(dir.path(), "4:cpu,cpuacct:/\n").unwrap();
        assert_eq!(h.all()[0].point, dir.path().join("cpu"));
    }

    #[test]
    fn a_root_without_any_hierarchy_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = Hierarchies::at(dir.path(), "4:memory:/\n").unwrap_err();
        assert!(matches!(error, CgroupError::NotMounted(_)), "{error}");
    }

    #[test]
    fn the_mounts_root_is_taken_off_the_own_path() {
        let fd = open_dir(Path::new("/")).unwrap();
        let h = Hierarchy {
            controllers: vec!["memory".into()],
            point: "/sys/fs/cgroup/memory".into(),
            fd,
            own: "/docker/abc/inner".into(),
        };
        let info = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
        assert_eq!(own_below_mount(&h, info), ["inner"]);
        assert_eq!(own_below_mount(&h, ""), ["docker", "abc", "inner"]);
    }
}
