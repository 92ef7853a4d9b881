//! What is the same wherever the container runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Empty, Words};
use crate::omit;

/// Docker's `container.Config`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "omit::zero")]
    pub exposed_ports: BTreeMap<String, Empty>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Option<Vec<String>>,
    pub cmd: Option<Words>,
    #[serde(skip_serializing_if = "omit::none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub args_escaped: bool,
    /// As the client wrote it.
    pub image: String,
    pub volumes: Option<BTreeMap<String, Empty>>,
    pub working_dir: String,
    pub entrypoint: Option<Words>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub network_disabled: bool,
    pub on_build: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub stop_signal: String,
    /// Seconds; negative waits for ever.
    #[serde(skip_serializing_if = "omit::none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "omit::none")]
    pub shell: Option<Words>,
}

/// A health check; durations in nanoseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    #[serde(skip_serializing_if = "omit::zero")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub retries: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[test]
    fn commands_may_be_a_string_and_keys_any_case() {
        let config: Config =
            decode::from_str(r#"{"image":"x","CMD":"a b","entrypoint":["e"],"tty":true}"#).unwrap();
        assert_eq!(config.cmd, Some(Words(vec!["a b".to_owned()])));
        assert_eq!(config.entrypoint, Some(Words(vec!["e".to_owned()])));
        assert!(config.tty);
        assert_eq!(config.env, None);
    }

    #[test]
    fn nothing_is_null_where_go_prints_null() {
        let text = serde_json::to_string(&Config::default()).unwrap();
        assert!(text.contains(r#""Env":null,"Cmd":null"#), "{text}");
        assert!(!text.contains("ExposedPorts"), "{text}");
    }
}
