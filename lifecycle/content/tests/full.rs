//! A full disk, wherever something is written: a clear error, nothing half recorded, and work that goes on as soon as
//! there is room, also in a daemon that started while there was none.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifecycle_content::{ContentStore, WriteOptions};
use lifecycle_metadata::{Collector, Metadata, Reclaim, Schedule, Scope};
use lifecycle_snapshots::{Limits, Snapshotter, apply_layer};
use rustix::mount::{MountFlags, MountPropagationFlags};
use wharf_kinds::Kind;
use wharf_sys::namespace::{Namespaces, unshare};
use wharf_vocab::{Algorithm, Digest, Labels};

/// A small disk of this thread's own.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn new(megabytes: u64) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        unshare(Namespaces::MOUNT).unwrap();
        let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", flags).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={megabytes}m,mode=700")).unwrap();
        rustix::mount::mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(&*options)).unwrap();
        Disk { dir }
    }

    fn ballast(&self) -> PathBuf {
        self.dir.path().join("ballast")
    }

    /// Leaves so many bytes free.
    fn fill(&self, leave: u64) {
        let mut file = File::create(self.ballast()).unwrap();
        let block = [1; 4096];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::StorageFull => break,
                Err(e) => panic!("{e}"),
            }
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(leave)).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.dir.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

struct Stores {
    root: PathBuf,
    content: ContentStore,
    snapshotter: Snapshotter,
    collector: Collector,
}

fn open(disk: &Disk) -> Stores {
    let root = disk.dir.path().to_path_buf();
    let metadata = Metadata::open(&root).unwrap();
    let content = ContentStore::open(&root.join("content"), metadata.clone()).unwrap();
    let snapshotter = Snapshotter::open(&root.join("s"), metadata.clone()).unwrap();
    let stores: Vec<Arc<dyn Reclaim>> = vec![Arc::new(content.clone()), Arc::new(snapshotter.clone())];
    let collector = Collector::start(metadata, stores, Schedule::default(), |_| ()).unwrap();
    Stores { root, content, snapshotter, collector }
}

fn scope() -> Scope {
    Scope::new("default", None)
}

fn root_label() -> Labels {
    Labels::from([("containerd.io/gc.root".to_owned(), "yes".to_owned())])
}

/// More bytes than fit into a record's page, and each number's own.
fn bytes(number: u64) -> Vec<u8> {
    (0..10_000u64).map(|n| (n * 31 + number) as u8).chain(number.to_le_bytes()).collect()
}

impl Stores {
    fn put(&self, number: u64, labels: Labels) -> Result<Digest, Kind> {
        let reference = format!("r{number}");
        let bytes = bytes(number);
        let digest = Digest::sha256(&bytes);
        let options =
            WriteOptions { reference: &reference, total: bytes.len() as u64, expected: Some(&digest) };
        let mut writer = self.content.writer(&scope(), &options).map_err(|e| e.kind())?;
        let offset = writer.progress().offset as usize;
        writer.write(&bytes[offset..]).map_err(|e| e.kind())?;
        writer.commit(bytes.len() as u64, Some(&digest), labels).map_err(|e| e.kind())?;
        Ok(digest)
    }

