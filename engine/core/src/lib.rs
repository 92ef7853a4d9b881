//! The engine's domain: containers, execs and events as Docker means them.

pub mod events;
pub mod filter;
pub mod image;
pub mod usage;
