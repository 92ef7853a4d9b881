//! The folder in which the operator says how registries are reached: containerd's `hosts.toml` a registry, or
//! certificates alone as Docker lays them out (`*.crt`, `NAME.cert` with `NAME.key`).

mod file;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::config::Scheme;
use crate::error::RegistryError;
use crate::tls::{ClientPair, PemFile, TlsSettings};

const MAX_FILE: u64 = 1 << 20;
const FILE: &str = "hosts.toml";

/// What a host may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub pull: bool,
    /// Whether its word is taken for what a tag means.
    pub resolve: bool,
    pub push: bool,
}

impl Capabilities {
    pub const ALL: Self = Self { pull: true, resolve: true, push: true };
}

/// Where an API is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub scheme: Scheme,
    /// `host` or `host:port`.
    pub host: String,
    /// The API's root such as `/v2`; empty or with a slash before and none behind it.
    pub path: String,
}

/// One place to ask, as the operator described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// None: the registry itself.
    pub server: Option<Server>,
    pub capabilities: Capabilities,
    pub ca: Vec<PemFile>,
    pub client: Vec<ClientPair>,
    pub skip_verify: Option<bool>,
    pub headers: HeaderMap,
    pub dial_timeout: Option<Duration>,
}

impl Host {
    /// The registry itself, with nothing said about it.
    pub fn plain() -> Self {
        Self {
            server: None,
            capabilities: Capabilities::ALL,
            ca: Vec::new(),
            client: Vec::new(),
            skip_verify: None,
            headers: HeaderMap::new(),
            dial_timeout: None,
        }
    }

    /// Whether something is said about TLS: HTTPS is tried first then, even where the scheme is `http`.
    pub fn speaks_of_tls(&self) -> bool {
        !self.ca.is_empty() || !self.client.is_empty() || self.skip_verify.is_some()
    }

    pub fn tls(&self) -> TlsSettings {
        TlsSettings {
            ca: self.ca.clone(),
            client: self.client.clone(),
            skip_verify: self.skip_verify.unwrap_or(false),
            dial_timeout: self.dial_timeout,
        }
    }
}

/// The hosts to ask for a registry, in order, the registry's own place last. None if the folder says nothing of it.
/// Blocks on the disk.
///
/// # Errors
/// [`RegistryError::Settings`] if what is said cannot be read or used: a registry is not asked in another way than
/// the operator wants.
pub(crate) fn load(root: &Path, domain: &str) -> Result<Option<Vec<Host>>, RegistryError> {
    for folder in candidates(root, domain) {
        match fs::metadata(&folder) {
            Ok(_) => return read(&folder).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(&folder, &error)),
        }
    }
    Ok(None)
}

/// `HOST_PORT_` (for systems whose file names have no colon), `HOST:PORT`, `_default`.
fn candidates(root: &Path, domain: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Some((host, port)) = domain.rsplit_once(':').filter(|(host, _)| !host.is_empty()) {
        found.push(root.join(format!("{host}_{port}_")));
    }
    found.push(root.join(domain));
    found.push(root.join("_default"));
    found
}

fn read(folder: &Path) -> Result<Vec<Host>, RegistryError> {
    let path = folder.join(FILE);
    match bounded(&path) {
        Ok(text) if text.is_empty() => certificates(folder),
        Ok(text) => file::parse(folder, &text).map_err(|reason| unusable(&path, &reason)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            certificates(folder)
        }
        Err(error) => Err(unusable(&path, &error)),
    }
}

fn bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("larger than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// The registry itself with the certificates that lie in the folder.
fn certificates(folder: &Path) -> Result<Vec<Host>, RegistryError> {
    let mut by_name = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|e| unusable(folder, &e))? {
        let path = entry.map_err(|e| unusable(folder, &e))?.path();
        if !path.is_dir() {
            by_name.insert(path.clone(), path.extension().map(|e| e.to_owned()));
        }
    }
    let mut host = Host::plain();
    for (path, extension) in &by_name {
        match extension.as_ref().and_then(|e| e.to_str()) {
            Some("crt") => host.ca.push(PemFile::at(path.clone())?),
            Some("cert") => {
                let key = path.with_extension("key");
                let key = by_name.contains_key(&key).then(|| PemFile::at(key)).transpose()?;
                host.client.push(ClientPair { certificate: PemFile::at(path.clone())?, key });
            }
            _ => {}
        }
    }
    Ok(vec![host])
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> RegistryError {
    RegistryError::Settings(format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests;
