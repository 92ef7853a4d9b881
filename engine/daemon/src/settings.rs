//! What the flags and `daemon.json` come to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine_core::{EngineConfig, Runtime};
use serde::Deserialize;
use wharf_docker::container::{LogConfig, Ulimit};

use crate::flags::Flags;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("unable to configure the daemon with file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("unable to configure the daemon with file {path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error(
        "unable to configure the daemon with file {path}: the following directives are specified both as a flag and \
         in the configuration file: {names}"
    )]
    Both { path: PathBuf, names: String },
    #[error("invalid runtime {0:?}: write name=path or name=shim")]
    Runtime(String),
    #[error("specified default runtime '{0}' does not exist")]
    DefaultRuntime(String),
    #[error("invalid log option {0:?}: write key=value")]
    LogOption(String),
    #[error("log driver {0:?} is not available: use json-file, local or none")]
    LogDriver(String),
    #[error("invalid logging level {0:?}: use debug, info, warn, error or fatal")]
    LogLevel(String),
    #[error("invalid {flag} {}: it must be an absolute path", path.display())]
    Relative { flag: &'static str, path: PathBuf },
}

/// `daemon.json`, with Docker's keys. A key of Docker's that is not here is refused like any unknown one, since
/// ignoring it would mean less than was asked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    hosts: Option<Vec<String>>,
    data_root: Option<PathBuf>,
    exec_root: Option<PathBuf>,
    containerd: Option<PathBuf>,
    containerd_namespace: Option<String>,
    pidfile: Option<PathBuf>,
    group: Option<String>,
    debug: Option<bool>,
    log_level: Option<String>,
    cgroup_parent: Option<String>,
    runtimes: Option<BTreeMap<String, FileRuntime>>,
    default_runtime: Option<String>,
    insecure_registries: Option<Vec<String>>,
    registry_mirrors: Option<Vec<String>>,
    log_driver: Option<String>,
    log_opts: Option<BTreeMap<String, String>>,
    labels: Option<Vec<String>>,
    dns: Option<Vec<String>>,
    dns_search: Option<Vec<String>>,
    dns_opts: Option<Vec<String>>,
    default_shm_size: Option<Size>,
    default_ulimits: Option<BTreeMap<String, FileUlimit>>,
    #[serde(rename = "no-new-privileges")]
    no_new_privileges: Option<bool>,
    max_concurrent_downloads: Option<usize>,
    shutdown_timeout: Option<i64>,
    live_restore: Option<bool>,
    features: Option<BTreeMap<String, bool>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct FileRuntime {
    path: String,
    runtime_type: String,
    runtime_args: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct FileUlimit {
    name: String,
    hard: i64,
    soft: i64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(i64),
    Text(String),
}

impl Size {
    fn bytes(&self) -> Option<i64> {
        match self {
            Size::Bytes(bytes) => Some(*bytes),
            Size::Text(text) => {
                let lower = text.trim().to_ascii_lowercase();
                let lower = lower.strip_suffix('b').unwrap_or(&lower);
                let shift = match lower.chars().last()? {
                    'k' => 10,
                    'm' => 20,
                    'g' => 30,
                    _ => return lower.parse().ok(),
                };
                lower[..lower.len() - 1].parse::<i64>().ok()?.checked_mul(1 << shift)
            }
        }
    }
}

/// Everything the daemon needs to know to start.
#[derive(Debug, Clone)]
pub struct Settings {
    pub hosts: Vec<String>,
    pub engine: EngineConfig,
    pub lifecycle: PathBuf,
    pub namespace: String,
    pub pidfile: Option<PathBuf>,
    pub group: Option<String>,
    pub debug: bool,
    pub log_level: String,
    pub insecure_registries: Vec<String>,
    pub registry_mirrors: Vec<String>,
    /// With a folder for each registry: `certs.d` beside the configuration file.
    pub registry_hosts: PathBuf,
    pub labels: Vec<String>,
    pub max_downloads: usize,
    pub validate_only: bool,
}

impl Settings {
    /// Reads the configuration file, if there is one, and puts the flags beside it. What is said in both is an error,
    /// as in dockerd.
    pub fn resolve(flags: &Flags) -> Result<Self, SettingsError> {
        let file = read(flags)?;
        conflicts(flags, &file)?;
        let data_root = flags
            .data_root
            .clone()
            .or(file.data_root.clone())
            .unwrap_or_else(|| "/var/lib/wharf/engine".into());
        let exec_root =
            flags.exec_root.clone().or(file.exec_root.clone()).unwrap_or_else(|| "/run/wharf/engine".into());
        for (flag, path) in [("data-root", &data_root), ("exec-root", &exec_root)] {
            if !path.is_absolute() {
                return Err(SettingsError::Relative { flag, path: path.clone() });
            }
        }
        let mut engine = EngineConfig::new(data_root, exec_root);
        if let Some(parent) = flags.cgroup_parent.clone().or(file.cgroup_parent.clone()) {
            engine.cgroup_parent = parent;
        }
        runtimes(&mut engine, flags, &file)?;
        logs(&mut engine.log, flags, &file)?;
        engine.dns = either(&flags.dns, file.dns.clone());
        engine.dns_search = either(&flags.dns_search, file.dns_search.clone());
        engine.dns_options = either(&flags.dns_opt, file.dns_opts.clone());
        engine.no_new_privileges = flags.no_new_privileges || file.no_new_privileges == Some(true);
        let shm = flags.default_shm_size.or_else(|| file.default_shm_size.as_ref().and_then(Size::bytes));
        engine.default_shm_size = shm.unwrap_or(engine.default_shm_size);
        engine.default_ulimits = file
            .default_ulimits
            .iter()
            .flatten()
            .map(|(key, limit)| Ulimit {
                name: if limit.name.is_empty() { key.clone() } else { limit.name.clone() },
                hard: limit.hard,
                soft: limit.soft,
            })
            .collect();
        let hosts = either(&flags.host, file.hosts.clone());
        let debug = flags.debug || file.debug == Some(true);
        let log_level = flags.log_level.clone().or(file.log_level.clone());
        let log_level = log_level.unwrap_or_else(|| if debug { "debug" } else { "info" }.to_owned());
        if !["trace", "debug", "info", "warn", "error", "fatal"].contains(&log_level.as_str()) {
            return Err(SettingsError::LogLevel(log_level));
        }
        Ok(Self {
            hosts: if hosts.is_empty() { vec!["unix:///run/wharf/wharfd.sock".to_owned()] } else { hosts },
            engine,
            lifecycle: flags
                .containerd
                .clone()
                .or(file.containerd)
                .unwrap_or_else(|| "/run/wharf/lifecycled.sock".into()),
            namespace: flags
                .containerd_namespace
                .clone()
                .or(file.containerd_namespace)
                .unwrap_or_else(|| "wharf".to_owned()),
            pidfile: flags.pidfile.clone().or(file.pidfile),
            group: flags.group.clone().or(file.group),
            debug,
            log_level,
            insecure_registries: either(&flags.insecure_registry, file.insecure_registries),
            registry_mirrors: either(&flags.registry_mirror, file.registry_mirrors),
            registry_hosts: flags.config_file.with_file_name("certs.d"),
            labels: either(&flags.label, file.labels),
            max_downloads: flags.max_concurrent_downloads.or(file.max_concurrent_downloads).unwrap_or(3),
            validate_only: flags.validate,
        })
    }
}

fn either(flags: &[String], file: Option<Vec<String>>) -> Vec<String> {
    if flags.is_empty() { file.unwrap_or_default() } else { flags.to_vec() }
}

fn read(flags: &Flags) -> Result<File, SettingsError> {
    let path = &flags.config_file;
    let bad = |reason: String| SettingsError::File { path: path.clone(), reason };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
        Err(source) => return Err(SettingsError::Read { path: path.clone(), source }),
    };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(File::default());
    }
    // the unknown keys all at once, as dockerd names them
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    let unknown: Vec<&str> = object.keys().map(String::as_str).filter(|key| !KEYS.contains(key)).collect();
    if !unknown.is_empty() {
        return Err(bad(format!(
            "the following directives don't match any configuration option: {}",
            unknown.join(", ")
        )));
    }
    serde_json::from_value(serde_json::Value::Object(object)).map_err(|error| bad(error.to_string()))
}

