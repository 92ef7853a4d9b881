//! Limits as properties of a unit (systemd.resource-control(5)). Those for which there is none are set in the cgroup only.

use oci_spec::runtime::{LinuxCpu, LinuxResources};

use super::wire::Value;
use super::{Property, property};
use crate::devices::{self, DeviceKind, Exception, Policy};
use crate::error::CgroupError;
use crate::hierarchy::Mode;
use crate::limits::{blkio_weight_to_io_weight, cpu_shares_to_weight, invalid, memory_swap_to_v2};

/// The kernel's period where none is given, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;
const SECOND: u64 = 1_000_000;
/// systemd counts the quota in hundredths of a CPU.
const QUOTA_STEP: u64 = 10_000;
/// More CPUs than any kernel is built for.
const MAX_CPUS: usize = 1 << 16;

/// The properties for `resources`, device rules among them. What it does not mention is not in the list.
pub fn of(mode: Mode, resources: &LinuxResources) -> Result<Vec<Property>, CgroupError> {
    let mut out = Vec::new();
    if let Some(rules) = resources.devices().as_ref().filter(|r| !r.is_empty()) {
        let mut rules = rules.clone();
        rules.extend(devices::default_rules());
        let names = std::fs::read_to_string("/proc/devices").unwrap_or_default();
        device_policy(&Policy::new(&rules)?, &names, &mut out);
    }
    let v2 = mode == Mode::Unified;
    if let Some(m) = resources.memory() {
        let limit = m.limit().unwrap_or(0);
        let swap = memory_swap_to_v2(limit, m.swap().unwrap_or(0));
        let mut set = |name, n: i64| out.push(property(name, Value::U64(or_max(n))));
        match (v2, limit) {
            (_, 0) => {}
            (true, n) => set("MemoryMax", n),
            (false, n) => set("MemoryLimit", n),
        }
        if v2 {
            if let Some(low) = m.reservation().filter(|r| *r != 0) {
                set("MemoryLow", low);
            }
            if let Some(swap) = swap? {
                set("MemorySwapMax", swap);
            }
        }
    }
    if let Some(cpu) = resources.cpu() {
        cpus(v2, cpu, &mut out)?;
    }
    if let Some(weight) = resources.block_io().as_ref().and_then(|io| io.weight()).filter(|w| *w != 0) {
        out.push(match v2 {
            true => property("IOWeight", Value::U64(blkio_weight_to_io_weight(weight))),
            false => property("BlockIOWeight", Value::U64(weight.into())),
        });
    }
    out.extend(tasks(resources));
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        for new in one_unified(file, value)? {
            // the last word is the unified map's, as in the cgroup
            out.retain(|p| p.name != new.name);
            out.push(new);
        }
    }
    Ok(out)
}

/// The limit of tasks, in either form.
pub(super) fn tasks(resources: &LinuxResources) -> Option<Property> {
    let limit = match resources.unified().as_ref().and_then(|u| u.get("pids.max")) {
        Some(text) => crate::file::number(text)?,
        None => or_max(resources.pids().as_ref().map(|p| p.limit())?),
    };
    // systemd takes no zero
    Some(property("TasksMax", Value::U64(limit.max(1))))
}

fn or_max(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn cpus(v2: bool, cpu: &LinuxCpu, out: &mut Vec<Property>) -> Result<(), CgroupError> {
    if let Some(shares) = cpu.shares().filter(|s| *s != 0) {
        out.push(match v2 {
            true => property("CPUWeight", Value::U64(cpu_shares_to_weight(shares))),
            false => property("CPUShares", Value::U64(shares)),
        });
    }
    let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
    if quota != 0 || period != 0 {
        quota_properties(quota, period, out);
    }
    for (name, field, list) in
        [("AllowedCPUs", "cpu.cpus", cpu.cpus()), ("AllowedMemoryNodes", "cpu.mems", cpu.mems())]
    {
        if let Some(list) = list.as_deref().filter(|l| !l.trim().is_empty()) {
            out.push(property(name, bits(field, list)?));
        }
    }
    Ok(())
}

/// The quota of a second; without end if it is not above zero.
fn quota_properties(quota: i64, period: u64, out: &mut Vec<Property>) {
    if period != 0 {
        out.push(property("CPUQuotaPeriodUSec", Value::U64(period)));
    }
    let period = if period == 0 { DEFAULT_PERIOD } else { period };
    let per_second = match u64::try_from(quota) {
        Ok(quota @ 1..) => {
            (quota.saturating_mul(SECOND) / period).checked_next_multiple_of(QUOTA_STEP).unwrap_or(u64::MAX)
        }
        _ => u64::MAX,
    };
    out.push(property("CPUQuotaPerSecUSec", Value::U64(per_second)));
}

/// `0-2,5` as a bit mask, lowest byte first.
fn bits(field: &str, list: &str) -> Result<Value, CgroupError> {
    let bad = || invalid(field, format!("{list:?} is no list such as 0-2,5"));
    let mut mask = Vec::new();
    for range in list.split(',').map(str::trim).filter(|r| !r.is_empty()) {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < MAX_CPUS).ok_or_else(bad);
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return Err(bad());
        }
        if mask.len() <= to / 8 {
            mask.resize(to / 8 + 1, 0u8);
        }
        (from..=to).for_each(|n| mask[n / 8] |= 1 << (n % 8));
    }
    if mask.is_empty() {
        return Err(bad());
    }
    Ok(Value::Array("y".into(), mask.into_iter().map(Value::Byte).collect()))
}

