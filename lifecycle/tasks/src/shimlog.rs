//! The shim's own messages: it writes them to the FIFO `log` in its bundle, and they end up on our stderr.

use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::task::AbortHandle;

use crate::bundle::Bundle;

/// Copies the FIFO's content until aborted. Without a reader a shim would wait for one at its start.
///
/// Failure is logged and costs the messages only. Needs an async context.
pub(crate) fn pump(bundle: &Bundle) -> AbortHandle {
    let path = bundle.path.join("log");
    let reader = open(&path);
    let (id, namespace) = (bundle.id.clone(), bundle.namespace.clone());
    tokio::spawn(async move {
        match reader {
            Ok(reader) => copy(&reader).await,
            Err(error) => tracing::warn!(id, namespace, %error, "shim's messages are not read"),
        }
    })
    .abort_handle()
}

fn open(path: &Path) -> io::Result<Receiver> {
    match mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    // open for writing too, so that it does not end between two writers
    OpenOptions::new().read_write(true).open_receiver(path)
}

async fn copy(reader: &Receiver) {
    loop {
        if reader.readable().await.is_err() {
            return;
        }
        // not kept across the wait: an idle shim costs no buffer
        let mut buffer = [0; 4096];
        match reader.try_read(&mut buffer) {
            Ok(0) => return,
            // nobody to tell if stderr is gone
            Ok(length) => drop(io::stderr().write_all(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
