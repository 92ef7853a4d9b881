//! Archives made by hand, honest and otherwise, and directories to unpack them into.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};
use wharf_archive::{Applied, ApplyError, Limits, Whiteouts, apply};
use wharf_vocab::Algorithm;

pub const OVERLAY: Whiteouts = Whiteouts::Overlay { userxattr: false };

/// An archive being written; names are taken as they are.
#[derive(Default)]
pub struct Archive(pub Vec<u8>);

impl Archive {
    pub fn new() -> Self {
        Archive::default()
    }

    pub fn header(kind: EntryType, path: &str, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(size);
        header
    }

    pub fn raw(mut self, mut header: Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: &str, data: &[u8]) -> Self {
        self.raw(Self::header(EntryType::Regular, path, data.len() as u64), data)
    }

    pub fn dir(self, path: &str) -> Self {
        let mut header = Self::header(EntryType::Directory, path, 0);
        header.set_mode(0o755);
        self.raw(header, b"")
    }

    pub fn link(self, kind: EntryType, path: &str, target: &str) -> Self {
        let mut header = Self::header(kind, path, 0);
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        self.raw(header, b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, path, target)
    }

    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Link, path, target)
    }

    pub fn device(self, kind: EntryType, path: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(kind, path, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.raw(header, b"")
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw(Self::header(EntryType::XHeader, "pax", data.len() as u64), &data)
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A directory to unpack into, and one beside it that must stay as it is.
pub struct Place {
    _dir: tempfile::TempDir,
    pub target: PathBuf,
    pub outside: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let dir = tempfile::tempdir().unwrap();
        let (target, outside) = (dir.path().join("target"), dir.path().join("outside"));
        std::fs::create_dir(&target).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "untouched").unwrap();
        Place { _dir: dir, target, outside }
    }

    pub fn apply(&self, archive: &[u8], whiteouts: Whiteouts) -> Result<Applied, ApplyError> {
        self.apply_on(archive, whiteouts, &[], Limits::default())
    }

    pub fn apply_on(
        &self,
        archive: &[u8],
        whiteouts: Whiteouts,
        lower: &[&Path],
        limits: Limits,
    ) -> Result<Applied, ApplyError> {
        let open = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        let target = open(&self.target);
        let lower: Vec<_> = lower.iter().map(|path| open(path)).collect();
        let lower: Vec<_> = lower.iter().map(AsFd::as_fd).collect();
        apply(archive, target.as_fd(), &lower, whiteouts, Algorithm::Sha256, limits)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// Nothing outside of the target was made, changed or removed.
    #[track_caller]
    pub fn assert_outside_untouched(&self) {
        let names: Vec<_> =
            std::fs::read_dir(&self.outside).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(std::fs::read_to_string(self.outside.join("secret")).unwrap(), "untouched");
        let meta = self.outside.join("secret").symlink_metadata().unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&meta), 1);
    }
}

pub fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

/// Unpacks into an overlay's upper directory before its lower layers are known, then completes it.
impl Place {
    pub fn apply_then_resolve(&self, archive: &[u8], lower: &[&Path]) -> Result<Applied, ApplyError> {
        let open = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        let target = open(&self.target);
        let limits = Limits::default();
        let (applied, pending) =
            wharf_archive::apply_early(archive, target.as_fd(), false, Algorithm::Sha256, limits)?;
        let lower: Vec<_> = lower.iter().map(|path| open(path)).collect();
        let lower: Vec<_> = lower.iter().map(AsFd::as_fd).collect();
        pending.resolve(target.as_fd(), &lower)?;
        Ok(applied)
    }
}
