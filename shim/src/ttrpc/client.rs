//! The client: one call at a time.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use prost::Message;
use wharf_kinds::Kind;
use wharf_ttrpc::{Request, Response, Type};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server answered with an error.
    #[error("{text}")]
    Answer {
        /// Its kind.
        kind: Kind,
        /// Its text.
        text: String,
    },
    /// The connection failed or timed out; it cannot be used again.
    #[error("ttrpc {act}: {source}")]
    Connection {
        /// `connect`, `send` or `receive`.
        act: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The answer is not the message expected.
    #[error("ttrpc answer: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// A connection to a ttrpc server.
#[derive(Debug)]
pub struct Client {
    connection: UnixStream,
    /// Odd, growing.
    next_stream: u32,
}

impl Client {
    /// Connects to the unix socket at `path`; `timeout` bounds each call's sending and receiving.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(path: &Path, timeout: Option<Duration>) -> Result<Client, CallError> {
        let failed = |source| CallError::Connection { act: "connect", source };
        let connection = UnixStream::connect(path).map_err(failed)?;
        connection.set_read_timeout(timeout).map_err(failed)?;
        connection.set_write_timeout(timeout).map_err(failed)?;
        Ok(Client { connection, next_stream: 1 })
    }

    /// Calls a method and waits for its answer.
    ///
    /// # Errors
    /// See [`CallError`]; after [`CallError::Connection`] make another client.
    pub fn call<Q: Message, A: Message + Default>(
        &mut self,
        service: &str,
        method: &str,
        request: &Q,
    ) -> Result<A, CallError> {
        let stream = self.next_stream;
        self.next_stream = self.next_stream.wrapping_add(2);
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec(),
            ..Request::default()
        };
        wharf_ttrpc::write(&mut self.connection, stream, Type::Request, &request)
            .map_err(|source| CallError::Connection { act: "send", source })?;
        loop {
            let frame = wharf_ttrpc::read(&mut self.connection)
                .and_then(|frame| frame.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
                .map_err(|source| CallError::Connection { act: "receive", source })?;
            if frame.stream != stream || frame.kind != Type::Response {
                continue;
            }
            let response = Response::decode(&frame.data[..])?;
            return match response.status {
                Some(status) if status.code != 0 => {
                    Err(CallError::Answer { kind: Kind::from_grpc_code(status.code), text: status.message })
                }
                _ => Ok(A::decode(&response.payload[..])?),
            };
        }
    }
}
