//! `--security-opt`, `--log-opt`, `--storage-opt`.

use std::collections::BTreeMap;

/// What the security options come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Security {
    pub(crate) options: Vec<String>,
    /// `systempaths=unconfined`: no path is masked or read-only.
    pub(crate) unconfined_paths: bool,
}

const MAX_PROFILE: u64 = 4 << 20;

/// A seccomp profile is read here and sent whole, since the daemon may not see this file system.
pub(crate) fn security(given: Vec<String>) -> Result<Security, String> {
    let mut out = Security::default();
    for option in given {
        if option == "systempaths=unconfined" {
            out.unconfined_paths = true;
            continue;
        }
        let split = option.split_once('=').or_else(|| option.split_once(':'));
        match split {
            None if option == "no-new-privileges" => out.options.push(option),
            None => return Err(format!("Invalid --security-opt: {option:?}")),
            Some(("seccomp", path)) if !matches!(path, "unconfined" | "builtin") => {
                out.options.push(format!("seccomp={}", profile(path)?));
            }
            Some(_) => out.options.push(option),
        }
    }
    Ok(out)
}

fn profile(path: &str) -> Result<String, String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path).and_then(|file| file.take(MAX_PROFILE).read_to_string(&mut text)).map_err(
        |bad| {
            format!("opening seccomp profile ({path}) failed: open {path}: {}", crate::error::go_text(&bad))
        },
    )?;
    serde_json::from_str::<serde::de::IgnoredAny>(&text)
        .map_err(|bad| format!("compacting json for seccomp profile ({path}) failed: {bad}"))?;
    Ok(crate::json::compact(&text))
}

/// `--log-opt`s of a driver.
pub(crate) fn logging(driver: &str, given: &[String]) -> Result<BTreeMap<String, String>, String> {
    if driver == "none" && !given.is_empty() {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    Ok(super::key_value::to_map(given))
}

/// `--storage-opt`s.
pub(crate) fn storage(given: &[String]) -> Result<BTreeMap<String, String>, String> {
    match given.iter().find(|option| !option.contains('=')) {
        Some(_) => Err("invalid storage option".to_owned()),
        None => Ok(super::key_value::to_map(given)),
    }
}

/// `--sysctl`.
pub(crate) fn sysctl(text: &str) -> Result<String, String> {
    const KNOWN: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let name = text.split('=').next().unwrap_or_default();
    let known = KNOWN.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
    if known && text.contains('=') {
        Ok(text.to_owned())
    } else {
        Err(format!("sysctl '{text}' is not allowed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seccomp_profiles_are_sent_whole() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), "{ \"defaultAction\" : \"SCMP_ACT_ALLOW\" }\n").expect("write");
        let given = |option: &str| security(vec![option.to_owned()]);
        let path = file.path().display();
        assert_eq!(
            given(&format!("seccomp={path}")).map(|s| s.options),
            Ok(vec![r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#.to_owned()])
        );
        assert_eq!(given("seccomp=unconfined").map(|s| s.options), Ok(vec!["seccomp=unconfined".to_owned()]));
        assert_eq!(
            given("systempaths=unconfined"),
            Ok(Security { options: Vec::new(), unconfined_paths: true })
        );
        assert_eq!(given("what"), Err("Invalid --security-opt: \"what\"".to_owned()));
        assert!(
            given("seccomp=/no/such/profile")
                .is_err_and(|e| e.starts_with("opening seccomp profile (/no/such/profile) failed:"))
        );
        std::fs::write(file.path(), "{").expect("write");
        assert!(given(&format!("seccomp={path}")).is_err());
    }

    #[test]
    fn options_of_drivers_and_sysctls() {
        assert!(logging("none", &["a=b".to_owned()]).is_err());
        assert_eq!(logging("json-file", &["a=b".to_owned()]).map(|m| m["a"].clone()), Ok("b".to_owned()));
        assert!(
            storage(&["size".to_owned()]).is_err()
                && sysctl("net.core.somaxconn=1").is_ok()
                && sysctl("vm.swappiness=1").is_err()
        );
    }
}
