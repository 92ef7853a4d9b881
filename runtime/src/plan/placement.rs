//! What every process of a container takes on, execs included: the execution domain and the memory policy.
//! Planned purely; applied by the process to itself.

use super::id_list;
use crate::config::ConfigError;
use oci_spec::runtime::{
    Linux, LinuxMemoryPolicy, LinuxPersonalityDomain, MemoryPolicyFlagType, MemoryPolicyModeType,
};
use std::io;

/// PER_LINUX32 (linux/personality.h).
const PER_LINUX32: u32 = 8;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The argument of personality(2).
    pub personality: Option<u32>,
    pub memory: Option<MemoryPolicy>,
}

/// The arguments of set_mempolicy(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// With its flags.
    pub mode: u32,
    /// 64 nodes a word.
    pub nodes: Vec<u64>,
}

/// Checks `linux.personality` and `linux.memoryPolicy`.
pub fn plan(linux: &Linux) -> Result<Placement, ConfigError> {
    let personality = match linux.personality() {
        None => None,
        Some(p) => {
            if let Some(flag) = p.flags().iter().flatten().next() {
                return Err(ConfigError::invalid(
                    "linux.personality.flags[0]",
                    format!("{flag:?} is not supported; the specification defines no flags"),
                ));
            }
            Some(match p.domain() {
                LinuxPersonalityDomain::PerLinux => 0,
                LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
            })
        }
    };
    Ok(Placement { personality, memory: linux.memory_policy().as_ref().map(memory).transpose()? })
}

fn memory(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicy, ConfigError> {
    use MemoryPolicyModeType as M;
    // linux/mempolicy.h
    let mode: u32 = match policy.mode() {
        M::MpolDefault => 0,
        M::MpolPreferred => 1,
        M::MpolBind => 2,
        M::MpolInterleave => 3,
        M::MpolLocal => 4,
        M::MpolPreferredMany => 5,
        M::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().fold(0u32, |bits, f| {
        bits | match f {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        }
    });
    if flags & (1 << 14) != 0 && flags & (1 << 15) != 0 {
        return Err(ConfigError::invalid(
            "linux.memoryPolicy.flags",
            "MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other",
        ));
    }
    if flags & (1 << 13) != 0 && !matches!(policy.mode(), M::MpolBind | M::MpolPreferredMany) {
        return Err(ConfigError::invalid(
            "linux.memoryPolicy.flags",
            "MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY only",
        ));
    }
    let list = match policy.nodes().as_deref().filter(|n| !n.is_empty()) {
        None => Vec::new(),
        Some(text) => id_list::parse(text, id_list::MAX_NODE).map_err(|e| {
            ConfigError::invalid("linux.memoryPolicy.nodes", format!("invalid memory policy node: {e}"))
        })?,
    };
    match policy.mode() {
        M::MpolDefault | M::MpolLocal if !list.is_empty() => {
            return Err(ConfigError::invalid(
                "linux.memoryPolicy.nodes",
                format!("{} mode requires 0 nodes but got {}", policy.mode(), list.len()),
            ));
        }
        M::MpolBind | M::MpolInterleave | M::MpolWeightedInterleave | M::MpolPreferredMany
            if list.is_empty() =>
        {
            return Err(ConfigError::invalid(
                "linux.memoryPolicy.nodes",
                format!("{} mode requires at least one node but got 0", policy.mode()),
            ));
        }
        _ => {}
    }
    let mut nodes = vec![0u64; list.iter().max().map_or(0, |max| *max as usize / 64 + 1)];
    for node in list {
        if let Some(word) = nodes.get_mut(node as usize / 64) {
            *word |= 1 << (node % 64);
        }
    }
    Ok(MemoryPolicy { mode: mode | flags, nodes })
}

impl Placement {
    /// Applies both to the calling process. Before a seccomp filter, which need not allow the calls.
    pub fn apply(&self) -> io::Result<()> {
        let failed = |at: &str, e: io::Error| io::Error::new(e.kind(), format!("{at}: {e}"));
        if let Some(persona) = self.personality {
            wharf_sys::sched::set_personality(persona).map_err(|e| failed("linux.personality", e))?;
        }
        if let Some(policy) = &self.memory {
            wharf_sys::mempolicy::set_mempolicy(policy.mode, &policy.nodes)
                .map_err(|e| failed("linux.memoryPolicy", e))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: serde_json::Value) -> Result<MemoryPolicy, ConfigError> {
        memory(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn a_memory_policy_is_the_kernels_numbers() {
        let p =
            policy(serde_json::json!({"mode":"MPOL_BIND","nodes":"0,64","flags":["MPOL_F_STATIC_NODES"]}));
        assert_eq!(p.unwrap(), MemoryPolicy { mode: 2 | 1 << 15, nodes: vec![1, 1] });
        let p = policy(serde_json::json!({"mode":"MPOL_DEFAULT"})).unwrap();
        assert_eq!(p, MemoryPolicy { mode: 0, nodes: vec![] });
    }

    #[test]
    fn a_contradictory_memory_policy_is_refused() {
        for json in [
            serde_json::json!({"mode":"MPOL_BIND"}),
            serde_json::json!({"mode":"MPOL_LOCAL","nodes":"0"}),
            serde_json::json!({"mode":"MPOL_BIND","nodes":"0-99999"}),
            serde_json::json!({"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES","MPOL_F_RELATIVE_NODES"]}),
            serde_json::json!({"mode":"MPOL_INTERLEAVE","nodes":"0","flags":["MPOL_F_NUMA_BALANCING"]}),
        ] {
            let text = policy(json).unwrap_err().to_string();
            assert!(text.starts_with("invalid configuration: linux.memoryPolicy."), "{text}");
        }
    }
}
