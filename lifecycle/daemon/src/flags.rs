//! The command line: containerd's flags.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError};

/// Where the configuration is looked for without `--config`.
const CONFIG: &str = "/etc/wharf/lifecycle.toml";

/// The container lifecycle daemon: images, snapshots, containers and their tasks, over containerd's API.
#[derive(Debug, Clone, Parser)]
#[command(name = "wharf-lifecycled", version)]
pub struct Flags {
    /// Path to the configuration file [default: /etc/wharf/lifecycle.toml, if it is there]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory for what survives a reboot
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Directory for what does not survive a reboot
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Path of the gRPC socket; the shims' event socket is this with ".ttrpc"
    #[arg(long, short, global = true, value_name = "SOCKET")]
    address: Option<PathBuf>,
    /// trace, debug, info, warn, error, fatal or panic
    #[arg(long, short, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run a program as a hook of the OCI runtime, with facts of the container in its arguments
    OciHook {
        /// The program and its arguments; {{id}}, {{pid}}, {{bundle}}, {{rootfs}}, {{status}} and {{annotation "key"}} are filled in
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigCommand {
    /// Print the configuration that runs without a file
    Default,
    /// Print the configuration as it results from file and flags
    Dump,
    /// Print the configuration file's settings in the newest form
    Migrate,
    /// Say whether the configuration can be used
    Check,
}

impl Flags {
    /// The file's settings with the flags' over them.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::read(path, true)?,
            None => Config::read(CONFIG.as_ref(), false)?,
        };
        let Flags { root, state, address, log_level, .. } = self;
        if let Some(root) = root {
            config.root = root.clone();
        }
        if let Some(state) = state {
            config.state = state.clone();
        }
        if let Some(address) = address {
            config.grpc.address = address.clone();
        }
        if let Some(level) = log_level {
            config.debug.level = level.clone();
        }
        config.validate()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn flags_override_the_file() {
        let at = tempfile::tempdir().expect("folder");
        let path = at.path().join("c.toml");
        std::fs::write(&path, "root = '/file'\nstate = '/file-state'").expect("write");
        let flags = Flags::try_parse_from([
            "wharf-lifecycled".as_ref(),
            "-c".as_ref(),
            path.as_os_str(),
            "--root".as_ref(),
            "/flag".as_ref(),
            "-a".as_ref(),
            "/flag.sock".as_ref(),
            "-l".as_ref(),
            "debug".as_ref(),
        ])
        .expect("flags");
        let config = flags.config().expect("config");
        assert_eq!(
            (config.root.as_path(), config.state.as_path()),
            (Path::new("/flag"), Path::new("/file-state"))
        );
        assert_eq!(config.ttrpc.address, Path::new("/flag.sock.ttrpc"));
        assert_eq!(config.debug.level, "debug");
    }
}
