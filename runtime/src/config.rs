//! Reading config.json, and the error that names the bad field.

use crate::spec::Spec;
use oci_spec::runtime::{Capability, LinuxResources};
use serde::Deserialize;
use std::io::Read;
use std::path::Path;

/// Largest config.json that is read. Docker's with every option set has under 100 KiB.
const MAX_CONFIG: u64 = 16 << 20;

/// A configuration that cannot be run as given. Nothing has been done when this is returned.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("JSON specification file {path} cannot be read: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("{path}: {at}: {source}")]
    Malformed { path: String, at: String, source: serde_json::Error },
    #[error("invalid configuration: {at}: {reason}")]
    Invalid { at: String, reason: String },
}

impl ConfigError {
    /// `at` is the field's JSON path (`process.args[0]`), `reason` says what is wrong and what is allowed.
    pub fn invalid(at: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { at: at.into(), reason: reason.into() }
    }
}

/// Reads a file of bounded size.
fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let shown = path.display().to_string();
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| {
            // room for all of it at once, or the bounded reader starts with 32 bytes and doubles
            text.reserve_exact(file.metadata()?.len().min(MAX_CONFIG) as usize + 1);
            file.take(MAX_CONFIG + 1).read_to_end(&mut text)
        })
        .map_err(|source| ConfigError::Unreadable { path: shown.clone(), source })?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(ConfigError::invalid(shown, format!("larger than {MAX_CONFIG} bytes")));
    }
    Ok(text)
}

/// The text with its process as the parser wants it, if that changes anything: flags of the scheduler by the parser's names; capabilities
/// that nobody knows left out with a warning, as runc does, since a newer kernel's are no error.
fn amended(text: &[u8]) -> Option<Vec<u8>> {
    let mut value: serde_json::Value = serde_json::from_slice(text).ok()?;
    let root = value.as_object_mut()?;
    let process = if root.contains_key("process") {
        root.get_mut("process")?.as_object_mut()?
    } else if root.contains_key("cwd") {
        root
    } else {
        return None;
    };
    let mut changed = false;
    if let Some(flags) = process.get_mut("scheduler").and_then(|s| s.get_mut("flags")?.as_array_mut()) {
        for flag in flags {
            let name = match flag.as_str() {
                Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
                Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
                _ => continue,
            };
            *flag = name.into();
            changed = true;
        }
    }
    let mut unknown = std::collections::BTreeSet::new();
    let sets = process.get_mut("capabilities").and_then(|c| c.as_object_mut());
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()).filter_map(|s| s.as_array_mut()) {
        set.retain(|name| {
            let is_known = !name.is_string() || Capability::deserialize(name as &serde_json::Value).is_ok();
            if !is_known {
                unknown.insert(name.as_str().unwrap_or_default().to_owned());
            }
            is_known
        });
    }
    if !unknown.is_empty() {
        changed = true;
        let list = unknown.into_iter().collect::<Vec<_>>().join(" ");
        crate::log::warn(&format!("ignoring unknown or unavailable capabilities: [{list}]"));
    }
    changed.then(|| serde_json::to_vec(&value).ok()).flatten()
}

/// Parses JSON; unknown fields are ignored, as the specification says. `shown` names the text in errors.
pub fn parse<T: serde::de::DeserializeOwned>(text: &[u8], shown: &str) -> Result<T, ConfigError> {
    match parse_as_it_is(text, shown) {
        // looked into only after it failed: the common case is parsed once
        Err(e) => match amended(text) {
            Some(text) => parse_as_it_is(&text, shown),
            None => Err(e),
        },
        ok => ok,
    }
}

fn parse_as_it_is<T: serde::de::DeserializeOwned>(text: &[u8], shown: &str) -> Result<T, ConfigError> {
    let json = &mut serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut *json).map_err(|e| {
        let at = e.path().to_string();
        let source = in_runcs_words(&at, e.into_inner());
        ConfigError::Malformed { path: shown.to_owned(), at, source }
    })?;
    let end = |source| ConfigError::Malformed { path: shown.to_owned(), at: "end of file".into(), source };
    json.end().map_err(end)?;
    Ok(value)
}

/// What runc says first of a bad memory policy is said too.
fn in_runcs_words(at: &str, error: serde_json::Error) -> serde_json::Error {
    let Some(field) = at.strip_prefix("linux.memoryPolicy") else { return error };
    let text = error.to_string();
    let part = if field.starts_with(".mode") || text.contains("`mode`") {
        " mode"
    } else if field.starts_with(".flags") {
        " flag"
    } else {
        ""
    };
    serde::de::Error::custom(format!("invalid memory policy{part}: {text}"))
}

/// Resources (`update --resources`).
pub fn parse_resources(text: &[u8], shown: &str) -> Result<LinuxResources, ConfigError> {
    let mut resources = parse(text, shown)?;
    forget_absent_pids(Some(&mut resources), text, "/pids/limit");
    Ok(resources)
}

