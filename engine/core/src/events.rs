//! Docker's events: the last 256 are kept, and everybody who listens gets each in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast;
use wharf_docker::event::{Actor, Message};
use wharf_docker::time::Time;

use crate::filter::{FilterError, Filters};

/// Events kept for `since` and `until`, as many as Docker keeps.
const KEPT: usize = 256;
/// Events a slow listener may be behind before it loses some.
const BEHIND: usize = 4096;

/// Where events are published and listened to; clones share it.
#[derive(Clone)]
pub struct EventBus {
    shared: Arc<Shared>,
}

struct Shared {
    kept: Mutex<VecDeque<Arc<Message>>>,
    live: broadcast::Sender<Arc<Message>>,
}

/// Filter names that Docker knows for events.
const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

impl Default for EventBus {
    fn default() -> Self {
        Self::new()
    }
}

impl EventBus {
    /// A bus without events.
    pub fn new() -> Self {
        let (live, _) = broadcast::channel(BEHIND);
        Self { shared: Arc::new(Shared { kept: Mutex::new(VecDeque::with_capacity(KEPT)), live }) }
    }

    /// Publishes an image event; the actor is the image's id or name, attributes usually hold `name`.
    pub fn publish_image(&self, action: &str, actor_id: &str, attributes: BTreeMap<String, String>) {
        self.publish("image", action, actor_id, attributes, SystemTime::now());
    }

