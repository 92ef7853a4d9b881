//! A database file whose creation was broken off.
//!
//! redb makes room first and writes its mark, the file's first bytes, last. A process that is killed in between leaves a
//! file without the mark, in which nothing was ever recorded and which redb refuses as foreign ever after.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The length of redb's mark.
const MARK: usize = 9;

/// Empties the file if its first bytes are not written yet and no process has it open as a database.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    // redb holds the same lock as long as the file is open: who is at its creation has it
    if file.metadata()?.len() == 0 || flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    let mut mark = [0; MARK];
    let read = file.read_at(&mut mark, 0)?;
    if mark[..read].iter().all(|byte| *byte == 0) {
        file.set_len(0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::{Database, Schema, StoreError};

    const SCHEMA: Schema = Schema { name: "test", version: 1 };

    #[test]
    fn a_file_without_its_mark_becomes_a_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.redb");
        for length in [1, 8, 4096, 1 << 20] {
            File::create(&path).unwrap().set_len(length).unwrap();
            drop(Database::open(&path, SCHEMA).unwrap());
            // everything but the mark
            OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0; MARK], 0).unwrap();
            drop(Database::open(&path, SCHEMA).unwrap());
            drop(Database::open(&path, SCHEMA).unwrap());
        }
    }

    #[test]
    fn a_file_of_others_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.redb");
        fs::write(&path, b"\0\0\0\0\0\0\0\0not a database").unwrap();
        assert!(matches!(Database::open(&path, SCHEMA), Err(StoreError::Open { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"\0\0\0\0\0\0\0\0not a database");
    }

    #[test]
    fn a_database_that_is_open_is_not_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.redb");
        let open = Database::open(&path, SCHEMA).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        file.write_all_at(&[0; MARK], 0).unwrap();
        let length = file.metadata().unwrap().len();
        clear(&path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), length);
        drop(open);
    }
}
