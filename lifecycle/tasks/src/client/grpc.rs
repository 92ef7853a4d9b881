//! The same calls over gRPC, for shims that say so in their bootstrap answer.
//!
//! Methods are called by name with messages already encoded, as over ttrpc: no client is generated for them.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use prost::bytes::{Buf, BufMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use wharf_kinds::Kind;

use super::{CallError, Gone};

/// The header in which gRPC peers carry containerd's namespace.
const NAMESPACE_HEADER: &str = "containerd-namespace";
/// As the daemon's own services take.
const MAX_MESSAGE: usize = 16 << 20;

/// A connection that is made once: a shim that is gone is the supervisor's business.
pub(super) struct GrpcClient {
    channel: Channel,
    namespace: MetadataValue<Ascii>,
}

impl GrpcClient {
    /// `gone` is told when the connection is closed, from whichever side.
    pub(super) async fn over(stream: UnixStream, gone: Arc<Gone>, namespace: &str) -> io::Result<Self> {
        let stream = Watched { stream, gone };
        let namespace = namespace.parse().map_err(io::Error::other)?;
        let stream = Mutex::new(Some(stream));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = stream.lock().ok().and_then(|mut stream| stream.take());
            async move { stream.map(TokioIo::new).ok_or(io::Error::from(io::ErrorKind::NotConnected)) }
        });
        // the name goes nowhere but into a header
        let channel = Endpoint::from_static("http://shim").connect_with_connector(connector).await;
        Ok(GrpcClient { channel: channel.map_err(io::Error::other)?, namespace })
    }

    pub(super) async fn call(
        &self,
        service: &str,
        method: &'static str,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, CallError> {
        let malformed = |reason: String| CallError::Malformed { method, reason };
        let path = PathAndQuery::try_from(format!("/{service}/{method}"));
        let path = path.map_err(|error| malformed(error.to_string()))?;
        let mut client = Grpc::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        client.ready().await.map_err(|_| CallError::Closed)?;
        let mut request = Request::new(payload);
        request.metadata_mut().insert(NAMESPACE_HEADER, self.namespace.clone());
        match client.unary(request, path, Encoded).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(refused(&status)),
        }
    }
}

/// The shim's refusal; what broke on the way to it has a source of its own.
fn refused(status: &Status) -> CallError {
    let is_broken = std::error::Error::source(status).is_some();
    if is_broken || status.code() == Code::Unavailable && status.message().is_empty() {
        return CallError::Closed;
    }
    CallError::Refused {
        kind: Kind::from_grpc_code(status.code().into()),
        message: status.message().to_owned(),
    }
}

/// Messages that are encoded already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoded;

impl Codec for Encoded {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Encoded;
    type Decoder = Encoded;

    fn encoder(&mut self) -> Encoded {
        Encoded
    }

    fn decoder(&mut self) -> Encoded {
        Encoded
    }
}

impl Encoder for Encoded {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

/// A stream whose end can be noticed without a request under way.
struct Watched {
    stream: UnixStream,
    gone: Arc<Gone>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.gone.set(true);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
