//! The daemon's own figures, under the names of Prometheus' clients.

use std::fs;
use std::time::SystemTime;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::{Exposition, Kind};

/// Adds what can be read; `since` is when the daemon started.
pub(super) fn read(to: &mut Exposition, since: SystemTime) {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    let help = "Total user and system CPU time spent in seconds.";
    to.sample("process_cpu_seconds_total", help, Kind::Counter, &[], used);
    let started = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let help = "Start time of the process since unix epoch in seconds.";
    to.sample("process_start_time_seconds", help, Kind::Gauge, &[], started);
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // one of them is this directory's
        let open = open.count().saturating_sub(1) as f64;
        to.sample("process_open_fds", "Number of open file descriptors.", Kind::Gauge, &[], open);
    }
    let limit = |resource| getrlimit(resource).current.unwrap_or(u64::MAX) as f64;
    let help = "Maximum number of open file descriptors.";
    to.sample("process_max_fds", help, Kind::Gauge, &[], limit(Resource::Nofile));
    let help = "Maximum amount of virtual memory available in bytes.";
    to.sample("process_virtual_memory_max_bytes", help, Kind::Gauge, &[], limit(Resource::As));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (field, name, help) in [
        ("VmRSS:", "process_resident_memory_bytes", "Resident memory size in bytes."),
        ("VmSize:", "process_virtual_memory_bytes", "Virtual memory size in bytes."),
    ] {
        if let Some(kibibytes) = field_of(&status, field) {
            to.sample(name, help, Kind::Gauge, &[], kibibytes as f64 * 1024.0);
        }
    }
}

fn field_of(status: &str, field: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_figures_are_plausible() {
        let mut to = Exposition::default();
        read(&mut to, SystemTime::now());
        let text = to.render();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} in {text}")).parse().expect("number")
        };
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_start_time_seconds") > 1.7e9);
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
