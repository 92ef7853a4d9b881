//! Restart policies.

use std::time::Duration;

use wharf_docker::container::RestartPolicy;

use crate::error::EngineError;

/// First pause between an exit and the restart; doubled at each, to at most a minute.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A run longer than this makes the next pause the first again.
const SETTLED: Duration = Duration::from_secs(10);

/// The pauses of one container, kept while the daemon lives.
#[derive(Debug, Clone, Default)]
pub struct Pauses {
    last: Option<Duration>,
}

impl Pauses {
    /// How long to wait before the restart after a run of `ran`.
    pub fn next(&mut self, ran: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if ran < SETTLED => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(pause);
        pause
    }

    /// A person started it: begin anew.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

/// Whether an exit is followed by a restart. `cancelled`: a person stopped it.
pub fn wanted(policy: &RestartPolicy, code: i64, count: u64, cancelled: bool) -> bool {
    if cancelled {
        return false;
    }
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => code != 0 && within(policy, count),
        _ => false,
    }
}

/// Whether a container that stands still is started when the daemon starts.
pub fn wanted_at_boot(policy: &RestartPolicy, code: i64, count: u64, manually_stopped: bool) -> bool {
    match policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !manually_stopped,
        "on-failure" => !manually_stopped && code != 0 && within(policy, count),
        _ => false,
    }
}

fn within(policy: &RestartPolicy, count: u64) -> bool {
    policy.maximum_retry_count <= 0 || i64::try_from(count).is_ok_and(|n| n < policy.maximum_retry_count)
}

/// Refuses policies that make no sense, in Docker's words.
pub fn check(policy: &RestartPolicy, auto_remove: bool) -> Result<(), EngineError> {
    let invalid = |text: String| Err(EngineError::Invalid(text));
    match policy.name.as_str() {
        "always" | "unless-stopped" | "no" if policy.maximum_retry_count != 0 => {
            let mut text =
                "invalid restart policy: maximum retry count can only be used with 'on-failure'".to_owned();
            if policy.maximum_retry_count < 0 {
                text.push_str(" and cannot be negative");
            }
            return invalid(text);
        }
        "on-failure" if policy.maximum_retry_count < 0 => {
            return invalid("invalid restart policy: maximum retry count cannot be negative".to_owned());
        }
        "" | "no" | "always" | "unless-stopped" | "on-failure" => {}
        other => {
            return invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'"
            ));
        }
    }
    if auto_remove && !matches!(policy.name.as_str(), "" | "no") {
        return invalid("can't create 'AutoRemove' container with restart policy".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, maximum_retry_count: i64) -> RestartPolicy {
        RestartPolicy { name: name.to_owned(), maximum_retry_count }
    }

    #[test]
    fn each_policy_decides_as_docker_does() {
        assert!(wanted(&policy("always", 0), 0, 9, false));
        assert!(!wanted(&policy("always", 0), 0, 9, true));
        assert!(!wanted(&policy("on-failure", 0), 0, 0, false));
        assert!(wanted(&policy("on-failure", 2), 1, 1, false));
        assert!(!wanted(&policy("on-failure", 2), 1, 2, false));
        assert!(!wanted(&policy("no", 0), 1, 0, false) && !wanted(&policy("", 0), 1, 0, false));
        assert!(wanted_at_boot(&policy("always", 0), 0, 0, true));
        assert!(!wanted_at_boot(&policy("unless-stopped", 0), 0, 0, true));
    }

    #[test]
    fn pauses_double_and_begin_anew_after_a_long_run() {
        let mut pauses = Pauses::default();
        let quick = Duration::from_secs(1);
        let got: Vec<u128> = (0..4).map(|_| pauses.next(quick).as_millis()).collect();
        assert_eq!(got, [100, 200, 400, 800]);
        for _ in 0..20 {
            pauses.next(quick);
        }
        assert_eq!(pauses.next(quick), LONGEST);
        assert_eq!(pauses.next(Duration::from_secs(11)), FIRST);
    }

    #[test]
    fn senseless_policies_are_refused() {
        assert!(check(&policy("sometimes", 0), false).is_err());
        assert!(check(&policy("always", 3), false).is_err());
        assert!(check(&policy("on-failure", -1), false).is_err());
        assert!(check(&policy("always", 0), true).is_err());
        assert!(check(&policy("on-failure", 3), false).is_ok());
    }
}