const KEYS: &[&str] = &[
    "hosts",
    "data-root",
    "exec-root",
    "containerd",
    "containerd-namespace",
    "pidfile",
    "group",
    "debug",
    "log-level",
    "cgroup-parent",
    "runtimes",
    "default-runtime",
    "insecure-registries",
    "registry-mirrors",
    "log-driver",
    "log-opts",
    "labels",
    "dns",
    "dns-search",
    "dns-opts",
    "default-shm-size",
    "default-ulimits",
    "no-new-privileges",
    "max-concurrent-downloads",
    "shutdown-timeout",
    "live-restore",
    "features",
];

fn conflicts(flags: &Flags, file: &File) -> Result<(), SettingsError> {
    let pairs: [(&str, bool, bool); 14] = [
        ("hosts", !flags.host.is_empty(), file.hosts.is_some()),
        ("data-root", flags.data_root.is_some(), file.data_root.is_some()),
        ("exec-root", flags.exec_root.is_some(), file.exec_root.is_some()),
        ("containerd", flags.containerd.is_some(), file.containerd.is_some()),
        ("pidfile", flags.pidfile.is_some(), file.pidfile.is_some()),
        ("group", flags.group.is_some(), file.group.is_some()),
        ("debug", flags.debug, file.debug.is_some()),
        ("log-level", flags.log_level.is_some(), file.log_level.is_some()),
        ("cgroup-parent", flags.cgroup_parent.is_some(), file.cgroup_parent.is_some()),
        ("default-runtime", flags.default_runtime.is_some(), file.default_runtime.is_some()),
        ("log-driver", flags.log_driver.is_some(), file.log_driver.is_some()),
        ("insecure-registries", !flags.insecure_registry.is_empty(), file.insecure_registries.is_some()),
        ("registry-mirrors", !flags.registry_mirror.is_empty(), file.registry_mirrors.is_some()),
        ("labels", !flags.label.is_empty(), file.labels.is_some()),
    ];
    let both: Vec<&str> =
        pairs.iter().filter(|(_, flag, file)| *flag && *file).map(|(name, ..)| *name).collect();
    if both.is_empty() {
        return Ok(());
    }
    Err(SettingsError::Both { path: flags.config_file.clone(), names: both.join(", ") })
}

