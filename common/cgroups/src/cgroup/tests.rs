use super::*;
use crate::cgroup::Cgroup;
use crate::devices::default_rules;
use crate::limits::cpu_shares_to_weight;
use crate::oom::OomEvent;
use crate::plan::Driver;
use crate::plan::Plan;
use oci_spec::runtime::*;
use rustix::event::{PollFd, PollFlags, poll};
use std::fs;
use std::process::{Child, Command, Stdio};

fn unique() -> String {
    assert!(rustix::process::geteuid().is_root(), "this test makes cgroups: run it as root");
    // pids repeat in isolated runs side by side; cgroups are the machine's
    let dir = tempfile::Builder::new().prefix("wharf-test-").tempdir().unwrap();
    format!("/{}", dir.path().file_name().unwrap().to_string_lossy())
}

/// A cgroup of the machine that is removed with what is in it.
struct Scratch(Option<Cgroup>, Paths);

impl Scratch {
    fn new(h: &Hierarchies) -> Scratch {
        let plan = Plan::new(h, Driver::Cgroupfs, Some(Path::new(&unique())), "id").unwrap();
        let cgroup = Cgroup::create(h, &plan).unwrap();
        let paths = cgroup.paths();
        Scratch(Some(cgroup), paths)
    }
}

impl std::ops::Deref for Scratch {
    type Target = Cgroup;
    fn deref(&self) -> &Cgroup {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Ok(left) = Cgroup::from_paths(&self.1) {
            let _ = left.kill();
            let _ = left.delete();
        }
    }
}

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process of the cgroup can open `path` for reading.
fn opens_in(cgroup: &Cgroup, path: &str) -> bool {
    let mut child = Command::new("sh")
        .args(["-c", &format!("read x; exec 2>/dev/null; : <{path}")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    cgroup.add(child.id() as i32).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap().success()
}

/// The machine's v2 hierarchy alone, wherever it is mounted.
fn unified() -> Hierarchies {
    let h = Hierarchies::detect().unwrap();
    match h.all().iter().find(|h| h.is_v2()) {
        Some(v2) => Hierarchies::at(&v2.point, "0::/\n").unwrap(),
        None => panic!("this machine has no cgroup v2 mount"),
    }
}

#[test]
fn root_a_cgroup_is_made_filled_listed_and_removed() {
    let h = Hierarchies::detect().unwrap();
    let cgroup = Scratch::new(&h);
    assert!(!cgroup.existed());
    for dir in cgroup.paths().0.values() {
        assert!(dir.join("cgroup.procs").exists(), "{}", dir.display());
    }
    let mut child = sleeper();
    cgroup.add(child.id() as i32).unwrap();
    assert_eq!(cgroup.procs().unwrap(), [child.id() as i32]);
    let text = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    assert!(text.lines().all(|l| l.contains("/wharf-test-")), "{text}");
    let found = Cgroup::of_pid(&h, child.id() as i32).unwrap();
    assert_eq!((found.paths(), found.mode()), (cgroup.paths(), h.mode()));
    cgroup.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    let again = Cgroup::from_paths(&cgroup.paths()).unwrap();
    assert_eq!(again.mode(), h.mode());
    again.delete().unwrap();
    for dir in cgroup.1.0.values() {
        assert!(!dir.exists(), "{}", dir.display());
    }
    let gone = Cgroup::from_paths(&cgroup.1).unwrap();
    assert!(gone.procs().unwrap().is_empty());
    gone.delete().unwrap();
}

#[test]
fn root_delete_removes_cgroups_below_and_reports_a_busy_one() {
    let h = Hierarchies::detect().unwrap();
    let cgroup = Scratch::new(&h);
    for dir in cgroup.paths().0.values() {
        let _ = fs::create_dir_all(dir.join("a/b"));
    }
    Cgroup::from_paths(&cgroup.1).unwrap().delete().unwrap();

    let cgroup = Scratch::new(&h);
    let mut child = sleeper();
    cgroup.add(child.id() as i32).unwrap();
    let error = Cgroup::from_paths(&cgroup.1).unwrap().delete().unwrap_err();
    assert!(error.to_string().contains("remove cgroup "), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn root_limits_are_written_and_can_be_raised_and_lowered() {
    let h = Hierarchies::detect().unwrap();
    let cgroup = Scratch::new(&h);
    let resources = |limit: i64, quota: i64, period: u64| {
        LinuxResourcesBuilder::default()
            .memory(
                LinuxMemoryBuilder::default()
                    .limit(limit)
                    .swap(limit)
                    .reservation(limit / 2)
                    .build()
                    .unwrap(),
            )
            .cpu(LinuxCpuBuilder::default().shares(512u64).quota(quota).period(period).build().unwrap())
            .pids(LinuxPidsBuilder::default().limit(7).build().unwrap())
            .build()
            .unwrap()
    };
    for (limit, quota, period) in
        [(32i64 << 20, 50_000, 100_000), (64 << 20, 400_000, 1_000_000), (16 << 20, 2000, 2000)]
    {
        cgroup.apply(&resources(limit, quota, period)).unwrap();
        let s = cgroup.stats().unwrap();
        assert_eq!(s.memory.usage.limit, limit as u64);
        let v2 = h.mode() == Mode::Unified;
        if let Some(swap) = s.memory.swap {
            // version 1 counts memory and swap together; here no swap is allowed
            assert_eq!(swap.limit, if v2 { 0 } else { limit as u64 });
        }
        assert_eq!(s.pids.limit, 7);
        let cpu = cgroup.dir("cpu").unwrap();
        let text = |file: &str| cpu.read(file).unwrap().trim().to_owned();
        if v2 {
            assert_eq!(text("cpu.max"), format!("{quota} {period}"));
            assert_eq!(text("cpu.weight"), cpu_shares_to_weight(512).to_string());
            assert_eq!(text("memory.low"), (limit / 2).to_string());
        } else {
            assert_eq!(text("cpu.cfs_quota_us"), quota.to_string());
            assert_eq!(text("cpu.shares"), "512");
        }
    }
    let bad = LinuxCpuBuilder::default().cpus("4000").build().unwrap();
    let error = cgroup.apply(&LinuxResourcesBuilder::default().cpu(bad).build().unwrap()).unwrap_err();
    assert!(error.to_string().contains("cpuset.cpus") && error.to_string().contains("4000"), "{error}");
}

#[test]
fn root_devices_not_allowed_cannot_be_opened() {
    let h = Hierarchies::detect().unwrap();
    let cgroup = Scratch::new(&h);
    cgroup.apply_devices(&default_rules()).unwrap();
    let script =
        "read x; : </dev/null && : </dev/zero && if (: </dev/kmsg) 2>/dev/null; then exit 9; else exit 7; fi";
    let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    cgroup.add(child.id() as i32).unwrap();
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(7));
    let everything: LinuxDeviceCgroup =
        LinuxDeviceCgroupBuilder::default().allow(true).access("rwm").build().unwrap();
    cgroup.apply_devices(&[everything]).unwrap();
    if h.mode() != Mode::Unified {
        let list = cgroup.dir("devices").unwrap().read("devices.list").unwrap();
        assert_eq!(list.trim(), "a *:* rwm");
    }
}

#[test]
fn root_changed_device_rules_leave_no_moment_without_the_kept_ones() {
    let h = Hierarchies::detect().unwrap();
    let cgroup = Scratch::new(&h);
    cgroup.apply_devices(&default_rules()).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "while : </dev/null; do :; done 2>/dev/null; exit 9"])
        .spawn()
        .unwrap();
    cgroup.add(child.id() as i32).unwrap();
    let used = Cgroup::from_paths(&cgroup.1).unwrap();
    let v1 = h.mode() != Mode::Unified;
    // version 2 shows no list: there the program that is attached decides
    let has_more = || match v1 {
        true => used.dir("devices").unwrap().read("devices.list").unwrap().contains("c 1:11 r"),
        false => opens_in(&used, "/dev/kmsg"),
    };
    let mut more = default_rules();
    more.push(
        LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(LinuxDeviceType::C)
            .major(1)
            .minor(11)
            .access("r")
            .build()
            .unwrap(),
    );
    for _ in 0..if v1 { 200 } else { 20 } {
        used.apply_devices(&more).unwrap();
        assert!(has_more());
        used.apply_devices(&default_rules()).unwrap();
        assert!(!has_more());
    }
    assert!(child.try_wait().unwrap().is_none(), "/dev/null could not be opened for a moment");
    cgroup.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn root_narrowed_device_rules_and_another_default_leave_no_moment_without_the_kept_ones() {
    let h = Hierarchies::detect().unwrap();
    let cgroup = Scratch::new(&h);
    let with_log = |access: &str| {
        let rule = LinuxDeviceCgroupBuilder::default().allow(true).typ(LinuxDeviceType::C).major(1).minor(11);
        let mut rules = default_rules();
        rules.push(rule.access(access).build().unwrap());
        rules
    };
    let everything = [LinuxDeviceCgroupBuilder::default().allow(true).access("rwm").build().unwrap()];
    cgroup.apply_devices(&with_log("rw")).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "while : </dev/null && : >/dev/kmsg; do :; done 2>/dev/null; exit 9"])
        .spawn()
        .unwrap();
    cgroup.add(child.id() as i32).unwrap();
    let used = Cgroup::from_paths(&cgroup.1).unwrap();
    for _ in 0..if h.mode() == Mode::Unified { 10 } else { 100 } {
        used.apply_devices(&with_log("rw")).unwrap();
        used.apply_devices(&with_log("w")).unwrap();
        used.apply_devices(&everything).unwrap();
        used.apply_devices(&with_log("w")).unwrap();
    }
    assert!(!used.frozen().unwrap());
    assert!(child.try_wait().unwrap().is_none(), "a device that is kept could not be opened for a moment");
    cgroup.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn root_a_v2_device_program_denies_and_is_replaced() {
    let cgroup = Scratch::new(&unified());
    let open = |path: &str| opens_in(&cgroup, path);
    assert!(open("/dev/full"));
    let null = &default_rules()[2..3];
    cgroup.apply_devices(null).unwrap();
    assert!(open("/dev/null") && !open("/dev/full"));
    cgroup.apply_devices(&default_rules()).unwrap();
    assert!(open("/dev/full"));
    let attached = wharf_sys::bpf::attached_cgroup_device(cgroup.unified_fd().unwrap()).unwrap();
    assert_eq!(attached.len(), 1, "the former program was taken off");
}

#[test]
fn root_frozen_processes_stand_until_thawed() {
    for h in [Hierarchies::detect().unwrap(), unified()] {
        let cgroup = Scratch::new(&h);
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        cgroup.add(child.id() as i32).unwrap();
        let ticks = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            stat.rsplit(')').next().unwrap().split_whitespace().nth(11).unwrap().parse::<u64>().unwrap()
        };
        until("the process runs", || ticks() > 0);
        assert!(!cgroup.frozen().unwrap());
        cgroup.freeze().unwrap();
        assert!(cgroup.frozen().unwrap());
        let before = ticks();
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(ticks(), before);
        cgroup.thaw().unwrap();
        assert!(!cgroup.frozen().unwrap());
        until("the process runs again", || ticks() > before);
        cgroup.freeze().unwrap();
        cgroup.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "a frozen process dies too");
    }
}

