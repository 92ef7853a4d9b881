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
    let mut different = Vec::new();
    for args in LISTINGS {
        let (want, got) = (run(&docker, &daemon, args), run(&wharf, &daemon, args));
        if (want.status.code(), &want.stdout, &want.stderr) != (got.status.code(), &got.stdout, &got.stderr) {
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
