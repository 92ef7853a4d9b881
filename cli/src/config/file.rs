//! `config.json`.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::ConfigError;

/// What this client reads of `config.json`; the rest is kept as it is when the file is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ConfigFile {
    pub(crate) auths: BTreeMap<String, Auth>,
    #[serde(rename = "HttpHeaders")]
    pub(crate) http_headers: BTreeMap<String, String>,
    pub(crate) current_context: String,
    pub(crate) detach_keys: String,
    pub(crate) ps_format: String,
    pub(crate) images_format: String,
    pub(crate) creds_store: String,
    pub(crate) cred_helpers: BTreeMap<String, String>,
    /// By host, or `default`.
    pub(crate) proxies: BTreeMap<String, Proxy>,
}

/// Credentials of one registry: `auth` is base64 of `user:password`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Auth {
    pub(crate) auth: String,
    #[serde(rename = "identitytoken")]
    pub(crate) identity_token: String,
    #[serde(rename = "registrytoken")]
    pub(crate) registry_token: String,
}

// credentials stay out of debug output
impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth(…)")
    }
}

/// What new containers get as proxy variables.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Proxy {
    pub(crate) http_proxy: String,
    pub(crate) https_proxy: String,
    pub(crate) no_proxy: String,
    pub(crate) ftp_proxy: String,
    pub(crate) all_proxy: String,
}

/// Files larger than this are no configuration.
const MAX_FILE: u64 = 4 << 20;

impl ConfigFile {
    /// Reads `dir/config.json`; a missing file is an empty configuration.
    pub(crate) fn load(dir: &Path) -> Result<ConfigFile, ConfigError> {
        let path = dir.join("config.json");
        let Some(bytes) = read(&path)? else { return Ok(ConfigFile::default()) };
        serde_json::from_slice(&bytes).map_err(|bad| ConfigError::Malformed { path, text: bad.to_string() })
    }

    /// Proxy variables for a container made on `host`, both spellings; those in `given` stay the user's.
    pub(crate) fn proxy_env(&self, host: &str, given: &[String]) -> Vec<String> {
        let Some(proxy) = self.proxies.get(host).or_else(|| self.proxies.get("default")) else {
            return Vec::new();
        };
        let pairs = [
            ("HTTP_PROXY", &proxy.http_proxy),
            ("HTTPS_PROXY", &proxy.https_proxy),
            ("NO_PROXY", &proxy.no_proxy),
            ("FTP_PROXY", &proxy.ftp_proxy),
            ("ALL_PROXY", &proxy.all_proxy),
        ];
        let mut out = Vec::new();
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            for name in [name.to_owned(), name.to_lowercase()] {
                if !given.iter().any(|env| env.split('=').next() == Some(name.as_str())) {
                    out.push(format!("{name}={value}"));
                }
            }
        }
        out
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, ConfigError> {
    use io::Read as _;
    let failed = |source| ConfigError::File { act: "open", path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Sets `currentContext` in `dir/config.json` (removes it for the default), keeping all other keys.
pub(super) fn set_current_context(dir: &Path, name: Option<&str>) -> Result<(), ConfigError> {
    let path = dir.join("config.json");
    let mut map: Map<String, Value> = match read(&path)? {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|bad| ConfigError::Malformed { path: path.clone(), text: bad.to_string() })?,
        None => Map::new(),
    };
    match name {
        Some(name) => map.insert("currentContext".to_owned(), Value::String(name.to_owned())),
        None => map.remove("currentContext"),
    };
    replace(&path, &map).map_err(|source| ConfigError::File { act: "write", path, source })
}

/// Writes beside the file and renames over it, so that a crash leaves the old one; 0600, for it holds secrets.
fn replace(path: &PathBuf, map: &Map<String, Value>) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let Some(dir) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    std::fs::create_dir_all(dir)?;
    let staged = dir.join(format!("config.json.{}", std::process::id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
    let text = serde_json::to_vec_pretty(map).map_err(io::Error::other)?;
    let written =
        file.write_all(&text).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&staged, path));
    if written.is_err() {
        // best effort: the error that matters is the one being returned
        let _ = std::fs::remove_file(&staged);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_set_without_losing_other_keys() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("config.json"), r#"{"auths":{"r":{"auth":"eDp5"}},"x":1}"#)
            .expect("write");
        set_current_context(dir.path(), Some("other")).expect("set");
        let config = ConfigFile::load(dir.path()).expect("load");
        assert_eq!((config.current_context.as_str(), config.auths["r"].auth.as_str()), ("other", "eDp5"));
        set_current_context(dir.path(), None).expect("unset");
        let text = std::fs::read_to_string(dir.path().join("config.json")).expect("read");
        assert!(text.contains("\"x\": 1") && !text.contains("currentContext"), "{text}");
    }

    #[test]
    fn proxies_become_variables_in_both_spellings_unless_given() {
        let config: ConfigFile =
            serde_json::from_str(r#"{"proxies":{"default":{"httpProxy":"p"}}}"#).expect("json");
        assert_eq!(config.proxy_env("unix:///x", &["HTTP_PROXY".to_owned()]), ["http_proxy=p"]);
    }
}
