//! TLS to a collector, with the machine's certificate authorities (or those of `SSL_CERT_FILE`).
//!
//! The exporter's own TLS for gRPC would bring a second copy of what the daemon has already: the channel is made here.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{EXPORT, TraceError};

/// The port of OTLP over gRPC, where the endpoint names none.
const PORT: u16 = 4317;

pub(super) fn tls() -> Result<ClientConfig, TraceError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TraceError::Client(error.to_string()))?;
    Ok(tls.with_root_certificates(roots).with_no_client_auth())
}

/// A channel that connects with its first export, and again when it was broken. `host` is what follows `https://`.
pub(super) fn channel(endpoint: &str, host: &str) -> Result<Channel, TraceError> {
    let wrong = || TraceError::Url(endpoint.to_owned());
    // tonic takes no https without a TLS of its own, and asks the connector for the address only
    let plain: Uri = format!("http://{host}").parse().map_err(|_| wrong())?;
    let secure: Uri = endpoint.parse().map_err(|_| wrong())?;
    let (name, port) = (plain.host().ok_or_else(wrong)?.to_owned(), plain.port_u16().unwrap_or(PORT));
    let bare = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let server = ServerName::try_from(bare.clone()).map_err(|_| wrong())?;
    let mut tls = tls()?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(tls));
    let connect = tower::service_fn(move |_: Uri| {
        let (connector, server, bare) = (connector.clone(), server.clone(), bare.clone());
        async move {
            let stream = TcpStream::connect((bare.as_str(), port)).await?;
            let stream = connector.connect(server, stream).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    let channel = Endpoint::from(plain).origin(secure).connect_timeout(EXPORT).timeout(EXPORT);
    Ok(channel.connect_with_connector_lazy(connect))
}
