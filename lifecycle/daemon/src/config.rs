//! The configuration file: TOML with containerd's vocabulary.
//!
//! What this daemon has too takes effect. Tables that only tune containerd's own parts are read over. What would
//! open a door, such as a TCP address, is refused. A key that containerd does not know either is an error that
//! names it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use lifecycle_api::{MessageLimits, MetricsConfig, Settings, SocketConfig, StoragePolicy, TcpConfig};
use serde::{Deserialize, Serialize};

use crate::file;
use crate::plugins::Plugins;
use crate::processors;
use crate::trace::{self, TraceError};

/// Where clients look.
const ADDRESS: &str = "/run/wharf/lifecycled.sock";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read configuration {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("configuration {path}: {source}")]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("configuration {path}: {source}")]
    Key { path: PathBuf, source: Box<toml::de::Error> },
    #[error("configuration {path}: imports: {why}")]
    Imports { path: PathBuf, why: String },
    #[error("configuration: version {0} is not supported, write version = 2, 3 or 4")]
    Version(u32),
    #[error("configuration: {key} must be an absolute path, not {value:?}")]
    Relative { key: &'static str, value: PathBuf },
    #[error("configuration: oom_score {0} is not between -1000 and 1000")]
    OomScore(i32),
    #[error("configuration: ttrpc.tcp_address is not supported, shims send their events to a unix socket")]
    TtrpcTcp,
    #[error("configuration: {key} {value:?} is not an address such as 127.0.0.1:1338")]
    Address { key: &'static str, value: String },
    #[error(
        "configuration: {0} is required with grpc.tcp_address: who may use the API may do anything on this machine, \
         so clients have to show a certificate that grpc.tcp_tls_ca signed"
    )]
    TcpTls(&'static str),
    #[error("configuration: grpc.tcp_tls_common_name is not supported, grpc.tcp_tls_ca says who may connect")]
    CommonName,
    #[error(
        "configuration: {key} {value} is not between 1 and 2147483647 bytes (0 for the default, 16777216)"
    )]
    MessageSize { key: &'static str, value: i64 },
    #[error("configuration: {key} is not supported: only [grpc] limits messages")]
    TtrpcMessageSize { key: &'static str },
    #[error("configuration: debug.format {0:?} is not supported, the log is written as text")]
    Format(String),
    #[error(
        "configuration: debug.log_trace_id is not supported, what is logged within a span is attached to it"
    )]
    LogTraceId,
    #[error("configuration: {0}")]
    Trace(#[from] TraceError),
    #[error("configuration: stream_processors.{0}: {1}")]
    Processor(String, String),
    #[error("configuration: plugins.{0:?}: {1}")]
    Plugin(&'static str, String),
    #[error("configuration: debug.level {0:?} is not one of trace, debug, info, warn, error, fatal, panic")]
    Level(String),
}

/// Everything that can be set. The defaults are what runs without a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub version: u32,
    /// Survives the machine's restart.
    pub root: PathBuf,
    /// Does not.
    pub state: PathBuf,
    /// Written to the daemon's own `oom_score_adj` unless 0.
    pub oom_score: i32,
    pub grpc: Socket,
    pub ttrpc: Socket,
    pub debug: Debug,
    pub metrics: Metrics,
    pub cgroup: Cgroup,

    // containerd's, without effect here
    #[serde(skip_serializing)]
    temp: Ignored,
    #[serde(skip_serializing)]
    plugin_dir: Ignored,
    #[serde(skip_serializing)]
    disabled_plugins: Ignored,
    #[serde(skip_serializing)]
    required_plugins: Ignored,
    #[serde(skip_serializing)]
    imports: Ignored,
    pub plugins: Plugins,
    #[serde(skip_serializing)]
    proxy_plugins: Ignored,
    #[serde(skip_serializing_if = "processors::Table::is_empty")]
    stream_processors: processors::Table,
    #[serde(skip_serializing)]
    timeouts: Ignored,
}

/// A value that is read over.
type Ignored = Option<toml::Value>;

/// `[grpc]` and `[ttrpc]`: a unix socket and its owner; the API over TCP.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Socket {
    pub address: PathBuf,
    pub uid: u32,
    pub gid: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    tcp_address: String,
    #[serde(skip_serializing_if = "no_path")]
    tcp_tls_ca: PathBuf,
    #[serde(skip_serializing_if = "no_path")]
    tcp_tls_cert: PathBuf,
    #[serde(skip_serializing_if = "no_path")]
    tcp_tls_key: PathBuf,
    #[serde(skip_serializing)]
    tcp_tls_common_name: String,
    /// Bytes of the largest message; 0 for 16 MiB, containerd's default.
    #[serde(skip_serializing_if = "is_zero")]
    max_recv_message_size: i64,
    #[serde(skip_serializing_if = "is_zero")]
    max_send_message_size: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn no_path(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// `[debug]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Debug {
    pub level: String,
    /// A unix socket; none if empty.
    address: PathBuf,
    uid: u32,
    gid: u32,
    /// `text`, also if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    format: String,
    #[serde(skip_serializing)]
    log_trace_id: bool,
}

