use super::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;
use wire::{Kind, Message};

/// Answers of a bus that is none: each call is shown to `answer`, whose messages are sent back.
fn serve(
    mut stream: UnixStream,
    mut answer: impl FnMut(&Message) -> Vec<Message> + Send + 'static,
) -> JoinHandle<Vec<Message>> {
    std::thread::spawn(move || {
        let mut line = |want: &str| {
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                got.push(byte[0]);
            }
            let got = String::from_utf8(got).unwrap();
            assert!(got.starts_with(want), "{got:?}");
        };
        // answered when both are there: a client that waits in between loses its first call to systemd's buffer
        line("\0AUTH EXTERNAL 3");
        line("BEGIN");
        stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
        let mut seen = Vec::new();
        let mut head = [0u8; 16];
        while stream.read_exact(&mut head).is_ok() {
            let mut bytes = head.to_vec();
            bytes.resize(Message::length(&head).unwrap(), 0);
            stream.read_exact(&mut bytes[16..]).unwrap();
            let call = Message::decode(&bytes).unwrap();
            for reply in answer(&call) {
                stream.write_all(&reply.encode()).unwrap();
            }
            seen.push(call);
        }
        seen
    })
}

fn reply(call: &Message, body: Vec<Value>) -> Message {
    Message { reply_to: call.serial, body, ..Message::new(Kind::Return, 1) }
}

fn refusal(call: &Message, name: &str) -> Message {
    let body = vec![Value::Str("the text".into())];
    Message { reply_to: call.serial, error: name.into(), body, ..Message::new(Kind::Error, 1) }
}

fn removed(job: u32, result: &str) -> Message {
    Message {
        path: "/org/freedesktop/systemd1".into(),
        interface: "org.freedesktop.systemd1.Manager".into(),
        member: "JobRemoved".into(),
        body: vec![
            Value::U32(job),
            Value::Path(format!("/org/freedesktop/systemd1/job/{job}")),
            Value::Str("a.scope".into()),
            Value::Str(result.into()),
        ],
        ..Message::new(Kind::Signal, 7)
    }
}

fn job(call: &Message, n: u32) -> Message {
    reply(call, vec![Value::Path(format!("/org/freedesktop/systemd1/job/{n}"))])
}

fn unit() -> Unit {
    Unit { name: "a.scope".into(), slice: "system.slice".into(), manager: Whose::System }
}

fn connect(answer: impl FnMut(&Message) -> Vec<Message> + Send + 'static) -> (Bus, JoinHandle<Vec<Message>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = serve(theirs, answer);
    (Bus::on(ours, Path::new("/fake"), false).unwrap(), server)
}

#[test]
fn a_scope_is_asked_for_and_its_job_awaited() {
    // the job of another is done first, and this one before its call is answered
    let (mut bus, server) = connect(|call| vec![removed(1, "failed"), removed(2, "done"), job(call, 2)]);
    let limits = vec![property("MemoryMax", Value::U64(4096)), property("TasksMax", Value::U64(1))];
    unit()
        .start_on(&mut bus, "c1", 42, limits, vec![property("CollectMode", Value::Str("inactive".into()))])
        .unwrap();
    drop(bus);
    let calls = server.join().unwrap();
    assert_eq!(calls.len(), 1);
    let (call, body) = (&calls[0], &calls[0].body);
    assert_eq!((call.member.as_str(), call.destination.as_str()), ("StartTransientUnit", ""));
    let signature: String = body.iter().map(Value::signature).collect();
    assert_eq!(signature, "ssa(sv)a(sa(sv))");
    assert_eq!(body[0].text(), Some("a.scope"));
    let Value::Array(_, properties) = &body[2] else { panic!("{body:?}") };
    let get = |wanted: &str| {
        properties.iter().find_map(|p| match p {
            Value::Struct(pair) if pair[0].text() == Some(wanted) => Some(pair[1].clone()),
            _ => None,
        })
    };
    let variant = |v: Value| Some(Value::Variant(Box::new(v)));
    assert_eq!(get("PIDs"), variant(Value::Array("u".into(), vec![Value::U32(42)])));
    assert_eq!(get("Slice"), variant(Value::Str("system.slice".into())));
    assert_eq!(get("Delegate"), variant(Value::Bool(true)));
    assert_eq!(get("DefaultDependencies"), variant(Value::Bool(false)));
    assert_eq!(get("MemoryMax"), variant(Value::U64(4096)));
    assert_eq!(get("CollectMode"), variant(Value::Str("inactive".into())));
    assert_eq!(get("TasksMax"), None, "the holder would count");
}

