//! The exchange: everyone who publishes, everyone who listens.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost_types::{Any, Timestamp};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use wharf_kinds::Kind;
use wharf_vocab::{Filter, FilterError, Identifier, IdentifierError};

use crate::fields;
use crate::topic::{self, TopicError};

/// Events a subscriber may be behind before it is cut off. Large enough for the removal of a thousand
/// containers in one go (four events each); a queued event costs about 300 bytes.
const BACKLOG: usize = 4096;

/// Go's zero time, the first moment of the year 1: what containerd takes for a time that was not set. A message
/// without one is of 1970.
const NO_TIME: Timestamp = Timestamp { seconds: -62_135_596_800, nanos: 0 };

/// An event with where and when it happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    pub timestamp: Timestamp,
    pub namespace: String,
    pub topic: String,
    pub event: Any,
}

impl Envelope {
    /// The value of `namespace`, `topic` or `event.…` for a filter.
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["namespace"] if !self.namespace.is_empty() => Some(Cow::Borrowed(&self.namespace)),
            ["topic"] if !self.topic.is_empty() => Some(Cow::Borrowed(&self.topic)),
            ["event", rest @ ..] => {
                let name = self.event.type_url.rsplit('/').next().unwrap_or_default();
                fields::field(name, &self.event.value, rest).map(Cow::Owned)
            }
            _ => None,
        }
    }
}

/// Why an event was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("envelope topic {topic:?}: {source}")]
    Topic { topic: String, source: TopicError },
    #[error("event envelope has invalid namespace: {0}")]
    Namespace(IdentifierError),
    #[error("timestamp must be set on forwarded event: invalid argument")]
    NoTimestamp,
}

impl PublishError {
    /// Always [`Kind::InvalidArgument`].
    pub const fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// Why nobody was subscribed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    #[error("failed parsing subscription filters: {0}")]
    Filter(#[from] FilterError),
}

impl SubscribeError {
    /// Always [`Kind::InvalidArgument`].
    pub const fn kind(&self) -> Kind {
        match self {
            SubscribeError::Filter(error) => error.kind(),
        }
    }
}

/// The subscriber was too slow: events are missing from here on, so it has to list again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("subscriber fell more than {BACKLOG} events behind and was cut off")]
pub struct Lagged;

/// Broadcasts events to subscribers, each in the order of publication.
///
/// Publishing never waits: a subscriber that does not keep up is cut off, the others notice nothing.
/// Clones are the same exchange.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    subscribers: Arc<Mutex<Subscribers>>,
}

#[derive(Debug, Default)]
struct Subscribers {
    live: Vec<Subscriber>,
    /// What subscribers get first, and until when.
    held: Option<(Vec<Arc<Envelope>>, Instant)>,
}

#[derive(Debug)]
struct Subscriber {
    filter: Filter,
    queue: mpsc::Sender<Arc<Envelope>>,
    lagged: Arc<AtomicBool>,
}

impl Exchange {
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes an event that happened now. Needs no async context and never blocks.
    pub fn publish(&self, namespace: &str, topic: &str, event: Any) -> Result<(), PublishError> {
        let (topic, namespace) = (topic.to_owned(), namespace.to_owned());
        self.forward(Envelope { timestamp: now(), namespace, topic, event })
    }

    /// Distributes an event as someone else published it, time included.
    pub fn forward(&self, envelope: Envelope) -> Result<(), PublishError> {
        Identifier::parse(&envelope.namespace).map_err(PublishError::Namespace)?;
        topic::check(&envelope.topic)
            .map_err(|source| PublishError::Topic { topic: envelope.topic.clone(), source })?;
        if envelope.timestamp == NO_TIME {
            return Err(PublishError::NoTimestamp);
        }
        let envelope = Arc::new(envelope);
        self.subscribers().live.retain(|subscriber| subscriber.offer(&envelope));
        Ok(())
    }

