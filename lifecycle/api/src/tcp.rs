//! gRPC over TCP, for those who prove with a certificate that they may.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// What a client may take to show its certificate.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Clients that may be at it at a time.
const HANDSHAKES: usize = 64;

/// A TCP address and the certificates of both sides, PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConfig {
    pub address: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who signs the clients' certificates.
    pub client_ca: PathBuf,
}

/// Why TCP could not be served.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    #[error("listen on {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} holds no usable {what}: {text}")]
    Unusable { path: PathBuf, what: &'static str, text: String },
}

/// A connection over which both sides have proved who they are.
pub(crate) struct Trusted(TlsStream<TcpStream>);

/// Listens; the stream gives connections whose clients showed a certificate that the CA signed.
pub(crate) async fn listen(config: &TcpConfig) -> Result<ReceiverStream<io::Result<Trusted>>, TcpError> {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(config)?));
    let failed = |source| TcpError::Bind { address: config.address, source };
    let listener = TcpListener::bind(config.address).await.map_err(failed)?;
    let (accepted, connections) = mpsc::channel(HANDSHAKES);
    tokio::spawn(accept(listener, acceptor, accepted));
    Ok(ReceiverStream::new(connections))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, to: mpsc::Sender<io::Result<Trusted>>) {
    let turns = Arc::new(Semaphore::new(HANDSHAKES));
    while !to.is_closed() {
        // never closed
        let Ok(turn) = turns.clone().acquire_owned().await else { return };
        let (stream, from) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a TCP connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = to.closed() => return,
        };
        let (acceptor, to) = (acceptor.clone(), to.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                // the server is gone: so is the connection
                Ok(Ok(stream)) => drop(to.send(Ok(Trusted(stream))).await),
                Ok(Err(error)) => tracing::info!(%from, %error, "TLS handshake failed"),
                Err(_) => tracing::info!(%from, "TLS handshake took too long"),
            }
            drop(turn);
        });
    }
}

fn server_config(config: &TcpConfig) -> Result<ServerConfig, TcpError> {
    let provider = Arc::new(ring::default_provider());
    let ca = &config.client_ca;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| unusable(ca, "certificate", &error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| unusable(ca, "certificate", &error))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&config.key)?)
        .map_err(|error| unusable(&config.key, "private key", &error))?;
    let chain = certificates(&config.certificate)?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key))
        .map_err(|error| unusable(&config.certificate, "certificate for that key", &error))?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    Ok(server)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TcpError> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, "certificate", &error))?;
    if read.is_empty() {
        return Err(unusable(path, "certificate", &"there is none"));
    }
    Ok(read)
}

fn read(path: &Path) -> Result<Vec<u8>, TcpError> {
    std::fs::read(path).map_err(|source| TcpError::Read { path: path.into(), source })
}

fn unusable(path: &Path, what: &'static str, error: &dyn std::fmt::Display) -> TcpError {
    TcpError::Unusable { path: path.into(), what, text: error.to_string() }
}

impl Connected for Trusted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Trusted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Trusted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
