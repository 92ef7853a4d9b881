//! Whose certificates are taken, beyond what rustls does by itself.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use crate::error::RegistryError;

/// Verifies less than rustls does: signatures always, certificates as it was made to.
#[derive(Debug)]
pub(super) struct Verifier {
    certificates: Certificates,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Certificates {
    Any,
    /// `named` are among those that the verifier trusts.
    Pinned {
        verifier: Arc<WebPkiServerVerifier>,
        named: Vec<CertificateDer<'static>>,
    },
}

impl Verifier {
    /// Whoever answers is taken for the registry.
    pub fn of_nothing(provider: Arc<CryptoProvider>) -> Verifier {
        Verifier { certificates: Certificates::Any, provider }
    }

    /// Verifies as rustls does, and takes one thing more: a self-signed certificate that says of itself that it is an
    /// authority, shown by the registry, if it is byte for byte one of those that the operator named for this host.
    /// That is what `openssl req -x509` makes, and what Go's clients take. `named` are among the `roots`.
    ///
    /// Whoever has its key could sign a certificate for the registry with it anyhow. The system's authorities have no
    /// part in this.
    pub fn pinned(
        roots: RootCertStore,
        named: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Verifier, RegistryError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|e| RegistryError::Settings(e.to_string()))?;
        Ok(Verifier { certificates: Certificates::Pinned { verifier, named }, provider })
    }
}

/// The one objection that is passed over. The verifier raises it after it has found the certificate valid at this time.
fn is_authority_itself(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else { return false };
    matches!(cause.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Certificates::Pinned { verifier, named } = &self.certificates else {
            return Ok(ServerCertVerified::assertion());
        };
        match verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if is_authority_itself(&error) && named.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let supported = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, supported)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let supported = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, supported)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    use rustls::crypto::ring;

    use super::*;

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn own(params: &CertificateParams) -> CertificateDer<'static> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    /// With `named` as the operator's.
    fn verify(named: &[&CertificateDer<'static>], shown: &CertificateDer<'_>, name: &str, days: u64) -> bool {
        let mut roots = RootCertStore::empty();
        named.iter().for_each(|certificate| roots.add((*certificate).clone()).unwrap());
        let named = named.iter().map(|certificate| (*certificate).clone()).collect();
        let verifier = Verifier::pinned(roots, named, Arc::new(ring::default_provider())).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
        let now = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(shown, &[], &name, &[], now).is_ok()
    }

    #[test]
    fn an_authority_that_the_operator_named_may_be_the_registry_itself() {
        let mut params = params("r.example");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        // days since 1970
        let (before, within, after) = (18_200, 20_000, 22_000);
        let certificate = own(&params);
        let other = own(&params);
        assert!(verify(&[&certificate], &certificate, "r.example", within));
        assert!(verify(&[&other, &certificate], &certificate, "r.example", within), "one of several");
        assert!(!verify(&[&other], &certificate, "r.example", within), "the same names, another key");
        assert!(!verify(&[&certificate], &certificate, "s.example", within), "another host");
        assert!(!verify(&[&certificate], &certificate, "r.example", before), "not yet valid");
        assert!(!verify(&[&certificate], &certificate, "r.example", after), "expired");
    }

    #[test]
    fn an_authority_that_was_not_named_is_refused_also_if_a_named_one_signed_it() {
        let (root, key) = (params("root.example"), KeyPair::generate().unwrap());
        let root_certificate = root.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(root, key);
        let below = KeyPair::generate().unwrap();
        let authority = params("r.example").signed_by(&below, &issuer).unwrap().der().clone();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 86_400;
        assert!(!verify(&[&root_certificate], &authority, "r.example", now));
        let mut leaf = params("r.example");
        leaf.is_ca = IsCa::NoCa;
        let shown = leaf.signed_by(&below, &issuer).unwrap().der().clone();
        assert!(verify(&[&root_certificate], &shown, "r.example", now), "an ordinary one is taken as ever");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client = leaf.signed_by(&below, &issuer).unwrap().der().clone();
        assert!(!verify(&[&root_certificate], &client, "r.example", now), "not a server's");
    }
}
