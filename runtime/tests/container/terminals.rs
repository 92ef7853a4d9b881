use crate::bundle::{Bundle, PATIENCE, wait_until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

/// Accepts one connection while `during` runs, and takes the descriptor and the bytes sent over it.
pub fn receiver(listener: UnixListener, during: impl FnOnce()) -> (OwnedFd, Vec<u8>) {
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            // bounded: if what happens meanwhile fails, nobody ever connects
            let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&patience)).unwrap();
            assert_eq!(ready, 1, "nobody connected");
            let (socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = vec![0u8; 4096];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags).unwrap();
            bytes.truncate(got.bytes);
            let fd = control.drain().find_map(|m| match m {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            });
            (fd.expect("a descriptor"), bytes)
        });
        during();
        receiving.join().unwrap()
    })
}

fn read_all(master: OwnedFd) -> String {
    let mut text = Vec::new();
    // EIO: the last process of the terminal has ended
    let _ = std::fs::File::from(master).read_to_end(&mut text);
    String::from_utf8_lossy(&text).replace('\r', "")
}

#[test]
fn root_create_sends_the_terminal_over_the_console_socket() {
    let mut b = Bundle::new(
        "tty; stty size; stat -c %t:%T /dev/console; echo $(cat /proc/self/stat | head -c 20) > /dev/null; read x; echo got $x",
    );
    b.config["process"]["terminal"] = true.into();
    b.config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    b.write_config();
    // longer than a unix socket's address may be
    let dir = b.path().join("d".repeat(120));
    std::fs::create_dir(&dir).unwrap();
    let short = std::path::PathBuf::from(format!("/tmp/{}.sock", b.id));
    let listener = UnixListener::bind(&short).unwrap();
    let path = dir.join("console.sock");
    std::fs::rename(&short, &path).unwrap();
    let (master, name) = receiver(listener, || {
        b.call(&["create", "--console-socket", &path.to_string_lossy(), &b.id]).ok();
    });
    assert!(!name.is_empty());
    b.call(&["start", &b.id]).ok();
    std::fs::File::from(master.try_clone().unwrap()).write_all(b"words\n").unwrap();
    let text = read_all(master);
    assert!(text.contains("/dev/pts/0\n"), "{text}");
    assert!(text.contains("88:0"), "{text}");
    assert!(text.contains("got words"), "{text}");
}

#[test]
fn root_exec_gets_a_terminal_of_its_own() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let path = b.path().join("s");
    let (master, _) = receiver(UnixListener::bind(&path).unwrap(), || {
        b.call(&["exec", "--tty", "--detach", "--console-socket", &path.to_string_lossy(), &b.id, "tty"])
            .ok();
    });
    assert_eq!(read_all(master), "/dev/pts/0\n");
}

#[test]
fn root_a_foreground_run_serves_its_terminal() {
    let mut b = Bundle::new("tty; echo error >&2; exit 4");
    b.config["process"]["terminal"] = true.into();
    let ended = b.run();
    assert_eq!(ended.code, 4, "{}", ended.err);
    assert_eq!(ended.out, "/dev/pts/0\nerror\n");
}

#[test]
fn root_create_run_and_exec_send_a_pidfd() {
    let b = Bundle::new("sleep 1000");
    b.write_config();
    let path = b.path().join("pidfd.sock");
    let kill = |pidfd: &OwnedFd| wharf_sys::pidfd::send_signal(pidfd, 9).unwrap();
    let name = path.to_string_lossy();
    let send = |command: &[&str]| {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        receiver(listener, || drop(b.call(command).ok()))
    };
    let (init, word) = send(&["create", "--pidfd-socket", &name, &b.id]);
    assert_eq!(word, b"standard");
    kill(&init);
    wait_until("the end of init", || b.state()["status"] == "stopped");
    b.call(&["delete", &b.id]).ok();

    let (init, word) = send(&["run", "--detach", "--pidfd-socket", &name, &b.id]);
    assert_eq!(word, b"standard");
    let file = b.path().join("exec.pid").to_string_lossy().into_owned();
    let (process, word) =
        send(&["exec", "--detach", "--pid-file", &file, "--pidfd-socket", &name, &b.id, "sleep", "999"]);
    assert_eq!(word, b"setns");
    let pid = std::fs::read_to_string(&file).unwrap();
    kill(&process);
    wait_until("the end of the process", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| s.contains(") Z "))
    });
    assert_eq!(b.state()["status"], "running");
    kill(&init);
    wait_until("the end of init", || b.state()["status"] == "stopped");
    b.call(&["delete", &b.id]).ok();
}

#[test]
fn root_terminals_and_sockets_have_to_match() {
    let mut b = Bundle::new("true");
    b.config["process"]["terminal"] = true.into();
    b.write_config();
    b.call(&["create", &b.id]).fails_with("console socket");
    b.config["process"]["terminal"] = false.into();
    b.write_config();
    b.call(&["create", "--console-socket", "/x", &b.id]).fails_with("console socket");
    b.assert_nothing_left();
}