/// A value that begins with `io.containerd.` or names a shim's program is a shim; any other is a runtime's program,
/// run by our own shim.
fn runtime(value: &str) -> Runtime {
    let ours = engine_core::config::WHARF_RUNTIME;
    let file = value.rsplit('/').next().unwrap_or(value);
    if value.starts_with("io.containerd.") || file.starts_with("containerd-shim-") {
        return Runtime { shim: value.to_owned(), program: String::new() };
    }
    Runtime { shim: ours.to_owned(), program: value.to_owned() }
}

fn runtimes(engine: &mut EngineConfig, flags: &Flags, file: &File) -> Result<(), SettingsError> {
    for (name, given) in file.runtimes.iter().flatten() {
        if !given.runtime_args.is_empty() || (given.path.is_empty() == given.runtime_type.is_empty()) {
            return Err(SettingsError::Runtime(name.clone()));
        }
        let value = if given.path.is_empty() { &given.runtime_type } else { &given.path };
        engine.runtimes.insert(name.clone(), runtime(value));
    }
    for pair in &flags.add_runtime {
        let (name, value) = pair.split_once('=').ok_or_else(|| SettingsError::Runtime(pair.clone()))?;
        if name.is_empty() || value.is_empty() {
            return Err(SettingsError::Runtime(pair.clone()));
        }
        engine.runtimes.insert(name.to_owned(), runtime(value));
    }
    if let Some(name) = flags.default_runtime.clone().or(file.default_runtime.clone()) {
        if engine.runtime(&name).is_none() {
            return Err(SettingsError::DefaultRuntime(name));
        }
        engine.default_runtime = name;
    }
    Ok(())
}

