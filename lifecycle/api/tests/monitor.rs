//! What is served beside the API, and the API over TCP: reflection, metrics, the debug socket, TLS.

mod served;

use std::sync::Arc;
use std::time::Duration;

use lifecycle_api::{MetricsConfig, SocketConfig, TcpConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use served::{connect, settings, start, within};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use wharf_containerd::containerd::services::events::v1::SubscribeRequest;
use wharf_containerd::containerd::services::events::v1::events_client::EventsClient;
use wharf_containerd::containerd::services::tasks::v1::GetRequest;
use wharf_containerd::containerd::services::tasks::v1::tasks_client::TasksClient;
use wharf_containerd::containerd::services::version::v1::version_client::VersionClient;

/// An address that nobody listens on.
fn free() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address")
}

async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answer");
    answer
}

#[tokio::test]
async fn reflection_describes_every_service_that_is_listed() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let channel = connect(at.path()).await;
    let ask = async |message: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let mut client = ServerReflectionClient::new(channel.clone());
        let answers = client.server_reflection_info(tokio_stream::iter([request])).await.expect("call");
        let answer = answers.into_inner().message().await.expect("stream").expect("answer");
        answer.message_response.expect("response")
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("not a list")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in
        ["containerd.services.tasks.v1.Tasks", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]
    {
        assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
    }
    for name in names {
        let answer = ask(MessageRequest::FileContainingSymbol(name.clone())).await;
        assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn health_is_told_for_the_server_as_a_whole() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let mut health = HealthClient::new(connect(at.path()).await);
    let answer = health.check(HealthCheckRequest::default()).await.expect("check").into_inner();
    assert_eq!(answer.status, 1);
    let request = HealthCheckRequest { service: "nothing".into() };
    assert_eq!(health.check(request).await.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test]
async fn metrics_count_calls_by_method_and_code() {
    let at = tempfile::tempdir().expect("folder");
    let address = free();
    let mut settings = settings(at.path());
    settings.metrics = Some(MetricsConfig { address, grpc_histogram: true });
    let _stop = start(settings).await;
    let channel = connect(at.path()).await;
    for _ in 0..2 {
        VersionClient::new(channel.clone()).version(()).await.expect("version");
    }
    let request = GetRequest { container_id: "c".into(), exec_id: String::new() };
    TasksClient::new(channel.clone()).get(within("ns", request)).await.expect_err("no such task");
    let heard = EventsClient::new(channel).subscribe(SubscribeRequest::default()).await.expect("subscribe");
    let read = async || get(TcpStream::connect(address).await.expect("connect"), "/v1/metrics").await;
    let text = read().await;
    assert!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
    let version = "grpc_service=\"containerd.services.version.v1.Version\",grpc_type=\"unary\"";
    let events = "grpc_service=\"containerd.services.events.v1.Events\",grpc_type=\"server_stream\"";
    for line in [
        format!("grpc_server_started_total{{grpc_method=\"Version\",{version}}} 2"),
        format!("grpc_server_msg_received_total{{grpc_method=\"Version\",{version}}} 2"),
        format!("grpc_server_msg_sent_total{{grpc_method=\"Version\",{version}}} 2"),
        format!("grpc_server_handled_total{{grpc_code=\"OK\",grpc_method=\"Version\",{version}}} 2"),
        format!("grpc_server_handling_seconds_count{{grpc_method=\"Version\",{version}}} 2"),
        "grpc_server_handled_total{grpc_code=\"NotFound\",grpc_method=\"Get\",\
         grpc_service=\"containerd.services.tasks.v1.Tasks\",grpc_type=\"unary\"} 1"
            .into(),
        format!("grpc_server_started_total{{grpc_method=\"Subscribe\",{events}}} 1"),
        "# TYPE process_resident_memory_bytes gauge".into(),
        format!(
            "containerd_build_info_total{{revision=\"{}\",version=\"{}\"}} 1",
            lifecycle_api::REVISION,
            lifecycle_api::VERSION
        ),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    assert!(!text.contains("grpc_method=\"Subscribe\",grpc_service=\"containerd.services.events.v1.Events\",grpc_type=\"server_stream\"} 1\ngrpc_code"));
    // who leaves has cancelled
    drop(heard);
    let cancelled =
        format!("grpc_server_handled_total{{grpc_code=\"Canceled\",grpc_method=\"Subscribe\",{events}}} 1");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !read().await.lines().any(|line| line == cancelled) {
        assert!(tokio::time::Instant::now() < deadline, "no {cancelled}");
        tokio::task::yield_now().await;
    }
    assert!(
        get(TcpStream::connect(address).await.expect("connect"), "/metrics")
            .await
            .starts_with("HTTP/1.1 404")
    );
}

#[tokio::test]
async fn debug_socket_shows_the_process_and_is_private() {
    let at = tempfile::tempdir().expect("folder");
    let mut settings = settings(at.path());
    let path = at.path().join("debug.sock");
    settings.debug_socket = Some(SocketConfig { path: path.clone(), ..settings.grpc.clone() });
    let _stop = start(settings).await;
    let answer = get(UnixStream::connect(&path).await.expect("connect"), "/debug/vars").await;
    assert!(answer.contains("\"cmdline\": [") && answer.contains("VmRSS"), "{answer}");
    let answer = get(UnixStream::connect(&path).await.expect("connect"), "/debug/pprof/goroutine").await;
    assert!(answer.contains("thread "), "{answer}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("socket").permissions());
    assert_eq!(mode & 0o777, 0o660);
}

/// A certificate authority, and what it signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority"))
    }

    /// Certificate and key, PEM.
    fn signed(&self) -> (String, String) {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    /// A client that trusts this authority, and shows a certificate if it has one.
    fn client(&self, shown: Option<(String, String)>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("root");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match shown {
            Some((certificate, key)) => {
                let certificate =
                    CertificateDer::from_pem_slice(certificate.as_bytes()).expect("certificate");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("key");
                builder.with_client_auth_cert(vec![certificate], key).expect("client certificate")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// The version as a client over TCP gets it; None if it is not let in.
async fn version_over(address: std::net::SocketAddr, client: ClientConfig) -> Option<String> {
    let connector = TlsConnector::from(Arc::new(client));
    let stream = TcpStream::connect(address).await.expect("connect");
    let stream = connector.connect(ServerName::try_from("localhost").expect("name"), stream).await.ok()?;
    let channel = served::over(stream).await?;
    Some(VersionClient::new(channel).version(()).await.ok()?.into_inner().version)
}

#[tokio::test]
async fn over_tcp_only_clients_with_a_certificate_are_let_in() {
    let at = tempfile::tempdir().expect("folder");
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.signed();
    let write = |name: &str, text: &str| {
        std::fs::write(at.path().join(name), text).expect("write");
        at.path().join(name)
    };
    let address = free();
    let mut settings = settings(at.path());
    settings.tcp = Some(TcpConfig {
        address,
        certificate: write("cert.pem", &certificate),
        key: write("key.pem", &key),
        client_ca: write("ca.pem", &authority.0.pem()),
    });
    let _stop = start(settings).await;
    // one that says nothing keeps nobody waiting
    let _silent = TcpStream::connect(address).await.expect("connect");
    let known = authority.client(Some(authority.signed()));
    assert_eq!(version_over(address, known).await.as_deref(), Some(lifecycle_api::VERSION));
    assert_eq!(version_over(address, authority.client(None)).await, None, "no certificate");
    let forged = authority.client(Some(stranger.signed()));
    assert_eq!(version_over(address, forged).await, None, "signed by another");
    VersionClient::new(connect(at.path()).await).version(()).await.expect("the unix socket is served too");
}

#[tokio::test]
async fn unusable_certificate_is_named_before_anything_is_served() {
    let at = tempfile::tempdir().expect("folder");
    let mut settings = settings(at.path());
    let file = at.path().join("empty.pem");
    std::fs::write(&file, "").expect("write");
    let (certificate, key, client_ca) = (file.clone(), file.clone(), file);
    settings.tcp = Some(TcpConfig { address: free(), certificate, key, client_ca });
    let served = lifecycle_api::serve(settings, || panic!("serves"), std::future::pending()).await;
    let error = served.expect_err("refused").to_string();
    assert!(error.contains("empty.pem holds no usable certificate"), "{error}");
}
