//! A container's directories: re-opened, joined, listed, removed.

mod create;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir as DirStream, FileType, Mode as FileMode, OFlags, openat, unlinkat};
use rustix::io::Errno;

pub use self::create::Making;
use crate::error::CgroupError;
use crate::file::{open, put, read_at, write_at};
use crate::hierarchy::{Hierarchies, Mode, open_dir};
use crate::lexical::clean;
use crate::plan::Paths;

/// How long a cgroup may stay busy after its last process has gone.
const DELETE_DEADLINE: Duration = Duration::from_secs(2);
/// Sub-cgroups deeper than this are not looked at; the kernel's own tools stop far earlier.
const MAX_DEPTH: usize = 32;

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// A container's directory in one hierarchy.
#[derive(Debug)]
pub(crate) struct Dir {
    /// Empty for version 2.
    pub(crate) controllers: Vec<String>,
    pub(crate) path: PathBuf,
    pub(crate) fd: OwnedFd,
    /// It was there before this value.
    existed: bool,
}

impl Dir {
    pub(crate) fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    pub(crate) fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        write_at(self.fd.as_fd(), file, value).map_err(|e| CgroupError::Write {
            path: self.path.join(file),
            value: value.to_owned(),
            source: e.into(),
            hint: String::new(),
        })
    }

    pub(crate) fn read(&self, file: &str) -> Result<String, CgroupError> {
        read_at(self.fd.as_fd(), file).map_err(|e| CgroupError::io("read", &self.path.join(file), e))
    }
}

/// A container's cgroup: one directory in each hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    pub(crate) mode: Mode,
    pub(crate) dirs: Vec<Dir>,
}

impl Cgroup {
    /// Opens the directories that a state file names. Those that are gone are left out.
    pub fn from_paths(paths: &Paths) -> Result<Cgroup, CgroupError> {
        let mut by_path: BTreeMap<&Path, Vec<String>> = BTreeMap::new();
        for (controller, path) in &paths.0 {
            let list = by_path.entry(path).or_default();
            if !controller.is_empty() {
                list.push(controller.clone());
            }
        }
        let mut dirs = Vec::with_capacity(by_path.len());
        for (path, controllers) in &by_path {
            match open_dir(path) {
                Ok(fd) => dirs.push(Dir {
                    controllers: controllers.clone(),
                    path: path.to_path_buf(),
                    fd,
                    existed: true,
                }),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(CgroupError::io("open cgroup", path, e)),
            }
        }
        let v2 = by_path.values().any(Vec::is_empty);
        let v1 = by_path.values().any(|c| !c.is_empty());
        let mode = match (v1, v2) {
            (false, _) => Mode::Unified,
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::Legacy,
        };
        Ok(Cgroup { mode, dirs })
    }

