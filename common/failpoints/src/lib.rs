//! Named places in a program where a test can kill it, make it fail, or hold it.
//!
//! They exist only in a build with the feature `failpoints`; elsewhere [`hit`] and [`check`] are empty and vanish.
//! The environment arms them before the program starts:
//!
//! ```text
//! WHARF_FAILPOINTS="content.commit.placed=kill;metadata.commit=error@3"
//! entry  := point "=" ("kill" | "error" | "pause") ["@" n]     n: the how-manieth passage counts, 1 if left out
//! ```
//!
//! `kill` is SIGKILL to the program itself, so that nothing is unwound or flushed; `error` makes [`check`] fail once;
//! `pause` holds the thread for ever. What happens is written to stderr first, for a test to see that it did.

#[cfg(feature = "failpoints")]
mod armed;
mod points;

use std::io;

pub use points::Point;

/// The variable that arms points.
pub const VARIABLE: &str = "WHARF_FAILPOINTS";

/// A setting of [`VARIABLE`] that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("WHARF_FAILPOINTS: {entry:?}: {problem}")]
pub struct SettingError {
    entry: String,
    problem: &'static str,
}

/// Passes a place where nothing can fail: kills or holds, if that is armed. An armed `error` does nothing here.
#[inline(always)]
pub fn hit(point: Point) {
    #[cfg(feature = "failpoints")]
    drop(armed::pass(point));
    #[cfg(not(feature = "failpoints"))]
    let _ = point;
}

/// Passes a place that may fail.
#[inline(always)]
pub fn check(point: Point) -> io::Result<()> {
    #[cfg(feature = "failpoints")]
    armed::pass(point)?;
    #[cfg(not(feature = "failpoints"))]
    let _ = point;
    Ok(())
}

/// Reads the environment's setting: an error for one that cannot be used, which would otherwise arm nothing.
/// Also an error without the feature: a test that arms a program without points would prove nothing.
pub fn arm() -> Result<(), SettingError> {
    #[cfg(feature = "failpoints")]
    return armed::arm();
    #[cfg(not(feature = "failpoints"))]
    match std::env::var_os(VARIABLE) {
        None => Ok(()),
        Some(entry) => Err(SettingError {
            entry: entry.to_string_lossy().into_owned(),
            problem: "this program was built without the feature failpoints",
        }),
    }
}
