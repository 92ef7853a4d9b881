use crate::bundle::Bundle;
use serde_json::json;

fn forbids_mkdir(no_new_privileges: bool) -> Bundle {
    let mut b = Bundle::new("mkdir /tmp/d 2>&1; grep ^Seccomp: /proc/self/status; echo done");
    b.config["process"]["noNewPrivileges"] = no_new_privileges.into();
    b.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]
    });
    b
}

#[test]
fn root_a_filter_applies_to_the_program() {
    for no_new_privileges in [true, false] {
        let b = forbids_mkdir(no_new_privileges);
        let out = b.run().ok();
        assert!(out.contains("not supported"), "{out}");
        assert!(out.contains("Seccomp:\t2\ndone\n"), "{out}");
    }
}

#[test]
fn root_a_filter_applies_to_execs() {
    let mut b = forbids_mkdir(true);
    b.config["process"]["args"] = json!(["sleep", "1000"]);
    b.run_detached();
    let ended = b.exec(&["mkdir", "/tmp/d"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("not supported"), "{}", ended.err);
}
