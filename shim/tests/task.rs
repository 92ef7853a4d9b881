//! The shim as a daemon sees it: bootstrap, ttrpc, the Wharf stdio address, `delete`.

#[allow(dead_code)] // each test uses some of it
mod stack;

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use stack::{Bundle, TIMEOUT};
use wharf_containerd::containerd::task::v3::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, ExecProcessRequest, KillRequest,
    ResizePtyRequest, ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, WaitRequest,
    WaitResponse,
};
use wharf_containerd::containerd::v1::types::Status;
use wharf_logs::{Format, Reader, Start, Stream};
use wharf_shim::ttrpc::CallError;
use wharf_stdio::{
    ATTACH_VERSION, AttachEvent, AttachRequest, ClosedBy, Framing, LogFormat, StdinMode, StdioAddress,
    hand_over, receive_event,
};

fn attach(framing: Framing, keys: &[u8]) -> AttachRequest {
    AttachRequest {
        version: ATTACH_VERSION,
        stdin: true,
        stdout: true,
        stderr: true,
        framing,
        detach_keys: keys.to_vec(),
        buffered: Vec::new(),
    }
}

fn address(bundle: &Bundle, name: &str) -> StdioAddress {
    let mut address = StdioAddress::new(bundle.dir().join(format!("{name}.log")));
    address.attach = Some(bundle.dir().join(format!("{name}.sock")));
    address.stdin = StdinMode::Once;
    address
}

fn create(bundle: &Bundle, address: &StdioAddress, terminal: bool) -> CreateTaskRequest {
    let text = address.to_string();
    CreateTaskRequest {
        id: bundle.id.clone(),
        bundle: bundle.path().to_str().unwrap().to_owned(),
        terminal,
        stdin: text.clone(),
        stdout: text.clone(),
        stderr: if terminal { String::new() } else { text },
        options: Some(bundle.options()),
        ..CreateTaskRequest::default()
    }
}

