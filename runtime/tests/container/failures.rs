//! Whatever fails, the error says where and nothing is left.

use crate::bundle::{Bundle, wait_until};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;

#[track_caller]
fn refused(change: impl FnOnce(&mut Bundle), text: &str) {
    let mut b = Bundle::new("true");
    change(&mut b);
    b.write_config();
    b.call(&["create", &b.id]).fails_with(text);
    b.assert_nothing_left();
}

#[test]
fn root_bad_configs_are_refused_by_field() {
    refused(|b| b.config["process"]["cwd"] = "x".into(), "process.cwd");
    refused(|b| b.config["process"]["args"] = json!([]), "process.args");
    refused(|b| b.config["ociVersion"] = "3.0.0".into(), "ociVersion");
    refused(|b| b.config["linux"]["namespaces"][0]["type"] = "bogus".into(), "linux.namespaces[0].type");
    refused(|b| b.config["process"]["apparmorProfile"] = "p".into(), "process.apparmorProfile");
    refused(|b| b.config["root"]["path"] = "missing".into(), "missing");
    refused(|b| b.config["linux"]["namespaces"][1]["path"] = "/no/such".into(), "linux.namespaces[1].path");
}

#[test]
fn root_a_config_that_is_no_json_is_named() {
    let b = Bundle::new("true");
    b.call(&["create", &b.id]).fails_with("config.json");
    std::fs::write(b.path().join("config.json"), "{\"process\": {\"args\": [1]}}").unwrap();
    b.call(&["create", &b.id]).fails_with("process.args[0]");
    b.assert_nothing_left();
}

#[test]
fn root_failures_inside_name_their_step() {
    let no_program = |b: &mut Bundle| b.config["process"]["args"] = json!(["no-such"]);
    refused(no_program, "exec: \"no-such\": executable file not found in $PATH");
    refused(|b| b.config["process"]["args"] = json!(["/bin"]), "exec: \"/bin\": ");
    let bad_mount = |b: &mut Bundle| {
        b.config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": "/x", "type": "nosuchfs", "source": "x"}));
    };
    refused(bad_mount, "mounts[7]");
    let bad_source = |b: &mut Bundle| {
        let bind = json!({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]});
        b.config["mounts"].as_array_mut().unwrap().push(bind);
    };
    refused(bad_source, "/no/such");
    refused(|b| b.config["linux"]["resources"]["pids"] = json!({"limit": 5_000_000_000_i64}), "pids");
}

#[test]
fn root_a_cgroup_that_cannot_be_made_in_every_hierarchy_leaves_none() {
    // a file of every version 1 hierarchy, where version 2 has none of that name, or of version 2 alone
    let alone = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let file = if alone { "cgroup.procs" } else { "tasks" };
    let blocked = |b: &mut Bundle| {
        b.config["linux"]["cgroupsPath"] = format!("/runw-test-{}/{file}/leaf", b.id).into();
    };
    refused(blocked, &format!("{file}/leaf"));
}

#[test]
fn root_an_id_cannot_be_a_path() {
    let b = Bundle::new("true");
    b.write_config();
    for id in ["a/b", "..", "a b"] {
        b.call(&["create", id]).fails_with("invalid container ID format");
    }
}

#[test]
fn root_init_does_not_outlive_a_runtime_that_is_killed() {
    let mut b = Bundle::new("sleep 1000");
    // the hook's parent is runw, in the middle of create
    let pids = b.path().join("pids");
    let script = format!("cat > {}; kill -9 $PPID", pids.display());
    b.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    b.write_config();
    assert_eq!(b.call(&["create", &b.id]).code, -1);
    let state: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(pids).unwrap()).unwrap();
    let proc = format!("/proc/{}/stat", state["pid"]);
    wait_until("the end of init", || std::fs::read_to_string(&proc).map_or(true, |s| s.contains(") Z ")));
    b.call(&["delete", "--force", &b.id]).ok();
    b.assert_nothing_left();
}

#[test]
fn root_a_create_killed_at_any_moment_is_swept_by_delete() {
    let b = Bundle::new("sleep 1000");
    b.write_config();
    // a whole create takes some ten milliseconds; these moments are spread over it and past it
    for moment in 0..40 {
        let mut runw = b.runw().args(["create", &b.id]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(moment * 600));
        runw.kill().unwrap();
        runw.wait().unwrap();
        b.call(&["delete", "--force", &b.id]).ok();
        b.assert_nothing_left();
    }
}

#[test]
fn root_a_create_under_way_and_a_forced_delete_leave_nothing() {
    let b = Bundle::new("sleep 1000");
    b.write_config();
    for moment in 0..40 {
        let mut create = b.runw().args(["create", &b.id]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(moment * 400));
        // two, as when a daemon that cleans up dies and the next one cleans up again
        let mut other = b.runw().args(["delete", "--force", &b.id]).spawn().unwrap();
        b.call(&["delete", "--force", &b.id]).ok();
        assert!(other.wait().unwrap().success());
        create.wait().unwrap();
        // the create may have begun after both
        b.call(&["delete", "--force", &b.id]).ok();
        b.assert_nothing_left();
    }
}

