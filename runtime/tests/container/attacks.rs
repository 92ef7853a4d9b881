//! The attacks that container runtimes have fallen to, each mounted for real.

use crate::bundle::{Bundle, RUNW, wait_until};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;

/// CVE-2019-5736: hold the runtime's executable through /proc/PID/exe, wait until it is not busy any more, write to it.
#[test]
fn root_cve_2019_5736_the_runtimes_executable_cannot_be_written() {
    let mut b = Bundle::new("true");
    let (held, go) = (b.path().join("held"), b.path().join("go"));
    let script = format!(
        "echo $PPID > {}.new; mv {0}.new {0}; while ! [ -e {} ]; do sleep 0.01; done",
        held.display(),
        go.display()
    );
    b.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]});
    b.write_config();
    let copy = b.copy_of(Path::new(RUNW));
    let mut runw = b.program(&copy).args(["run", &b.id]).spawn().unwrap();
    wait_until("the hook", || held.exists());
    let pid = fs::read_to_string(&held).unwrap();
    let exe = rustix::fs::open(
        format!("/proc/{}/exe", pid.trim()),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    fs::write(&go, "").unwrap();
    assert!(runw.wait().unwrap().success());
    let error =
        fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", exe.as_raw_fd())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{error}");
    assert!(fs::read(RUNW).unwrap() == fs::read(copy).unwrap());
}

/// CVE-2019-5736 from inside: a container that lies in wait for execs and tries what they run from.
#[test]
fn root_cve_2019_5736_an_exec_gives_the_container_no_hold_on_the_runtime() {
    let mut b = Bundle::new(
        "while :; do for p in /proc/[0-9]*; do case $p in /proc/1) continue;; esac; \
         l=$(readlink $p/exe) && case $l in *busybox*) ;; ?*) echo $l >> /tmp/seen;; esac; done; done 2>/dev/null",
    );
    b.config["process"]["capabilities"] = json!({});
    b.run_detached();
    for _ in 0..20 {
        b.exec(&["true"]).ok();
    }
    assert_eq!(fs::read_to_string(b.rootfs().join("tmp/seen")).unwrap_or_default(), "");
}

/// CVE-2024-21626: a working directory that is a descriptor of the runtime, and so a directory of the host.
#[test]
fn root_cve_2024_21626_no_descriptor_is_a_working_directory() {
    for fd in 0..24 {
        let mut b = Bundle::new("ls");
        b.config["process"]["cwd"] = format!("/proc/self/fd/{fd}").into();
        let ended = b.run();
        assert_ne!(ended.code, 0, "fd {fd}: {}", ended.out);
        assert_eq!(ended.out, "");
        b.assert_nothing_left();
    }
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    for fd in 0..24 {
        let ended = b.call(&["exec", "--cwd", &format!("/proc/self/fd/{fd}"), &b.id, "ls"]);
        assert_ne!(ended.code, 0, "fd {fd}: {}", ended.out);
    }
    // the variant through a link of the image
    symlink("/proc/self/fd/7/../..", b.rootfs().join("link")).unwrap();
    assert_ne!(b.call(&["exec", "--cwd", "/link", &b.id, "ls"]).code, 0);
}

/// CVE-2016-9962 and CVE-2024-21626: nothing that the runtime or its caller had open reaches the container.
#[test]
fn root_cve_2016_9962_no_descriptor_leaks() {
    let list = "for f in /proc/self/fd/*; do readlink $f; done | grep -v '^/proc/[0-9]*/fd$' | wc -l; ls /proc/self/fd | wc -l";
    let b = Bundle::new(list);
    b.write_config();
    let secret = fs::File::open("/etc").unwrap();
    wharf_sys::fds::keep_on_exec(secret.as_raw_fd()).unwrap();
    // three streams, and the descriptor with which ls reads the directory
    let out = b.run().ok();
    assert!(out.ends_with("\n4\n"), "{out}");
    let b = Bundle::new("ls -l /proc/1/fd | wc -l; sleep 1000");
    b.run_detached();
    assert_eq!(b.exec(&["sh", "-c", "ls /proc/self/fd | wc -l; ls /proc/1/fd | wc -l"]).ok(), "4\n3\n");
}

#[test]
fn root_preserved_descriptors_arrive_and_others_do_not() {
    let b = Bundle::new("ls /proc/self/fd | tr '\\n' ' '; cat <&3");
    b.write_config();
    let file = b.path().join("data");
    fs::write(&file, "data").unwrap();
    let script = format!(
        "exec 3<{} 4</etc 5</; exec {RUNW} --root {} run --preserve-fds 1 {}",
        file.display(),
        b.state_root().display(),
        b.id
    );
    let out =
        std::process::Command::new("/bin/sh").args(["-c", &script]).current_dir(b.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "0 1 2 3 4 data");
}

