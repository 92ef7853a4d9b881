//! The log, on stderr, written by a thread of its own: a terminal or pipe that nobody reads must not stop the daemon.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_sdk::trace::SdkTracer;
use tracing::Level;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry, reload};

/// Lines that may wait to be written; more are dropped.
const BACKLOG: usize = 1024;
/// How long the end of the program waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(200);

enum Message {
    Line(Vec<u8>),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

/// Sets the level from which on events are written.
type SetLevel = Box<dyn Fn(Level) -> Result<(), reload::Error> + Send + Sync>;

/// Writes what is left when it is dropped.
pub struct Log {
    lines: SyncSender<Message>,
    set_level: SetLevel,
}

impl Log {
    /// Changes the level of a log that is written already.
    pub fn set_level(&self, level: Level) -> Result<(), reload::Error> {
        (self.set_level)(level)
    }
}

fn filter_of(level: Level) -> EnvFilter {
    EnvFilter::new(format!(
        "{level},h2=warn,wharf::rpc=off,wharf::work=off,opentelemetry=warn,hyper=warn,tower=warn,tonic=warn,ttrpc=warn"
    ))
}

/// Sends events of `level` and above to stderr, the libraries' only from warnings up; spans of calls, and what
/// happens in them, to `tracer` if there is one.
pub fn to_stderr(level: Level, tracer: Option<SdkTracer>) -> io::Result<Log> {
    let (lines, waiting) = sync_channel(BACKLOG);
    thread::Builder::new()
        .name("log".into())
        .stack_size(128 << 10)
        .spawn(move || write_all(&waiting, &mut io::stderr()))?;
    let writer = Lines { lines: lines.clone() };
    let (filter, handle) = reload::Layer::new(filter_of(level));
    let written = fmt::layer().with_writer(writer).with_ansi(false).with_filter(filter);
    let traced = tracer.map(|tracer| {
        // not the libraries': the exporter's own calls would be traced
        let ours = filter_fn(|meta| {
            *meta.level() <= Level::INFO
                && (meta.target().starts_with("wharf") || meta.target().starts_with("lifecycle"))
        });
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours)
    });
    registry().with(written).with(traced).init();
    Ok(Log { lines, set_level: Box::new(move |level| handle.reload(filter_of(level))) })
}

impl Drop for Log {
    fn drop(&mut self) {
        flush(&self.lines, LAST_LINES);
    }
}

fn flush(lines: &SyncSender<Message>, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    let (done, flushed) = sync_channel(1);
    let mut message = Message::Flush(done);
    while let Err(TrySendError::Full(back)) = lines.try_send(message) {
        if Instant::now() >= deadline {
            return false;
        }
        message = back;
        thread::yield_now();
    }
    flushed.recv_timeout(deadline.saturating_duration_since(Instant::now())) != Err(RecvTimeoutError::Timeout)
}

fn write_all(waiting: &Receiver<Message>, to: &mut impl Write) {
    for message in waiting {
        match message {
            // nobody to tell if stderr is gone
            Message::Line(line) => drop(to.write_all(&line)),
            Message::Flush(done) => drop(done.send(())),
        }
    }
}

/// Hands each event over as one line.
#[derive(Clone)]
struct Lines {
    lines: SyncSender<Message>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // a full backlog means that nobody reads: the line is lost, the daemon goes on
        let _ = self.lines.try_send(Message::Line(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_in_order_and_flushed() {
        let (lines, waiting) = sync_channel(BACKLOG);
        let writer = thread::spawn(move || {
            let mut written = Vec::new();
            write_all(&waiting, &mut written);
            written
        });
        let mut log = Lines { lines: lines.clone() };
        log.write_all(b"one\n").expect("write");
        log.write_all(b"two\n").expect("write");
        assert!(flush(&lines, Duration::from_secs(5)));
        drop((lines, log));
        assert_eq!(writer.join().expect("join"), b"one\ntwo\n");
    }

    #[test]
    fn reader_that_does_not_read_stops_nobody() {
        let (lines, _waiting) = sync_channel(2);
        let mut log = Lines { lines: lines.clone() };
        for _ in 0..10 {
            log.write_all(b"line\n").expect("write");
        }
        assert!(!flush(&lines, Duration::from_millis(20)));
    }
}
