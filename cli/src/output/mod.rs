//! What a person reads: tables, rows by format, sizes and durations, progress, JSON of inspect.

pub(crate) mod format;
pub(crate) mod inspect;
pub(crate) mod progress;
pub(crate) mod tabwriter;
pub(crate) mod text;
pub(crate) mod units;
