//! A real distribution: a Debian root filesystem pulled from a registry, through `wharf` and the docker CLI.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use wharf_integration_tests::pty::Terminal;
use wharf_integration_tests::registry::Registry;
use wharf_integration_tests::stack::text;
use wharf_integration_tests::{SOON, Stack, eventually};

fn archive() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("target/fixtures/debian.tar");
    assert!(path.exists(), "target/fixtures/debian.tar is missing: run `make test`");
    path
}

fn through(client: impl Fn(&Stack, &[&str]) -> Command) {
    let stack = Stack::start_bare(&[]);
    let registry = Registry::start(stack.dir());
    let image = registry.push(&archive(), "debian:bookworm");
    let image = image.as_str();
    let output = |args: &[&str]| client(&stack, args).output().expect("the client runs");
    let ok = |args: &[&str]| {
        let out = output(args);
        assert!(out.status.success(), "{args:?}: {}\n{}", text(&out), stack.logs());
        String::from_utf8(out.stdout).expect("utf-8").trim_end().to_owned()
    };
    let code = |args: &[&str]| output(args).status.code().expect("an exit code");

    ok(&["version"]);
    ok(&["info"]);
    let pulled = ok(&["pull", image]);
    assert!(pulled.contains("Status: Downloaded newer image for"), "{pulled}");
    assert!(ok(&["pull", image]).contains("Image is up to date"), "a second pull");
    assert!(ok(&["images"]).contains("bookworm"));
    assert!(ok(&["run", "--rm", image, "cat", "/etc/os-release"]).contains("VERSION_CODENAME=bookworm"));
    assert_eq!(code(&["run", "--rm", image, "true"]), 0);
    assert_eq!(code(&["run", "--rm", image, "sh", "-c", "exit 3"]), 3);
    assert_eq!(code(&["run", "--rm", "127.0.0.1:1/none", "true"]), 125);
    assert_eq!(code(&["run", "--rm", image, "/etc/passwd"]), 126);
    assert_eq!(code(&["run", "--rm", image, "/no/such"]), 127);
    let mut victim = client(&stack, &["run", "--rm", "--name", "victim", image, "sleep", "1000"])
        .spawn()
        .expect("the client runs");
    eventually("it can be killed", SOON, || output(&["kill", "victim"]).status.success().then_some(()));
    assert_eq!(victim.wait().expect("the client ends").code(), Some(137));

    let mut shell = Terminal::start(&client(&stack, &["run", "-it", "--name", "shell", image, "bash"]));
    shell.send("tty; echo te'rmi'nal\n");
    shell.expect(0, "terminal\r\n");
    eventually("the window size reaches bash", SOON, || {
        // a change that comes before the docker CLI listens for SIGWINCH is lost on it: change until it is seen
        shell.resize(40, 132);
        shell.resize(40, 133);
        let at = shell.position();
        shell.send("stty size\n");
        std::thread::sleep(Duration::from_millis(100));
        shell.screen().get(at..)?.contains("40 133").then_some(())
    });
    shell.send("exit 3\n");
    assert_eq!(shell.exit_code(), 3);
    ok(&["rm", "shell"]);

    let id = ok(&[
        "run",
        "-d",
        "--name",
        "work",
        image,
        "bash",
        "-c",
        "for i in 1 2 3; do echo line $i; sleep 0.2; done; exec sleep 1000",
    ]);
    assert!(ok(&["ps", "--no-trunc"]).contains(&id));
    let mut follow = client(&stack, &["logs", "-f", "work"]).stdout(Stdio::piped()).spawn().expect("logs");
    let mut exec = Terminal::start(&client(&stack, &["exec", "-it", "work", "bash"]));
    exec.send("cat /etc/debian_version; exit 4\n");
    exec.expect(0, "12.");
    assert_eq!(exec.exit_code(), 4);
    eventually("it has said all", SOON, || ok(&["logs", "work"]).contains("line 3").then_some(()));
    ok(&["kill", "work"]);
    assert_eq!(ok(&["wait", "work"]), "137");
    let mut said = String::new();
    std::io::Read::read_to_string(follow.stdout.as_mut().expect("piped"), &mut said).expect("utf-8");
    assert!(follow.wait().expect("logs -f ends with the container").success());
    assert_eq!(said, "line 1\nline 2\nline 3\n");
    assert!(ok(&["inspect", "work"]).contains(&id));
    ok(&["rm", "work"]);

    ok(&["run", "-dit", "--name", "att", image, "bash"]);
    let mut attached = Terminal::start(&client(&stack, &["attach", "att"]));
    attached.send("echo at'tach'ed; exit 5\n");
    attached.expect(0, "attached");
    assert_eq!(attached.exit_code(), 5);
    ok(&["run", "-d", "--name", "stopped", image, "sleep", "1000"]);
    ok(&["stop", "-t", "1", "stopped"]);
    ok(&["rm", "att", "stopped"]);
    ok(&["rmi", image]);
    assert_eq!(ok(&["images", "-q", image]), "");
    drop(registry);
    let leaks = stack.leaks_after_removal();
    assert!(leaks.is_empty(), "left behind: {leaks:#?}");
}

#[test]
fn root_debian_through_wharf() {
    through(|stack, args| stack.wharf_command(args));
}

#[test]
fn root_debian_through_the_docker_cli() {
    through(|stack, args| stack.docker_command(args));
}
