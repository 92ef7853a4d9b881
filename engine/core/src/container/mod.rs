//! Containers: what is recorded of one, the states it goes through, and the mailbox that moves it.

pub mod actor;
pub mod attach;
pub mod exec;
pub mod exit;
pub mod phase;
pub mod record;
pub(crate) mod relay;
pub mod restart;
pub mod start;
pub mod view;
