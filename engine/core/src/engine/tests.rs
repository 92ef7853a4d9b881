//! The engine on a lifecycle daemon that exists in memory only.

use std::collections::HashMap;
use std::sync::Mutex;

use engine_backend::{
    BackendError, ContainerRecord, ExecSpec, Exit, Mount, ProcessInfo, ProcessStatus, TaskSpec,
};
use wharf_docker::container::{Config, HostConfig, RestartPolicy, Words};

use super::*;
use crate::create::CreateRequest;
use crate::image::{BoxFuture, ImageError, ResolvedImage};
use crate::lifecycle::NewContainer;

type Answer<'a, T> = BoxFuture<'a, Result<T, BackendError>>;

#[derive(Default)]
struct Fake {
    made: Mutex<Vec<String>>,
    tasks: Mutex<HashMap<String, ProcessStatus>>,
    /// What the next creation of a task fails with.
    refuse: Mutex<Option<&'static str>>,
    /// How many creations of tasks, and how many deletions, find the daemon gone.
    gone_at_create: Mutex<u32>,
    gone_at_delete: Mutex<u32>,
}

/// Counts one off.
fn due(count: &Mutex<u32>) -> bool {
    let mut left = count.lock().unwrap();
    let due = *left > 0;
    *left = left.saturating_sub(1);
    due
}

fn gone<'a, T: Send + 'a>() -> Answer<'a, T> {
    now(Err(BackendError::test(Kind::Unavailable, "connection refused")))
}

fn missing(what: &str) -> BackendError {
    BackendError::test(Kind::NotFound, &format!("{what}: not found"))
}

fn now<'a, T: Send + 'a>(answer: Result<T, BackendError>) -> Answer<'a, T> {
    Box::pin(std::future::ready(answer))
}

impl Lifecycle for Fake {
    fn make<'a>(&'a self, new: &'a NewContainer<'a>) -> Answer<'a, (Vec<Mount>, ContainerRecord)> {
        self.made.lock().unwrap().push(new.id.to_owned());
        now(Ok((Vec::new(), (new.plan)(&[]))))
    }

    fn erase<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        self.made.lock().unwrap().retain(|made| made != id);
        now(Ok(()))
    }

    fn set_spec<'a>(&'a self, _: &'a ContainerRecord) -> Answer<'a, ()> {
        now(Ok(()))
    }

    fn rootfs<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<Mount>> {
        now(Ok(Vec::new()))
    }

    fn create_task<'a>(&'a self, spec: &'a TaskSpec) -> Answer<'a, u32> {
        if let Some(text) = self.refuse.lock().unwrap().take() {
            return now(Err(BackendError::test(Kind::Unknown, text)));
        }
        if due(&self.gone_at_create) {
            return gone();
        }
        let mut tasks = self.tasks.lock().unwrap();
        if tasks.contains_key(&spec.container_id) {
            return now(Err(BackendError::test(Kind::AlreadyExists, "task exists")));
        }
        tasks.insert(spec.container_id.clone(), ProcessStatus::Created);
        now(Ok(42))
    }

    fn create_exec<'a>(&'a self, _: &'a ExecSpec) -> Answer<'a, ()> {
        now(Ok(()))
    }

    fn start<'a>(&'a self, id: &'a str, exec: &'a str) -> Answer<'a, u32> {
        if exec.is_empty() {
            self.tasks.lock().unwrap().insert(id.to_owned(), ProcessStatus::Running);
        }
        now(Ok(42))
    }

    fn kill<'a>(&'a self, id: &'a str, _: &'a str, _: u32) -> Answer<'a, ()> {
        let known = self.tasks.lock().unwrap().contains_key(id);
        now(if known { Ok(()) } else { Err(missing(id)) })
    }

    fn delete<'a>(&'a self, id: &'a str, _: &'a str) -> Answer<'a, Exit> {
        if due(&self.gone_at_delete) {
            return gone();
        }
        let gone = self.tasks.lock().unwrap().remove(id);
        now(gone.map(|_| Exit { status: 0, at: None }).ok_or_else(|| missing(id)))
    }

    fn status<'a>(&'a self, id: &'a str, _: &'a str) -> Answer<'a, ProcessInfo> {
        let status = self.tasks.lock().unwrap().get(id).copied();
        let info = |status| ProcessInfo { container_id: id.to_owned(), pid: 42, status };
        now(status.map(info).ok_or_else(|| missing(id)))
    }

    fn resize<'a>(&'a self, _: &'a str, _: &'a str, _: u32, _: u32) -> Answer<'a, ()> {
        now(Ok(()))
    }

    fn close_stdin<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, ()> {
        now(Ok(()))
    }

    fn pause<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        now(Ok(()))
    }

    fn resume<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        now(Ok(()))
    }

    fn pids<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<u32>> {
        now(Ok(vec![42]))
    }

    fn update<'a>(&'a self, _: &'a str, _: Vec<u8>) -> Answer<'a, ()> {
        now(Ok(()))
    }
}