/// A control file of version 2 as properties; none if systemd has none for it.
fn one_unified(file: &str, text: &str) -> Result<Vec<Property>, CgroupError> {
    let bad = || invalid(&format!("unified[{file:?}]"), format!("{text:?} is not what this file takes"));
    let text = text.trim();
    let name = match file {
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpuset.cpus" => {
            return Ok(vec![property("AllowedCPUs", bits(&format!("unified[{file:?}]"), text)?)]);
        }
        "cpuset.mems" => {
            return Ok(vec![property("AllowedMemoryNodes", bits(&format!("unified[{file:?}]"), text)?)]);
        }
        "cpu.max" => {
            let mut fields = text.split_whitespace();
            let quota = match fields.next() {
                Some("max") => -1,
                Some(n) => n.parse().map_err(|_| bad())?,
                None => return Err(bad()),
            };
            let period = fields.next().map(str::parse).transpose().map_err(|_| bad())?.unwrap_or(0);
            let mut out = Vec::new();
            quota_properties(quota, period, &mut out);
            return Ok(out);
        }
        _ => return Ok(Vec::new()),
    };
    let n = if text == "max" { u64::MAX } else { text.parse().map_err(|_| bad())? };
    Ok(vec![property(name, Value::U64(if name == "TasksMax" { n.max(1) } else { n }))])
}

/// `names` is the text of /proc/devices. A default of allow has no form of its own: the cgroup's policy is what limits.
fn device_policy(policy: &Policy, names: &str, out: &mut Vec<Property>) {
    let strict = !policy.default_allow;
    out.push(property("DevicePolicy", Value::Str(if strict { "strict" } else { "auto" }.into())));
    let pair = |name: String, access: String| Value::Struct(vec![Value::Str(name), Value::Str(access)]);
    let list = policy.exceptions.iter().filter(|_| strict).filter_map(|e| {
        Some(pair(node(e, names)?, e.to_string().rsplit(' ').next().unwrap_or_default().to_owned()))
    });
    out.push(property("DeviceAllow", Value::Array("(ss)".into(), list.collect())));
}

