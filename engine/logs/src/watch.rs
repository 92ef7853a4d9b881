//! Waiting until something in a log's folder changes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A watch on a folder. Changes that happen between two waits are not lost.
pub(crate) struct Watch {
    queue: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Watches the folder that holds the log: the live file is replaced at each rotation.
    pub fn on(log: &Path) -> io::Result<Self> {
        let folder = log.parent().unwrap_or(Path::new("/"));
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&queue, folder, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
        Ok(Self { queue: AsyncFd::register_with_interest(queue, Interest::READABLE)? })
    }

    /// Returns after at least one change since the last wait.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.queue.readable().await?;
            if drain(self.queue.get_ref())? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

/// Empties the queue; true if anything was in it. That it overflowed is a change like any other.
fn drain(queue: &OwnedFd) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut reader = inotify::Reader::new(queue, &mut buffer);
    let mut any = false;
    loop {
        match reader.next() {
            Ok(_) => any = true,
            Err(rustix::io::Errno::AGAIN) => return Ok(any),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
