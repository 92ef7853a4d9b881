//! The promise: `kill -9` of wharfd and wharf-lifecycled, alone and together, at random moments, loses nothing.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use rustix::rand::{GetRandomFlags, getrandom};
use wharf_integration_tests::client::get_local;
use wharf_integration_tests::pty::Terminal;
use wharf_integration_tests::{SOON, Stack, eventually, port};

const ROUNDS: usize = 20;

/// What is killed, one after the other.
const KINDS: [&str; 3] = ["wharfd", "wharf-lifecycled", "both"];

/// Until `ps` is right after the daemons are up, at the best of a kind's rounds: far more than it takes, since the
/// machine may be busy.
const RIGHT: Duration = Duration::from_secs(5);

/// Uniform enough for choosing moments.
fn random(below: u64) -> u64 {
    let mut bytes = [0u8; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).expect("random bytes");
    u64::from_le_bytes(bytes) % below
}

/// Steady HTTP requests until stopped; counts what was answered, keeps the first failure.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<Result<(), String>>,
}

impl Load {
    fn on(port: u16) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop_seen, count) = (stop.clone(), answered.clone());
        let thread = thread::spawn(move || {
            while !stop_seen.load(Ordering::Relaxed) {
                match get_local(port) {
                    Ok(answer) if answer.status == 200 && answer.body == b"ok" => {
                        count.fetch_add(1, Ordering::Relaxed)
                    }
                    other => return Err(format!("request {}: {other:?}", count.load(Ordering::Relaxed))),
                };
                thread::sleep(Duration::from_millis(3));
            }
            Ok(())
        });
        Load { stop, answered, thread }
    }

    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Err(failure) = self.thread.join().expect("the load thread ends") {
            panic!("an HTTP request failed: {failure}");
        }
        self.answered.load(Ordering::Relaxed)
    }
}

/// `wharf` against the stack, for threads that outlast a borrow of it.
#[derive(Clone)]
struct Client {
    program: OsString,
    aim: Vec<OsString>,
    home: PathBuf,
}

impl Client {
    fn new(stack: &Stack) -> Client {
        let command = stack.wharf_command(&[]);
        let aim = command.get_args().map(OsString::from).collect();
        Client { program: command.get_program().into(), aim, home: stack.dir().to_owned() }
    }

    /// Runs it, and gives its output if it ended well. One whose answer was lost with the daemon is given up on, as
    /// a person would.
    fn attempt(&self, args: &[&str]) -> Option<String> {
        let mut command = Command::new(&self.program);
        command.args(&self.aim).args(args).env("HOME", &self.home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let begun = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                _ if begun.elapsed() > Duration::from_secs(2) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return None;
                }
                _ => thread::sleep(Duration::from_millis(5)),
            }
        };
        let mut output = String::new();
        child.stdout.take()?.read_to_string(&mut output).ok()?;
        status.success().then(|| output.trim().to_owned())
    }
}