#[test]
fn root_listening_sockets_of_systemd_arrive() {
    let b = Bundle::new("echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4");
    b.write_config();
    let file = |name: &str| {
        let path = b.path().join(name);
        fs::write(&path, format!("{name}\n")).unwrap();
        path.display().to_string()
    };
    let script = format!(
        "exec 3<{} 4<{}; LISTEN_FDS=1 LISTEN_PID=$$ exec {RUNW} --root {} run --preserve-fds 1 {}",
        file("first"),
        file("second"),
        b.state_root().display(),
        b.id
    );
    let out =
        std::process::Command::new("/bin/sh").args(["-c", &script]).current_dir(b.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "1 1\nfirst\nsecond\n");
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: an image whose /proc (or /sys, /dev) is a link.
#[test]
fn root_cve_2019_19921_symlinked_proc_sys_and_dev_are_refused() {
    for dir in ["proc", "sys", "dev"] {
        let b = Bundle::new("true");
        fs::create_dir(b.rootfs().join("elsewhere")).unwrap();
        fs::remove_dir(b.rootfs().join(dir)).unwrap();
        symlink("/elsewhere", b.rootfs().join(dir)).unwrap();
        b.run().fails_with("is a symlink in the image").fails_with(&format!("/{dir}"));
        b.assert_nothing_left();
    }
}

/// CVE-2025-31133: /dev/null of the image is a link to something worth having, to be bound over masked paths.
#[test]
fn root_cve_2025_31133_masks_are_only_made_of_the_null_device() {
    for (target, is_link) in [("/proc/sys/kernel/core_pattern", true), ("", false)] {
        let mut b = Bundle::new("cat /proc/keys");
        let null = b.rootfs().join("dev/null");
        if is_link {
            symlink(target, null).unwrap();
        } else {
            fs::write(null, "").unwrap();
        }
        // without a tmpfs at /dev the image's own is used
        b.config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        b.run().fails_with("/dev/null");
        b.assert_nothing_left();
    }
}

/// CVE-2025-52565: a console that is not a terminal of the container's devpts.
#[test]
fn root_cve_2025_52565_the_console_comes_from_devpts_only() {
    let mut b = Bundle::new("true");
    b.config["process"]["terminal"] = true.into();
    fs::create_dir_all(b.rootfs().join("dev/pts")).unwrap();
    b.config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|m| m["destination"] != "/dev/pts" && m["destination"] != "/dev");
    fs::write(b.rootfs().join("dev/pts/ptmx"), "").unwrap();
    b.run().fails_with("devpts");
    b.assert_nothing_left();
}

/// CVE-2021-30465 and its like: mount targets that lead out of the root.
#[test]
fn root_cve_2021_30465_mount_targets_stay_inside_the_root() {
    let outside = tempfile::tempdir().unwrap();
    for (link, target) in [
        (outside.path().display().to_string(), "/out"),
        (format!("../../../../../../../..{}", outside.path().display()), "/out"),
        (format!("/proc/1/root{}", outside.path().display()), "/out"),
    ] {
        let mut b = Bundle::new("true");
        symlink(link, b.rootfs().join("out")).unwrap();
        let mounts = b.config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": format!("{target}/made"), "type": "tmpfs", "source": "tmpfs"}));
        let _ = b.run(); // refused or contained, both are fine
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        b.assert_nothing_left();
    }
}

/// CVE-2021-30465 as a race: the target changes between a directory and a link to the host while containers start.
#[test]
fn root_cve_2021_30465_a_target_that_changes_while_it_is_used_stays_inside() {
    let outside = tempfile::tempdir().unwrap();
    let mut b = Bundle::new("true");
    let shared = b.path().join("shared");
    fs::create_dir_all(shared.join("dir")).unwrap();
    symlink(outside.path(), shared.join("link")).unwrap();
    let mounts = b.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/shared", "type": "bind", "source": &shared, "options": ["bind"]}));
    mounts.push(json!({"destination": "/shared/dir/made/deep", "type": "tmpfs", "source": "tmpfs"}));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let cwd = rustix::fs::CWD;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(cwd, shared.join("dir"), cwd, shared.join("link"), flags);
            }
        });
        for _ in 0..40 {
            let _ = b.run();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "something was made outside");
    b.assert_nothing_left();
}

/// CVE-2019-16884, CVE-2025-52881: a volume over files of /proc that the runtime writes labels and settings to.
#[test]
fn root_cve_2019_16884_nothing_is_mounted_over_proc_files() {
    for target in ["/proc/self/attr", "/proc/sys/kernel", "/proc/1"] {
        let mut b = Bundle::new("true");
        let fake = b.path().join("fake");
        fs::create_dir(&fake).unwrap();
        let mounts = b.config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": target, "type": "bind", "source": &fake, "options": ["bind"]}));
        b.run().fails_with("inside /proc");
        b.assert_nothing_left();
    }
}

/// CVE-2025-52881: a link at /proc through which the mount check above would be passed by.
#[test]
fn root_cve_2025_52881_settings_are_written_to_the_kernel_only() {
    let mut b = Bundle::new("cat /proc/sys/net/ipv4/ip_forward");
    // what the container sees at that file is a file of the image, mounted by way of a link
    let fake = b.path().join("fake");
    fs::File::create(&fake).unwrap().write_all(b"fake\n").unwrap();
    symlink("/proc/sys/net/ipv4/ip_forward", b.rootfs().join("innocent")).unwrap();
    let mounts = b.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/innocent", "type": "bind", "source": &fake, "options": ["bind"]}));
    b.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    let _ = b.run();
    assert_eq!(fs::read_to_string(&fake).unwrap(), "fake\n", "the runtime wrote to a file of the container");
}

/// CVE-2022-0492, CVE-2022-24769: nothing in a default container's hands that its user was not given.
#[test]
fn root_the_container_cannot_see_or_leave_its_root_through_proc() {
    let b = Bundle::new("ls /proc/1/root | tr '\\n' ' '; ls /proc/1/cwd | tr '\\n' ' '");
    assert_eq!(b.run().ok().trim(), "bin dev etc proc sys tmp bin dev etc proc sys tmp");
    assert!(Path::new("/etc/passwd").exists());
}
