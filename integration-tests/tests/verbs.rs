//! What people type, through `wharf` and through the original docker CLI, against one wharfd.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use wharf_integration_tests::pty::Terminal;
use wharf_integration_tests::stack::text;
use wharf_integration_tests::{SOON, Stack, eventually};

/// Which client drives the daemon.
#[derive(Clone, Copy)]
enum Client {
    Wharf,
    Docker,
}

/// A client on a stack.
struct Driver<'a> {
    stack: &'a Stack,
    client: Client,
}

impl Driver<'_> {
    fn command(&self, args: &[&str]) -> Command {
        match self.client {
            Client::Wharf => self.stack.wharf_command(args),
            Client::Docker => self.stack.docker_command(args),
        }
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the client runs")
    }

    fn code(&self, args: &[&str]) -> i32 {
        self.output(args).status.code().expect("an exit code")
    }

    fn ok(&self, args: &[&str]) -> String {
        let out = self.output(args);
        assert!(out.status.success(), "{args:?}: {}\n{}", text(&out), self.stack.logs());
        String::from_utf8(out.stdout).expect("utf-8").trim_end_matches('\n').to_owned()
    }

    fn fails(&self, args: &[&str], with: &str) {
        let out = self.output(args);
        assert!(!out.status.success(), "{args:?} succeeded: {}", text(&out));
        let all = String::from_utf8_lossy(&out.stderr);
        assert!(all.contains(with), "{args:?} failed without saying {with:?}: {}", text(&out));
    }
}

fn each_client(test: impl Fn(Driver)) {
    let stack = Stack::start();
    for client in [Client::Wharf, Client::Docker] {
        test(Driver { stack: &stack, client });
        let leaks = stack.leaks_after_removal();
        assert!(leaks.is_empty(), "left behind: {leaks:#?}");
    }
}

const RUN: [&str; 5] = ["run", "--rm", "--network", "none", "busybox"];

fn run(words: &[&'static str]) -> Vec<&'static str> {
    [&RUN[..], words].concat()
}

#[test]
fn root_run_gives_the_containers_exit_code() {
    each_client(|d| {
        assert_eq!(d.code(&run(&["true"])), 0);
        assert_eq!(d.code(&run(&["sh", "-c", "exit 3"])), 3);
        let words = ["run", "--rm", "--name", "victim", "--network", "none", "busybox", "sleep", "1000"];
        let mut child = d.command(&words).spawn().expect("the client runs");
        eventually("it can be killed", SOON, || d.output(&["kill", "victim"]).status.success().then_some(()));
        assert_eq!(child.wait().expect("the client ends").code(), Some(137));
        assert_eq!(d.code(&run(&["/etc/passwd"])), 126, "a file that is not executable");
        assert_eq!(d.code(&run(&["no-such-program"])), 127);
        assert_eq!(d.code(&["run", "--rm", "--no-such-flag", "busybox"]), 125);
        assert_eq!(d.code(&["run", "--rm", "--network", "container:nobody", "busybox", "true"]), 125);
    });
}

#[test]
fn root_run_keeps_output_and_errors_apart_and_passes_input() {
    each_client(|d| {
        let out = d.output(&run(&["sh", "-c", "echo out; echo err >&2"]));
        assert_eq!(String::from_utf8_lossy(&out.stdout), "out\n");
        assert_eq!(String::from_utf8_lossy(&out.stderr), "err\n");
        let mut child = d
            .command(&["run", "--rm", "-i", "--network", "none", "busybox", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client runs");
        let data = vec![b'x'; 300_000];
        let mut input = child.stdin.take().expect("piped");
        let copy = data.clone();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, &copy));
        let out = child.wait_with_output().expect("the client ends");
        writer.join().expect("joined").expect("all input is taken");
        assert!(out.status.success());
        assert_eq!(out.stdout.len(), data.len());
    });
}

#[test]
fn root_run_passes_settings_into_the_container() {
    each_client(|d| {
        let got = d.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "-e",
            "A=b c",
            "-w",
            "/tmp",
            "-u",
            "user",
            "-h",
            "box",
            "busybox",
            "sh",
            "-c",
            "echo $A; pwd; id -u; id -g; id -G; hostname",
        ]);
        assert_eq!(got.lines().collect::<Vec<_>>(), ["b c", "/tmp", "1000", "1000", "1000 1001", "box"]);
        let dir = d.stack.dir().join("bound");
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join("file"), "content").expect("a file");
        let volume = format!("{}:/bound:ro", dir.display());
        assert_eq!(
            d.ok(&["run", "--rm", "--network", "none", "-v", &volume, "busybox", "cat", "/bound/file"]),
            "content"
        );
        assert_ne!(
            d.code(&["run", "--rm", "--network", "none", "-v", &volume, "busybox", "touch", "/bound/new"]),
            0
        );
        assert_eq!(
            d.ok(&["run", "--rm", "--network", "none", "--entrypoint", "echo", "busybox", "hi"]),
            "hi"
        );
    });
}

