//! Checkpoint and restore of real processes. CRIU has to know the kernel it runs on, which one of a distribution mostly does
//! of that distribution's: `make test-vm` runs these, on Debian's.

use crate::bundle::{Bundle, Ended, PATIENCE, wait_until};
use crate::terminals::receiver;
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::mpsc;

/// Counts the lines it reads.
const COUNTER: &str = "n=0; while read line; do n=$((n+1)); echo $n $line; done; exit 9";

/// The other ends of a container's standard streams. Nothing of a file outside of it can be saved, so these are pipes.
struct Streams {
    input: Option<PipeWriter>,
    lines: mpsc::Receiver<String>,
    errors: PipeReader,
}

impl Streams {
    /// Runs `command` to its end with new pipes, which the container keeps.
    fn given_to(command: &mut Command) -> (i32, Self) {
        let (stdin, input) = std::io::pipe().unwrap();
        let (output, stdout) = std::io::pipe().unwrap();
        let (errors, stderr) = std::io::pipe().unwrap();
        let mut child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
        // its copies of the container's ends
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|l| send.send(l))
        });
        (child.wait().unwrap().code().unwrap_or(-1), Self { input: Some(input), lines, errors })
    }

    fn say(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    fn answers(&mut self, said: &str, expected: &str) {
        self.say(&format!("{said}\n"));
        assert_eq!(self.lines.recv_timeout(PATIENCE).expect("an answer"), expected);
    }

    /// All that was written to standard error.
    fn errors(mut self) -> String {
        let mut text = String::new();
        self.input = None;
        self.errors.read_to_string(&mut text).unwrap();
        text
    }
}

fn run(b: &Bundle) -> Streams {
    b.write_config();
    let (code, streams) = Streams::given_to(b.runw().args(["run", "--detach", &b.id]));
    assert_eq!(code, 0, "{}", streams.errors());
    streams
}

