//! wharf-lifecycled killed at every failpoint with real work under way: docs/failpoints.md.
//!
//! Needs the daemon built with the feature `failpoints` in `failpoints/` beside `WHARF_BIN_DIR`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use wharf_failpoints::{Point, VARIABLE};
use wharf_integration_tests::{SOON, eventually, image, leaks, program};

const IMAGE: &str = "docker.io/library/busybox:latest";

/// A lifecycle daemon on folders of its own.
struct Lifecycle {
    dir: TempDir,
    daemon: Option<Child>,
    armed: bool,
}

/// How the work of a run ended.
#[derive(Debug)]
enum Ended {
    Done,
    DaemonDied,
}

impl Lifecycle {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: run `make test`");
        let dir = tempfile::Builder::new().prefix("wf").rand_bytes(6).tempdir().expect("a temporary folder");
        image::busybox(&dir.path().join("image.tar"), "busybox:latest").expect("an image archive");
        Lifecycle { dir, daemon: None, armed: false }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// Starts the daemon; false if it died before it answered.
    fn start(&mut self, armed: Option<&str>) -> bool {
        let ours = program("wharf-lifecycled");
        let ours = ours.parent().expect("a folder");
        let daemon = ours.with_file_name("failpoints").join("wharf-lifecycled");
        assert!(daemon.exists(), "{} does not exist: run `make test`", daemon.display());
        let log = File::options().create(true).append(true).open(self.path("daemon.log")).expect("a log");
        let path = format!("{}:{}", ours.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(daemon);
        command.arg("--root").arg(self.path("lib")).arg("--state").arg(self.path("run"));
        command.arg("--address").arg(self.path("d.sock")).env("PATH", path).env_remove(VARIABLE);
        self.armed = armed.is_some();
        if let Some(setting) = armed {
            command.env(VARIABLE, setting);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn().expect("the daemon starts"));
        eventually("the daemon serves or dies", SOON, || {
            if self.has_died() {
                return Some(false);
            }
            let connected = UnixStream::connect(self.path("d.sock")).is_ok();
            (connected && self.ctr(&["version"]).is_some_and(|o| o.status.success())).then_some(true)
        })
    }

    fn has_died(&mut self) -> bool {
        self.daemon.as_mut().is_none_or(|daemon| daemon.try_wait().expect("wait").is_some())
    }

    /// Whether an armed daemon dies within a while. Others do not.
    fn dies_within(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while !self.has_died() {
            if !self.armed || Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Runs ctr; `None` if the daemon died meanwhile.
    fn ctr(&mut self, arguments: &[&str]) -> Option<Output> {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.path("d.sock")).args(["-n", "fp"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ctr = command.spawn().expect("ctr is installed");
        let deadline = Instant::now() + SOON;
        loop {
            let ended = ctr.try_wait().expect("wait").is_some();
            let died = self.has_died();
            if ended && !died {
                let output = ctr.wait_with_output().expect("output");
                // a client may see the connection break before the daemon's end can be waited for
                let is_cut = !output.status.success() && self.dies_within(SOON);
                return (!is_cut).then_some(output);
            }
            if died || Instant::now() > deadline {
                let _ = ctr.kill();
                let output = ctr.wait_with_output().expect("output");
                assert!(died, "ctr {arguments:?} hangs: {output:?}\n{}", self.log());
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Runs ctr, which must succeed; its standard output.
    fn ok(&mut self, arguments: &[&str]) -> String {
        let output = self.ctr(arguments).unwrap_or_else(|| panic!("{arguments:?}: died\n{}", self.log()));
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr {arguments:?}: {shown}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Import with unpacking, a container's whole life, removal with collection.
    fn work(&mut self) -> Ended {
        let archive = self.path("image.tar").to_string_lossy().into_owned();
        let cgroup = format!("/{}/c1", self.dir.path().file_name().expect("a name").to_string_lossy());
        let runtime = "io.containerd.wharf.v2";
        let steps: [&[&str]; 3] = [
            &["images", "import", &archive],
            &["run", "--rm", "--runtime", runtime, "--cgroup", &cgroup, IMAGE, "c1", "echo", "worked"],
            &["images", "rm", "--sync", IMAGE],
        ];
        for step in steps {
            let Some(output) = self.ctr(step) else { return Ended::DaemonDied };
            if self.has_died() {
                return Ended::DaemonDied;
            }
            assert!(output.status.success(), "ctr {step:?}: {output:?}\n{}", self.log());
            if step[0] == "run" {
                assert_eq!(String::from_utf8_lossy(&output.stdout), "worked\n");
            }
        }
        // what is announced or removed after the answer
        if self.dies_within(SOON) { Ended::DaemonDied } else { Ended::Done }
    }

    /// Removes what an interrupted client left behind, as a person would.
    fn tidy(&mut self) {
        for arguments in [
            &["tasks", "delete", "-f", "c1"][..],
            &["containers", "rm", "c1"],
            &["snapshots", "rm", "c1"],
            &["images", "rm", IMAGE],
        ] {
            // what was not made yet is not found
            let _ = self.ctr(arguments);
        }
        for lease in self.ok(&["leases", "ls", "-q"]).lines() {
            self.ok(&["leases", "rm", "--sync", lease]);
        }
        // a collection happens even if there was no lease
        self.ok(&["leases", "create", "--id", "last"]);
        self.ok(&["leases", "rm", "--sync", "last"]);
    }

    /// Blobs on disk, after their contents were compared with their names.
    fn blobs(&self) -> BTreeSet<String> {
        let folder = self.path("lib/content/blobs/sha256");
        let found = names(&folder);
        for name in &found {
            // it may have been collected meanwhile
            let Ok(bytes) = fs::read(folder.join(name)) else { continue };
            assert_eq!(wharf_vocab::Digest::sha256(&bytes).hex(), name, "a blob is damaged");
        }
        found.iter().map(|name| format!("sha256:{name}")).collect()
    }

    /// Every record has its file, every file its record. What nothing holds any more may be on its way out.
    fn assert_consistent(&mut self) {
        eventually("content is consistent", SOON, || {
            let recorded: BTreeSet<String> =
                self.ok(&["content", "ls", "-q"]).lines().map(str::to_owned).collect();
            (recorded == self.blobs()).then_some(())
        });
        eventually("snapshots are consistent", SOON, || {
            let recorded = self.ok(&["snapshots", "ls"]).lines().skip(1).count();
            let folders = names(&self.path("lib/snapshots/overlay"));
            let folders = folders.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())).count();
            (recorded == folders).then_some(())
        });
    }

    /// Nothing of the work is there any more.
    fn assert_empty(&mut self) {
        let folders = [
            "lib/content/blobs/sha256",
            "lib/content/ingest",
            "lib/snapshots/overlay",
            "run/io.containerd.runtime.v2.task/fp",
        ];
        for folder in folders {
            // a shim that died is cleaned up after beside other work
            eventually(&format!("nothing is left in {folder}"), SOON, || {
                names(&self.path(folder)).is_empty().then_some(())
            });
        }
        let own = self.daemon.as_ref().map(|daemon| daemon.id() as i32);
        eventually("no process is left", SOON, || {
            leaks::processes_of(self.dir.path()).iter().all(|(pid, _)| Some(*pid) == own).then_some(())
        });
        assert!(leaks::mounts_below(self.dir.path()).is_empty(), "mounts are left");
    }

    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        self.kill();
        for (pid, _) in leaks::processes_of(self.dir.path()) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for mount in leaks::mounts_below(self.dir.path()).iter().rev() {
            let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        }
        let name = self.dir.path().file_name().expect("a name").to_owned();
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(controller.path().join(&name).join("c1"));
            let _ = fs::remove_dir(controller.path().join(&name));
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Which passage counts: starting passes some points before there is any work.
fn passage(point: Point) -> u32 {
    match point {
        Point::MetadataCommit | Point::MetadataCommitted => 12,
        Point::CollectorMark | Point::CollectorSweep => 2,
        _ => 1,
    }
}

fn killed_at(point: Point) {
    let mut stack = Lifecycle::new();
    let setting = format!("{}=kill@{}", point.name(), passage(point));
    assert!(stack.start(Some(&setting)), "died before any work: {}", stack.log());
    let ended = stack.work();
    assert!(matches!(ended, Ended::DaemonDied), "the work never passes it: {ended:?}\n{}", stack.log());
    let status = stack.daemon.take().expect("a daemon").wait().expect("reap");
    assert_eq!(status.signal(), Some(9), "{}", stack.log());
    assert!(stack.log().contains(&format!("failpoint {}: Kill", point.name())), "killed there");
    assert!(stack.start(None), "does not start again: {}", stack.log());
    stack.assert_consistent();
    stack.tidy();
    stack.assert_empty();
    assert!(matches!(stack.work(), Ended::Done), "repeated: {}", stack.log());
    stack.tidy();
    stack.assert_empty();
}

macro_rules! points {
    ($($test:ident: $($point:ident)+;)+) => {
        $(#[test]
        fn $test() {
            for point in [$(Point::$point),+] {
                eprintln!("--- {}", point.name());
                killed_at(point);
            }
        })+

        #[test]
        fn every_point_is_tested() {
            let tested: BTreeSet<Point> = [$($(Point::$point),+),+].into();
            // those of images need a client of the transfer service, which the test `transfer` has, those of mounts
            // one of the mounts service, in the test `lifecycle`
            let elsewhere = |point: &Point| ["image.", "mount."].iter().any(|p| point.name().starts_with(p));
            let here = Point::ALL.iter().copied().filter(|point| !elsewhere(point));
            assert_eq!(tested, here.collect());
        }
    };
}

points! {
    root_content_survives_kill:
        ContentOpen ContentWrite ContentCommitFlushed ContentCommitPlaced ContentCommitRecorded;
    root_snapshots_survive_kill:
        SnapshotPreparePlaced SnapshotPrepareRecorded SnapshotCommitFlushed SnapshotCommitRecorded
        SnapshotRemoveRecorded LayerExtract;
    root_records_and_events_survive_kill: MetadataCommit MetadataCommitted EventsPublish EventsDeliver;
    root_tasks_survive_kill:
        TaskCreateBundle TaskCreateShim TaskCreateTold TaskStart TaskDeleteTold TaskDeleteShim
        TaskDeleteBundle;
    root_collector_survives_kill: CollectorMark CollectorSweep CollectorReclaim;
}