fn connect(path: &Path) -> UnixStream {
    let socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

fn log_lines(path: &Path) -> Vec<(Stream, String)> {
    let mut reader = Reader::open(path, Format::JsonFile, Start::Oldest).unwrap();
    let records = std::iter::from_fn(|| reader.next().unwrap());
    records.map(|r| (r.stream, String::from_utf8(r.line).unwrap())).collect()
}

/// Reads until what came ends with `end`.
fn read_until(socket: &mut UnixStream, end: &str) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 65536]);
    while !text.ends_with(end.as_bytes()) {
        let n = socket
            .read(&mut buffer)
            .unwrap_or_else(|e| panic!("{e} after {:?}", String::from_utf8_lossy(&text)));
        assert!(n > 0, "it ended after {:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8(text).unwrap()
}

const COUNT: u32 = 100_000;

#[test]
fn root_numbered_lines_reach_the_rotated_log_and_the_client_once_and_in_order() {
    let script = format!(
        "i=1; while [ $i -le {COUNT} ]; do echo $i; i=$((i+1)); done; read line; echo \"got $line\" >&2; cat; exit 7"
    );
    let bundle = Bundle::new("lines", &["sh", "-c", &script]);
    let mut shim = bundle.start();
    let mut address = address(&bundle, "init");
    (address.max_size, address.max_file) = (300_000, 1000);
    let created: CreateTaskResponse = shim.call("Create", &create(&bundle, &address, false)).unwrap();

    // attached before the start: the control socket becomes the data socket
    let mut client = connect(address.attach.as_ref().unwrap());
    hand_over(&client, &attach(Framing::Raw, b""), None).unwrap();
    assert_eq!(receive_event(&client).unwrap(), AttachEvent::Attached);
    let started: StartResponse =
        shim.call("Start", &StartRequest { id: bundle.id.clone(), ..Default::default() }).unwrap();
    assert_eq!(started.pid, created.pid);

    let numbers: String = (1..=COUNT).map(|n| format!("{n}\n")).collect();
    assert!(read_until(&mut client, &format!("\n{COUNT}\n")) == numbers, "the client's lines differ");
    client.write_all(b"hello\nmore").unwrap();
    assert_eq!(read_until(&mut client, "more"), "got hello\nmore");
    // stdin is once: its end ends the container's
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let ended: WaitResponse =
        shim.call("Wait", &WaitRequest { id: bundle.id.clone(), ..Default::default() }).unwrap();
    assert_eq!(ended.exit_status, 7);
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the client is let go");

    let lines = log_lines(&address.log);
    let logged: String =
        lines.iter().filter(|(s, _)| *s == Stream::Stdout).map(|(_, l)| l.as_str()).collect();
    assert!(logged == numbers + "more", "the log's lines differ");
    let errors: Vec<_> = lines.iter().filter(|(s, _)| *s == Stream::Stderr).collect();
    assert_eq!(errors, [&(Stream::Stderr, "got hello\n".to_owned())]);
    assert!(wharf_logs::files(&address.log).len() > 10, "it was rotated");

    let deleted = shim.delete(&bundle.id, "");
    assert_eq!((deleted.exit_status, deleted.pid, deleted.exited_at), (7, created.pid, ended.exited_at));
    shim.shutdown();
}

#[test]
fn root_a_terminal_client_is_handed_over_resized_detached_and_attached_again() {
    let bundle = Bundle::with_terminal("tty", &["sh", "-c", "while read -r line; do eval \"$line\"; done"]);
    let mut shim = bundle.start();
    let address = address(&bundle, "init");
    let _: CreateTaskResponse = shim.call("Create", &create(&bundle, &address, true)).unwrap();
    let (mut client, theirs) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    let control = connect(address.attach.as_ref().unwrap());
    let mut request = attach(Framing::Raw, b"\x10\x11");
    request.buffered = b"echo rea''dy\n".to_vec();
    hand_over(&control, &request, Some(theirs.as_fd())).unwrap();
    drop(theirs);
    assert_eq!(receive_event(&control).unwrap(), AttachEvent::Attached);
    let _: StartResponse =
        shim.call("Start", &StartRequest { id: bundle.id.clone(), ..Default::default() }).unwrap();
    read_until(&mut client, "\nready\r\n");
    let size = ResizePtyRequest { id: bundle.id.clone(), exec_id: String::new(), width: 123, height: 45 };
    let () = shim.call("ResizePty", &size).unwrap();
    client.write_all(b"stty size\n").unwrap();
    read_until(&mut client, "\n45 123\r\n");
    client.write_all(b"\x10").unwrap();
    client.write_all(b"\x11").unwrap();
    assert_eq!(receive_event(&control).unwrap(), AttachEvent::Detached);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);

    let (mut client, theirs) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    let control = connect(address.attach.as_ref().unwrap());
    hand_over(&control, &attach(Framing::Raw, b""), Some(theirs.as_fd())).unwrap();
    drop(theirs);
    assert_eq!(receive_event(&control).unwrap(), AttachEvent::Attached);
    client.write_all(b"exit 5\n").unwrap();
    let ended: WaitResponse =
        shim.call("Wait", &WaitRequest { id: bundle.id.clone(), ..Default::default() }).unwrap();
    assert_eq!(ended.exit_status, 5);
    assert_eq!(receive_event(&control).unwrap(), AttachEvent::Closed { by: ClosedBy::Exit });
    shim.delete(&bundle.id, "");
    shim.shutdown();
}

#[test]
fn root_execs_have_streams_and_ends_of_their_own() {
    let bundle = Bundle::new("exec", &["sleep", "1000"]);
    let mut shim = bundle.start();
    let mut quiet = StdioAddress::new(bundle.dir().join("init.log"));
    quiet.format = LogFormat::JsonFile;
    let mut request = create(&bundle, &quiet, false);
    request.stdin = String::new();
    let _: CreateTaskResponse = shim.call("Create", &request).unwrap();
    let _: StartResponse =
        shim.call("Start", &StartRequest { id: bundle.id.clone(), ..Default::default() }).unwrap();

    let mut address = address(&bundle, "exec");
    (address.format, address.log) = (LogFormat::None, "/".into());
    let text = address.to_string();
    let exec = ExecProcessRequest {
        id: bundle.id.clone(),
        exec_id: "e1".into(),
        stdin: text.clone(),
        stdout: text.clone(),
        stderr: text,
        spec: Some(bundle.process(&["sh", "-c", "cat; echo err >&2; exit 3"])),
        ..ExecProcessRequest::default()
    };
    let () = shim.call("Exec", &exec).unwrap();
    match shim.call::<_, ()>("Exec", &exec) {
        Err(CallError::Answer { kind, .. }) => assert_eq!(kind, wharf_kinds::Kind::AlreadyExists),
        other => panic!("{other:?}"),
    }
    let mut client = connect(address.attach.as_ref().unwrap());
    hand_over(&client, &attach(Framing::Multiplexed, b""), None).unwrap();
    assert_eq!(receive_event(&client).unwrap(), AttachEvent::Attached);
    client.write_all(b"echo").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let start = StartRequest { id: bundle.id.clone(), exec_id: "e1".into() };
    let started: StartResponse = shim.call("Start", &start).unwrap();
    assert!(started.pid > 0);
    let mut output = Vec::new();
    client.read_to_end(&mut output).unwrap();
    assert_eq!(output, b"\x01\0\0\0\0\0\0\x04echo\x02\0\0\0\0\0\0\x04err\n");
    let wait = WaitRequest { id: bundle.id.clone(), exec_id: "e1".into() };
    let ended: WaitResponse = shim.call("Wait", &wait).unwrap();
    assert_eq!(ended.exit_status, 3);
    assert_eq!(shim.delete(&bundle.id, "e1").exit_status, 3);

    // a wait on one connection holds nothing else up
    let mut other = bundle.connect();
    let id = bundle.id.clone();
    let waiting = std::thread::spawn(move || {
        other.call::<_, WaitResponse>("Wait", &WaitRequest { id, ..Default::default() }).unwrap()
    });
    let state: StateResponse =
        shim.call("State", &StateRequest { id: bundle.id.clone(), ..Default::default() }).unwrap();
    assert_eq!(state.status(), Status::Running);
    let kill = KillRequest { id: bundle.id.clone(), signal: 9, ..Default::default() };
    let () = shim.call("Kill", &kill).unwrap();
    assert_eq!(waiting.join().unwrap().exit_status, 137);
    match shim.call::<_, ()>("Kill", &kill) {
        Err(CallError::Answer { kind, text }) => {
            assert_eq!(
                (kind, text.as_str()),
                (wharf_kinds::Kind::NotFound, "process already finished: not found")
            );
        }
        other => panic!("{other:?}"),
    }
    shim.delete(&bundle.id, "");
    shim.shutdown();
}

