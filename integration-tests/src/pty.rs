//! A program on a pseudo-terminal, driven like a person would.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::wait::{SOON, eventually};

/// A child on a terminal, and what it has printed so far.
pub struct Terminal {
    master: File,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts `command` in a session of its own (through `setsid -c`) on a new terminal of 24 rows and 80 columns.
    pub fn start(command: &Command) -> Terminal {
        let master: OwnedFd =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let slave = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .expect("pts");
        tcsetwinsize(&slave, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 })
            .expect("window size");
        let mut wrapped = Command::new("setsid");
        wrapped.args(["-c", "-w"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        wrapped.stdin(slave.try_clone().expect("dup")).stdout(slave.try_clone().expect("dup")).stderr(slave);
        let child = wrapped.spawn().expect("setsid runs");
        drop(wrapped);
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, into) = (master.try_clone().expect("dup"), seen.clone());
        thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                into.lock().expect("not poisoned").extend_from_slice(&buffer[..n]);
            }
        });
        Terminal { master, child, seen }
    }

    /// Types `text`.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal takes input");
    }

    /// Everything printed so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("not poisoned")).into_owned()
    }

    /// Waits until `text` has been printed after byte `from`; gives the position behind it.
    pub fn expect(&self, from: usize, text: &str) -> usize {
        let look = || {
            let seen = self.seen.lock().expect("not poisoned");
            let rest = seen.get(from..)?;
            rest.windows(text.len()).position(|w| w == text.as_bytes()).map(|at| from + at + text.len())
        };
        let deadline = std::time::Instant::now() + SOON;
        loop {
            if let Some(at) = look() {
                return at;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "terminal never printed {text:?}; screen:\n{}",
                self.screen()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How much has been printed.
    pub fn position(&self) -> usize {
        self.seen.lock().expect("not poisoned").len()
    }

    /// Changes the window size, as a person dragging a corner does.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.master.as_fd(), size).expect("window size");
    }

    /// Waits for the end and gives the exit code.
    pub fn exit_code(mut self) -> i32 {
        let screen = self.seen.clone();
        let status =
            eventually("the program on the terminal ends", SOON, || self.child.try_wait().expect("wait"));
        status.code().unwrap_or_else(|| {
            panic!(
                "ended by a signal; screen:\n{}",
                String::from_utf8_lossy(&screen.lock().expect("not poisoned"))
            )
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
