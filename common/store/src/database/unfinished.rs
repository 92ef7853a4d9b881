//! A database file whose creation was broken off.
//!
//! redb makes room first, writes its header without the mark, and last the mark, the file's first bytes. A process that is
//! killed in between leaves a file without the mark, in which nothing was ever recorded and which redb refuses as foreign
//! ever after. A mark that is lost later, such as with the disk's first block, looks the same: there are records then.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The length of redb's mark.
const MARK: usize = 9;
/// The length of redb's header, the mark included: all that is written before the mark is.
const HEADER: u64 = 320;
/// How much of the file is looked at at once.
const PIECE: usize = 16 << 10;

/// Empties the file if its creation was broken off and no process has it open as a database.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    clear_file(&file)
}

fn clear_file(file: &File) -> io::Result<()> {
    // redb holds the same lock as long as the file is open: who is at its creation has it
    if file.metadata()?.len() == 0 || flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    let cleared = match is_unfinished(file) {
        Ok(true) => file.set_len(0),
        other => other.map(drop),
    };
    // closing may not do: a process forked just now has the open file too, until it executes its program
    flock(file, FlockOperation::Unlock)?;
    cleared
}

/// Whether nothing but a header without its mark was ever written.
fn is_unfinished(file: &File) -> io::Result<bool> {
    let mut mark = [0; MARK];
    let read = file.read_at(&mut mark, 0)?;
    if mark[..read].iter().any(|byte| *byte != 0) {
        return Ok(false);
    }
    let (mut piece, mut at) = (vec![0; PIECE], HEADER);
    loop {
        let read = file.read_at(&mut piece, at)?;
        if read == 0 {
            return Ok(true);
        }
        if piece[..read].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Database, Schema, StoreError};

    const SCHEMA: Schema = Schema { name: "test", version: 1 };

    #[test]
    fn a_header_without_its_mark_then_zeros_becomes_a_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.redb");
        for length in [1, 8, 319, 320, 321, 4096, 1 << 20] {
            File::create(&path).unwrap().set_len(length).unwrap();
            drop(Database::open(&path, SCHEMA).unwrap());
            // the header that redb itself wrote, as long as there is room for it
            let header = fs::read(&path).unwrap()[MARK..HEADER as usize].to_vec();
            let header = &header[..header.len().min((length as usize).saturating_sub(MARK))];
            let file = File::create(&path).unwrap();
            file.set_len(length).unwrap();
            file.write_all_at(header, MARK as u64).unwrap();
            drop(Database::open(&path, SCHEMA).unwrap());
            drop(Database::open(&path, SCHEMA).unwrap());
        }
    }

    #[test]
    fn a_database_that_lost_its_mark_is_refused_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.redb");
        for lost in [MARK, HEADER as usize, 4096] {
            let _ = fs::remove_file(&path);
            drop(Database::open(&path, SCHEMA).unwrap());
            OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&vec![0; lost], 0).unwrap();
            let before = fs::read(&path).unwrap();
            assert!(matches!(Database::open(&path, SCHEMA), Err(StoreError::Open { .. })));
            assert!(fs::read(&path).unwrap() == before, "{lost} bytes lost");
        }
    }

    #[test]
    fn the_lock_does_not_outlast_the_look() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.redb");
        drop(Database::open(&path, SCHEMA).unwrap());
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        // as a child that was forked meanwhile has it
        let _shared = file.try_clone().unwrap();
        clear_file(&file).unwrap();
        drop(file);
        drop(Database::open(&path, SCHEMA).unwrap());
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
