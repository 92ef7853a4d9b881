//! The socket for shims' events, byte by byte.

mod served;

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use prost::Message;
use prost_types::Timestamp;
use served::{connect, settings, start};
use tokio::task::spawn_blocking;
use wharf_containerd::containerd::events::TaskOom;
use wharf_containerd::containerd::services::events::ttrpc::v1::ForwardRequest;
use wharf_containerd::containerd::services::events::v1::SubscribeRequest;
use wharf_containerd::containerd::services::events::v1::events_client::EventsClient;
use wharf_containerd::containerd::types::Envelope;
use wharf_containerd::to_any;
use wharf_ttrpc::{MAX_DATA, Request, Response, Type, frame, read, write};

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
const LONG: Duration = Duration::from_secs(60);

fn shim(at: &Path) -> UnixStream {
    let shim = UnixStream::connect(at.join("d.sock.ttrpc")).expect("connect");
    shim.set_read_timeout(Some(LONG)).expect("set timeout");
    shim.set_write_timeout(Some(LONG)).expect("set timeout");
    shim
}

fn forward(id: &str) -> Request {
    let event = Some(to_any("containerd.events.TaskOOM", &TaskOom { container_id: id.into() }));
    let envelope = Envelope {
        timestamp: Some(Timestamp { seconds: 5, nanos: 0 }),
        namespace: "ns".into(),
        topic: "/tasks/oom".into(),
        event,
    };
    let payload = ForwardRequest { envelope: Some(envelope) }.encode_to_vec();
    Request { service: SERVICE.into(), method: "Forward".into(), payload, ..Request::default() }
}

/// The next answer: its stream, and the code and text of its status.
fn answer(shim: &mut UnixStream) -> (u32, i32, String) {
    let frame = read(shim).expect("an answer").expect("an open connection");
    assert_eq!(frame.kind, Type::Response);
    let status = Response::decode(&frame.data[..]).expect("a response").status.unwrap_or_default();
    (frame.stream, status.code, status.message)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_split_at_every_byte_are_answered_in_order() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let mut events = EventsClient::new(connect(at.path()).await);
    let filters = vec!["namespace==ns".to_owned()];
    let mut heard = events.subscribe(SubscribeRequest { filters }).await.expect("subscribe").into_inner();
    let mut shim = shim(at.path());
    let sent = spawn_blocking(move || {
        let mut streams = (1..).step_by(2);
        let length = frame(1, Type::Request, &forward("c")).expect("short").len();
        for at in 0..=length {
            let (first, second) = (streams.next().expect("endless"), streams.next().expect("endless"));
            let first_frame = frame(first, Type::Request, &forward("c")).expect("short");
            let second_frame = frame(second, Type::Request, &forward("d")).expect("short");
            shim.write_all(&first_frame[..at]).expect("write");
            shim.write_all(&[&first_frame[at..], &second_frame].concat()).expect("write");
            assert_eq!(answer(&mut shim), (first, 0, String::new()), "split at {at}");
            assert_eq!(answer(&mut shim), (second, 0, String::new()), "split at {at}");
        }
        length + 1
    });
    let rounds = sent.await.expect("sent");
    for _ in 0..rounds {
        for id in ["c", "d"] {
            let event = tokio::time::timeout(LONG, heard.message()).await.expect("in time");
            let event = event.expect("stream").expect("event").event.expect("a body");
            assert_eq!(TaskOom::decode(&event.value[..]).expect("event").container_id, id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shim_that_hears_no_answers_is_heard_to_its_end() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let mut events = EventsClient::new(connect(at.path()).await);
    let filters = vec!["namespace==ns".to_owned()];
    let mut heard = events.subscribe(SubscribeRequest { filters }).await.expect("subscribe").into_inner();
    let mut shim = shim(at.path());
    shim.shutdown(std::net::Shutdown::Read).expect("shut down");
    let ids: Vec<_> = (0..100).map(|n| format!("c{n}")).collect();
    for (n, id) in (0..).zip(&ids) {
        // by the second, the daemon knows that the first was not answered
        write(&mut shim, 2 * n + 1, Type::Request, &forward(id)).expect("still taken");
        let event = tokio::time::timeout(LONG, heard.message()).await.expect("in time");
        let event = event.expect("stream").expect("event").event.expect("a body");
        assert_eq!(&TaskOom::decode(&event.value[..]).expect("event").container_id, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_is_refused_and_the_connection_goes_on() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let mut shim = shim(at.path());
    let asked = spawn_blocking(move || {
        let mut refused = |stream: u32, kind: Type, request: Request, code: i32, text: &str| {
            write(&mut shim, stream, kind, &request).expect("write");
            assert_eq!(answer(&mut shim), (stream, code, text.to_owned()));
        };
        let base = forward("c");
        refused(1, Type::Request, Request { service: "s.S".into(), ..base.clone() }, 12, "service s.S");
        refused(3, Type::Request, Request { method: "Other".into(), ..base.clone() }, 12, "method Other");
        refused(4, Type::Request, base.clone(), 3, "only unary requests are served");
        refused(5, Type::Other(3), base.clone(), 3, "only unary requests are served");
        shim.write_all(b"\x00\x00\x00\x02\x00\x00\x00\x07\x01\x00\xff\xff").expect("write");
        let (stream, code, _) = answer(&mut shim);
        assert_eq!((stream, code), (7, 3), "no request");
        let undecodable = Request { payload: vec![0xff; 3], ..base.clone() };
        write(&mut shim, 9, Type::Request, &undecodable).expect("write");
        let (stream, code, _) = answer(&mut shim);
        assert_eq!((stream, code), (9, 3), "no event");
        let length = MAX_DATA as u32 + 1;
        let header = [&length.to_be_bytes()[..], &11u32.to_be_bytes(), &[1, 0]].concat();
        shim.write_all(&header).expect("write");
        let text = "message length 4194305 exceed maximum message size of 4194304".to_owned();
        assert_eq!(answer(&mut shim), (11, 8, text));
        shim.write_all(&vec![1; length as usize]).expect("write");
        write(&mut shim, 13, Type::Request, &base).expect("write");
        assert_eq!(answer(&mut shim), (13, 0, String::new()));
    });
    asked.await.expect("answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn shim_that_does_not_read_holds_up_no_other() {
    let at = tempfile::tempdir().expect("folder");
    let _stop = start(settings(at.path())).await;
    let folder = at.path().to_owned();
    let tried = spawn_blocking(move || {
        let idle: Vec<_> = (0..50).map(|_| shim(&folder)).collect();
        let mut deaf = shim(&folder);
        deaf.set_nonblocking(true).expect("set nonblocking");
        let call = frame(1, Type::Request, &Request { service: "x".repeat(500), ..Request::default() });
        let call = call.expect("short");
        let deadline = std::time::Instant::now() + LONG;
        // until the daemon no longer takes what it cannot answer
        let (mut full, mut rest) = (0, &call[..]);
        while full < 100 {
            match deaf.write(rest) {
                Ok(count) => {
                    full = 0;
                    rest = if count == rest.len() { &call } else { &rest[count..] };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    full += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                // it has given up already
                Err(_) => break,
            }
            assert!(std::time::Instant::now() < deadline, "never full");
        }
        for mut shim in idle {
            write(&mut shim, 1, Type::Request, &forward("c")).expect("write");
            assert_eq!(answer(&mut shim), (1, 0, String::new()));
        }
    });
    tried.await.expect("answered");
}
