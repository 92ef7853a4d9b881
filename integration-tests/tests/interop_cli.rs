//! The same canned daemon behind the docker CLI and behind `wharf`: they print the same.

#[path = "../../cli/tests/daemon/mod.rs"]
mod daemon;

use std::process::{Command, Output, Stdio};

use daemon::{Daemon, LISTINGS, environment};
use wharf_integration_tests::program;
use wharf_integration_tests::stack::text;

fn run(client: &std::path::Path, daemon: &Daemon, args: &[&str]) -> Output {
    Command::new(client)
        .args(args)
        .env_clear()
        .envs(environment(&daemon.host(), &daemon.config()))
        .stdin(Stdio::null())
        .output()
        .expect("the client runs")
}

#[test]
fn wharf_prints_listings_as_docker_does() {
    let daemon = Daemon::canned();
    let (docker, wharf) = (std::path::PathBuf::from("docker"), program("wharf"));
    // what docker prints changes from one major version to the next; another version can only say that both accept it
    let asked = run(&docker, &daemon, &["version", "--format", "{{.Client.Version}}"]);
    let version = String::from_utf8_lossy(&asked.stdout).into_owned();
    let same_version = version.starts_with("28.");
    if !same_version {
        eprintln!("docker {} is not version 28: comparing exit codes only", version.trim());
    }
    let mut different = Vec::new();
    for args in LISTINGS {
        let (want, got) = (run(&docker, &daemon, args), run(&wharf, &daemon, args));
        let same_text = want.stdout == got.stdout && want.stderr == got.stderr;
        if want.status.code() != got.status.code() || (same_version && !same_text) {
            different.push(format!("{args:?}\n--- docker: {}\n--- wharf: {}", text(&want), text(&got)));
        }
    }
    assert!(
        different.is_empty(),
        "{} of {} differ:\n{}",
        different.len(),
        LISTINGS.len(),
        different.join("\n\n")
    );
}
