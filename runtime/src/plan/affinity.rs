//! The CPUs an exec may run on, from `process.execCPUAffinity`. Planned purely; applied by the process to itself.

use super::id_list;
use crate::config::ConfigError;
use crate::spec::Process;
use std::io;
use wharf_sys::sched::set_affinity;

/// Lists of CPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affinity {
    /// Before the process is in the container's cgroup.
    pub initial: Option<Vec<u32>>,
    /// Once it is there.
    pub last: Option<Vec<u32>>,
}

/// Checks `execCPUAffinity`; `at` is its JSON path.
pub fn plan(process: &Process, at: &str) -> Result<Affinity, ConfigError> {
    let Some(given) = &process.exec_cpu_affinity else { return Ok(Affinity::default()) };
    let list = |text: &Option<String>, name: &str| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => id_list::parse(text, id_list::MAX_CPU)
            .map(Some)
            .map_err(|e| ConfigError::invalid(format!("{at}.{name}"), e)),
    };
    Ok(Affinity { initial: list(&given.initial, "initial")?, last: list(&given.last, "final")? })
}

const WORDS: usize = id_list::MAX_CPU as usize / 64 + 1;

fn set(cpus: &[u32]) -> io::Result<()> {
    let mut mask = [0u64; WORDS];
    for cpu in cpus {
        if let Some(word) = mask.get_mut(*cpu as usize / 64) {
            *word |= 1 << (cpu % 64);
        }
    }
    set_affinity(&mask)
}

impl Affinity {
    /// Before entering the cgroup.
    pub fn before(&self) -> io::Result<()> {
        self.initial.iter().try_for_each(|cpus| set(cpus))
    }

    /// After entering it. With nothing asked for all CPUs of the cgroup are allowed: else the process would keep to
    /// those that the caller of the runtime happens to be tied to.
    pub fn after(&self) -> io::Result<()> {
        match (&self.initial, &self.last) {
            (_, Some(cpus)) => set(cpus),
            (Some(_), None) => Ok(()),
            (None, None) => release(),
        }
    }
}

/// All CPUs that the cgroup allows: the kernel cuts the set down to them.
pub fn release() -> io::Result<()> {
    match set_affinity(&[u64::MAX; WORDS]) {
        // a host's own policy may keep it from us; that is no reason not to run
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => Ok(()),
        other => other,
    }
}
