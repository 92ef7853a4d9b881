//! Limits: from the OCI `linux.resources` to writes of control files (decided purely), and their execution.

mod convert;
mod v1;
mod v2;

use oci_spec::runtime::LinuxResources;
use rustix::io::Errno;
use std::os::fd::AsFd;

pub use convert::{blkio_weight_to_io_weight, cpu_shares_to_weight, memory_swap_to_v2};

use crate::cgroup::Cgroup;
use crate::error::CgroupError;
use crate::file::{read_at, write_at};
use crate::hierarchy::Mode;

/// One value for one control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Version 1's controller, whose directory has the file; on version 2 only for error texts.
    pub controller: String,
    /// The file's name.
    pub file: String,
    /// The text to write.
    pub value: String,
    /// What to do where the kernel has no such file.
    pub missing: Missing,
}

/// What to do where a control file does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The limit cannot be set: an error.
    Error,
    /// The kernel lacks the feature and the value asks for nothing.
    Ignore,
    /// Another file has the same meaning.
    Instead(Box<Write>),
}

impl Write {
    fn new(controller: &str, file: impl Into<String>, value: impl ToString) -> Self {
        Write {
            controller: controller.to_owned(),
            file: file.into(),
            value: value.to_string(),
            missing: Missing::Error,
        }
    }

    fn or_nothing(mut self) -> Self {
        self.missing = Missing::Ignore;
        self
    }

    fn or(mut self, other: Write) -> Self {
        self.missing = Missing::Instead(Box::new(other));
        self
    }
}

/// Writes whose order depends on the values already in force: each is tried in turn, and those that the kernel
/// rejects with EINVAL or EBUSY are tried again after the others.
pub type Group = Vec<Write>;

/// The writes for `resources`, device rules aside. Contradictions and values out of range are found here, before
/// anything is written.
pub fn plan(mode: Mode, resources: &LinuxResources) -> Result<Vec<Group>, CgroupError> {
    match mode {
        Mode::Unified => v2::plan(resources),
        Mode::Legacy | Mode::Hybrid => v1::plan(resources),
    }
}

/// Whether `resources` can be asked for at all, before anything has been made.
pub fn check(mode: Mode, resources: &LinuxResources) -> Result<(), CgroupError> {
    plan(mode, resources).map(drop)
}

impl Cgroup {
    /// Sets the limits of `resources`; what it does not mention stays as it is. Device rules are set by
    /// [`Cgroup::apply_devices`].
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let groups = plan(self.mode, resources)?;
        self.check_memory(resources)?;
        groups.into_iter().try_for_each(|group| self.settle(group))
    }

    /// `memory.checkBeforeUpdate`: on version 2 a limit below what is in use would have the kernel end the container's
    /// processes, where version 1 refuses it. A usage that cannot be read is not checked.
    fn check_memory(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let Some(memory) = resources.memory().filter(|m| m.check_before_update() == Some(true)) else {
            return Ok(());
        };
        let usage = (self.mode == Mode::Unified)
            .then(|| self.v2().and_then(|dir| read_at(dir.fd.as_fd(), "memory.current").ok()))
            .flatten();
        let Some(usage) = usage.and_then(|text| text.trim().parse::<u64>().ok()) else { return Ok(()) };
        for (field, name, limit) in
            [("swap", "memory+swap", memory.swap()), ("limit", "memory", memory.limit())]
        {
            if let Some(limit) = limit.and_then(|l| u64::try_from(l).ok()).filter(|l| *l > 0 && *l <= usage) {
                let reason = format!("rejecting {name} limit {limit} <= usage {usage}");
                return Err(invalid(&format!("memory.{field}"), reason));
            }
        }
        Ok(())
    }

    fn settle(&self, mut group: Group) -> Result<(), CgroupError> {
        loop {
            let count = group.len();
            let mut failed = Vec::new();
            let mut first = None;
            for write in group {
                if let Err((errno, error)) = self.write_one(&write) {
                    if !matches!(errno, Some(Errno::INVAL | Errno::BUSY)) {
                        return Err(error);
                    }
                    first.get_or_insert(error);
                    failed.push(write);
                }
            }
            match first {
                None => return Ok(()),
                Some(error) if failed.len() == count => return Err(error),
                Some(_) => group = failed,
            }
        }
    }

    fn write_one(&self, write: &Write) -> Result<(), (Option<Errno>, CgroupError)> {
        let missing = || CgroupError::MissingController {
            controller: write.controller.clone(),
            file: write.file.clone(),
        };
        let result = match self.dir(&write.controller) {
            None => Err((Errno::NOENT, None)),
            Some(dir) => write_at(dir.fd.as_fd(), &write.file, &write.value).map_err(|e| (e, Some(dir))),
        };
        match (result, &write.missing) {
            (Ok(()), _) | (Err((Errno::NOENT, _)), Missing::Ignore) => Ok(()),
            (Err((Errno::NOENT, _)), Missing::Instead(other)) => self.write_one(other),
            (Err((Errno::NOENT, _) | (_, None)), _) => Err((None, missing())),
            (Err((errno, Some(dir))), _) => {
                let hint = match (write.file.as_str(), errno) {
                    ("memory.limit_in_bytes", Errno::BUSY) => {
                        let get = |f: &str| read_at(dir.fd.as_fd(), f).unwrap_or_default().trim().to_owned();
                        format!(
                            " (current usage: {}, peak usage: {})",
                            get("memory.usage_in_bytes"),
                            get("memory.max_usage_in_bytes")
                        )
                    }
                    _ => String::new(),
                };
                let error = CgroupError::Write {
                    path: dir.path.join(&write.file),
                    value: write.value.clone(),
                    source: errno.into(),
                    hint,
                };
                Err((Some(errno), error))
            }
        }
    }
}

/// `max` for a negative limit.
fn or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

/// `pids.max`: a limit of 0 is one process, as runc since 1.4 and systemd have it (a cgroup that nobody could fork in would
/// run its first process all the same).
fn pids_max(limit: i64) -> String {
    if limit == 0 { "1".to_owned() } else { or_max(limit) }
}

pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> CgroupError {
    CgroupError::Invalid { field: format!("linux.resources.{field}"), reason: reason.into() }
}

/// Names that become part of a control file's name, such as a page size or a device.
fn checked<'a>(field: &str, name: &'a str) -> Result<&'a str, CgroupError> {
    let good =
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if good { Ok(name) } else { Err(invalid(field, format!("{name:?} is not a name"))) }
}

#[cfg(test)]
mod tests;
