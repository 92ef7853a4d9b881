//! Docker's JSON form of profiles: the specification's, and conditions, and architectures that come together.
//!
//! Source of the field names: moby/profiles/seccomp. Unknown fields are ignored, and null is as good as absent, as
//! Go reads JSON.

use oci_spec::runtime::LinuxSeccompArg;
use serde::Deserialize;

use super::ProfileError;
use super::profile::{Profile, Rule, When, kernel, word};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    default_action: Option<String>,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Call {
    /// Of profiles before Docker 1.13.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Option<LinuxSeccompArg>>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

pub(super) fn parse(text: &str) -> Result<Option<Profile>, ProfileError> {
    let file: File = serde_json::from_str(text).map_err(ProfileError::Json)?;
    let calls = file.syscalls.unwrap_or_default();
    let default_action = file.default_action.unwrap_or_default();
    if default_action.is_empty() && calls.is_empty() {
        return Ok(None);
    }
    let architectures = file.architectures.unwrap_or_default();
    let maps = file.arch_map.unwrap_or_default();
    if !architectures.is_empty() && !maps.is_empty() {
        return Err(ProfileError::Both("architectures", "archMap"));
    }
    let arch = |a: &String| word("architecture", a);
    let mut arch_map = Vec::new();
    for m in &maps {
        let with = m.sub_architectures.iter().flatten().map(arch).collect::<Result<_, _>>()?;
        arch_map.push((arch(&m.architecture)?, with));
    }
    Ok(Some(Profile {
        default_action: word("action", &default_action)?,
        default_errno: file.default_errno_ret,
        architectures: architectures.iter().map(arch).collect::<Result<_, _>>()?,
        arch_map,
        flags: file.flags.iter().flatten().map(|f| word("flag", f)).collect::<Result<_, _>>()?,
        listener_path: file.listener_path.filter(|p| !p.is_empty()),
        listener_metadata: file.listener_metadata.filter(|p| !p.is_empty()),
        rules: calls.into_iter().map(rule).collect::<Result<_, _>>()?,
    }))
}

fn rule(call: Call) -> Result<Rule, ProfileError> {
    let mut names = call.names.unwrap_or_default();
    if let Some(name) = call.name.filter(|n| !n.is_empty()) {
        if !names.is_empty() {
            return Err(ProfileError::Both("name", "names"));
        }
        names.push(name);
    }
    let includes = call.includes.unwrap_or_default();
    let excludes = call.excludes.unwrap_or_default();
    Ok(Rule {
        names,
        action: word("action", &call.action)?,
        errno: call.errno_ret,
        args: call.args.into_iter().flatten().flatten().collect(),
        when: When {
            caps: includes.caps.unwrap_or_default(),
            without_caps: excludes.caps.unwrap_or_default(),
            arches: includes.arches.unwrap_or_default(),
            not_arches: excludes.arches.unwrap_or_default(),
            kernel: includes.min_kernel.as_deref().map(kernel).transpose()?,
            before_kernel: excludes.min_kernel.as_deref().map(kernel).transpose()?,
        },
    })
}