#[test]
fn root_delete_tells_the_true_end_when_the_shim_was_killed() {
    for (script, before) in [("exit 4", true), ("sleep 1000", false)] {
        let bundle = Bundle::new("gone", &["sh", "-c", script]);
        let mut shim = bundle.start();
        let address = StdioAddress::new(bundle.dir().join("init.log"));
        let mut request = create(&bundle, &address, false);
        request.stdin = String::new();
        let created: CreateTaskResponse = shim.call("Create", &request).unwrap();
        let _: StartResponse =
            shim.call("Start", &StartRequest { id: bundle.id.clone(), ..Default::default() }).unwrap();
        let mut wanted = (137, None);
        if before {
            let ended: WaitResponse =
                shim.call("Wait", &WaitRequest { id: bundle.id.clone(), ..Default::default() }).unwrap();
            wanted = (4, ended.exited_at);
        }
        shim.kill();
        let deleted: DeleteResponse = bundle.delete();
        assert_eq!((deleted.exit_status, deleted.pid), (wanted.0, created.pid));
        if before {
            assert_eq!(deleted.exited_at, wanted.1);
        }
        let alive = Path::new("/proc").join(created.pid.to_string()).join("exe");
        let deadline = Instant::now() + crate::stack::TIMEOUT;
        while alive.read_link().is_ok() {
            assert!(Instant::now() < deadline, "the container outlived its deletion");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn root_a_failed_create_says_why_and_leaves_nothing() {
    let bundle = Bundle::new("bad", &["/no/such/program"]);
    let mut shim = bundle.start();
    let mut address = address(&bundle, "init");
    let error = shim.call::<_, CreateTaskResponse>("Create", &create(&bundle, &address, false));
    let started = error.and_then(|_| {
        // runc finds a missing program at create, others may at start
        shim.call::<_, StartResponse>("Start", &StartRequest { id: bundle.id.clone(), ..Default::default() })
    });
    let text = started.unwrap_err().to_string();
    assert!(text.contains("no such file") || text.contains("No such file"), "{text}");

    address.attach = Some("/proc/no/such".into());
    let mut request = create(&bundle, &address, false);
    request.id = "other".into();
    let text = shim.call::<_, CreateTaskResponse>("Create", &request).unwrap_err().to_string();
    assert!(text.contains("/proc/no/such"), "{text}");
    match shim.call::<_, StateResponse>("State", &StateRequest { id: "other".into(), ..Default::default() }) {
        Err(CallError::Answer { text, .. }) => assert_eq!(text, "container not created: not found"),
        other => panic!("{other:?}"),
    }
    let delete = DeleteRequest { id: bundle.id.clone(), ..Default::default() };
    let _ = shim.call::<_, DeleteResponse>("Delete", &delete);
    let () = shim.call("Shutdown", &ShutdownRequest::default()).unwrap();
    shim.ended();
}
