//! Events on their way to the daemon, in order.
//!
//! A daemon that is away costs nothing but memory: events wait, up to a bound, and are sent when it is back.
//! It reads the state anew then, so that an event lost beyond the bound is no lost fact.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prost::Message;
use prost_types::Any;
use wharf_containerd::containerd::services::events::ttrpc::v1::ForwardRequest;
use wharf_containerd::containerd::types::Envelope;

use crate::log;
use crate::ttrpc::{CallError, Client};

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
/// Events that wait at most; the oldest are dropped beyond.
const BOUND: usize = 4096;
/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A kind of event that tasks have, and its topic.
pub trait TaskEvent: Message {
    /// Its full message name.
    const NAME: &'static str;
    /// Where it is published.
    const TOPIC: &'static str;
}

macro_rules! task_events {
    ($($kind:ident $name:literal $topic:literal,)*) => {$(
        impl TaskEvent for wharf_containerd::containerd::events::$kind {
            const NAME: &'static str = concat!("containerd.events.", $name);
            const TOPIC: &'static str = concat!("/tasks/", $topic);
        }
    )*};
}

task_events! {
    TaskCreate "TaskCreate" "create",
    TaskStart "TaskStart" "start",
    TaskExecAdded "TaskExecAdded" "exec-added",
    TaskExecStarted "TaskExecStarted" "exec-started",
    TaskExit "TaskExit" "exit",
    TaskOom "TaskOOM" "oom",
    TaskDelete "TaskDelete" "delete",
    TaskPaused "TaskPaused" "paused",
    TaskResumed "TaskResumed" "resumed",
    TaskCheckpointed "TaskCheckpointed" "checkpointed",
}

/// The queue and its sender.
#[derive(Clone)]
pub struct Events {
    namespace: String,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Envelope>,
    /// One is being sent.
    sending: bool,
    dropped: u64,
}

impl Events {
    /// Starts the thread that sends to the ttrpc socket at `address`; without one events go nowhere.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(namespace: &str, address: Option<PathBuf>) -> std::io::Result<Events> {
        let events = Events { namespace: namespace.to_owned(), queue: Arc::default() };
        let queue = Arc::clone(&events.queue);
        std::thread::Builder::new().name("events".into()).stack_size(256 * 1024).spawn(move || {
            let mut sender = Sender { address, client: None, pause: FIRST_PAUSE };
            loop {
                let event = queue.take();
                sender.send(&event, &queue);
                queue.sent();
            }
        })?;
        Ok(events)
    }

    /// Queues an event; never blocks.
    pub fn publish<E: TaskEvent>(&self, event: &E) {
        let envelope = Envelope {
            timestamp: Some(SystemTime::now().into()),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: Some(Any { type_url: E::NAME.to_owned(), value: event.encode_to_vec() }),
        };
        let mut waiting = self.queue.lock();
        if waiting.events.len() >= BOUND {
            waiting.events.pop_front();
            waiting.dropped += 1;
        }
        waiting.events.push_back(envelope);
        self.queue.changed.notify_all();
    }

    /// Waits until everything was sent, or for so long.
    pub fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut waiting = self.queue.lock();
        while !waiting.events.is_empty() || waiting.sending {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.queue.changed.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Envelope {
        let mut waiting = self.lock();
        loop {
            if let Some(event) = waiting.events.pop_front() {
                waiting.sending = true;
                return event;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn sent(&self) {
        let mut waiting = self.lock();
        waiting.sending = false;
        if waiting.dropped > 0 {
            log::error(format_args!("{} events were dropped while the daemon was away", waiting.dropped));
            waiting.dropped = 0;
        }
        self.changed.notify_all();
    }
}

struct Sender {
    address: Option<PathBuf>,
    client: Option<Client>,
    pause: Duration,
}

impl Sender {
    /// Sends one event, trying until it went or the daemon refused it.
    fn send(&mut self, event: &Envelope, queue: &Queue) {
        let Some(address) = self.address.clone() else { return };
        let request = ForwardRequest { envelope: Some(event.clone()) };
        loop {
            let sent = match &mut self.client {
                Some(client) => client.call::<_, ()>(SERVICE, "Forward", &request),
                None => Client::connect(&address, Some(PATIENCE)).and_then(|client| {
                    self.client.insert(client).call::<_, ()>(SERVICE, "Forward", &request)
                }),
            };
            match sent {
                Ok(()) => {
                    self.pause = FIRST_PAUSE;
                    return;
                }
                Err(CallError::Connection { .. }) => {
                    // a restarted daemon: the next try is at once, on a fresh connection
                    if self.client.take().is_none() || self.pause > FIRST_PAUSE {
                        self.wait(queue);
                    } else {
                        self.pause *= 2;
                    }
                }
                Err(refused) => {
                    log::error(format_args!("the daemon refused event {}: {refused}", event.topic));
                    return;
                }
            }
        }
    }

    fn wait(&mut self, queue: &Queue) {
        // a new event is no reason to try sooner, so that a busy container does not spin
        let deadline = Instant::now() + self.pause;
        let mut waiting = queue.lock();
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()) {
            let waited = queue.changed.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(waiting);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
