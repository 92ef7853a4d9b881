//! containerd.services.streaming.v1: streams that a client opens under a name, for a request that follows to use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use prost_types::Any;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wharf_containerd::containerd::services::streaming::v1 as api;
use wharf_kinds::Kind;

use crate::request::namespace;
use crate::status::status;

/// Streams waiting for their request at once.
const MAX_WAITING: usize = 4096;
/// Bytes of a stream's name.
const MAX_NAME: usize = 1024;
/// Messages on the way to the client.
const OUTGOING: usize = 64;

/// Streams by namespace and name; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<(String, String), Stream>>>);

/// Both directions of a stream. It ends for the client when this is dropped.
pub(crate) struct Stream {
    incoming: Streaming<Any>,
    outgoing: mpsc::Sender<Result<Any, Status>>,
}

impl Stream {
    /// False if the client is gone.
    pub async fn send<M: Message>(&self, name: &str, message: &M) -> bool {
        self.outgoing.send(Ok(wharf_containerd::to_any(name, message))).await.is_ok()
    }

    /// The next message, if it is of this name; others are passed over. None at the end.
    pub async fn receive<M: Message + Default>(&mut self, name: &str) -> Result<Option<M>, Status> {
        while let Some(any) = self.incoming.message().await? {
            if named(&any) == name {
                let decoded = M::decode(any.value.as_slice());
                return decoded.map(Some).map_err(|e| status(Kind::InvalidArgument, e));
            }
        }
        Ok(None)
    }
}

/// The full name of the message inside.
pub(crate) fn named(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

impl Streams {
    /// Hands a stream over to the request that names it.
    pub fn take(&self, namespace: &str, name: &str) -> Result<Stream, Status> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting
            .remove(&(namespace.to_owned(), name.to_owned()))
            .ok_or_else(|| status(Kind::NotFound, format_args!("stream {name:?}: not found")))
    }

    fn put(&self, namespace: String, name: String, stream: Stream) -> Result<(), Status> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, stream| !stream.outgoing.is_closed());
        if waiting.len() >= MAX_WAITING {
            return Err(status(Kind::ResourceExhausted, format_args!("{MAX_WAITING} streams wait already")));
        }
        if name.is_empty() || name.len() > MAX_NAME {
            let text = format!("the name of a stream has between 1 and {MAX_NAME} bytes: invalid argument");
            return Err(status(Kind::InvalidArgument, text));
        }
        match waiting.entry((namespace, name)) {
            std::collections::hash_map::Entry::Occupied(_) => {
                Err(status(Kind::AlreadyExists, "stream: already exists"))
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(stream);
                Ok(())
            }
        }
    }
}

pub(crate) struct StreamingService(pub(crate) Streams);

#[tonic::async_trait]
impl api::streaming_server::Streaming for StreamingService {
    type StreamStream = ReceiverStream<Result<Any, Status>>;

    /// Takes the stream's name, answers once that it is known, and leaves the rest to whom it is handed to.
    async fn stream(&self, request: Request<Streaming<Any>>) -> Result<Response<Self::StreamStream>, Status> {
        let namespace = namespace(&request)?;
        let streams = self.0.clone();
        let mut incoming = request.into_inner();
        let (outgoing, answers) = mpsc::channel(OUTGOING);
        // the answer's headers go first: clients wait for them before they send
        tokio::spawn(async move {
            let begun = async {
                let Some(first) = incoming.message().await? else { return Ok(()) };
                if named(&first) != "containerd.services.streaming.v1.StreamInit" {
                    let text = format!("a stream begins with its name and not with {:?}", first.type_url);
                    return Err(status(Kind::InvalidArgument, text));
                }
                let init = api::StreamInit::decode(first.value.as_slice())
                    .map_err(|e| status(Kind::InvalidArgument, e))?;
                // known before it is acknowledged: the request that uses it may follow at once
                let acknowledge = outgoing.clone();
                streams.put(namespace, init.id, Stream { incoming, outgoing: outgoing.clone() })?;
                let _ = acknowledge.send(Ok(wharf_containerd::to_any("google.protobuf.Empty", &()))).await;
                Ok(())
            };
            if let Err(status) = begun.await {
                let _ = outgoing.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}
