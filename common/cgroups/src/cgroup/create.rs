//! Making a container's directories, all at once or version 2's first.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode as FileMode, mkdirat, openat};
use rustix::io::Errno;

use super::{Cgroup, DIRECTORY, Dir};
use crate::error::CgroupError;
use crate::file::{read_at, write_at};
use crate::hierarchy::{Hierarchies, Hierarchy, Mode};
use crate::plan::{Paths, Plan};

/// A cgroup of which version 2's directory may be there, so that a process can be born in it, while those of version 1
/// are still to be made: nine or more directories take longer than the clone does. Dropped, what was made is removed.
#[derive(Debug)]
pub struct Making<'a> {
    hierarchies: &'a Hierarchies,
    plan: &'a Plan,
    made: Undo,
    /// With its place among the hierarchies.
    unified: Option<(usize, Dir)>,
}

impl Cgroup {
    /// Makes the planned directories. Existing ones are taken as they are (see [`Cgroup::existed`]); on an error the
    /// directories made by this call are removed again.
    pub fn create(h: &Hierarchies, plan: &Plan) -> Result<Cgroup, CgroupError> {
        Self::create_forgiving(h, plan, |_| false)
    }

    /// Likewise, without the hierarchies where an error is forgiven: an ordinary user may be given some of version 1's
    /// controllers and not others. Limits of the others are errors when they are set.
    pub fn create_forgiving(
        h: &Hierarchies,
        plan: &Plan,
        forgiven: impl Fn(&CgroupError) -> bool,
    ) -> Result<Cgroup, CgroupError> {
        Making::nothing(h, plan).finish(forgiven)
    }

    /// Makes version 2's directory, if there is such a hierarchy, and leaves the others to [`Making::finish`].
    pub fn begin<'a>(h: &'a Hierarchies, plan: &'a Plan) -> Result<Making<'a>, CgroupError> {
        let mut making = Making::nothing(h, plan);
        for (i, (hierarchy, parts)) in h.all().iter().zip(&plan.below).enumerate() {
            if hierarchy.is_v2() {
                making.unified = Some((i, create_in(h, hierarchy, parts, &mut making.made)?));
            }
        }
        Ok(making)
    }
}

impl<'a> Making<'a> {
    fn nothing(hierarchies: &'a Hierarchies, plan: &'a Plan) -> Self {
        Self { hierarchies, plan, made: Undo(Vec::new()), unified: None }
    }

    /// Version 2's directory, for clone3's CLONE_INTO_CGROUP.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|(_, dir)| dir.fd.as_fd())
    }

    /// The directories that are there because of this value.
    pub fn made(&self) -> Paths {
        Cgroup::paths_of(self.unified.iter().map(|(_, dir)| dir).filter(|dir| !dir.existed))
    }

    /// Closes what is open and leaves what was made, for a copy of this value in a child.
    pub fn leave(mut self) {
        self.made.0.clear();
    }

    /// Makes what is still missing. After an error what was made is removed when this value is dropped: a process that
    /// was born in version 2's directory is to be gone by then, since no directory with processes in it can be removed.
    pub fn finish(&mut self, forgiven: impl Fn(&CgroupError) -> bool) -> Result<Cgroup, CgroupError> {
        let h = self.hierarchies;
        let mut dirs = Vec::with_capacity(h.all().len());
        for (i, (hierarchy, parts)) in h.all().iter().zip(&self.plan.below).enumerate() {
            if let Some((_, dir)) = self.unified.take_if(|(own, _)| *own == i) {
                dirs.push(dir);
                continue;
            }
            let before = self.made.0.len();
            match create_in(h, hierarchy, parts, &mut self.made) {
                Ok(dir) => dirs.push(dir),
                Err(e) if forgiven(&e) => drop(Undo(self.made.0.split_off(before))),
                Err(e) => return Err(e),
            }
        }
        self.made.0.clear();
        Ok(Cgroup { mode: h.mode(), dirs })
    }
}