impl Debug {
    /// The same with another level.
    pub fn at_level(&self, level: &str) -> Self {
        Debug { level: level.into(), ..self.clone() }
    }
}

/// `[metrics]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// A TCP address; none if empty.
    address: String,
    grpc_histogram: bool,
}

/// `[cgroup]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cgroup {
    /// The daemon puts itself there, below the root of each hierarchy; stays where it is if empty.
    pub path: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            version: 2,
            root: "/var/lib/wharf/lifecycle".into(),
            state: "/run/wharf/lifecycle".into(),
            oom_score: 0,
            grpc: Socket { address: ADDRESS.into(), ..Socket::default() },
            ttrpc: Socket::default(),
            debug: Debug { level: "info".into(), ..Debug::default() },
            temp: None,
            plugin_dir: None,
            disabled_plugins: None,
            required_plugins: None,
            imports: None,
            plugins: Plugins::default(),
            metrics: Metrics::default(),
            cgroup: Cgroup::default(),
            proxy_plugins: None,
            stream_processors: processors::Table::new(),
            timeouts: None,
        }
    }
}

impl Config {
    /// Reads a file and those that it imports. It need not exist unless it was asked for by name.
    pub fn read(path: &Path, asked_for: bool) -> Result<Self, ConfigError> {
        let table = file::read(path, asked_for)?;
        table.try_into().map_err(|source| ConfigError::Key { path: path.into(), source: Box::new(source) })
    }

    /// Checks what the types do not, and fills in what follows from other settings.
    pub fn validate(mut self) -> Result<Self, ConfigError> {
        if !(2..=3).contains(&self.version) {
            return Err(ConfigError::Version(self.version));
        }
        if self.grpc.address.as_os_str().is_empty() {
            // a [grpc] table that sets something else
            self.grpc.address = ADDRESS.into();
        }
        if self.ttrpc.address.as_os_str().is_empty() {
            let mut address = self.grpc.address.clone().into_os_string();
            address.push(".ttrpc");
            self.ttrpc =
                Socket { address: address.into(), uid: self.grpc.uid, gid: self.grpc.gid, ..self.ttrpc };
        }
        let paths = [
            ("root", &self.root),
            ("state", &self.state),
            ("grpc.address", &self.grpc.address),
            ("ttrpc.address", &self.ttrpc.address),
        ];
        for (key, value) in paths {
            if !value.is_absolute() {
                return Err(ConfigError::Relative { key, value: value.clone() });
            }
        }
        if !no_path(&self.debug.address) && !self.debug.address.is_absolute() {
            return Err(ConfigError::Relative { key: "debug.address", value: self.debug.address.clone() });
        }
        if !self.ttrpc.tcp_address.is_empty() {
            return Err(ConfigError::TtrpcTcp);
        }
        self.grpc.messages()?;
        for (key, value) in [
            ("ttrpc.max_recv_message_size", self.ttrpc.max_recv_message_size),
            ("ttrpc.max_send_message_size", self.ttrpc.max_send_message_size),
        ] {
            if value != 0 {
                return Err(ConfigError::TtrpcMessageSize { key });
            }
        }
        if !matches!(self.debug.format.as_str(), "" | "text") {
            return Err(ConfigError::Format(self.debug.format.chars().take(32).collect()));
        }
        if self.debug.log_trace_id {
            return Err(ConfigError::LogTraceId);
        }
        self.tcp()?;
        self.metrics()?;
        if !(-1000..=1000).contains(&self.oom_score) {
            return Err(ConfigError::OomScore(self.oom_score));
        }
        level(&self.debug.level)?;
        self.plugins.validate()?;
        processors::validate(&self.stream_processors)?;
        trace::target(&self.plugins.otlp, &self.plugins.tracing, |_| None)?;
        Ok(self)
    }

