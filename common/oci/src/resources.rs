//! Docker's limits in the spec's terms.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
};

/// 100 ms in microseconds: the period that `--cpus` is a share of.
const NANO_CPU_PERIOD: u64 = 100_000;

/// The limits of Docker's HostConfig, with its meaning of 0: not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub memory_reservation: i64,
    /// Bytes of memory and swap together; -1 is unlimited.
    pub memory_swap: i64,
    /// Percent; -1 is not set.
    pub memory_swappiness: Option<i64>,
    /// `--oom-kill-disable`
    pub oom_kill_disable: Option<bool>,
    /// Relative weight.
    pub cpu_shares: i64,
    /// `--cpus` in billionths.
    pub nano_cpus: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds; -1 is unlimited.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_realtime_period: i64,
    /// Microseconds.
    pub cpu_realtime_runtime: i64,
    /// Such as `0-2,4`.
    pub cpuset_cpus: String,
    /// Such as `0`.
    pub cpuset_mems: String,
    /// Processes and threads; 0 and less are unlimited.
    pub pids_limit: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// Devices' own weights.
    pub blkio_weight_device: Vec<(DeviceNumber, u16)>,
    /// Bytes a second.
    pub blkio_device_read_bps: Vec<(DeviceNumber, u64)>,
    /// Bytes a second.
    pub blkio_device_write_bps: Vec<(DeviceNumber, u64)>,
    /// Operations a second.
    pub blkio_device_read_iops: Vec<(DeviceNumber, u64)>,
    /// Operations a second.
    pub blkio_device_write_iops: Vec<(DeviceNumber, u64)>,
}

/// Major and minor.
pub type DeviceNumber = (u32, u32);

/// A limit that contradicts itself or is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// Negative shares.
    #[error("invalid CPU shares ({0}): value must be a positive integer")]
    CpuShares(i64),
    /// A negative number where none can be.
    #[error("invalid {name} ({value}): value must not be negative")]
    Negative {
        /// In Docker's spelling.
        name: &'static str,
        /// As given.
        value: i64,
    },
    /// `--cpus` and `--cpu-quota` or `--cpu-period`.
    #[error("Conflicting options: Nano CPUs and CPU {0} cannot both be set.")]
    NanoCpus(&'static str),
    /// Outside 0 to 100.
    #[error("Invalid value: {0}, valid memory swappiness range is 0-100")]
    Swappiness(i64),
}

/// The limits as `linux.resources`, without device rules; for a new container and for `update`.
pub fn linux(r: &Resources) -> Result<LinuxResources, ResourceError> {
    let mut out = LinuxResources::default();
    out.set_memory(memory(r)?).set_cpu(cpu(r)?).set_pids(r.pids_limit.map(pids)).set_block_io(block_io(r));
    Ok(out)
}

fn pids(limit: i64) -> LinuxPids {
    let mut out = LinuxPids::default();
    // the runtime takes off a former limit at -1 only
    out.set_limit(if limit <= 0 { -1 } else { limit });
    out
}

fn memory(r: &Resources) -> Result<Option<LinuxMemory>, ResourceError> {
    let mut m = LinuxMemory::default();
    let positive = |n: i64| Some(n).filter(|n| *n > 0);
    m.set_limit(positive(r.memory))
        .set_reservation(positive(r.memory_reservation))
        .set_swap(Some(r.memory_swap).filter(|s| *s > 0 || *s == -1))
        .set_disable_oom_killer(r.oom_kill_disable);
    match r.memory_swappiness {
        None | Some(-1) => {}
        Some(s @ 0..=100) => drop(m.set_swappiness(Some(s.unsigned_abs()))),
        Some(s) => return Err(ResourceError::Swappiness(s)),
    }
    Ok(Some(m).filter(|m| *m != LinuxMemory::default()))
}

