use std::sync::Arc;

use super::*;
use crate::Table;

const PEOPLE: Table<String> = Table::new("people", 2);
const SCHEMA: Schema = Schema { name: "test", version: 3 };

fn open(dir: &tempfile::TempDir) -> Database {
    Database::open(&dir.path().join("t.redb"), SCHEMA).unwrap()
}

#[test]
fn records_come_back_by_key_and_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    assert_eq!(PEOPLE.list(&db.view().unwrap(), &[]).unwrap(), []);
    db.write::<_, StoreError>(|tx| {
        for key in [["b", "x"], ["a", "y"], ["a", "x"], ["ab", "x"]] {
            PEOPLE.put(tx, &key, &key.concat())?;
        }
        Ok(())
    })
    .unwrap();
    let view = db.view().unwrap();
    let under_a: Vec<_> = PEOPLE.list(&view, &["a"]).unwrap().into_iter().map(|(_, v)| v).collect();
    assert_eq!(under_a, ["ax", "ay"]);
    assert_eq!(PEOPLE.get(&view, &["b", "x"]).unwrap().as_deref(), Some("bx"));
    assert!(!PEOPLE.any(&view, &["c"]).unwrap() && PEOPLE.any(&view, &["ab"]).unwrap());
}

#[test]
fn what_is_not_waited_for_is_in_the_file_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    for n in 0..50 {
        let put = |tx: &Write| PEOPLE.put(tx, &["a", &n.to_string()], &"there".into()).map(drop);
        let done: Result<_, StoreError> = if n % 5 == 4 { db.write(put) } else { db.write_ahead(put) };
        done.unwrap();
        // what the process that opens the file finds after this one was killed now
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join("t.redb"), copy.path().join("t.redb")).unwrap();
        let found = PEOPLE.list(&open(&copy).view().unwrap(), &["a"]).unwrap();
        assert_eq!(found.len(), n + 1);
    }
    drop(db);
    assert_eq!(PEOPLE.list(&open(&dir).view().unwrap(), &["a"]).unwrap().len(), 50);
}

#[test]
fn writers_that_wait_and_writers_that_do_not_get_along() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let db = &db;
            scope.spawn(move || {
                for n in 0..20 {
                    let key = format!("{writer}-{n}");
                    let put = |tx: &Write| PEOPLE.put(tx, &["a", &key], &"there".into()).map(drop);
                    let done: Result<_, StoreError> =
                        if writer % 2 == 0 { db.write(put) } else { db.write_ahead(put) };
                    done.unwrap();
                }
            });
        }
    });
    drop(db);
    assert_eq!(PEOPLE.list(&open(&dir).view().unwrap(), &["a"]).unwrap().len(), 160);
}

#[test]
fn a_flush_that_somebody_waits_for_is_never_put_off() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let put_off = || {
        let opened = db.opened().unwrap();
        opened.put_off.count.load(std::sync::atomic::Ordering::Acquire)
    };
    let put = |tx: &Write| -> Result<(), StoreError> { PEOPLE.put(tx, &["a", "b"], &"there".into()) };
    assert_eq!(put_off(), 0, "the schema is waited for");
    db.write_ahead(put).unwrap();
    assert_eq!(put_off(), 1);
    db.write(put).unwrap();
    assert_eq!(put_off(), 1);
    // another's commit that waits for its flush
    let theirs = db.0.group.ticket();
    db.write_ahead(put).unwrap();
    assert_eq!(put_off(), 1);
    db.0.group.wait(theirs, || panic!("it was flushed")).unwrap();
    db.write_ahead(put).unwrap();
    assert_eq!(put_off(), 2);
}

#[test]
fn a_failed_change_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let outcome: Result<(), StoreError> = db.write(|tx| {
        PEOPLE.put(tx, &["a", "b"], &"c".into())?;
        Err(StoreError::Flush(Kind::Internal, "no".into()))
    });
    assert!(outcome.is_err());
    assert!(!PEOPLE.any(&db.view().unwrap(), &[]).unwrap());
    db.write::<_, StoreError>(|tx| PEOPLE.put(tx, &["a", "b"], &"c".into())).unwrap();
}

