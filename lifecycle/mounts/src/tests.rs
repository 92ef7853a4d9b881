mod erofs;

use std::fs;
use std::path::{Path, PathBuf};

use lifecycle_metadata::{Collector, Metadata, MountSpec, Schedule, Scope};
use wharf_kinds::Kind;
use wharf_vocab::Labels;

use super::*;

struct Place {
    dir: tempfile::TempDir,
    metadata: Metadata,
    mounts: Mounts,
}

impl Place {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test mounts: run it as root");
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(dir.path()).unwrap();
        let mounts = open(dir.path(), &metadata);
        Place { dir, metadata, mounts }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As if the daemon had been killed and started again.
    fn restart(&mut self) {
        self.mounts = open(self.dir.path(), &self.metadata);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.metadata.activations().retain(|_| false);
        let _ = self.mounts.sweep();
    }
}

fn open(dir: &Path, metadata: &Metadata) -> Mounts {
    Mounts::open(&dir.join("t"), &[dir.to_path_buf()], metadata.clone()).unwrap()
}

fn scope() -> Scope {
    Scope::new("default", None)
}

fn mount(kind: &str, source: &str, options: &[&str]) -> MountSpec {
    let options = options.iter().map(|o| (*o).to_owned()).collect();
    MountSpec { kind: kind.into(), source: source.into(), target: String::new(), options }
}

fn request(mounts: Vec<MountSpec>) -> Request {
    Request { mounts, ..Request::default() }
}

/// A mount point of which there is one in this process's table.
fn is_mounted(path: &str) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == Some(path))
}

fn count_below(path: &Path) -> usize {
    let path = fs::canonicalize(path).unwrap();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .filter(|line| line.split(' ').nth(4).is_some_and(|p| Path::new(p).starts_with(&path)))
        .count()
}

/// Loop devices that have a file below `path`.
fn devices_below(path: &Path) -> usize {
    let path = fs::canonicalize(path).unwrap();
    let files = fs::read_dir("/sys/block")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("loop/backing_file")).ok());
    files.filter(|file| Path::new(file.trim()).starts_with(&path)).count()
}

fn kind<T>(outcome: Result<T, ActivateError>) -> Kind {
    outcome.err().expect("it is refused").kind()
}

#[test]
fn root_plain_mounts_are_left_to_the_caller() {
    let p = Place::new();
    let outcome = p.mounts.activate(&scope(), "a", request(vec![mount("bind", "/", &["rbind"])]));
    assert_eq!(kind(outcome), Kind::Unimplemented);
    assert!(p.mounts.list(&scope(), &[]).unwrap().is_empty());
}

#[test]
fn root_an_overlay_of_earlier_mounts_is_formatted() {
    let p = Place::new();
    let (dir, layer) = (p.dir.path().display().to_string(), p.path("layer"));
    fs::create_dir(&layer).unwrap();
    fs::write(layer.join("file"), "below").unwrap();
    let upper = "X-containerd.mkdir.path={{ mount 0 }}/upper:0755";
    let work = "X-containerd.mkdir.path={{ mount 0 }}/work:0755";
    let mounts = vec![
        mount("tmpfs", "tmpfs", &["size=1m"]),
        mount("bind", &layer.display().to_string(), &["ro", "bind"]),
        mount(
            "format/mkdir/overlay",
            "overlay",
            &[
                upper,
                work,
                "upperdir={{ mount 0 }}/upper",
                "workdir={{ mount 0 }}/work",
                "lowerdir={{ overlay 1 1 }}",
            ],
        ),
    ];
    let record = p.mounts.activate(&scope(), "a", request(mounts)).unwrap();
    let points: Vec<&str> = record.active.iter().map(|one| one.point.as_str()).collect();
    assert_eq!(points.len(), 2);
    assert!(points.iter().all(|point| is_mounted(point)));
    let [system] = record.system.as_slice() else { panic!("{record:?}") };
    assert_eq!(system.kind, "overlay");
    assert_eq!(
        system.options,
        [
            format!("upperdir={}/upper", points[0]),
            format!("workdir={}/work", points[0]),
            format!("lowerdir={}", points[1]),
        ]
    );
    // what was promised can be mounted
    let at = p.path("at");
    fs::create_dir(&at).unwrap();
    let MountSpec { kind, source, target, options } = system.clone();
    let planned = wharf_mounts::plan(&[wharf_mounts::Mount { kind, source, target, options }]).unwrap();
    wharf_mounts::execute(&planned, &at).unwrap();
    assert_eq!(fs::read_to_string(at.join("file")).unwrap(), "below");
    wharf_mounts::unmount_all(&at).unwrap();
    assert_eq!(p.mounts.info(&scope(), "a").unwrap(), record);
    p.mounts.deactivate(&scope(), "a").unwrap();
    assert_eq!(count_below(Path::new(&dir)), 0);
    assert_eq!(fs::read_dir(p.path("t")).unwrap().count(), 1, "only the file that tells the boot");
    let gone = p.mounts.deactivate(&scope(), "a");
    assert_eq!(gone.err().unwrap().kind(), Kind::NotFound);
}

