//! `containerd.services.events.v1`: publish, forward, subscribe.

use std::pin::Pin;

use futures_util::Stream;
use futures_util::stream::unfold;
use lifecycle_events::{Envelope, Exchange, Subscription};
use lifecycle_tasks::Tasks;
use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::events::v1::events_server::Events;
use wharf_containerd::containerd::services::events::v1::{ForwardRequest, PublishRequest, SubscribeRequest};
use wharf_containerd::containerd::types::Envelope as WireEnvelope;
use wharf_kinds::Kind;

use crate::request::namespace;
use crate::status::status;

pub(crate) struct EventsService {
    pub(crate) exchange: Exchange,
    pub(crate) tasks: Tasks,
}

#[tonic::async_trait]
impl Events for EventsService {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<WireEnvelope, Status>> + Send>>;

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<()>, Status> {
        let namespace = namespace(&request)?;
        let request = request.into_inner();
        let event = request.event.unwrap_or_default();
        self.exchange
            .publish(&namespace, &request.topic, event)
            .map_err(|error| status(error.kind(), error))?;
        Ok(Response::new(()))
    }

    async fn forward(&self, request: Request<ForwardRequest>) -> Result<Response<()>, Status> {
        let envelope = decode(request.into_inner().envelope)?;
        self.tasks.forward(envelope).map_err(|error| status(error.kind(), error))?;
        Ok(Response::new(()))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let subscription = self
            .exchange
            .subscribe(&request.into_inner().filters)
            .map_err(|error| status(error.kind(), error))?;
        Ok(Response::new(Box::pin(unfold(subscription, next))))
    }
}

async fn next(mut subscription: Subscription) -> Option<(Result<WireEnvelope, Status>, Subscription)> {
    let item = match subscription.next().await? {
        Ok(envelope) => Ok(encode(&envelope)),
        Err(lagged) => Err(status(Kind::ResourceExhausted, lagged)),
    };
    Some((item, subscription))
}

fn encode(envelope: &Envelope) -> WireEnvelope {
    WireEnvelope {
        timestamp: Some(envelope.timestamp),
        namespace: envelope.namespace.clone(),
        topic: envelope.topic.clone(),
        event: Some(envelope.event.clone()),
    }
}

/// An envelope off the wire; what is missing is left for the exchange to refuse.
pub(crate) fn decode(envelope: Option<WireEnvelope>) -> Result<Envelope, Status> {
    let envelope =
        envelope.ok_or_else(|| status(Kind::InvalidArgument, "envelope is missing: invalid argument"))?;
    Ok(Envelope {
        timestamp: envelope.timestamp.unwrap_or_default(),
        namespace: envelope.namespace,
        topic: envelope.topic,
        event: envelope.event.unwrap_or_default(),
    })
}
