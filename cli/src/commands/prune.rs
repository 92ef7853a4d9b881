//! What the prune verbs share.

use std::io::BufRead as _;

use crate::error::CliError;
use crate::output::units::human_size;
use crate::session::print;

/// Asks on standard input; only a plain yes is one.
pub(super) fn confirm(question: &str) -> Result<bool, CliError> {
    print(&format!("{question} [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(CliError::io("read the answer"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The last line of a prune.
pub(super) fn reclaimed(bytes: u64) -> String {
    format!("Total reclaimed space: {}\n", human_size(bytes as f64, 4))
}
