//! TLS settings: the system's certificate authorities, a registry's own, or no verification.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore, SignatureScheme};

use self::verifier::Verifier;
use crate::error::RegistryError;

mod verifier;

const MAX_PEM: u64 = 1 << 20;

/// A file with certificates or a key, and the state in which it was found: when it is replaced, the settings are others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PemFile {
    path: PathBuf,
    modified: Option<SystemTime>,
    size: u64,
}

impl PemFile {
    pub fn at(path: PathBuf) -> Result<Self, RegistryError> {
        // what is missing is reported when it is read: it may belong to a host that is never asked
        let found = fs::metadata(&path).ok();
        let modified = found.as_ref().and_then(|found| found.modified().ok());
        Ok(Self { path, modified, size: found.map_or(0, |found| found.len()) })
    }

    #[cfg(test)]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What the client shows to a registry that asks for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientPair {
    pub certificate: PemFile,
    /// None: in the same file.
    pub key: Option<PemFile>,
}

/// How connections to a host are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TlsSettings {
    /// Authorities beside the system's.
    pub ca: Vec<PemFile>,
    pub client: Vec<ClientPair>,
    /// Whoever answers is taken for the registry.
    pub skip_verify: bool,
    pub dial_timeout: Option<Duration>,
}

/// Reads the files. Blocks on the disk.
pub(crate) fn client_config(settings: &TlsSettings) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| RegistryError::Settings(e.to_string()))?;
    let builder = if settings.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier::of_nothing(provider)))
    } else {
        let mut roots = system_roots();
        let mut named = Vec::new();
        for PemFile { path, .. } in &settings.ca {
            let found = certificates(path)?;
            if found.is_empty() {
                return Err(unusable(path, &"no certificate is in it"));
            }
            for certificate in found {
                roots.add(certificate.clone()).map_err(|e| unusable(path, &e))?;
                named.push(certificate);
            }
        }
        if named.is_empty() {
            builder.with_root_certificates(roots)
        } else {
            let verifier = Verifier::pinned(roots, named, provider)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    if settings.client.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let pairs = settings.client.iter().map(certified).collect::<Result<_, _>>()?;
    Ok(builder.with_client_cert_resolver(Arc::new(OneOf(pairs))))
}

fn certified(pair: &ClientPair) -> Result<Arc<CertifiedKey>, RegistryError> {
    let file = &pair.certificate.path;
    let key_file = pair.key.as_ref().map_or(file, |key| &key.path);
    let chain = certificates(file)?;
    if chain.is_empty() {
        return Err(unusable(file, &"no certificate is in it"));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(key_file)?).map_err(|e| unusable(key_file, &e))?;
    let key = ring::sign::any_supported_type(&key).map_err(|e| unusable(key_file, &e))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        // Unknown: the key does not tell
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(pair)),
        Err(e) => Err(unusable(file, &e)),
    }
}

/// Shows the first pair that an authority which the server names has signed, else the first.
#[derive(Debug)]
struct OneOf(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for OneOf {
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let usable = |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(schemes).is_some();
        // an issuer's name stands in a certificate as the server sends it, byte for byte
        let named = |pair: &&Arc<CertifiedKey>| {
            let contains = |of: &[u8], name: &[u8]| of.windows(name.len().max(1)).any(|part| part == name);
            pair.cert.iter().any(|c| authorities.iter().any(|authority| contains(c, authority)))
        };
        let mut pairs = self.0.iter().filter(usable);
        let first = pairs.clone().next();
        pairs.find(named).or(first).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read a system certificate file");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}

fn unusable(file: &Path, reason: &dyn std::fmt::Display) -> RegistryError {
    RegistryError::Settings(format!("{}: {reason}", file.display()))
}

fn read(file: &Path) -> Result<Vec<u8>, RegistryError> {
    let size = fs::metadata(file).map_err(|e| unusable(file, &e))?.len();
    if size > MAX_PEM {
        return Err(unusable(file, &format_args!("larger than {MAX_PEM} bytes")));
    }
    fs::read(file).map_err(|e| unusable(file, &e))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    CertificateDer::pem_slice_iter(&read(file)?).collect::<Result<_, _>>().map_err(|e| unusable(file, &e))
}