#[test]
fn everything_written_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(open(&dir));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let db = &db;
            scope.spawn(move || {
                for i in 0..50 {
                    let key = format!("{i:03}");
                    let written = db.write(|tx| {
                        PEOPLE.put(tx, &[&thread.to_string(), &key], &key)?;
                        if i % 10 == 9 {
                            Err(StoreError::Flush(Kind::Internal, "refused".into()))
                        } else {
                            Ok(())
                        }
                    });
                    assert_eq!(written.is_ok(), i % 10 != 9);
                }
            });
        }
    });
    drop(db);
    let db = open(&dir);
    assert_eq!(PEOPLE.keys(&db.view().unwrap(), &[]).unwrap().len(), 8 * 45);
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(&dir);
    let second = Database::open(&dir.path().join("t.redb"), SCHEMA).err().unwrap();
    assert!(matches!(second, StoreError::InUse(_)), "{second}");
}

#[test]
fn a_later_version_and_a_foreign_name_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let path = dir.path().join("t.redb");
    let older = Database::open(&path, Schema { name: "test", version: 2 }).err().unwrap();
    assert!(matches!(older, StoreError::Later { found: 3, known: 2, .. }), "{older}");
    let other = Database::open(&path, Schema { name: "other", version: 9 }).err().unwrap();
    assert!(matches!(other, StoreError::Foreign { .. }), "{other}");
}

#[test]
fn a_truncated_file_is_an_error_and_not_an_empty_database() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    db.write::<_, StoreError>(|tx| PEOPLE.put(tx, &["a", "b"], &"c".repeat(100_000))).unwrap();
    drop(db);
    let path = dir.path().join("t.redb");
    let length = path.metadata().unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
    assert!(Database::open(&path, SCHEMA).is_err());
}

/// A small disk, gone with the value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(options: &std::ffi::CStr) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: run `make test`");
        let dir = tempfile::tempdir().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", dir.path(), "tmpfs", flags, Some(options)).unwrap();
        SmallDisk(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

fn put(db: &Database, key: &str, size: usize) -> Result<(), StoreError> {
    db.write(|tx| PEOPLE.put(tx, &["a", key], &"x".repeat(size)))
}

#[test]
fn root_a_full_disk_fails_writes_only_and_only_while_it_is_full() {
    let disk = SmallDisk::new(c"size=12m");
    let db = open(&disk.0);
    let filler = disk.0.path().join("filler");
    put(&db, "first", 10).unwrap();
    std::fs::write(&filler, vec![0; 7 << 20]).unwrap();
    let mut written = vec!["first".to_owned()];
    let failed = loop {
        let key = format!("{:04}", written.len());
        match put(&db, &key, 100_000) {
            Ok(()) => written.push(key),
            Err(error) => break error,
        }
        assert!(written.len() < 200, "the disk must be full by now");
    };
    assert!(failed.to_string().contains("No space left on device"), "{failed}");
    written.sort();
    let there = || -> Vec<String> {
        let keys = PEOPLE.keys(&db.view().unwrap(), &["a"]).unwrap();
        keys.into_iter().map(|mut key| key.swap_remove(1)).collect()
    };
    // the disk is still full: reading goes on, and removing does
    assert_eq!(there(), written);
    db.write::<_, StoreError>(|tx| PEOPLE.remove(tx, &["a", "first"])).unwrap();
    written.retain(|key| key != "first");
    assert_eq!(there(), written);
    std::fs::remove_file(&filler).unwrap();
    put(&db, "last", 1 << 20).unwrap();
    written.push("last".into());
    assert_eq!(there(), written);
    drop(db);
    let db = open(&disk.0);
    assert_eq!(PEOPLE.keys(&db.view().unwrap(), &["a"]).unwrap().len(), written.len());
}

#[test]
fn root_writers_on_a_filling_disk_are_told_the_truth() {
    let disk = SmallDisk::new(c"size=6m");
    let db = open(&disk.0);
    let written = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (db, written) = (&db, &written);
            scope.spawn(move || {
                for i in 0..40 {
                    let key = format!("{thread}-{i:03}");
                    if put(db, &key, 60_000).is_ok() {
                        written.lock().unwrap().push(key);
                    }
                }
            });
        }
    });
    let mut written = written.into_inner().unwrap();
    assert!(!written.is_empty() && written.len() < 240, "{}", written.len());
    written.sort();
    let check = |db: &Database| {
        let view = db.view().unwrap();
        for key in &written {
            assert_eq!(PEOPLE.get(&view, &["a", key]).unwrap().map(|v| v.len()), Some(60_000), "{key}");
        }
    };
    check(&db);
    drop(db);
    check(&open(&disk.0));
}