/// `pids` without a limit asks for nothing, and a limit of 0 for one process; once parsed both are 0.
fn forget_absent_pids(resources: Option<&mut LinuxResources>, text: &[u8], limit: &str) {
    let Some(resources) = resources.filter(|r| r.pids().is_some_and(|p| p.limit() == 0)) else { return };
    let given = serde_json::from_slice::<serde_json::Value>(text)
        .is_ok_and(|v| v.pointer(limit).is_some_and(|limit| !limit.is_null()));
    if !given {
        resources.set_pids(None);
    }
}

/// Reads resources from a file.
pub fn read_resources(path: &Path) -> Result<LinuxResources, ConfigError> {
    parse_resources(&read(path)?, &path.display().to_string())
}

/// Reads and parses a JSON file.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    parse(&read(path)?, &path.display().to_string())
}

/// `<bundle>/config.json`, as text and parsed.
pub fn load(bundle: &Path) -> Result<(Vec<u8>, Spec), ConfigError> {
    let path = bundle.join("config.json");
    let text = read(&path)?;
    let mut spec: Spec = parse(&text, &path.display().to_string())?;
    let resources = spec.linux.as_mut().and_then(|l| l.resources_mut().as_mut());
    forget_absent_pids(resources, &text, "/linux/resources/pids/limit");
    Ok((text, spec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Process;

    #[test]
    fn a_process_without_user_is_roots() {
        let process: Process = parse(br#"{"cwd":"/","args":["x"]}"#, "p").unwrap();
        assert_eq!((process.user.uid(), process.user.gid()), (0, 0));
        let spec: Spec = parse(br#"{"ociVersion":"1.0.0","process":{"cwd":"/"}}"#, "c").unwrap();
        assert_eq!(spec.process.as_ref().unwrap().user.uid(), 0);
    }

    #[test]
    fn no_limit_of_processes_is_not_a_limit_of_none() {
        let limit = |text: &str| parse_resources(text.as_bytes(), "r").unwrap().pids().map(|p| p.limit());
        assert_eq!(limit(r#"{"pids":{}}"#), None);
        assert_eq!(limit(r#"{"pids":{"limit":0}}"#), Some(0));
        assert_eq!(limit(r#"{"pids":{"limit":7}}"#), Some(7));
        let dir = tempfile::tempdir().unwrap();
        for (pids, is_some) in [("{}", false), (r#"{"limit":0}"#, true)] {
            let text = format!(r#"{{"ociVersion":"1.0.0","linux":{{"resources":{{"pids":{pids}}}}}}}"#);
            std::fs::write(dir.path().join("config.json"), text).unwrap();
            let (_, spec) = load(dir.path()).unwrap();
            let resources = spec.linux.as_ref().unwrap().resources().as_ref().unwrap();
            assert_eq!(resources.pids().is_some(), is_some, "{pids}");
        }
    }

    #[test]
    fn the_process_may_have_capabilities_nobody_knows_and_the_specifications_flags() {
        let text = br#"{"cwd":"/","args":["x"],"capabilities":{"bounding":["CAP_KILL","CAP_UNKNOWN","UNKNOWN_CAP"]},
            "scheduler":{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN"]}}"#;
        let process: Process = parse(text, "p").unwrap();
        let bounding = process.capabilities.as_ref().unwrap().bounding().clone().unwrap();
        assert_eq!(bounding.into_iter().collect::<Vec<_>>(), [Capability::Kill]);
        let plan = crate::plan::process::plan(&process, "").unwrap();
        assert_eq!(plan.scheduler.unwrap().flags, 0x05);
        let bad = br#"{"cwd":"/","capabilities":{"bounding":[7]}}"#;
        let e = parse::<Process>(bad, "p").unwrap_err().to_string();
        assert!(e.starts_with("p: capabilities.bounding"), "{e}");
    }

    #[test]
    fn a_bad_memory_policy_is_told_in_runcs_words_too() {
        let error = |policy: &str| {
            let text = format!(r#"{{"ociVersion":"1.0.0","linux":{{"memoryPolicy":{policy}}}}}"#);
            parse::<Spec>(text.as_bytes(), "c").unwrap_err().to_string()
        };
        assert!(error("{}").starts_with("c: linux.memoryPolicy: invalid memory policy mode: missing field"));
        let e = error(r#"{"mode":"INTERLEAVE"}"#);
        assert!(
            e.starts_with("c: linux.memoryPolicy.mode: invalid memory policy mode: unknown variant"),
            "{e}"
        );
        let e = error(r#"{"mode":"MPOL_BIND","flags":["bad"]}"#);
        assert!(e.starts_with("c: linux.memoryPolicy.flags[0]: invalid memory policy flag: unknown"), "{e}");
    }

    #[test]
    fn a_malformed_field_is_named_by_its_path() {
        let text = br#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":-1,"gid":0}}}"#;
        let e = parse::<Spec>(text, "config.json").unwrap_err().to_string();
        assert!(e.starts_with("config.json: process.user.uid: invalid value"), "{e}");
    }
}
