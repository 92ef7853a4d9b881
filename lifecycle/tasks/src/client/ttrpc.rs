//! ttrpc to one shim, for many shims at once.
//!
//! An idle connection costs its socket, one small task that reads, and an entry for each call that waits: there are
//! no channels and no buffers. Callers write their own frames; what the socket does not take at once is left to the
//! task. Stream ids grow in the order in which frames are written, as servers demand.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use prost::Message;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use wharf_kinds::Kind;
use wharf_ttrpc::{Decoder, Metadata, Oversized, Received, Request, Response, Type, frame};

use super::{CallError, Gone};

/// The header in which ttrpc peers carry containerd's namespace.
const NAMESPACE_HEADER: &str = "containerd-namespace-ttrpc";
/// Bytes of frames that wait for the socket. With more, callers wait before theirs is encoded.
const MAX_QUEUED: usize = 256 * 1024;
/// Read at a time, on the stack.
const PIECE: usize = 4096;

/// A connection; it closes with this.
pub(super) struct TtrpcClient {
    shared: Arc<Shared>,
    reader: AbortHandle,
}

impl Drop for TtrpcClient {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Shared {
    socket: OwnedWriteHalf,
    state: Mutex<State>,
    /// The queue is short again, or the connection is gone.
    room: Notify,
    gone: Arc<Gone>,
}

/// The task that reads, and writes what callers could not.
struct Reader {
    shared: Arc<Shared>,
    socket: OwnedReadHalf,
    decoder: Decoder,
}

struct State {
    /// The next call's.
    stream: u32,
    /// In the order of their streams.
    calls: Vec<Call>,
    /// Frames that are not written yet, the first one perhaps in part.
    queue: VecDeque<Vec<u8>>,
    /// Bytes of the first one that are written.
    written: usize,
    /// Bytes of all of them that are not.
    queued: usize,
    reader: Option<Waker>,
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Nothing can be sent any more; answers that the peer has sent before are still taken.
    Ending,
    Closed,
}

struct Call {
    stream: u32,
    state: CallState,
}

enum CallState {
    Waiting(Option<Waker>),
    Over(Answer),
}

/// What came for a call.
enum Answer {
    Response(Vec<u8>),
    Oversized(Oversized),
    Unexpected(Type),
}

impl TtrpcClient {
    /// Needs an async context. `gone` is told when the connection is closed, from whichever side.
    pub(super) fn over(stream: UnixStream, gone: Arc<Gone>) -> Self {
        let (reading, socket) = stream.into_split();
        let state = State {
            stream: 1,
            calls: Vec::new(),
            queue: VecDeque::new(),
            written: 0,
            queued: 0,
            reader: None,
            way: Way::Open,
        };
        let shared = Arc::new(Shared { socket, state: Mutex::new(state), room: Notify::new(), gone });
        let reader = Reader { shared: shared.clone(), socket: reading, decoder: Decoder::default() };
        TtrpcClient { shared, reader: tokio::spawn(reader).abort_handle() }
    }

