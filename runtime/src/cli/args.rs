//! Commands and flags.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// The word "version" is what dockerd and podman look for.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0");

/// An OCI runtime: creates and runs containers as config.json in a bundle describes them
#[derive(Debug, Parser)]
#[command(name = "runw", version = VERSION, disable_help_subcommand = true, propagate_version = false)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Root directory for the state of containers, on a filesystem that a reboot clears
    /// (default: /run/wharf/runw; for an ordinary user $XDG_RUNTIME_DIR/runw)
    #[arg(long)]
    pub root: Option<PathBuf>,
    /// File to write messages to instead of standard error
    #[arg(long)]
    pub log: Option<PathBuf>,
    /// Form of the messages
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Let systemd make the cgroups
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Write debug messages too
    #[arg(long)]
    pub debug: bool,
    /// Ignore cgroup permission errors ("true", "false" or "auto")
    #[arg(long, default_value = "auto")]
    pub rootless: String,
    /// Taken for compatibility and ignored
    #[arg(long, hide = true)]
    pub criu: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a container that waits for start
    Create(CreateArgs),
    /// Run the program of a created container
    Start(IdArgs),
    /// Create a container and run its program
    Run(CreateArgs),
    /// Run another program in a container
    Exec(ExecArgs),
    /// Send a signal to a container (default: TERM)
    Kill(KillArgs),
    /// Remove a container
    Delete(DeleteArgs),
    /// Show the state of a container as JSON
    State(IdArgs),
    /// List the containers below the root directory
    List(ListArgs),
    /// List the processes of a container
    Ps(PsArgs),
    /// Freeze all processes of a container
    Pause(IdArgs),
    /// Thaw a paused container
    Resume(IdArgs),
    /// Write a config.json to start from
    Spec(SpecArgs),
    /// Show what this runtime can do as JSON
    Features,
    /// Change the resource limits of a container
    Update(std::boxed::Box<UpdateArgs>),
    /// Save a running container's processes to files through CRIU
    Checkpoint(std::boxed::Box<CheckpointArgs>),
    /// Make a container of what a checkpoint has saved
    Restore(std::boxed::Box<RestoreArgs>),
    /// Show statistics and out-of-memory events of a container
    Events(EventsArgs),
}

#[derive(Debug, Args)]
pub struct IdArgs {
    pub id: String,
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Directory that holds config.json (default: the current one)
    #[arg(short, long)]
    pub bundle: Option<PathBuf>,
    /// Unix socket to send the master of the terminal to
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// Unix socket to send a pidfd of the container's process to
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// File to write the pid of the container's process to
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// Do not use pivot_root; for a host whose root is in RAM
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass N descriptors after the standard streams to the container
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..1024))]
    pub preserve_fds: u32,
    /// Leave the container running and return (run)
    #[arg(short, long)]
    pub detach: bool,
    /// Keep the stopped container's state (run)
    #[arg(long)]
    pub keep: bool,
    /// Taken for compatibility: runw never makes itself a subreaper
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
    pub id: String,
}

#[derive(Debug, Args)]
pub struct ExecArgs {
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// Unix socket to send a pidfd of the process to
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// Working directory
    #[arg(long)]
    pub cwd: Option<String>,
    /// NAME=value, may be repeated
    #[arg(short, long)]
    pub env: Vec<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// UID[:GID]
    #[arg(short, long)]
    pub user: Option<String>,
    /// Supplementary group, may be repeated
    #[arg(short = 'g', long)]
    pub additional_gids: Vec<u32>,
    /// File with the process as in config.json
    #[arg(short, long)]
    pub process: Option<PathBuf>,
    /// Leave the process running and return
    #[arg(short, long)]
    pub detach: bool,
    /// File to write the pid of the process to
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long)]
    pub process_label: Option<String>,
    /// AppArmor profile
    #[arg(long)]
    pub apparmor: Option<String>,
    #[arg(long)]
    pub no_new_privs: bool,
    /// Capability to add, may be repeated
    #[arg(short, long)]
    pub cap: Vec<String>,
    /// Pass N descriptors after the standard streams to the process
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..1024))]
    pub preserve_fds: u32,
    /// Cgroup below the container's to run in: [CONTROLLER[,…]:]PATH, may be repeated
    #[arg(long)]
    pub cgroup: Vec<String>,
    /// Run even if the container is paused
    #[arg(long)]
    pub ignore_paused: bool,
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
    /// The container, and unless --process is given the command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_names = ["ID", "COMMAND"])]
    pub id_and_command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct KillArgs {
    /// Send the signal to every process of the container
    #[arg(short, long)]
    pub all: bool,
    pub id: String,
    #[arg(default_value = "SIGTERM")]
    pub signal: String,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Kill the container first if it still runs; it need not exist
    #[arg(short, long)]
    pub force: bool,
    pub id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[arg(short, long, value_enum, default_value = "table")]
    pub format: Format,
    /// Only ids
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct PsArgs {
    #[arg(short, long, value_enum, default_value = "table")]
    pub format: Format,
    /// The container, and options for ps (default: -ef)
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_names = ["ID", "OPTIONS"])]
    pub id_and_options: Vec<String>,
}

