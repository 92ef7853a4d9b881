//! The configuration file: TOML with containerd's vocabulary.
//!
//! What this daemon has too takes effect. Tables that only tune containerd's own parts are read over. What would
//! open a door, such as a TCP address, is refused. A key that containerd does not know either is an error that
//! names it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use lifecycle_api::{Settings, SocketConfig};
use serde::{Deserialize, Serialize};

/// Where clients look.
const ADDRESS: &str = "/run/wharf/lifecycled.sock";
/// Longest file read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read configuration {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("configuration {path}: {source}")]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("configuration: version {0} is not supported, write version = 2 or 3")]
    Version(u32),
    #[error("configuration: {key} must be an absolute path, not {value:?}")]
    Relative { key: &'static str, value: PathBuf },
    #[error("configuration: oom_score {0} is not between -1000 and 1000")]
    OomScore(i32),
    #[error("configuration: {0} is not supported, only unix sockets are served")]
    Tcp(&'static str),
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
    #[serde(skip_serializing)]
    plugins: Ignored,
    #[serde(skip_serializing)]
    proxy_plugins: Ignored,
    #[serde(skip_serializing)]
    stream_processors: Ignored,
    #[serde(skip_serializing)]
    timeouts: Ignored,
    #[serde(skip_serializing)]
    cgroup: Ignored,
    #[serde(skip_serializing)]
    metrics: Ignored,
}

/// A value that is read over.
type Ignored = Option<toml::Value>;

/// `[grpc]` and `[ttrpc]`: a unix socket and its owner.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Socket {
    pub address: PathBuf,
    pub uid: u32,
    pub gid: u32,
    #[serde(skip_serializing)]
    tcp_address: String,
    #[serde(skip_serializing)]
    tcp_tls_ca: Ignored,
    #[serde(skip_serializing)]
    tcp_tls_cert: Ignored,
    #[serde(skip_serializing)]
    tcp_tls_key: Ignored,
    #[serde(skip_serializing)]
    max_recv_message_size: Ignored,
    #[serde(skip_serializing)]
    max_send_message_size: Ignored,
}

/// `[debug]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Debug {
    pub level: String,
    #[serde(skip_serializing)]
    address: Ignored,
    #[serde(skip_serializing)]
    uid: Ignored,
    #[serde(skip_serializing)]
    gid: Ignored,
    #[serde(skip_serializing)]
    format: Ignored,
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
            plugins: None,
            proxy_plugins: None,
            stream_processors: None,
            timeouts: None,
            cgroup: None,
            metrics: None,
        }
    }
}

impl Config {
    /// Reads a file. It need not exist unless it was asked for by name.
    pub fn read(path: &Path, asked_for: bool) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.into(), source };
        let mut text = String::new();
        match std::fs::File::open(path) {
            Ok(file) => {
                let length = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
                if length as u64 > MAX_FILE {
                    return Err(failed(io::Error::other("longer than 1 MiB")));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !asked_for => {}
            Err(error) => return Err(failed(error)),
        }
        toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })
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
        for (key, socket) in [("grpc.tcp_address", &self.grpc), ("ttrpc.tcp_address", &self.ttrpc)] {
            if !socket.tcp_address.is_empty() {
                return Err(ConfigError::Tcp(key));
            }
        }
        if !(-1000..=1000).contains(&self.oom_score) {
            return Err(ConfigError::OomScore(self.oom_score));
        }
        level(&self.debug.level)?;
        Ok(self)
    }

    /// What the server is told.
    pub fn settings(&self) -> Settings {
        let socket =
            |socket: &Socket| SocketConfig { path: socket.address.clone(), uid: socket.uid, gid: socket.gid };
        Settings {
            root: self.root.clone(),
            state: self.state.clone(),
            grpc: socket(&self.grpc),
            ttrpc: socket(&self.ttrpc),
            debug: matches!(self.debug.level.as_str(), "debug" | "trace"),
        }
    }
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
        assert!(config.settings().debug);
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
        assert!(matches!(parse("[grpc]\ntcp_address = ':1'"), Err(ConfigError::Tcp("grpc.tcp_address"))));
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
