//! The daemon dies under many containers, and shims are stuck.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use tokio::task::JoinHandle;
use tonic::Code;
use wharf_containerd::containerd::services::tasks::v1 as tasks;
use wharf_containerd::containerd::v1::types::Status;
use wharf_integration_tests::eventually;

use crate::daemon::{Daemon, SOON, UNTIL_TERM, is_alive, signal, state, task, within};

/// How many containers run; `WHARF_CONTAINERS` says another number (docs/lifecycled.md).
fn count() -> usize {
    std::env::var("WHARF_CONTAINERS").ok().and_then(|count| count.parse().ok()).unwrap_or(100)
}

/// Back in service, at the best of some restarts. It takes a fraction of a second; the machine may be busy with other
/// tests. Whoever asks the shims one after another, or waits for those that ended, takes longer.
const BACK: Duration = Duration::from_secs(5);
const RESTARTS: u32 = 4;

/// The daemon's resident memory, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_hundred_containers_live_through_the_daemons_death_and_no_end_is_missed() {
    let mut daemon = Daemon::start().await;
    let ids: Vec<String> = (0..count()).map(|n| format!("c{n:04}")).collect();
    let mut pids = Vec::new();
    let begun = Instant::now();
    for id in &ids {
        pids.push(daemon.run(id, &UNTIL_TERM).await);
    }
    println!("{} containers started in {:?}", ids.len(), begun.elapsed());

    let mut fastest = Duration::MAX;
    for restart in 0..RESTARTS {
        daemon.kill();
        // some end while nobody listens, each time others
        let ended: Vec<usize> = (0..ids.len()).filter(|n| *n as u32 % 16 == restart).collect();
        for (turn, n) in ended.iter().enumerate() {
            signal(pids[*n], if turn % 2 == 0 { Signal::TERM } else { Signal::KILL });
        }
        for n in &ended {
            eventually("it ends", SOON, || (!is_alive(pids[*n])).then_some(()));
        }
        let back = daemon.start_again().await;
        println!("back after {back:?}, {} KiB", resident(daemon.pid()));
        fastest = fastest.min(back);
        let listed = daemon.settled(&[]).await;
        assert_eq!(listed.len(), ids.len());
        for (n, id) in ids.iter().enumerate() {
            let (task, gone) = (task(&listed, id), n as u32 % 16 <= restart);
            assert_eq!(task.pid, pids[n], "{id}");
            assert_eq!(state(task), if gone { Status::Stopped } else { Status::Running }, "{id}");
            assert_eq!(task.exited_at.is_some(), gone, "{id}");
        }
        for (turn, n) in ended.iter().enumerate() {
            let wanted = if turn % 2 == 0 { 7 } else { 137 };
            assert_eq!(task(&listed, &ids[*n]).exit_status, wanted, "{}", ids[*n]);
        }
    }
    assert!(fastest < BACK, "back in service after {fastest:?} at best");

    // those that live can be worked with, and what ended is still there to be deleted
    for (n, id) in ids.iter().enumerate() {
        if n as u32 % 16 >= RESTARTS {
            daemon.kill_task(id).await.expect("it lives");
            assert_eq!(daemon.wait(id).await, 137);
        }
        let exit = daemon.delete(id).await.expect("it is deleted");
        assert!(matches!(exit, 7 | 137), "{id}: {exit}");
    }
    daemon.assert_nothing_left();
}

/// Runs a container from its creation to its deletion.
async fn whole_life(daemon: &Daemon, id: &str) {
    daemon.run(id, &["true"]).await;
    assert_eq!(daemon.wait(id).await, 0);
    assert_eq!(daemon.delete(id).await.expect("it is deleted"), 0);
}

/// Less than anything waits that waits for a shim which does not answer.
const BOUND: Duration = Duration::from_secs(2);

/// The machine may be busy with other tests: what is slow is tried again.
const TRIES: u32 = 30;

/// Does something until it has once taken less than `BOUND`; fails if it never does.
async fn once_in_bound(name: &str, mut what: impl AsyncFnMut(u32)) {
    let mut best = Duration::MAX;
    for n in 0..TRIES {
        let begun = Instant::now();
        what(n).await;
        best = best.min(begun.elapsed());
        if best < BOUND {
            return;
        }
    }
    panic!("{name} took {best:?} at the best of {TRIES} times");
}

/// Questions to a task whose shim does not answer, one after the other in each of many rows, so that there are some at any
/// time: what would wait for the shim waits for the next ones too.
struct Asking {
    stop: Arc<AtomicBool>,
    rows: Vec<JoinHandle<()>>,
}

impl Asking {
    /// More questions than a shim may have open.
    const ROWS: usize = 100;

    fn start(daemon: &Daemon, id: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let row = || {
            let (mut tasks, stop) = (daemon.tasks(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let request = tasks::ListPidsRequest { container_id: id.into() };
                    let refused = tasks.list_pids(within(request)).await.expect_err("it cannot answer");
                    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
                }
            })
        };
        let rows = (0..Self::ROWS).map(|_| row()).collect();
        Self { stop, rows }
    }

    /// Waits for the last answers, which were all refusals.
    async fn end(self) {
        assert!(self.rows.iter().all(|row| !row.is_finished()), "the shim was asked all the time");
        self.stop.store(true, Ordering::Relaxed);
        for row in self.rows {
            row.await.expect("every question is refused for want of time");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_stopped_shim_delays_nothing_of_others_nor_the_start() {
    let mut daemon = Daemon::start().await;
    let stuck_pid = daemon.run("stuck", &UNTIL_TERM).await;
    daemon.run("other", &UNTIL_TERM).await;
    let shim = daemon.shim("stuck");
    kill_process(shim, Signal::STOP).expect("stop the shim");

    let asking = Asking::start(&daemon, "stuck");
    once_in_bound("listing", async |_| drop(daemon.list().await)).await;
    once_in_bound("a container's life", async |n| whole_life(&daemon, &format!("meanwhile{n}")).await).await;
    asking.end().await;
    assert_eq!(state(task(&daemon.list().await, "stuck")), Status::Unknown);

    once_in_bound("being back", async |_| {
        daemon.kill();
        daemon.start_again().await;
    })
    .await;
    let listed = daemon.settled(&["stuck"]).await;
    assert_eq!(state(task(&listed, "other")), Status::Running);
    assert_eq!(state(task(&listed, "stuck")), Status::Unknown);
    let asking = Asking::start(&daemon, "stuck");
    once_in_bound("a container's life", async |n| whole_life(&daemon, &format!("after{n}")).await).await;
    asking.end().await;

    kill_process(shim, Signal::CONT).expect("continue the shim");
    let answered = Instant::now();
    loop {
        let listed = daemon.list().await;
        if state(task(&listed, "stuck")) == Status::Running {
            assert_eq!(task(&listed, "stuck").pid, stuck_pid);
            break;
        }
        assert!(answered.elapsed() < SOON, "it answers again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for id in ["stuck", "other"] {
        daemon.kill_task(id).await.expect("it lives");
        assert_eq!(daemon.wait(id).await, 137);
        daemon.delete(id).await.expect("it is deleted");
    }
    daemon.assert_nothing_left();
}
