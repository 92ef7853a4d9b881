//! The server: one thread a connection reads requests; answers may come from any thread, in any order.

use std::io::{self, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use prost::Message;
use rustix::io::Errno;
use wharf_kinds::Kind;
use wharf_ttrpc::{Request, Response, Status, Type};

use crate::log;

/// Connections served at once; more are closed.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may leave an answer unread before its connection is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Reading decodes small messages only.
const STACK: usize = 256 * 1024;

/// What a server offers.
pub trait Service: Send + Sync + 'static {
    /// Takes one call. It must not block: what takes long goes to another thread, with the responder.
    fn call(self: &Arc<Self>, service: &str, method: &str, payload: Vec<u8>, responder: Responder);
}

/// The way back to a caller. Dropping it without an answer answers with an error.
#[derive(Debug)]
pub struct Responder {
    connection: Arc<Mutex<UnixStream>>,
    stream: u32,
    answered: bool,
}

impl Responder {
    /// Sends the encoded response message. A caller that is gone is no error.
    pub fn ok(self, payload: Vec<u8>) {
        self.send(Response { status: None, payload });
    }

    /// Sends an error.
    pub fn error(self, kind: Kind, text: String) {
        let status = Status { code: kind.grpc_code(), message: text, details: Vec::new() };
        self.send(Response { status: Some(status), payload: Vec::new() });
    }

    fn send(mut self, response: Response) {
        self.write(&response);
    }

    fn write(&mut self, response: &Response) {
        self.answered = true;
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if wharf_ttrpc::write(&mut *connection, self.stream, Type::Response, response).is_err() {
            // a frame may be half written: nothing more can follow
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.answered {
            let status = Status {
                code: Kind::Internal.grpc_code(),
                message: "request was dropped".to_owned(),
                details: Vec::new(),
            };
            self.write(&Response { status: Some(status), payload: Vec::new() });
        }
    }
}

/// How long to wait for descriptors or memory to come back.
const SHORTAGE: Duration = Duration::from_millis(50);

/// Serves connections until the listener fails. A shortage of descriptors or memory is no such failure: the container
/// would lose its keeper.
pub fn serve<S: Service>(listener: &UnixListener, service: &Arc<S>) {
    let live = Arc::new(AtomicUsize::new(0));
    for connection in listener.incoming() {
        let connection = match connection {
            Ok(connection) => connection,
            Err(e) if is_passing(&e) => continue,
            Err(e)
                if matches!(Errno::from_io_error(&e), Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK)) =>
            {
                log::error(format_args!("accept failed: {e}"));
                return;
            }
            Err(e) => {
                log::error(format_args!("accept failed, trying again: {e}"));
                thread::sleep(SHORTAGE);
                continue;
            }
        };
        if live.load(Ordering::Relaxed) >= MAX_CONNECTIONS || !is_own_user(&connection) {
            continue;
        }
        live.fetch_add(1, Ordering::Relaxed);
        let (service, live_there) = (Arc::clone(service), Arc::clone(&live));
        let spawned = thread::Builder::new().name("ttrpc".into()).stack_size(STACK).spawn(move || {
            if let Err(e) = read_calls(connection, &service) {
                log::debug(format_args!("connection ended: {e}"));
            }
            live_there.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            live.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whether accepting can go on: the client was quicker to leave, or a signal came.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted)
}

fn is_own_user(connection: &UnixStream) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(connection).is_ok_and(|peer| peer.uid == own || peer.uid.is_root())
}

fn read_calls<S: Service>(connection: UnixStream, service: &Arc<S>) -> io::Result<()> {
    connection.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let mut reader = BufReader::with_capacity(4096, connection.try_clone()?);
    let writer = Arc::new(Mutex::new(connection));
    while let Some(frame) = wharf_ttrpc::read(&mut reader)? {
        let responder = Responder { connection: Arc::clone(&writer), stream: frame.stream, answered: false };
        if frame.kind != Type::Request || frame.stream % 2 == 0 {
            responder.error(Kind::InvalidArgument, "only unary requests are served".to_owned());
            continue;
        }
        match Request::decode(&frame.data[..]) {
            Ok(request) => service.call(&request.service, &request.method, request.payload, responder),
            Err(e) => responder.error(Kind::InvalidArgument, format!("bad request: {e}")),
        }
    }
    Ok(())
}
