//! The shim's own messages: it writes them to the FIFO `log` in its bundle, and they end up in our log.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::task::AbortHandle;

use crate::bundle::Bundle;

/// Longest line that is kept together, in bytes; the rest begins a new one.
const MAX_LINE: usize = 8192;

/// Copies what comes out of the FIFO until aborted. Without a reader a shim would wait for one at its start.
///
/// Failure is logged and costs the messages only. Needs an async context.
pub(crate) fn pump(bundle: &Bundle) -> AbortHandle {
    let reader = open(&bundle.path.join("log"));
    let (id, namespace) = (bundle.id.clone(), bundle.namespace.clone());
    tokio::spawn(async move {
        match reader {
            Ok(reader) => copy(&reader, |line| report(&namespace, &id, line)).await,
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

async fn copy(reader: &Receiver, mut line: impl FnMut(&str)) {
    let mut rest = Vec::new();
    loop {
        if reader.readable().await.is_err() {
            return;
        }
        // not kept across the wait: an idle shim costs no buffer
        let mut buffer = [0; 4096];
        match reader.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => split(&mut rest, &buffer[..length], &mut line),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Calls back for each full line; keeps what is left of the last.
fn split(rest: &mut Vec<u8>, bytes: &[u8], line: &mut impl FnMut(&str)) {
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        rest.extend_from_slice(piece);
        if piece.ends_with(b"\n") || rest.len() >= MAX_LINE {
            let text = String::from_utf8_lossy(rest.trim_ascii_end());
            if !text.is_empty() {
                line(&text);
            }
            *rest = Vec::new();
        }
    }
}

/// Shims log in logrus' format; their information is about details of theirs.
fn report(namespace: &str, id: &str, line: &str) {
    let is = |level: &str| line.contains(&format!("level={level}"));
    if is("error") || is("fatal") || is("panic") {
        tracing::error!(id, namespace, line, "shim reports");
    } else if is("warn") {
        tracing::warn!(id, namespace, line, "shim reports");
    } else {
        tracing::debug!(id, namespace, line, "shim reports");
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions as StdOptions;
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn lines_arrive_whole_from_writers_that_come_and_go() {
        let at = tempfile::tempdir().expect("folder");
        let path = at.path().join("log");
        let reader = open(&path).expect("fifo");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let pump = tokio::spawn({
            let seen = seen.clone();
            async move { copy(&reader, |line| seen.lock().expect("lock").push(line.to_owned())).await }
        });
        for text in ["level=info one\nlevel=", "error two\n"] {
            let mut writer = StdOptions::new().write(true).open(&path).expect("open");
            writer.write_all(text.as_bytes()).expect("write");
        }
        let all = async {
            while seen.lock().expect("lock").len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("both lines");
        assert_eq!(*seen.lock().expect("lock"), ["level=info one", "level=error two"]);
        pump.abort();
    }

    #[test]
    fn endless_lines_are_cut() {
        let (mut rest, mut lines) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            split(&mut rest, &[b'x'; 4096], &mut |line: &str| lines.push(line.len()));
        }
        assert_eq!((lines, rest.len()), (vec![8192, 8192], 4096));
    }
}