    /// Opens the directories that process `pid` is in, whoever made them. Hierarchies that are not mounted, and paths
    /// outside the mount, are left out.
    ///
    /// Not for [`Cgroup::delete`] or [`Cgroup::kill`]: the directories may be shared with others.
    pub fn of_pid(h: &Hierarchies, pid: i32) -> Result<Cgroup, CgroupError> {
        let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let text = std::fs::read_to_string(&file).map_err(|source| CgroupError::Io {
            act: "read",
            path: file,
            source,
        })?;
        let mut paths = Paths::default();
        for line in text.lines() {
            let Some((names, path)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':')) else {
                continue;
            };
            // a removed cgroup has this ending
            let path = path.strip_suffix(" (deleted)").unwrap_or(path);
            let listed: Vec<&str> = names.split(',').filter(|n| !n.is_empty()).collect();
            let Some(hierarchy) = h.all().iter().find(|h| h.controllers == listed) else { continue };
            let directory: PathBuf = std::iter::once(hierarchy.point.as_path())
                .chain(clean(path).into_iter().map(Path::new))
                .collect();
            if listed.is_empty() {
                paths.0.insert(String::new(), directory.clone());
            }
            for name in listed {
                paths.0.insert(name.to_owned(), directory.clone());
            }
        }
        Cgroup::from_paths(&paths)
    }

    /// The directories that are open, for the state file.
    pub fn paths(&self) -> Paths {
        Self::paths_of(self.dirs.iter())
    }

    /// Those of the directories that [`Cgroup::create`] made.
    pub fn made(&self) -> Paths {
        Self::paths_of(self.dirs.iter().filter(|d| !d.existed))
    }

    fn paths_of<'a>(dirs: impl Iterator<Item = &'a Dir>) -> Paths {
        let mut paths = Paths::default();
        for dir in dirs {
            for controller in &dir.controllers {
                paths.0.insert(controller.clone(), dir.path.clone());
            }
            if dir.is_v2() {
                paths.0.insert(String::new(), dir.path.clone());
            }
        }
        paths
    }

    /// Whether every directory was there before [`Cgroup::create`].
    pub fn existed(&self) -> bool {
        self.dirs.iter().all(|d| d.existed)
    }

    /// Whether any directory is there still.
    pub fn exists(&self) -> bool {
        self.dirs.iter().any(|d| rustix::fs::stat(&d.path).is_ok())
    }

    /// The arrangement of controllers this cgroup was made in.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The directory in which version 1's `controller` is, or version 2's.
    pub(crate) fn dir(&self, controller: &str) -> Option<&Dir> {
        match self.mode {
            Mode::Unified => self.v2(),
            Mode::Legacy | Mode::Hybrid => self.dirs.iter().find(|d| d.has(controller)),
        }
    }

    pub(crate) fn v2(&self) -> Option<&Dir> {
        self.dirs.iter().find(|d| d.is_v2())
    }

    /// The directory whose membership stands for the container's: the one that its processes can least leave.
    pub(crate) fn membership(&self) -> Option<&Dir> {
        ["freezer", "pids", "devices", "memory"].iter().find_map(|c| self.dir(c)).or(self.dirs.first())
    }

    /// Version 2's directory (hybrid mode too), for clone3's CLONE_INTO_CGROUP.
    pub fn unified_fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2().map(|d| d.fd.as_fd())
    }

    /// Opens what a new process needs to put itself into this cgroup.
    pub fn joiner(&self) -> Result<Joiner, CgroupError> {
        let mut tasks = Vec::with_capacity(self.dirs.len());
        for dir in self.dirs.iter().filter(|d| !d.is_v2()) {
            tasks.push(
                open(dir.fd.as_fd(), "tasks", OFlags::WRONLY)
                    .map_err(|e| CgroupError::io("open", &dir.path.join("tasks"), e))?,
            );
        }
        let unified = self.v2().map(|d| d.fd.try_clone()).transpose().map_err(|source| CgroupError::Io {
            act: "duplicate descriptor of",
            path: self.v2().map(|d| d.path.clone()).unwrap_or_default(),
            source,
        })?;
        Ok(Joiner { tasks, unified })
    }

    /// Moves process `pid`, with all its threads, into this cgroup.
    ///
    /// The first write takes the kernel's thread-group lock for writing and waits for an RCU grace period: 7 to
    /// 15 ms. A process that is being started uses [`Cgroup::joiner`].
    pub fn add(&self, pid: i32) -> Result<(), CgroupError> {
        let text = pid.to_string();
        self.dirs.iter().try_for_each(|d| d.write("cgroup.procs", &text))
    }

    /// Every process in this cgroup and in cgroups below it, as seen from the caller's PID namespace.
    pub fn procs(&self) -> Result<Vec<i32>, CgroupError> {
        let mut out = Vec::new();
        if let Some(dir) = self.membership() {
            collect(dir.fd.as_fd(), &dir.path, 0, &mut out)?;
        }
        out.sort_unstable();
        out.dedup();
        Ok(out)
    }

    /// Removes the directories and those below them. A directory whose last process is just going is tried again,
    /// for two seconds in all; the others are removed nevertheless and every failure is reported.
    pub fn delete(self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + DELETE_DEADLINE;
        let mut errors = Vec::new();
        for dir in &self.dirs {
            if let Err(e) = remove_until(&dir.path, deadline) {
                errors.push(e);
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(CgroupError::Delete(errors)) }
    }
}

