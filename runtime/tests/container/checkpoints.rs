//! checkpoint, with the CRIU that the host has: where that cannot dump, its error is what comes.

use crate::bundle::Bundle;

#[test]
fn root_what_cannot_be_checkpointed_is_refused_before_criu_runs() {
    let b = Bundle::new("sleep 1000");
    b.write_config();
    b.call(&["checkpoint", &b.id]).fails_with("container does not exist");
    b.call(&["create", &b.id]).ok();
    b.call(&["checkpoint", &b.id]).fails_with("Container cannot be checkpointed in created state");
    b.call(&["start", &b.id]).ok();
    for (flags, text) in [
        (["--manage-cgroups-mode", "some"], "invalid manage-cgroups-mode value"),
        (["--empty-ns", "pid"], "namespace \"pid\" is not supported"),
        (["--page-server", "here"], "Use --page-server ADDRESS:PORT"),
        (["--page-server", "here:x"], "Invalid port number"),
        (["--parent-path", "/abs"], "--parent-path must be relative"),
        (["--parent-path", "missing"], "invalid --parent-path"),
        (["--status-fd", "99"], "invalid --status-fd argument 99"),
    ] {
        b.call(&[&["checkpoint"], &flags[..], &[&b.id]].concat()).fails_with(text);
    }
    assert_eq!(b.state()["status"], "running");
}

#[test]
fn root_a_failed_checkpoint_says_what_criu_says_and_leaves_the_container() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let done = b.call(&["checkpoint", "--image-path", "images", "--work-path", "work", "--shell-job", &b.id]);
    assert!(b.path().join("images/descriptors.json").exists());
    if done.code == 0 {
        // a host where CRIU works
        assert!(b.path().join("images/inventory.img").exists());
        b.assert_nothing_left();
        return;
    }
    done.fails_with("criu");
    assert_eq!(b.state()["status"], "running");
}

/// A directory that looks like a checkpoint's.
fn images(b: &Bundle) {
    std::fs::create_dir(b.path().join("images")).unwrap();
    std::fs::write(b.path().join("images/descriptors.json"), r#"["/dev/null","/dev/null","/dev/null"]"#)
        .unwrap();
}

#[test]
fn root_what_cannot_be_restored_is_refused_and_leaves_nothing() {
    let mut b = Bundle::new("sleep 1000");
    b.write_config();
    b.call(&["restore", &b.id]).fails_with("open checkpoint: No such file or directory");
    images(&b);
    for (flags, text) in [
        (["--manage-cgroups-mode", "some"], "invalid manage-cgroups-mode value"),
        (["--empty-ns", "pid"], "namespace \"pid\" is not supported"),
        (["--bundle", "/nonexistent"], "opening bundle /nonexistent"),
        (["--console-socket", "/nonexistent"], "cannot use console socket if runw will not detach"),
        // the images are none
        (["--work-path", "work"], "criu failed: type RESTORE errno"),
    ] {
        b.call(&[&["restore", "--image-path", "images"], &flags[..], &[&b.id]].concat()).fails_with(text);
        b.assert_nothing_left();
    }
    std::fs::write(b.path().join("images/descriptors.json"), r#"{"an":"object"}"#).unwrap();
    b.call(&["restore", "--image-path", "images", &b.id]).fails_with("descriptors.json");
    b.config["process"]["terminal"] = true.into();
    b.write_config();
    b.call(&["restore", "--detach", "--image-path", "images", &b.id])
        .fails_with("cannot allocate tty if runw will detach without setting console socket");
    b.config["process"]["terminal"] = false.into();
    b.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "cgroup");
    let cgroup = serde_json::json!({"type": "cgroup", "path": "/proc/self/ns/cgroup"});
    b.config["linux"]["namespaces"].as_array_mut().unwrap().push(cgroup);
    b.write_config();
    b.call(&["restore", "--image-path", "images", &b.id]).fails_with("namespace NEWCGROUP");
    b.assert_nothing_left();
}

#[test]
fn root_cve_2026_53489_links_among_the_images_lead_nowhere() {
    let b = Bundle::new("sleep 1000");
    b.write_config();
    let victim = b.path().join("victim");
    std::fs::write(&victim, "theirs").unwrap();
    // what is read, what CRIU writes its log and its statistics to, and what it reads the processes from
    for name in ["descriptors.json", "restore.log", "stats-restore", "inventory.img"] {
        images(&b);
        let link = b.path().join("images").join(name);
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        b.call(&["restore", "--image-path", "images", &b.id])
            .fails_with(&format!("images/{name} is no file: a checkpoint has only files and directories"));
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "theirs");
        std::fs::remove_dir_all(b.path().join("images")).unwrap();
    }
    b.assert_nothing_left();
}

#[test]
fn root_a_name_that_is_taken_is_not_restored_to() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    images(&b);
    b.call(&["restore", "--image-path", "images", &b.id])
        .fails_with("container with given ID already exists");
    assert_eq!(b.state()["status"], "running");
}

#[test]
fn root_without_criu_the_error_says_so() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let output = b.runw().args(["checkpoint", &b.id]).env("PATH", "/nonexistent").output().unwrap();
    crate::bundle::Ended::from(output).fails_with("running criu: No such file or directory");
    assert_eq!(b.state()["status"], "running");
}
