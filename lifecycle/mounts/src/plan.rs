//! What of a list of mounts is for the daemon to make.
//!
//! A type may be prefixed with what has to be done before: `format/mkdir/overlay` is an overlay whose words are first
//! filled in from earlier mounts and some of whose directories are then made.

use lifecycle_metadata::MountSpec;

use crate::error::ActivateError;

/// Mounts in one activation.
const MAX_MOUNTS: usize = 255;

/// What is done with a mount's words before it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preparation {
    /// Its words are filled in from earlier mounts.
    Format,
    /// Directories named in options are made.
    Mkdir,
    /// Its source is made: a file with a new file system.
    Mkfs,
}

impl Preparation {
    fn named(word: &str) -> Option<Self> {
        match word {
            "format" => Some(Preparation::Format),
            "mkdir" => Some(Preparation::Mkdir),
            "mkfs" => Some(Preparation::Mkfs),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Preparation::Format => "format",
            Preparation::Mkdir => "mkdir",
            Preparation::Mkfs => "mkfs",
        }
    }
}

/// Who mounts a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handler {
    /// A loop device; there is no file system yet.
    Loop,
    /// A file with an EROFS image.
    Erofs,
}

impl Handler {
    fn of(kind: &str) -> Option<Self> {
        match kind {
            "loop" => Some(Handler::Loop),
            "erofs" => Some(Handler::Erofs),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// With the type that is left after the preparations.
    pub(crate) mount: MountSpec,
    pub(crate) preparations: Vec<Preparation>,
    pub(crate) handler: Option<Handler>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// To be mounted now, in order.
    pub(crate) now: Vec<Step>,
    /// For the caller; the first may have to be prepared.
    pub(crate) later: Vec<Step>,
}

/// Whether a mount of this type may be for the daemon to make: a quick look.
pub fn is_for_us(kind: &str) -> bool {
    kind.split_once('/').is_some_and(|(word, _)| Preparation::named(word).is_some())
        || Handler::of(kind).is_some()
}

/// `allowed` are types (`erofs`) and preparations (`format/*`) that the caller sees to itself. With `temporary`
/// everything is mounted.
pub(crate) fn plan(mounts: &[MountSpec], temporary: bool, allowed: &[String]) -> Result<Plan, ActivateError> {
    if mounts.len() > MAX_MOUNTS {
        return Err(ActivateError::Invalid(format!(
            "{} mounts, at most {MAX_MOUNTS} are taken",
            mounts.len()
        )));
    }
    let is_allowed = |kind: &str| allowed.iter().any(|one| one == kind);
    // how many are for the daemon, once that is known to be any
    let mut ours: Option<usize> = None;
    let mut steps = Vec::new();
    for (n, mount) in mounts.iter().enumerate() {
        let mut step = Step { mount: mount.clone(), preparations: Vec::new(), handler: None };
        while let Some((word, rest)) = step.mount.kind.split_once('/') {
            let Some(preparation) = Preparation::named(word) else { break };
            if !is_allowed(&format!("{}/*", preparation.word())) && !is_allowed(&mount.kind) {
                ours = ours.max(Some(n));
            }
            step.preparations.push(preparation);
            step.mount.kind = rest.to_owned();
        }
        step.handler = Handler::of(&step.mount.kind);
        if temporary || step.handler.is_some() && !is_allowed(&step.mount.kind) {
            ours = ours.max(Some(n + 1));
        }
        steps.push(step);
    }
    let Some(ours) = ours else { return Err(ActivateError::NothingToDo) };
    let mut later = steps.split_off(ours);
    for (step, mount) in later.iter_mut().zip(&mounts[ours..]).skip(1) {
        // beyond the first one the caller sees to it
        step.mount = mount.clone();
        step.preparations.clear();
    }
    Ok(Plan { now: steps, later })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(kinds: &[&str]) -> Vec<MountSpec> {
        kinds.iter().map(|kind| MountSpec { kind: (*kind).into(), ..MountSpec::default() }).collect()
    }

    fn split(kinds: &[&str], temporary: bool, allowed: &[&str]) -> Option<(Vec<String>, Vec<String>)> {
        let allowed: Vec<_> = allowed.iter().map(|a| (*a).to_owned()).collect();
        let plan = plan(&mounts(kinds), temporary, &allowed).ok()?;
        let kinds = |steps: Vec<Step>| steps.into_iter().map(|step| step.mount.kind).collect();
        Some((kinds(plan.now), kinds(plan.later)))
    }

    fn own(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn everything_up_to_the_last_special_mount_is_the_daemons() {
        assert_eq!(split(&["bind"], false, &[]), None);
        assert_eq!(split(&["overlay", "bind"], false, &[]), None);
        assert_eq!(split(&["loop", "ext4"], false, &[]), Some((own(&["loop"]), own(&["ext4"]))));
        assert_eq!(
            split(&["ext4", "erofs", "format/mkdir/overlay"], false, &[]),
            Some((own(&["ext4", "erofs"]), own(&["overlay"])))
        );
        assert_eq!(split(&["bind", "overlay"], true, &[]), Some((own(&["bind", "overlay"]), own(&[]))));
        assert_eq!(split(&["unknown/bind"], false, &[]), None);
        // a first mount that only has to be prepared is prepared and left
        assert_eq!(split(&["mkdir/bind"], false, &[]), Some((own(&[]), own(&["bind"]))));
    }

    #[test]
    fn what_the_caller_sees_to_is_left_unless_a_later_mount_needs_it() {
        assert_eq!(split(&["erofs", "bind"], false, &["erofs"]), None);
        assert_eq!(split(&["format/overlay"], false, &["format/*"]), None);
        assert_eq!(split(&["format/overlay"], false, &["format/overlay"]), None);
        assert_eq!(
            split(&["erofs", "format/overlay"], false, &["erofs"]),
            Some((own(&["erofs"]), own(&["overlay"])))
        );
        assert_eq!(
            split(&["loop", "bind", "format/overlay"], false, &["format/*"]),
            Some((own(&["loop"]), own(&["bind", "format/overlay"])))
        );
    }

    #[test]
    fn a_list_is_bounded() {
        assert!(matches!(plan(&mounts(&["loop"; 256]), false, &[]), Err(ActivateError::Invalid(_))));
    }
}
