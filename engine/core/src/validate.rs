//! What a create request must satisfy before anything is done, in Docker's words.

use wharf_docker::container::{Config, HostConfig};

use crate::config::EngineConfig;
use crate::container::restart;
use crate::error::EngineError;
use crate::signal;

/// Least memory limit, in bytes.
const LEAST_MEMORY: i64 = 6 << 20;
/// Least duration of a health check, in nanoseconds.
const MILLISECOND: i64 = 1_000_000;

fn refuse<T>(text: impl Into<String>) -> Result<T, EngineError> {
    Err(EngineError::Invalid(text.into()))
}

/// Checks both halves and answers warnings.
pub fn check(engine: &EngineConfig, config: &Config, host: &HostConfig) -> Result<Vec<String>, EngineError> {
    check_config(config)?;
    check_host(engine, host)?;
    let mut warnings = Vec::new();
    check_limits(host, &mut warnings)?;
    if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(warnings)
}

fn check_config(config: &Config) -> Result<(), EngineError> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return refuse(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        ));
    }
    if !config.stop_signal.is_empty() {
        signal::parse(&config.stop_signal)?;
    }
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') {
            return refuse(format!("invalid environment variable: {variable}"));
        }
        if variable.contains('\0') {
            return refuse("invalid environment variable: it contains a null byte");
        }
    }
    if let Some(health) = &config.healthcheck {
        let durations = [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
        ];
        for (name, value) in durations {
            if value != 0 && value < MILLISECOND {
                return refuse(format!("{name} in Healthcheck cannot be less than 1ms"));
            }
        }
        if health.retries < 0 {
            return refuse("Retries in Healthcheck cannot be negative");
        }
    }
    Ok(())
}

fn check_host(engine: &EngineConfig, host: &HostConfig) -> Result<(), EngineError> {
    restart::check(&host.restart_policy, host.auto_remove)?;
    if engine.runtime(&host.runtime).is_none() {
        return refuse(format!("unknown or invalid runtime name: {}", host.runtime));
    }
    let driver = if host.log_config.r#type.is_empty() { &engine.log.r#type } else { &host.log_config.r#type };
    if !matches!(driver.as_str(), "json-file" | "local" | "none") {
        return refuse(format!("logger: no log driver named '{driver}' is registered"));
    }
    for key in host.log_config.config.keys() {
        let known = [
            "max-size",
            "max-file",
            "labels",
            "labels-regex",
            "env",
            "env-regex",
            "tag",
            "compress",
            "mode",
            "max-buffer-size",
            "cache-disabled",
            "cache-max-size",
            "cache-max-file",
            "cache-compress",
        ];
        if !known.contains(&key.as_str()) {
            return refuse(format!("unknown log opt '{key}' for {driver} log driver"));
        }
    }
    if host.shm_size < 0 {
        return refuse("SHM size can not be less than 0");
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return refuse(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return refuse(format!("invalid isolation '{}' on linux", host.isolation));
    }
    if !matches!(host.cgroupns_mode.as_str(), "" | "private" | "host") {
        return refuse(format!("invalid cgroup namespace mode: {}", host.cgroupns_mode));
    }
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return refuse(format!("invalid UTS mode: {}", host.uts_mode));
    }
    if !matches!(host.userns_mode.as_str(), "" | "host") {
        return refuse(format!("invalid USER mode: {}", host.userns_mode));
    }
    let of_container = |mode: &str| mode.strip_prefix("container:").is_some_and(|id| !id.is_empty());
    if !matches!(host.pid_mode.as_str(), "" | "host") && !of_container(&host.pid_mode) {
        return refuse(format!("invalid PID mode: {}", host.pid_mode));
    }
    if !matches!(host.ipc_mode.as_str(), "" | "none" | "host" | "private" | "shareable")
        && !of_container(&host.ipc_mode)
    {
        return refuse(format!("invalid IPC mode: {}", host.ipc_mode));
    }
    if host.network_mode.starts_with("container:") && !of_container(&host.network_mode) {
        return refuse("Invalid network mode: invalid container format container:<name|id>");
    }
    if !matches!(host.network_mode.as_str(), "" | "default" | "bridge" | "none" | "host")
        && !of_container(&host.network_mode)
    {
        return Err(EngineError::NotFound(format!("network {} not found", host.network_mode)));
    }
    for extra in host.extra_hosts.iter().flatten() {
        let separator = extra.find([':', '=']);
        if separator.is_none_or(|at| at == 0 || at + 1 == extra.len()) {
            return refuse(format!("bad format for add-host: {extra:?}"));
        }
    }
    if host.annotations.iter().flatten().any(|(key, _)| key.is_empty()) {
        return refuse("invalid Annotations: the empty string is not permitted as an annotation key");
    }
    if host.volumes_from.as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(EngineError::Unsupported("volumes-from is not supported yet".to_owned()));
    }
    if host.device_requests.as_ref().is_some_and(|list| !list.is_empty()) {
        return refuse(
            "could not select device driver \"\" with capabilities: no device driver is registered",
        );
    }
    if host.links.as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(EngineError::Unsupported("links are not supported yet".to_owned()));
    }
    if host.init == Some(true) {
        return Err(EngineError::Unsupported("an init process (--init) is not supported yet".to_owned()));
    }
    if host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()) {
        return refuse("--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
    }
    Ok(())
}

