//! The compact form that the default profile is kept in.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompOperator};
use serde::Deserialize;

use super::ProfileError;
use super::profile::{Profile, Rule, When, kernel, word};

const VERSION: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    default: Default,
    architectures: BTreeMap<String, Vec<String>>,
    rules: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Default {
    action: String,
    errno: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    names: Vec<String>,
    /// `allow` if absent.
    action: Option<String>,
    errno: Option<u32>,
    /// Index, operator, value, second value.
    #[serde(default)]
    args: Vec<(usize, String, u64, u64)>,
    #[serde(default)]
    when: Condition,
}

#[derive(Deserialize, std::default::Default)]
#[serde(deny_unknown_fields, default)]
struct Condition {
    caps: Vec<String>,
    without_caps: Vec<String>,
    arches: Vec<String>,
    not_arches: Vec<String>,
    kernel: Option<String>,
}

pub(super) fn parse(text: &str) -> Result<Profile, ProfileError> {
    let file: File = serde_json::from_str(text).map_err(ProfileError::Json)?;
    if file.version != VERSION {
        return Err(ProfileError::Version(file.version));
    }
    let arch = |name: &String| word("architecture", &format!("SCMP_ARCH_{}", name.to_ascii_uppercase()));
    let mut arch_map = Vec::new();
    for (native, with) in &file.architectures {
        arch_map.push((arch(native)?, with.iter().map(arch).collect::<Result<_, _>>()?));
    }
    Ok(Profile {
        default_action: action(&file.default.action)?,
        default_errno: Some(file.default.errno),
        architectures: Vec::new(),
        arch_map,
        flags: Vec::new(),
        listener_path: None,
        listener_metadata: None,
        rules: file.rules.into_iter().map(rule).collect::<Result<_, _>>()?,
    })
}

fn action(name: &str) -> Result<LinuxSeccompAction, ProfileError> {
    word("action", &format!("SCMP_ACT_{}", name.to_ascii_uppercase()))
}

fn rule(entry: Entry) -> Result<Rule, ProfileError> {
    let mut args = Vec::with_capacity(entry.args.len());
    for (index, operator, value, second) in entry.args {
        let op = match operator.as_str() {
            "==" => LinuxSeccompOperator::ScmpCmpEq,
            "!=" => LinuxSeccompOperator::ScmpCmpNe,
            "<" => LinuxSeccompOperator::ScmpCmpLt,
            "<=" => LinuxSeccompOperator::ScmpCmpLe,
            ">" => LinuxSeccompOperator::ScmpCmpGt,
            ">=" => LinuxSeccompOperator::ScmpCmpGe,
            "&==" => LinuxSeccompOperator::ScmpCmpMaskedEq,
            _ => return Err(ProfileError::Unknown { what: "operator", word: operator }),
        };
        let mut arg = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
        if op == LinuxSeccompOperator::ScmpCmpMaskedEq {
            arg = arg.value_two(second);
        }
        // every field has a default, so building cannot fail
        args.push(arg.build().unwrap_or_default());
    }
    Ok(Rule {
        names: entry.names,
        action: action(entry.action.as_deref().unwrap_or("allow"))?,
        errno: entry.errno,
        args,
        when: When {
            caps: entry.when.caps,
            without_caps: entry.when.without_caps,
            arches: entry.when.arches,
            not_arches: entry.when.not_arches,
            kernel: entry.when.kernel.as_deref().map(kernel).transpose()?,
            before_kernel: None,
        },
    })
}
