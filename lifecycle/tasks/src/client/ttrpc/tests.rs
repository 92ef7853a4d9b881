//! The client against a peer that the test plays byte by byte.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::timeout;
use wharf_ttrpc::{Frame, MAX_DATA, Status};

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// A client and the other end of its connection.
fn pair() -> (Arc<TtrpcClient>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    (Arc::new(TtrpcClient::over(ours, Arc::default())), theirs)
}

/// The same with a socket that takes little.
fn narrow_pair() -> (Arc<TtrpcClient>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    rustix::net::sockopt::set_socket_send_buffer_size(&ours, 8192).expect("set size");
    (Arc::new(TtrpcClient::over(ours, Arc::default())), theirs)
}

/// Waits until the connection's state is so.
async fn until(client: &TtrpcClient, is_so: impl Fn(&State) -> bool) {
    let wait = async {
        while !is_so(&client.shared.lock()) {
            tokio::task::yield_now().await;
        }
    };
    soon(wait).await;
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(LONG, work).await.expect("in time")
}

type Called = tokio::task::JoinHandle<Result<Vec<u8>, CallError>>;

fn call(client: &Arc<TtrpcClient>, payload: impl Into<Vec<u8>>) -> Called {
    let (client, payload) = (client.clone(), payload.into());
    tokio::spawn(async move { client.call("s.S", "M", "ns", payload).await })
}

async fn end(called: Called) -> Result<Vec<u8>, CallError> {
    soon(called).await.expect("no panic")
}

/// Takes requests off the wire.
struct Requests {
    socket: tokio::net::unix::OwnedReadHalf,
    decoder: Decoder,
    bytes: Vec<u8>,
}

impl Requests {
    fn of(socket: tokio::net::unix::OwnedReadHalf) -> Self {
        Requests { socket, decoder: Decoder::default(), bytes: Vec::new() }
    }

    /// `None` at the end.
    async fn next(&mut self) -> Option<(u32, Request)> {
        loop {
            let mut bytes = &self.bytes[..];
            let received = self.decoder.take(&mut bytes);
            self.bytes = bytes.to_vec();
            match received {
                Some(Received::Frame(Frame { stream, kind: Type::Request, data })) => {
                    return Some((stream, Request::decode(&data[..]).expect("a request")));
                }
                Some(other) => panic!("{other:?} is no request"),
                None => {}
            }
            self.bytes.resize(64 * 1024, 0);
            let count = soon(self.socket.read(&mut self.bytes)).await.unwrap_or(0);
            self.bytes.truncate(count);
            if count == 0 {
                return None;
            }
        }
    }
}

fn response(stream: u32, payload: impl Into<Vec<u8>>) -> Vec<u8> {
    let response = Response { status: None, payload: payload.into() };
    frame(stream, Type::Response, &response).expect("short")
}

fn oversized_header(stream: u32, length: usize) -> Vec<u8> {
    [&(length as u32).to_be_bytes()[..], &stream.to_be_bytes(), &[2, 0]].concat()
}

#[tokio::test]
async fn request_is_what_shims_expect() {
    let (client, peer) = pair();
    let called = call(&client, *b"question");
    let (reading, mut writing) = peer.into_split();
    let (stream, request) = Requests::of(reading).next().await.expect("a request");
    assert_eq!((stream, request.service.as_str(), request.method.as_str()), (1, "s.S", "M"));
    assert_eq!((request.payload.as_slice(), request.timeout_nano), (&b"question"[..], 0));
    let header = Metadata { key: "containerd-namespace-ttrpc".into(), value: "ns".into() };
    assert_eq!(request.metadata, [header]);
    writing.write_all(&response(1, *b"answer")).await.expect("write");
    assert_eq!(end(called).await, Ok(b"answer".to_vec()));
}

#[tokio::test]
async fn refusal_keeps_its_code_and_words() {
    let (client, mut peer) = pair();
    let called = call(&client, []);
    let status = Status { code: 5, message: "no such thing: not found".into(), details: Vec::new() };
    let refused = Response { status: Some(status), payload: Vec::new() };
    peer.write_all(&frame(1, Type::Response, &refused).expect("short")).await.expect("write");
    let error = CallError::Refused { kind: Kind::NotFound, message: "no such thing: not found".into() };
    assert_eq!(end(called).await, Err(error));
}

#[tokio::test]
async fn answers_split_at_every_byte_arrive() {
    let (client, peer) = pair();
    let (reading, mut writing) = peer.into_split();
    let mut requests = Requests::of(reading);
    let length = response(1, *b"an answer").len();
    for at in 0..=length {
        let called = call(&client, []);
        let (stream, _) = requests.next().await.expect("a request");
        let bytes = response(stream, *b"an answer");
        writing.write_all(&bytes[..at]).await.expect("write");
        // so that the reader gets it in two pieces, mostly
        tokio::task::yield_now().await;
        writing.write_all(&bytes[at..]).await.expect("write");
        assert_eq!(end(called).await, Ok(b"an answer".to_vec()), "split at {at}");
    }
}

