//! The engine's domain: containers, execs and events as Docker means them.
//!
//! - [`engine::Engine`] is what the API calls.
//! - Every container has one mailbox ([`container::actor`]) that alone changes it, and publishes pictures
//!   ([`container::view`]) from which lists and inspects answer without waiting.
//! - [`recovery`] compares records with what runs after every connection to the lifecycle daemon.
//! - [`plan`] turns a record into an OCI spec and stdio addresses.

pub mod config;
pub mod container;
pub mod create;
pub mod engine;
pub mod error;
pub mod events;
pub mod filter;
pub mod human;
pub mod id;
pub mod image;
pub mod inspect;
pub mod lifecycle;
pub mod list;
mod mounts;
pub mod names;
mod plan;
pub mod records;
mod recovery;
pub mod registry;
pub mod signal;
pub mod top;
mod update;
pub mod usage;
mod validate;
pub mod volume;

pub use config::{EngineConfig, Runtime};
pub use create::{CreateRequest, Created};
pub use engine::{Engine, Parts};
pub use error::EngineError;
