//! `[plugins]` of the configuration: containerd's tables of the parts that this daemon has too. Others are read over.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use lifecycle_api::StoragePolicy;
use lifecycle_metadata::Schedule;
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::trace::{Otlp, Service};

const SCHEDULER: &str = "io.containerd.gc.v1.scheduler";
const RESTART: &str = "io.containerd.monitor.container.v1.restart";
const METADATA: &str = "io.containerd.metadata.v1.bolt";
const TRANSFER: &str = "io.containerd.transfer.v1.local";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plugins {
    #[serde(rename = "io.containerd.gc.v1.scheduler")]
    scheduler: Scheduler,
    #[serde(rename = "io.containerd.metadata.v1.bolt")]
    metadata: Metadata,
    #[serde(
        rename = "io.containerd.monitor.container.v1.restart",
        alias = "io.containerd.internal.v1.restart"
    )]
    restart: Restart,
    #[serde(rename = "io.containerd.tracing.processor.v1.otlp")]
    pub otlp: Otlp,
    #[serde(rename = "io.containerd.internal.v1.tracing")]
    pub tracing: Service,
    #[serde(rename = "io.containerd.transfer.v1.local")]
    transfer: Transfer,
    #[serde(flatten, skip_serializing)]
    others: BTreeMap<String, toml::Value>,
}

/// How registries are reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Transfer {
    /// The folder with a folder for each registry, for requests that name none; empty for none.
    config_path: PathBuf,
    /// containerd's, without effect here.
    #[serde(flatten, skip_serializing)]
    others: BTreeMap<String, toml::Value>,
}

/// When garbage is collected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Scheduler {
    /// The part of the time that collections may take, at most 0.5; 0 for no such limit.
    pause_threshold: f64,
    /// Deletions after which a collection is due at once; 0 for never.
    deletion_threshold: i64,
    /// Changes after which a collection is due; 0 for never.
    mutation_threshold: i64,
    /// How long a collection that is due at once is put off.
    schedule_delay: String,
    /// Without effect: what a crash left is cleared before the first request is answered.
    startup_delay: String,
}

impl Default for Scheduler {
    fn default() -> Self {
        Scheduler {
            pause_threshold: 0.02,
            deletion_threshold: 0,
            mutation_threshold: 100,
            schedule_delay: "0s".into(),
            startup_delay: "100ms".into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Metadata {
    /// `shared`: a namespace takes over blobs that another has; `isolated`: it has to bring their bytes.
    content_sharing_policy: String,
    /// containerd's, without effect here.
    #[serde(skip_serializing)]
    no_sync: Option<toml::Value>,
}

impl Default for Metadata {
    fn default() -> Self {
        Metadata { content_sharing_policy: "shared".into(), no_sync: None }
    }
}

/// How often the labels of containers are compared with their tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Restart {
    interval: String,
}

impl Default for Restart {
    fn default() -> Self {
        Restart { interval: "10s".into() }
    }
}

impl Plugins {
    /// For what [`Plugins::validate`] has accepted.
    pub fn restart_interval(&self) -> Duration {
        match duration(&self.restart.interval) {
            Some(interval) if !interval.is_zero() => interval,
            _ => Duration::from_secs(10),
        }
    }

    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, why: String| ConfigError::Plugin(SCHEDULER, format!("{key}: {why}"));
        let Scheduler { pause_threshold, schedule_delay, startup_delay, .. } = &self.scheduler;
        if !pause_threshold.is_finite() {
            return Err(wrong("pause_threshold", format!("{pause_threshold} is not a number from 0 to 0.5")));
        }
        for (key, value) in [("schedule_delay", schedule_delay), ("startup_delay", startup_delay)] {
            if duration(value).is_none() {
                return Err(wrong(key, format!("{value:?} is no duration such as 100ms, 2s or 1m")));
            }
        }
        if duration(&self.restart.interval).is_none() {
            let why = format!("interval: {:?} is no duration such as 10s", self.restart.interval);
            return Err(ConfigError::Plugin(RESTART, why));
        }
        let hosts = &self.transfer.config_path;
        if !hosts.as_os_str().is_empty() && !hosts.is_absolute() {
            let text = format!("config_path: {} is no absolute path", hosts.display());
            return Err(ConfigError::Plugin(TRANSFER, text));
        }
        match self.metadata.content_sharing_policy.as_str() {
            "" | "shared" | "isolated" => Ok(()),
            other => Err(ConfigError::Plugin(
                METADATA,
                format!("content_sharing_policy: {other:?} is not shared or isolated"),
            )),
        }
    }

    /// The folder that says how registries are reached.
    pub fn registry_hosts(&self) -> Option<PathBuf> {
        Some(self.transfer.config_path.clone()).filter(|path| !path.as_os_str().is_empty())
    }

    /// For what [`Plugins::validate`] has accepted. Negative numbers count as 0, as in containerd.
    pub fn storage(&self) -> StoragePolicy {
        let scheduler = &self.scheduler;
        StoragePolicy {
            schedule: Schedule {
                pause_threshold: scheduler.pause_threshold.clamp(0.0, 0.5),
                deletion_threshold: u64::try_from(scheduler.deletion_threshold).unwrap_or(0),
                mutation_threshold: u64::try_from(scheduler.mutation_threshold).unwrap_or(0),
                delay: duration(&scheduler.schedule_delay).unwrap_or_default(),
            },
            isolated_content: self.metadata.content_sharing_policy == "isolated",
            ..StoragePolicy::default()
        }
    }
}

/// `100ms`, `2s`, `1m`, `1h`, `0`: one number and one unit.
fn duration(text: &str) -> Option<Duration> {
    let ends = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(ends);
    let number = number.parse::<u64>().ok()?;
    match unit {
        "" if number == 0 => Some(Duration::ZERO),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Plugins, String> {
        let plugins: Plugins = toml::from_str(text).map_err(|e| e.to_string())?;
        plugins.validate().map_err(|e| e.to_string())?;
        Ok(plugins)
    }

    #[test]
    fn containerds_tables_take_effect() {
        assert_eq!(parse("").unwrap().storage(), StoragePolicy::default());
        let text = r#"
["io.containerd.gc.v1.scheduler"]
pause_threshold = 0.9
deletion_threshold = 10
mutation_threshold = -1
schedule_delay = "250ms"
["io.containerd.metadata.v1.bolt"]
content_sharing_policy = "isolated"
["io.containerd.snapshotter.v1.overlayfs"]
root_path = "/x"
"#;
        let policy = parse(text).unwrap().storage();
        assert!(policy.isolated_content);
        let Schedule { pause_threshold, deletion_threshold, mutation_threshold, delay } = policy.schedule;
        assert_eq!((pause_threshold, deletion_threshold, mutation_threshold), (0.5, 10, 0));
        assert_eq!(delay, Duration::from_millis(250));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, key) in [
            ("[\"io.containerd.gc.v1.scheduler\"]\npause_threshold = nan", "pause_threshold"),
            ("[\"io.containerd.gc.v1.scheduler\"]\nschedule_delay = \"soon\"", "schedule_delay"),
            ("[\"io.containerd.gc.v1.scheduler\"]\nthreshold = 1", "threshold"),
            (
                "[\"io.containerd.metadata.v1.bolt\"]\ncontent_sharing_policy = \"x\"",
                "content_sharing_policy",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
    }
}
