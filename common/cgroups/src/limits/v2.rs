//! Version 2's control files.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxRdma, LinuxResources, LinuxThrottleDevice,
};

use super::convert::{blkio_weight_to_io_weight, cpu_shares_to_weight, memory_swap_to_v2};
use super::{Group, Write, checked, invalid, or_max, pids_max};
use crate::error::CgroupError;

/// The kernel's period where none is given, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

pub(super) fn plan(r: &LinuxResources) -> Result<Vec<Group>, CgroupError> {
    let mut out = Vec::new();
    if let Some(cpu) = r.cpu() {
        cpus(cpu, &mut out);
    }
    if let Some(m) = r.memory() {
        memory(m, &mut out)?;
    }
    if let Some(limit) = r.pids().map(|p| p.limit()) {
        out.push(vec![Write::new("pids", "pids.max", pids_max(limit))]);
    }
    if let Some(io) = r.block_io() {
        block_io(io, &mut out);
    }
    for page in r.hugepage_limits().iter().flatten() {
        let size = checked("hugepageLimits.pageSize", page.page_size())?;
        out.push(vec![Write::new("hugetlb", format!("hugetlb.{size}.max"), or_max(page.limit()))]);
        out.push(vec![
            Write::new("hugetlb", format!("hugetlb.{size}.rsvd.max"), or_max(page.limit())).or_nothing(),
        ]);
    }
    for (device, limits) in r.rdma().iter().flatten() {
        out.push(vec![rdma(device, limits)?]);
    }
    // last, so that it overrides what the fields above said in version 1's words
    let mut unified: Vec<_> = r.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        let name = checked("unified", file)?;
        let Some((controller, _)) = name.split_once('.') else {
            return Err(invalid("unified", format!("{name:?} is not a control file: it has no dot")));
        };
        for line in value.lines() {
            out.push(vec![Write::new(controller, name, line)]);
        }
    }
    Ok(out)
}

pub(super) fn rdma(device: &str, limits: &LinuxRdma) -> Result<Write, CgroupError> {
    let mut value = checked("rdma", device)?.to_owned();
    if let Some(n) = limits.hca_handles() {
        value.push_str(&format!(" hca_handle={n}"));
    }
    if let Some(n) = limits.hca_objects() {
        value.push_str(&format!(" hca_object={n}"));
    }
    Ok(Write::new("rdma", "rdma.max", value))
}

fn cpus(cpu: &LinuxCpu, out: &mut Vec<Group>) {
    if let Some(shares) = cpu.shares().filter(|s| *s != 0) {
        out.push(vec![Write::new("cpu", "cpu.weight", cpu_shares_to_weight(shares))]);
    }
    if let Some(idle) = cpu.idle() {
        let write = Write::new("cpu", "cpu.idle", idle);
        out.push(vec![if idle == 0 { write.or_nothing() } else { write }]);
    }
    let quota = cpu.quota().unwrap_or(0);
    let period = cpu.period().unwrap_or(0);
    let mut group = Vec::new();
    if quota != 0 || period != 0 {
        let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
        let period = if period == 0 { DEFAULT_PERIOD } else { period };
        group.push(Write::new("cpu", "cpu.max", format!("{quota} {period}")));
    }
    if let Some(burst) = cpu.burst() {
        let write = Write::new("cpu", "cpu.max.burst", burst);
        group.push(if burst == 0 { write.or_nothing() } else { write });
    }
    if !group.is_empty() {
        out.push(group);
    }
    if let Some(cpus) = cpu.cpus().as_deref().filter(|c| !c.is_empty()) {
        out.push(vec![Write::new("cpuset", "cpuset.cpus", cpus)]);
    }
    if let Some(mems) = cpu.mems().as_deref().filter(|m| !m.is_empty()) {
        out.push(vec![Write::new("cpuset", "cpuset.mems", mems)]);
    }
}

fn memory(m: &LinuxMemory, out: &mut Vec<Group>) -> Result<(), CgroupError> {
    let limit = m.limit().unwrap_or(0);
    if let Some(swap) = memory_swap_to_v2(limit, m.swap().unwrap_or(0))? {
        let write = Write::new("memory", "memory.swap.max", or_max(swap));
        // where the kernel has no swap, having none or as much as one likes asks for nothing
        out.push(vec![if swap <= 0 { write.or_nothing() } else { write }]);
    }
    if limit != 0 {
        out.push(vec![Write::new("memory", "memory.max", or_max(limit))]);
    }
    if let Some(low) = m.reservation().filter(|r| *r != 0) {
        out.push(vec![Write::new("memory", "memory.low", or_max(low))]);
    }
    Ok(())
}

fn block_io(io: &LinuxBlockIo, out: &mut Vec<Group>) {
    if let Some(w) = io.weight().filter(|w| *w != 0) {
        let other = Write::new("io", "io.weight", blkio_weight_to_io_weight(w));
        out.push(vec![Write::new("io", "io.bfq.weight", w).or(other)]);
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(w) = device.weight().filter(|w| *w != 0) {
            let at = format!("{}:{}", device.major(), device.minor());
            let other = Write::new("io", "io.weight", format!("{at} {}", blkio_weight_to_io_weight(w)));
            out.push(vec![Write::new("io", "io.bfq.weight", format!("{at} {w}")).or(other)]);
        }
    }
    let mut throttle = |key: &str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for d in devices.iter().flatten() {
            // 0 takes the limit off, as in version 1
            let rate = if d.rate() == 0 { "max".to_owned() } else { d.rate().to_string() };
            out.push(vec![Write::new("io", "io.max", format!("{}:{} {key}={rate}", d.major(), d.minor()))]);
        }
    };
    throttle("rbps", io.throttle_read_bps_device());
    throttle("wbps", io.throttle_write_bps_device());
    throttle("riops", io.throttle_read_iops_device());
    throttle("wiops", io.throttle_write_iops_device());
}
