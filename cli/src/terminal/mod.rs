//! The terminal of this process: raw mode, its size, detach keys, signals.

pub(crate) mod keys;
pub(crate) mod signals;

use std::os::fd::BorrowedFd;
use std::sync::Mutex;

use rustix::termios::{self, OptionalActions, Termios};

/// The state to go back to, while standard input is raw.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

pub(crate) fn stdin_is_terminal() -> bool {
    termios::isatty(rustix::stdio::stdin())
}

pub(crate) fn stdout_is_terminal() -> bool {
    termios::isatty(rustix::stdio::stdout())
}

/// Height and width of the terminal on standard output; (0, 0) if it is none.
pub(crate) fn size() -> (u32, u32) {
    size_of(rustix::stdio::stdout())
}

fn size_of(fd: BorrowedFd<'_>) -> (u32, u32) {
    termios::tcgetwinsize(fd).map_or((0, 0), |size| (size.ws_row.into(), size.ws_col.into()))
}

/// Makes standard input raw, unless NORAW is set as docker has it. Output stays processed by no one either:
/// the terminal is one device.
pub(crate) fn make_raw() -> std::io::Result<()> {
    if crate::session::env("NORAW").is_some() || !stdin_is_terminal() {
        return Ok(());
    }
    let stdin = rustix::stdio::stdin();
    let cooked = termios::tcgetattr(stdin)?;
    let mut raw = cooked.clone();
    raw.make_raw();
    if let Ok(mut saved) = SAVED.lock() {
        saved.get_or_insert(cooked);
    }
    termios::tcsetattr(stdin, OptionalActions::Now, &raw)?;
    Ok(())
}

/// Puts the terminal back; does nothing if it is not raw. Safe to call from anywhere, any number of times.
pub(crate) fn restore() {
    let saved = SAVED.lock().ok().and_then(|mut saved| saved.take());
    if let Some(cooked) = saved {
        // a terminal that is gone needs no restoring
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &cooked);
    }
}