    fn tcp(&self) -> Result<Option<TcpConfig>, ConfigError> {
        let grpc = &self.grpc;
        if grpc.tcp_address.is_empty() {
            return Ok(None);
        }
        let address = address("grpc.tcp_address", &grpc.tcp_address)?;
        for (key, path) in [
            ("grpc.tcp_tls_cert", &grpc.tcp_tls_cert),
            ("grpc.tcp_tls_key", &grpc.tcp_tls_key),
            ("grpc.tcp_tls_ca", &grpc.tcp_tls_ca),
        ] {
            if no_path(path) {
                return Err(ConfigError::TcpTls(key));
            }
        }
        if !grpc.tcp_tls_common_name.is_empty() {
            return Err(ConfigError::CommonName);
        }
        let (certificate, key) = (grpc.tcp_tls_cert.clone(), grpc.tcp_tls_key.clone());
        Ok(Some(TcpConfig { address, certificate, key, client_ca: grpc.tcp_tls_ca.clone() }))
    }

    fn metrics(&self) -> Result<Option<MetricsConfig>, ConfigError> {
        let Metrics { address: text, grpc_histogram } = &self.metrics;
        if text.is_empty() {
            return Ok(None);
        }
        let address = address("metrics.address", text)?;
        Ok(Some(MetricsConfig { address, grpc_histogram: *grpc_histogram }))
    }

    /// Where spans go, by the environment and this configuration.
    pub fn traces(&self) -> Result<Option<trace::Target>, TraceError> {
        trace::target(&self.plugins.otlp, &self.plugins.tracing, |name| std::env::var(name).ok())
    }

    /// What the server is told; for a configuration that was found valid.
    pub fn settings(&self) -> Settings {
        let socket =
            |socket: &Socket| SocketConfig { path: socket.address.clone(), uid: socket.uid, gid: socket.gid };
        Settings {
            root: self.root.clone(),
            state: self.state.clone(),
            grpc: socket(&self.grpc),
            ttrpc: socket(&self.ttrpc),
            messages: self.grpc.messages().unwrap_or_default(),
            debug: matches!(self.debug.level.as_str(), "debug" | "trace"),
            storage: StoragePolicy {
                processors: processors::processors(&self.stream_processors),
                ..self.plugins.storage()
            },
            registry_hosts: self.plugins.registry_hosts(),
            tcp: self.tcp().unwrap_or_default(),
            metrics: self.metrics().unwrap_or_default(),
            debug_socket: (!no_path(&self.debug.address)).then(|| SocketConfig {
                path: self.debug.address.clone(),
                uid: self.debug.uid,
                gid: self.debug.gid,
            }),
            adopt: None,
            restart_interval: self.plugins.restart_interval(),
        }
    }
}

impl Socket {
    fn messages(&self) -> Result<MessageLimits, ConfigError> {
        let size = |key, value: i64, default| match i32::try_from(value) {
            Ok(0) => Ok(default),
            Ok(1..) => Ok(value.unsigned_abs() as usize),
            _ => Err(ConfigError::MessageSize { key, value }),
        };
        let MessageLimits { receive, send } = MessageLimits::default();
        Ok(MessageLimits {
            receive: size("grpc.max_recv_message_size", self.max_recv_message_size, receive)?,
            send: size("grpc.max_send_message_size", self.max_send_message_size, send)?,
        })
    }
}

/// `host:port` with a numeric host; a port alone is on every address, as Go reads it.
fn address(key: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let parsed = match text.strip_prefix(':') {
        Some(_) => format!("[::]{text}").parse(),
        None => text.replace("localhost:", "127.0.0.1:").parse(),
    };
    parsed.map_err(|_| ConfigError::Address { key, value: text.chars().take(64).collect() })
}