#[test]
fn root_a_create_that_waits_for_a_hook_ends_with_a_forced_delete() {
    let mut b = Bundle::new("sleep 1000");
    let (reached, go) = (b.path().join("reached"), b.path().join("go"));
    let script = format!("touch {}; while [ ! -e {} ]; do sleep 0.01; done", reached.display(), go.display());
    b.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    b.write_config();
    let mut create = b.runw().args(["create", &b.id]).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the hook", || reached.exists());
    let mut delete = b.runw().args(["delete", "--force", &b.id]).spawn().unwrap();
    // the delete kills init, and waits for the create to take the rest back
    wait_until("the end of init", || {
        b.cgroups()
            .iter()
            .all(|c| std::fs::read_to_string(c.join("cgroup.procs")).is_ok_and(|p| p.is_empty()))
    });
    assert!(delete.try_wait().unwrap().is_none(), "delete went on beside the create");
    std::fs::write(go, "").unwrap();
    assert!(delete.wait().unwrap().success());
    assert!(!create.wait().unwrap().success());
    b.assert_nothing_left();
}

#[test]
fn root_a_container_whose_cgroup_stays_can_be_deleted_again() {
    let b = Bundle::new("true");
    b.run_detached();
    b.wait_for_status("stopped");
    let cgroups = b.cgroups();
    // where there are several hierarchies, a process of another's in one of them is not found and not killed
    let several = cgroups.len() > 1;
    let busy = cgroups.iter().find(|c| !c.to_string_lossy().contains("freezer")).unwrap().join("busy");
    std::fs::create_dir(&busy).unwrap();
    let mut guest = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let placed = std::fs::write(busy.join("cgroup.procs"), guest.id().to_string());
    let tried = b.call(&["delete", &b.id]);
    let kept = b.state_root().join(&b.id).exists();
    let _ = guest.kill();
    guest.wait().unwrap();
    placed.unwrap();
    assert_eq!((tried.code != 0, kept), (several, several), "{}", tried.err);
    b.call(&["delete", "--force", &b.id]).ok();
    b.assert_nothing_left();
}

#[test]
fn root_what_init_says_is_introduced_as_runc_does() {
    let mut b = Bundle::new("true");
    b.config["process"]["args"] = json!(["/no/such"]);
    b.run().fails_with(
        "unable to start container process: error during container init: exec: \"/no/such\": stat /no/such: \
         no such file or directory",
    );
    b.config["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]});
    b.run().fails_with(
        "unable to start container process: error during container init: error running createRuntime hook #0",
    );
    b.assert_nothing_left();
}

#[test]
fn root_an_init_that_dies_in_create_is_an_error_naming_the_step_and_leaves_nothing() {
    // the runtime tells each hook of init's pid, and waits for the hook: it dies at that very step
    let kill = "kill -9 $(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')";
    for hook in ["prestart", "createRuntime"] {
        let mut b = Bundle::new("true");
        b.config["hooks"] = json!({hook: [{"path": "/bin/sh", "args": ["sh", "-c", kill]}]});
        b.write_config();
        let ended = b.call(&["create", &b.id]);
        assert!(ended.err.contains("ended before the step"), "{hook}: {}", ended.err);
        ended.fails_with("unable to start container process");
        b.assert_nothing_left();
    }
}

#[test]
fn root_an_init_killed_at_any_moment_of_create_leaves_nothing() {
    let b = Bundle::new("sleep 1000");
    b.write_config();
    let mut failed = 0;
    for moment in 0..30 {
        let mut create = b.runw().args(["create", &b.id]).stderr(Stdio::null()).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", create.id());
        let init = || std::fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok();
        let init = loop {
            match init() {
                Some(pid) => break rustix::process::Pid::from_raw(pid),
                None if create.try_wait().unwrap().is_some() => break None,
                None => {}
            }
        };
        std::thread::sleep(std::time::Duration::from_micros(moment * 300));
        if let Some(init) = init {
            // only while the runtime waits for it can the number be nobody else's
            let _ = rustix::process::kill_process(init, rustix::process::Signal::KILL);
        }
        if create.wait().unwrap().success() {
            b.call(&["delete", "--force", &b.id]).ok();
        } else {
            failed += 1;
        }
        b.assert_nothing_left();
    }
    assert!(failed > 0, "init was never killed in time");
}

#[test]
fn root_a_frozen_cgroup_is_refused_and_left_alone() {
    let b = Bundle::new("true");
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let (folder, file, words) = if unified {
        ("/sys/fs/cgroup", "cgroup.freeze", ["1", "0"])
    } else {
        ("/sys/fs/cgroup/freezer", "freezer.state", ["FROZEN", "THAWED"])
    };
    let cgroup = Path::new(folder).join(format!("runw-test-{}", b.id));
    std::fs::create_dir(&cgroup).unwrap();
    std::fs::write(cgroup.join(file), words[0]).unwrap();
    b.write_config();
    let ended = b.call(&["create", &b.id]);
    let is_left = cgroup.exists();
    if is_left {
        std::fs::write(cgroup.join(file), words[1]).unwrap();
        std::fs::remove_dir(&cgroup).unwrap();
    }
    ended.fails_with("container's cgroup unexpectedly frozen");
    assert!(is_left, "removed, though somebody else made it");
    b.assert_nothing_left();
}