fn cpu(r: &Resources) -> Result<Option<LinuxCpu>, ResourceError> {
    if r.nano_cpus > 0 && r.cpu_period > 0 {
        return Err(ResourceError::NanoCpus("Period"));
    }
    if r.nano_cpus > 0 && r.cpu_quota > 0 {
        return Err(ResourceError::NanoCpus("Quota"));
    }
    let unsigned = |name: &'static str, value: i64| {
        u64::try_from(value)
            .map_err(|_| ResourceError::Negative { name, value })
            .map(|n| Some(n).filter(|n| *n != 0))
    };
    let mut c = LinuxCpu::default();
    c.set_shares(unsigned("CPU shares", r.cpu_shares).map_err(|_| ResourceError::CpuShares(r.cpu_shares))?)
        .set_period(unsigned("CPU period", r.cpu_period)?)
        .set_quota(Some(r.cpu_quota).filter(|q| *q != 0))
        .set_realtime_period(unsigned("CPU realtime period", r.cpu_realtime_period)?)
        .set_realtime_runtime(Some(r.cpu_realtime_runtime).filter(|t| *t != 0))
        .set_cpus(Some(r.cpuset_cpus.clone()).filter(|s| !s.is_empty()))
        .set_mems(Some(r.cpuset_mems.clone()).filter(|s| !s.is_empty()));
    if r.nano_cpus > 0 {
        let quota = i128::from(r.nano_cpus) * i128::from(NANO_CPU_PERIOD) / 1_000_000_000;
        c.set_period(Some(NANO_CPU_PERIOD)).set_quota(i64::try_from(quota).ok());
    }
    Ok(Some(c).filter(|c| *c != LinuxCpu::default()))
}

fn block_io(r: &Resources) -> Option<LinuxBlockIo> {
    let throttle = |list: &[(DeviceNumber, u64)]| -> Option<Vec<LinuxThrottleDevice>> {
        let devices: Vec<_> = list
            .iter()
            .map(|((major, minor), rate)| {
                let d = LinuxThrottleDeviceBuilder::default().major(*major).minor(*minor).rate(*rate);
                // every field has a default, so building cannot fail
                d.build().unwrap_or_default()
            })
            .collect();
        Some(devices).filter(|d| !d.is_empty())
    };
    let weights: Vec<_> = r
        .blkio_weight_device
        .iter()
        .map(|((major, minor), weight)| {
            let d = LinuxWeightDeviceBuilder::default().major(*major).minor(*minor).weight(*weight);
            d.build().unwrap_or_default()
        })
        .collect();
    let mut io = LinuxBlockIo::default();
    io.set_weight(Some(r.blkio_weight).filter(|w| *w != 0))
        .set_weight_device(Some(weights).filter(|w| !w.is_empty()))
        .set_throttle_read_bps_device(throttle(&r.blkio_device_read_bps))
        .set_throttle_write_bps_device(throttle(&r.blkio_device_write_bps))
        .set_throttle_read_iops_device(throttle(&r.blkio_device_read_iops))
        .set_throttle_write_iops_device(throttle(&r.blkio_device_write_iops));
    Some(io).filter(|io| *io != LinuxBlockIo::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_limits_nothing() {
        assert_eq!(linux(&Resources::default()).unwrap(), LinuxResources::default());
    }

    #[test]
    fn cpus_become_a_quota_of_a_tenth_of_a_second() {
        let r = linux(&Resources { nano_cpus: 1_500_000_000, ..Resources::default() }).unwrap();
        let cpu = r.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        let both = Resources { nano_cpus: 1, cpu_quota: 1, ..Resources::default() };
        assert!(linux(&both).unwrap_err().to_string().contains("Nano CPUs and CPU Quota"));
    }

    #[test]
    fn memory_and_pids_follow_dockers_meaning_of_zero_and_less() {
        let r = Resources {
            memory: 5,
            memory_swap: -1,
            pids_limit: Some(0),
            memory_swappiness: Some(-1),
            ..Resources::default()
        };
        let r = linux(&r).unwrap();
        let memory = r.memory().unwrap();
        assert_eq!((memory.limit(), memory.swap(), memory.swappiness()), (Some(5), Some(-1), None));
        assert_eq!(r.pids().unwrap().limit(), -1);
        assert!(linux(&Resources { memory_swappiness: Some(101), ..Resources::default() }).is_err());
        assert!(linux(&Resources { cpu_shares: -1, ..Resources::default() }).is_err());
    }

    #[test]
    fn throttles_name_their_device() {
        let r = Resources { blkio_device_read_bps: vec![((8, 16), 1000)], ..Resources::default() };
        let r = linux(&r).unwrap();
        let io = r.block_io().as_ref().unwrap();
        let d = io.throttle_read_bps_device().as_ref().unwrap()[0];
        assert_eq!((d.major(), d.minor(), d.rate()), (8, 16, 1000));
    }
}
