//! The states of a container. Each carries what is true in it and nothing else; moves consume the old state.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use wharf_docker::time::Time;

/// Where a container stands, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "lowercase")]
pub enum Phase {
    /// Never ran; may have failed to.
    Created {
        failure: Option<Failure>,
    },
    Running(Run),
    /// Ended, and waiting to be started again by its restart policy.
    Restarting {
        ended: Ended,
    },
    Exited {
        ended: Ended,
    },
    /// Its removal failed half way.
    Dead {
        ended: Ended,
        why: String,
    },
}

/// A start that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: i64,
    pub message: String,
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// In the host's pid namespace.
    pub pid: u32,
    pub started_at: Time,
    #[serde(default)]
    pub paused: bool,
    #[serde(default)]
    pub oom_killed: bool,
}

/// A run that is over. A container that never ran has the zero time twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Ended {
    pub started_at: Time,
    pub finished_at: Time,
    pub code: i64,
    #[serde(default)]
    pub oom_killed: bool,
    /// Why it could not be started again, if it could not.
    #[serde(default)]
    pub error: String,
}

impl Run {
    /// The run's end; an exit without a time is dated now.
    pub fn ended(self, code: i64, at: Option<SystemTime>) -> Ended {
        let finished_at = at.map_or_else(Time::now, Time::from);
        Ended {
            started_at: self.started_at,
            finished_at,
            code,
            oom_killed: self.oom_killed,
            error: String::new(),
        }
    }
}

impl Phase {
    /// Docker's word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Phase::Created { .. } => "created",
            Phase::Running(run) if run.paused => "paused",
            Phase::Running(_) => "running",
            Phase::Restarting { .. } => "restarting",
            Phase::Exited { .. } => "exited",
            Phase::Dead { .. } => "dead",
        }
    }

    /// The run, if there is one; paused counts.
    pub fn run(&self) -> Option<&Run> {
        match self {
            Phase::Running(run) => Some(run),
            _ => None,
        }
    }

    /// Docker counts a container that waits to be restarted as running.
    pub fn counts_as_running(&self) -> bool {
        matches!(self, Phase::Running(_) | Phase::Restarting { .. })
    }

    /// The last run's end, if the container is not running now and ran before.
    pub fn ended(&self) -> Option<&Ended> {
        match self {
            Phase::Restarting { ended } | Phase::Exited { ended } | Phase::Dead { ended, .. } => Some(ended),
            Phase::Created { .. } | Phase::Running(_) => None,
        }
    }

    /// What wait and inspect give as exit code now.
    pub fn exit_code(&self) -> i64 {
        match self {
            Phase::Created { failure } => failure.as_ref().map_or(0, |f| f.code),
            Phase::Running(_) => 0,
            Phase::Restarting { ended } | Phase::Exited { ended } | Phase::Dead { ended, .. } => ended.code,
        }
    }

    /// The phase after a start that failed: a container that never ran stays created.
    pub fn start_failed(self, code: i64, message: String) -> Phase {
        match self {
            Phase::Exited { ended } | Phase::Restarting { ended } => {
                Phase::Exited { ended: Ended { code, error: message, ..ended } }
            }
            _ => Phase::Created { failure: Some(Failure { code, message }) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        Run { pid: 7, started_at: Time::from_unix(100, 0).unwrap(), paused: false, oom_killed: true }
    }

    #[test]
    fn an_end_keeps_what_the_run_knew() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(130);
        let ended = run().ended(3, Some(at));
        assert_eq!((ended.code, ended.oom_killed), (3, true));
        assert_eq!(ended.finished_at.unix_seconds() - ended.started_at.unix_seconds(), 30);
    }

    #[test]
    fn a_failed_first_start_leaves_the_container_created() {
        let phase = Phase::Created { failure: None }.start_failed(127, "no".to_owned());
        assert_eq!((phase.word(), phase.exit_code()), ("created", 127));
        let again = Phase::Exited { ended: Ended::default() }.start_failed(126, "no".to_owned());
        assert_eq!((again.word(), again.exit_code()), ("exited", 126));
    }

    #[test]
    fn records_survive_json() {
        for phase in [
            Phase::Created { failure: None },
            Phase::Running(run()),
            Phase::Restarting { ended: run().ended(1, None) },
            Phase::Dead { ended: Ended::default(), why: "busy".to_owned() },
        ] {
            let text = serde_json::to_string(&phase).unwrap();
            assert_eq!(serde_json::from_str::<Phase>(&text).unwrap(), phase, "{text}");
        }
    }
}