#[test]
fn root_kill_reaches_cgroups_below() {
    for h in [Hierarchies::detect().unwrap(), unified()] {
        let cgroup = Scratch::new(&h);
        let mut inner = Paths::default();
        for (controller, dir) in &cgroup.paths().0 {
            let below = dir.join("inner");
            let _ = fs::create_dir(&below);
            if controller == "cpuset" {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    fs::write(below.join(file), fs::read(dir.join(file)).unwrap()).unwrap();
                }
            }
            inner.0.insert(controller.clone(), below);
        }
        let mut child = sleeper();
        Cgroup::from_paths(&inner).unwrap().add(child.id() as i32).unwrap();
        assert_eq!(cgroup.procs().unwrap(), [child.id() as i32]);
        cgroup.kill().unwrap();
        assert!(!child.wait().unwrap().success());
    }
}

#[test]
fn root_the_oom_watch_tells_of_a_kill_and_of_the_end() {
    let h = Hierarchies::detect().unwrap();
    let cgroup = Scratch::new(&h);
    let limit = 8i64 << 20;
    let memory = LinuxMemoryBuilder::default().limit(limit).swap(limit).build().unwrap();
    cgroup.apply(&LinuxResourcesBuilder::default().memory(memory).build().unwrap()).unwrap();
    let mut watch = cgroup.oom_watch().unwrap();
    assert_eq!(watch.take().unwrap(), OomEvent::Nothing);
    let eat = "read x; a=x; while :; do a=$a$a; done";
    let mut child = Command::new("sh").args(["-c", eat]).stdin(Stdio::piped()).spawn().unwrap();
    cgroup.add(child.id() as i32).unwrap();
    drop(child.stdin.take());
    let timeout = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    // version 2 tells of the limit being met too, before it kills
    loop {
        let ready = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&timeout)).unwrap();
        assert_eq!(ready, 1, "no kill was told of");
        match watch.take().unwrap() {
            OomEvent::Oom => break,
            OomEvent::Nothing => assert_eq!(h.mode(), Mode::Unified, "woken for nothing"),
            OomEvent::Gone => panic!("the cgroup is there still"),
        }
    }
    assert!(!child.wait().unwrap().success());
    assert!(cgroup.oom_kills().unwrap() >= 1);
    if h.mode() == Mode::Unified {
        // the shell was the last process
        loop {
            let ready = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&timeout)).unwrap();
            assert_eq!(ready, 1, "the end woke nobody");
            match watch.take().unwrap() {
                OomEvent::Gone => break,
                other => assert_eq!(other, OomEvent::Nothing, "one kill, told of once"),
            }
        }
    } else {
        until("counted", || watch.take().unwrap() == OomEvent::Nothing);
    }
    Cgroup::from_paths(&cgroup.1).unwrap().delete().unwrap();
    until("told of the end", || watch.take().unwrap() == OomEvent::Gone);
}

