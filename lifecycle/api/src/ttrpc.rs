//! The ttrpc socket, where shims send their events: `containerd.services.events.ttrpc.v1.Events/Forward`.

use std::collections::HashMap;

use futures_util::stream::unfold;
use lifecycle_tasks::Tasks;
use prost::Message;
use tokio::net::UnixListener;
use tonic::Status;
use ttrpc::asynchronous::transport::Listener;
use ttrpc::asynchronous::{MethodHandler, Server, Service, TtrpcContext};
use ttrpc::proto::{Code, Request, Response, Status as TtrpcStatus};
use wharf_containerd::containerd::services::events::ttrpc::v1::ForwardRequest;
use wharf_kinds::Kind;

use crate::events;
use crate::status::status;

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";

/// Serves shims' events on a socket. The server ends when it is dropped.
pub(crate) async fn serve(listener: UnixListener, tasks: Tasks) -> Result<Server, ttrpc::Error> {
    let connections = unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let forward: Box<dyn MethodHandler + Send + Sync> = Box::new(Forward { tasks });
    let service = Service { methods: HashMap::from([("Forward".into(), forward)]), streams: HashMap::new() };
    let mut server = Server::new()
        .add_listener(Listener::new(connections))
        .register_service(HashMap::from([(SERVICE.into(), service)]));
    server.start().await?;
    Ok(server)
}

struct Forward {
    tasks: Tasks,
}

impl Forward {
    fn take(&self, payload: &[u8]) -> Result<(), Status> {
        let request = ForwardRequest::decode(payload)
            .map_err(|error| status(Kind::InvalidArgument, format_args!("{error}: invalid argument")))?;
        let envelope = events::decode(request.envelope)?;
        self.tasks.forward(envelope).map_err(|error| status(error.kind(), error))
    }
}

#[tonic::async_trait]
impl MethodHandler for Forward {
    async fn handler(&self, _: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        let mut response = Response::new();
        let mut answer = TtrpcStatus::new();
        match self.take(&request.payload) {
            Ok(()) => answer.set_code(Code::OK),
            Err(error) => {
                answer.set_code(match error.code() {
                    tonic::Code::InvalidArgument => Code::INVALID_ARGUMENT,
                    _ => Code::UNKNOWN,
                });
                answer.set_message(error.message().to_owned());
            }
        }
        response.set_status(answer);
        Ok(response)
    }
}