#[tokio::test]
async fn frames_that_nobody_asked_for_are_passed_over() {
    let (client, mut peer) = pair();
    let called = call(&client, []);
    for bytes in [
        response(99, *b"unknown"),
        response(2, *b"even"),
        response(0, *b"zero"),
        response(u32::MAX, *b"far"),
        frame(77, Type::Other(3), &Response::default()).expect("short"),
        oversized_header(55, MAX_DATA + 1),
        vec![0; MAX_DATA + 1],
        response(1, *b"meant"),
    ] {
        soon(peer.write_all(&bytes)).await.expect("write");
    }
    assert_eq!(end(called).await, Ok(b"meant".to_vec()));
    // a second answer to what is over
    peer.write_all(&response(1, *b"again")).await.expect("write");
    let called = call(&client, []);
    peer.write_all(&response(3, *b"next")).await.expect("write");
    assert_eq!(end(called).await, Ok(b"next".to_vec()));
}

#[tokio::test]
async fn what_is_no_response_fails_its_call_alone() {
    let (client, peer) = pair();
    let calls = [call(&client, [0]), call(&client, [1]), call(&client, [2]), call(&client, [3])];
    let (reading, mut writing) = peer.into_split();
    let mut requests = Requests::of(reading);
    let mut bytes = HashMap::new();
    for _ in 0..4 {
        let (stream, request) = requests.next().await.expect("a request");
        let answer = match request.payload[0] {
            0 => frame(stream, Type::Other(3), &Response::default()).expect("short"),
            1 => [&6u32.to_be_bytes()[..], &stream.to_be_bytes(), &[2, 0], &[0xff; 6]].concat(),
            2 => [oversized_header(stream, MAX_DATA + 9), vec![1; MAX_DATA + 9]].concat(),
            _ => response(stream, *b"well"),
        };
        bytes.insert(request.payload[0], answer);
    }
    for which in 0..4 {
        soon(writing.write_all(&bytes[&which])).await.expect("write");
    }
    let [unexpected, undecodable, oversized, well] = calls;
    assert_eq!(end(unexpected).await.expect_err("no response").kind(), Kind::Internal);
    assert_eq!(end(undecodable).await.expect_err("no message").kind(), Kind::Internal);
    let error = end(oversized).await.expect_err("too long");
    assert_eq!(error.kind(), Kind::ResourceExhausted);
    assert_eq!(error.to_string(), "message length 4194313 exceed maximum message size of 4194304");
    assert_eq!(end(well).await, Ok(b"well".to_vec()));
}

