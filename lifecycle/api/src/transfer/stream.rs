//! An archive on a client's stream: data in one direction, leave to send more in the other
//! (`containerd.types.transfer.Data` and `WindowUpdate`).

use std::io::{self, Read, Write};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;
use tonic::Status;
use wharf_containerd::containerd::types::transfer as api;

use crate::streaming::Stream;

const DATA: &str = "containerd.types.transfer.Data";
const UPDATE: &str = "containerd.types.transfer.WindowUpdate";
/// Bytes that a client may send before it is given leave for more.
const WINDOW: i32 = 1 << 20;
/// Bytes of one message to a client.
const PIECE: usize = 64 << 10;
/// Pieces between the stream and the disk.
const PIECES: usize = 16;

/// The client's archive. Its sender is given leave as its data is taken.
pub(super) fn incoming(mut stream: Stream) -> impl Read + Send {
    let (send, receive) = mpsc::channel::<io::Result<Bytes>>(PIECES);
    tokio::spawn(async move {
        let mut window = 0;
        loop {
            if window < WINDOW / 2 {
                let update = api::WindowUpdate { update: WINDOW };
                if stream.send(UPDATE, &update).await {
                    window += WINDOW;
                }
            }
            let piece = match stream.receive::<api::Data>(DATA).await {
                Ok(None) => return,
                Ok(Some(data)) => {
                    window = window.saturating_sub(i32::try_from(data.data.len()).unwrap_or(i32::MAX));
                    Ok(Bytes::from(data.data))
                }
                Err(status) => Err(io::Error::other(status.message().to_owned())),
            };
            let broken = piece.is_err();
            if send.send(piece).await.is_err() || broken {
                return;
            }
        }
    });
    Incoming { pieces: receive, piece: Bytes::new() }
}

struct Incoming {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Where an archive is written to; a sender, to be awaited when the writer is done, brings it to the client.
pub(super) fn outgoing(
    stream: Stream,
) -> (impl Write + Send + 'static, impl Future<Output = Result<(), Status>>) {
    let (send, receive) = mpsc::channel(PIECES);
    (Outgoing { pieces: send, buffer: Vec::with_capacity(PIECE) }, forward(stream, receive))
}

async fn forward(mut stream: Stream, mut pieces: mpsc::Receiver<Bytes>) -> Result<(), Status> {
    let mut window: i64 = 0;
    while let Some(mut piece) = pieces.recv().await {
        while !piece.is_empty() {
            while window <= 0 {
                let Some(update) = stream.receive::<api::WindowUpdate>(UPDATE).await? else {
                    return Err(Status::cancelled("the client closed its stream"));
                };
                window += i64::from(update.update.max(0));
            }
            let count = piece.len().min(usize::try_from(window).unwrap_or(usize::MAX));
            let data = api::Data { data: piece.split_to(count).to_vec() };
            window -= i64::try_from(count).unwrap_or(i64::MAX);
            if !stream.send(DATA, &data).await {
                return Err(Status::cancelled("the client closed its stream"));
            }
        }
    }
    Ok(())
}

struct Outgoing {
    pieces: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client closed its stream");
        self.pieces.blocking_send(piece.into()).map_err(gone)
    }
}