/// Containers created, started and removed all the time, and programs executed in one, so that kills hit every step
/// of their lives. Their own failures are expected: what they leave behind is what counts.
fn churn(stack: &Stack, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<u64>> {
    let once =
        |client: &Client| client.attempt(&["run", "--rm", "--network", "none", "busybox", "true"]).is_some();
    let forced = |client: &Client| {
        let made = client.attempt(&["run", "-d", "--network", "none", "busybox", "workload", "count", "5"]);
        made.is_some_and(|id| client.attempt(&["rm", "-f", &id]).is_some())
    };
    let exec = |client: &Client| client.attempt(&["exec", "count", "true"]).is_some();
    let kinds: [fn(&Client) -> bool; 4] = [once, once, forced, exec];
    let churner = |kind: fn(&Client) -> bool| {
        let (client, stop) = (Client::new(stack), stop.clone());
        thread::spawn(move || {
            let mut good = 0;
            while !stop.load(Ordering::Relaxed) {
                good += u64::from(kind(&client));
            }
            good
        })
    };
    kinds.into_iter().map(churner).collect()
}

/// A terminal session and how far its output has been read.
struct Session {
    terminal: Terminal,
    at: usize,
}

impl Session {
    fn new(stack: &Stack, args: &[&str]) -> Session {
        let mut session = Session { terminal: Terminal::start(&stack.wharf_command(args)), at: 0 };
        session.works("hello");
        session
    }

    /// The shell at the other end still reads and answers. What is typed differs from what is printed.
    fn works(&mut self, word: &str) {
        self.terminal.send(&format!("echo an'swer'-{word}\n"));
        self.at = self.terminal.expect(self.at, &format!("answer-{word}"));
    }
}

fn field(stack: &Stack, container: &str, template: &str) -> String {
    stack.ok(&["inspect", "--format", template, container])
}

#[test]
fn root_killing_both_daemons_twenty_times_loses_nothing() {
    let mut stack = Stack::start();
    let port = port::free();
    let shared = stack.dir().join("shared");
    std::fs::create_dir(&shared).expect("a folder");
    let volume = format!("{}:/shared", shared.display());

    stack.ok(&["run", "-d", "--name", "count", "--network", "none", "busybox", "workload", "count", "1"]);
    stack.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "host",
        "busybox",
        "workload",
        "serve",
        &port.to_string(),
    ]);
    stack.ok(&["run", "-dit", "--name", "shell", "--network", "none", "busybox", "sh"]);
    eventually("the web server answers", SOON, || get_local(port).ok());
    let running = ["count", "web", "shell"];
    let pids: Vec<String> = running.iter().map(|c| field(&stack, c, "{{.State.Pid}}")).collect();

    let load = Load::on(port);
    let mut exec = Session::new(&stack, &["exec", "-it", "count", "sh"]);
    let mut attach = Session::new(&stack, &["attach", "shell"]);
    let stop = Arc::new(AtomicBool::new(false));
    let churning = churn(&stack, &stop);
    let mut until_right = [const { Vec::new() }; KINDS.len()];

    for round in 0..ROUNDS {
        thread::sleep(Duration::from_millis(random(250)));
        let leaver = format!("leaver{round}");
        let mut leaver_pid = String::new();
        let both = round % 3 == 2;
        if both {
            let flag = format!("/shared/go{round}");
            stack.ok(&[
                "run",
                "-d",
                "--name",
                &leaver,
                "--network",
                "none",
                "-v",
                &volume,
                "busybox",
                "workload",
                "exit-when",
                &flag,
                "42",
            ]);
            leaver_pid = field(&stack, &leaver, "{{.State.Pid}}");
        }
        match round % 3 {
            0 => stack.kill_wharfd(),
            1 => stack.kill_lifecycled(),
            _ if random(2) == 0 => {
                stack.kill_wharfd();
                stack.kill_lifecycled();
            }
            _ => {
                stack.kill_lifecycled();
                stack.kill_wharfd();
            }
        }
        // sessions work while nobody is there
        exec.works(&format!("down{round}"));
        attach.works(&format!("down{round}"));
        let left = both.then(|| {
            let told = SystemTime::now();
            std::fs::write(shared.join(format!("go{round}")), "").expect("the flag is written");
            eventually("the container ends", SOON, || {
                (!Path::new("/proc").join(&leaver_pid).exists()).then_some(told)
            })
        });
        thread::sleep(Duration::from_millis(100 + random(200)));
        let restarted = SystemTime::now();
        match round % 3 {
            0 => stack.start_wharfd(),
            1 => stack.start_lifecycled(),
            // in either order, and without waiting for one another
            _ if random(2) == 0 => {
                stack.spawn_lifecycled();
                stack.start_wharfd();
            }
            _ => {
                stack.spawn_wharfd();
                stack.start_lifecycled();
            }
        }
        let up = Instant::now();
        eventually("ps is right after the restart", SOON, || {
            let out = stack.wharf(&["ps", "--format", "{{.Names}}"]);
            let names = String::from_utf8_lossy(&out.stdout).into_owned();
            let listed: Vec<&str> = names.lines().collect();
            (running.iter().all(|c| listed.contains(c)) && !(both && listed.contains(&leaver.as_str())))
                .then_some(())
        });
        until_right[round % KINDS.len()].push(up.elapsed());
        exec.works(&format!("up{round}"));
        attach.works(&format!("up{round}"));
        for (container, pid) in running.iter().zip(&pids) {
            assert_eq!(
                &field(&stack, container, "{{.State.Pid}}"),
                pid,
                "the pid of {container} in round {round}"
            );
        }
        if let Some(left) = left {
            assert_eq!(field(&stack, &leaver, "{{.State.Status}} {{.State.ExitCode}}"), "exited 42");
            let finished: SystemTime = field(&stack, &leaver, "{{.State.FinishedAt}}")
                .parse::<jiff::Timestamp>()
                .expect("FinishedAt is RFC 3339")
                .into();
            // the true time, not when the daemons learned of it
            assert!(left <= finished && finished <= restarted, "{left:?} {finished:?} {restarted:?}");
        }
    }

    for (kind, took) in KINDS.iter().zip(&mut until_right) {
        took.sort();
        assert!(took[0] < RIGHT, "{kind}: ps is right {took:?} after a restart");
    }
    stop.store(true, Ordering::Relaxed);
    let churned: u64 = churning.into_iter().map(|thread| thread.join().expect("the churn ends")).sum();
    let answered = load.finish();
    assert!(answered > 100, "only {answered} requests were made");

    // the interactive sessions end as sessions end
    exec.terminal.send("exit 7\n");
    assert_eq!(exec.terminal.exit_code(), 7, "the exec session's exit code");
    attach.terminal.send("exit 9\n");
    assert_eq!(attach.terminal.exit_code(), 9, "the attach session's exit code");

    stack.ok(&["stop", "-t", "0", "count"]);
    let log = stack.ok(&["logs", "count"]);
    let mut lines = 0;
    for (at, line) in log.lines().enumerate() {
        assert_eq!(line, at.to_string(), "line {at} of the log");
        lines += 1;
    }
    assert!(lines > 1000, "only {lines} lines were logged");

    let leaks = stack.leaks_after_removal();
    assert!(leaks.is_empty(), "left behind: {leaks:#?}\n{}", stack.story_of(&leaks));
    println!(
        "{ROUNDS} kills: {lines} log lines in order, {answered} requests answered, {churned} containers and execs churned, \
         ps right after a restart: {until_right:?} of {KINDS:?}",
    );
}
