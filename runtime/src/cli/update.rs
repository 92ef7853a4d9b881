//! `update`: new resource limits for a container that runs.

use super::args::UpdateArgs;
use super::{Failure, Outcome};
use crate::config;
use crate::container::status::{Container, Status};
use crate::state::StateRoot;
use oci_spec::runtime::LinuxResources;
use std::io::Read;

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
            config::parse(&text, "standard input")?
        }
        Some(path) => config::read_json(path)?,
        None => from_flags(&args)?,
    };
    let cgroup = container.cgroup()?;
    cgroup.apply(&resources)?;
    if let Some(rules) = resources.devices().as_ref().filter(|r| !r.is_empty()) {
        let mut rules = rules.clone();
        rules.extend(wharf_cgroups::devices::default_rules());
        cgroup.apply_devices(&rules)?;
    }
    Ok(0)
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
    let resources = serde_json::json!({
        "memory": memory,
        "cpu": { "shares": args.cpu_share, "quota": args.cpu_quota, "period": args.cpu_period,
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
