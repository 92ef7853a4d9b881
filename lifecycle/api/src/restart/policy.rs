//! What a container's labels ask of its task. Source: containerd's restart monitor and the labels its clients set.

use lifecycle_tasks::Phase;
use wharf_vocab::Labels;

/// `running` or `stopped`: only containers that have it are looked after.
pub(super) const STATUS: &str = "containerd.io/restart.status";
/// Where the output of a task that is started here goes.
pub(super) const LOG_URI: &str = "containerd.io/restart.loguri";
/// How often it was started here.
pub(super) const COUNT: &str = "containerd.io/restart.count";
const POLICY: &str = "containerd.io/restart.policy";
const EXPLICITLY_STOPPED: &str = "containerd.io/restart.explicitly-stopped";

/// What is to be done about a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// Start it, for the how many-th time.
    Start(u32),
    Stop,
    /// Its task was made and not started: perhaps its client is about to.
    WaitAndSee,
}

/// Judges by the labels and the task, if there is one.
pub(super) fn judge(labels: &Labels, task: Option<Phase>) -> Act {
    let wanted = labels.get(STATUS).map(String::as_str);
    match (wanted, task) {
        (Some("running"), None) => start(labels, 0),
        (Some("running"), Some(Phase::Stopped(exit))) => start(labels, exit.status),
        (Some("running"), Some(Phase::Created)) => match start(labels, 0) {
            Act::Start(_) => Act::WaitAndSee,
            act => act,
        },
        (Some("stopped"), Some(Phase::Created | Phase::Running | Phase::Pausing | Phase::Paused)) => {
            Act::Stop
        }
        // paused is how somebody wants it; a shim that does not answer is not made better by a second one
        _ => Act::Nothing,
    }
}

fn start(labels: &Labels, exit: u32) -> Act {
    let count: u32 = labels.get(COUNT).and_then(|count| count.parse().ok()).unwrap_or(0);
    let policy = labels.get(POLICY).map_or("", String::as_str);
    let wanted = match policy.split_once(':') {
        None => match policy {
            "" | "always" => true,
            "on-failure" => exit != 0,
            "unless-stopped" => !labels.get(EXPLICITLY_STOPPED).is_some_and(|text| is_true(text)),
            _ => false,
        },
        Some(("on-failure", most)) => {
            // 0 stands for no limit
            most.parse::<u32>().is_ok_and(|most| exit != 0 && (most == 0 || count < most))
        }
        Some(_) => false,
    };
    if wanted { Act::Start(count.saturating_add(1)) } else { Act::Nothing }
}

/// As Go reads a truth value.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use lifecycle_tasks::Exit;

    use super::*;

    fn labels(status: &str, policy: &str, more: &[(&str, &str)]) -> Labels {
        let mut labels = Labels::from([(STATUS.into(), status.into()), (POLICY.into(), policy.into())]);
        labels.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        labels
    }

    fn ended(status: u32) -> Option<Phase> {
        Some(Phase::Stopped(Exit { pid: 1, status, at: None }))
    }

    #[test]
    fn policies_decide_who_is_started_again() {
        for (policy, exit, started) in [
            ("", 0, true),
            ("always", 0, true),
            ("no", 1, false),
            ("on-failure", 0, false),
            ("on-failure", 1, true),
            ("on-failure:2", 1, true),
            ("on-failure:0", 1, true),
            ("on-failure:x", 1, false),
            ("unless-stopped", 0, true),
            ("always:3", 1, false),
            ("sometimes", 1, false),
        ] {
            let expected = if started { Act::Start(1) } else { Act::Nothing };
            assert_eq!(
                judge(&labels("running", policy, &[]), ended(exit)),
                expected,
                "{policy} after {exit}"
            );
        }
    }

    #[test]
    fn starts_are_counted_and_bounded() {
        let counted = |count| labels("running", "on-failure:2", &[(COUNT, count)]);
        assert_eq!(judge(&counted("1"), ended(1)), Act::Start(2));
        assert_eq!(judge(&counted("2"), ended(1)), Act::Nothing);
        let stopped = labels("running", "unless-stopped", &[(EXPLICITLY_STOPPED, "true")]);
        assert_eq!(judge(&stopped, ended(1)), Act::Nothing);
    }

    #[test]
    fn tasks_that_are_as_wanted_or_unknown_are_left_alone() {
        let running = labels("running", "always", &[]);
        for phase in [Phase::Running, Phase::Paused, Phase::Pausing, Phase::Unknown] {
            assert_eq!(judge(&running, Some(phase)), Act::Nothing, "{phase:?}");
        }
        assert_eq!(judge(&running, None), Act::Start(1), "its shim is gone, or the machine was");
        assert_eq!(judge(&running, Some(Phase::Created)), Act::WaitAndSee);
        let stopped = labels("stopped", "always", &[]);
        assert_eq!(judge(&stopped, Some(Phase::Running)), Act::Stop);
        assert_eq!(judge(&stopped, ended(0)), Act::Nothing);
        assert_eq!(judge(&stopped, None), Act::Nothing);
        assert_eq!(judge(&Labels::new(), ended(1)), Act::Nothing, "nobody asked");
    }
}
