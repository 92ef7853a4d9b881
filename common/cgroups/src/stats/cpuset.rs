//! What `events --stats` tells of a version 1 cpuset. Not part of [`super::Stats`]: it is settings, and eleven files.

use serde::Serialize;

use super::{number, read_optional};
use crate::cgroup::{Cgroup, Dir};
use crate::error::CgroupError;
use crate::hierarchy::Mode;

/// The `cpuset` object, in runc's names and order. All zeros on version 2, as with runc.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

impl Cgroup {
    /// The settings of the cpuset. What is not there is zero.
    pub fn cpuset(&self) -> Result<CpuSet, CgroupError> {
        let Some(dir) = self.dir("cpuset").filter(|_| self.mode != Mode::Unified) else {
            return Ok(CpuSet::default());
        };
        let get = |name: &str| Ok::<_, CgroupError>(number(dir, &format!("cpuset.{name}"))?.unwrap_or(0));
        let level = read_optional(dir, "cpuset.sched_relax_domain_level")?.unwrap_or_default();
        Ok(CpuSet {
            cpus: list(dir, "cpuset.cpus")?,
            cpu_exclusive: get("cpu_exclusive")?,
            mems: list(dir, "cpuset.mems")?,
            mem_hardwall: get("mem_hardwall")?,
            mem_exclusive: get("mem_exclusive")?,
            memory_migrate: get("memory_migrate")?,
            memory_spread_page: get("memory_spread_page")?,
            memory_spread_slab: get("memory_spread_slab")?,
            memory_pressure: get("memory_pressure")?,
            sched_load_balance: get("sched_load_balance")?,
            sched_relax_domain_level: level.trim().parse().unwrap_or(0),
        })
    }
}

/// `0-2,7` as its numbers.
fn list(dir: &Dir, file: &str) -> Result<Vec<u16>, CgroupError> {
    let text = read_optional(dir, file)?.unwrap_or_default();
    let number = |n: &str| n.parse::<u16>().ok();
    let mut out = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let range = match part.split_once('-') {
            Some((from, to)) => number(from).zip(number(to)),
            None => number(part).map(|n| (n, n)),
        };
        let (from, to) = range.ok_or_else(|| CgroupError::Malformed {
            path: dir.path.join(file),
            content: crate::file::head(&text),
        })?;
        out.extend(from..=to);
    }
    Ok(out)
}
