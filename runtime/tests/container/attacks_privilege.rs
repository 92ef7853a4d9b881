//! Attacks on what a container's process is allowed: capabilities, groups, cgroups, the runtime's own files.

use crate::bundle::{Bundle, RUNW};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

/// CVE-2022-0492: with the root of a cgroup hierarchy in hand, release_agent names a program that the kernel runs as
/// the host's root. Neither the container's view nor a mount made in a new user namespace lets it be written.
#[test]
fn root_cve_2022_0492_release_agent_is_out_of_reach() {
    let attack = "mkdir /tmp/c; for d in /sys/fs/cgroup /sys/fs/cgroup/*; do \
         (echo /tmp/x > $d/release_agent) 2>/dev/null && echo WROTE $d; \
         (echo 1 > $d/notify_on_release) 2>/dev/null && echo NOTIFY $d; \
         mount -o remount,rw $d 2>/dev/null && echo REMOUNTED $d; done; \
         for c in memory cpu rdma pids misc; do \
         mount -t cgroup -o $c cgroup /tmp/c 2>/dev/null && echo MOUNTED $c; done; \
         busybox unshare -U -r -m sh -c 'for c in memory rdma pids; do mount -t cgroup -o $c cgroup /tmp/c && \
         echo /tmp/x > /tmp/c/release_agent && echo WROTE $c; done' 2>/dev/null; echo tried";
    let b = Bundle::new(attack);
    assert_eq!(b.run().ok(), "tried\n");
}

fn capability_lines(text: &str) -> Vec<(String, u64)> {
    text.lines()
        .filter_map(|l| l.split_once(":\t"))
        .map(|(name, bits)| (name.to_owned(), u64::from_str_radix(bits, 16).unwrap()))
        .collect()
}

/// CVE-2022-24769, CVE-2022-29162: nothing is inheritable unless config.json says so, neither in the first process nor
/// in an exec that is given more.
#[test]
fn root_cve_2022_29162_execs_inherit_no_capabilities() {
    let look = ["grep", "-E", "^Cap(Inh|Amb)", "/proc/self/status"];
    let none = [("CapInh".to_owned(), 0), ("CapAmb".to_owned(), 0)];
    let b = Bundle::new("grep -E '^Cap(Inh|Amb)' /proc/self/status >/tmp/caps; sleep 1000");
    b.run_detached();
    crate::bundle::wait_until("the first process", || {
        fs::read_to_string(b.rootfs().join("tmp/caps")).is_ok_and(|t| t.lines().count() == 2)
    });
    assert_eq!(capability_lines(&fs::read_to_string(b.rootfs().join("tmp/caps")).unwrap()), none);
    assert_eq!(capability_lines(&b.exec(&look).ok()), none);
    for user in ["0", "1000:1000"] {
        let mut args = vec!["exec", "--user", user, "--cap", "CAP_NET_RAW", "--cap", "CAP_SYS_ADMIN", &b.id];
        args.extend(look);
        assert_eq!(capability_lines(&b.call(&args).ok()), none, "as {user}");
    }
}

/// CVE-2022-36109: the groups are those of config.json, not the caller's and not the runtime's.
#[test]
fn root_cve_2022_36109_supplementary_groups_are_exact() {
    let mut b = Bundle::new("id -G; sleep 1000");
    b.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    b.config["process"]["args"] = json!(["id", "-G"]);
    b.write_config();
    let with_groups = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--groups", "4,24,27", RUNW, "--root"]).arg(b.state_root()).args(args);
        let out = command.current_dir(b.path()).output().expect("setpriv of util-linux runs");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert_eq!(with_groups(&["run", &b.id]), "1000\n");
    let b = {
        let mut b = Bundle::new("sleep 1000");
        b.config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7]});
        b
    };
    b.run_detached();
    let exec = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--groups", "4,24,27", RUNW, "--root"]).arg(b.state_root()).args(args);
        let out = command.output().expect("setpriv of util-linux runs");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert_eq!(exec(&["exec", &b.id, "id", "-G"]), "1000 7\n");
    assert_eq!(exec(&["exec", "--user", "5:6", &b.id, "id", "-G"]).trim().split(' ').next(), Some("6"));
    assert!(!exec(&["exec", "--user", "5:6", &b.id, "id", "-G"]).contains("24"));
}

/// CVE-2021-41091, CVE-2024-25621: other users of the host get neither at the state nor at what is in it.
#[test]
fn root_cve_2021_41091_state_is_for_its_owner_alone() {
    let b = Bundle::new("true");
    b.write_config();
    let script = format!("umask 0; exec {RUNW} --root {} create {}", b.state_root().display(), b.id);
    let status = Command::new("/bin/sh")
        .args(["-c", &script])
        .current_dir(b.path())
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&b.state_root()), 0o700);
    let dir = b.state_root().join(&b.id);
    assert_eq!(mode(&dir) & 0o066, 0, "{:o}", mode(&dir));
    for file in fs::read_dir(&dir).unwrap().flatten() {
        // the fifo is opened by the container's first process, whichever user of the host that is
        if !file.file_name().to_string_lossy().ends_with("fifo") {
            assert_eq!(mode(&file.path()) & 0o077, 0, "{:?} {:o}", file.file_name(), mode(&file.path()));
        }
    }
}

/// CVE-2026-41579: an image whose /dev is a link, with no mount there: devices and links stay inside the image.
#[test]
fn root_cve_2026_41579_a_linked_dev_without_a_mount_reaches_nothing_of_the_host() {
    let outside = tempfile::tempdir().unwrap();
    let mut b = Bundle::new("true");
    b.config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    fs::remove_dir(b.rootfs().join("dev")).unwrap();
    for link in [
        outside.path().display().to_string(),
        format!("../../../../../..{}", outside.path().display()),
        format!("/proc/1/root{}", outside.path().display()),
        "/proc/self/cwd".into(),
    ] {
        symlink(&link, b.rootfs().join("dev")).unwrap();
        let _ = b.run(); // refused or contained, both are fine
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{link}");
        b.assert_nothing_left();
        fs::remove_file(b.rootfs().join("dev")).unwrap();
    }
}

/// CVE-2016-9962: a process that enters the container cannot be looked into before it is the container's program.
/// The container here holds every capability over its own processes but the one to trace.
#[test]
fn root_cve_2016_9962_a_process_that_enters_shows_no_descriptor() {
    let b = Bundle::new(
        "while :; do for p in /proc/[0-9]*; do case $p in /proc/1) continue;; esac; \
         for f in $p/fd/*; do l=$(readlink $f) && case $l in socket:*|*cgroup*|*runw*|*state*) \
         echo $l >> /tmp/seen;; esac; done; done; done 2>/dev/null",
    );
    b.run_detached();
    for _ in 0..30 {
        b.exec(&["true"]).ok();
    }
    assert_eq!(fs::read_to_string(b.rootfs().join("tmp/seen")).unwrap_or_default(), "");
}