struct OneImage;

impl ImageSource for OneImage {
    fn resolve<'a>(
        &'a self,
        reference: &'a str,
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ResolvedImage, ImageError>> {
        let found = match reference {
            "box" => Ok(ResolvedImage { id: "sha256:b0".to_owned(), ..ResolvedImage::default() }),
            other => Err(ImageError::NotFound(other.to_owned())),
        };
        Box::pin(std::future::ready(found))
    }
}

struct Bench {
    engine: Engine,
    fake: Arc<Fake>,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake::default());
        Self { engine: engine(dir.path(), &fake), fake, dir }
    }

    async fn create(&self, name: &str, host: HostConfig) -> Result<String, EngineError> {
        let config = Config {
            image: "box".to_owned(),
            cmd: Some(Words(vec!["sleep".to_owned()])),
            ..Config::default()
        };
        let request = CreateRequest { name: name.to_owned(), config, host, ..CreateRequest::default() };
        self.engine.create(request).await.map(|created| created.id)
    }

    /// The task ends, and its event arrives.
    async fn exit(&self, id: &str, status: u32) {
        let exit = Exit { status, at: Some(std::time::SystemTime::now()) };
        self.fake.tasks.lock().unwrap().insert(id.to_owned(), ProcessStatus::Stopped(exit));
        let handle = self.engine.find(id).unwrap();
        handle.mailbox.send(Command::Exited { pid: 42, exit }).await.unwrap();
    }

    fn word(&self, id: &str) -> String {
        self.engine.find(id).map_or("gone".to_owned(), |handle| handle.view().word().to_owned())
    }

    async fn becomes(&self, id: &str, word: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.word(id) != word {
            assert!(tokio::time::Instant::now() < deadline, "{id} is {} and not {word}", self.word(id));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn engine(dir: &std::path::Path, fake: &Arc<Fake>) -> Engine {
    let config = EngineConfig::new(dir.join("data"), dir.join("exec"));
    std::fs::create_dir_all(&config.data_root).unwrap();
    let records = Records::open(&config.database_path()).unwrap();
    Engine::new(Parts {
        config,
        lifecycle: fake.clone(),
        backend: None,
        images: Arc::new(OneImage),
        records,
        events: EventBus::new(),
        usage: ImageUsage::default(),
    })
    .unwrap()
}

fn policy(name: &str) -> HostConfig {
    let restart_policy = RestartPolicy { name: name.to_owned(), maximum_retry_count: 0 };
    HostConfig { restart_policy, ..HostConfig::default() }
}

#[tokio::test]
async fn a_container_is_created_started_ends_and_is_removed() {
    let bench = Bench::new();
    let id = bench.create("web", HostConfig::default()).await.unwrap();
    assert_eq!(bench.word("web"), "created");
    let next = bench.engine.wait("web", WaitFor::NextExit).unwrap();
    bench.engine.start("web").await.unwrap();
    assert_eq!(bench.word(&id[..8]), "running");
    assert!(matches!(bench.engine.start("web").await, Err(EngineError::NotModified(_))));
    let refused = bench.engine.remove("web", false, false).await.unwrap_err();
    assert!(refused.to_string().contains("stop the container before removing"), "{refused}");
    bench.exit(&id, 3).await;
    assert_eq!(next.done().await.code, 3);
    bench.becomes(&id, "exited").await;
    bench.engine.remove("web", false, false).await.unwrap();
    assert_eq!(bench.word("web"), "gone");
    assert!(bench.fake.made.lock().unwrap().is_empty());
}

#[tokio::test]
async fn names_are_taken_once_and_given_back() {
    let bench = Bench::new();
    let id = bench.create("web", HostConfig::default()).await.unwrap();
    let taken = bench.create("/web", HostConfig::default()).await.unwrap_err();
    assert_eq!(taken.kind(), Kind::Conflict);
    let text = format!("The container name \"/web\" is already in use by container \"{id}\"");
    assert!(taken.to_string().contains(&text), "{taken}");
    bench.engine.rename("web", "shop").await.unwrap();
    bench.create("web", HostConfig::default()).await.unwrap();
    bench.engine.remove("web", true, false).await.unwrap();
    bench.create("web", HostConfig::default()).await.unwrap();
}

#[tokio::test]
async fn an_unknown_image_leaves_nothing() {
    let bench = Bench::new();
    let config = Config { image: "nope".to_owned(), ..Config::default() };
    let request = CreateRequest { name: "web".to_owned(), config, ..CreateRequest::default() };
    let error = bench.engine.create(request).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::NotFound, "No such image: nope"));
    assert!(bench.engine.views().is_empty());
    bench.create("web", HostConfig::default()).await.unwrap();
}