#[test]
fn root_a_container_lives_through_all_its_verbs() {
    each_client(|d| {
        let id = d.ok(&[
            "run",
            "-d",
            "--name",
            "one",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done",
        ]);
        assert_eq!(id.len(), 64);
        eventually("the container is ready", SOON, || (d.ok(&["logs", "one"]) == "ready").then_some(()));
        assert_eq!(
            d.ok(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}} {{.State}}"]),
            format!("{id} one busybox running")
        );
        assert_eq!(
            d.ok(&["inspect", "--format", "{{.State.Status}} {{.Name}} {{.Config.Image}}", "one"]),
            "running /one busybox"
        );
        d.ok(&["pause", "one"]);
        assert_eq!(d.ok(&["inspect", "--format", "{{.State.Status}}", "one"]), "paused");
        d.ok(&["unpause", "one"]);
        d.ok(&["rename", "one", "two"]);
        assert!(d.ok(&["top", "two"]).lines().count() >= 2);
        d.ok(&["stop", "two"]);
        assert_eq!(
            d.ok(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "two"]),
            "exited 5"
        );
        assert_eq!(d.ok(&["wait", "two"]), "5");
        d.ok(&["start", "two"]);
        eventually("it printed again", SOON, || (d.ok(&["logs", "two"]) == "ready\nready").then_some(()));
        assert_eq!(d.ok(&["logs", "-n", "1", "two"]), "ready");
        d.ok(&["restart", "-t", "2", "two"]);
        assert_eq!(d.ok(&["inspect", "--format", "{{.State.Status}}", "two"]), "running");
        d.ok(&["kill", "two"]);
        assert_eq!(d.ok(&["wait", "two"]), "137");
        d.fails(&["kill", "two"], "is not running");
        d.ok(&["rm", "two"]);
        d.fails(&["inspect", "two"], "No such");
        d.fails(&["start", "two"], "No such container: two");
    });
}

#[test]
fn root_exec_runs_beside_the_container() {
    each_client(|d| {
        d.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
        assert_eq!(d.ok(&["exec", "box", "echo", "hi"]), "hi");
        assert_eq!(d.code(&["exec", "box", "sh", "-c", "exit 4"]), 4);
        let failed = d.output(&["exec", "box", "no-such-program"]);
        assert_eq!(failed.status.code(), Some(127));
        assert!(text(&failed).contains("executable file not found in $PATH"), "{}", text(&failed));
        assert_eq!(d.code(&["exec", "box", "/etc/passwd"]), 126);
        assert_eq!(
            d.ok(&[
                "exec",
                "-u",
                "1000:1001",
                "-w",
                "/etc",
                "-e",
                "K=v",
                "box",
                "sh",
                "-c",
                "id -u; id -g; pwd; echo $K"
            ]),
            "1000\n1001\n/etc\nv"
        );
        let mut terminal = Terminal::start(&d.command(&["exec", "-it", "box", "sh"]));
        terminal.send("tty && echo te'rmi'nal\n");
        let at = terminal.expect(0, "terminal\r\n");
        eventually("the size reaches the container", SOON, || {
            // a change that comes before the docker CLI listens for SIGWINCH is lost on it: change until it is seen
            terminal.resize(33, 100);
            terminal.resize(33, 101);
            terminal.send("stty size\n");
            std::thread::sleep(Duration::from_millis(50));
            terminal.screen()[at.min(terminal.screen().len())..].contains("33 101").then_some(())
        });
        terminal.send("exit 6\n");
        assert_eq!(terminal.exit_code(), 6);
        d.ok(&["stop", "-t", "0", "box"]);
        d.fails(&["exec", "box", "true"], "is not running");
    });
}

#[test]
fn root_interactive_run_detach_and_attach() {
    each_client(|d| {
        let mut terminal = Terminal::start(&d.command(&[
            "run",
            "-it",
            "--name",
            "shell",
            "--network",
            "none",
            "busybox",
            "sh",
        ]));
        terminal.send("echo fir'st'\n");
        terminal.expect(0, "first");
        terminal.send("\x10\x11");
        assert_eq!(terminal.exit_code(), 0, "detaching is no failure");
        assert_eq!(d.ok(&["inspect", "--format", "{{.State.Status}}", "shell"]), "running");
        let mut terminal = Terminal::start(&d.command(&["attach", "shell"]));
        terminal.send("echo sec'ond'\n");
        terminal.expect(0, "second");
        terminal.send("exit 3\n");
        assert_eq!(terminal.exit_code(), 3);
    });
}

