use std::path::Path;

use lifecycle_metadata::{Collector, Metadata, Reclaim as _, Scope};
use wharf_kinds::Kind;
use wharf_vocab::{Algorithm, Digest, Labels};

use super::*;

struct Place {
    dir: tempfile::TempDir,
    store: ContentStore,
    metadata: Metadata,
}

fn open(root: &Path) -> (ContentStore, Metadata) {
    let metadata = Metadata::open(root).unwrap();
    (ContentStore::open(&root.join("content"), metadata.clone()).unwrap(), metadata)
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (store, metadata) = open(dir.path());
    Place { dir, store, metadata }
}

fn scope() -> Scope {
    Scope::new("default", None)
}

fn options(reference: &str) -> WriteOptions<'_> {
    WriteOptions { reference, ..WriteOptions::default() }
}

fn add(store: &ContentStore, scope: &Scope, data: &[u8]) -> Digest {
    let mut writer = store.writer(scope, &options("add")).unwrap();
    writer.write(data).unwrap();
    writer.commit(data.len() as u64, None, Labels::new()).unwrap().digest
}

fn kind<T>(outcome: Result<T, ContentError>) -> Kind {
    outcome.err().expect("it is refused").kind()
}

#[test]
fn a_committed_blob_reads_back_whole_and_in_part() {
    let p = place();
    let digest = add(&p.store, &scope(), b"hello world");
    assert_eq!(digest, Digest::sha256(b"hello world"));
    let reader = p.store.reader(&scope(), &digest).unwrap();
    let mut buffer = [0; 5];
    assert_eq!((reader.size(), reader.read_at(&mut buffer, 6).unwrap()), (11, 5));
    assert_eq!(&buffer, b"world");
    assert_eq!(reader.read_at(&mut buffer, 9).unwrap(), 2);
    assert_eq!(reader.read_at(&mut buffer, 11).unwrap(), 0);
    assert_eq!(reader.read_at(&mut buffer, u64::MAX).unwrap(), 0);
}

#[test]
fn a_blob_is_not_visible_before_its_commit() {
    let p = place();
    let mut writer = p.store.writer(&scope(), &options("r")).unwrap();
    writer.write(b"x").unwrap();
    let digest = writer.digest();
    assert_eq!(kind(p.store.info(&scope(), &digest)), Kind::NotFound);
    writer.commit(1, Some(&digest), Labels::new()).unwrap();
    assert_eq!(p.store.info(&scope(), &digest).unwrap().size, 1);
    assert_eq!(kind(p.store.status(&scope(), "r")), Kind::NotFound, "the ingest is over");
}

#[test]
fn wrong_size_and_wrong_digest_are_refused_and_the_ingest_stays() {
    let p = place();
    let mut writer = p.store.writer(&scope(), &options("r")).unwrap();
    writer.write(b"four").unwrap();
    let outcome = writer.commit(5, None, Labels::new());
    assert_eq!(outcome.unwrap_err().to_string(), "unexpected commit size 4, expected 5: failed precondition");
    let writer = p.store.writer(&scope(), &options("r")).unwrap();
    assert_eq!(writer.progress().offset, 4, "taken up where it was left");
    let other = Digest::sha256(b"other");
    assert_eq!(kind(writer.commit(0, Some(&other), Labels::new())), Kind::FailedPrecondition);
    assert_eq!(p.store.status(&scope(), "r").unwrap().offset, 4);
}

#[test]
fn an_ingest_is_taken_up_after_a_restart() {
    let p = place();
    let mut writer = p.store.writer(&scope(), &WriteOptions { total: 6, ..options("r") }).unwrap();
    writer.write(b"one").unwrap();
    drop(writer);
    let Place { dir, store, metadata } = p;
    drop((store, metadata));
    let (store, _) = open(dir.path());
    let mut writer = store.writer(&scope(), &options("r")).unwrap();
    assert_eq!((writer.progress().offset, writer.progress().total), (3, 6));
    writer.write(b"two").unwrap();
    let info = writer.commit(6, None, Labels::new()).unwrap();
    assert_eq!(info.digest, Digest::sha256(b"onetwo"));
}

#[test]
fn only_one_writer_is_at_an_ingest() {
    let p = place();
    let first = p.store.writer(&scope(), &options("r")).unwrap();
    assert_eq!(kind(p.store.writer(&scope(), &options("r"))), Kind::Unavailable);
    p.store.writer(&Scope::new("other", None), &options("r")).unwrap();
    drop(first);
    p.store.writer(&scope(), &options("r")).unwrap();
}

#[test]
fn writing_beyond_the_announced_size_is_refused() {
    let p = place();
    let mut writer = p.store.writer(&scope(), &WriteOptions { total: 3, ..options("r") }).unwrap();
    writer.write(b"abc").unwrap();
    assert_eq!(kind(writer.write(b"d")), Kind::OutOfRange);
    assert_eq!(writer.progress().offset, 3);
    writer.commit(3, None, Labels::new()).unwrap();
}

