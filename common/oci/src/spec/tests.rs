use std::path::Path;

use super::*;
use crate::devices::Device;
use crate::mounts::Mount;
use crate::request::Namespaces;
use crate::resources::Resources;
use crate::user::Ids;

fn host() -> Host {
    Host {
        kernel: (6, 1),
        capabilities: caps::ALL.iter().map(|s| (*s).to_owned()).collect(),
        seccomp: true,
        ping_group_range: true,
        unprivileged_port_start: true,
        recursive_read_only: false,
        masked_paths: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".into()],
    }
}

fn request() -> Request {
    Request {
        args: vec!["true".into()],
        hostname: "h".into(),
        root: "rootfs".into(),
        cgroups_path: "/wharf/c1".into(),
        ..Request::default()
    }
}

fn spec(request: &Request) -> Spec {
    build(request, &host()).unwrap()
}

fn kinds(spec: &Spec) -> Vec<LinuxNamespaceType> {
    let all = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
    all.iter().map(LinuxNamespace::typ).collect()
}

fn names(set: &Option<std::collections::HashSet<Capability>>) -> Vec<String> {
    let mut out: Vec<String> =
        set.iter().flatten().map(|c| serde_json::to_value(c).unwrap().as_str().unwrap().into()).collect();
    out.sort();
    out
}

#[test]
fn a_plain_container_has_dockers_defaults() {
    let s = spec(&request());
    let p = s.process().as_ref().unwrap();
    let linux = s.linux().as_ref().unwrap();
    let sets = p.capabilities().as_ref().unwrap();
    let mut want: Vec<String> = caps::DEFAULT.iter().map(|c| (*c).to_owned()).collect();
    want.sort();
    assert_eq!(names(sets.bounding()), want);
    assert_eq!((names(sets.effective()), names(sets.permitted())), (want.clone(), want));
    assert!(sets.inheritable().is_none() && sets.ambient().is_none(), "CVE-2022-24769");
    assert_eq!(p.no_new_privileges(), Some(false));
    assert_eq!(p.cwd(), Path::new("/"));
    assert_eq!(p.user().additional_gids().as_deref(), Some(&[0][..]));
    use LinuxNamespaceType as T;
    assert_eq!(kinds(&s), [T::Mount, T::Network, T::Uts, T::Pid, T::Ipc, T::Cgroup]);
    let masked = linux.masked_paths().as_ref().unwrap();
    assert_eq!((masked.len(), linux.readonly_paths().as_ref().unwrap().len()), (13, 5));
    assert!(linux.seccomp().is_some());
    let sysctl = linux.sysctl().as_ref().unwrap();
    assert_eq!(sysctl["net.ipv4.ip_unprivileged_port_start"], "0");
    let rules = linux.resources().as_ref().unwrap().devices().clone().unwrap();
    assert!(!rules[0].allow() && rules[0].major().is_none());
    assert_eq!(s.hooks(), &None);
}

#[test]
fn the_spec_survives_its_json() {
    let s = spec(&request());
    let json = serde_json::to_string(&s).unwrap();
    assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), s);
    assert!(!json.contains("\"hooks\"") && !json.contains("inheritable"), "{json}");
}

#[test]
fn privileged_lifts_what_docker_lifts() {
    let device = Device {
        path: "/dev/sda".into(),
        block: true,
        major: 8,
        minor: 0,
        mode: 0o660,
        uid: 0,
        gid: 6,
        access: "rwm".into(),
    };
    let s = spec(&Request { privileged: true, devices: vec![device], ..request() });
    let linux = s.linux().as_ref().unwrap();
    assert!(linux.seccomp().is_none());
    assert_eq!(linux.masked_paths().as_deref(), Some(&[][..]));
    assert_eq!(linux.readonly_paths().as_deref(), Some(&[][..]));
    let last = linux.resources().as_ref().unwrap().devices().as_ref().unwrap().last().unwrap().clone();
    assert!(last.allow() && last.typ().is_none() && last.major().is_none());
    assert_eq!(names(s.process().as_ref().unwrap().capabilities().as_ref().unwrap().bounding()).len(), 41);
    assert_eq!(linux.devices().as_ref().unwrap()[0].path(), Path::new("/dev/sda"));
    let sys =
        s.mounts().as_ref().unwrap().iter().find(|m| m.destination() == Path::new("/sys")).unwrap().clone();
    assert!(!sys.options().as_ref().unwrap().contains(&"ro".to_owned()));
}

#[test]
fn a_privileged_container_keeps_a_profile_that_was_asked_for() {
    let profile = SeccompChoice::Profile(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.into());
    let s = spec(&Request { privileged: true, seccomp: profile, ..request() });
    assert!(s.linux().as_ref().unwrap().seccomp().is_some());
    let s = spec(&Request { seccomp: SeccompChoice::Unconfined, ..request() });
    assert!(s.linux().as_ref().unwrap().seccomp().is_none());
}

#[test]
fn without_seccomp_in_the_kernel_only_a_custom_profile_is_an_error() {
    let host = Host { seccomp: false, ..host() };
    assert!(build(&request(), &host).unwrap().linux().as_ref().unwrap().seccomp().is_none());
    let custom = Request { seccomp: SeccompChoice::Profile("{}".into()), ..request() };
    assert!(matches!(build(&custom, &host), Err(SpecError::NoSeccomp)));
}

