//! What the listing verbs print of canned answers, against recorded output.
//!
//! The recording is checked against the docker CLI's own output in the workspace's integration tests. Set
//! `WHARF_UPDATE_GOLDEN` to write it anew.

mod daemon;

use std::process::{Command, Stdio};

use daemon::{Daemon, LISTINGS, environment};

#[test]
fn listings_print_what_was_recorded() {
    let daemon = Daemon::canned();
    let mut all = String::new();
    for args in LISTINGS {
        let out = Command::new(env!("CARGO_BIN_EXE_wharf"))
            .args(*args)
            .env_clear()
            .envs(environment(&daemon.host(), &daemon.config()))
            .stdin(Stdio::null())
            .output()
            .expect("wharf runs");
        all.push_str(&format!("$ {args:?}\n{}", String::from_utf8_lossy(&out.stdout)));
        for line in String::from_utf8_lossy(&out.stderr).lines() {
            all.push_str(&format!("! {line}\n"));
        }
        all.push_str(&format!("= {}\n\n", out.status.code().expect("an exit code")));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/listings.txt");
    if std::env::var_os("WHARF_UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &all).expect("written");
    }
    let want = std::fs::read_to_string(path).expect("the recording");
    for (got, want) in all.split("\n\n$ ").zip(want.split("\n\n$ ")) {
        assert_eq!(got, want);
    }
    assert_eq!(all.len(), want.len());
}
