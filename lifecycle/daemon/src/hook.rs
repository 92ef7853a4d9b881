//! `oci-hook`: runs a program as a hook of the OCI runtime, with facts of the container filled into its arguments.
//!
//! As containerd's command of that name: the state comes on standard input, `{{id}}`, `{{pid}}`, `{{bundle}}`,
//! `{{rootfs}}`, `{{status}}` and `{{annotation "key"}}` are replaced in the arguments and in the environment.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// Longest state and specification read, in bytes.
const LONGEST: u64 = 16 << 20;

/// Why the program was not run.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("read {what}: {source}")]
    Read { what: String, source: io::Error },
    #[error("read {what}: {source}")]
    Parse { what: String, source: serde_json::Error },
    #[error("argument {0:?}: {{{{{1}}}}} is not one of id, pid, bundle, rootfs, status, annotation \"key\"")]
    Unknown(String, String),
    #[error("argument {0:?}: {{{{ is not closed")]
    Open(String),
    #[error("run {program:?}: {source}")]
    Run { program: OsString, source: io::Error },
    #[error("no program named")]
    Nothing,
}

/// The container's state, as the runtime specification has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    id: String,
    status: String,
    pid: i32,
    bundle: PathBuf,
    annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Spec {
    root: Root,
}

#[derive(Deserialize)]
struct Root {
    path: PathBuf,
}

/// Replaces this process by the program. Returns only what prevented that.
pub fn run(arguments: &[OsString]) -> HookError {
    match prepare(arguments) {
        Ok(mut command) => {
            let program = command.get_program().to_owned();
            HookError::Run { program, source: command.exec() }
        }
        Err(error) => error,
    }
}

fn prepare(arguments: &[OsString]) -> Result<Command, HookError> {
    let state: State = read("the container's state from standard input", io::stdin())?;
    let path = state.bundle.join("config.json");
    let what = path.display().to_string();
    let file = std::fs::File::open(&path).map_err(|source| HookError::Read { what: what.clone(), source })?;
    let spec: Spec = read(&what, file)?;
    // an absolute path replaces the bundle's
    let rootfs = state.bundle.join(spec.root.path);
    let mut filled = arguments.iter().map(|argument| fill(argument.as_bytes(), &state, &rootfs));
    let program = filled.next().ok_or(HookError::Nothing)??;
    let mut command = Command::new(program);
    command.args(filled.collect::<Result<Vec<_>, _>>()?).env_clear();
    for (name, value) in std::env::vars_os() {
        command.env(name, fill(value.as_bytes(), &state, &rootfs)?);
    }
    Ok(command)
}

fn read<T: serde::de::DeserializeOwned>(what: &str, from: impl Read) -> Result<T, HookError> {
    let mut text = Vec::new();
    let taken = from.take(LONGEST).read_to_end(&mut text);
    taken.map_err(|source| HookError::Read { what: what.into(), source })?;
    serde_json::from_slice(&text).map_err(|source| HookError::Parse { what: what.into(), source })
}

/// Bytes are kept as they are; what is filled in is not looked at again.
fn fill(text: &[u8], state: &State, rootfs: &Path) -> Result<OsString, HookError> {
    let whole = || String::from_utf8_lossy(text).chars().take(64).collect::<String>();
    let mut filled = Vec::new();
    let mut rest = text;
    while let Some(at) = find(rest, b"{{") {
        filled.extend_from_slice(&rest[..at]);
        rest = &rest[at + 2..];
        let end = find(rest, b"}}").ok_or_else(|| HookError::Open(whole()))?;
        let name = String::from_utf8_lossy(&rest[..end]).trim().to_owned();
        rest = &rest[end + 2..];
        match name.as_str() {
            "id" => filled.extend_from_slice(state.id.as_bytes()),
            "pid" => filled.extend_from_slice(state.pid.to_string().as_bytes()),
            "bundle" => filled.extend_from_slice(state.bundle.as_os_str().as_bytes()),
            "rootfs" => filled.extend_from_slice(rootfs.as_os_str().as_bytes()),
            "status" => filled.extend_from_slice(state.status.as_bytes()),
            _ => match annotation(&name) {
                Some(key) => {
                    let value = state.annotations.get(key).map_or("", String::as_str);
                    filled.extend_from_slice(value.as_bytes());
                }
                None => return Err(HookError::Unknown(whole(), name.chars().take(64).collect())),
            },
        }
    }
    filled.extend_from_slice(rest);
    Ok(OsString::from_vec(filled))
}

/// The key in `annotation "key"`.
fn annotation(name: &str) -> Option<&str> {
    let quoted = name.strip_prefix("annotation")?.trim_start();
    let key = quoted.strip_prefix('"')?.strip_suffix('"')?;
    (!key.contains(['"', '\\'])).then_some(key)
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, String> {
        let state = State {
            id: "c1".into(),
            status: "created".into(),
            pid: 7,
            bundle: "/b".into(),
            annotations: [("k.x/y".to_owned(), "{{id}}".to_owned())].into(),
        };
        let filled =
            fill(text.as_bytes(), &state, Path::new("/b/rootfs")).map_err(|error| error.to_string())?;
        Ok(filled.into_string().expect("UTF-8"))
    }

    #[test]
    fn facts_are_filled_in_once() {
        assert_eq!(filled("{{id}} {{ pid }}:{{bundle}}|{{rootfs}}"), Ok("c1 7:/b|/b/rootfs".into()));
        assert_eq!(
            filled("{{status}}{{annotation \"k.x/y\"}}"),
            Ok("created{{id}}".into()),
            "not filled again"
        );
        assert_eq!(filled("{{annotation \"none\"}}x}}"), Ok("x}}".into()));
        assert_eq!(filled("plain {"), Ok("plain {".into()));
    }

    #[test]
    fn what_cannot_be_filled_in_is_named() {
        assert!(filled("{{user}}").expect_err("unknown").contains("{{user}} is not one of id"));
        assert!(filled("{{id").expect_err("open").contains("is not closed"));
        assert!(filled("{{annotation k}}").is_err());
    }
}
