//! Waiting until something in a log's folder changes.

use std::io;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// Larger than the largest single event, which the kernel would otherwise refuse to give.
const EVENTS: usize = 4096;

/// A watch on a folder. Changes that happen between two waits are not lost.
pub(crate) struct Watch {
    /// An inotify queue: like a pipe it is polled and read, and that is all that is done with it.
    queue: Receiver,
}

impl Watch {
    /// Watches the folder that holds the log: the live file is replaced at each rotation.
    pub fn on(log: &Path) -> io::Result<Self> {
        let folder = log.parent().unwrap_or(Path::new("/"));
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&queue, folder, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
        Ok(Self { queue: Receiver::from_owned_fd_unchecked(queue)? })
    }

    /// Returns after at least one change since the last wait.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            self.queue.readable().await?;
            if self.drain()? {
                return Ok(());
            }
        }
    }

    /// Empties the queue; true if anything was in it. What it was does not matter, nor that the queue overflowed.
    fn drain(&self) -> io::Result<bool> {
        let mut events = [0u8; EVENTS];
        let mut any = false;
        loop {
            match self.queue.try_read(&mut events) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
