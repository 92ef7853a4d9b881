//! Contexts: named endpoints under `contexts/meta/<sha256 of the name>/meta.json`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ConfigError, file};

/// The context that stands for DOCKER_HOST or the built-in socket.
pub(crate) const DEFAULT_CONTEXT: &str = "default";

const MAX_META: u64 = 1 << 20;

/// A context as its file has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) metadata: serde_json::Map<String, serde_json::Value>,
    /// By kind; `docker` is the one that counts.
    pub(crate) endpoints: BTreeMap<String, ContextEndpoint>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ContextEndpoint {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) host: String,
    #[serde(rename = "SkipTLSVerify")]
    pub(crate) skip_tls_verify: bool,
}

impl Context {
    pub(crate) fn host(&self) -> &str {
        self.endpoints.get("docker").map_or("", |endpoint| &endpoint.host)
    }

    pub(crate) fn description(&self) -> &str {
        self.metadata.get("Description").and_then(|text| text.as_str()).unwrap_or("")
    }
}

/// The contexts of one configuration directory.
#[derive(Clone, Debug)]
pub(crate) struct ContextStore {
    dir: PathBuf,
}

impl ContextStore {
    pub(crate) fn new(config_dir: &Path) -> ContextStore {
        ContextStore { dir: config_dir.to_owned() }
    }

    fn key(name: &str) -> String {
        hex::encode(Sha256::digest(name.as_bytes()))
    }

    pub(crate) fn meta_dir(&self, name: &str) -> PathBuf {
        self.dir.join("contexts/meta").join(Self::key(name))
    }

    pub(crate) fn tls_dir(&self, name: &str) -> PathBuf {
        self.dir.join("contexts/tls").join(Self::key(name))
    }

    pub(crate) fn get(&self, name: &str) -> Result<Context, ConfigError> {
        let path = self.meta_dir(name).join("meta.json");
        let mut text = String::new();
        std::fs::File::open(&path).and_then(|file| file.take(MAX_META).read_to_string(&mut text)).map_err(
            |source| ConfigError::ContextMissing { name: name.to_owned(), path: path.clone(), source },
        )?;
        serde_json::from_str(&text).map_err(|bad| ConfigError::ContextMalformed {
            name: name.to_owned(),
            path,
            text: bad.to_string(),
        })
    }

    /// Every context that can be read, by name.
    pub(crate) fn list(&self) -> Vec<Context> {
        let Ok(entries) = std::fs::read_dir(self.dir.join("contexts/meta")) else { return Vec::new() };
        let mut contexts: Vec<Context> = entries
            .flatten()
            .filter_map(|entry| {
                let text = std::fs::read_to_string(entry.path().join("meta.json")).ok()?;
                serde_json::from_str(&text).ok()
            })
            .collect();
        contexts.sort_by(|a, b| a.name.cmp(&b.name));
        contexts
    }

    /// Makes `name` the one used when nothing else is said.
    pub(crate) fn set_current(&self, name: &str) -> Result<(), ConfigError> {
        file::set_current_context(&self.dir, (name != DEFAULT_CONTEXT).then_some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_found_by_the_hash_of_its_name() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = ContextStore::new(dir.path());
        let meta = store.meta_dir("nope");
        assert!(meta.ends_with("ca3704aa0b06f5954c79ee837faa152d84d6b2d42838f0637a15eda8337dbdce"));
        std::fs::create_dir_all(&meta).expect("mkdir");
        std::fs::write(meta.join("meta.json"), r#"{"Name":"nope","Metadata":{"Description":"d"},"Endpoints":{"docker":{"Host":"unix:///x","SkipTLSVerify":false}}}"#).expect("write");
        let context = store.get("nope").expect("context");
        assert_eq!((context.host(), context.description()), ("unix:///x", "d"));
        assert_eq!(store.list().len(), 1);
        assert!(
            store
                .get("other")
                .is_err_and(|e| e.to_string().starts_with("context \"other\": context not found: open "))
        );
    }
}
