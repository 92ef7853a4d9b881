//! Serving a process in the foreground: its signals, its terminal, its exit code.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use wharf_sys::pidfd;
use wharf_sys::signal::SignalFd;

const SIGCHLD: i32 = 17;
const SIGWINCH: i32 = 28;
const BUFFER: usize = 32 * 1024;

/// Standard input in raw mode; put back on drop.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Self {
        let stdin = rustix::stdio::stdin();
        let saved = isatty(stdin).then(|| tcgetattr(stdin).ok()).flatten();
        if let Some(saved) = &saved {
            let mut raw = saved.clone();
            raw.make_raw();
            // it goes on to make line ends of the newlines, which the container's terminal leaves alone
            raw.output_modes.insert(OutputModes::OPOST);
            let _ = tcsetattr(stdin, OptionalActions::Now, &raw);
        }
        Self(saved)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(saved) = &self.0 {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, saved);
        }
    }
}

/// Bytes on their way from one descriptor to another.
struct Pipe {
    bytes: Vec<u8>,
    open: bool,
}

impl Pipe {
    fn new() -> Self {
        Self { bytes: Vec::new(), open: true }
    }

    fn wants_input(&self) -> bool {
        self.open && self.bytes.is_empty()
    }

    fn fill(&mut self, from: BorrowedFd<'_>) {
        let mut buffer = vec![0u8; BUFFER];
        match rustix::io::read(from, &mut buffer) {
            Ok(0) => self.open = false,
            Ok(n) => {
                buffer.truncate(n);
                self.bytes = buffer;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // EIO: the last process has closed its end of the terminal
            Err(_) => self.open = false,
        }
    }

    fn flush(&mut self, to: BorrowedFd<'_>) {
        match rustix::io::write(to, &self.bytes) {
            Ok(n) => {
                self.bytes.drain(..n);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.bytes.clear();
                self.open = false;
            }
        }
    }
}

/// Serves the process until it ends; returns its exit code, 128 + n if signal n ended it. All signals must be blocked.
/// `terminal` is the master of its terminal.
pub fn serve(process: &OwnedFd, terminal: Option<OwnedFd>, signals: &SignalFd) -> io::Result<i32> {
    let raw = terminal.as_ref().map(|_| Raw::enter());
    if let Some(master) = &terminal {
        rustix::io::ioctl_fionbio(master, true)?;
        resize(master);
    }
    let (mut input, mut output) = (Pipe::new(), Pipe::new());
    loop {
        let mut fds = vec![PollFd::new(signals, PollFlags::IN), PollFd::new(process, PollFlags::IN)];
        if let Some(master) = &terminal {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, output.wants_input());
            wanted.set(PollFlags::OUT, !input.bytes.is_empty());
            fds.push(PollFd::from_borrowed_fd(
                if output.open { master.as_fd() } else { process.as_fd() },
                wanted,
            ));
            let stdin = rustix::stdio::stdin();
            fds.push(PollFd::from_borrowed_fd(
                if input.wants_input() { stdin } else { process.as_fd() },
                PollFlags::IN,
            ));
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let ready: Vec<bool> = fds.iter().map(|f| !f.revents().is_empty()).collect();
        let on = |i: usize| ready.get(i).copied().unwrap_or(false);
        drop(fds);
        if on(0) {
            forward(signals, process, terminal.as_ref())?;
        }
        if let Some(master) = &terminal {
            transfer(master, &mut input, &mut output, on(2), on(3) && !on(1));
        }
        if on(1) {
            break;
        }
    }
    if let Some(master) = &terminal {
        drain(master, &mut output);
    }
    drop(raw);
    exit_code(process)
}

fn transfer(master: &OwnedFd, input: &mut Pipe, output: &mut Pipe, master_ready: bool, stdin_ready: bool) {
    if stdin_ready && input.wants_input() {
        input.fill(rustix::stdio::stdin());
    }
    if master_ready && output.wants_input() {
        output.fill(master.as_fd());
    }
    if !output.bytes.is_empty() {
        output.flush(rustix::stdio::stdout());
    }
    if !input.bytes.is_empty() {
        input.flush(master.as_fd());
    }
}

/// What the process wrote before it ended.
fn drain(master: &OwnedFd, output: &mut Pipe) {
    loop {
        if output.bytes.is_empty() {
            output.fill(master.as_fd());
        }
        if output.bytes.is_empty() {
            return;
        }
        output.flush(rustix::stdio::stdout());
    }
}

fn forward(signals: &SignalFd, process: &OwnedFd, terminal: Option<&OwnedFd>) -> io::Result<()> {
    while let Some(signal) = signals.next()? {
        match signal {
            SIGCHLD => {}
            SIGWINCH if terminal.is_some() => terminal.into_iter().for_each(resize),
            _ => {
                // it may have ended just now
                let _ = pidfd::send_signal(process, signal);
            }
        }
    }
    Ok(())
}

fn resize(master: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        let _ = tcsetwinsize(master, size);
    }
}

fn exit_code(process: &OwnedFd) -> io::Result<i32> {
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED))?;
    let Some(status) = status else { return Ok(255) };
    Ok(status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s)).unwrap_or(255))
}