    /// Every record has its file and, once the collector has looked, every file its record.
    fn check(&self) {
        self.collector.collect().unwrap();
        let names = |path: &str| -> BTreeSet<String> {
            let all = fs::read_dir(self.root.join(path)).unwrap();
            all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let mut blobs = BTreeSet::new();
        for info in self.content.list(&scope(), &[]).unwrap() {
            let file = self.root.join("content/blobs/sha256").join(info.digest.hex());
            assert_eq!(Digest::sha256(&fs::read(file).unwrap()), info.digest);
            blobs.insert(info.digest.hex().to_owned());
        }
        assert_eq!(names("content/blobs/sha256"), blobs);
        let snapshots = self.snapshotter.list(&scope(), &[]).unwrap();
        assert_eq!(names("s"), snapshots.iter().map(|info| info.record.id.to_string()).collect());
    }
}

#[test]
fn root_bytes_that_do_not_fit_are_taken_back() {
    let disk = Disk::new(16);
    let stores = open(&disk);
    let bytes = vec![7; 1 << 20];
    let options = WriteOptions { reference: "r", ..WriteOptions::default() };
    let mut writer = stores.content.writer(&scope(), &options).unwrap();
    writer.write(&bytes[..5000]).unwrap();
    disk.fill(200 << 10);
    let error = writer.write(&bytes[5000..]).expect_err("there is no room");
    assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");
    assert!(error.to_string().contains("No space left"), "{error}");
    assert_eq!(writer.progress().offset, 5000);
    assert_eq!(
        stores.content.status(&scope(), "r").unwrap().offset,
        5000,
        "what was written in part is gone"
    );
    // the same writer goes on
    disk.free();
    writer.write(&bytes[5000..]).unwrap();
    let digest = Digest::sha256(&bytes);
    writer.commit(1 << 20, Some(&digest), root_label()).unwrap();
    stores.check();
    assert_eq!(stores.content.reader(&scope(), &digest).unwrap().size(), 1 << 20);
}

#[test]
fn root_a_blob_is_stored_whole_or_not_at_all_however_little_room_there_is() {
    let disk = Disk::new(16);
    let stores = open(&disk);
    let (mut refused, mut number) = (0, 0);
    for leave in [0, 4 << 10, 8 << 10, 12 << 10, 16 << 10, 24 << 10, 32 << 10, 64 << 10, 128 << 10] {
        disk.fill(leave);
        // until it is full whatever there was at first
        let failed = loop {
            number += 1;
            match stores.put(number, root_label()) {
                Ok(_) => assert!(number < 5_000, "the disk is never full"),
                Err(kind) => break kind,
            }
        };
        assert_eq!(failed, Kind::ResourceExhausted, "with {leave} bytes left");
        refused += 1;
        let missing = Digest::sha256(&bytes(number));
        let told = stores.content.info(&scope(), &missing).expect_err("it was refused");
        assert_eq!(told.kind(), Kind::NotFound);
        // a full disk can still be read, and room be made on it
        stores.check();
        let some = stores.content.list(&scope(), &[]).unwrap().pop();
        if let Some(some) = some {
            stores.content.delete(&scope(), &some.digest).unwrap();
            stores.check();
            assert!(!stores.root.join("content/blobs/sha256").join(some.digest.hex()).exists());
        }
        disk.free();
        stores.put(number, root_label()).unwrap();
        stores.check();
    }
    assert_eq!(refused, 9);
}

#[test]
fn root_records_that_do_not_fit_leave_everything_as_it_was() {
    let disk = Disk::new(16);
    let stores = open(&disk);
    let digest = stores.put(1, root_label()).unwrap();
    stores.snapshotter.prepare(&scope(), "active", "", root_label()).unwrap();
    disk.fill(0);
    // labels grow until the database has to
    let value = "v".repeat(4_000);
    let mut labels = root_label();
    let failed = loop {
        labels.insert(format!("k{}", labels.len()), value.clone());
        match stores.content.update(&scope(), &digest, &labels, &[]) {
            Ok(_) => assert!(labels.len() < 10_000, "the database never grows"),
            Err(e) => break e,
        }
    };
    assert_eq!(failed.kind(), Kind::ResourceExhausted, "{failed}");
    assert!(failed.to_string().contains("No space left"), "{failed}");
    let before = labels.len() - 1;
    assert_eq!(stores.content.info(&scope(), &digest).unwrap().labels.len(), before);
    // a snapshot that cannot be recorded is none, and a commit that cannot be recorded leaves an active one
    let heavy = || labels.clone();
    let error = stores.snapshotter.prepare(&scope(), "new", "", heavy()).expect_err("no room");
    assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");
    let error = stores.snapshotter.commit(&scope(), "layer", "active", "", heavy()).expect_err("no room");
    assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");
    assert!(stores.snapshotter.mounts(&scope(), "active").is_ok());
    stores.check();
    // as would a daemon that starts now
    drop(stores);
    let stores = open(&disk);
    assert_eq!(stores.content.info(&scope(), &digest).unwrap().labels.len(), before);
    stores.check();
    disk.free();
    stores.snapshotter.commit(&scope(), "layer", "active", "", heavy()).unwrap();
    stores.snapshotter.prepare(&scope(), "new", "layer", heavy()).unwrap();
    assert_eq!(stores.content.update(&scope(), &digest, &labels, &[]).unwrap().labels.len(), before + 1);
    stores.check();
}

/// A layer with one large file among small ones.
fn layer() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for n in 0..50 {
        let data = if n == 25 { vec![3; 6 << 20] } else { vec![n; 100] };
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, format!("dir{n}/file"), data.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn root_a_layer_that_does_not_fit_leaves_nothing() {
    let disk = Disk::new(16);
    let stores = open(&disk);
    let layer = layer();
    let base = stores.snapshotter.begin_layer(&scope(), "base", "", root_label()).unwrap();
    drop(base);
    disk.fill(2 << 20);
    let mut failing = stores.snapshotter.begin_layer(&scope(), "a", "", root_label()).unwrap();
    let error = failing.unpack(layer.as_slice(), Algorithm::Sha256, Limits::default()).expect_err("no room");
    assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");
    drop(failing);
    assert!(stores.snapshotter.list(&scope(), &[]).unwrap().is_empty());
    // as containerd's clients do it
    let mounts = stores.snapshotter.prepare(&scope(), "b", "", root_label()).unwrap();
    let error = apply_layer(layer.as_slice(), &mounts, Algorithm::Sha256, true).expect_err("no room");
    assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");
    stores.snapshotter.remove(&scope(), "b").unwrap();
    stores.check();
    assert_eq!(fs::read_dir(stores.root.join("s")).unwrap().count(), 0);
    disk.free();
    let mut again = stores.snapshotter.begin_layer(&scope(), "a", "", root_label()).unwrap();
    again.unpack(layer.as_slice(), Algorithm::Sha256, Limits::default()).unwrap();
    again.commit("chain", "", root_label()).unwrap();
    let id = stores.snapshotter.stat(&scope(), "chain").unwrap().record.id;
    let file = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!(file(&stores.root.join(format!("s/{id}/fs/dir25/file"))), 6 << 20);
    stores.check();
}
