//! What the listing verbs print of canned answers, against recorded output.
//!
//! The recording is checked against the docker CLI's own output in the workspace's integration tests. Set
//! `WHARF_UPDATE_GOLDEN` to write it anew.

mod daemon;

use std::process::{Command, Stdio};

use daemon::{Daemon, LISTINGS, environment};

/// `2026-01-02 03:04:05`.
const TIME_LEN: usize = 19;

/// Takes out the times that move with the clock.
fn without_times(mut text: String) -> String {
    for mark in ["\"CreatedAt\":\"", "created_at: "] {
        let mut at = 0;
        while let Some(found) = text[at..].find(mark) {
            at += found + mark.len();
            text.replace_range(at..at + TIME_LEN, "TIME");
        }
    }
    text
}

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
    let all = without_times(all);
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