    /// Keeps events for who subscribes within this time: the last run may not have delivered them. Subscribers get
    /// them before any other.
    pub fn hold_back(&self, events: Vec<Envelope>, within: Duration) {
        if !events.is_empty() {
            let events = events.into_iter().map(Arc::new).collect();
            self.subscribers().held = Some((events, Instant::now() + within));
        }
    }

    /// Listens from now on to events that match any of the filters (all events without a filter).
    pub fn subscribe(&self, filters: &[String]) -> Result<Subscription, SubscribeError> {
        let filter = Filter::parse_all(filters)?;
        let mut subscribers = self.subscribers();
        subscribers.live.retain(|subscriber| !subscriber.queue.is_closed());
        if subscribers.held.as_ref().is_some_and(|(_, until)| *until <= Instant::now()) {
            subscribers.held = None;
        }
        let held = subscribers.held.as_ref().map_or(&[][..], |(events, _)| events);
        let (queue, receiver) = mpsc::channel(BACKLOG + held.len());
        let lagged = Arc::new(AtomicBool::new(false));
        let subscriber = Subscriber { filter, queue, lagged: lagged.clone() };
        for envelope in held {
            subscriber.offer(envelope);
        }
        subscribers.live.push(subscriber);
        Ok(Subscription { receiver, lagged })
    }

    fn subscribers(&self) -> MutexGuard<'_, Subscribers> {
        // a panic while the list was held cannot have left it half changed
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber {
    /// Queues the event if it matches; false if the subscriber is to be dropped.
    fn offer(&self, envelope: &Arc<Envelope>) -> bool {
        if self.queue.is_closed() {
            return false;
        }
        if !self.filter.matches(|path| envelope.field(path)) {
            return true;
        }
        match self.queue.try_send(envelope.clone()) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                self.lagged.store(true, Ordering::Release);
                false
            }
        }
    }
}

/// Events as they come, until it is dropped.
#[derive(Debug)]
pub struct Subscription {
    receiver: mpsc::Receiver<Arc<Envelope>>,
    lagged: Arc<AtomicBool>,
}

