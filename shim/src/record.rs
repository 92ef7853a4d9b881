//! Exits as they are kept on disk: written before anyone is told, read when the shim is gone.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::reaper::Exit;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    pid: u32,
    exit_status: u32,
    /// Nanoseconds since the epoch.
    exited_at: u64,
}

/// Why an exit could not be kept or read.
#[derive(Debug, thiserror::Error)]
#[error("exit record {}: {act}: {source}", path.display())]
pub struct RecordError {
    path: PathBuf,
    act: &'static str,
    source: io::Error,
}

/// `<bundle>/exit/init.json`, or `<bundle>/exit/exec-<id>.json`.
fn path(bundle: &Path, exec_id: Option<&str>) -> PathBuf {
    let name = exec_id.map_or_else(|| "init.json".to_owned(), |id| format!("exec-{id}.json"));
    bundle.join("exit").join(name)
}

/// Writes the exit so that it is there whole or not at all, and outlives this process and the daemon once this returns.
/// Nothing is flushed to the disk: a bundle is not kept over a start of the machine, and whoever waits would wait for it.
///
/// # Errors
/// If the folder or the file cannot be made, written or renamed.
pub fn write(bundle: &Path, exec_id: Option<&str>, exit: &Exit) -> Result<(), RecordError> {
    let path = path(bundle, exec_id);
    let failed = |act| {
        let path = path.clone();
        move |source| RecordError { path, act, source }
    };
    let since = exit.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let stored = Stored {
        version: VERSION,
        pid: exit.pid,
        exit_status: exit.status,
        exited_at: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
    };
    let dir = bundle.join("exit");
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed("make folder"))?;
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(failed("create"))?;
    let text = serde_json::to_vec(&stored).map_err(io::Error::other).map_err(failed("encode"))?;
    file.write_all(&text).map_err(failed("write"))?;
    fs::rename(&fresh, &path).map_err(failed("rename"))
}

/// Reads the exit, or `None` if none was recorded.
///
/// # Errors
/// If it cannot be read, or is not what this version writes.
pub fn read(bundle: &Path, exec_id: Option<&str>) -> Result<Option<Exit>, RecordError> {
    let path = path(bundle, exec_id);
    let failed = |act, source| RecordError { path: path.clone(), act, source };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", e)),
    };
    let stored: Stored = serde_json::from_slice(&text).map_err(|e| failed("decode", io::Error::other(e)))?;
    if stored.version != VERSION {
        return Err(failed("decode", io::Error::other(format!("unknown version {}", stored.version))));
    }
    let at: SystemTime = UNIX_EPOCH + Duration::from_nanos(stored.exited_at);
    Ok(Some(Exit { pid: stored.pid, status: stored.exit_status, at }))
}

/// Removes an exec's record, once it was deleted.
pub fn remove(bundle: &Path, exec_id: &str) {
    let _ = fs::remove_file(path(bundle, Some(exec_id)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_read_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let exit =
            Exit { pid: 7, status: 137, at: UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789) };
        assert_eq!(read(dir.path(), None).unwrap(), None);
        write(dir.path(), None, &exit).unwrap();
        assert_eq!(read(dir.path(), None).unwrap(), Some(exit));
        // an exec may be called init
        assert_eq!(read(dir.path(), Some("init")).unwrap(), None);
        write(dir.path(), Some("init"), &Exit { status: 3, ..exit }).unwrap();
        assert_eq!(read(dir.path(), None).unwrap(), Some(exit));
        remove(dir.path(), "init");
        assert_eq!(read(dir.path(), Some("init")).unwrap(), None);
    }

    #[test]
    fn a_record_of_a_later_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("exit")).unwrap();
        let text = r#"{"version":2,"pid":1,"exit_status":0,"exited_at":0}"#;
        fs::write(dir.path().join("exit/init.json"), text).unwrap();
        assert!(read(dir.path(), None).unwrap_err().to_string().contains("unknown version 2"));
    }
}