#[tokio::test]
async fn request_beyond_the_bound_is_refused_and_costs_nothing() {
    let (client, peer) = pair();
    let error = end(call(&client, vec![0; MAX_DATA])).await.expect_err("too long");
    assert_eq!(error.kind(), Kind::ResourceExhausted);
    let called = call(&client, vec![0; MAX_DATA - 100]);
    let (reading, mut writing) = peer.into_split();
    let (stream, request) = Requests::of(reading).next().await.expect("a request");
    assert_eq!((stream, request.payload.len()), (1, MAX_DATA - 100));
    soon(writing.write_all(&response(1, vec![7; MAX_DATA - 100]))).await.expect("write");
    assert_eq!(end(called).await.map(|answer| answer.len()), Ok(MAX_DATA - 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_dies_ends_all_calls() {
    for reads in [true, false] {
        let gone = Arc::new(Gone::default());
        let (ours, peer) = UnixStream::pair().expect("sockets");
        let client = Arc::new(TtrpcClient::over(ours, gone.clone()));
        let calls: Vec<_> = (0..500).map(|_| call(&client, vec![1; 2000])).collect();
        let (reading, writing) = peer.into_split();
        let mut requests = Requests::of(reading);
        if reads {
            for _ in 0..250 {
                requests.next().await.expect("a request");
            }
        }
        // with requests unread in the socket, and half of one answer on its way
        drop((requests, writing));
        for called in calls {
            assert_eq!(end(called).await, Err(CallError::Closed));
        }
        soon(gone.until(|gone| gone.then_some(()))).await;
        assert_eq!(end(call(&client, [])).await, Err(CallError::Closed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_words_are_heard() {
    // an answer that was sent before the end counts, also if the client meets the end by writing
    for _ in 0..300 {
        let (client, peer) = pair();
        let called = call(&client, []);
        let (reading, mut writing) = peer.into_split();
        let mut requests = Requests::of(reading);
        requests.next().await.expect("a request");
        writing.write_all(&response(1, *b"bye")).await.expect("write");
        let late = call(&client, vec![0; 100_000]);
        drop((requests, writing));
        assert_eq!(end(called).await, Ok(b"bye".to_vec()));
        assert_eq!(end(late).await, Err(CallError::Closed));
    }
}

#[tokio::test]
async fn connection_closes_with_its_client() {
    let gone = Arc::new(Gone::default());
    let (ours, peer) = UnixStream::pair().expect("sockets");
    drop(TtrpcClient::over(ours, gone.clone()));
    soon(gone.until(|gone| gone.then_some(()))).await;
    assert!(Requests::of(peer.into_split().0).next().await.is_none());
}

#[tokio::test]
async fn call_that_is_given_up_leaves_nothing() {
    let (client, peer) = narrow_pair();
    // fills the socket, so that what comes later is queued
    let first = call(&client, vec![1; MAX_QUEUED - 20_000]);
    until(&client, |state| state.written > 0).await;
    let given_up: Vec<_> = (0..5).map(|_| call(&client, vec![2; 1000])).collect();
    until(&client, |state| state.queue.len() == 6).await;
    for called in given_up {
        called.abort();
        assert!(called.await.is_err());
    }
    until(&client, |state| state.queue.len() == 1 && state.calls.len() == 1).await;
    let (reading, mut writing) = peer.into_split();
    let mut requests = Requests::of(reading);
    let (stream, _) = requests.next().await.expect("a request");
    let last = call(&client, *b"last");
    let next = requests.next().await.expect("a request");
    assert_eq!(next.1.payload, b"last", "what was given up is not sent");
    for stream in [next.0, stream] {
        writing.write_all(&response(stream, [])).await.expect("write");
    }
    assert_eq!((end(first).await, end(last).await), (Ok(Vec::new()), Ok(Vec::new())));
    // one whose request is sent
    let sent = call(&client, []);
    let (stream, _) = requests.next().await.expect("a request");
    sent.abort();
    assert!(sent.await.is_err());
    writing.write_all(&response(stream, *b"late")).await.expect("write");
    let state = client.shared.lock();
    assert_eq!((state.calls.len(), state.queue.len(), state.queued, state.written), (0, 0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_does_not_read_makes_callers_wait_within_bounds() {
    let (client, peer) = narrow_pair();
    let mut calls: Vec<_> = (0..200).map(|_| call(&client, vec![3; 20_000])).collect();
    until(&client, |state| state.queued > MAX_QUEUED).await;
    for called in calls.split_off(150) {
        called.abort();
        let _ = called.await;
    }
    assert!(client.shared.lock().queued <= MAX_QUEUED + 21_000);
    let (reading, mut writing) = peer.into_split();
    let served = tokio::spawn(async move {
        let mut requests = Requests::of(reading);
        while let Some((stream, request)) = requests.next().await {
            let answer = response(stream, (request.payload.len() as u32).to_be_bytes());
            // none may be left when the client goes
            if writing.write_all(&answer).await.is_err() {
                return;
            }
        }
    });
    for called in calls {
        assert_eq!(end(called).await, Ok(20_000u32.to_be_bytes().to_vec()));
    }
    drop(client);
    soon(served).await.expect("served");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_calls_each_get_their_own_answer() {
    let (client, peer) = pair();
    let (reading, mut writing) = peer.into_split();
    let served = tokio::spawn(async move {
        let mut requests = Requests::of(reading);
        let mut kept = Vec::new();
        let mut last = 0;
        while let Some((stream, request)) = requests.next().await {
            assert!(stream % 2 == 1 && stream > last, "{stream} after {last}");
            last = stream;
            kept.push((stream, request.payload));
            // in batches, the last first
            if kept.len() == 50 {
                for (stream, payload) in kept.drain(..).rev() {
                    writing.write_all(&response(stream, payload)).await.expect("write");
                }
            }
        }
    });
    let calls: Vec<_> =
        (0..5000u32).map(|n| (n, call(&client, n.to_be_bytes().repeat(n as usize % 97)))).collect();
    for (n, called) in calls {
        assert_eq!(end(called).await, Ok(n.to_be_bytes().repeat(n as usize % 97)));
    }
    {
        let state = client.shared.lock();
        assert!(state.calls.is_empty() && state.calls.capacity() <= 64, "{}", state.calls.capacity());
    }
    drop(client);
    soon(served).await.expect("served");
}

#[tokio::test]
async fn streams_that_run_out_end_the_connection() {
    let (client, mut peer) = pair();
    client.shared.lock().stream = u32::MAX - 2;
    let called = call(&client, []);
    peer.write_all(&response(u32::MAX - 2, *b"last")).await.expect("write");
    assert_eq!(end(called).await, Ok(b"last".to_vec()));
    assert_eq!(end(call(&client, [])).await, Err(CallError::Closed));
    soon(client.shared.gone.until(|gone| gone.then_some(()))).await;
}

#[tokio::test]
async fn server_of_others_is_understood() {
    use async_trait::async_trait;
    use ttrpc::asynchronous::{MethodHandler, Server, Service, TtrpcContext};

    struct Echo;
    #[async_trait]
    impl MethodHandler for Echo {
        async fn handler(
            &self,
            _: TtrpcContext,
            request: ttrpc::proto::Request,
        ) -> ttrpc::Result<ttrpc::proto::Response> {
            let mut response = ttrpc::proto::Response::new();
            response.payload = request.payload;
            Ok(response)
        }
    }
    let at = tempfile::tempdir().expect("folder");
    let path = at.path().join("s");
    let echo: Box<dyn MethodHandler + Send + Sync> = Box::new(Echo);
    let service = Service { methods: HashMap::from([("M".to_owned(), echo)]), streams: HashMap::new() };
    let mut server = Server::new()
        .bind(&format!("unix://{}", path.display()))
        .expect("bind")
        .register_service(HashMap::from([("s.S".to_owned(), service)]));
    server.start().await.expect("start");
    let stream = UnixStream::connect(&path).await.expect("connect");
    let client = Arc::new(TtrpcClient::over(stream, Arc::default()));
    let calls: Vec<_> = (0..100u8).map(|n| (n, call(&client, vec![n; 1000]))).collect();
    for (n, called) in calls {
        assert_eq!(end(called).await, Ok(vec![n; 1000]));
    }
    let unknown = soon(client.call("s.S", "Other", "ns", Vec::new())).await;
    assert!(matches!(unknown, Err(CallError::Refused { .. })), "{unknown:?}");
}

/// What a peer does with the calls that it has.
#[derive(Debug, Clone)]
enum Act {
    Answer(usize),
    Garbage(Vec<u8>),
    Stray(u32, u8),
    Die,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => any::<usize>().prop_map(Act::Answer),
        1 => proptest::collection::vec(any::<u8>(), 0..30).prop_map(Act::Garbage),
        2 => (any::<u32>(), any::<u8>()).prop_map(|(stream, kind)| Act::Stray(stream, kind)),
        1 => Just(Act::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a peer does, every call ends, and with the right answer if the peer gave one before any garbage.
    #[test]
    fn every_call_ends(
        sizes in proptest::collection::vec(0usize..9000, 1..20),
        acts in proptest::collection::vec(act(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let (client, peer) = pair();
            let (reading, mut writing) = peer.into_split();
            let calls: Vec<_> = sizes.iter().map(|size| call(&client, vec![5; *size])).collect();
            let mut requests = Requests::of(reading);
            let mut open = Vec::new();
            for _ in &calls {
                let (stream, request) = requests.next().await.expect("a request");
                open.push((stream, request.payload.len()));
            }
            let mut answered = vec![false; calls.len()];
            let mut sane = true;
            for act in acts {
                let bytes = match act {
                    Act::Answer(which) if !open.is_empty() => {
                        let (stream, size) = open.remove(which % open.len());
                        answered[(stream as usize - 1) / 2] = sane;
                        response(stream, vec![6; size])
                    }
                    Act::Answer(_) => continue,
                    Act::Garbage(bytes) => {
                        sane &= bytes.is_empty();
                        bytes
                    }
                    // streams of ours are small
                    Act::Stray(stream, kind) => {
                        frame(stream | 1 << 20, Type::Other(kind), &Response::default()).expect("short")
                    }
                    Act::Die => break,
                };
                if soon(writing.write_all(&bytes)).await.is_err() {
                    break;
                }
            }
            drop((requests, writing));
            for ((called, size), answered) in calls.into_iter().zip(sizes).zip(answered) {
                let ended = end(called).await;
                if answered {
                    assert_eq!(ended, Ok(vec![6; size]));
                }
            }
        });
    }
}

#[tokio::test]
async fn listener_that_never_accepts_holds_nobody_but_callers() {
    let at = tempfile::tempdir().expect("folder");
    let listener = UnixListener::bind(at.path().join("s")).expect("bind");
    let stream = UnixStream::connect(at.path().join("s")).await.expect("connect");
    let client = Arc::new(TtrpcClient::over(stream, Arc::default()));
    let called = call(&client, *b"hello");
    let (peer, _) = listener.accept().await.expect("accept");
    let (reading, mut writing) = peer.into_split();
    let (stream, request) = Requests::of(reading).next().await.expect("a request");
    assert_eq!(request.payload, b"hello");
    writing.write_all(&response(stream, *b"at last")).await.expect("write");
    assert_eq!(end(called).await, Ok(b"at last".to_vec()));
}