impl Subscription {
    /// The next event. After [`Lagged`], and once the exchange is gone, there is nothing more: `None`.
    pub async fn next(&mut self) -> Option<Result<Arc<Envelope>, Lagged>> {
        match self.receiver.recv().await {
            Some(envelope) => Some(Ok(envelope)),
            None if self.lagged.swap(false, Ordering::AcqRel) => Some(Err(Lagged)),
            None => None,
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use wharf_containerd::containerd::events::TaskStart;
    use wharf_containerd::to_any;

    use super::*;

    fn started(id: &str) -> Any {
        to_any("containerd.events.TaskStart", &TaskStart { container_id: id.into(), pid: 1 })
    }

    #[tokio::test]
    async fn every_subscriber_gets_events_in_order() {
        let exchange = Exchange::new();
        let mut first = exchange.subscribe(&[]).expect("subscribe");
        let mut second = exchange.subscribe(&[]).expect("subscribe");
        for n in 0..100 {
            exchange.publish("ns", "/tasks/start", started(&n.to_string())).expect("publish");
        }
        for subscription in [&mut first, &mut second] {
            for n in 0..100 {
                let envelope = subscription.next().await.expect("event").expect("in time");
                assert_eq!(envelope.event, started(&n.to_string()));
                assert_eq!(envelope.namespace, "ns");
            }
        }
    }

    #[tokio::test]
    async fn filters_select_by_topic_namespace_and_event() {
        let exchange = Exchange::new();
        let subscribe = |filters: &[&str]| {
            exchange.subscribe(&filters.iter().map(|f| f.to_string()).collect::<Vec<_>>()).expect("filters")
        };
        let mut by_event = subscribe(&["event.container_id==b"]);
        let mut by_both = subscribe(&["namespace==two,topic==\"/tasks/start\""]);
        let mut by_topic = subscribe(&["topic~=oom", "topic==\"/nothing\""]);
        exchange.publish("one", "/tasks/start", started("a")).expect("publish");
        exchange.publish("two", "/tasks/start", started("b")).expect("publish");
        exchange.publish("two", "/tasks/oom", started("c")).expect("publish");
        drop(exchange);
        let seen = async |subscription: &mut Subscription| {
            let mut topics = Vec::new();
            while let Some(Ok(envelope)) = subscription.next().await {
                topics.push(format!("{}{}", envelope.namespace, envelope.topic));
            }
            topics
        };
        assert_eq!(seen(&mut by_event).await, ["two/tasks/start"]);
        assert_eq!(seen(&mut by_both).await, ["two/tasks/start"]);
        assert_eq!(seen(&mut by_topic).await, ["two/tasks/oom"]);
    }

    #[tokio::test]
    async fn slow_subscriber_is_cut_off_and_others_go_on() {
        let exchange = Exchange::new();
        let mut slow = exchange.subscribe(&[]).expect("subscribe");
        let mut quick = exchange.subscribe(&[]).expect("subscribe");
        for n in 0..BACKLOG + 1 {
            exchange.publish("ns", "/tasks/start", started(&n.to_string())).expect("publish");
            quick.next().await.expect("event").expect("keeps up");
        }
        for _ in 0..BACKLOG {
            slow.next().await.expect("queued").expect("what was queued is still delivered");
        }
        assert_eq!(slow.next().await, Some(Err(Lagged)));
        assert_eq!(slow.next().await, None);
        exchange.publish("ns", "/tasks/start", started("x")).expect("publish");
        assert!(quick.next().await.expect("event").is_ok());
    }

    #[test]
    fn malformed_events_are_refused() {
        let exchange = Exchange::new();
        assert!(matches!(exchange.publish("ns", "tasks", started("a")), Err(PublishError::Topic { .. })));
        assert!(matches!(exchange.publish("", "/tasks", started("a")), Err(PublishError::Namespace(_))));
        let at = |timestamp| Envelope {
            timestamp,
            namespace: "ns".into(),
            topic: "/t".into(),
            event: Any::default(),
        };
        assert_eq!(exchange.forward(at(NO_TIME)), Err(PublishError::NoTimestamp));
        assert_eq!(exchange.forward(at(Timestamp::default())), Ok(()), "as containerd takes it");
        assert!(exchange.subscribe(&["a==".into(), "==b".into()]).is_err());
    }

    #[test]
    fn departed_subscribers_are_forgotten() {
        let exchange = Exchange::new();
        for _ in 0..10 {
            drop(exchange.subscribe(&[]).expect("subscribe"));
        }
        assert_eq!(exchange.subscribers().live.len(), 1);
        exchange.publish("ns", "/t", Any::default()).expect("publish");
        assert!(exchange.subscribers().live.is_empty());
    }

    #[tokio::test]
    async fn events_of_the_last_run_come_first_and_only_for_a_while() {
        let exchange = Exchange::new();
        let left = |id: &str| Envelope {
            timestamp: now(),
            namespace: "ns".into(),
            topic: "/tasks/start".into(),
            event: started(id),
        };
        exchange.hold_back(vec![left("a"), left("b")], Duration::from_secs(3600));
        let mut all = exchange.subscribe(&[]).expect("subscribe");
        let mut only_b = exchange.subscribe(&["event.container_id==b".into()]).expect("subscribe");
        exchange.publish("ns", "/tasks/start", started("c")).expect("publish");
        for id in ["a", "b", "c"] {
            assert_eq!(all.next().await.expect("event").expect("in time").event, started(id));
        }
        assert_eq!(only_b.next().await.expect("event").expect("in time").event, started("b"));
        exchange.hold_back(vec![left("old")], Duration::ZERO);
        let mut late = exchange.subscribe(&[]).expect("subscribe");
        exchange.publish("ns", "/tasks/start", started("new")).expect("publish");
        assert_eq!(late.next().await.expect("event").expect("in time").event, started("new"));
    }
}
