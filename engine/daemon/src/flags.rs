//! The command line: dockerd's names where it has them.

use std::path::PathBuf;

use clap::Parser;

/// A self-sufficient runtime for containers.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "wharfd", version, about)]
pub struct Flags {
    /// Daemon socket(s) to listen on
    #[arg(short = 'H', long = "host", value_name = "list")]
    pub host: Vec<String>,
    /// Root directory of persistent state
    #[arg(long, alias = "graph", value_name = "path")]
    pub data_root: Option<PathBuf>,
    /// Root directory for execution state files
    #[arg(long, value_name = "path")]
    pub exec_root: Option<PathBuf>,
    /// Socket of the lifecycle daemon (containerd's API)
    #[arg(long, value_name = "path")]
    pub containerd: Option<PathBuf>,
    /// Namespace to use in the lifecycle daemon
    #[arg(long, value_name = "name")]
    pub containerd_namespace: Option<String>,
    /// Daemon configuration file
    #[arg(long, value_name = "path", default_value = "/etc/wharf/daemon.json")]
    pub config_file: PathBuf,
    /// Check the configuration and exit
    #[arg(long)]
    pub validate: bool,
    /// Path to use for the daemon's PID file
    #[arg(short = 'p', long, value_name = "path")]
    pub pidfile: Option<PathBuf>,
    /// Group for the unix socket
    #[arg(short = 'G', long, value_name = "name")]
    pub group: Option<String>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")
    #[arg(short = 'l', long, value_name = "level")]
    pub log_level: Option<String>,
    /// Set parent cgroup for all containers
    #[arg(long, value_name = "path")]
    pub cgroup_parent: Option<String>,
    /// Register an additional OCI runtime (name=path), or a shim (name=io.containerd.….v2)
    #[arg(long, value_name = "name=path")]
    pub add_runtime: Vec<String>,
    /// Default OCI runtime for containers
    #[arg(long, value_name = "name")]
    pub default_runtime: Option<String>,
    /// Registries that may be spoken to without TLS
    #[arg(long, value_name = "list")]
    pub insecure_registry: Vec<String>,
    /// Preferred registry mirror
    #[arg(long, value_name = "list")]
    pub registry_mirror: Vec<String>,
    /// Default driver for container logs
    #[arg(long, value_name = "driver")]
    pub log_driver: Option<String>,
    /// Default log driver options for containers (key=value)
    #[arg(long, value_name = "map")]
    pub log_opt: Vec<String>,
    /// Set key=value labels to the daemon
    #[arg(long, value_name = "list")]
    pub label: Vec<String>,
    /// DNS server to use
    #[arg(long, value_name = "list")]
    pub dns: Vec<String>,
    /// DNS search domains to use
    #[arg(long, value_name = "list")]
    pub dns_search: Vec<String>,
    /// DNS options to use
    #[arg(long = "dns-opt", value_name = "list")]
    pub dns_opt: Vec<String>,
    /// Default shm size for containers
    #[arg(long, value_name = "bytes")]
    pub default_shm_size: Option<i64>,
    /// Set no-new-privileges by default for new containers
    #[arg(long)]
    pub no_new_privileges: bool,
    /// Set the max concurrent downloads
    #[arg(long, value_name = "int")]
    pub max_concurrent_downloads: Option<usize>,
    /// Seconds given to containers to stop before they are killed (containers are kept when the daemon stops)
    #[arg(long, value_name = "int")]
    pub shutdown_timeout: Option<i64>,
    /// Containers are always kept alive when the daemon stops; taken for compatibility
    #[arg(long)]
    pub live_restore: bool,
}