fn check_limits(host: &HostConfig, warnings: &mut Vec<String>) -> Result<(), EngineError> {
    if host.memory != 0 && host.memory < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if let Some(swappiness) = host.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return refuse(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
    }
    if host.memory_reservation != 0 && host.memory_reservation < LEAST_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory_reservation > 0 && host.memory < host.memory_reservation {
        return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if host.oom_kill_disable == Some(true) && host.memory == 0 {
        let text = "OOM killer is disabled for the container, but no memory limit is set, this can result in the \
                    system running out of resources.";
        warnings.push(text.to_owned());
    }
    if host.nano_cpus != 0 && host.cpu_period != 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if host.nano_cpus != 0 && host.cpu_quota != 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    let cpus = std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1));
    if host.nano_cpus < 0 || host.nano_cpus > cpus * 1_000_000_000 {
        return refuse(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if host.cpu_shares < 0 {
        return refuse(format!("invalid CPU shares ({}): value must be a positive integer", host.cpu_shares));
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.blkio_weight != 0 && !(10..=1000).contains(&host.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(change: impl FnOnce(&mut Config, &mut HostConfig)) -> Result<Vec<String>, String> {
        let (mut config, mut host) = (Config::default(), HostConfig::default());
        change(&mut config, &mut host);
        check(&EngineConfig::new("/d", "/x"), &config, &host).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_asked_is_fine() {
        assert_eq!(said(|_, _| {}), Ok(Vec::new()));
    }

    #[test]
    fn bad_requests_get_dockers_words() {
        type Change = Box<dyn FnOnce(&mut Config, &mut HostConfig)>;
        let cases: Vec<(Change, &str)> = vec![
            (Box::new(|_, h| h.memory = 1), "Minimum memory limit allowed is 6MB"),
            (Box::new(|c, _| c.working_dir = "x".into()), "the working directory 'x' is invalid"),
            (Box::new(|c, _| c.stop_signal = "X".into()), "invalid signal: X"),
            (Box::new(|_, h| h.runtime = "x".into()), "unknown or invalid runtime name: x"),
            (Box::new(|_, h| h.network_mode = "x".into()), "network x not found"),
            (
                Box::new(|_, h| h.log_config.r#type = "x".into()),
                "logger: no log driver named 'x' is registered",
            ),
            (Box::new(|_, h| h.init = Some(true)), "an init process"),
            (Box::new(|_, h| h.cpu_quota = 5), "CPU cfs quota can not be less"),
            (Box::new(|_, h| h.pid_mode = "container:".into()), "invalid PID mode"),
        ];
        for (change, text) in cases {
            let said = said(change).unwrap_err();
            assert!(said.contains(text), "{said:?} is not {text:?}");
        }
    }
}
