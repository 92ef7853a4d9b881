//! Architectures: the kernel's numbers for them, and what a machine can run.

use oci_spec::runtime::Arch;

/// A column of the table of call numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
}

/// The architectures that there are call numbers for, as profiles name them.
pub const SUPPORTED: [Arch; 6] = [
    Arch::ScmpArchX86_64,
    Arch::ScmpArchX86,
    Arch::ScmpArchX32,
    Arch::ScmpArchAarch64,
    Arch::ScmpArchArm,
    Arch::ScmpArchRiscv64,
];

/// [`SUPPORTED`] in the words of `config.json`.
pub fn arch_names() -> [&'static str; 6] {
    [
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_ARM",
        "SCMP_ARCH_RISCV64",
    ]
}

/// Bit 30 of a call number on x86-64 means the x32 ABI.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

impl Column {
    /// The column for an architecture of a profile; none where there are no numbers, which are architectures whose
    /// calls no supported machine can make.
    pub(crate) fn of(arch: Arch) -> Option<Column> {
        match arch {
            Arch::ScmpArchNative => Column::native(),
            Arch::ScmpArchX86_64 => Some(Column::X86_64),
            Arch::ScmpArchX86 => Some(Column::X86),
            Arch::ScmpArchX32 => Some(Column::X32),
            Arch::ScmpArchAarch64 => Some(Column::Aarch64),
            Arch::ScmpArchArm => Some(Column::Arm),
            Arch::ScmpArchRiscv64 => Some(Column::Riscv64),
            _ => None,
        }
    }

    /// The architecture this program was built for.
    pub(crate) fn native() -> Option<Column> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Column::X86_64),
            "x86" => Some(Column::X86),
            "aarch64" => Some(Column::Aarch64),
            "arm" => Some(Column::Arm),
            "riscv64" => Some(Column::Riscv64),
            _ => None,
        }
    }

    /// AUDIT_ARCH_* (include/uapi/linux/audit.h), which the kernel puts into `seccomp_data.arch`.
    pub(crate) fn audit(self) -> u32 {
        match self {
            Column::X86_64 | Column::X32 => 0xc000_003e,
            Column::X86 => 0x4000_0003,
            Column::Aarch64 => 0xc000_00b7,
            Column::Arm => 0x4000_0028,
            Column::Riscv64 => 0xc000_00f3,
        }
    }

    /// Whether arguments are 32 bits wide; the upper half is not looked at then.
    pub(crate) fn narrow(self) -> bool {
        matches!(self, Column::X86 | Column::X32 | Column::Arm)
    }
}
