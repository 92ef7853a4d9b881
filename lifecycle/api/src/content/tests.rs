//! The content service as a client sees it, over a connection.

use api::content_client::ContentClient;
use lifecycle_events::Exchange;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::Channel;

use super::*;

struct Server {
    _dir: tempfile::TempDir,
    client: ContentClient<Channel>,
}

async fn serve() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let storage =
        Storage::open(dir.path(), &dir.path().join("t"), Default::default(), Exchange::new()).unwrap();
    let mut routes = tonic::service::RoutesBuilder::default();
    storage.add_to(&mut routes, None, crate::request::MessageLimits::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_routes(routes.routes());
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    Server { _dir: dir, client: ContentClient::new(channel) }
}

fn scoped<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", "default".parse().unwrap());
    request
}

/// Sends requests one after the other and collects the answers, until the stream ends.
async fn converse(
    server: &Server,
    requests: Vec<api::WriteContentRequest>,
) -> (Vec<api::WriteContentResponse>, Option<Status>) {
    let mut answers = Vec::new();
    let sent = server.client.clone().write(scoped(tokio_stream::iter(requests))).await;
    let mut stream = match sent {
        Ok(stream) => stream.into_inner(),
        Err(status) => return (answers, Some(status)),
    };
    while let Some(answer) = stream.next().await {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(status) => return (answers, Some(status)),
        }
    }
    (answers, None)
}

