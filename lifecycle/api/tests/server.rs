//! The server as a whole, over its sockets, without containers.

mod served;

use std::path::Path;
use std::time::Duration;

use lifecycle_api::{MessageLimits, Settings, serve};
use prost_types::Timestamp;
use served::{connect, settings, start, within};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tonic::Code;
use ttrpc::asynchronous::Client;
use wharf_containerd::containerd::events::TaskOom;
use wharf_containerd::containerd::services::events::ttrpc::v1::ForwardRequest;
use wharf_containerd::containerd::services::events::v1::events_client::EventsClient;
use wharf_containerd::containerd::services::events::v1::{PublishRequest, SubscribeRequest};
use wharf_containerd::containerd::services::introspection::v1::PluginsRequest;
use wharf_containerd::containerd::services::introspection::v1::introspection_client::IntrospectionClient;
use wharf_containerd::containerd::services::tasks::v1::tasks_client::TasksClient;
use wharf_containerd::containerd::services::tasks::v1::{GetRequest, ListTasksRequest};
use wharf_containerd::containerd::services::version::v1::version_client::VersionClient;
use wharf_containerd::containerd::types::Envelope;
use wharf_containerd::to_any;

/// No answer takes longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn server_says_what_it_is_and_remembers_who() {
    let at = tempfile::tempdir().expect("folder");
    let stop = start(settings(at.path())).await;
    let channel = connect(at.path()).await;
    let version = VersionClient::new(channel.clone()).version(()).await.expect("version").into_inner();
    assert_eq!(version.version, lifecycle_api::VERSION);
    let mut introspection = IntrospectionClient::new(channel);
    let first = introspection.server(()).await.expect("server").into_inner();
    assert_eq!(first.pid, u64::from(std::process::id()));
    let filters = vec!["type==io.containerd.snapshotter.v1".to_owned(), "id==tasks".to_owned()];
    let found = introspection.plugins(PluginsRequest { filters }).await.expect("plugins").into_inner();
    let names: Vec<_> = found.plugins.iter().map(|plugin| plugin.id.as_str()).collect();
    assert_eq!(names, ["overlayfs", "native", "tasks"]);
    drop((stop, introspection));
    let again = loop {
        // the lock on the root folder is free once the first server has ended
        match tokio::time::timeout(Duration::from_secs(60), start_again(at.path())).await.expect("in time") {
            Some(uuid) => break uuid,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!(again, first.uuid);
}

async fn start_again(at: &Path) -> Option<String> {
    let (ready, is_ready) = oneshot::channel();
    let settings = settings(at);
    let server = tokio::spawn(serve(settings, || _ = ready.send(()), std::future::pending()));
    if is_ready.await.is_err() {
        assert!(server.await.expect("join").is_err());
        return None;
    }
    let answer = IntrospectionClient::new(connect(at).await).server(()).await.expect("server");
    server.abort();
    Some(answer.into_inner().uuid)
}

#[tokio::test]
async fn second_server_on_the_same_root_is_refused() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let error = serve(settings(at.path()), || panic!("ready"), std::future::pending()).await;
    assert!(error.expect_err("refused").to_string().contains("in use"));
    VersionClient::new(connect(at.path()).await).version(()).await.expect("the first goes on");
}

