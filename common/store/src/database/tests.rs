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
fn a_failed_change_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let outcome: Result<(), StoreError> = db.write(|tx| {
        PEOPLE.put(tx, &["a", "b"], &"c".into())?;
        Err(StoreError::Flush("no".into()))
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
                        if i % 10 == 9 { Err(StoreError::Flush("refused".into())) } else { Ok(()) }
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
