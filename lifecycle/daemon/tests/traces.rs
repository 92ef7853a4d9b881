//! Traces arrive at a collector, over both protocols, as children of the caller's spans.

use std::convert::Infallible;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Channel, Endpoint, Uri};
use wharf_containerd::containerd::services::tasks::v1::CreateTaskRequest;
use wharf_containerd::containerd::services::tasks::v1::tasks_client::TasksClient;
use wharf_containerd::containerd::services::version::v1::version_client::VersionClient;

/// No answer takes longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The caller's trace and span.
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: [u8; 4] = [0x0a, 0xf7, 0x65, 0x19];

/// What a collector was sent: the path, and the message.
type Export = (String, Bytes);

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Connection for S {}

/// A collector; ends with the runtime.
async fn collector(grpc: bool) -> (String, mpsc::Receiver<Export>) {
    collector_on(grpc, None).await
}

/// One that proves who it is, if it is given with what.
async fn collector_on(grpc: bool, tls: Option<TlsAcceptor>) -> (String, mpsc::Receiver<Export>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let url = match &tls {
        None => format!("http://{address}"),
        // what the certificate is for
        Some(_) => format!("https://localhost:{}", address.port()),
    };
    let (exports, received) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let exports = exports.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let exports = exports.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.expect("body").to_bytes();
                    exports.send((path, body)).await.expect("awaited");
                    let mut response = Response::new(Full::<Bytes>::default());
                    let kind = if grpc { "application/grpc" } else { "application/x-protobuf" };
                    response.headers_mut().insert("content-type", kind.parse().expect("header"));
                    if grpc {
                        response.headers_mut().insert("grpc-status", "0".parse().expect("header"));
                    }
                    Ok::<_, Infallible>(response)
                }
            });
            let tls = tls.clone();
            tokio::spawn(async move {
                let io: Box<dyn Connection> = match tls {
                    None => Box::new(stream),
                    // a client that does not trust it goes away
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => return,
                    },
                };
                let io = TokioIo::new(io);
                if grpc {
                    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    drop(connection.serve_connection(io, service).await);
                } else {
                    drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
                }
            });
        }
    });
    (url, received)
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(at: &Path, more: &str, environment: &[(&str, &str)]) -> Daemon {
    let owner = std::fs::metadata(at).expect("folder");
    let text = format!(
        "root = '{0}/root'\nstate = '{0}/state'\n[grpc]\naddress = '{0}/d.sock'\nuid = {1}\ngid = {2}\n{more}",
        at.display(),
        owner.uid(),
        owner.gid()
    );
    std::fs::write(at.join("config.toml"), text).expect("configuration");
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf-lifecycled"));
    command.arg("--config").arg(at.join("config.toml")).stdin(Stdio::null()).stderr(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    Daemon(command.envs(environment.iter().copied()).spawn().expect("start"))
}

async fn connect(socket: PathBuf) -> Channel {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let path = socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        match Endpoint::from_static("http://unix").connect_with_connector(connector).await {
            Ok(channel) => return channel,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

/// Calls the daemon as part of a trace, and ends it: what waits is sent then.
async fn call_and_end(at: &Path, daemon: &Daemon) {
    let mut request = tonic::Request::new(());
    request.metadata_mut().insert("traceparent", PARENT.parse().expect("metadata"));
    VersionClient::new(connect(at.join("d.sock")).await).version(request).await.expect("version");
    kill_process(Pid::from_child(&daemon.0), Signal::TERM).expect("signal");
}

fn holds(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|window| window == wanted)
}

async fn check(received: &mut mpsc::Receiver<Export>, path: &str, service: &str) {
    let (at, body) = timeout(PATIENCE, received.recv()).await.expect("in time").expect("export");
    assert_eq!(at, path);
    for wanted in ["containerd.services.version.v1.Version/Version", "rpc.system", service] {
        assert!(holds(&body, wanted.as_bytes()), "{wanted} in {}", String::from_utf8_lossy(&body));
    }
    assert!(holds(&body, &TRACE), "of the caller's trace");
}

#[tokio::test]
async fn spans_are_sent_where_the_environment_says() {
    let at = tempfile::tempdir().expect("folder");
    let (url, mut received) = collector(false).await;
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_SERVICE_NAME", "of-the-test")];
    let mut daemon = start(at.path(), "", &environment);
    call_and_end(at.path(), &daemon).await;
    check(&mut received, "/v1/traces", "of-the-test").await;
    let ended = tokio::task::spawn_blocking(move || daemon.0.wait().expect("wait")).await.expect("join");
    assert!(ended.success());
}

#[tokio::test]
async fn spans_are_sent_over_grpc_where_the_configuration_says() {
    let at = tempfile::tempdir().expect("folder");
    let (url, mut received) = collector(true).await;
    let more = format!(
        "[plugins.'io.containerd.tracing.processor.v1.otlp']\nendpoint = '{url}'\nprotocol = 'grpc'\n\
         [plugins.'io.containerd.internal.v1.tracing']\nservice_name = 'of-the-test'\n"
    );
    let daemon = start(at.path(), &more, &[]);
    call_and_end(at.path(), &daemon).await;
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    check(&mut received, path, "of-the-test").await;
}

/// A certificate authority's file, and a server that it vouches for.
fn certified(at: &Path) -> (PathBuf, TlsAcceptor) {
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = authority.self_signed(&key).expect("a certificate");
    let file = at.join("ca.pem");
    std::fs::write(&file, certificate.pem()).expect("written");
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let server = server.signed_by(&key, &issuer).expect("a certificate");
    let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth();
    let mut config = config.with_single_cert(vec![server.der().clone()], private).expect("a server");
    config.alpn_protocols = vec![b"h2".to_vec()];
    (file, TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn spans_are_sent_over_grpc_with_tls() {
    let at = tempfile::tempdir().expect("folder");
    let (authority, tls) = certified(at.path());
    let (url, mut received) = collector_on(true, Some(tls)).await;
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let trusted = ("SSL_CERT_FILE", authority.to_str().expect("UTF-8"));
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_SERVICE_NAME", "of-the-test"),
        trusted,
    ];
    let daemon = start(at.path(), "", &environment);
    call_and_end(at.path(), &daemon).await;
    check(&mut received, path, "of-the-test").await;
    drop(daemon);
    // the same by the configuration, which names no scheme
    let more = format!(
        "[plugins.'io.containerd.tracing.processor.v1.otlp']\nendpoint = '{}'\nprotocol = 'grpc'\n",
        url.strip_prefix("https://").expect("a URL")
    );
    let daemon = start(at.path(), &more, &[trusted]);
    call_and_end(at.path(), &daemon).await;
    check(&mut received, path, "wharf-lifecycled").await;
}

#[tokio::test]
async fn spans_tell_what_a_call_consists_of() {
    let at = tempfile::tempdir().expect("folder");
    let (url, mut received) = collector(false).await;
    let daemon = start(at.path(), "", &[("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())]);
    let request = CreateTaskRequest { container_id: "missing".into(), ..Default::default() };
    let mut request = tonic::Request::new(request);
    request.metadata_mut().insert("traceparent", PARENT.parse().expect("metadata"));
    request.metadata_mut().insert("containerd-namespace", "test".parse().expect("metadata"));
    let mut tasks = TasksClient::new(connect(at.path().join("d.sock")).await);
    tasks.create(request).await.expect_err("there is no such container");
    kill_process(Pid::from_child(&daemon.0), Signal::TERM).expect("signal");
    // in one export, as nothing is sent before the daemon ends, or in several if it took that long
    let mut wanted = vec!["containerd.services.tasks.v1.Tasks/Create", "task.create"];
    while !wanted.is_empty() {
        let (_, body) = timeout(PATIENCE, received.recv()).await.expect("in time").expect("export");
        wanted.retain(|name| !holds(&body, name.as_bytes()));
        assert!(holds(&body, &TRACE), "of the caller's trace");
    }
}

#[tokio::test]
async fn collector_that_is_not_there_holds_nothing_up() {
    let at = tempfile::tempdir().expect("folder");
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")];
    let mut daemon = start(at.path(), "", &environment);
    call_and_end(at.path(), &daemon).await;
    let begin = Instant::now();
    let ended = tokio::task::spawn_blocking(move || daemon.0.wait().expect("wait")).await.expect("join");
    assert!(ended.success());
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
}