#[test]
fn root_a_failed_create_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("memory")).unwrap();
    fs::create_dir(dir.path().join("pids")).unwrap();
    // a file where a directory is to be
    fs::write(dir.path().join("pids/wharf"), "").unwrap();
    let h = Hierarchies::at(dir.path(), "2:memory:/\n1:pids:/\n").unwrap();
    let plan = Plan::new(&h, Driver::Cgroupfs, Some(Path::new("/wharf/c1")), "c1").unwrap();
    let error = Cgroup::create(&h, &plan).unwrap_err();
    assert!(error.to_string().contains("pids/wharf"), "{error}");
    assert!(!dir.path().join("memory/wharf").exists());
}

#[test]
fn a_limit_for_an_absent_controller_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths([("memory".to_owned(), dir.path().to_owned())].into());
    let cgroup = Cgroup::from_paths(&paths).unwrap();
    let page = LinuxHugepageLimitBuilder::default().page_size("2MB").limit(1).build().unwrap();
    let r = LinuxResourcesBuilder::default().hugepage_limits(vec![page]).build().unwrap();
    let error = cgroup.apply(&r).unwrap_err();
    assert!(error.to_string().contains("hugetlb cgroup controller is not available"), "{error}");
}

#[test]
fn v2_limits_are_written_to_their_files() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["memory.max", "memory.swap.max", "cpu.max", "io.weight"] {
        fs::write(dir.path().join(file), "").unwrap();
    }
    let cgroup = Cgroup::from_paths(&Paths([(String::new(), dir.path().to_owned())].into())).unwrap();
    let r = LinuxResourcesBuilder::default()
        .memory(LinuxMemoryBuilder::default().limit(100).swap(150).build().unwrap())
        .cpu(LinuxCpuBuilder::default().quota(5).build().unwrap())
        .block_io(LinuxBlockIoBuilder::default().weight(1000u16).build().unwrap())
        .build()
        .unwrap();
    cgroup.apply(&r).unwrap();
    let text = |f: &str| fs::read_to_string(dir.path().join(f)).unwrap();
    assert_eq!([text("memory.max"), text("memory.swap.max"), text("cpu.max")], ["100", "50", "5 100000"]);
    assert_eq!(text("io.weight"), "10000", "there is no io.bfq.weight");
}