#[test]
fn joined_and_host_namespaces() {
    let namespaces = Namespaces {
        network: Join::Path("/proc/7/ns/net".into()),
        pid: Join::Host,
        uts: Join::Host,
        cgroup: Join::Host,
        ..Namespaces::default()
    };
    let s = spec(&Request { namespaces, init: Some("/init".into()), ..request() });
    use LinuxNamespaceType as T;
    assert_eq!(kinds(&s), [T::Mount, T::Network, T::Ipc]);
    let linux = s.linux().as_ref().unwrap();
    let net = linux.namespaces().as_ref().unwrap()[1].path().clone();
    assert_eq!(net.as_deref(), Some(Path::new("/proc/7/ns/net")));
    assert!(linux.sysctl().is_none(), "another's network keeps its settings");
    assert_eq!(s.hostname(), &None);
    assert_eq!(
        s.process().as_ref().unwrap().args().as_ref().unwrap().len(),
        1,
        "no init without an own PID namespace"
    );
}

#[test]
fn an_init_goes_before_the_command() {
    let s = spec(&Request { init: Some("/usr/bin/tini".into()), ..request() });
    assert_eq!(
        s.process().as_ref().unwrap().args().as_ref().unwrap()[..3],
        ["/sbin/docker-init", "--", "true"]
    );
    let m = s.mounts().as_ref().unwrap().last().unwrap().clone();
    assert_eq!(m.source().as_deref(), Some(Path::new("/usr/bin/tini")));
}

#[test]
fn a_user_namespace_has_its_maps_and_no_ping_groups() {
    let user = Some(IdMaps { uids: vec![(0, 100_000, 65_536)], gids: vec![(0, 100_000, 65_536)] });
    let s = spec(&Request { namespaces: Namespaces { user, ..Namespaces::default() }, ..request() });
    let linux = s.linux().as_ref().unwrap();
    assert_eq!(linux.uid_mappings().as_ref().unwrap()[0].host_id(), 100_000);
    assert!(kinds(&s).contains(&LinuxNamespaceType::User));
    assert!(!linux.sysctl().as_ref().unwrap().contains_key("net.ipv4.ping_group_range"));
}

#[test]
fn ids_limits_and_labels_reach_the_process() {
    let s = spec(&Request {
        user: Ids { uid: 5, gid: 6, additional_gids: vec![7], home: None },
        ulimits: vec![Ulimit { name: "nofile".into(), soft: 10, hard: -1 }],
        oom_score_adj: Some(500),
        terminal: true,
        console_size: Some((24, 80)),
        no_new_privileges: true,
        resources: Resources { memory: 1 << 20, ..Resources::default() },
        mounts: vec![Mount::Tmpfs { destination: "/t".into(), options: String::new() }],
        ..request()
    });
    let p = s.process().as_ref().unwrap();
    assert_eq!((p.user().uid(), p.user().gid()), (5, 6));
    assert_eq!(p.user().additional_gids().as_deref(), Some(&[6, 7][..]));
    let limit = p.rlimits().as_ref().unwrap()[0];
    assert_eq!((limit.typ(), limit.soft(), limit.hard()), (PosixRlimitType::RlimitNofile, 10, u64::MAX));
    assert_eq!((p.oom_score_adj(), p.no_new_privileges()), (Some(500), Some(true)));
    let size = p.console_size().unwrap();
    assert_eq!((size.height(), size.width()), (24, 80));
    assert_eq!(
        s.linux().as_ref().unwrap().resources().as_ref().unwrap().memory().unwrap().limit(),
        Some(1 << 20)
    );
}

#[test]
fn contradictions_are_refused() {
    let bad = |r: Request| build(&r, &host()).unwrap_err();
    assert!(matches!(bad(Request { args: vec![], ..request() }), SpecError::NoCommand));
    for (name, soft, hard) in [("nofile", 5, 4), ("nofile", -2, 4), ("fly", 1, 1)] {
        let ulimits = vec![Ulimit { name: name.into(), soft, hard }];
        assert!(matches!(bad(Request { ulimits, ..request() }), SpecError::Ulimit { .. }));
    }
    let rules = vec!["c 1".to_owned()];
    assert!(matches!(bad(Request { device_cgroup_rules: rules, ..request() }), SpecError::DeviceRule(_)));
    let e = bad(Request { cap_add: vec!["fly".into()], ..request() });
    assert_eq!(
        (e.to_string().as_str(), e.kind()),
        ("unknown capability: \"CAP_FLY\"", wharf_kinds::Kind::InvalidArgument)
    );
}

#[test]
fn an_exec_inherits_from_the_container() {
    let s = spec(&Request { env: vec!["A=1".into(), "B=2".into()], cwd: "/w".into(), ..request() });
    let exec = Exec {
        args: vec!["sh".into()],
        env: vec!["A=3".into(), "B".into()],
        terminal: true,
        ..Exec::default()
    };
    let p = exec_process(s.process().as_ref().unwrap(), &exec, &host()).unwrap();
    assert_eq!(p.env().as_deref(), Some(&["TERM=xterm".to_owned(), "A=3".to_owned()][..]));
    assert_eq!((p.cwd(), p.terminal()), (&std::path::PathBuf::from("/w"), Some(true)));
    assert_eq!(p.capabilities(), s.process().as_ref().unwrap().capabilities());
    let p = exec_process(&p, &Exec { privileged: true, args: vec!["sh".into()], ..Exec::default() }, &host())
        .unwrap();
    assert_eq!(names(p.capabilities().as_ref().unwrap().bounding()).len(), 41);
    assert!(exec_process(&p, &Exec::default(), &host()).is_err());
}