#[tokio::test]
async fn a_start_that_fails_leaves_the_container_created_with_dockers_code() {
    let bench = Bench::new();
    let id = bench.create("web", HostConfig::default()).await.unwrap();
    *bench.fake.refuse.lock().unwrap() = Some("exec: \"x\": executable file not found in $PATH");
    let error = bench.engine.start("web").await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    let view = bench.engine.find(&id).unwrap().view();
    assert_eq!((view.word(), view.record.phase.exit_code()), ("created", 127));
    bench.engine.start("web").await.unwrap();
    assert_eq!(bench.word("web"), "running");
}

#[tokio::test]
async fn auto_remove_happens_at_the_end_and_is_waited_for() {
    let bench = Bench::new();
    let host = HostConfig { auto_remove: true, ..HostConfig::default() };
    let id = bench.create("once", host).await.unwrap();
    let removed = bench.engine.wait("once", WaitFor::Removed).unwrap();
    bench.engine.start("once").await.unwrap();
    bench.exit(&id, 7).await;
    let waited = removed.done().await;
    assert_eq!((waited.code, waited.error), (7, None));
    assert_eq!(bench.word(&id), "gone");
}

#[tokio::test]
async fn restart_policies_start_again_until_somebody_stops() {
    let bench = Bench::new();
    let id = bench.create("web", policy("always")).await.unwrap();
    bench.engine.start("web").await.unwrap();
    bench.exit(&id, 0).await;
    bench.becomes(&id, "restarting").await;
    bench.becomes(&id, "running").await;
    assert_eq!(bench.engine.find(&id).unwrap().view().record.restart_count, 1);
    let stopping = tokio::spawn({
        let engine = bench.engine.clone();
        async move { engine.stop("web", "", Some(5)).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    bench.exit(&id, 143).await;
    stopping.await.unwrap().unwrap();
    bench.becomes(&id, "exited").await;
    assert!(matches!(bench.engine.stop("web", "", None).await, Err(EngineError::NotModified(_))));
}

#[tokio::test]
async fn a_restart_by_policy_outlives_the_daemon_below() {
    let bench = Bench::new();
    let id = bench.create("web", policy("always")).await.unwrap();
    bench.engine.start(&id).await.unwrap();
    *bench.fake.gone_at_create.lock().unwrap() = 2;
    bench.exit(&id, 1).await;
    bench.becomes(&id, "restarting").await;
    bench.becomes(&id, "running").await;
    assert_eq!(*bench.fake.gone_at_create.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_start_takes_back_what_an_earlier_run_left() {
    let bench = Bench::new();
    let id = bench.create("web", HostConfig::default()).await.unwrap();
    bench.engine.start(&id).await.unwrap();
    *bench.fake.gone_at_delete.lock().unwrap() = 1;
    bench.exit(&id, 3).await;
    bench.becomes(&id, "exited").await;
    assert!(bench.fake.tasks.lock().unwrap().contains_key(&id));
    bench.engine.start(&id).await.unwrap();
    bench.becomes(&id, "running").await;
}

#[tokio::test]
async fn what_ended_while_nobody_looked_is_found_out() {
    let bench = Bench::new();
    let id = bench.create("web", HostConfig::default()).await.unwrap();
    bench.engine.start("web").await.unwrap();
    // the daemon is killed, the container ends, another daemon starts on what is on the disk
    let exit =
        Exit { status: 9, at: Some(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)) };
    bench.fake.tasks.lock().unwrap().insert(id.clone(), ProcessStatus::Stopped(exit));
    let disk = tempfile::tempdir().unwrap();
    std::fs::create_dir(disk.path().join("data")).unwrap();
    std::fs::copy(bench.dir.path().join("data/engine.redb"), disk.path().join("data/engine.redb")).unwrap();
    let again = engine(disk.path(), &bench.fake);
    let handle = again.find("web").unwrap();
    assert_eq!(handle.view().word(), "running");
    let ended = handle.waiter(WaitFor::NextExit);
    let listed = Some((42, ProcessStatus::Stopped(exit)));
    handle.mailbox.send(Command::Reconcile { listed, boot: true }).await.unwrap();
    assert_eq!(ended.done().await.code, 9);
    let record = handle.view().record.clone();
    assert_eq!(record.phase.ended().unwrap().finished_at.unix_seconds(), 1_900_000_000);
}

#[tokio::test]
async fn half_made_starts_are_completed_or_undone() {
    let bench = Bench::new();
    let running = bench.create("one", HostConfig::default()).await.unwrap();
    let created = bench.create("two", HostConfig::default()).await.unwrap();
    // started, and killed before that was recorded; created, and killed before the start
    bench.fake.tasks.lock().unwrap().insert(running.clone(), ProcessStatus::Running);
    bench.fake.tasks.lock().unwrap().insert(created.clone(), ProcessStatus::Created);
    for (id, status) in [(&running, ProcessStatus::Running), (&created, ProcessStatus::Created)] {
        let listed = Some((42, status));
        let mailbox = bench.engine.find(id).unwrap().mailbox;
        mailbox.send(Command::Reconcile { listed, boot: true }).await.unwrap();
    }
    bench.becomes(&running, "running").await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while bench.fake.tasks.lock().unwrap().contains_key(&created) {
        assert!(tokio::time::Instant::now() < deadline, "the task was not taken back");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(bench.word(&created), "created");
}

#[tokio::test]
async fn execs_need_a_running_container_and_run_once() {
    let bench = Bench::new();
    let id = bench.create("web", HostConfig::default()).await.unwrap();
    let request = || ExecCreate { cmd: Some(Words(vec!["ls".to_owned()])), ..ExecCreate::default() };
    let refused = bench.engine.exec_create("web", request(), Vec::new()).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("container {id} is not running"));
    bench.engine.start("web").await.unwrap();
    let exec = bench.engine.exec_create("web", request(), Vec::new()).await.unwrap();
    bench.engine.exec_start(&exec, None, None).await.unwrap();
    assert!(bench.engine.exec_start(&exec, None, None).await.is_err());
    let cell = bench.engine.exec(&exec).unwrap();
    cell.exited(&bench.engine.shared, Exit { status: 5, at: None }).await;
    let shown = bench.engine.exec_inspect(&exec).await.unwrap();
    assert_eq!((shown.running, shown.exit_code), (false, Some(5)));
}