#[derive(Debug, Args)]
pub struct SpecArgs {
    /// Directory to write to
    #[arg(short, long)]
    pub bundle: Option<PathBuf>,
    /// For a caller without privileges
    #[arg(long)]
    pub rootless: bool,
}

#[derive(Debug, Args)]
pub struct CheckpointArgs {
    /// Directory for CRIU's images (default: checkpoint)
    #[arg(long)]
    pub image_path: Option<PathBuf>,
    /// Directory for CRIU's work files and log (default: that of the images)
    #[arg(long)]
    pub work_path: Option<PathBuf>,
    /// Images of an earlier pre-dump, relative to --image-path
    #[arg(long)]
    pub parent_path: Option<PathBuf>,
    /// Leave the processes running
    #[arg(long)]
    pub leave_running: bool,
    /// Allow open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Skip TCP connections in the making
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// Allow links to unlinked files to be made
    #[arg(long)]
    pub link_remap: bool,
    /// Allow unix sockets to the outside
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// Allow a session and terminal from outside
    #[arg(long)]
    pub shell_job: bool,
    /// Serve memory pages on demand
    #[arg(long)]
    pub lazy_pages: bool,
    /// Handle file locks
    #[arg(long)]
    pub file_locks: bool,
    /// Only save memory, and let the container run
    #[arg(long)]
    pub pre_dump: bool,
    /// Drop pages that a later image has too
    #[arg(long)]
    pub auto_dedup: bool,
    /// Descriptor that gets a NUL byte once pages are served
    #[arg(long)]
    pub status_fd: Option<i32>,
    /// ADDRESS:PORT of the page server
    #[arg(long)]
    pub page_server: Option<String>,
    /// soft, full, strict or ignore
    #[arg(long)]
    pub manage_cgroups_mode: Option<String>,
    /// A namespace whose contents are not saved: network
    #[arg(long)]
    pub empty_ns: Vec<String>,
    pub id: String,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Unix socket to send the master of the terminal to
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// Directory with CRIU's images (default: checkpoint)
    #[arg(long)]
    pub image_path: Option<PathBuf>,
    /// Directory for CRIU's work files and log (default: that of the images)
    #[arg(long)]
    pub work_path: Option<PathBuf>,
    /// Restore open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Allow unix sockets to the outside
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// Allow a session and terminal from outside
    #[arg(long)]
    pub shell_job: bool,
    /// Handle file locks
    #[arg(long)]
    pub file_locks: bool,
    /// soft, full, strict or ignore
    #[arg(long)]
    pub manage_cgroups_mode: Option<String>,
    /// Directory that holds config.json (default: the current one)
    #[arg(short, long)]
    pub bundle: Option<PathBuf>,
    /// Leave the container running and return
    #[arg(short, long)]
    pub detach: bool,
    /// File to write the pid of the container's process to
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// Taken for compatibility: runw never makes itself a subreaper
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
    /// Taken for compatibility: CRIU chooses
    #[arg(long, hide = true)]
    pub no_pivot: bool,
    /// Taken for compatibility: the images say where those are that they build on
    #[arg(long, hide = true)]
    pub parent_path: Option<PathBuf>,
    /// A namespace whose contents are not restored: network
    #[arg(long)]
    pub empty_ns: Vec<String>,
    /// Drop pages from the images as they are restored
    #[arg(long)]
    pub auto_dedup: bool,
    /// Fetch memory pages when they are used
    #[arg(long)]
    pub lazy_pages: bool,
    /// Security profile for the processes, TYPE:NAME
    #[arg(long)]
    pub lsm_profile: Option<String>,
    /// Security context for the mounts
    #[arg(long)]
    pub lsm_mount_context: Option<String>,
    pub id: String,
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Seconds between statistics, or a Go duration such as 500ms
    #[arg(long, default_value = "5s")]
    pub interval: String,
    /// Show the statistics once
    #[arg(long)]
    pub stats: bool,
    pub id: String,
}

#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// File with resources as in config.json; - for standard input. Other flags are ignored then
    #[arg(short, long)]
    pub resources: Option<PathBuf>,
    #[arg(long)]
    pub blkio_weight: Option<u16>,
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_period: Option<u64>,
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    #[arg(long)]
    pub cpu_share: Option<u64>,
    /// Microseconds of burst
    #[arg(long)]
    pub cpu_burst: Option<u64>,
    /// 1: SCHED_IDLE; 0: the default
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_idle: Option<i64>,
    #[arg(long)]
    pub cpu_rt_period: Option<u64>,
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// Schema of Intel RDT's cache allocation
    #[arg(long)]
    pub l3_cache_schema: Option<String>,
    /// Schema of Intel RDT's memory bandwidth allocation
    #[arg(long)]
    pub mem_bw_schema: Option<String>,
    /// Obsolete, ignored
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub kernel_memory: Option<String>,
    /// Obsolete, ignored
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub kernel_memory_tcp: Option<String>,
    #[arg(long)]
    pub cpuset_cpus: Option<String>,
    #[arg(long)]
    pub cpuset_mems: Option<String>,
    /// Bytes, with k, m or g
    #[arg(long, allow_hyphen_values = true)]
    pub memory: Option<String>,
    #[arg(long, allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    #[arg(long, allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    #[arg(long, allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    pub id: String,
}
