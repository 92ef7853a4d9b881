//! Container names: what is allowed, and what a container without one gets.

use crate::error::EngineError;
use crate::id::random_hex;

const ADJECTIVES: &[&str] = &[
    "able", "amber", "ample", "brave", "brisk", "calm", "candid", "civil", "clear", "clever", "crisp",
    "daring", "deft", "eager", "early", "easy", "even", "exact", "fair", "fleet", "fond", "frank", "fresh",
    "gentle", "glad", "golden", "grand", "hardy", "honest", "humble", "jolly", "keen", "kind", "lively",
    "loyal", "lucid", "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "patient", "plain",
    "polite", "prime", "proud", "quick", "quiet", "ready", "robust", "sharp", "silent", "smart", "solid",
    "steady", "sunny", "swift", "tidy", "true", "vivid", "warm", "wise",
];
const NOUNS: &[&str] = &[
    "anchor", "ballast", "barge", "beacon", "bollard", "bosun", "bow", "buoy", "cable", "canal", "capstan",
    "cargo", "chart", "cleat", "coaster", "compass", "crane", "cutter", "davit", "deck", "dock", "dory",
    "estuary", "ferry", "fender", "galley", "gangway", "halyard", "harbour", "hatch", "haven", "hawser",
    "helm", "hull", "islet", "jetty", "keel", "ketch", "lagoon", "lantern", "lighter", "lock", "mast",
    "mooring", "oar", "packet", "pier", "pilot", "pontoon", "port", "quay", "reef", "rudder", "sail",
    "schooner", "skiff", "slipway", "sloop", "spar", "strait", "tide", "tiller", "trawler", "tug",
];

/// A name that may be free: try another while it is taken. From the third attempt on it has a number.
pub fn suggest(attempt: u32) -> String {
    let random = u64::from_str_radix(&random_hex(4), 16).unwrap_or(0);
    let adjective = ADJECTIVES[(random & 0xffff) as usize % ADJECTIVES.len()];
    let noun = NOUNS[(random >> 16) as usize % NOUNS.len()];
    if attempt < 2 { format!("{adjective}_{noun}") } else { format!("{adjective}_{noun}{}", random % 10_000) }
}

/// Checks a name and takes the leading slash off.
///
/// # Errors
/// Docker's text for names outside `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn check(name: &str) -> Result<&str, EngineError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.len() > 0 && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && rest && bare.len() <= 255 {
        Ok(bare)
    } else {
        Err(EngineError::Invalid(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_allowed_names() {
        for attempt in 0..200 {
            let name = suggest(attempt);
            assert_eq!(check(&name).unwrap(), name);
        }
    }

    #[test]
    fn bad_names_are_refused_with_dockers_text() {
        for name in ["", "a", "-ab", "a/b", "a b", "é"] {
            let text = check(name).unwrap_err().to_string();
            assert!(text.starts_with("Invalid container name ("), "{text}");
        }
        assert_eq!(check("/web.1").unwrap(), "web.1");
    }
}
