//! Attacks that are races: something changes between two looks at it, while containers start. Each runs many times.

use crate::bundle::{Bundle, Ended};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const ROUNDS: usize = 40;

/// Runs the container again and again while two names swap what they stand for as fast as they can.
fn swapping(b: &Bundle, one: &Path, other: &Path, mut each: impl FnMut(Ended)) {
    b.write_config();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
            }
        });
        // the swapping ends even if a look at a result panics
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..ROUNDS {
                each(b.runw().args(["run", &b.id]).output().expect("runw runs").into());
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    b.assert_nothing_left();
}

fn mount(b: &mut Bundle, destination: &str, source: &Path) {
    let mounts = b.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]}));
}

/// The image's own /dev instead of a tmpfs, with a null device.
fn own_dev(b: &mut Bundle) {
    b.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/dev");
    b.config["root"]["readonly"] = false.into();
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let null = b.rootfs().join("dev/null");
    let number = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, null, rustix::fs::FileType::CharacterDevice, mode, number).unwrap();
    for dir in ["pts", "shm", "mqueue"] {
        fs::create_dir_all(b.rootfs().join("dev").join(dir)).unwrap();
    }
}

/// CVE-2024-45310: a directory of a shared volume becomes a link to the host while a file below it is made to be a
/// mount target: runc made empty files and directories there.
#[test]
fn root_cve_2024_45310_a_swapped_parent_makes_nothing_on_the_host() {
    let outside = tempfile::tempdir().unwrap();
    let mut b = Bundle::new("true");
    let (shared, file) = (b.path().join("shared"), b.path().join("file"));
    fs::create_dir_all(shared.join("dir")).unwrap();
    fs::write(&file, "").unwrap();
    symlink(outside.path(), shared.join("link")).unwrap();
    mount(&mut b, "/shared", &shared);
    mount(&mut b, "/shared/dir/made/file", &file);
    swapping(&b, &shared.join("dir"), &shared.join("link"), |_| {
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "something was made outside");
    });
}

/// CVE-2025-31133, youki CVE-2025-62161: /dev/null changes between the device and a link to a file of procfs while
/// paths are masked with it. What masks is the device or the container does not start.
#[test]
fn root_cve_2025_31133_a_swapped_null_device_masks_with_nothing_else() {
    let mut b = Bundle::new("stat -c %t:%T /proc/keys");
    own_dev(&mut b);
    let dev = b.rootfs().join("dev");
    symlink("/proc/sys/kernel/core_pattern", dev.join("other")).unwrap();
    let before = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    swapping(&b, &dev.join("null"), &dev.join("other"), |ended| {
        if ended.code == 0 {
            assert_eq!(ended.out, "1:3\n", "masked with something else; {}", ended.err);
        }
    });
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), before);
}

/// CVE-2025-52565: /dev/console changes between a file and a link into procfs while the terminal is mounted there.
/// The files that are masked or read-only stay so, whatever the terminal lands on.
#[test]
fn root_cve_2025_52565_a_swapped_console_leaves_procfs_guarded() {
    let mut b =
        Bundle::new("stat -c %t:%T /proc/keys; echo x > /proc/sys/kernel/core_pattern && echo WRITTEN; true");
    own_dev(&mut b);
    b.config["process"]["terminal"] = true.into();
    let dev = b.rootfs().join("dev");
    fs::write(dev.join("console"), "").unwrap();
    symlink("/proc/sys/kernel/core_pattern", dev.join("other")).unwrap();
    let before = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    swapping(&b, &dev.join("console"), &dev.join("other"), |ended| {
        if ended.code == 0 {
            assert!(ended.out.contains("1:3"), "{}{}", ended.out, ended.err);
        }
    });
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), before, "the host's setting was written");
}

/// CVE-2025-52881, youki CVE-2025-62596, CVE-2019-16884: a volume's directory becomes a link into /proc while a file is
/// mounted below it, so that what the runtime writes to procfs would go to the file.
#[test]
fn root_cve_2025_52881_writes_to_procfs_cannot_be_redirected() {
    let mut b = Bundle::new("true");
    let (shared, fake) = (b.path().join("shared"), b.path().join("fake"));
    fs::create_dir_all(shared.join("dir")).unwrap();
    fs::write(shared.join("dir/ip_forward"), "").unwrap();
    fs::write(&fake, "fake\n").unwrap();
    symlink("/proc/sys/net/ipv4", shared.join("link")).unwrap();
    mount(&mut b, "/shared", &shared);
    mount(&mut b, "/shared/dir/ip_forward", &fake);
    b.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    swapping(&b, &shared.join("dir"), &shared.join("link"), |_| {
        assert_eq!(fs::read_to_string(&fake).unwrap(), "fake\n", "the runtime wrote to the container's file");
    });
}

/// CVE-2019-19921, CVE-2023-27561: /proc of the image changes between a directory and a link while it is mounted on.
/// Either the mount is the container's procfs at /proc, or the container does not start.
#[test]
fn root_cve_2019_19921_a_swapped_proc_is_procfs_or_nothing() {
    let mut b = Bundle::new("stat -f -c %t /proc; stat -c %t:%T /proc/keys");
    fs::create_dir_all(b.rootfs().join("elsewhere")).unwrap();
    symlink("/elsewhere", b.rootfs().join("other")).unwrap();
    b.config["root"]["readonly"] = false.into();
    swapping(&b, &b.rootfs().join("proc"), &b.rootfs().join("other"), |ended| {
        // the swap goes on while the program looks: what it then finds is not a procfs without its masks
        if ended.out.contains("9fa0") {
            assert!(!ended.out.contains("\n0:0"), "an unmasked procfs: {}", ended.out);
        }
    });
}
