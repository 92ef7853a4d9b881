//! Progress on its way to a client.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use wharf_docker::progress::Message;

/// Lines that wait for a slow client before the operation waits for it.
const QUEUE: usize = 256;

/// Where an operation says how far it is. Clones speak to the same client.
#[derive(Clone)]
pub struct Progress {
    lines: Option<mpsc::Sender<Message>>,
}

impl Progress {
    /// A sender, and the lines in order. The lines end when the operation has ended.
    pub fn channel() -> (Self, mpsc::Receiver<Message>) {
        let (lines, receiver) = mpsc::channel(QUEUE);
        (Self { lines: Some(lines) }, receiver)
    }

    /// For operations nobody watches.
    pub fn silent() -> Self {
        Self { lines: None }
    }

    /// Sends a line that must arrive. A client that is gone is no error: whoever waits for the lines decides what
    /// becomes of the operation.
    pub(crate) async fn say(&self, line: Message) {
        if let Some(lines) = &self.lines {
            let _ = lines.send(line).await;
        }
    }

    /// A line about `id` that stays.
    pub(crate) async fn status(&self, id: &str, text: impl Into<String>) {
        self.say(Message::status(id, text)).await;
    }

    /// A line about `id` that a later one replaces.
    pub(crate) async fn update(&self, id: &str, action: &str) {
        self.say(Message::progress(id, action, 0, 0)).await;
    }

    /// Sends a line of the caller's own, after those of the operation.
    pub async fn finish(&self, line: Message) {
        self.say(line).await;
    }

    /// Sends a line that may be left out when the client is slow.
    fn hint(&self, line: Message) {
        if let Some(lines) = &self.lines {
            let _ = lines.try_send(line);
        }
    }
}

/// Least time between two lines of one meter.
const INTERVAL: Duration = Duration::from_millis(100);
/// Bytes after which a line is sent earlier.
const STRIDE: u64 = 512 << 10;

/// How far one transfer is, told at a bearable rate.
pub(crate) struct Meter<'a> {
    progress: &'a Progress,
    id: &'a str,
    action: &'static str,
    total: u64,
    told: u64,
    at: Option<Instant>,
}

impl<'a> Meter<'a> {
    pub fn new(progress: &'a Progress, id: &'a str, action: &'static str, total: u64) -> Self {
        Self { progress, id, action, total, told: 0, at: None }
    }

    /// Tells that `current` bytes are done, unless it told so lately.
    pub fn at(&mut self, current: u64) {
        let is_due = self.at.is_none_or(|at| at.elapsed() >= INTERVAL);
        let is_end = current >= self.total;
        if is_end || (is_due && current - self.told.min(current) >= STRIDE.min(self.total / 100)) {
            self.told = current;
            self.at = Some(Instant::now());
            self.progress.hint(Message::progress(self.id, self.action, current, self.total));
        }
    }
}