#[test]
fn a_failed_job_and_a_refused_call_are_errors_in_words() {
    let (mut bus, _server) = connect(|call| vec![job(call, 3), removed(3, "timeout")]);
    let error = unit().start_on(&mut bus, "c1", 1, vec![], vec![]).unwrap_err();
    assert_eq!(error.to_string(), "systemd did not do StartTransientUnit of a.scope: timeout");
    let (mut bus, _server) = connect(|call| vec![refusal(call, "org.freedesktop.DBus.Error.AccessDenied")]);
    let error = unit().set_on(&mut bus, &[]).unwrap_err();
    assert_eq!(error.kind(), wharf_kinds::Kind::PermissionDenied);
    assert!(
        error.to_string().contains("SetUnitProperties") && error.to_string().contains("the text"),
        "{error}"
    );
}

#[test]
fn a_refusal_names_the_properties_of_the_annotations() {
    let name = "System.Error.ENXIO";
    let (mut bus, _server) = connect(move |call| vec![refusal(call, name)]);
    let asked = vec![property("TimeoutStopUSec", Value::Str("x".into()))];
    let error = unit().start_on(&mut bus, "c1", 1, vec![], asked).unwrap_err();
    assert!(error.to_string().contains("the text; annotations ask for TimeoutStopUSec ("), "{error}");
    assert_eq!(error.kind(), wharf_kinds::Kind::InvalidArgument);
    let error = unit().start_on(&mut bus, "c1", 1, vec![], vec![]).unwrap_err();
    assert!(error.to_string().contains("the text (System."), "{error}");
}

#[test]
fn a_failed_unit_of_that_name_is_forgotten_and_the_start_tried_once_more() {
    let mut tries = 0;
    let (mut bus, server) = connect(move |call| match call.member.as_str() {
        "StartTransientUnit" => {
            tries += 1;
            match tries {
                1 => vec![refusal(call, "org.freedesktop.systemd1.UnitExists")],
                _ => vec![job(call, 4), removed(4, "done")],
            }
        }
        _ => vec![reply(call, vec![])],
    });
    unit().start_on(&mut bus, "c1", 1, vec![], vec![]).unwrap();
    drop(bus);
    let members: Vec<String> = server.join().unwrap().into_iter().map(|m| m.member).collect();
    assert_eq!(members, ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
}

#[test]
fn stopping_a_unit_that_is_gone_is_fine() {
    let (mut bus, server) = connect(|call| vec![refusal(call, NO_SUCH_UNIT)]);
    unit().stop_on(&mut bus).unwrap();
    drop(bus);
    assert_eq!(server.join().unwrap().len(), 1);
    let (mut bus, server) = connect(|call| match call.member.as_str() {
        "StopUnit" => vec![job(call, 5), removed(5, "done")],
        _ => vec![refusal(call, NO_SUCH_UNIT)],
    });
    unit().stop_on(&mut bus).unwrap();
    drop(bus);
    assert_eq!(server.join().unwrap()[1].member, "ResetFailedUnit");
}

#[test]
fn a_bus_is_greeted_and_messages_are_addressed() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = serve(theirs, |call| vec![reply(call, vec![Value::Str(":1.5".into())])]);
    let mut bus = Bus::on(ours, Path::new("/fake"), true).unwrap();
    bus.call("Reload", vec![]).unwrap();
    drop(bus);
    let calls = server.join().unwrap();
    let members: Vec<&str> = calls.iter().map(|m| m.member.as_str()).collect();
    assert_eq!(members, ["Hello", "AddMatch", "Subscribe", "Reload"]);
    assert_eq!(calls[0].destination, "org.freedesktop.DBus");
    assert_eq!(calls[3].destination, "org.freedesktop.systemd1");
}

