//! The layer between two sets of mounts.
//!
//! An overlay is looked at through a mount of its own, read-only and detached: it has no path, nobody else sees it,
//! and it goes when its descriptor does, also when the process is killed.

mod legacy;

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};
use wharf_archive::{Compression, Compressor, DiffError, TopLayer, write_diff};
use wharf_kinds::Kind;
use wharf_vocab::{Algorithm, Digest, Digester};

use crate::layer::{LayerError, open};
use crate::mount::Mount;

/// Why two sets of mounts were not compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error("cannot compare these mounts: {0}: not implemented")]
    Mounts(String),
    #[error(transparent)]
    Open(#[from] LayerError),
    #[error("mount what is to be compared: {0}")]
    Overlay(io::Error),
    #[error("start the compression: {0}")]
    Compression(io::Error),
    #[error("compare: {0}")]
    Diff(#[from] DiffError),
}

impl CompareError {
    pub fn kind(&self) -> Kind {
        match self {
            CompareError::Mounts(_) => Kind::Unimplemented,
            CompareError::Open(e) => e.kind(),
            CompareError::Overlay(e) | CompareError::Compression(e) => Kind::of_io(e),
            CompareError::Diff(e) => e.kind(),
        }
    }
}

/// Writes the layer that makes `lower` into `upper`, compressed, to `out`, and gives `out` back with the digest of
/// the archive (the DiffID). No file in it is later than `latest`, in seconds of Unix time.
pub fn compare<W: Write>(
    lower: &[Mount],
    upper: &[Mount],
    compression: Compression,
    latest: Option<i64>,
    out: W,
) -> Result<(Digest, W), CompareError> {
    let top = top_layer(lower, upper);
    compare_by(top, lower, upper, compression, latest, out)
}

/// With the layer by which the overlay `upper` differs from `lower`, if it does.
fn compare_by<W: Write>(
    top: Option<(&str, bool)>,
    lower: &[Mount],
    upper: &[Mount],
    compression: Compression,
    latest: Option<i64>,
    out: W,
) -> Result<(Digest, W), CompareError> {
    let layer = top.map(|(path, _)| open(path)).transpose()?;
    let top =
        layer.as_ref().zip(top).map(|(layer, (_, userxattr))| TopLayer { root: layer.as_fd(), userxattr });
    let lower = view(lower)?;
    let upper = match view(upper)? {
        Some(upper) => upper,
        None => nothing_in_place_of(lower.as_ref())?,
    };
    let compressor = Compressor::new(compression, out).map_err(CompareError::Compression)?;
    let hashed = Hashed { out: compressor, digester: Digester::new(Algorithm::Sha256) };
    let hashed = write_diff(lower.as_ref().map(AsFd::as_fd), upper.as_fd(), top, hashed, latest)?;
    let out = hashed.out.finish().map_err(DiffError::Write)?;
    Ok((hashed.digester.finish(), out))
}

/// The directories that a mount lays over each other, the uppermost first; `None` for mounts that cannot be told so.
fn layers(mounts: &[Mount]) -> Option<Vec<&str>> {
    match mounts {
        [mount] if !mount.target.is_empty() => None,
        [mount] if mount.kind == "bind" => Some(vec![&mount.source]),
        [mount] if mount.kind == "overlay" => {
            let lower = mount.option("lowerdir").unwrap_or_default().split(':');
            Some(mount.option("upperdir").into_iter().chain(lower).filter(|path| !path.is_empty()).collect())
        }
        _ => None,
    }
}

/// The layer that `upper` has on top of exactly what `lower` shows, and where the overlay keeps its marks.
fn top_layer<'a>(lower: &[Mount], upper: &'a [Mount]) -> Option<(&'a str, bool)> {
    let (lower, upper_layers) = (layers(lower)?, layers(upper)?);
    let (top, rest) = upper_layers.split_first()?;
    (!lower.is_empty() && rest == lower).then(|| (*top, upper[0].has("userxattr")))
}

/// An empty root for an `upper` of no mounts: all of `lower` is gone from it, but the root itself is the same.
fn nothing_in_place_of(lower: Option<&OwnedFd>) -> Result<OwnedFd, CompareError> {
    let failed = |e: Errno| CompareError::Overlay(e.into());
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
    if let Some(lower) = lower {
        let found = rustix::fs::fstat(lower).map_err(failed)?;
        for (key, value) in [
            ("mode", format!("{:o}", found.st_mode & 0o7777)),
            ("uid", found.st_uid.to_string()),
            ("gid", found.st_gid.to_string()),
        ] {
            fsconfig_set_string(&fs, key, value).map_err(failed)?;
        }
    }
    fsconfig_create(&fs).map_err(failed)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY).map_err(failed)
}

/// The root that the mounts show; `None` for no mounts, which show nothing.
fn view(mounts: &[Mount]) -> Result<Option<OwnedFd>, CompareError> {
    let [mount] = mounts else {
        if mounts.is_empty() {
            return Ok(None);
        }
        return Err(CompareError::Mounts(format!("at most one mount is taken, {} are given", mounts.len())));
    };
    if !mount.target.is_empty() {
        return Err(CompareError::Mounts("a mount below the root".into()));
    }
    match mount.kind.as_str() {
        "bind" => Ok(Some(open(&mount.source)?)),
        "overlay" => {
            // nothing is written, so the upper directory is one more layer
            match layers(mounts).unwrap_or_default().as_slice() {
                [] => Err(CompareError::Mounts("an overlay without directories".into())),
                [only] => Ok(Some(open(only)?)),
                layers => overlay(layers, mount.has("userxattr")).map(Some),
            }
        }
        other => Err(CompareError::Mounts(format!("a mount of type {other:?}; overlay and bind are taken"))),
    }
}

fn overlay(layers: &[&str], userxattr: bool) -> Result<OwnedFd, CompareError> {
    match by_parameters(layers, userxattr) {
        // kernels before 6.5 do not know a layer by itself, and say so at once or in the end
        Err(Errno::INVAL) => legacy::overlay(layers, userxattr),
        other => other.map_err(|e| CompareError::Overlay(e.into())),
    }
}

fn by_parameters(layers: &[&str], userxattr: bool) -> Result<OwnedFd, Errno> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if userxattr {
        fsconfig_set_flag(&fs, "userxattr")?;
    }
    for layer in layers {
        fsconfig_set_string(&fs, "lowerdir+", *layer)?;
    }
    fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A stream whose bytes are hashed as they pass.
struct Hashed<W> {
    out: W,
    digester: Digester,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.digester.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