#[tokio::test]
async fn server_asked_to_end_while_it_waits_for_a_stuck_shim_does_not_serve_first() {
    let at = tempfile::tempdir().expect("folder");
    let bundle = at.path().join("state/io.containerd.runtime.v2.task/ns/c1");
    std::fs::create_dir_all(bundle.join("rootfs")).expect("bundle");
    let shim = tokio::net::UnixListener::bind(at.path().join("shim")).expect("socket");
    let address = at.path().join("shim").display().to_string();
    let bootstrap = format!(r#"{{"version":3,"address":"unix://{address}","protocol":"ttrpc"}}"#);
    std::fs::write(bundle.join("bootstrap.json"), bootstrap).expect("write");
    std::fs::write(bundle.join("shim-binary-path"), "/bin/true").expect("write");
    let mut connection = None;
    // it is connected to, and says nothing
    let asked = async { connection = shim.accept().await.ok() };
    serve(settings(at.path()), || panic!("serves before it ends"), asked).await.expect("ends");
    assert!(connection.is_some());
}

#[tokio::test]
async fn tasks_are_looked_up_by_namespace_and_container() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let mut tasks = TasksClient::new(connect(at.path()).await);
    let error = tasks.list(ListTasksRequest::default()).await.expect_err("no namespace");
    assert_eq!(error.code(), Code::FailedPrecondition);
    let list = tasks.list(within("ns", ListTasksRequest::default())).await.expect("list").into_inner();
    assert!(list.tasks.is_empty());
    let request = GetRequest { container_id: "c1".into(), exec_id: String::new() };
    let error = tasks.get(within("ns", request)).await.expect_err("no container");
    assert_eq!(
        (error.code(), error.message()),
        (Code::NotFound, r#"container "c1" in namespace "ns": not found"#)
    );
}

#[tokio::test]
async fn events_of_clients_and_shims_reach_subscribers() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let mut events = EventsClient::new(connect(at.path()).await);
    let filters = vec!["namespace==ns".to_owned()];
    let mut heard = events.subscribe(SubscribeRequest { filters }).await.expect("subscribe").into_inner();
    let event = Some(to_any("containerd.events.TaskOOM", &TaskOom { container_id: "c1".into() }));
    let publish = PublishRequest { topic: "/tasks/oom".into(), event: event.clone() };
    events.publish(within("other", publish.clone())).await.expect("publish");
    events.publish(within("ns", publish)).await.expect("publish");
    let shim = Client::connect(&format!("unix://{}", at.path().join("d.sock.ttrpc").display())).await;
    let envelope = Envelope {
        timestamp: Some(Timestamp { seconds: 5, nanos: 0 }),
        namespace: "ns".into(),
        topic: "/tasks/paused".into(),
        event,
    };
    let mut request = ttrpc::proto::Request::new();
    request.set_service("containerd.services.events.ttrpc.v1.Events".into());
    request.set_method("Forward".into());
    request.payload = prost::Message::encode_to_vec(&ForwardRequest { envelope: Some(envelope) });
    shim.expect("connect").request(request).await.expect("forward");
    for topic in ["/tasks/oom", "/tasks/paused"] {
        let envelope = heard.message().await.expect("stream").expect("event");
        assert_eq!((envelope.namespace.as_str(), envelope.topic.as_str()), ("ns", topic));
    }
    let publish = PublishRequest { topic: "tasks".into(), event: None };
    assert_eq!(events.publish(within("ns", publish)).await.expect_err("topic").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn message_that_is_too_large_is_refused_as_containerd_does() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let request = GetRequest { container_id: "x".repeat(17 << 20), exec_id: String::new() };
    let mut tasks = TasksClient::new(connect(at.path()).await).max_encoding_message_size(32 << 20);
    let error = tasks.get(within("ns", request)).await.expect_err("too large");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert!(error.message().starts_with("grpc: received message larger than max ("), "{error}");
    tasks.list(within("ns", ListTasksRequest::default())).await.expect("the connection goes on");
}

/// As gRPC's C core begins a connection to a socket, and a request of the version: the bytes of one that was seen.
fn c_cores_request(authority: &str) -> Vec<u8> {
    let text = |value: &str| [&[u8::try_from(value.len()).expect("short")], value.as_bytes()].concat();
    let field = |name: &str, value: &str| [vec![0x40], text(name), text(value)].concat();
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let headers = [
        field(":path", "/containerd.services.version.v1.Version/Version"),
        field(":authority", authority),
        vec![0x83, 0x86],
        field("te", "trailers"),
        field("content-type", "application/grpc"),
    ]
    .concat();
    let empty = [0; 5];
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &headers),
        frame(0, 1, 1, &empty),
    ]
    .concat()
}

#[tokio::test]
async fn clients_that_name_the_socket_as_authority_are_served() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let at = tempfile::tempdir().expect("folder");
    let _server = start(settings(at.path())).await;
    for authority in ["localhost", "%2Frun%2Fwharf%2Flifecycled.sock", "/run/wharf/lifecycled.sock"] {
        let mut stream = UnixStream::connect(at.path().join("d.sock")).await.expect("connect");
        stream.write_all(&c_cores_request(authority)).await.expect("sent");
        // frames until one is the request's: headers (1) are an answer, a reset (3) a refusal
        loop {
            let mut head = [0; 9];
            let read = stream.read_exact(&mut head);
            tokio::time::timeout(PATIENCE, read).await.expect("in time").expect("a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.expect("its payload");
            assert_ne!(head[3], 7, "{authority}: the connection is ended");
            if head[8] == 1 {
                assert_eq!(head[3], 1, "{authority}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn messages_are_as_large_as_is_set() {
    use wharf_containerd::containerd::services::namespaces::v1::namespaces_client::NamespacesClient;
    use wharf_containerd::containerd::services::namespaces::v1::{
        CreateNamespaceRequest, ListNamespacesRequest, Namespace,
    };
    let at = tempfile::tempdir().expect("folder");
    let messages = MessageLimits { receive: 2048, send: 1024 };
    let _server = start(Settings { messages, ..settings(at.path()) }).await;
    let mut client = NamespacesClient::new(connect(at.path()).await);
    let create = |name: &str, length: usize| {
        let labels = [("label".to_owned(), "x".repeat(length))].into();
        let namespace = Some(Namespace { name: name.to_owned(), labels });
        CreateNamespaceRequest { namespace }
    };
    let refused = client.create(create("large", 2048)).await.expect_err("over the limit");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
    client.create(create("small", 900)).await.expect("within both limits");
    client.list(ListNamespacesRequest::default()).await.expect("within the limit");
    client.create(create("other", 900)).await.expect("within both limits");
    let refused = client.list(ListNamespacesRequest::default()).await.expect_err("over the limit");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
}