/// containerd's level names as ours.
pub fn level(name: &str) -> Result<tracing::Level, ConfigError> {
    match name {
        "trace" => Ok(tracing::Level::TRACE),
        "debug" => Ok(tracing::Level::DEBUG),
        "" | "info" => Ok(tracing::Level::INFO),
        "warn" | "warning" => Ok(tracing::Level::WARN),
        "error" | "fatal" | "panic" => Ok(tracing::Level::ERROR),
        _ => Err(ConfigError::Level(name.chars().take(32).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let at = tempfile::tempdir().expect("folder");
        let path = at.path().join("config.toml");
        std::fs::write(&path, text).expect("write");
        Config::read(&path, true)?.validate()
    }

    #[test]
    fn containerds_vocabulary_is_read() {
        let config = parse(
            r#"
version = 2
root = "/r"
state = "/s"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "/s/d.sock"
gid = 7
max_recv_message_size = 16777216
[debug]
level = "debug"
[metrics]
address = "127.0.0.1:1338"
[plugins."io.containerd.snapshotter.v1.overlayfs"]
root_path = "/x"
"#,
        )
        .expect("config");
        assert_eq!(config.root, Path::new("/r"));
        assert_eq!(config.ttrpc.address, Path::new("/s/d.sock.ttrpc"), "follows from the gRPC socket");
        assert_eq!(config.ttrpc.gid, 7);
        let settings = config.settings();
        assert!(settings.debug);
        let metrics = settings.metrics.expect("metrics");
        assert_eq!((metrics.address, metrics.grpc_histogram), ("127.0.0.1:1338".parse().unwrap(), false));
        assert_eq!((settings.tcp, settings.debug_socket), (None, None));
    }

    #[test]
    fn api_over_tcp_and_the_debug_socket_are_passed_on() {
        let text = "[grpc]\ntcp_address = ':2376'\ntcp_tls_cert = '/c'\ntcp_tls_key = '/k'\ntcp_tls_ca = '/a'\n\
                    [debug]\naddress = '/d.sock'\ngid = 3\n[metrics]\naddress = 'localhost:1'\ngrpc_histogram = true\n";
        let settings = parse(text).expect("config").settings();
        let tcp = settings.tcp.expect("tcp");
        assert_eq!((tcp.address, tcp.client_ca.as_path()), ("[::]:2376".parse().unwrap(), Path::new("/a")));
        assert_eq!(settings.debug_socket.expect("debug").gid, 3);
        assert!(settings.metrics.expect("metrics").grpc_histogram);
    }

    #[test]
    fn the_size_of_messages_can_be_set() {
        let limits = |text: &str| parse(text).expect("config").settings().messages;
        assert_eq!(limits(""), MessageLimits { receive: 16 << 20, send: 16 << 20 });
        let text = "[grpc]\nmax_recv_message_size = 4096\nmax_send_message_size = 2147483647\n";
        assert_eq!(limits(text), MessageLimits { receive: 4096, send: 2_147_483_647 });
        let dumped = toml::to_string(&parse(text).expect("config")).expect("dump");
        assert_eq!(limits(&dumped), limits(text));
    }

    #[test]
    fn unknown_keys_are_named() {
        for (text, key) in [("rot = '/x'", "rot"), ("[grpc]\nadress = '/x'", "adress")] {
            let error = parse(text).expect_err("unknown key").to_string();
            assert!(error.contains(&format!("unknown field `{key}`")), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        assert!(matches!(parse("version = 1"), Err(ConfigError::Version(1))));
        assert!(matches!(parse("root = 'here'"), Err(ConfigError::Relative { key: "root", .. })));
        assert!(matches!(parse("oom_score = 1001"), Err(ConfigError::OomScore(1001))));
        assert!(matches!(parse("[ttrpc]\ntcp_address = ':1'"), Err(ConfigError::TtrpcTcp)));
        for (text, key) in [
            ("[grpc]\ntcp_address = ':1'", "grpc.tcp_tls_cert"),
            ("[grpc]\ntcp_address = ':1'\ntcp_tls_cert = '/c'\ntcp_tls_key = '/k'", "grpc.tcp_tls_ca"),
            ("[grpc]\ntcp_address = 'here'", "grpc.tcp_address \"here\""),
            ("[grpc]\nmax_send_message_size = -7", "grpc.max_send_message_size -7"),
            ("[grpc]\nmax_recv_message_size = 2147483648", "grpc.max_recv_message_size 2147483648"),
            ("[ttrpc]\nmax_recv_message_size = 4096", "ttrpc.max_recv_message_size"),
            ("[debug]\nformat = 'json'", "debug.format \"json\""),
            ("[debug]\nlog_trace_id = true", "debug.log_trace_id"),
            ("[metrics]\naddress = 'nowhere:1338'", "metrics.address \"nowhere:1338\""),
            ("[debug]\naddress = 'd.sock'", "debug.address"),
            ("[plugins.'io.containerd.tracing.processor.v1.otlp']\nprotocol = 'x'", "protocol"),
            ("[plugins.'io.containerd.tracing.processor.v1.otlp']\nendpoin = 'x'", "endpoin"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(key), "{error}");
        }
        assert!(matches!(parse("[debug]\nlevel = 'loud'"), Err(ConfigError::Level(_))));
    }

    #[test]
    fn file_may_be_missing_unless_asked_for() {
        let missing = Path::new("/no/such/config.toml");
        assert_eq!(Config::read(missing, false).expect("defaults"), Config::default());
        assert!(matches!(Config::read(missing, true), Err(ConfigError::Read { .. })));
    }

    #[test]
    fn dumped_defaults_can_be_read_back() {
        let config = Config::default().validate().expect("valid");
        let text = toml::to_string(&config).expect("dump");
        assert_eq!(parse(&text).expect("read back"), config);
    }
}
