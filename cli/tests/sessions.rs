//! Attached sessions against a scripted daemon: framing, input, terminals, resizes, detaching, broken waits.

mod daemon;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use daemon::{Answer, Daemon, Request, environment};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

const RAW: &str = "application/vnd.docker.raw-stream";
const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

fn wharf(daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command.args(args).env_clear().envs(environment(&daemon.host(), &daemon.config()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn json(text: &str) -> Option<Answer> {
    Some((200, "application/json", text.as_bytes().to_vec()))
}

fn upgrade(stream: &mut UnixStream, kind: &str) {
    let head = format!(
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the head is sent");
}

fn frame(stream: u8, data: &[u8]) -> Vec<u8> {
    let mut out = vec![stream, 0, 0, 0];
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(data);
    out
}

/// Ends the connection without an answer.
fn drop_it() -> Option<Answer> {
    Some((0, "", Vec::new()))
}

fn path(request: &Request) -> &str {
    request.path.split('?').next().unwrap_or_default()
}

#[test]
fn exec_keeps_outputs_apart_passes_input_and_gives_the_exit_code() {
    let daemon = Daemon::start(Box::new(|request, stream| match path(request) {
        "/containers/web/exec" => json(r#"{"Id":"e1"}"#),
        "/exec/e1/start" => {
            upgrade(stream, MULTIPLEXED);
            let mut input = Vec::new();
            // the end of the input is the client's half-close
            stream.read_to_end(&mut input).expect("input");
            let mut wire = frame(2, b"to stderr\n");
            wire.extend(frame(1, &input));
            for piece in wire.chunks(3) {
                stream.write_all(piece).expect("output");
            }
            drop_it()
        }
        "/exec/e1/json" => json(r#"{"ID":"e1","Running":false,"ExitCode":42}"#),
        _ => None,
    }));
    let mut child =
        wharf(&daemon, &["exec", "-i", "web", "cat"]).stdin(Stdio::piped()).spawn().expect("wharf runs");
    child.stdin.take().expect("a pipe").write_all(b"typed in").expect("written");
    let out = child.wait_with_output().expect("wharf ends");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "typed in");
    assert_eq!(String::from_utf8_lossy(&out.stderr), "to stderr\n");
    assert_eq!(out.status.code(), Some(42));
    let created = daemon.requests().into_iter().find(|request| path(request) == "/containers/web/exec");
    let body: serde_json::Value = serde_json::from_slice(&created.expect("created").body).expect("json");
    assert_eq!((body["AttachStdin"].as_bool(), body["Cmd"][0].as_str()), (Some(true), Some("cat")));
}

#[test]
fn an_exec_whose_exit_comes_after_its_streams_is_waited_for() {
    let asked = AtomicUsize::new(0);
    let daemon = Daemon::start(Box::new(move |request, stream| match path(request) {
        "/containers/web/exec" => json(r#"{"Id":"e1"}"#),
        "/exec/e1/start" => {
            upgrade(stream, MULTIPLEXED);
            drop_it()
        }
        "/exec/e1/json" => match asked.fetch_add(1, Ordering::SeqCst) {
            0 => json(r#"{"ID":"e1","Running":true,"ExitCode":null}"#),
            1 => drop_it(),
            _ => json(r#"{"ID":"e1","Running":false,"ExitCode":7}"#),
        },
        _ => None,
    }));
    let out = wharf(&daemon, &["exec", "web", "true"]).output().expect("wharf runs");
    assert_eq!(out.status.code(), Some(7), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn run_survives_a_daemon_that_goes_away_while_it_waits() {
    let waits = AtomicUsize::new(0);
    let daemon = Daemon::start(Box::new(move |request, stream| match path(request) {
        "/containers/create" => json(r#"{"Id":"c1","Warnings":[]}"#),
        "/containers/c1/start" => Some((204, "text/plain", Vec::new())),
        "/containers/c1/attach" => {
            upgrade(stream, MULTIPLEXED);
            stream.write_all(&frame(1, b"before ")).expect("output");
            std::thread::sleep(Duration::from_millis(300));
            stream.write_all(&frame(1, b"after\n")).expect("output");
            drop_it()
        }
        "/containers/c1/wait" if waits.fetch_add(1, Ordering::SeqCst) == 0 => {
            // the head is sent, then the daemon is killed
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
                .expect("head");
            drop_it()
        }
        "/containers/c1/wait" => {
            std::thread::sleep(Duration::from_millis(500));
            json(r#"{"StatusCode":9}"#)
        }
        "/containers/c1/json" => json(r#"{"Id":"c1","State":{"Status":"running","Running":true}}"#),
        _ => None,
    }));
    let out = wharf(&daemon, &["run", "busybox", "true"]).output().expect("wharf runs");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "before after\n");
    assert_eq!(out.status.code(), Some(9), "{}", String::from_utf8_lossy(&out.stderr));
    let requests = daemon.requests();
    let at = |wanted: &str| requests.iter().position(|request| path(request) == wanted).expect(wanted);
    let start = at("/containers/c1/start");
    assert!(
        at("/containers/c1/attach") < start && at("/containers/c1/wait") < start,
        "attached and waiting first"
    );
    assert!(requests.iter().any(|request| request.path.contains("condition=not-running")), "asked again");
}

#[test]
fn run_pulls_a_missing_image_and_says_so() {
    let tries = AtomicUsize::new(0);
    let daemon = Daemon::start(Box::new(move |request, _| match path(request) {
        "/containers/create" if tries.fetch_add(1, Ordering::SeqCst) == 0 => {
            Some((404, "application/json", br#"{"message":"No such image: busybox:latest"}"#.to_vec()))
        }
        "/containers/create" => json(r#"{"Id":"c1","Warnings":["mind the gap"]}"#),
        "/images/create" => json(
            "{\"status\":\"Pulling from library/busybox\",\"id\":\"latest\"}\r\n{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"abc\"}\r\n",
        ),
        "/containers/c1/start" => Some((204, "text/plain", Vec::new())),
        _ => None,
    }));
    let out = wharf(&daemon, &["run", "-d", "busybox"]).output().expect("wharf runs");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "c1\n");
    let want = "Unable to find image 'busybox:latest' locally\nlatest: Pulling from library/busybox\nWARNING: mind the gap\n";
    assert_eq!(String::from_utf8_lossy(&out.stderr), want);
    assert_eq!(out.status.code(), Some(0));
}

#[test]
fn a_stream_error_of_a_pull_is_the_error() {
    let daemon = Daemon::start(Box::new(|request, _| match path(request) {
        "/images/create" => {
            json("{\"errorDetail\":{\"message\":\"manifest unknown\"},\"error\":\"manifest unknown\"}\r\n")
        }
        _ => None,
    }));
    let out = wharf(&daemon, &["pull", "busybox"]).output().expect("wharf runs");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "Using default tag: latest\n");
    assert_eq!(String::from_utf8_lossy(&out.stderr), "manifest unknown\n");
    assert_eq!(out.status.code(), Some(1));
}

/// A pseudo-terminal and a client on it.
struct Terminal {
    master: std::fs::File,
    /// Kept open so that reads do not fail when the client has gone.
    peer: OwnedFd,
    child: Child,
    shown: Vec<u8>,
}

impl Terminal {
    fn start(mut command: Command) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pty");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let peer = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).expect("its other side");
        let stdio = || Stdio::from(peer.try_clone().expect("another handle"));
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().expect("wharf runs");
        Terminal { master: master.into(), peer, child, shown: Vec::new() }
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.peer, size).expect("resized");
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::WINCH).expect("told");
    }

    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !String::from_utf8_lossy(&self.shown).contains(text) {
            assert!(Instant::now() < deadline, "{text:?} not in {:?}", String::from_utf8_lossy(&self.shown));
            let mut ready = [rustix::event::PollFd::new(&self.master, rustix::event::PollFlags::IN)];
            let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            if rustix::event::poll(&mut ready, Some(&pause)).expect("polled") > 0 {
                let mut buffer = [0; 4096];
                let read = self.master.read(&mut buffer).expect("readable");
                self.shown.extend(&buffer[..read]);
            }
        }
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.peer).expect("a terminal").local_modes;
        !modes.contains(rustix::termios::LocalModes::ECHO)
    }

    fn end(mut self) -> Option<i32> {
        let code = self.child.wait().expect("wharf ends").code();
        assert!(!self.is_raw(), "the terminal is restored");
        code
    }
}

/// An exec with a terminal whose process repeats what is typed, until `q`.
fn echoing() -> Daemon {
    Daemon::start(Box::new(|request, stream| match path(request) {
        "/containers/web/exec" => json(r#"{"Id":"e1"}"#),
        "/exec/e1/start" => {
            upgrade(stream, RAW);
            // looks like a frame's header, and is none: the content type says so
            stream.write_all(b"\x01\x00\x00\x00\x00\x00\x00\x02$ ").expect("a prompt");
            let mut byte = [0];
            while stream.read(&mut byte).is_ok_and(|read| read == 1) && byte != *b"q" {
                if stream.write_all(&byte).is_err() {
                    break;
                }
            }
            drop_it()
        }
        "/exec/e1/resize" => Some((200, "text/plain", Vec::new())),
        "/exec/e1/json" => json(r#"{"ID":"e1","Running":false,"ExitCode":5}"#),
        _ => None,
    }))
}

#[test]
fn a_terminal_session_is_raw_follows_the_size_and_restores() {
    let daemon = echoing();
    let mut terminal = Terminal::start(wharf(&daemon, &["exec", "-it", "web", "sh"]));
    terminal.expect("\u{2}$ ");
    assert!(terminal.is_raw());
    terminal.master.write_all(b"ab\x03c").expect("typed");
    terminal.expect("ab\u{3}c");
    terminal.resize(33, 77);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !daemon.requests().iter().any(|request| request.path == "/exec/e1/resize?h=33&w=77") {
        assert!(Instant::now() < deadline, "no resize in {:?}", daemon.requests());
        std::thread::yield_now();
    }
    terminal.master.write_all(b"q").expect("typed");
    assert_eq!(terminal.end(), Some(5));
}

#[test]
fn the_detach_keys_end_the_session_and_not_the_process() {
    for (keys, typed) in [(None, &b"\x10\x11"[..]), (Some("a,ctrl-x"), b"a\x18")] {
        let daemon = echoing();
        let mut args = vec!["exec", "-it"];
        if let Some(keys) = keys {
            args.extend(["--detach-keys", keys]);
        }
        args.extend(["web", "sh"]);
        let mut terminal = Terminal::start(wharf(&daemon, &args));
        terminal.expect("$ ");
        terminal.master.write_all(typed).expect("typed");
        terminal.expect("read escape sequence");
        assert_eq!(terminal.end(), Some(1));
    }
}
