//! Version 1's control files.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::{Group, Write, checked, invalid, pids_max};
use crate::error::CgroupError;

pub(super) fn plan(r: &LinuxResources) -> Result<Vec<Group>, CgroupError> {
    if r.unified().as_ref().is_some_and(|u| !u.is_empty()) {
        return Err(invalid("unified", "cannot be used with cgroup v1"));
    }
    let mut out = Vec::new();
    if let Some(cpu) = r.cpu() {
        cpus(cpu, &mut out)?;
    }
    if let Some(m) = r.memory() {
        memory(m, &mut out)?;
    }
    if let Some(limit) = r.pids().map(|p| p.limit()) {
        out.push(vec![Write::new("pids", "pids.max", pids_max(limit))]);
    }
    if let Some(io) = r.block_io() {
        blkio(io, &mut out);
    }
    for page in r.hugepage_limits().iter().flatten() {
        let size = checked("hugepageLimits.pageSize", page.page_size())?;
        let limit = page.limit();
        out.push(vec![Write::new("hugetlb", format!("hugetlb.{size}.limit_in_bytes"), limit)]);
        out.push(vec![
            Write::new("hugetlb", format!("hugetlb.{size}.rsvd.limit_in_bytes"), limit).or_nothing(),
        ]);
    }
    for (device, limits) in r.rdma().iter().flatten() {
        out.push(vec![super::v2::rdma(device, limits)?]);
    }
    if let Some(net) = r.network() {
        if let Some(class) = net.class_id().filter(|c| *c != 0) {
            out.push(vec![Write::new("net_cls", "net_cls.classid", class)]);
        }
        for p in net.priorities().iter().flatten() {
            let name = checked("network.priorities.name", p.name())?;
            out.push(vec![Write::new("net_prio", "net_prio.ifpriomap", format!("{name} {}", p.priority()))]);
        }
    }
    Ok(out)
}

fn cpus(cpu: &LinuxCpu, out: &mut Vec<Group>) -> Result<(), CgroupError> {
    if let Some(shares) = cpu.shares().filter(|s| *s != 0) {
        // the kernel would clamp in silence
        match shares {
            ..2 => return Err(invalid("cpu.shares", "the minimum allowed cpu-shares is 2")),
            262_145.. => return Err(invalid("cpu.shares", "the maximum allowed cpu-shares is 262144")),
            _ => out.push(vec![Write::new("cpu", "cpu.shares", shares)]),
        }
    }
    let mut group = Vec::new();
    if let Some(period) = cpu.period().filter(|p| *p != 0) {
        group.push(Write::new("cpu", "cpu.cfs_period_us", period));
    }
    if let Some(quota) = cpu.quota().filter(|q| *q != 0) {
        group.push(Write::new("cpu", "cpu.cfs_quota_us", quota.max(-1)));
    }
    if let Some(burst) = cpu.burst() {
        let write = Write::new("cpu", "cpu.cfs_burst_us", burst);
        group.push(if burst == 0 { write.or_nothing() } else { write });
    }
    out.push(group);
    let mut rt = Vec::new();
    if let Some(period) = cpu.realtime_period().filter(|p| *p != 0) {
        rt.push(Write::new("cpu", "cpu.rt_period_us", period));
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|r| *r != 0) {
        rt.push(Write::new("cpu", "cpu.rt_runtime_us", runtime));
    }
    out.push(rt);
    if let Some(idle) = cpu.idle() {
        let write = Write::new("cpu", "cpu.idle", idle);
        out.push(vec![if idle == 0 { write.or_nothing() } else { write }]);
    }
    if let Some(cpus) = cpu.cpus().as_deref().filter(|c| !c.is_empty()) {
        out.push(vec![Write::new("cpuset", "cpuset.cpus", cpus)]);
    }
    if let Some(mems) = cpu.mems().as_deref().filter(|m| !m.is_empty()) {
        out.push(vec![Write::new("cpuset", "cpuset.mems", mems)]);
    }
    out.retain(|g| !g.is_empty());
    Ok(())
}

fn memory(m: &LinuxMemory, out: &mut Vec<Group>) -> Result<(), CgroupError> {
    let limit = m.limit().unwrap_or(0);
    let swap = m.swap().unwrap_or(0);
    let mut group = Vec::new();
    if limit != 0 {
        group.push(Write::new("memory", "memory.limit_in_bytes", limit));
    }
    match (limit, swap) {
        // unlimited memory means unlimited memory and swap, where swap is accounted at all
        (-1, 0) => group.push(Write::new("memory", "memory.memsw.limit_in_bytes", -1).or_nothing()),
        (_, 0) => {}
        (_, -1) => group.push(Write::new("memory", "memory.memsw.limit_in_bytes", -1).or_nothing()),
        (l, s) if l > 0 && s < l => {
            return Err(invalid("memory.swap", "memory+swap limit should be >= memory limit"));
        }
        _ => group.push(Write::new("memory", "memory.memsw.limit_in_bytes", swap)),
    }
    out.push(group);
    if let Some(soft) = m.reservation().filter(|r| *r != 0) {
        out.push(vec![Write::new("memory", "memory.soft_limit_in_bytes", soft)]);
    }
    // memory.kernel is obsolete: the kernel ignores its file since 5.11, and so do runtimes
    if let Some(tcp) = m.kernel_tcp().filter(|t| *t != 0) {
        out.push(vec![Write::new("memory", "memory.kmem.tcp.limit_in_bytes", tcp)]);
    }
    if m.disable_oom_killer() == Some(true) {
        out.push(vec![Write::new("memory", "memory.oom_control", 1)]);
    }
    match m.swappiness() {
        None => {}
        Some(s @ 0..=100) => out.push(vec![Write::new("memory", "memory.swappiness", s)]),
        Some(s) => {
            return Err(invalid(
                "memory.swappiness",
                format!("invalid memory swappiness value: {s} (valid range is 0-100)"),
            ));
        }
    }
    out.retain(|g| !g.is_empty());
    Ok(())
}

fn blkio(io: &LinuxBlockIo, out: &mut Vec<Group>) {
    let weight = |file: &str, value: String| {
        Write::new("blkio", format!("blkio.{file}"), &value).or(Write::new(
            "blkio",
            format!("blkio.bfq.{file}"),
            value,
        ))
    };
    if let Some(w) = io.weight().filter(|w| *w != 0) {
        out.push(vec![weight("weight", w.to_string())]);
    }
    if let Some(w) = io.leaf_weight().filter(|w| *w != 0) {
        out.push(vec![Write::new("blkio", "blkio.leaf_weight", w)]);
    }
    for device in io.weight_device().iter().flatten() {
        let at = format!("{}:{}", device.major(), device.minor());
        if let Some(w) = device.weight().filter(|w| *w != 0) {
            out.push(vec![weight("weight_device", format!("{at} {w}"))]);
        }
        if let Some(w) = device.leaf_weight().filter(|w| *w != 0) {
            out.push(vec![Write::new("blkio", "blkio.leaf_weight_device", format!("{at} {w}"))]);
        }
    }
    let mut throttle = |file: &str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for d in devices.iter().flatten() {
            let value = format!("{}:{} {}", d.major(), d.minor(), d.rate());
            out.push(vec![Write::new("blkio", format!("blkio.throttle.{file}"), value)]);
        }
    };
    throttle("read_bps_device", io.throttle_read_bps_device());
    throttle("write_bps_device", io.throttle_write_bps_device());
    throttle("read_iops_device", io.throttle_read_iops_device());
    throttle("write_iops_device", io.throttle_write_iops_device());
}
