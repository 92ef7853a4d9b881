//! The daemon killed at the failpoints of lifecycle-mounts: docs/failpoints.md. And which mounts a runtime makes itself.
//!
//! Needs the daemon built with the feature `failpoints` in `failpoints/` beside `WHARF_BIN_DIR`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use tonic::{Code, Request, Status};
use wharf_containerd::containerd::services::leases::v1 as leases;
use wharf_containerd::containerd::services::mounts::v1 as mounts;
use wharf_containerd::containerd::services::mounts::v1::mounts_client::MountsClient;
use wharf_containerd::containerd::services::tasks::v1 as tasks;
use wharf_containerd::containerd::types::{Mount, RuntimeInfo};
use wharf_failpoints::Point;
use wharf_integration_tests::leaks::mounts_below;

use crate::daemon::{Daemon, within};

const NAME: &str = "work";
const LEASE: &str = "keeps-it";

/// In the namespace of the tests, and held by the lease: without one the collector may take it.
fn leased<M>(message: M) -> Request<M> {
    let mut request = within(message);
    request.metadata_mut().insert("containerd-lease", LEASE.parse().expect("a name"));
    request
}

fn mount(kind: &str, source: &Path, options: &[&str]) -> Mount {
    Mount {
        r#type: kind.into(),
        source: source.display().to_string(),
        target: String::new(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

/// Loop devices that have a file below `path`.
fn devices_below(path: &Path) -> usize {
    let entries = fs::read_dir("/sys/block").expect("block devices").flatten();
    let files = entries.filter_map(|e| fs::read_to_string(e.path().join("loop/backing_file")).ok());
    files.filter(|file| Path::new(file.trim()).starts_with(path)).count()
}

async fn lease(daemon: &Daemon) {
    let mut client = leases::leases_client::LeasesClient::new(daemon.channel());
    let request = leases::CreateRequest { id: LEASE.to_owned(), ..Default::default() };
    client.create(within(request)).await.expect("a lease");
}

/// Mounts of each kind: the kernel's, a loop device, one that is filled in from the others and made last.
async fn activate(daemon: &Daemon) -> Result<(), Status> {
    let dir = daemon.path("");
    let upper = "X-containerd.mkdir.path={{ mount 0 }}/upper:0755";
    let work = "X-containerd.mkdir.path={{ mount 0 }}/work:0755";
    let layered = [
        upper,
        work,
        "upperdir={{ mount 0 }}/upper",
        "workdir={{ mount 0 }}/work",
        &format!("lowerdir={}", dir.join("rootfs").display()),
    ];
    let request = mounts::ActivateRequest {
        name: NAME.into(),
        mounts: vec![
            mount("tmpfs", Path::new("tmpfs"), &["size=1m"]),
            mount("loop", &dir.join("image"), &[]),
            mount("format/mkdir/overlay", Path::new("overlay"), &layered),
        ],
        temporary: true,
        ..Default::default()
    };
    MountsClient::new(daemon.channel()).activate(leased(request)).await.map(drop)
}

async fn deactivate(daemon: &Daemon) -> Result<(), Status> {
    let request = mounts::DeactivateRequest { name: NAME.into() };
    MountsClient::new(daemon.channel()).deactivate(within(request)).await.map(drop)
}

async fn is_recorded(daemon: &Daemon) -> bool {
    let request = mounts::InfoRequest { name: NAME.into() };
    match MountsClient::new(daemon.channel()).info(within(request)).await {
        Ok(_) => true,
        Err(status) if status.code() == Code::NotFound => false,
        Err(status) => panic!("{status}\n{}", daemon.log()),
    }
}

/// What is mounted and attached: everything if the activation is whole, else nothing.
fn assert_made(daemon: &Daemon, is_whole: bool) {
    let dir = daemon.path("");
    let (mounted, attached) = (mounts_below(&dir), devices_below(&dir));
    let wanted = if is_whole { (2, 1) } else { (0, 0) };
    assert_eq!((mounted.len(), attached), wanted, "{mounted:?}\n{}", daemon.log());
}

async fn killed_at(point: Point, passage: u32, survives: bool) {
    eprintln!("--- {} at passage {passage}", point.name());
    let mut daemon = Daemon::start_armed(&format!("{}=kill@{passage}", point.name())).await;
    fs::write(daemon.path("image"), vec![0; 1 << 20]).expect("an image");
    lease(&daemon).await;
    let ended = match activate(&daemon).await {
        Ok(()) => deactivate(&daemon).await,
        failed => failed,
    };
    ended.expect_err("the work never passes it");
    assert_eq!(daemon.await_death(), Some(9), "{}", daemon.log());
    let said = format!("failpoint {}: Kill", point.name());
    assert!(daemon.log().contains(&said), "killed there: {}", daemon.log());

    daemon.start_again().await;
    assert_eq!(is_recorded(&daemon).await, survives, "{}", daemon.log());
    assert_made(&daemon, survives);
    if survives {
        deactivate(&daemon).await.expect("what was activated before");
        assert_made(&daemon, false);
    }
    activate(&daemon).await.unwrap_or_else(|e| panic!("repeated: {e}\n{}", daemon.log()));
    assert_made(&daemon, true);
    deactivate(&daemon).await.expect("repeated");
    assert_made(&daemon, false);
    let left = fs::read_dir(daemon.path("run/mounts")).expect("the folder of mounts").flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["boot"], "only what tells the machine's start");
}

/// Where each is passed, and whether the activation is there afterwards.
const POINTS: &[(Point, u32, bool)] = &[
    (Point::MountBegin, 1, false),
    (Point::MountMade, 1, false),
    (Point::MountMade, 2, false),
    (Point::MountMade, 3, false),
    (Point::MountAll, 1, false),
    (Point::MountFinished, 1, true),
    (Point::MountForgotten, 1, false),
    (Point::MountUnmade, 1, false),
    (Point::MountUnmade, 3, false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_mounts_survive_kill() {
    for (point, passage, survives) in POINTS {
        killed_at(*point, *passage, *survives).await;
    }
}

#[test]
fn every_point_of_mounts_is_tested() {
    for point in Point::ALL.iter().filter(|point| point.name().starts_with("mount.")) {
        assert!(POINTS.iter().any(|(tested, _, _)| tested == point), "{}", point.name());
    }
}

/// An activation fails in its middle once: it is undone at once, and works the next time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_an_activation_that_fails_is_undone() {
    for point in [Point::MountMade, Point::MountAll] {
        let daemon = Daemon::start_armed(&format!("{}=error", point.name())).await;
        fs::write(daemon.path("image"), vec![0; 1 << 20]).expect("an image");
        lease(&daemon).await;
        activate(&daemon).await.expect_err("it fails");
        assert!(!is_recorded(&daemon).await, "{}", daemon.log());
        assert_made(&daemon, false);
        activate(&daemon).await.expect("the next one");
        assert_made(&daemon, true);
        deactivate(&daemon).await.expect("done");
        assert_made(&daemon, false);
    }
}

/// A program that answers `-info` with these annotations, and says that it was asked to start.
fn runtime(daemon: &Daemon, annotations: &[(&str, &str)]) -> PathBuf {
    let (program, info) = (daemon.path("containerd-shim-own-v1"), daemon.path("info"));
    let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let answer = RuntimeInfo { annotations: annotations.collect(), ..RuntimeInfo::default() };
    fs::write(&info, answer.encode_to_vec()).expect("an answer");
    let script = format!(
        "#!/bin/sh\nfor word; do case $word in\n-info) exec cat {};;\nstart) touch {}; exit 3;;\nesac; done\n",
        info.display(),
        daemon.path("started").display()
    );
    fs::write(&program, script).expect("a program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    program
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_a_runtime_says_which_mounts_it_makes_itself() {
    let daemon = Daemon::start().await;
    daemon.record("own", &["true"], "").await;
    let create = async |program: PathBuf| {
        let request = tasks::CreateTaskRequest {
            container_id: "own".into(),
            runtime_path: program.display().to_string(),
            rootfs: vec![mount("erofs", Path::new("/no/such/image"), &[])],
            ..Default::default()
        };
        let refused = daemon.tasks().create(within(request)).await.expect_err("there is no such image");
        (refused, daemon.path("started").exists())
    };
    let own = "containerd.io/runtime-allow-mounts";
    for annotations in [&[][..], &[(own, "mkdir/*,loop")], &[("other", "erofs")]] {
        let (refused, is_started) = create(runtime(&daemon, annotations)).await;
        assert!(refused.message().contains("erofs") && !is_started, "{annotations:?}: {refused:?}");
    }
    let (refused, is_started) = create(runtime(&daemon, &[(own, "loop,erofs")])).await;
    assert!(is_started, "the mount is the shim's: {refused:?}\n{}", daemon.log());
    assert!(!refused.message().contains("/no/such/image"), "{refused:?}");
}
