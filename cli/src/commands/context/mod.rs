//! Verbs about contexts: named endpoints.

mod inspect;
mod list;
mod show;
mod switch;

use crate::verb::{Group, Verb};

pub(super) const GROUP: Group = Group {
    name: "context",
    about: "Manage contexts",
    verbs: &[
        Verb::of::<inspect::InspectOptions>(&["inspect"]),
        Verb::of::<list::ListOptions>(&["ls", "list"]),
        Verb::of::<show::ShowOptions>(&["show"]),
        Verb::of::<switch::UseOptions>(&["use"]),
    ],
};