#[test]
fn truncating_starts_over() {
    let p = place();
    let mut writer = p.store.writer(&scope(), &options("r")).unwrap();
    writer.write(b"wrong").unwrap();
    assert_eq!(kind(writer.truncate(9)), Kind::OutOfRange);
    writer.truncate(0).unwrap();
    writer.write(b"right").unwrap();
    assert_eq!(writer.commit(5, None, Labels::new()).unwrap().digest, Digest::sha256(b"right"));
}

#[test]
fn a_blob_that_exists_is_refused_early_and_late() {
    let p = place();
    let digest = add(&p.store, &scope(), b"x");
    let early = p.store.writer(&scope(), &WriteOptions { expected: Some(&digest), ..options("r") });
    assert_eq!(early.err().unwrap().to_string(), format!("content {digest}: already exists"));
    let mut writer = p.store.writer(&scope(), &options("r")).unwrap();
    writer.write(b"x").unwrap();
    assert_eq!(kind(writer.commit(1, None, Labels::new())), Kind::AlreadyExists);
    assert!(p.store.statuses(&scope(), &[]).unwrap().is_empty());
    assert_eq!(std::fs::read_dir(p.dir.path().join("content/ingest")).unwrap().count(), 0);
}

#[test]
fn another_namespace_takes_a_blob_over_without_its_bytes() {
    let p = place();
    let digest = add(&p.store, &scope(), b"shared");
    let other = Scope::new("other", None);
    assert_eq!(kind(p.store.info(&other, &digest)), Kind::NotFound);
    let expecting = || WriteOptions { expected: Some(&digest), ..options("r") };
    let mut writer = p.store.writer(&other, &expecting()).unwrap();
    assert_eq!((writer.progress().offset, writer.digest()), (6, digest.clone()));
    // a client that starts over sends the bytes after all
    writer.truncate(2).unwrap();
    writer.write(b"ared").unwrap();
    writer.commit(6, Some(&digest), Labels::new()).unwrap();
    let third = Scope::new("third", None);
    p.store.writer(&third, &expecting()).unwrap().commit(6, Some(&digest), Labels::new()).unwrap();
    for scope in [&other, &third] {
        assert_eq!(p.store.reader(scope, &digest).unwrap().size(), 6);
    }
}

#[test]
fn sha512_is_verified_and_stored() {
    let p = place();
    let digest = Digest::of(Algorithm::Sha512, b"x");
    let mut writer = p.store.writer(&scope(), &options("r")).unwrap();
    writer.write(b"x").unwrap();
    assert_eq!(writer.commit(0, Some(&digest), Labels::new()).unwrap().digest, digest);
    assert_eq!(p.store.reader(&scope(), &digest).unwrap().size(), 1);
}

#[test]
fn labels_are_set_replaced_and_removed() {
    let p = place();
    let digest = add(&p.store, &scope(), b"x");
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let update = |wanted: &Labels, mask: &[&str]| {
        let mask: Vec<String> = mask.iter().map(|m| (*m).to_owned()).collect();
        p.store.update(&scope(), &digest, wanted, &mask).map(|info| info.labels)
    };
    assert_eq!(update(&labels(&[("a", "1"), ("b", "2")]), &[]).unwrap().len(), 2);
    assert_eq!(update(&labels(&[("a", "3")]), &["labels.a"]).unwrap(), labels(&[("a", "3"), ("b", "2")]));
    assert_eq!(update(&labels(&[]), &["labels.b"]).unwrap(), labels(&[("a", "3")]));
    assert_eq!(kind(update(&labels(&[]), &["size"])), Kind::InvalidArgument);
    assert_eq!(kind(update(&labels(&[("k", &"v".repeat(5000))]), &[])), Kind::InvalidArgument);
    let found = p.store.list(&scope(), &["labels.a==3".into()]).unwrap();
    assert_eq!(found.len(), 1);
    assert!(p.store.list(&scope(), &["labels.a==4".into()]).unwrap().is_empty());
}

#[test]
fn abort_forgets_an_ingest_and_its_bytes() {
    let p = place();
    let mut writer = p.store.writer(&scope(), &options("r")).unwrap();
    writer.write(b"x").unwrap();
    drop(writer);
    p.store.abort(&scope(), "r").unwrap();
    assert_eq!(kind(p.store.abort(&scope(), "r")), Kind::NotFound);
    assert_eq!(p.store.writer(&scope(), &options("r")).unwrap().progress().offset, 0);
}

#[test]
fn bytes_without_a_record_are_swept() {
    let p = place();
    let kept = add(&p.store, &scope(), b"kept");
    let lost = Digest::sha256(b"lost");
    let blobs = p.dir.path().join("content/blobs/sha256");
    std::fs::write(blobs.join(lost.hex()), "lost").unwrap();
    std::fs::write(p.dir.path().join("content/ingest/77"), "half").unwrap();
    assert_eq!(p.store.reclaim().unwrap(), 2);
    assert!(blobs.join(kept.hex()).exists() && !blobs.join(lost.hex()).exists());
}

