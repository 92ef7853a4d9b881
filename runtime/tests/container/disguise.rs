//! Targets below /proc under another name: a symlink of the image, or a procfs bound elsewhere.

use crate::bundle::Bundle;
use serde_json::json;
use std::os::unix::fs::symlink;

fn add_mount(b: &mut Bundle, mount: serde_json::Value) {
    b.config["mounts"].as_array_mut().unwrap().push(mount);
}

#[test]
fn root_a_symlink_of_the_image_is_no_way_to_mount_over_procfs() {
    for (link, to, target) in [
        ("data", "/proc", "/data"),
        ("data", "/proc", "/data/sys"),
        ("data", "proc/self", "/data/attr"),
        ("data", "/tmp/../proc/sys/kernel", "/data"),
        ("data", "/sys", "/data"),
        ("data", "/sys/kernel", "/data"),
    ] {
        let mut b = Bundle::new("true");
        symlink(to, b.rootfs().join(link)).unwrap();
        add_mount(&mut b, json!({"destination": target, "type": "tmpfs", "source": "tmpfs"}));
        b.run().fails_with("cannot be mounted because it leads into /");
        b.assert_nothing_left();
    }
}

#[test]
fn root_the_bare_mount_point_of_proc_counts_as_proc() {
    let mut b = Bundle::new("true");
    symlink("/proc", b.rootfs().join("data")).unwrap();
    let source = b.path().to_owned();
    // before anything is mounted at /proc
    b.config["mounts"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind"]}));
    b.run().fails_with("leads into /proc");
    b.assert_nothing_left();
}

#[test]
fn root_a_second_procfs_is_no_way_in_either() {
    let mut b = Bundle::new("true");
    add_mount(
        &mut b,
        json!({"destination": "/host/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}),
    );
    add_mount(&mut b, json!({"destination": "/host/proc/sys", "type": "tmpfs", "source": "tmpfs"}));
    b.run().fails_with("leads into /proc");
    b.assert_nothing_left();
}

#[test]
fn root_other_symlinks_and_mounts_below_sys_go_on_working() {
    let mut b = Bundle::new("ls /real; ls /sys/firmware | wc -l");
    symlink("/real", b.rootfs().join("data")).unwrap();
    std::fs::write(b.path().join("file"), "").unwrap();
    let source = b.path().join("rootfs/etc");
    std::fs::write(source.join("seen"), "").unwrap();
    add_mount(
        &mut b,
        json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind", "ro"]}),
    );
    add_mount(
        &mut b,
        json!({"destination": "/sys/firmware", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}),
    );
    assert_eq!(b.run().ok(), "seen\n0\n");
}