#[test]
fn root_a_file_system_is_made_on_a_loop_device_and_bound() {
    let p = Place::new();
    let image = p.path("image").display().to_string();
    let mut wanted = request(vec![
        mount("mkfs/loop", &image, &["X-containerd.mkfs.size=8m", "X-containerd.mkfs.fs=ext4"]),
        mount("format/ext4", "{{ mount 0 }}", &[]),
    ]);
    wanted.temporary = true;
    let record = p.mounts.activate(&scope(), "a", wanted).unwrap();
    assert!(fs::symlink_metadata(&record.active[0].point).unwrap().is_symlink());
    assert_eq!(devices_below(p.dir.path()), 1);
    assert!(is_mounted(&record.active[1].point));
    fs::write(Path::new(&record.active[1].point).join("file"), "kept").unwrap();
    let system = mount("bind", &record.active[1].point, &["rbind"]);
    assert_eq!(record.system, [system]);
    p.mounts.deactivate(&scope(), "a").unwrap();
    assert_eq!((count_below(p.dir.path()), devices_below(p.dir.path())), (0, 0));
    // the same file again, with what was written, as the kernel attaches it for one mount
    let mut again = request(vec![mount("ext4", &image, &["loop", "ro"])]);
    again.temporary = true;
    let record = p.mounts.activate(&scope(), "b", again).unwrap();
    let file = Path::new(&record.active[0].point).join("file");
    assert_eq!(fs::read_to_string(file).unwrap(), "kept");
    p.mounts.deactivate(&scope(), "b").unwrap();
    assert_eq!(devices_below(p.dir.path()), 0);
}

#[test]
fn root_a_name_is_taken_until_it_is_deactivated() {
    let p = Place::new();
    let mut wanted = request(vec![mount("tmpfs", "tmpfs", &[])]);
    wanted.temporary = true;
    wanted.labels = Labels::from([("k".to_owned(), "v".to_owned())]);
    let first = p.mounts.activate(&scope(), "a", wanted.clone()).unwrap();
    assert_eq!(kind(p.mounts.activate(&scope(), "a", wanted.clone())), Kind::AlreadyExists);
    assert!(is_mounted(&first.active[0].point), "the first is as it was");
    let other = Scope::new("other", None);
    p.mounts.activate(&other, "a", wanted).unwrap();
    let filters = ["labels.k==v".to_owned()];
    assert_eq!(p.mounts.list(&scope(), &filters).unwrap().len(), 1);
    let labels = Labels::from([("k".to_owned(), "w".to_owned())]);
    let updated = p.mounts.update(&scope(), "a", &labels, &["labels.k".to_owned()]).unwrap();
    assert_eq!(updated.labels, labels);
    assert!(p.mounts.list(&scope(), &filters).unwrap().is_empty());
    let refused = p.mounts.update(&scope(), "a", &labels, &["system".to_owned()]);
    assert_eq!(refused.err().unwrap().kind(), Kind::InvalidArgument);
}

#[test]
fn root_what_fails_in_the_middle_leaves_nothing() {
    let p = Place::new();
    let image = p.path("image");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let image = image.display().to_string();
    for last in [
        mount("no-such-file-system", "x", &[]),
        mount("format/bind", "{{ mount 7 }}", &[]),
        mount("mkdir/bind", "/", &["X-containerd.mkdir.path=/no/root/of/ours"]),
    ] {
        let mut wanted =
            request(vec![mount("tmpfs", "tmpfs", &[]), mount("loop", &image, &[]), last.clone()]);
        wanted.temporary = true;
        let error = p.mounts.activate(&scope(), "a", wanted).expect_err("it fails");
        assert_ne!(error.kind(), Kind::NotFound, "{error}");
        assert_eq!((count_below(p.dir.path()), devices_below(p.dir.path())), (0, 0), "{last:?}");
        assert!(p.mounts.list(&scope(), &[]).unwrap().is_empty());
        assert_eq!(fs::read_dir(p.path("t")).unwrap().count(), 1);
    }
}

