//! TLS settings: the system's certificate authorities, a registry's own, or no verification.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::error::RegistryError;

const MAX_PEM: u64 = 1 << 20;

/// Who vouches for a registry.
pub(crate) enum Trust<'a> {
    /// The system's authorities.
    System,
    /// Those and the files in the registry's own folder.
    Folder(&'a Path),
    /// Nobody: the operator listed the registry as insecure.
    Anyone,
}

pub(crate) fn client_config(trust: &Trust<'_>) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| RegistryError::Settings(e.to_string()))?;
    let builder = match trust {
        Trust::Anyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(NoVerification(provider)))
        }
        Trust::System => builder.with_root_certificates(system_roots()),
        Trust::Folder(folder) => {
            let mut roots = system_roots();
            for file in files_ending(folder, "crt")? {
                for certificate in certificates(&file)? {
                    roots.add(certificate).map_err(|e| unusable(&file, &e))?;
                }
            }
            let builder = builder.with_root_certificates(roots);
            if let Some(file) = files_ending(folder, "cert")?.first() {
                let key_file = file.with_extension("key");
                let key =
                    PrivateKeyDer::from_pem_slice(&read(&key_file)?).map_err(|e| unusable(&key_file, &e))?;
                return builder
                    .with_client_auth_cert(certificates(file)?, key)
                    .map_err(|e| unusable(file, &e));
            }
            builder
        }
    };
    Ok(builder.with_no_client_auth())
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

fn files_ending(folder: &Path, extension: &str) -> Result<Vec<std::path::PathBuf>, RegistryError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| unusable(folder, &e))? {
        let path = entry.map_err(|e| unusable(folder, &e))?.path();
        if path.extension().is_some_and(|e| e == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let supported = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, supported)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let supported = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, supported)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
