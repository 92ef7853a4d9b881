//! `state`: the state of a container in runc's form.

use super::Outcome;
use crate::container::status::Container;
use crate::state::StateRoot;
use serde::Serialize;
use std::collections::BTreeMap;

/// runc's fields in runc's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View<'a> {
    pub oci_version: &'a str,
    pub id: &'a str,
    /// 0 when stopped.
    pub pid: i32,
    pub status: &'static str,
    pub bundle: &'a std::path::Path,
    pub rootfs: &'a std::path::Path,
    pub created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<&'a str, &'a str>,
    /// A user name in `list`, empty in `state`.
    pub owner: String,
}

impl<'a> View<'a> {
    pub fn of(container: &'a Container, owner: String) -> Self {
        let record = &container.record;
        Self {
            oci_version: &record.oci_version,
            id: &record.id,
            pid: container.pid(),
            status: container.status().as_str(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: record.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
            owner,
        }
    }
}

pub fn state(root: &StateRoot, id: &str) -> Outcome {
    let container = Container::load(root, id)?;
    print!("{}", serde_json::to_string_pretty(&View::of(&container, String::new()))?);
    Ok(0)
}
