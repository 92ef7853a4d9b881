use crate::bundle::Bundle;
use serde_json::{Value, json};

fn hook(script: &str) -> Value {
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
}

#[test]
fn root_hooks_run_in_their_order_with_the_state() {
    let mut b = Bundle::new("echo program >> /tmp/order");
    let log = b.rootfs().join("tmp/order").display().to_string();
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        b.config["hooks"][kind] =
            hook(&format!("echo {kind} $(cat | grep -o '\"status\":\"[a-z]*\"') >> {log}"));
    }
    // runs inside the container, with the image's programs
    b.config["hooks"]["startContainer"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo startContainer >> /tmp/order"]}]);
    b.write_config();
    b.call(&["create", &b.id]).ok();
    let read = || std::fs::read_to_string(b.rootfs().join("tmp/order")).unwrap();
    let creating = "\"status\":\"creating\"";
    assert_eq!(
        read(),
        format!("prestart {creating}\ncreateRuntime {creating}\ncreateContainer {creating}\n")
    );
    b.call(&["start", &b.id]).ok();
    b.wait_for_status("stopped");
    assert!(read().contains("poststart \"status\":\"running\""));
    b.call(&["delete", &b.id]).ok();
    let all = read();
    let at = |t: &str| all.find(t).unwrap_or_else(|| panic!("{t} is not in {all}"));
    assert!(at("createContainer") < at("startContainer") && at("startContainer") < at("program"));
    assert!(all.ends_with("poststop \"status\":\"stopped\"\n"), "{all}");
}

#[test]
fn root_a_start_container_hook_without_an_environment_has_that_of_the_process() {
    for (env, expected) in [(None, "one\n"), (Some(json!(["OTHER=1"])), "\n")] {
        let mut b = Bundle::new("cat /tmp/seen");
        b.config["process"]["env"] = json!(["PATH=/bin", "ONE=one"]);
        let mut hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo $ONE > /tmp/seen"]});
        if let Some(env) = env {
            hook["env"] = env;
        }
        b.config["hooks"]["startContainer"] = json!([hook]);
        assert_eq!(b.run().ok(), expected);
    }
}

#[test]
fn root_a_failing_hook_ends_the_creation_and_leaves_nothing() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut b = Bundle::new("true");
        b.config["hooks"][kind] = hook("echo because >&2; exit 1");
        b.run().fails_with(&format!("{kind} hook #0")).fails_with("because");
        b.assert_nothing_left();
    }
}

#[test]
fn root_a_failing_poststart_hook_ends_the_container() {
    let mut b = Bundle::new("sleep 1000");
    b.config["hooks"]["poststart"] = hook("echo because >&2; exit 1");
    b.run().fails_with("poststart hook #0").fails_with("exit status 1, stdout: , stderr: because");
    b.assert_nothing_left();
    b.call(&["create", &b.id]).ok();
    b.call(&["start", &b.id]).fails_with("poststart hook #0");
    b.wait_for_status("stopped");
}

#[test]
fn root_a_hook_past_its_timeout_ends_the_creation() {
    let mut b = Bundle::new("true");
    b.config["hooks"]["createRuntime"] =
        json!([{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]);
    b.run().fails_with("timeout");
    b.assert_nothing_left();
}

#[test]
fn root_a_failing_poststop_hook_does_not_keep_the_container() {
    let mut b = Bundle::new("true");
    b.config["hooks"]["poststop"] = hook("exit 1");
    let ended = b.run();
    assert_eq!(ended.code, 0);
    assert!(ended.err.contains("poststop hook #0"), "{}", ended.err);
    b.assert_nothing_left();
}

/// Hooks of GPUs and the like mount by host paths below the root filesystem, from within the container's mount namespace.
#[test]
fn root_hooks_mount_into_the_container_by_the_path_of_its_root() {
    let mut b = Bundle::new("cat /etc/from-runtime /etc/from-container");
    std::fs::write(b.path().join("one"), "one\n").unwrap();
    std::fs::write(b.path().join("two"), "two\n").unwrap();
    for f in ["etc/from-runtime", "etc/from-container"] {
        std::fs::write(b.rootfs().join(f), "").unwrap();
    }
    let here = b.path().display().to_string();
    let enter = format!(
        "pid=$(tr , '\\n' | grep -m1 '\"pid\"' | tr -dc 0-9); \
         exec nsenter -m -t $pid mount --bind {here}/one {here}/rootfs/etc/from-runtime"
    );
    let inside = format!("mount --bind {here}/two ./etc/from-container");
    b.config["hooks"] = json!({"createRuntime": hook(&enter), "createContainer": hook(&inside)});
    assert_eq!(b.run().ok(), "one\ntwo\n");
    b.assert_nothing_left();
}
