//! Mounts as containerd's API describes them.

/// What is to be mounted, in the words of fstab: `bind` with `rbind,rw`, or `overlay` with its directories.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    pub kind: String,
    pub source: String,
    /// Below the root to come; empty for the root itself.
    pub target: String,
    pub options: Vec<String>,
}

impl Mount {
    /// The value of `name=value` among the options.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|o| o.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether an option without a value is given.
    pub fn has(&self, flag: &str) -> bool {
        self.options.iter().any(|o| o == flag)
    }
}