#[test]
fn root_logs_follow_until_the_end() {
    each_client(|d| {
        d.ok(&[
            "run",
            "-d",
            "--name",
            "talker",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done; echo oops >&2",
        ]);
        let out = d.output(&["logs", "-f", "talker"]);
        assert_eq!(String::from_utf8_lossy(&out.stdout), "line 1\nline 2\nline 3\nline 4\nline 5\n");
        assert_eq!(String::from_utf8_lossy(&out.stderr), "oops\n");
        assert_eq!(d.ok(&["logs", "--tail", "2", "talker"]), "line 5");
        let stamped = d.ok(&["logs", "-t", "--tail", "1", "talker"]);
        assert!(stamped.is_empty(), "the last line is on stderr: {stamped}");
        let stamped = d.ok(&["logs", "-t", "talker"]);
        let (time, line) = stamped.lines().next().expect("a line").split_once(' ').expect("time and line");
        assert_eq!(line, "line 1");
        time.parse::<jiff::Timestamp>().expect("RFC 3339");
        assert_eq!(d.ok(&["logs", "--since", "2100-01-01T00:00:00Z", "talker"]), "");
    });
}

#[test]
fn root_events_tell_a_containers_life_in_order() {
    each_client(|d| {
        let mut watch = d
            .command(&["events", "--filter", "container=told", "--format", "{{.Action}}"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("events runs");
        // events of the past are replayed, so no wait for the watcher is needed when the time is named
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("time").as_secs();
        d.ok(&["run", "--name", "told", "--network", "none", "busybox", "true"]);
        d.ok(&["rm", "told"]);
        let until = (now + 60).to_string();
        let replay = eventually("all events are replayed", SOON, || {
            let until_now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .ok()?
                .as_secs()
                .to_string();
            assert!(until_now <= until);
            let said = d.ok(&[
                "events",
                "--since",
                &now.to_string(),
                "--until",
                &until_now,
                "--filter",
                "container=told",
                "--format",
                "{{.Action}}",
            ]);
            said.contains("destroy").then_some(said)
        });
        watch.kill().expect("kill");
        watch.wait().expect("wait");
        let seen: Vec<&str> =
            replay.lines().filter(|a| ["create", "start", "die", "destroy"].contains(a)).collect();
        assert_eq!(seen, ["create", "start", "die", "destroy"]);
    });
}

#[test]
fn root_images_are_listed_tagged_saved_loaded_and_removed() {
    each_client(|d| {
        let id = d.ok(&["images", "-q", "--no-trunc", "busybox"]);
        assert!(id.starts_with("sha256:"), "{id}");
        d.ok(&["tag", "busybox", "example.org/other:v1"]);
        assert_eq!(
            d.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}", "example.org/other"]),
            "example.org/other:v1"
        );
        let file = d.stack.dir().join("saved.tar");
        d.ok(&["save", "-o", file.to_str().expect("utf-8"), "example.org/other:v1"]);
        d.ok(&["rmi", "example.org/other:v1"]);
        d.fails(&["image", "inspect", "example.org/other:v1"], "No such image");
        let loaded = d.ok(&["load", "-i", file.to_str().expect("utf-8")]);
        assert!(loaded.contains("Loaded image: example.org/other:v1"), "{loaded}");
        assert_eq!(d.ok(&["image", "inspect", "--format", "{{.Id}}", "example.org/other:v1"]), id);
        d.ok(&["run", "--name", "user", "--network", "none", "example.org/other:v1", "true"]);
        d.ok(&["rm", "user"]);
        d.ok(&["rmi", "example.org/other:v1"]);
    });
}

#[test]
fn root_version_and_info_answer() {
    each_client(|d| {
        assert!(!d.ok(&["version", "--format", "{{.Server.APIVersion}}"]).is_empty());
        assert_eq!(d.ok(&["info", "--format", "{{.OSType}} {{.Driver}}"]), "linux overlayfs");
    });
}

#[test]
fn root_a_restart_policy_restarts_and_stop_ends_it() {
    each_client(|d| {
        d.ok(&[
            "run",
            "-d",
            "--name",
            "again",
            "--restart",
            "always",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "echo up; exit 1",
        ]);
        eventually("it was restarted twice", SOON, || {
            (d.ok(&["logs", "again"]).lines().count() >= 3).then_some(())
        });
        d.ok(&["stop", "again"]);
        let count = d.ok(&["inspect", "--format", "{{.RestartCount}} {{.State.Status}}", "again"]);
        assert!(count.ends_with("exited"), "{count}");
    });
}