    /// Sends a request and waits for its answer, for ever if need be. Given up, the call leaves nothing behind; its
    /// frame is not sent if that has not begun.
    pub(super) async fn call(
        &self,
        service: &str,
        method: &'static str,
        namespace: &str,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, CallError> {
        let header = Metadata { key: NAMESPACE_HEADER.into(), value: namespace.into() };
        let request = Request {
            service: service.into(),
            method: method.into(),
            payload,
            timeout_nano: 0,
            metadata: vec![header],
        };
        let stream = self.shared.send(&request).await?;
        drop(request);
        let answer = Waiting { shared: &self.shared, stream, over: false }.await;
        match answer.ok_or(CallError::Closed)? {
            Answer::Response(data) => opened(method, &data),
            Answer::Oversized(error) => Err(oversized(error)),
            Answer::Unexpected(kind) => {
                let reason = format!("a frame of type {kind:?} instead of a response");
                Err(CallError::Malformed { method, reason })
            }
        }
    }
}

fn opened(method: &'static str, data: &[u8]) -> Result<Vec<u8>, CallError> {
    let response =
        Response::decode(data).map_err(|error| CallError::Malformed { method, reason: error.to_string() })?;
    match response.status {
        Some(status) if status.code != 0 => {
            Err(CallError::Refused { kind: Kind::from_grpc_code(status.code), message: status.message })
        }
        _ => Ok(response.payload),
    }
}

/// As containerd's client says it.
fn oversized(error: Oversized) -> CallError {
    CallError::Refused { kind: Kind::ResourceExhausted, message: error.to_string() }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // nothing in there panics between two changes that belong together
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request, or queues it; its stream.
    async fn send(&self, request: &Request) -> Result<u32, CallError> {
        loop {
            // from here on no room is missed
            let room = self.room.notified();
            match self.try_send(request)? {
                Some(stream) => return Ok(stream),
                None => room.await,
            }
        }
    }

    /// `None` if too much is queued already.
    fn try_send(&self, request: &Request) -> Result<Option<u32>, CallError> {
        let mut state = self.lock();
        if state.way != Way::Open {
            return Err(CallError::Closed);
        }
        if state.queued > MAX_QUEUED {
            return Ok(None);
        }
        let stream = state.stream;
        let frame = frame(stream, Type::Request, request).map_err(oversized)?;
        let Some(next) = stream.checked_add(2) else {
            // two thousand million calls: the supervisor connects again
            self.stop_sending(&mut state);
            return Err(CallError::Closed);
        };
        state.stream = next;
        state.queued += frame.len();
        state.queue.push_back(frame);
        state.calls.push(Call { stream, state: CallState::Waiting(None) });
        // frames go in the order of the queue
        if state.queue.len() == 1 {
            self.flush(&mut state);
        }
        if !state.queue.is_empty() {
            state.wake_reader();
        }
        Ok(Some(stream))
    }

    /// Writes what the socket takes.
    fn flush(&self, state: &mut State) {
        let was_full = state.queued > MAX_QUEUED;
        while let Some(first) = state.queue.front() {
            match self.socket.try_write(&first[state.written..]) {
                Ok(0) => self.stop_sending(state),
                Ok(count) => {
                    state.written += count;
                    state.queued -= count;
                    if state.written == first.len() {
                        state.queue.pop_front();
                        state.written = 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.stop_sending(state),
            }
        }
        if state.queue.is_empty() {
            // what a stuck shim made wait is not kept room for
            state.queue = VecDeque::new();
        }
        if was_full && state.queued <= MAX_QUEUED {
            self.room.notify_waiters();
        }
    }

    /// Nothing more is sent. The reader comes to an end once it has what the peer has sent before.
    fn stop_sending(&self, state: &mut State) {
        if state.way == Way::Open {
            state.way = Way::Ending;
            // fails if the peer is gone, which the reader learns by itself
            let _ = shutdown(self.socket.as_ref(), Shutdown::Both);
        }
        (state.queue, state.written, state.queued) = (VecDeque::new(), 0, 0);
    }

    /// Gives a call its answer. One that nobody waits for is dropped.
    fn deliver(&self, stream: u32, answer: Answer) {
        let mut state = self.lock();
        let Some(call) = state.call(stream) else { return };
        let waker = match std::mem::replace(&mut call.state, CallState::Over(answer)) {
            CallState::Waiting(waker) => waker,
            CallState::Over(first) => {
                // a second answer changes nothing
                call.state = CallState::Over(first);
                None
            }
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends all calls that have no answer.
    fn close(&self) {
        let mut state = self.lock();
        self.stop_sending(&mut state);
        state.way = Way::Closed;
        let wakers: Vec<Waker> = state
            .calls
            .iter_mut()
            .filter_map(|call| match &mut call.state {
                CallState::Waiting(waker) => waker.take(),
                CallState::Over(_) => None,
            })
            .collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        self.room.notify_waiters();
        self.gone.set(true);
    }
}

impl State {
    fn position(&self, stream: u32) -> Option<usize> {
        self.calls.binary_search_by_key(&stream, |call| call.stream).ok()
    }

    fn call(&mut self, stream: u32) -> Option<&mut Call> {
        let position = self.position(stream)?;
        self.calls.get_mut(position)
    }

    /// Takes back a frame of which nothing is written yet.
    fn unqueue(&mut self, stream: u32) {
        let begun = usize::from(self.written > 0);
        let is_meant = |frame: &Vec<u8>| frame.get(4..8) == Some(&stream.to_be_bytes());
        if let Some(position) = (begun..self.queue.len()).find(|at| is_meant(&self.queue[*at]))
            && let Some(frame) = self.queue.remove(position)
        {
            self.queued -= frame.len();
        }
    }

    fn wake_reader(&self) {
        if let Some(reader) = &self.reader {
            reader.wake_by_ref();
        }
    }
}

/// A call whose request is queued or sent. `None` if the connection is gone.
struct Waiting<'a> {
    shared: &'a Shared,
    stream: u32,
    over: bool,
}

impl Future for Waiting<'_> {
    type Output = Option<Answer>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Answer>> {
        let mut state = self.shared.lock();
        let closed = state.way == Way::Closed;
        let Some(position) = state.position(self.stream) else { return Poll::Ready(None) };
        match &mut state.calls[position].state {
            CallState::Waiting(waker) if !closed => {
                match waker {
                    Some(known) => known.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                return Poll::Pending;
            }
            _ => {}
        }
        let call = state.calls.remove(position);
        state.shrink();
        drop(state);
        self.over = true;
        Poll::Ready(match call.state {
            CallState::Over(answer) => Some(answer),
            CallState::Waiting(_) => None,
        })
    }
}

impl State {
    /// What a burst of calls made room for is given back.
    fn shrink(&mut self) {
        if self.calls.capacity() > 32 && self.calls.len() < self.calls.capacity() / 4 {
            self.calls.shrink_to(self.calls.len() * 2);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut state = self.shared.lock();
        let was_full = state.queued > MAX_QUEUED;
        let call = state.position(self.stream).map(|position| state.calls.remove(position));
        state.unqueue(self.stream);
        state.shrink();
        let has_room = was_full && state.queued <= MAX_QUEUED;
        drop(state);
        drop(call);
        if has_room {
            self.shared.room.notify_waiters();
        }
    }
}

impl Reader {
    /// Writes what is queued, as far as the socket takes it.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        loop {
            let mut state = self.shared.lock();
            match &mut state.reader {
                Some(known) => known.clone_from(context.waker()),
                None => state.reader = Some(context.waker().clone()),
            }
            if state.queue.is_empty() {
                return Ok(());
            }
            drop(state);
            match self.shared.socket.as_ref().poll_write_ready(context)? {
                Poll::Ready(()) => self.shared.flush(&mut self.shared.lock()),
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Takes one piece of what has come.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut piece = [0; PIECE];
        let mut buffer = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer))?;
        let mut bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        while let Some(received) = self.decoder.take(&mut bytes) {
            match received {
                Received::Frame(frame) if frame.kind == Type::Response => {
                    self.shared.deliver(frame.stream, Answer::Response(frame.data));
                }
                Received::Frame(frame) => self.shared.deliver(frame.stream, Answer::Unexpected(frame.kind)),
                Received::Oversized { stream, error, .. } => {
                    self.shared.deliver(stream, Answer::Oversized(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Future for Reader {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.poll_write(context).is_err() {
            self.shared.stop_sending(&mut self.shared.lock());
        }
        loop {
            match ready!(self.poll_read(context)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // dropping it closes the connection
                Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.close();
    }
}

#[cfg(test)]
mod tests;