    /// Publishes an event of any type, dated `at`.
    pub fn publish(
        &self,
        r#type: &str,
        action: &str,
        actor_id: &str,
        attributes: BTreeMap<String, String>,
        at: SystemTime,
    ) {
        let repeated = matches!(r#type, "container" | "image");
        let from = if r#type == "container" { attributes.get("image").cloned() } else { None };
        let at = Time::from(at);
        let message = Arc::new(Message {
            status: if repeated { action.to_owned() } else { String::new() },
            id: if repeated { actor_id.to_owned() } else { String::new() },
            from: from.unwrap_or_default(),
            r#type: r#type.to_owned(),
            action: action.to_owned(),
            actor: Actor { id: actor_id.to_owned(), attributes },
            scope: "local".to_owned(),
            time: at.unix_seconds(),
            time_nano: i64::try_from(at.unix_nanoseconds()).unwrap_or(i64::MAX),
        });
        // sent under the lock, so that a new listener sees an event either among the kept ones or live
        let mut kept = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(message.clone());
        // nobody listening is fine
        let _ = self.shared.live.send(message);
    }

    /// The kept events from `since` on (none: no kept events unless `until` is given), and the live ones after them.
    /// Times are nanoseconds since the epoch.
    pub fn subscribe(&self, since: Option<i64>, until: Option<i64>) -> (Vec<Arc<Message>>, Subscription) {
        let kept = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let live = Subscription { live: self.shared.live.subscribe() };
        if since.is_none() && until.is_none() {
            return (Vec::new(), live);
        }
        let past = kept
            .iter()
            .filter(|event| since.is_none_or(|since| event.time_nano >= since))
            .filter(|event| until.is_none_or(|until| event.time_nano <= until))
            .cloned()
            .collect();
        (past, live)
    }

    /// How many listen now.
    pub fn listeners(&self) -> usize {
        self.shared.live.receiver_count()
    }
}

/// One listener's place in the stream.
pub struct Subscription {
    live: broadcast::Receiver<Arc<Message>>,
}

impl Subscription {
    /// The next event. A listener that is too slow loses the oldest ones, as Docker's do; None at the end.
    pub async fn next(&mut self) -> Option<Arc<Message>> {
        loop {
            match self.live.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "a listener to events is too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Filters for events.
#[derive(Debug, Clone, Default)]
pub struct EventFilter(Filters);

impl EventFilter {
    /// Refuses names that are no filter of events.
    pub fn new(filters: Filters) -> Result<Self, FilterError> {
        filters.expect(FILTERS)?;
        Ok(Self(filters))
    }

    /// Whether an event passes: each filter given must match.
    pub fn matches(&self, event: &Message) -> bool {
        let f = &self.0;
        if f.is_empty() {
            return true;
        }
        let attribute = |name: &str| event.actor.attributes.get(name).map_or("", String::as_str);
        let named = |kind: &str| {
            !f.contains(kind) || fuzzy(f, kind, &event.actor.id) || fuzzy(f, kind, attribute("name"))
        };
        self.action_matches(&event.action)
            && f.exact("type", &event.r#type)
            && f.exact("scope", &event.scope)
            && ["daemon", "container", "plugin", "volume", "network", "node", "service", "secret", "config"]
                .iter()
                .all(|kind| named(kind))
            && self.image_matches(event)
            && f.labels("label", &event.actor.attributes)
    }

    fn action_matches(&self, action: &str) -> bool {
        // these carry an argument after a colon: `exec_create: ls`
        let argued = ["health_status", "exec_create", "exec_start"];
        if self.0.values("event").any(|value| argued.contains(&value)) {
            fuzzy(&self.0, "event", action)
        } else {
            self.0.exact("event", action)
        }
    }

    fn image_matches(&self, event: &Message) -> bool {
        if !self.0.contains("image") {
            return true;
        }
        let attribute = if event.r#type == "image" { "name" } else { "image" };
        let name = event.actor.attributes.get(attribute).map_or("", String::as_str);
        [event.actor.id.as_str(), name, without_tag(&event.actor.id), without_tag(name)]
            .iter()
            .any(|candidate| self.0.exact("image", candidate))
    }
}

/// Equal to, or beginning with, one of the values.
fn fuzzy(filters: &Filters, name: &str, source: &str) -> bool {
    filters.exact(name, source) || filters.prefix(name, source)
}

fn without_tag(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn event(bus: &EventBus, action: &str) -> Arc<Message> {
        let (_, _) = (bus.listeners(), ());
        bus.publish(
            "container",
            action,
            "0123abcd",
            attributes(&[("name", "web"), ("image", "debian:12"), ("tier", "front")]),
            SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(7),
        );
        bus.subscribe(Some(0), None).0.last().unwrap().clone()
    }

    #[test]
    fn container_events_repeat_status_id_and_image() {
        let event = event(&EventBus::new(), "start");
        assert_eq!(
            (event.status.as_str(), event.id.as_str(), event.from.as_str()),
            ("start", "0123abcd", "debian:12")
        );
        assert_eq!((event.time, event.time_nano), (7, 7_000_000_000));
    }

    #[test]
    fn filters_match_names_ids_images_labels_and_actions() {
        let bus = EventBus::new();
        let start = event(&bus, "start");
        let exec = event(&bus, "exec_create: ls -l");
        let pass = |pairs: &[(&str, &str)], event: &Message| {
            let text: BTreeMap<&str, Vec<&str>> = pairs.iter().map(|(k, v)| (*k, vec![*v])).collect();
            let filters = Filters::parse(&serde_json::to_string(&text).unwrap()).unwrap();
            EventFilter::new(filters).unwrap().matches(event)
        };
        assert!(pass(&[("container", "web")], &start));
        assert!(pass(&[("container", "0123")], &start));
        assert!(!pass(&[("container", "db")], &start));
        assert!(pass(&[("image", "debian")], &start));
        assert!(pass(&[("label", "tier=front"), ("event", "start")], &start));
        assert!(!pass(&[("event", "die")], &start));
        assert!(pass(&[("event", "exec_create")], &exec));
        assert!(!pass(&[("type", "image")], &start));
        assert!(EventFilter::new(Filters::of([("colour", "red")])).is_err());
    }

    #[tokio::test]
    async fn kept_and_live_events_join_without_a_gap() {
        let bus = EventBus::new();
        for n in 0..300 {
            bus.publish("daemon", &n.to_string(), "d", BTreeMap::new(), SystemTime::now());
        }
        let (kept, mut live) = bus.subscribe(Some(0), None);
        bus.publish("daemon", "300", "d", BTreeMap::new(), SystemTime::now());
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept.last().unwrap().action, "299");
        assert_eq!(live.next().await.unwrap().action, "300");
    }
}
