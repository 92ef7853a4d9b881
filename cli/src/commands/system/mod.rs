//! Verbs about the daemon and about objects of any kind.

mod client;
mod events;
mod info;
mod inspect;
mod version;

use crate::verb::{Group, Verb};

pub(super) const EVENTS: Verb = Verb::of::<events::EventsOptions>(&["events"]);
pub(super) const INFO: Verb = Verb::of::<info::InfoOptions>(&["info"]);
pub(super) const INSPECT: Verb = Verb::of::<inspect::InspectOptions>(&["inspect"]);
pub(super) const VERSION: Verb = Verb::of::<version::VersionOptions>(&["version"]);

pub(super) const GROUP: Group = Group { name: "system", about: "Manage Wharf", verbs: &[EVENTS, INFO] };
