//! `-v` and `-info`.

use std::io::{self, Read};
use std::process::Command;

use prost::Message;
use prost_types::Any;
use wharf_containerd::containerd::types::{RuntimeInfo, RuntimeVersion};

use super::CommandError;
use crate::options::Options;

/// The runtime's answer to `features` at most.
const MAX_FEATURES: usize = 1024 * 1024;

/// In the lines of containerd's shims, which daemons and people read.
pub(super) fn version() -> String {
    format!("containerd-shim-wharf-v2:\n  Version:  {}\n  Revision: \n\n", env!("CARGO_PKG_VERSION"))
}

/// `RuntimeInfo`: the options from stdin and what the runtime says of its features.
pub(super) fn info() -> Result<Vec<u8>, CommandError> {
    let mut input = Vec::new();
    let read = io::stdin().lock().take(1024 * 1024).read_to_end(&mut input);
    read.map_err(|e| CommandError::Input(e.to_string()))?;
    let any = Any::decode(&input[..]).map_err(|e| CommandError::Input(e.to_string()))?;
    let options = Options::from_any(Some(&any)).map_err(CommandError::Input)?;
    // a runtime without the verb has no features to tell
    let features = Command::new(options.runtime()).arg("features").output().ok();
    let features = features.filter(|f| f.status.success() && f.stdout.len() <= MAX_FEATURES);
    let features = features.filter(|f| serde_json::from_slice::<serde_json::Value>(&f.stdout).is_ok());
    let info = RuntimeInfo {
        name: "io.containerd.wharf.v2".to_owned(),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: String::new(),
        }),
        options: (!any.value.is_empty()).then_some(any),
        features: features.map(|f| Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features".to_owned(),
            value: f.stdout,
        }),
        ..RuntimeInfo::default()
    };
    Ok(info.encode_to_vec())
}