/// What systemd calls the devices of an exception: a node, `char-*`, or a driver's name such as `char-pts`.
fn node(e: &Exception, names: &str) -> Option<String> {
    let kind = match e.kind {
        DeviceKind::Block => "block",
        DeviceKind::Char => "char",
    };
    match (e.major, e.minor) {
        (None, None) => Some(format!("{kind}-*")),
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (Some(major), None) => {
            let title = if kind == "block" { "Block devices:" } else { "Character devices:" };
            let mut section = names.lines().skip_while(|l| *l != title).skip(1);
            section.by_ref().take_while(|l| !l.is_empty()).find_map(|line| {
                let (number, name) = line.trim().split_once(' ')?;
                (number.parse() == Ok(major)).then(|| format!("{kind}-{}", name.trim()))
            })
        }
        // no name for one minor number of every driver
        (None, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::*;

    fn named(list: &[Property]) -> Vec<(&str, Value)> {
        list.iter().map(|p| (p.name.as_str(), p.value.clone())).collect()
    }

    fn resources(json: serde_json::Value) -> LinuxResources {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn limits_become_properties_of_each_version() {
        let r = resources(serde_json::json!({
            "memory": {"limit": 1 << 20, "swap": 3 << 20, "reservation": 4096},
            "cpu": {"shares": 1024, "quota": 50_000, "period": 100_000, "cpus": "0-2,9"},
            "pids": {"limit": 10}, "blockIO": {"weight": 500},
        }));
        let mask = Value::Array("y".into(), vec![Value::Byte(7), Value::Byte(2)]);
        assert_eq!(
            named(&of(Mode::Unified, &r).unwrap()),
            [
                ("MemoryMax", Value::U64(1 << 20)),
                ("MemoryLow", Value::U64(4096)),
                ("MemorySwapMax", Value::U64(2 << 20)),
                ("CPUWeight", Value::U64(100)),
                ("CPUQuotaPeriodUSec", Value::U64(100_000)),
                ("CPUQuotaPerSecUSec", Value::U64(500_000)),
                ("AllowedCPUs", mask.clone()),
                ("IOWeight", Value::U64(4950)),
                ("TasksMax", Value::U64(10)),
            ]
        );
        let legacy = of(Mode::Hybrid, &r).unwrap();
        let names: Vec<&str> = legacy.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "MemoryLimit",
                "CPUShares",
                "CPUQuotaPeriodUSec",
                "CPUQuotaPerSecUSec",
                "AllowedCPUs",
                "BlockIOWeight",
                "TasksMax"
            ]
        );
    }

    #[test]
    fn no_limit_is_infinity_and_a_third_of_a_cpu_is_rounded_up() {
        let r = resources(serde_json::json!({
            "memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1},
        }));
        assert!(of(Mode::Unified, &r).unwrap().iter().all(|p| p.value == Value::U64(u64::MAX)));
        let third = resources(serde_json::json!({"cpu": {"quota": 33_333, "period": 100_000}}));
        assert_eq!(of(Mode::Unified, &third).unwrap()[1].value, Value::U64(340_000));
        assert!(
            of(Mode::Unified, &LinuxResources::default())
                .unwrap()
                .iter()
                .all(|p| p.name.starts_with("Device"))
        );
    }

    #[test]
    fn unified_files_win_over_the_older_words() {
        let r = resources(serde_json::json!({
            "memory": {"limit": 1 << 20}, "pids": {"limit": 9},
            "unified": {"memory.max": "2097152", "memory.high": "max", "cpu.max": "20000 100000", "pids.max": "3",
                        "cpuset.mems": "0", "misc.max": "x 1", "memory.oom.group": "1"},
        }));
        let got = of(Mode::Unified, &r).unwrap();
        let get = |n: &str| got.iter().filter(|p| p.name == n).map(|p| p.value.clone()).collect::<Vec<_>>();
        assert_eq!(get("MemoryMax"), [Value::U64(2 << 20)]);
        assert_eq!(get("MemoryHigh"), [Value::U64(u64::MAX)]);
        assert_eq!(get("CPUQuotaPerSecUSec"), [Value::U64(200_000)]);
        assert_eq!(get("TasksMax"), [Value::U64(3)]);
        assert_eq!(get("AllowedMemoryNodes").len(), 1);
        for bad in
            [("cpu.max", "x"), ("memory.max", "-1"), ("cpuset.cpus", "3-1"), ("cpuset.cpus", "0-99999999")]
        {
            let r = resources(serde_json::json!({"unified": {bad.0: bad.1}}));
            assert!(of(Mode::Unified, &r).unwrap_err().to_string().contains(bad.0));
        }
    }

    #[test]
    fn devices_are_named_as_systemd_names_them() {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_value(serde_json::json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "access": "m"},
            {"allow": true, "type": "c", "major": 136, "access": "rwm"},
            {"allow": true, "type": "b", "major": 7, "access": "r"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"},
            {"allow": true, "type": "c", "major": 999, "access": "rw"},
        ]))
        .unwrap();
        let mut out = Vec::new();
        let names = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  7 loop\n";
        device_policy(&Policy::new(&rules).unwrap(), names, &mut out);
        assert_eq!(out[0].value, Value::Str("strict".into()));
        let Value::Array(_, list) = &out[1].value else { panic!() };
        let list: Vec<String> = list
            .iter()
            .map(|v| match v {
                Value::Struct(f) => format!("{} {}", f[0].text().unwrap(), f[1].text().unwrap()),
                _ => panic!(),
            })
            .collect();
        assert_eq!(list, ["char-* m", "char-pts rwm", "block-loop r", "/dev/char/1:3 rw"]);
        let mut open = Vec::new();
        device_policy(&Policy { default_allow: true, exceptions: Vec::new() }, names, &mut open);
        assert_eq!(named(&open)[0].1, Value::Str("auto".into()));
        assert_eq!(named(&open)[1].1, Value::Array("(ss)".into(), Vec::new()));
    }
}
