//! What the flags of `checkpoint` and `restore` have in common, as fields of criu_opts (CRIU's images/rpc.proto).

use super::Message;

/// Interfaces are whoever's made them, not the runtime's: CLONE_NEWNET among the namespaces that are made empty.
const NEW_NETWORK: u64 = 0x4000_0000;

/// What somebody chose for a checkpoint or a restore alike.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    pub tcp_established: bool,
    pub ext_unix_sk: bool,
    pub shell_job: bool,
    pub file_locks: bool,
    pub auto_dedup: bool,
    pub lazy_pages: bool,
    /// enum criu_cg_mode.
    pub cgroups_mode: u64,
}

impl Choices {
    /// The beginning of a request; `log` is a name in the directory of work.
    pub fn request(&self, log: &str) -> Message {
        let mut m = Message::default();
        m.number(9, 4)
            .text(10, log)
            // notify_scripts: stops that the worker is told of; manage_cgroups: as the mode says
            .flag(12, true)
            .flag(24, true)
            .number(34, self.cgroups_mode)
            .flag(7, self.shell_job)
            .flag(5, self.tcp_established)
            .flag(4, self.ext_unix_sk)
            .flag(8, self.file_locks)
            .number(38, NEW_NETWORK)
            .flag(50, true)
            .flag(16, self.auto_dedup)
            .flag(48, self.lazy_pages);
        m
    }
}