/// What went wrong, with CRIU's log, which says why.
fn explained(b: &Bundle, text: &str, log: &str) -> String {
    let log = fs::read_to_string(b.path().join("work").join(log)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    format!("{text}\n{}", lines[lines.len().saturating_sub(40)..].join("\n"))
}

#[track_caller]
fn checkpoint(b: &Bundle, flags: &[&str]) {
    let done = checkpoint_with(b, flags);
    assert_eq!(done.code, 0, "{}", explained(b, &done.err, "dump.log"));
}

fn checkpoint_with(b: &Bundle, flags: &[&str]) -> Ended {
    let fixed =
        ["checkpoint", "--image-path", "images", "--work-path", "work", "--manage-cgroups-mode", "ignore"];
    b.call(&[&fixed[..], flags, &[&b.id]].concat())
}

fn restore_with(b: &Bundle, flags: &[&str]) -> (i32, Streams) {
    let fixed =
        ["restore", "--image-path", "images", "--work-path", "work", "--manage-cgroups-mode", "ignore"];
    Streams::given_to(b.runw().args(fixed).args(flags).arg(&b.id))
}

#[track_caller]
fn restore(b: &Bundle, flags: &[&str]) -> Streams {
    let (code, streams) = restore_with(b, &[&["--detach"], flags].concat());
    if code != 0 {
        let text = streams.errors();
        panic!("{code}: {}", explained(b, &text, "restore.log"));
    }
    streams
}

/// A restore that fails with `text`, and leaves nothing.
#[track_caller]
fn restore_is_refused(b: &Bundle, text: &str) {
    let (code, streams) = restore_with(b, &["--detach"]);
    // its own ends of the pipes are closed if no process is left that has others
    let errors = streams.errors();
    assert_ne!(code, 0, "restored");
    assert!(errors.contains(text), "{text:?} is not in: {}", explained(b, &errors, "restore.log"));
    b.assert_nothing_left();
}

/// Ends it and sees that all of it goes.
#[track_caller]
fn end(b: &Bundle) {
    b.call(&["kill", &b.id, "KILL"]).ok();
    b.wait_for_status("stopped");
    b.call(&["delete", &b.id]).ok();
    b.assert_nothing_left();
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_a_restored_process_goes_on_where_it_was() {
    let mut b = Bundle::new(COUNTER);
    b.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]
    });
    b.config["hooks"]["createRuntime"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat >>{}/hook", b.path().display())]}]);
    let mut before = run(&b);
    before.answers("a", "1 a");
    before.answers("b", "2 b");
    checkpoint(&b, &[]);
    b.call(&["state", &b.id]).fails_with("container does not exist");
    b.assert_nothing_left();

    fs::remove_file(b.path().join("hook")).unwrap();
    let mut after = restore(&b, &["--pid-file", "pid"]);
    let state = b.state();
    assert_eq!(state["status"], "running");
    assert_eq!(fs::read_to_string(b.path().join("pid")).unwrap(), state["pid"].to_string());
    after.answers("c", "3 c");
    assert_eq!(b.exec(&["echo", "beside it"]).ok(), "beside it\n");
    assert_eq!(b.exec(&["grep", "Seccomp:", "/proc/1/status"]).ok(), "Seccomp:\t2\n");
    let hooked = fs::read_to_string(b.path().join("hook")).unwrap();
    assert!(hooked.contains(&format!("\"pid\":{}", state["pid"])), "{hooked}");
    assert!(!b.state_root().join(&b.id).join("criu-root").exists());
    end(&b);
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_a_process_may_go_on_beside_its_checkpoint() {
    let b = Bundle::new(COUNTER);
    let mut before = run(&b);
    before.answers("a", "1 a");
    checkpoint(
        &b,
        &["--leave-running", "--tcp-established", "--tcp-skip-in-flight", "--file-locks", "--link-remap"],
    );
    assert_eq!(b.state()["status"], "running");
    before.answers("b", "2 b");
    end(&b);
    let mut after = restore(&b, &["--tcp-established", "--file-locks", "--empty-ns", "network"]);
    after.answers("c", "2 c");
    end(&b);
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_memory_may_be_saved_before_the_rest() {
    let b = Bundle::new(COUNTER);
    let mut before = run(&b);
    before.answers("a", "1 a");
    let early = |images: &str, more: &[&str]| {
        let fixed = ["checkpoint", "--pre-dump", "--image-path", images, "--work-path", "work"];
        let done = b.call(&[&fixed[..], more, &[&b.id]].concat());
        assert_eq!(done.code, 0, "{}", explained(&b, &done.err, "dump.log"));
        assert_eq!(b.state()["status"], "running");
    };
    early("first", &[]);
    before.answers("b", "2 b");
    early("second", &["--parent-path", "../first"]);
    before.answers("c", "3 c");
    checkpoint(&b, &["--parent-path", "../second"]);
    for (images, parent) in [("images", "../second"), ("second", "../first")] {
        assert_eq!(fs::read_link(b.path().join(images).join("parent")).unwrap().to_str(), Some(parent));
    }
    let mut after = restore(&b, &[]);
    after.answers("d", "4 d");
    end(&b);
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_pages_may_be_fetched_when_they_are_used() {
    let mut b = Bundle::new(COUNTER);
    let mut before = run(&b);
    before.answers("a", "1 a");
    // one that is free now
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let runw = b.runw();
    let mut server = Command::new("sh");
    server.args(["-c", "exec \"$@\" 5>status 2>server", "sh"]).arg(runw.get_program()).args(runw.get_args());
    server.args(["checkpoint", "--lazy-pages", "--status-fd", "5", "--page-server"]);
    server.arg(format!("127.0.0.1:{port}")).args(["--image-path", "images", "--work-path", "work"]);
    server.args(["--manage-cgroups-mode", "ignore", &b.id]).current_dir(b.path());
    let mut server = server.spawn().unwrap();
    let serves = || fs::read(b.path().join("status")).is_ok_and(|said| said == [0]);
    wait_until("pages to be served", || serves() || server.try_wait().unwrap().is_some());
    let said = fs::read_to_string(b.path().join("server")).unwrap();
    assert!(serves(), "{}", explained(&b, &said, "dump.log"));
    let mut fetcher = Command::new("criu");
    fetcher.args(["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", &port]);
    fetcher.args(["--images-dir", "images", "--work-dir", "work", "--log-file", "lazy.log"]);
    let mut fetcher = fetcher.current_dir(b.path()).spawn().unwrap();
    wait_until("the daemon that fetches pages", || b.path().join("work/lazy-pages.socket").exists());

    // what was saved is there until its last page is fetched: the restored one has another name and cgroup
    let id = format!("{}-lazy", b.id);
    b.config["linux"]["cgroupsPath"] =
        format!("{}-lazy", b.config["linux"]["cgroupsPath"].as_str().unwrap()).into();
    b.write_config();
    let flags = ["restore", "--detach", "--lazy-pages", "--image-path", "images", "--work-path", "work"];
    let mut command = b.runw();
    let (code, mut after) =
        Streams::given_to(command.args(flags).args(["--manage-cgroups-mode", "ignore", &id]));
    if code != 0 {
        let text = after.errors();
        panic!("{code}: {}", explained(&b, &text, "restore.log"));
    }
    after.answers("b", "2 b");
    assert!(server.wait().unwrap().success(), "all was fetched");
    assert!(fetcher.wait().unwrap().success());
    b.call(&["state", &b.id]).fails_with("container does not exist");
    after.answers("c", "3 c");
    b.call(&["delete", "--force", &id]).ok();
    b.assert_nothing_left();
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_a_restore_in_the_foreground_ends_with_the_exit_code() {
    let b = Bundle::new(COUNTER);
    let mut before = run(&b);
    before.answers("a", "1 a");
    checkpoint(&b, &[]);
    let (stdin, mut input) = std::io::pipe().unwrap();
    let mut command = b.runw();
    command.args(["restore", "--image-path", "images", &b.id]).stdin(stdin);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    command.stdin(std::process::Stdio::null());
    input.write_all(b"b\n").unwrap();
    drop(input);
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.out.as_str()), (9, "2 b\n"), "{}", ended.err);
    b.assert_nothing_left();
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_a_terminal_is_sent_over_the_console_socket() {
    let mut b = Bundle::new("stty -echo; n=0; while read line; do n=$((n+1)); echo $n $line; done");
    b.config["process"]["terminal"] = true.into();
    b.write_config();
    // with the last master its processes would end
    let talk = |master: std::os::fd::OwnedFd, said: &str, expected: &str| {
        let mut master = fs::File::from(master);
        master.write_all(format!("{said}\n").as_bytes()).unwrap();
        let mut seen = String::new();
        wait_until(expected, || {
            let mut bytes = [0u8; 256];
            let n = master.read(&mut bytes).unwrap();
            seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
            seen.contains(expected)
        });
        master
    };
    let listen = |name: &str| (UnixListener::bind(b.path().join(name)).unwrap(), name.to_owned());
    let (listener, path) = listen("first");
    let (master, _) = receiver(listener, || {
        b.call(&["run", "--detach", "--console-socket", &path, &b.id]).ok();
    });
    let _first = talk(master, "a", "1 a");
    checkpoint(&b, &[]);
    b.call(&["restore", "--detach", "--image-path", "images", &b.id])
        .fails_with("cannot allocate tty if runw will detach without setting console socket");
    let (listener, path) = listen("second");
    let (master, _) = receiver(listener, || {
        let flags = ["restore", "--detach", "--image-path", "images", "--work-path", "work"];
        let done = b.call(&[&flags[..], &["--console-socket", &path, &b.id]].concat());
        assert_eq!(done.code, 0, "{}", explained(&b, &done.err, "restore.log"));
    });
    let _second = talk(master, "b", "2 b");
    end(&b);
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_mounts_are_found_where_links_lead_and_in_each_other() {
    let mut b = Bundle::new(COUNTER);
    fs::create_dir_all(b.rootfs().join("real/conf")).unwrap();
    std::os::unix::fs::symlink("/real/conf", b.rootfs().join("conf")).unwrap();
    fs::create_dir(b.path().join("shared")).unwrap();
    fs::write(b.path().join("shared/word"), "old").unwrap();
    let mounts = b.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/conf", "source": "shared", "options": ["bind"]}));
    mounts.push(json!({"destination": "/real/conf/below", "type": "bind", "source": "rootfs/etc"}));
    let mut before = run(&b);
    before.answers("a", "1 a");
    checkpoint(&b, &[]);
    // as on another machine, where nothing has been mounted there before
    fs::remove_dir(b.path().join("shared/below")).unwrap();
    let mut after = restore(&b, &[]);
    after.answers("b", "2 b");
    assert_eq!(b.exec(&["cat", "/real/conf/word"]).ok(), "old");
    end(&b);
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_cve_2024_8676_images_bring_no_mount_that_config_json_does_not_have() {
    let mut b = Bundle::new(COUNTER);
    fs::create_dir(b.path().join("secret")).unwrap();
    fs::write(b.path().join("secret/word"), "theirs").unwrap();
    let plain = b.config.clone();
    let mount = json!({"destination": "/mnt", "source": "secret", "options": ["bind"]});
    b.config["mounts"].as_array_mut().unwrap().push(mount);
    fs::create_dir(b.rootfs().join("mnt")).unwrap();
    let mut before = run(&b);
    before.answers("a", "1 a");
    checkpoint(&b, &[]);

    let with_mount = std::mem::replace(&mut b.config, plain);
    b.write_config();
    restore_is_refused(&b, "criu failed");

    // where both have it, it is what config.json says
    b.config = with_mount;
    fs::create_dir(b.path().join("own")).unwrap();
    fs::write(b.path().join("own/word"), "ours").unwrap();
    let last = b.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
    last["source"] = "own".into();
    b.write_config();
    let mut after = restore(&b, &[]);
    after.answers("b", "2 b");
    assert_eq!(b.exec(&["cat", "/mnt/word"]).ok(), "ours");
    end(&b);
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_images_bring_no_right_that_config_json_does_not_give() {
    let mut b = Bundle::new(COUNTER);
    for set in ["bounding", "effective", "permitted"] {
        let set = b.config["process"]["capabilities"][set].as_array_mut().unwrap();
        set.push("CAP_SYS_ADMIN".into());
    }
    b.config["process"]["noNewPrivileges"] = false.into();
    let powerful = b.config.clone();
    let mut before = run(&b);
    before.answers("a", "1 a");
    checkpoint(&b, &[]);
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut config = powerful.clone();
        change(&mut config);
        fs::write(b.path().join("config.json"), config.to_string()).unwrap();
    };
    with(&|config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set].as_array_mut().unwrap().pop();
        }
    });
    restore_is_refused(&b, "has CAP_SYS_ADMIN (CapBnd), which process.capabilities does not give");
    with(&|config| {
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]});
    });
    restore_is_refused(&b, "has no filter of system calls, as linux.seccomp has");
    // and with what they had they are restored, without what config.json can take
    with(&|config| config["process"]["noNewPrivileges"] = true.into());
    let mut after = restore(&b, &[]);
    after.answers("b", "2 b");
    assert_eq!(b.exec(&["grep", "NoNewPrivs:", "/proc/1/status"]).ok(), "NoNewPrivs:\t1\n");
    end(&b);
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_cve_2026_92574_images_bring_no_user_that_config_json_does_not_name() {
    let mut b = Bundle::new(COUNTER);
    let without = |b: &mut Bundle| {
        let caps = b.config["process"]["capabilities"].as_object_mut().unwrap();
        caps.values_mut().for_each(|set| *set = json!([]));
    };
    without(&mut b);
    let root = b.config.clone();
    let mut before = run(&b);
    before.answers("a", "1 a");
    checkpoint(&b, &[]);
    b.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let user = b.config.clone();
    b.write_config();
    restore_is_refused(&b, "has the id 0 (Uid), which process.user.uid does not give");
    b.config = root;
    b.write_config();
    let mut after = restore(&b, &[]);
    after.answers("b", "2 b");
    end(&b);

    // and who is whom config.json names goes on
    b.config = user;
    let mut before = run(&b);
    before.answers("a", "1 a");
    fs::remove_dir_all(b.path().join("images")).unwrap();
    checkpoint(&b, &[]);
    let mut after = restore(&b, &[]);
    after.answers("b", "2 b");
    assert_eq!(b.exec(&["grep", "Uid:", "/proc/1/status"]).ok(), "Uid:\t1000\t1000\t1000\t1000\n");
    end(&b);
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_a_users_process_brings_no_capability() {
    let mut b = Bundle::new(COUNTER);
    let mut before = run(&b);
    before.answers("a", "1 a");
    checkpoint(&b, &[]);
    // the same sets, which are not in force for a user who is not root
    b.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    b.write_config();
    restore_is_refused(&b, "(CapPrm), which process.capabilities does not give");
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_images_bring_no_namespace_of_the_host() {
    let mut b = Bundle::new(COUNTER);
    let without = |b: &mut Bundle, kind: &str| {
        let list = b.config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|ns| ns["type"] != kind);
    };
    let whole = b.config.clone();
    without(&mut b, "ipc");
    let mut before = run(&b);
    before.answers("a", "1 a");
    checkpoint(&b, &[]);
    b.config = whole;
    b.write_config();
    restore_is_refused(&b, "it has no ipc namespace of its own, as linux.namespaces has");
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_annotations_choose_no_options_of_criu() {
    let mut b = Bundle::new(COUNTER);
    // what runc takes from this annotation is a file of CRIU's options, and these can name programs that it runs
    let script = b.path().join("script");
    fs::write(&script, format!("#!/bin/sh\ntouch {}/ran\n", b.path().display())).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let options = b.path().join("criu.conf");
    fs::write(&options, format!("action-script {}\n", script.display())).unwrap();
    b.config["annotations"] = json!({"org.criu.config": options});
    let mut before = run(&b);
    before.answers("a", "1 a");
    checkpoint(&b, &[]);
    let mut after = restore(&b, &[]);
    after.answers("b", "2 b");
    end(&b);
    assert!(!b.path().join("ran").exists());
}
