//! Which files a log is, and moving them on.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The path of the file `age` rotations back; 0 is the live one.
pub(crate) fn aged(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

/// The log's files that exist, newest first. While a rotation is under way one may be missed or be listed
/// at its former place.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut missing = 0;
    for age in 0.. {
        let path = aged(path, age);
        if fs::symlink_metadata(&path).is_ok() {
            found.push(path);
            missing = 0;
        } else {
            missing += 1;
            // a rotation under way leaves one gap
            if missing == 2 {
                break;
            }
        }
    }
    found
}

/// Opens or makes the live file for appending, mode 0640; a symbolic link is refused.
pub(crate) fn open_live(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
}

/// Moves every file one on, so that `keep` are left with the new live one, which is returned. Each step is a
/// rename: a reader that has a file open can finish it.
pub(crate) fn rotate(path: &Path, keep: u32) -> io::Result<File> {
    if keep <= 1 {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let fresh = PathBuf::from(name);
        absent_is_fine(fs::remove_file(&fresh))?;
        let file = open_live(&fresh)?;
        fs::rename(&fresh, path)?;
        return Ok(file);
    }
    for age in (0..keep - 1).rev() {
        absent_is_fine(fs::rename(aged(path, age), aged(path, age + 1)))?;
    }
    open_live(path)
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