fn create_in(
    h: &Hierarchies,
    hierarchy: &Hierarchy,
    parts: &[String],
    made: &mut Undo,
) -> Result<Dir, CgroupError> {
    let path: PathBuf =
        std::iter::once(hierarchy.point.as_path()).chain(parts.iter().map(Path::new)).collect();
    let below = parts.join("/");
    let new = make(hierarchy, parts, &below, &path, h.mode(), made)?;
    let fd = openat(&hierarchy.fd, below.as_str(), DIRECTORY, FileMode::empty())
        .map_err(|e| CgroupError::io("open cgroup", &path, e))?;
    if hierarchy.controllers.iter().any(|c| c == "cpuset") {
        seed_cpuset(hierarchy, parts, new)?;
    }
    Ok(Dir { controllers: hierarchy.controllers.clone(), path, fd, existed: !new })
}

/// Removes on drop what was made, newest first.
#[derive(Debug)]
struct Undo(Vec<PathBuf>);

impl Drop for Undo {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = rustix::fs::rmdir(path);
        }
    }
}

/// Makes one hierarchy's directory with its parents; true if the last one is new.
fn make(
    h: &Hierarchy,
    parts: &[String],
    below: &str,
    path: &Path,
    mode: Mode,
    made: &mut Undo,
) -> Result<bool, CgroupError> {
    let rights = FileMode::from_raw_mode(0o755);
    let limited = mode == Mode::Unified;
    match mkdirat(&h.fd, below, rights) {
        Ok(()) => {
            made.0.push(path.to_owned());
            if limited {
                enable_controllers(h, parts)?;
            }
            return Ok(true);
        }
        Err(Errno::EXIST) => {
            if limited {
                enable_controllers(h, parts)?;
            }
            return Ok(false);
        }
        Err(Errno::NOENT) => {}
        Err(e) => return Err(CgroupError::io("create cgroup", path, e)),
    }
    let mut new = false;
    for depth in 1..=parts.len() {
        let sub = parts[..depth].join("/");
        match mkdirat(&h.fd, sub.as_str(), rights) {
            Ok(()) => {
                made.0.push(h.point.join(&sub));
                new = true;
            }
            Err(Errno::EXIST) => new = false,
            Err(e) => return Err(CgroupError::io("create cgroup", &h.point.join(&sub), e)),
        }
    }
    if limited {
        enable_controllers(h, parts)?;
    }
    Ok(new)
}

/// Makes every controller of the root available in the directory, as far as its parents allow. A controller that
/// stays missing is an error only when a limit wants it.
fn enable_controllers(h: &Hierarchy, parts: &[String]) -> Result<(), CgroupError> {
    let root = read_at(h.fd.as_fd(), "cgroup.controllers")
        .map_err(|e| CgroupError::io("read", &h.point.join("cgroup.controllers"), e))?;
    let leaf = format!("{}/cgroup.controllers", parts.join("/"));
    if read_at(h.fd.as_fd(), &leaf).is_ok_and(|t| t.split_whitespace().eq(root.split_whitespace())) {
        return Ok(());
    }
    let wanted: Vec<String> = root.split_whitespace().map(|c| format!("+{c}")).collect();
    for depth in 0..parts.len() {
        let file = match depth {
            0 => "cgroup.subtree_control".to_owned(),
            _ => format!("{}/cgroup.subtree_control", parts[..depth].join("/")),
        };
        if write_at(h.fd.as_fd(), &file, &wanted.join(" ")).is_err() {
            // all or nothing in one write: keep those that do work
            for one in &wanted {
                let _ = write_at(h.fd.as_fd(), &file, one);
            }
        }
    }
    Ok(())
}

/// A new v1 cpuset is empty and takes no process: it gets its parent's CPUs and memory nodes, from the topmost
/// empty one downwards.
fn seed_cpuset(h: &Hierarchy, parts: &[String], new: bool) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let name = |depth: usize| match depth {
            0 => file.to_owned(),
            _ => format!("{}/{file}", parts[..depth].join("/")),
        };
        let get = |depth: usize| {
            read_at(h.fd.as_fd(), &name(depth))
                .map(|t| t.trim().to_owned())
                .map_err(|e| CgroupError::io("read", &h.point.join(name(depth)), e))
        };
        let mut depth = parts.len();
        if !new && !get(depth)?.is_empty() {
            continue;
        }
        let mut value = String::new();
        while depth > 0 && value.is_empty() {
            depth -= 1;
            value = get(depth)?;
        }
        for child in depth + 1..=parts.len() {
            write_at(h.fd.as_fd(), &name(child), &value).map_err(|e| CgroupError::Write {
                path: h.point.join(name(child)),
                value: value.clone(),
                source: e.into(),
                hint: String::new(),
            })?;
        }
    }
    Ok(())
}
