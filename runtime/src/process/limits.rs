//! Resource limits, in two phases: raising a hard limit takes a privilege that init gives up, while low limits would
//! get in the way of what init still has to do. So hard limits are raised early, and all are set at the very end.

use super::ProcessError;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// Raises the hard limits of a process (None: this one) where the plan has them higher than this process has.
pub fn raise(limits: &[(Resource, Rlimit)], pid: Option<i32>) -> Result<(), ProcessError> {
    for (resource, wanted) in limits {
        let now = getrlimit(*resource);
        if !is_higher(wanted.maximum, now.maximum) {
            continue;
        }
        let raised = Rlimit { current: now.current, maximum: wanted.maximum };
        match pid {
            None => setrlimit(*resource, raised),
            Some(pid) => prlimit(Pid::from_raw(pid), *resource, raised).map(drop),
        }
        .map_err(ProcessError::act(format!("raising the hard limit {resource:?}")))?;
    }
    Ok(())
}

/// Sets the limits of this process. Its last act before the exec.
pub fn set(limits: &[(Resource, Rlimit)]) -> Result<(), ProcessError> {
    for (resource, limit) in limits {
        setrlimit(*resource, *limit).map_err(ProcessError::act(format!("setting the limit {resource:?}")))?;
    }
    Ok(())
}

/// None is no limit.
fn is_higher(wanted: Option<u64>, now: Option<u64>) -> bool {
    match (wanted, now) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(wanted), Some(now)) => wanted > now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_the_highest() {
        assert!(is_higher(None, Some(1)) && is_higher(Some(2), Some(1)));
        assert!(!is_higher(None, None) && !is_higher(Some(1), None) && !is_higher(Some(1), Some(1)));
    }
}
