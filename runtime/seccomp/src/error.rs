//! Why a profile cannot be compiled.

use wharf_kinds::Kind;

/// What is wrong with a profile, by the field's place in `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeccompError {
    /// A value out of range.
    #[error("{field}: {reason}")]
    Invalid {
        /// Such as `linux.seccomp.syscalls[3].args[0].index`.
        field: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The kernel takes 4096 instructions at most.
    #[error("linux.seccomp: the profile needs {0} BPF instructions, the kernel takes 4096")]
    TooLong(usize),
    /// This program was built for a machine it has no call numbers for.
    #[error("linux.seccomp: no system call numbers for this machine's architecture ({0})")]
    Machine(&'static str),
}

impl SeccompError {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        SeccompError::Invalid { field: format!("linux.seccomp.{}", field.into()), reason: reason.into() }
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            SeccompError::Machine(_) => Kind::Unimplemented,
            _ => Kind::InvalidArgument,
        }
    }
}
