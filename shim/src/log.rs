//! The shim's own log: the bundle's `log` FIFO, which the daemon copies to its own, else stderr.
//!
//! Lines are logrus text, as containerd's shims write them. Nothing here ever blocks or fails: with nobody
//! reading, a line is dropped.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;

static SINK: OnceLock<File> = OnceLock::new();
static DEBUG: AtomicBool = AtomicBool::new(false);

/// Opens `<bundle>/log` if it is a FIFO, and sets whether debug lines are written.
pub fn open(bundle: &Path, debug: bool) {
    DEBUG.store(debug, Ordering::Relaxed);
    let path = bundle.join("log");
    if !std::fs::symlink_metadata(&path).is_ok_and(|m| m.file_type().is_fifo()) {
        return;
    }
    // for reading too, so that writing without a daemon is no EPIPE
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32;
    if let Ok(file) = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
        let _ = SINK.set(file);
    }
}

fn line(level: &str, text: fmt::Arguments<'_>) {
    let time = wharf_logs::Stamp::now();
    let line = format!("time=\"{time}\" level={level} msg={:?}\n", text.to_string());
    let _ = match SINK.get() {
        Some(mut file) => file.write_all(line.as_bytes()),
        None => std::io::stderr().write_all(line.as_bytes()),
    };
}

/// Something failed.
pub fn error(text: fmt::Arguments<'_>) {
    line("error", text);
}

/// Something is odd but goes on.
pub fn warn(text: fmt::Arguments<'_>) {
    line("warning", text);
}

/// For finding faults; written with `-debug` only.
pub fn debug(text: fmt::Arguments<'_>) {
    if DEBUG.load(Ordering::Relaxed) {
        line("debug", text);
    }
}
