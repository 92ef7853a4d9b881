//! Small files, replaced as a whole.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, Mode, OFlags};
use wharf_kinds::Kind;

/// Why a file was not replaced; the old content, if there was any, still stands.
#[derive(Debug, thiserror::Error)]
#[error("{act} {}: {source}", path.display())]
pub struct FileError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    pub fn kind(&self) -> Kind {
        Kind::of_io(&self.source)
    }
}

/// Prefix of the names of half-written files; a start may remove them.
pub const TEMPORARY_PREFIX: &str = ".new-";

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Writes `content` under `path` with permission bits `mode`: a temporary beside it, fsync, rename, fsync of the
/// directory. After `Ok` the content survives a power cut.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let error = |act| move |e: io::Error| FileError { act, path: path.into(), source: e };
    let directory = path.parent().unwrap_or(Path::new("."));
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = directory.join(format!("{TEMPORARY_PREFIX}{}-{unique}", std::process::id()));
    let undo = RemoveOnDrop(Some(&temporary));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, &temporary, flags, Mode::from_raw_mode(mode))
        .map_err(|e| error("create a file beside")(e.into()))?;
    let mut file = File::from(fd);
    // the umask may have taken bits away
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(|e| error("set the mode of")(e.into()))?;
    file.write_all(content).map_err(error("write"))?;
    file.sync_all().map_err(error("flush"))?;
    std::fs::rename(&temporary, path).map_err(error("rename into place"))?;
    undo.keep();
    sync_directory(directory).map_err(error("flush the directory of"))
}

/// Makes renames and removals within a directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
    Ok(rustix::fs::fsync(fd.as_fd())?)
}

struct RemoveOnDrop<'a>(Option<&'a Path>);

impl RemoveOnDrop<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn content_and_mode_are_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        let error = replace(&path, b"x", 0o600).unwrap_err();
        assert!(error.to_string().contains("rename into place"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
