//! Seccomp profiles: Docker's default as data, and profiles in Docker's JSON form, resolved for one container.

mod data;
mod docker;
mod profile;

use oci_spec::runtime::LinuxSeccomp;

pub use profile::Facts;

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not JSON, or not of a profile's form. The text begins as Docker's does.
    #[error("Decoding seccomp profile failed: {0}")]
    Json(#[source] serde_json::Error),
    /// Two fields with one meaning.
    #[error("both '{0}' and '{1}' are specified in the seccomp profile, use either '{0}' or '{1}'")]
    Both(&'static str, &'static str),
    /// A word that has no meaning.
    #[error("seccomp profile: unknown {what} {word:?}")]
    Unknown {
        /// `action`, `architecture`, `operator`, `flag`.
        what: &'static str,
        /// As given.
        word: String,
    },
    /// A kernel version that is none.
    #[error("seccomp profile: invalid kernel version {0:?}, expected \"<kernel>.<major>\"")]
    Kernel(String),
    /// The profile that ships has another version than this program reads.
    #[error("default seccomp profile: version {0} is not supported")]
    Version(u32),
}

/// Docker's default profile for a container with these capabilities on this machine.
///
/// What it does not name fails with EPERM. The data is `data/seccomp-default.json`, so that it can be changed
/// without code.
pub fn default_profile(facts: &Facts<'_>) -> Result<LinuxSeccomp, ProfileError> {
    data::parse(include_str!("../../data/seccomp-default.json"))?.resolve(facts)
}

/// A profile in Docker's JSON form. None if it names neither a default action nor a call, which switches seccomp off.
pub fn load(json: &str, facts: &Facts<'_>) -> Result<Option<LinuxSeccomp>, ProfileError> {
    docker::parse(json)?.map(|profile| profile.resolve(facts)).transpose()
}

#[cfg(test)]
mod tests;