#[test]
fn a_connection_that_breaks_or_talks_nonsense_is_an_error() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
    let error = Bus::on(ours, Path::new("/fake"), false).unwrap_err();
    assert_eq!(error.kind(), wharf_kinds::Kind::PermissionDenied);

    for nonsense in
        [&b"l\x02\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00"[..], b"GET / HTTP/1.1\r\n", b"l"]
    {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"OK x\r\n").unwrap();
        theirs.write_all(nonsense).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let mut bus = Bus::on(ours, Path::new("/fake"), false).unwrap();
        assert!(matches!(bus.call("Reload", vec![]), Err(SystemdError::Malformed { .. })), "{nonsense:?}");
    }
}

#[test]
fn messages_have_the_bytes_of_the_specification() {
    let mut call = Message::new(Kind::Call, 1);
    call.path = "/a".into();
    call.member = "M".into();
    call.body = vec![Value::Byte(1), Value::Array("t".into(), vec![Value::U64(2)])];
    let mut want = b"l\x01\x00\x01".to_vec();
    want.extend_from_slice(&[16, 0, 0, 0, 1, 0, 0, 0, 41, 0, 0, 0]);
    want.extend_from_slice(b"\x01\x01o\x00\x02\x00\x00\x00/a\x00\x00\x00\x00\x00\x00");
    want.extend_from_slice(b"\x03\x01s\x00\x01\x00\x00\x00M\x00\x00\x00\x00\x00\x00\x00");
    want.extend_from_slice(b"\x08\x01g\x00\x03yat\x00\x00\x00\x00\x00\x00\x00\x00");
    want.extend_from_slice(&[1, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let bytes = call.encode();
    assert_eq!(bytes, want);
    assert_eq!(Message::decode(&bytes).unwrap(), call);
}

#[test]
fn slices_are_paths() {
    assert_eq!(expand_slice("a-b-c.slice").unwrap(), ["a.slice", "a-b.slice", "a-b-c.slice"]);
    assert_eq!(expand_slice("-.slice").unwrap(), Vec::<String>::new());
    for bad in ["", ".slice", "a", "a--b.slice", "-a.slice", "a-.slice", "a/b.slice"] {
        assert_eq!(expand_slice(bad), None, "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(mut bytes: Vec<u8>, valid: bool) {
        if valid && bytes.len() >= 16 {
            bytes[0] = b'l';
            bytes[3] = 1;
        }
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn changed_messages_do_not_make_the_reader_panic(at in 0usize..200, to: u8) {
        let mut bytes = removed(9, "done").encode();
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = Message::decode(&bytes);
    }
}

#[test]
fn a_header_field_of_another_type_makes_no_message() {
    use super::wire::{Kind, Message};
    // a field of the header as it is on the wire: its code, the signature of its value, the value
    let message = |field: &[u8]| {
        let mut bytes = vec![b'l', 2, 0, 1, 0, 0, 0, 0, 7, 0, 0, 0];
        bytes.extend((field.len() as u32).to_le_bytes());
        bytes.extend(field);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        Message::decode(&bytes)
    };
    let empty = message(b"\x08\x01g\0\0\0").expect("a signature of type g");
    assert_eq!((empty.kind, empty.serial), (Kind::Return, 7));
    // the same as a string, an interface as a path, a path as a string, a serial that is no number
    assert_eq!(message(b"\x08\x01s\0\0\0\0\0\0"), None);
    assert_eq!(message(b"\x02\x01o\0\x01\0\0\0/\0"), None);
    assert_eq!(message(b"\x01\x01s\0\x01\0\0\0/\0"), None);
    assert_eq!(message(b"\x05\x01s\0\x01\0\0\0/\0"), None);
    assert_eq!(message(b"\x02\x01s\0\x01\0\0\0/\0").expect("an interface").interface, "/");
    // what nobody knows is passed over
    assert!(message(b"\x63\x01s\0\x01\0\0\0/\0").is_some());
}