/// What a process needs to put itself into a cgroup without the cost of [`Cgroup::add`].
#[derive(Debug)]
pub struct Joiner {
    tasks: Vec<OwnedFd>,
    unified: Option<OwnedFd>,
}

impl Joiner {
    /// Puts the calling thread into the version 1 directories. To be called by the new process itself while it has
    /// one thread, after fork: it allocates nothing.
    ///
    /// A thread that moves itself by writing `0` to `tasks` needs no lock over all thread groups, so the kernel
    /// does not wait for an RCU grace period (cgroup_procs_write_start in kernel/cgroup/cgroup.c).
    pub fn join_self(&self) -> Result<(), Errno> {
        self.tasks.iter().try_for_each(|fd| put(fd, b"0"))
    }

    /// The open files, to be passed on to a process that is there already.
    pub fn tasks(&self) -> &[OwnedFd] {
        &self.tasks
    }

    /// What such a process makes of the files it gets. Version 2's directory it has been born in.
    pub fn of_tasks(tasks: Vec<OwnedFd>) -> Self {
        Self { tasks, unified: None }
    }

    /// Version 2's directory, for clone3's CLONE_INTO_CGROUP, which does not take that lock either.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }
}

fn children(dir: BorrowedFd<'_>) -> Result<Vec<std::ffi::CString>, Errno> {
    let listing = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, FileMode::empty())?;
    let mut names = Vec::new();
    for entry in DirStream::new(listing)? {
        let entry = entry?;
        if entry.file_type() == FileType::Directory && !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn collect(dir: BorrowedFd<'_>, path: &Path, depth: usize, out: &mut Vec<i32>) -> Result<(), CgroupError> {
    match read_at(dir, "cgroup.procs") {
        Ok(text) => out.extend(text.lines().filter_map(|l| l.trim().parse::<i32>().ok()).filter(|p| *p > 0)),
        // removed meanwhile, or a threaded v2 cgroup, whose processes its domain lists
        Err(Errno::NODEV | Errno::NOENT | Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(CgroupError::io("read", &path.join("cgroup.procs"), e)),
    }
    if depth >= MAX_DEPTH {
        return Ok(());
    }
    for name in children(dir).map_err(|e| CgroupError::io("list cgroup", path, e))? {
        let Ok(fd) = openat(dir, &name, DIRECTORY, FileMode::empty()) else { continue };
        collect(fd.as_fd(), path, depth + 1, out)?;
    }
    Ok(())
}

fn remove_until(path: &Path, deadline: Instant) -> Result<(), CgroupError> {
    let mut pause = Duration::from_micros(200);
    loop {
        let errno = match rustix::fs::rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(e) => e,
        };
        if !matches!(errno, Errno::BUSY | Errno::NOTEMPTY) {
            return Err(CgroupError::io("remove cgroup", path, errno));
        }
        if let Ok(fd) = open_dir(path) {
            remove_below(fd.as_fd(), 0);
        }
        if rustix::fs::rmdir(path).is_ok() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(CgroupError::io("remove cgroup", path, errno));
        }
        // nothing tells when a v1 cgroup has become empty
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn remove_below(dir: BorrowedFd<'_>, depth: usize) {
    for name in children(dir).unwrap_or_default() {
        if unlinkat(dir, &name, AtFlags::REMOVEDIR).is_ok() || depth >= MAX_DEPTH {
            continue;
        }
        if let Ok(fd) = openat(dir, &name, DIRECTORY, FileMode::empty()) {
            remove_below(fd.as_fd(), depth + 1);
        }
        let _ = unlinkat(dir, &name, AtFlags::REMOVEDIR);
    }
}

#[cfg(test)]
mod tests;
