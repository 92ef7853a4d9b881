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

#[test]
fn root_without_criu_the_error_says_so() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let output = b.runw().args(["checkpoint", &b.id]).env("PATH", "/nonexistent").output().unwrap();
    crate::bundle::Ended::from(output).fails_with("running criu: No such file or directory");
    assert_eq!(b.state()["status"], "running");
}
