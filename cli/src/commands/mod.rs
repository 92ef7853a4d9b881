//! The table of verbs. Each verb is a file: its options, and the function that runs it.

mod completion;
mod container;
mod context;
mod image;
mod prune;
mod system;

use crate::verb::{Group, Verb};

/// The first verbs of the help.
pub(crate) const COMMON: &[&str] = &["run", "exec", "ps", "pull", "images", "version", "info"];

/// `wharf VERB`.
pub(crate) const VERBS: &[Verb] = &[
    container::RUN,
    container::EXEC,
    container::PS,
    image::PULL,
    image::PUSH,
    image::IMAGES,
    system::VERSION,
    system::INFO,
    container::ATTACH,
    container::CREATE,
    system::EVENTS,
    image::HISTORY,
    image::IMPORT,
    system::INSPECT,
    container::KILL,
    image::LOAD,
    container::LOGS,
    container::PAUSE,
    container::PORT,
    container::RENAME,
    container::RESTART,
    container::RM,
    image::RMI,
    image::SAVE,
    container::START,
    container::STOP,
    image::TAG,
    container::TOP,
    container::UNPAUSE,
    container::WAIT,
    completion::COMPLETION,
];

/// `wharf GROUP VERB`.
pub(crate) const GROUPS: &[Group] = &[container::GROUP, context::GROUP, image::GROUP, system::GROUP];
