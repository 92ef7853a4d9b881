//! Unpacking a layer into the mounts of an active snapshot.
//!
//! Nothing is mounted for it: an overlay's upper directory, or the source of a writable bind mount, is written
//! directly, in the form that the overlay will read.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use wharf_archive::{Applied, ApplyError, Limits, Whiteouts, apply};
use wharf_failpoints::{Point, check};
use wharf_kinds::Kind;
use wharf_vocab::Algorithm;

use crate::error::SnapshotError;
use crate::mount::Mount;

/// Why a layer was not applied. The snapshot is to be removed.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error("cannot apply a layer to these mounts: {0}")]
    Mounts(String),
    #[error("open {path}: {source}")]
    Open { path: String, source: io::Error },
    #[error("apply layer: {0}")]
    Apply(#[from] ApplyError),
    #[error("flush {path}: {source}")]
    Sync { path: String, source: io::Error },
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the layer was not unpacked: failed precondition")]
    NotUnpacked,
}

impl LayerError {
    pub fn kind(&self) -> Kind {
        match self {
            LayerError::Mounts(_) => Kind::Unimplemented,
            LayerError::Open { source, .. } | LayerError::Sync { source, .. } => Kind::of_io(source),
            LayerError::Apply(e) => e.kind(),
            LayerError::Snapshot(e) => e.kind(),
            LayerError::NotUnpacked => Kind::FailedPrecondition,
        }
    }
}

/// Where to write, what lies below, and how to say that something is gone.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    directory: &'a str,
    lower: Vec<&'a str>,
    whiteouts: Whiteouts,
}

/// Unpacks `input` and computes both digests in the given algorithm. With `sync` the files are flushed to disk
/// before this returns.
pub fn apply_layer(
    input: impl Read + Send,
    mounts: &[Mount],
    algorithm: Algorithm,
    sync: bool,
) -> Result<Applied, LayerError> {
    let target = plan(mounts)?;
    let directory = open(target.directory)?;
    let lower = target.lower.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let lower: Vec<_> = lower.iter().map(AsFd::as_fd).collect();
    let applied = apply(input, directory.as_fd(), &lower, target.whiteouts, algorithm, Limits::default())?;
    check(Point::LayerExtract)
        .map_err(|source| LayerError::Sync { path: target.directory.into(), source })?;
    if sync {
        rustix::fs::syncfs(&directory)
            .map_err(|e| LayerError::Sync { path: target.directory.into(), source: e.into() })?;
    }
    Ok(applied)
}

pub(crate) fn open(path: &str) -> Result<OwnedFd, LayerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|e| LayerError::Open { path: path.into(), source: e.into() })
}

fn plan(mounts: &[Mount]) -> Result<Target<'_>, LayerError> {
    let [mount] = mounts else {
        return Err(LayerError::Mounts(format!("one mount is taken, {} are given", mounts.len())));
    };
    match mount.kind.as_str() {
        "overlay" => {
            let upper = mount.option("upperdir");
            let upper =
                upper.ok_or_else(|| LayerError::Mounts("the overlay has no upper directory".into()))?;
            let lower = mount.option("lowerdir").unwrap_or_default();
            Ok(Target {
                directory: upper,
                lower: lower.split(':').filter(|path| !path.is_empty()).collect(),
                whiteouts: Whiteouts::Overlay { userxattr: mount.has("userxattr") },
            })
        }
        "bind" if mount.has("ro") => Err(LayerError::Mounts("the bind mount is read-only".into())),
        "bind" => Ok(Target { directory: &mount.source, lower: Vec::new(), whiteouts: Whiteouts::Remove }),
        other => Err(LayerError::Mounts(format!("a mount of type {other:?}; overlay and bind are taken"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        Mount { kind: kind.into(), source: source.into(), target: String::new(), options }
    }

    #[test]
    fn overlay_is_written_through_its_upper_directory() {
        let mounts =
            [mount("overlay", "overlay", &["workdir=/w", "upperdir=/u", "lowerdir=/a:/b", "index=off"])];
        let target = plan(&mounts).unwrap();
        assert_eq!((target.directory, target.lower), ("/u", vec!["/a", "/b"]));
        assert_eq!(target.whiteouts, Whiteouts::Overlay { userxattr: false });
    }

    #[test]
    fn mounts_that_cannot_be_written_are_refused() {
        for mounts in [
            vec![],
            vec![mount("bind", "/x", &["ro", "rbind"])],
            vec![mount("overlay", "overlay", &["lowerdir=/a:/b"])],
            vec![mount("ext4", "/dev/x", &[])],
            vec![mount("bind", "/x", &["rw"]), mount("bind", "/y", &["rw"])],
        ] {
            assert!(plan(&mounts).is_err(), "{mounts:?}");
        }
    }
}