fn logs(log: &mut LogConfig, flags: &Flags, file: &File) -> Result<(), SettingsError> {
    if let Some(driver) = flags.log_driver.clone().or(file.log_driver.clone()) {
        if !["json-file", "local", "none"].contains(&driver.as_str()) {
            return Err(SettingsError::LogDriver(driver));
        }
        log.r#type = driver;
    }
    log.config.extend(file.log_opts.clone().unwrap_or_default());
    for pair in &flags.log_opt {
        let (key, value) = pair.split_once('=').ok_or_else(|| SettingsError::LogOption(pair.clone()))?;
        log.config.insert(key.to_owned(), value.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(json: &str, flags: Flags) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let config_file = dir.path().join("daemon.json");
        std::fs::write(&config_file, json).unwrap();
        Settings::resolve(&Flags { config_file, ..flags }).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_gives_the_defaults() {
        let settings = resolve("", Flags::default()).unwrap();
        assert_eq!(settings.hosts, ["unix:///run/wharf/wharfd.sock"]);
        assert_eq!(settings.engine.cgroup_parent, "/wharf");
        assert_eq!(settings.namespace, "wharf");
        let missing = Flags { config_file: "/nonexistent/daemon.json".into(), ..Flags::default() };
        assert!(Settings::resolve(&missing).is_ok());
    }

    #[test]
    fn unknown_keys_are_named() {
        let said = resolve(r#"{"colour":"red","debug":true,"taste":1}"#, Flags::default()).unwrap_err();
        assert!(
            said.ends_with("the following directives don't match any configuration option: colour, taste"),
            "{said}"
        );
    }

    #[test]
    fn what_is_said_twice_is_refused() {
        let flags = Flags { data_root: Some("/d".into()), ..Flags::default() };
        let said = resolve(r#"{"data-root":"/e"}"#, flags).unwrap_err();
        assert!(said.contains("both as a flag and in the configuration file: data-root"), "{said}");
    }

    #[test]
    fn runtimes_are_shims_or_programs() {
        let flags = Flags {
            add_runtime: vec!["runc=io.containerd.runc.v2".to_owned(), "crun=/usr/bin/crun".to_owned()],
            default_runtime: Some("runc".to_owned()),
            ..Flags::default()
        };
        let engine = resolve("{}", flags).unwrap().engine;
        assert_eq!(engine.runtime("").unwrap().shim, "io.containerd.runc.v2");
        let crun = engine.runtime("crun").unwrap();
        assert_eq!((crun.shim.as_str(), crun.program.as_str()), ("io.containerd.wharf.v2", "/usr/bin/crun"));
        let wrong = Flags { default_runtime: Some("x".to_owned()), ..Flags::default() };
        assert_eq!(resolve("{}", wrong).unwrap_err(), "specified default runtime 'x' does not exist");
    }

    #[test]
    fn file_values_are_taken() {
        let json = r#"{"log-driver":"local","log-opts":{"max-size":"1m"},"default-shm-size":"32M",
            "default-ulimits":{"nofile":{"Name":"nofile","Hard":9,"Soft":8}},"insecure-registries":["r:5000"]}"#;
        let settings = resolve(json, Flags::default()).unwrap();
        assert_eq!(settings.engine.log.r#type, "local");
        assert_eq!(settings.engine.default_shm_size, 32 << 20);
        assert_eq!(settings.engine.default_ulimits[0].hard, 9);
        assert_eq!(settings.insecure_registries, ["r:5000"]);
    }
}
