//! `update`: new resource limits for a container that runs.

use super::args::UpdateArgs;
use super::{Failure, Outcome};
use crate::config;
use crate::container::exec::saved_spec;
use crate::container::status::{Container, Status};
use crate::rdt;
use crate::state::StateRoot;
use oci_spec::runtime::LinuxResources;
use std::io::Read;
use std::path::{Path, PathBuf};

const MAX_INPUT: u64 = 1 << 20;

pub fn update(root: &StateRoot, args: Box<UpdateArgs>) -> Outcome {
    let container = Container::load(root, &args.id)?;
    if container.status() == Status::Stopped {
        return Err(Failure::new("container not running"));
    }
    let resources: LinuxResources = match &args.resources {
        Some(path) if path == std::path::Path::new("-") => {
            let mut text = Vec::new();
            std::io::stdin()
                .take(MAX_INPUT)
                .read_to_end(&mut text)
                .map_err(|e| Failure::new(format!("reading standard input: {e}")))?;
            config::parse_resources(&text, "standard input")?
        }
        Some(path) => config::read_resources(path)?,
        None => from_flags(&args)?,
    };
    let schemata = schemata(&args, &container)?;
    let cgroup = container.cgroup()?;
    if let Some(unit) = &container.record.unit {
        unit.set(cgroup.mode(), &resources)?;
    }
    cgroup.apply(&resources)?;
    if let Some(rules) = resources.devices().as_ref().filter(|r| !r.is_empty()) {
        let mut rules = rules.clone();
        rules.extend(wharf_cgroups::devices::default_rules());
        cgroup.apply_devices(&rules)?;
    }
    if let Some((file, text)) = schemata {
        std::fs::write(&file, text)
            .map_err(|e| Failure::new(format!("writing {:?} to {}: {e}", text_of(&args), file.display())))?;
    }
    Ok(0)
}

/// The file of Intel RDT to write, and what: of a container that was created with a class of service.
fn schemata(args: &UpdateArgs, container: &Container) -> Result<Option<(PathBuf, String)>, Failure> {
    let info = Path::new(rdt::ROOT).join("info");
    if args.l3_cache_schema.is_some() && !["L3", "L3CODE"].iter().any(|d| info.join(d).exists()) {
        return Err(Failure::new("Intel RDT/CAT: l3 cache schema is not enabled"));
    }
    if args.mem_bw_schema.is_some() && !info.join("MB").exists() {
        return Err(Failure::new("Intel RDT/MBA: memory bandwidth schema is not enabled"));
    }
    let text = text_of(args);
    if text.is_empty() {
        return Ok(None);
    }
    let spec = saved_spec(container)?;
    let Some(rdt) = spec.linux.as_ref().and_then(|l| l.intel_rdt().as_ref()) else {
        return Err(Failure::new("updating a non-existent Intel RDT configuration is not supported"));
    };
    let class = rdt.clos_id().as_deref().unwrap_or(&container.record.id);
    Ok(Some((Path::new(rdt::ROOT).join(class).join("schemata"), text)))
}

fn text_of(args: &UpdateArgs) -> String {
    [&args.l3_cache_schema, &args.mem_bw_schema].into_iter().flatten().map(|s| format!("{s}\n")).collect()
}

fn from_flags(args: &UpdateArgs) -> Result<LinuxResources, Failure> {
    let mut memory = serde_json::Map::new();
    for (key, flag, value) in [
        ("limit", "memory", &args.memory),
        ("reservation", "memory-reservation", &args.memory_reservation),
        ("swap", "memory-swap", &args.memory_swap),
    ] {
        if let Some(text) = value {
            let bytes = bytes(text).ok_or_else(|| {
                Failure::new(format!(
                    "--{flag}: {text:?} is no size; a number with k, m, g or t, or -1, is allowed"
                ))
            })?;
            memory.insert(key.into(), bytes.into());
        }
    }
    if args.kernel_memory.is_some() || args.kernel_memory_tcp.is_some() {
        crate::log::warn("Kernel memory settings are ignored and will be removed");
    }
    // as runc: no memory limit is no limit of memory and swap either; an idle cgroup has no shares to go with it
    if args.memory.as_deref() == Some("-1") && args.memory_swap.is_none() {
        memory.insert("swap".into(), (-1).into());
    }
    let resources = serde_json::json!({
        "memory": memory,
        "cpu": { "shares": args.cpu_share, "quota": args.cpu_quota, "period": args.cpu_period,
                 "burst": args.cpu_burst, "idle": args.cpu_idle,
                 "realtimePeriod": args.cpu_rt_period, "realtimeRuntime": args.cpu_rt_runtime,
                 "cpus": args.cpuset_cpus, "mems": args.cpuset_mems },
        "pids": args.pids_limit.map(|limit| serde_json::json!({ "limit": limit })),
        "blockIO": { "weight": args.blkio_weight },
    });
    Ok(serde_json::from_value(resources)?)
}

/// `64m`, `1.5g`, `-1`
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let lower = text.to_ascii_lowercase();
    let plain = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (number, shift) = match plain.chars().last()? {
        'k' => (plain.strip_suffix('k')?, 10),
        'm' => (plain.strip_suffix('m')?, 20),
        'g' => (plain.strip_suffix('g')?, 30),
        't' => (plain.strip_suffix('t')?, 40),
        _ => (plain, 0),
    };
    number.parse::<i64>().ok().filter(|n| *n >= 0)?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("64m"), Some(64 << 20));
        assert_eq!(bytes("1024"), Some(1024));
        assert_eq!(bytes("2GiB"), Some(2 << 30));
        assert_eq!(bytes("-1"), Some(-1));
        for bad in ["", "m", "-5", "1x", "99999999999t"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
