//! The daemon as a service manager sees it: notifications, signals, its log.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// No answer takes longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon of its own root folder, killed at the end.
struct Service {
    child: Child,
    log: Receiver<String>,
    manager: UnixDatagram,
    at: tempfile::TempDir,
}

/// A configuration of sockets that the tests' own user can make, with `more` at its end.
fn config(at: &Path, more: &str) -> String {
    let owner = std::fs::metadata(at).expect("folder");
    let mut text =
        format!("root = '{0}/root'\nstate = '{0}/state'\n[grpc]\naddress = '{0}/d.sock'\n", at.display());
    write!(text, "uid = {}\ngid = {}\n{more}", owner.uid(), owner.gid()).expect("text");
    text
}

impl Service {
    /// Returns once the daemon has said that it serves.
    fn start(more: &str) -> Self {
        let at = tempfile::tempdir().expect("folder");
        let manager = UnixDatagram::bind(at.path().join("notify")).expect("bind");
        manager.set_read_timeout(Some(PATIENCE)).expect("timeout");
        std::fs::write(at.path().join("config.toml"), config(at.path(), more)).expect("configuration");
        let mut child = Command::new(env!("CARGO_BIN_EXE_wharf-lifecycled"))
            .arg("--config")
            .arg(at.path().join("config.toml"))
            .env("NOTIFY_SOCKET", at.path().join("notify"))
            .env("WATCHDOG_USEC", "200000")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                drop(lines.send(line));
            }
        });
        let service = Service { child, log, manager, at };
        assert_eq!(service.notified(), "READY=1", "the first thing said");
        service
    }

    fn notified(&self) -> String {
        let mut buffer = [0; 128];
        let length = self.manager.recv(&mut buffer).expect("notification");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// Skips signs of life.
    fn notified_of_state(&self) -> String {
        loop {
            match self.notified() {
                alive if alive == "WATCHDOG=1" => {}
                state => return state,
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("signal");
    }

    /// Writes the configuration anew and has it read; returns the log up to `end`.
    fn reload(&self, more: &str, end: &str) -> String {
        std::fs::write(self.at.path().join("config.toml"), config(self.at.path(), more)).expect("write");
        self.signal(Signal::HUP);
        assert!(self.notified_of_state().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(self.notified_of_state(), "READY=1");
        self.log_until(end)
    }

    fn log_until(&self, end: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut log = String::new();
        while !log.contains(end) {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).unwrap_or_else(|_| panic!("no {end:?} in {log}"));
            log.push_str(&line);
            log.push('\n');
        }
        log
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn signs_of_life_come_twice_in_each_interval() {
    // what is sent while the test is held up is received all at once: only the daemon's own start is before all of it
    let begin = Instant::now();
    let service = Service::start("");
    for _ in 0..5 {
        assert_eq!(service.notified(), "WATCHDOG=1");
    }
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(300), "not more often than needed: {took:?}");
}

#[test]
fn level_changes_on_hangup_and_the_rest_is_named() {
    let service = Service::start("");
    let log = service.reload("[debug]\nlevel = 'debug'\n", "configuration reloaded");
    assert!(log.contains("level=\"debug\"") && !log.contains("restart"), "{log}");
    let warn = "[debug]\nlevel = 'warn'\n[ttrpc]\naddress = '/nowhere/t.sock'\n";
    let log = service.reload(warn, "takes effect after a restart");
    assert!(log.contains("key=\"ttrpc\""), "{log}");
    let log = service.reload("", "configuration reloaded");
    assert!(log.contains("level=\"info\"") && !log.contains("level=\"warn\""), "below the level: {log}");
}

#[test]
fn unusable_file_is_named_and_changes_nothing() {
    let mut service = Service::start("");
    let log = service.reload("[debug]\nlevel = 'loud'\n", "the old one stays");
    assert!(log.contains("the old one stays") && log.contains("debug.level \"loud\""), "{log}");
    let log = service.reload("[debug]\nlevvel = 'info'\n", "unknown field");
    assert!(log.contains("the old one stays") && log.contains("unknown field `levvel`"), "{log}");
    let log = service.reload("", "configuration reloaded");
    assert!(log.contains("configuration reloaded level=\"info\""), "{log}");
    service.signal(Signal::TERM);
    service.log_until("shutting down");
    assert!(service.child.wait().expect("wait").success());
}
