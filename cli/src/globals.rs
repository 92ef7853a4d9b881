//! Options in front of the verb.

use std::path::PathBuf;

use clap::Args;

use crate::session::env;

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Globals {
    /// Location of client config files (default "~/.docker")
    #[arg(long, value_name = "string")]
    pub(crate) config: Option<PathBuf>,
    /// Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with "wharf context use")
    #[arg(long, short, value_name = "string")]
    pub(crate) context: Option<String>,
    /// Enable debug mode
    #[arg(long, short = 'D')]
    pub(crate) debug: bool,
    /// Daemon socket to connect to
    #[arg(long = "host", short = 'H', value_name = "list")]
    pub(crate) hosts: Vec<String>,
    /// Set the logging level ("debug", "info", "warn", "error", "fatal") (default "info")
    #[arg(long, short, value_name = "string", value_parser = ["debug", "info", "warn", "error", "fatal"])]
    pub(crate) log_level: Option<String>,
    /// Use TLS; implied by --tlsverify
    #[arg(long)]
    pub(crate) tls: bool,
    /// Trust certs signed only by this CA
    #[arg(long, value_name = "string")]
    pub(crate) tlscacert: Option<PathBuf>,
    /// Path to TLS certificate file
    #[arg(long, value_name = "string")]
    pub(crate) tlscert: Option<PathBuf>,
    /// Path to TLS key file
    #[arg(long, value_name = "string")]
    pub(crate) tlskey: Option<PathBuf>,
    /// Use TLS and verify the remote
    #[arg(long)]
    pub(crate) tlsverify: bool,
    /// Print version information and quit
    #[arg(long, short)]
    pub(crate) version: bool,
    /// The verb and its arguments
    #[arg(trailing_var_arg = true)]
    pub(crate) args: Vec<String>,
}

impl Globals {
    /// `--config`, DOCKER_CONFIG, or `~/.docker`.
    pub(crate) fn config_dir(&self) -> PathBuf {
        if let Some(dir) = &self.config {
            return dir.clone();
        }
        match env("DOCKER_CONFIG") {
            Some(dir) => dir.into(),
            None => PathBuf::from(env("HOME").unwrap_or_else(|| "/".to_owned())).join(".docker"),
        }
    }

    pub(crate) fn tls(&self) -> bool {
        self.tls || self.tlsverify || env("DOCKER_TLS").is_some() || env("DOCKER_TLS_VERIFY").is_some()
    }
}
