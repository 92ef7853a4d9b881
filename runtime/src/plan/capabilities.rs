//! Capability names → kernel bit sets. Pure.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

/// In the order of the kernel's numbers (include/uapi/linux/capability.h): the index is the bit.
pub const ORDER: [Capability; 41] = {
    use Capability as C;
    [
        C::Chown,
        C::DacOverride,
        C::DacReadSearch,
        C::Fowner,
        C::Fsetid,
        C::Kill,
        C::Setgid,
        C::Setuid,
        C::Setpcap,
        C::LinuxImmutable,
        C::NetBindService,
        C::NetBroadcast,
        C::NetAdmin,
        C::NetRaw,
        C::IpcLock,
        C::IpcOwner,
        C::SysModule,
        C::SysRawio,
        C::SysChroot,
        C::SysPtrace,
        C::SysPacct,
        C::SysAdmin,
        C::SysBoot,
        C::SysNice,
        C::SysResource,
        C::SysTime,
        C::SysTtyConfig,
        C::Mknod,
        C::Lease,
        C::AuditWrite,
        C::AuditControl,
        C::Setfcap,
        C::MacOverride,
        C::MacAdmin,
        C::Syslog,
        C::WakeAlarm,
        C::BlockSuspend,
        C::AuditRead,
        C::Perfmon,
        C::Bpf,
        C::CheckpointRestore,
    ]
};

/// The five sets as kernel bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

fn bit(capability: Capability) -> u64 {
    ORDER.iter().position(|c| *c == capability).map_or(0, |i| 1 << i)
}

fn bits(set: Option<&Capabilities>) -> u64 {
    set.map_or(0, |set| set.iter().map(|c| bit(*c)).fold(0, |a, b| a | b))
}

impl CapSets {
    /// No `capabilities` at all means none in any set, as runc has it.
    pub fn from_spec(spec: Option<&LinuxCapabilities>) -> Self {
        spec.map_or_else(Self::default, |c| Self {
            bounding: bits(c.bounding().as_ref()),
            effective: bits(c.effective().as_ref()),
            permitted: bits(c.permitted().as_ref()),
            inheritable: bits(c.inheritable().as_ref()),
            ambient: bits(c.ambient().as_ref()),
        })
    }

    /// Adds one capability to bounding, effective and permitted (`exec --cap`).
    pub fn add(&mut self, capability: Capability) {
        let bit = bit(capability);
        self.bounding |= bit;
        self.effective |= bit;
        self.permitted |= bit;
    }

    /// Warns of ambient capabilities that the kernel will not raise: they have to be permitted and inheritable too.
    pub fn report(&self) {
        let refused = self.ambient & !(self.permitted & self.inheritable);
        for (_, name) in ORDER.iter().enumerate().filter(|(bit, _)| refused & (1 << bit) != 0) {
            crate::log::warn(&format!("can't raise ambient capability CAP_{name}: operation not permitted"));
        }
    }

    /// Takes out what the kernel does not have or the runtime does not hold itself; runc warns and goes on likewise.
    pub fn limited_to(self, held: u64) -> Self {
        Self {
            bounding: self.bounding & held,
            effective: self.effective & held,
            permitted: self.permitted & held,
            inheritable: self.inheritable & held,
            ambient: self.ambient & held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_kernels_numbers() {
        assert_eq!(bit(Capability::Chown), 1);
        assert_eq!(bit(Capability::NetAdmin), 1 << 12);
        assert_eq!(bit(Capability::SysAdmin), 1 << 21);
        assert_eq!(bit(Capability::Syslog), 1 << 34);
        assert_eq!(bit(Capability::CheckpointRestore), 1 << 40);
    }

    #[test]
    fn absent_capabilities_are_empty_sets() {
        assert_eq!(CapSets::from_spec(None), CapSets::default());
    }
}
