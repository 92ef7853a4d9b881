//! Events of the lifecycle daemon: published once, delivered in order to whoever listens.
//!
//! Queues are in memory. What happened to records waits on disk until it was delivered (the outbox of
//! `lifecycle-metadata`) and shims keep their events until they are taken, so that a restart loses neither; but an
//! event that nobody listened to is gone: a consumer that connects again must list again before it trusts the stream.

mod exchange;
mod fields;
mod topic;

pub use exchange::{Envelope, Exchange, Lagged, PublishError, SubscribeError, Subscription};
