//! What can go wrong with a cgroup.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use wharf_kinds::Kind;

use crate::systemd::SystemdError;

/// A failed act on a cgroup, with the file or the field it failed on.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup filesystem where one is expected.
    #[error("no cgroup filesystem is mounted at {}", .0.display())]
    NotMounted(PathBuf),
    /// A system call on a file or directory of the hierarchy.
    #[error("{act} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `create cgroup`.
        act: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a value.
    #[error("write {value:?} to {}: {source}{hint}", path.display())]
    Write {
        /// The control file.
        path: PathBuf,
        /// The value refused.
        value: String,
        /// What the kernel said.
        source: io::Error,
        /// More for the reader, starting with a space, or empty.
        hint: String,
    },
    /// `linux.cgroupsPath` cannot be used.
    #[error("linux.cgroupsPath {path:?}: {reason}")]
    BadPath {
        /// The path as given.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// systemd did not do what it was asked to.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// `--systemd-cgroup` on a machine without systemd.
    #[error("systemd cgroup manager is not available: {0}")]
    SystemdUnavailable(&'static str),
    /// A limit for a controller that this machine or this container does not have.
    #[error("cannot set {file}: the {controller} cgroup controller is not available")]
    MissingController {
        /// The controller, such as `hugetlb`.
        controller: String,
        /// The control file that would have been written.
        file: String,
    },
    /// A value that no kernel would take.
    #[error("{field}: {reason}")]
    Invalid {
        /// JSON path of the field, such as `linux.resources.cpu.shares`.
        field: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// Reading a control file gave something else than the kernel documents.
    #[error("{}: unexpected content {content:?}", path.display())]
    Malformed {
        /// The control file.
        path: PathBuf,
        /// Its beginning.
        content: String,
    },
    /// The cgroup did not reach the state asked for in time.
    #[error("{act} cgroup {}: not done after {seconds} s", path.display())]
    Timeout {
        /// `freeze`, `kill`, …
        act: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// The deadline.
        seconds: u64,
    },
    /// Some directories could not be removed; all were tried.
    #[error("remove cgroup: {}", list(.0))]
    Delete(Vec<CgroupError>),
    /// The container has no directory in the hierarchy that the act needs.
    #[error("cannot {act}: the container has no {controller} cgroup")]
    NoCgroup {
        /// What was asked for.
        act: &'static str,
        /// The controller missing.
        controller: &'static str,
    },
}

fn list(errors: &[CgroupError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl CgroupError {
    pub(crate) fn io(act: &'static str, path: &Path, errno: Errno) -> Self {
        CgroupError::Io { act, path: path.to_owned(), source: errno.into() }
    }

    /// The class of the failure, for the caller's decision.
    pub fn kind(&self) -> Kind {
        match self {
            CgroupError::NotMounted(_)
            | CgroupError::MissingController { .. }
            | CgroupError::NoCgroup { .. } => Kind::FailedPrecondition,
            CgroupError::Systemd(error) => error.kind(),
            CgroupError::SystemdUnavailable(_) => Kind::Unimplemented,
            CgroupError::BadPath { .. } | CgroupError::Invalid { .. } => Kind::InvalidArgument,
            CgroupError::Io { source, .. } => Kind::of_io(source),
            CgroupError::Write { source, .. } => match source.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::INVAL | Errno::RANGE) => Kind::InvalidArgument,
                _ => Kind::of_io(source),
            },
            CgroupError::Malformed { .. } => Kind::Internal,
            CgroupError::Timeout { .. } => Kind::DeadlineExceeded,
            CgroupError::Delete(errors) => errors.first().map_or(Kind::Internal, CgroupError::kind),
        }
    }
}
