//! Mounts that the daemon makes and keeps for its clients: what a container's runtime or a client cannot mount by
//! itself, such as a loop device, or an overlay whose layers have to be mounted first.
//!
//! An activation has a name in a namespace. It outlives the daemon; it goes when it is deactivated, and when neither
//! its lease nor anything that its labels name (`containerd.io/gc.bref.…`) is there any more.

mod error;
mod manager;
mod plan;
mod prepare;
mod template;

pub use error::ActivateError;
pub use manager::{Mounts, Request};
pub use plan::is_for_us;

#[cfg(test)]
mod tests;