fn write(action: api::WriteAction, offset: i64, data: &[u8]) -> api::WriteContentRequest {
    let (action, r#ref) = (action.into(), "r".to_owned());
    api::WriteContentRequest { action, r#ref, offset, data: data.to_vec(), ..Default::default() }
}

use api::WriteAction::{Commit, Stat, Write};

#[tokio::test]
async fn a_stream_of_stat_write_and_commit_makes_a_blob() {
    let server = serve().await;
    let last = api::WriteContentRequest {
        total: 10,
        expected: Digest::sha256(b"helloworld").to_string(),
        labels: [("k".to_owned(), "v".to_owned())].into(),
        ..write(Commit, 10, b"")
    };
    let requests = vec![write(Stat, 0, b""), write(Write, 0, b"hello"), write(Write, 5, b"world"), last];
    let (answers, error) = converse(&server, requests).await;
    assert!(error.is_none(), "{error:?}");
    let offsets: Vec<_> = answers.iter().map(|a| a.offset).collect();
    assert_eq!(offsets, [0, 5, 10, 10]);
    assert_eq!(answers[1].digest, Digest::sha256(b"hello").to_string());
    assert_eq!(answers[3].digest, Digest::sha256(b"helloworld").to_string());
    let mut client = server.client.clone();
    let digest = answers[3].digest.clone();
    let info = client.info(scoped(api::InfoRequest { digest: digest.clone() })).await.unwrap().into_inner();
    assert_eq!(info.info.unwrap().labels["k"], "v");
    for (offset, size, want) in
        [(0, 0, "helloworld"), (5, 0, "world"), (2, 3, "llo"), (8, 100, "ld"), (10, 0, "")]
    {
        let request = api::ReadContentRequest { digest: digest.clone(), offset, size };
        let mut stream = client.read(scoped(request)).await.unwrap().into_inner();
        let mut data = Vec::new();
        while let Some(part) = stream.next().await {
            let part = part.unwrap();
            assert_eq!(part.offset as usize, data.len());
            data.extend(part.data);
        }
        assert_eq!(data, want.as_bytes());
    }
    let beyond = client.read(scoped(api::ReadContentRequest { digest, offset: 11, size: 0 })).await;
    assert_eq!(beyond.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_write_elsewhere_than_at_the_end_is_out_of_range() {
    let server = serve().await;
    let (_, error) = converse(&server, vec![write(Write, 0, b"hello"), write(Write, 3, b"x")]).await;
    let error = error.unwrap();
    assert_eq!(error.code(), Code::OutOfRange);
    assert!(error.message().contains("write @3 must occur at current offset 5"), "{}", error.message());
    // the ingest is taken up, and a write at 0 begins again
    let (answers, error) = converse(&server, vec![write(Stat, 0, b""), write(Write, 0, b"again")]).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!((answers[0].offset, answers[1].offset), (5, 5));
    assert_eq!(answers[1].digest, Digest::sha256(b"again").to_string());
}

#[tokio::test]
async fn wrong_digests_and_sizes_fail_the_commit() {
    let server = serve().await;
    let wrong = |total, expected: &str| api::WriteContentRequest {
        total,
        expected: expected.to_owned(),
        ..write(Commit, 0, b"data")
    };
    for (request, code) in [
        (wrong(5, ""), Code::FailedPrecondition),
        (wrong(0, Digest::sha256(b"other").as_str()), Code::FailedPrecondition),
        (wrong(0, "sha256:nonsense"), Code::InvalidArgument),
        (wrong(-1, ""), Code::InvalidArgument),
        (wrong(3, ""), Code::FailedPrecondition),
    ] {
        let (_, error) = converse(&server, vec![request]).await;
        assert_eq!(error.unwrap().code(), code);
        let abort = server.client.clone().abort(scoped(api::AbortRequest { r#ref: "r".into() })).await;
        assert!(abort.is_ok() || code == Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_refused_request_leaves_the_ingest_as_it_is() {
    let server = serve().await;
    let (_, error) = converse(&server, vec![write(Write, 0, b"hello")]).await;
    assert!(error.is_none(), "{error:?}");
    let request = |action: i32, offset, total, expected: &str| api::WriteContentRequest {
        action,
        total,
        expected: expected.to_owned(),
        ..write(Stat, offset, b"other bytes")
    };
    let (write_, commit) = (i32::from(Write), i32::from(Commit));
    for (refused, code) in [
        (request(write_, 3, 0, ""), Code::OutOfRange),
        (request(commit, 3, 0, ""), Code::OutOfRange),
        (request(write_, 0, -1, ""), Code::InvalidArgument),
        (request(write_, -1, 0, ""), Code::InvalidArgument),
        (request(write_, 0, 0, "sha256:nonsense"), Code::InvalidArgument),
        (request(7, 0, 0, ""), Code::InvalidArgument),
    ] {
        for with in [vec![refused.clone()], vec![write(Stat, 0, b""), refused.clone()]] {
            let (_, error) = converse(&server, with).await;
            assert_eq!(error.unwrap().code(), code, "{refused:?}");
        }
        let last = api::StatusRequest { r#ref: "r".into() };
        let status = server.client.clone().status(scoped(last)).await.unwrap().into_inner().status.unwrap();
        assert_eq!(status.offset, 5, "{refused:?}");
    }
    // more than was announced is taken, as containerd takes it: the size counts at the commit, which leaves the bytes
    let (answers, error) = converse(&server, vec![request(write_, 5, 6, "")]).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(
        (answers[0].offset, &*answers[0].digest),
        (16, &*Digest::sha256(b"helloother bytes").to_string())
    );
    let commit = api::WriteContentRequest { total: 6, ..write(Commit, 16, b"") };
    assert_eq!(converse(&server, vec![commit]).await.1.unwrap().code(), Code::FailedPrecondition);
    let (answers, error) = converse(&server, vec![write(Stat, 0, b""), write(Commit, 16, b"")]).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(answers[1].digest, Digest::sha256(b"helloother bytes").to_string());
}

#[tokio::test]
async fn a_blob_that_is_here_ends_the_stream_with_already_exists() {
    let server = serve().await;
    let (_, error) = converse(&server, vec![write(Commit, 0, b"data")]).await;
    assert!(error.is_none());
    let expected = Digest::sha256(b"data").to_string();
    let early = api::WriteContentRequest { expected: expected.clone(), ..write(Stat, 0, b"") };
    assert_eq!(converse(&server, vec![early]).await.1.unwrap().code(), Code::AlreadyExists);
    let late = api::WriteContentRequest { expected, ..write(Commit, 4, b"") };
    let (_, error) = converse(&server, vec![write(Write, 0, b"data"), late]).await;
    assert_eq!(error.unwrap().code(), Code::AlreadyExists);
    let left =
        server.client.clone().list_statuses(scoped(api::ListStatusesRequest::default())).await.unwrap();
    assert!(left.into_inner().statuses.is_empty(), "the ingest is over");
}

#[tokio::test]
async fn requests_without_namespace_reference_or_digest_are_refused() {
    let server = serve().await;
    let mut client = server.client.clone();
    let missing =
        client.info(api::InfoRequest { digest: Digest::sha256(b"").to_string() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::FailedPrecondition);
    assert!(missing.message().contains("namespace is required"));
    let malformed = client.info(scoped(api::InfoRequest { digest: "x".into() })).await.unwrap_err();
    assert_eq!(malformed.code(), Code::InvalidArgument);
    let absent =
        client.info(scoped(api::InfoRequest { digest: Digest::sha256(b"").to_string() })).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    let nameless = api::WriteContentRequest { r#ref: String::new(), ..write(Stat, 0, b"") };
    let (_, error) = converse(&server, vec![nameless]).await;
    assert_eq!(error.unwrap().message(), "first message must have a reference");
}