#[test]
fn root_activations_outlive_the_daemon_and_half_made_ones_do_not() {
    let mut p = Place::new();
    let mut wanted = request(vec![mount("tmpfs", "tmpfs", &[])]);
    wanted.temporary = true;
    let whole = p.mounts.activate(&scope(), "whole", wanted.clone()).unwrap();
    let unmounted = p.mounts.activate(&scope(), "unmounted", wanted.clone()).unwrap();
    wharf_mounts::unmount_all(Path::new(&unmounted.active[0].point)).unwrap();
    let half = p.mounts.activate(&scope(), "half", wanted.clone()).unwrap();
    // killed between the mounts and the end of the record, and before any mount
    let record = p.metadata.activations().remove(&scope(), "half").unwrap();
    p.metadata.activations().begin(&scope(), "half", Labels::new()).unwrap();
    p.metadata.activations().begin(&scope(), "recorded", Labels::new()).unwrap();
    assert!(is_mounted(&record.active[0].point));
    p.restart();
    let left: Vec<_> = p.mounts.list(&scope(), &[]).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["whole"]);
    assert_eq!(p.mounts.info(&scope(), "whole").unwrap(), whole);
    assert!(is_mounted(&whole.active[0].point) && !is_mounted(&half.active[0].point));
    assert_eq!(count_below(p.dir.path()), 1);
    // the interrupted work can be repeated
    p.mounts.activate(&scope(), "half", wanted).unwrap();
}

#[test]
fn root_after_another_boot_nothing_is_believed() {
    let mut p = Place::new();
    let image = p.path("image");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let record = p
        .mounts
        .activate(&scope(), "a", request(vec![mount("loop", &image.display().to_string(), &[])]))
        .unwrap();
    fs::write(p.path("t/boot"), "another").unwrap();
    p.restart();
    assert!(p.mounts.list(&scope(), &[]).unwrap().is_empty());
    assert!(!Path::new(&record.active[0].point).is_symlink());
    assert_eq!(devices_below(p.dir.path()), 1, "a device of that number is not ours to release");
    // in truth it was
    let link = p.path("link");
    let device = fs::read_dir("/sys/block").unwrap().find_map(|entry| {
        let entry = entry.ok()?;
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        (Path::new(file.trim()) == fs::canonicalize(&image).ok()?).then(|| entry.file_name())
    });
    std::os::unix::fs::symlink(Path::new("/dev").join(device.unwrap()), &link).unwrap();
    wharf_mounts::release_loop(&link, Some(&image)).unwrap();
    assert_eq!(devices_below(p.dir.path()), 0);
}

#[test]
fn root_the_collector_unmounts_what_nothing_keeps() {
    let p = Place::new();
    let mut wanted = request(vec![mount("tmpfs", "tmpfs", &[])]);
    wanted.temporary = true;
    p.metadata.leases().create(&scope(), "l", Labels::new()).unwrap();
    let leased = Scope::new("default", Some("l".into()));
    let kept = p.mounts.activate(&leased, "kept", wanted.clone()).unwrap();
    let free = p.mounts.activate(&scope(), "free", wanted).unwrap();
    let stores: Vec<std::sync::Arc<dyn lifecycle_metadata::Reclaim>> =
        vec![std::sync::Arc::new(p.mounts.clone())];
    let collector = Collector::start(p.metadata.clone(), stores, Schedule::default(), |_| ()).unwrap();
    collector.collect().unwrap();
    assert!(is_mounted(&kept.active[0].point) && !is_mounted(&free.active[0].point));
    p.metadata.leases().delete(&scope(), "l").unwrap();
    collector.collect().unwrap();
    assert_eq!(count_below(p.dir.path()), 0);
}

#[test]
fn root_one_name_is_activated_once_however_many_try() {
    let p = Place::new();
    let outcomes: Vec<_> = std::thread::scope(|threads| {
        let tries: Vec<_> = (0..8)
            .map(|_| {
                threads.spawn(|| {
                    let mut wanted = request(vec![mount("tmpfs", "tmpfs", &[])]);
                    wanted.temporary = true;
                    p.mounts.activate(&scope(), "a", wanted).map_err(|e| e.kind())
                })
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().err().is_none_or(|e| *e == Kind::AlreadyExists)));
    assert_eq!(count_below(p.dir.path()), 1);
}
