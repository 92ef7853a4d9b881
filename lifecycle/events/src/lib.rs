//! Events of the lifecycle daemon: published once, delivered in order to whoever listens.
//!
//! Everything is in memory. An event that nobody listened to is gone, and so is what a dying daemon had not
//! delivered: a consumer that connects again must list again before it trusts the stream.

mod exchange;
mod fields;
mod topic;

pub use exchange::{Envelope, Exchange, Lagged, PublishError, SubscribeError, Subscription};
