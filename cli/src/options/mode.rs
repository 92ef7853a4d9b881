//! Flags whose value is one of a few words.

use wharf_docker::container::RestartPolicy;

/// `--restart`.
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = text.split_once(':').map_or((text, ""), |(name, count)| (name, count));
    if name.is_empty() && text.contains(':') {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    let maximum_retry_count = match count {
        "" => 0,
        digits => digits.parse().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

/// `--pid`, `--uts`, `--userns`, `--cgroupns`: refused here with docker's words; the rest is the daemon's.
pub(crate) fn check_namespaces(pid: &str, uts: &str, userns: &str, cgroupns: &str) -> Result<(), String> {
    let container = pid.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    if !matches!(pid, "" | "host") && !container {
        return Err("--pid: invalid PID mode".to_owned());
    }
    if !matches!(uts, "" | "host") {
        return Err("--uts: invalid UTS mode".to_owned());
    }
    if !matches!(userns, "" | "host") {
        return Err("--userns: invalid USER mode".to_owned());
    }
    if !matches!(cgroupns, "" | "host" | "private") {
        return Err("--cgroupns: invalid CGROUP mode".to_owned());
    }
    Ok(())
}

/// `-a`.
pub(crate) fn attach_stream(text: &str) -> Result<String, String> {
    match text.to_lowercase().as_str() {
        stream @ ("stdin" | "stdout" | "stderr") => Ok(stream.to_owned()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

/// `--pull`.
pub(crate) fn check_pull(text: &str) -> Result<(), String> {
    match text {
        "always" | "missing" | "never" | "" => Ok(()),
        _ => {
            Err(format!("invalid pull option: '{text}': must be one of \"always\", \"missing\" or \"never\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies_may_have_a_count() {
        assert_eq!(
            restart_policy("on-failure:3").map(|p| (p.name, p.maximum_retry_count)),
            Ok(("on-failure".into(), 3))
        );
        assert_eq!(restart_policy("always").map(|p| p.maximum_retry_count), Ok(0));
        assert!(restart_policy(":1").is_err() && restart_policy("on-failure:x").is_err());
    }

    #[test]
    fn namespaces_other_than_the_known_are_refused() {
        assert!(check_namespaces("container:x", "host", "", "private").is_ok());
        assert_eq!(check_namespaces("container:", "", "", ""), Err("--pid: invalid PID mode".to_owned()));
        assert!(
            check_namespaces("", "x", "", "").is_err()
                && check_namespaces("", "", "x", "").is_err()
                && check_namespaces("", "", "", "x").is_err()
        );
    }
}