#[test]
fn what_a_lease_holds_stays_and_goes_with_it() {
    let p = place();
    let leased = Scope::new("default", Some("l".into()));
    assert_eq!(kind(p.store.writer(&leased, &options("r"))), Kind::NotFound, "there is no such lease yet");
    p.metadata.leases().create(&scope(), "l", Labels::new()).unwrap();
    let digest = add(&p.store, &leased, b"leased");
    let loose = add(&p.store, &scope(), b"loose");
    let stores: Vec<std::sync::Arc<dyn lifecycle_metadata::Reclaim>> =
        vec![std::sync::Arc::new(p.store.clone())];
    let collector =
        Collector::start(p.metadata.clone(), stores, lifecycle_metadata::Schedule::default(), |_| ())
            .unwrap();
    collector.collect().unwrap();
    assert_eq!(kind(p.store.info(&scope(), &loose)), Kind::NotFound);
    assert_eq!(p.store.reader(&scope(), &digest).unwrap().size(), 6);
    p.metadata.leases().delete(&scope(), "l").unwrap();
    collector.collect().unwrap();
    assert_eq!(kind(p.store.reader(&scope(), &digest)), Kind::NotFound);
    assert_eq!(std::fs::read_dir(p.dir.path().join("content/blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn many_writers_and_the_collector_lose_nothing() {
    let p = place();
    p.metadata.leases().create(&scope(), "l", Labels::new()).unwrap();
    let stores: Vec<std::sync::Arc<dyn lifecycle_metadata::Reclaim>> =
        vec![std::sync::Arc::new(p.store.clone())];
    let collector =
        Collector::start(p.metadata.clone(), stores, lifecycle_metadata::Schedule::default(), |_| ())
            .unwrap();
    std::thread::scope(|threads| {
        for thread in 0..4u8 {
            let (store, collector) = (&p.store, &collector);
            threads.spawn(move || {
                let scope = Scope::new("default", Some("l".into()));
                for i in 0..20u8 {
                    let reference = format!("{thread}-{i}");
                    let mut writer = store.writer(&scope, &options(&reference)).unwrap();
                    writer.write(&[thread, i]).unwrap();
                    let digest = writer.commit(2, None, Labels::new()).unwrap().digest;
                    if i % 5 == 0 {
                        collector.collect().unwrap();
                    }
                    assert_eq!(store.reader(&scope, &digest).unwrap().size(), 2);
                }
            });
        }
    });
    assert_eq!(p.store.list(&scope(), &[]).unwrap().len(), 80);
}

#[test]
fn what_is_appended_to_a_shared_blob_makes_another_one() {
    let p = place();
    let digest = add(&p.store, &scope(), b"base");
    let other = Scope::new("other", None);
    let options = WriteOptions { reference: "r", total: 4, expected: Some(&digest) };
    let refused = p.store.writer(&other, &options).unwrap().write(b"+more");
    assert_eq!(kind(refused), Kind::OutOfRange, "an announced size is a limit unless it is said to be none");
    let mut writer = p.store.writer(&other, &options).unwrap().unlimited();
    assert_eq!(writer.progress().offset, 4);
    writer.write(b"+more").unwrap();
    let longer = Digest::sha256(b"base+more");
    writer.commit(9, Some(&longer), Labels::new()).unwrap();
    let mut buffer = [0; 9];
    p.store.reader(&other, &longer).unwrap().read_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"base+more");
    assert_eq!(p.store.reader(&scope(), &digest).unwrap().size(), 4, "the first is as it was");
    assert_eq!(kind(p.store.info(&other, &digest)), Kind::NotFound);
}

#[test]
fn isolated_namespaces_bring_their_own_bytes() {
    let p = place();
    let store = p.store.clone().isolated(true);
    let digest = add(&store, &scope(), b"secret");
    let other = Scope::new("other", None);
    let options = WriteOptions { reference: "r", total: 6, expected: Some(&digest) };
    let writer = store.writer(&other, &options).unwrap();
    assert_eq!(writer.progress().offset, 0);
    let outcome = writer.commit(6, Some(&digest), Labels::new());
    assert_eq!(kind(outcome), Kind::FailedPrecondition, "knowing the digest gives nobody the bytes");
    let mut writer = store.writer(&other, &options).unwrap();
    writer.write(b"secret").unwrap();
    writer.commit(6, Some(&digest), Labels::new()).unwrap();
    // a namespace that shares
    let labels = Labels::from([("containerd.io/namespace.shareable".to_owned(), "true".to_owned())]);
    p.metadata.namespaces().create("public", labels).unwrap();
    let public = add(&store, &Scope::new("public", None), b"known");
    let options = WriteOptions { reference: "s", total: 5, expected: Some(&public) };
    assert_eq!(store.writer(&other, &options).unwrap().progress().offset, 5);
}

#[test]
fn a_writer_tells_of_the_last_write_of_the_one_before() {
    let p = place();
    let mut writer = p.store.writer(&scope(), &options("r")).unwrap();
    writer.write(b"x").unwrap();
    let before = writer.progress();
    drop(writer);
    assert_eq!(p.store.writer(&scope(), &options("r")).unwrap().progress(), before);
    assert_eq!(p.store.status(&scope(), "r").unwrap().updated, before.updated);
}
