use crate::bundle::Bundle;
use serde_json::json;

#[test]
fn root_names_and_settings_belong_to_the_container() {
    let mut b = Bundle::new(
        "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
    );
    b.config["hostname"] = "inside".into();
    b.config["domainname"] = "example.org".into();
    b.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4242"});
    assert_eq!(b.run().ok(), "inside\nexample.org\n1\n4242\n");
    assert_ne!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), "inside\n");
    assert_ne!(std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), "4242\n");
}

#[test]
fn root_loopback_is_up_in_a_new_network() {
    let b = Bundle::new("ip -o link | wc -l; ip -o addr show dev lo | grep -c 127.0.0.1");
    assert_eq!(b.run().ok(), "1\n1\n");
}

#[test]
fn root_namespaces_are_entered_by_path() {
    let other = Bundle::new("sleep 1000");
    other.run_detached();
    let pid = other.state()["pid"].to_string();
    let mut b = Bundle::new("for n in pid net ipc uts mnt; do readlink /proc/self/ns/$n; done");
    for ns in b.config["linux"]["namespaces"].as_array_mut().unwrap() {
        let file = match ns["type"].as_str().unwrap() {
            "network" => "net",
            t @ ("pid" | "ipc" | "uts") => t,
            _ => continue,
        };
        ns["path"] = format!("/proc/{pid}/ns/{file}").into();
    }
    b.config.as_object_mut().unwrap().remove("hostname");
    let out = b.run().ok();
    let link =
        |n: &str| std::fs::read_link(format!("/proc/{pid}/ns/{n}")).unwrap().to_string_lossy().into_owned();
    let got: Vec<&str> = out.lines().collect();
    assert_eq!(got[..4], [link("pid"), link("net"), link("ipc"), link("uts")].each_ref().map(String::as_str));
    assert_ne!(got[4], link("mnt"));
}

fn with_user_namespace(script: &str) -> Bundle {
    let mut b = Bundle::new(script);
    b.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    b.config["linux"]["uidMappings"] = map.clone();
    b.config["linux"]["gidMappings"] = map;
    std::os::unix::fs::chown(b.path(), Some(200_000), Some(200_000)).unwrap();
    for dir in ["", "tmp", "etc"] {
        std::os::unix::fs::chown(b.rootfs().join(dir), Some(200_000), Some(200_000)).unwrap();
    }
    b
}

#[test]
fn root_a_user_namespace_maps_root_to_nobody_of_the_host() {
    use std::os::unix::fs::MetadataExt;
    let b = with_user_namespace(
        "cat /proc/self/uid_map | tr -s ' '; id -u; touch /tmp/mine; echo x > /dev/null; stat -c %t:%T /dev/null",
    );
    assert_eq!(b.run().ok(), " 0 200000 65536\n0\n1:3\n");
    assert_eq!(std::fs::metadata(b.rootfs().join("tmp/mine")).unwrap().uid(), 200_000);
    b.assert_nothing_left();
}

#[test]
fn root_exec_enters_a_user_namespace() {
    let b = with_user_namespace("sleep 1000");
    b.run_detached();
    assert_eq!(
        b.exec(&["sh", "-c", "id -u; readlink /proc/self/ns/user /proc/1/ns/user | uniq | wc -l"])
            .out
            .lines()
            .next(),
        Some("0")
    );
    let pid = b.state()["pid"].to_string();
    let ns = b.exec(&["readlink", "/proc/self/ns/user"]).ok();
    assert_eq!(ns.trim(), std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap().to_string_lossy());
}

#[test]
fn root_a_user_namespace_enters_a_network_of_the_host() {
    let other = Bundle::new("sleep 1000");
    other.run_detached();
    let pid = other.state()["pid"].to_string();
    let mut b = with_user_namespace("readlink /proc/self/ns/net");
    let net = format!("/proc/{pid}/ns/net");
    for ns in b.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if ns["type"] == "network" {
            ns["path"] = net.clone().into();
        }
    }
    // a new sysfs needs rights over the network namespace it shows
    let mounts = b.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/sys"));
    assert_eq!(b.run().ok().trim(), std::fs::read_link(net).unwrap().to_string_lossy());
}

#[test]
fn root_a_time_namespace_shifts_the_clock() {
    let mut b = Bundle::new("cat /proc/uptime");
    b.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    b.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
    let uptime: f64 = b.run().ok().split_whitespace().next().unwrap().parse().unwrap();
    assert!(uptime > 1_000_000.0, "{uptime}");
}

#[test]
fn root_init_itself_is_in_the_time_namespace_before_it_is_started() {
    for offsets in [json!({}), json!({"monotonic": {"secs": 1000}})] {
        let mut b = Bundle::new("true");
        b.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        b.config["linux"]["timeOffsets"] = offsets;
        b.write_config();
        b.call(&["create", &b.id]).ok();
        let pid = b.state()["pid"].to_string();
        let namespace = |pid: &str, name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(namespace(&pid, "time"), namespace(&pid, "time_for_children"));
        assert_ne!(namespace(&pid, "time"), namespace("self", "time"));
    }
}

#[test]
fn root_a_user_namespace_is_entered_by_path_and_owns_what_is_new() {
    let other = with_user_namespace("sleep 1000");
    other.run_detached();
    let pid = other.state()["pid"].to_string();
    let user = format!("/proc/{pid}/ns/user");
    let mut b = with_user_namespace(
        "id -u; readlink /proc/self/ns/user; hostname inside && hostname; touch /tmp/mine",
    );
    for ns in b.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if ns["type"] == "user" {
            ns["path"] = user.clone().into();
        } else if ns["type"] == "network" {
            ns["path"] = format!("/proc/{pid}/ns/net").into();
        }
    }
    let caps = json!(["CAP_SYS_ADMIN"]);
    b.config["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
    let link = std::fs::read_link(&user).unwrap().to_string_lossy().into_owned();
    // setting the host name needs CAP_SYS_ADMIN over the new uts namespace, which so belongs to the one entered
    assert_eq!(b.run().ok(), format!("0\n{link}\ninside\n"));
    b.assert_nothing_left();
}
