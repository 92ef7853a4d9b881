//! Which namespaces are made, which are entered, by whom and when. Pure.

use crate::config::ConfigError;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use std::path::PathBuf;
use wharf_sys::namespace::Namespaces;

/// A namespace to enter by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// JSON path, for errors.
    pub at: String,
    pub kind: Namespaces,
    pub path: PathBuf,
}

/// The namespaces of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespacePlan {
    /// All kinds the container does not share with the runtime, made or entered.
    pub private: Namespaces,
    /// Made by the clone of init. Never holds CGROUP: the kernel would take the runtime's cgroup as its root, so init
    /// makes that one itself after it has entered its cgroup.
    pub clone: Namespaces,
    /// Init makes a cgroup namespace.
    pub unshare_cgroup: bool,
    /// Entered by the runtime before the clone and left again after it: a pid namespace only applies to children, and
    /// with a new user namespace init would have no right to enter the others.
    pub parent_joins: Vec<Join>,
    /// Entered by init.
    pub init_joins: Vec<Join>,
    /// A user namespace entered by path. An intermediate process enters it, so that what is new belongs to it.
    pub user_join: Option<Join>,
}

fn bit(kind: LinuxNamespaceType) -> Namespaces {
    match kind {
        LinuxNamespaceType::Mount => Namespaces::MOUNT,
        LinuxNamespaceType::Cgroup => Namespaces::CGROUP,
        LinuxNamespaceType::Uts => Namespaces::UTS,
        LinuxNamespaceType::Ipc => Namespaces::IPC,
        LinuxNamespaceType::User => Namespaces::USER,
        LinuxNamespaceType::Pid => Namespaces::PID,
        LinuxNamespaceType::Network => Namespaces::NET,
        LinuxNamespaceType::Time => Namespaces::TIME,
    }
}

/// Plans the namespaces of `linux.namespaces`.
pub fn plan(list: &[LinuxNamespace]) -> Result<NamespacePlan, ConfigError> {
    let mut plan = NamespacePlan::default();
    let mut joins = Vec::new();
    for (i, ns) in list.iter().enumerate() {
        let at = format!("linux.namespaces[{i}]");
        let kind = bit(ns.typ());
        if plan.private.contains(kind) {
            return Err(ConfigError::invalid(
                format!("{at}.type"),
                format!("a second namespace of type {}", ns.typ()),
            ));
        }
        plan.private = plan.private.with(kind);
        match ns.path().as_ref().filter(|p| !p.as_os_str().is_empty()) {
            Some(path) if !path.is_absolute() => {
                return Err(ConfigError::invalid(format!("{at}.path"), "not an absolute path"));
            }
            Some(path) => joins.push(Join { at, kind, path: path.clone() }),
            None if kind == Namespaces::CGROUP => plan.unshare_cgroup = true,
            None => plan.clone = plan.clone.with(kind),
        }
    }
    let new_user = plan.clone.contains(Namespaces::USER);
    // entered or new: in it init has no right to enter what an outer one owns
    let any_user = plan.private.contains(Namespaces::USER);
    for join in joins {
        if join.kind == Namespaces::USER {
            plan.user_join = Some(join);
        } else if join.kind == Namespaces::PID || (any_user && join.kind != Namespaces::MOUNT) {
            plan.parent_joins.push(join);
        } else {
            plan.init_joins.push(join);
        }
    }
    if new_user && let Some(join) = plan.init_joins.first() {
        return Err(ConfigError::invalid(
            &join.at,
            "a mount namespace cannot be entered by path together with a new user namespace",
        ));
    }
    Ok(plan)
}

impl NamespacePlan {
    /// Whether the container has a user namespace other than the runtime's.
    pub fn has_user(&self) -> bool {
        self.private.contains(Namespaces::USER)
    }
    /// Whether the mount namespace is new, so that a root filesystem is to be built in it.
    pub fn builds_rootfs(&self) -> bool {
        self.clone.contains(Namespaces::MOUNT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: serde_json::Value) -> Result<NamespacePlan, ConfigError> {
        plan(&serde_json::from_value::<Vec<LinuxNamespace>>(json).expect("namespaces"))
    }

    #[test]
    fn all_new_is_one_clone_with_the_cgroup_namespace_later() {
        let p = parse(serde_json::json!([{"type":"pid"},{"type":"network"},{"type":"ipc"},{"type":"uts"},
            {"type":"mount"},{"type":"cgroup"}]))
        .unwrap();
        assert!(p.clone.contains(Namespaces::PID.with(Namespaces::NET).with(Namespaces::MOUNT)));
        assert!(!p.clone.contains(Namespaces::CGROUP));
        assert!(p.unshare_cgroup && p.builds_rootfs());
        assert!(p.parent_joins.is_empty() && p.init_joins.is_empty());
    }

    #[test]
    fn a_pid_namespace_is_entered_by_the_parent_and_a_network_by_init() {
        let p = parse(
            serde_json::json!([{"type":"pid","path":"/p"},{"type":"network","path":"/n"},{"type":"mount"}]),
        )
        .unwrap();
        assert_eq!(p.parent_joins[0].kind, Namespaces::PID);
        assert_eq!(p.init_joins[0].kind, Namespaces::NET);
    }

    #[test]
    fn with_a_new_user_namespace_the_parent_enters_the_network() {
        let p = parse(serde_json::json!([{"type":"user"},{"type":"network","path":"/n"},{"type":"mount"}]))
            .unwrap();
        assert_eq!(p.parent_joins[0].kind, Namespaces::NET);
        assert!(p.init_joins.is_empty());
    }

    #[test]
    fn a_second_namespace_of_a_type_is_named() {
        let err = parse(serde_json::json!([{"type":"pid"},{"type":"pid"}])).unwrap_err();
        assert_eq!(
            err.to_string(),
            "invalid configuration: linux.namespaces[1].type: a second namespace of type pid"
        );
    }

    #[test]
    fn an_empty_path_is_a_new_namespace() {
        assert!(
            parse(serde_json::json!([{"type":"ipc","path":""}])).unwrap().clone.contains(Namespaces::IPC)
        );
    }
}
