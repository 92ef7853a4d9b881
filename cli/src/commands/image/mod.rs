//! Verbs about images.

mod history;
mod import;
mod inspect;
mod list;
mod load;
mod prune;
mod pull;
mod push;
mod rmi;
mod save;
mod tag;

use crate::verb::{Group, Verb};

pub(crate) use inspect::element;
pub(crate) use pull::pull_quietly;

pub(super) const HISTORY: Verb = Verb::of::<history::HistoryOptions>(&["history"]);
pub(super) const IMAGES: Verb = Verb::of::<list::ListOptions>(&["images"]);
pub(super) const IMPORT: Verb = Verb::of::<import::ImportOptions>(&["import"]);
pub(super) const LOAD: Verb = Verb::of::<load::LoadOptions>(&["load"]);
pub(super) const PULL: Verb = Verb::of::<pull::PullOptions>(&["pull"]);
pub(super) const PUSH: Verb = Verb::of::<push::PushOptions>(&["push"]);
pub(super) const RMI: Verb = Verb::of::<rmi::RmiOptions>(&["rmi"]);
pub(super) const SAVE: Verb = Verb::of::<save::SaveOptions>(&["save"]);
pub(super) const TAG: Verb = Verb::of::<tag::TagOptions>(&["tag"]);

pub(super) const GROUP: Group = Group {
    name: "image",
    about: "Manage images",
    verbs: &[
        HISTORY,
        IMPORT,
        Verb::of::<inspect::InspectOptions>(&["inspect"]),
        LOAD,
        Verb::of::<list::ListOptions>(&["ls", "list"]),
        Verb::of::<prune::PruneOptions>(&["prune"]),
        PULL,
        PUSH,
        Verb::of::<rmi::RmiOptions>(&["rm", "remove"]),
        SAVE,
        TAG,
    ],
};
