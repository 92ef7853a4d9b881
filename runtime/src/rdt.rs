//! Executing the plan for the resource control filesystem (Documentation/filesystems/resctrl.rst).

use crate::plan::rdt::RdtPlan;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where it is mounted by custom; nothing else is asked for it.
pub const ROOT: &str = "/sys/fs/resctrl";
/// Beside the container's state: the directories to remove with it, one a line.
const RECORD: &str = "rdt";

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("linux.intelRdt: {act} {path}: {source}{status}")]
pub struct RdtError {
    act: &'static str,
    path: String,
    source: io::Error,
    /// What the kernel's last_cmd_status adds.
    status: String,
}

fn failed<'a>(root: &'a Path, act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> RdtError + 'a {
    move |source| {
        let status = fs::read_to_string(root.join("info/last_cmd_status")).unwrap_or_default();
        let status = match status.trim() {
            "" | "ok" => String::new(),
            text => format!(" ({text})"),
        };
        RdtError { act, path: path.display().to_string(), source, status }
    }
}

/// The group of a container.
pub fn group(root: &Path, plan: &RdtPlan, id: &str) -> PathBuf {
    root.join(plan.clos.as_deref().unwrap_or(id))
}

/// Puts `pid` into the container's group, which is made where it is missing and gets the schemata. What is made is
/// written down in `state` before it is.
pub fn apply(root: &Path, plan: &RdtPlan, id: &str, pid: i32, state: &Path) -> Result<(), RdtError> {
    let group = group(root, plan, id);
    let monitor = group.join("mon_groups").join(id);
    let exists = group.is_dir();
    if !exists && plan.clos.is_some() && plan.schemata.is_empty() {
        let missing = io::Error::new(
            io::ErrorKind::NotFound,
            "closID without schemata names a class of service that has to exist",
        );
        return Err(failed(root, "looking for", &group)(missing));
    }
    let mut made = Vec::new();
    if plan.monitoring {
        made.push(&monitor);
    }
    if !exists && plan.clos.is_none() {
        made.push(&group);
    }
    let record = state.join(RECORD);
    let lines: String = made.iter().map(|p| format!("{}\n", p.display())).collect();
    fs::write(&record, lines).map_err(failed(root, "recording", &record))?;
    if !exists {
        fs::create_dir(&group).map_err(failed(root, "creating", &group))?;
    }
    if !plan.schemata.is_empty() {
        let path = group.join("schemata");
        let text: String = plan.schemata.iter().map(|l| format!("{l}\n")).collect();
        fs::write(&path, text).map_err(failed(root, "writing", &path))?;
    }
    join(root, &group, pid)?;
    if plan.monitoring {
        fs::create_dir(&monitor).map_err(failed(root, "creating", &monitor))?;
        join(root, &monitor, pid)?;
    }
    Ok(())
}

/// Puts one more process into an existing group.
pub fn join(root: &Path, group: &Path, pid: i32) -> Result<(), RdtError> {
    let path = group.join("tasks");
    fs::write(&path, pid.to_string()).map_err(failed(root, "writing", &path))
}

/// Removes what was made for the container. What is gone already is fine.
pub fn remove(state: &Path) -> io::Result<()> {
    let Ok(list) = fs::read_to_string(state.join(RECORD)) else { return Ok(()) };
    for path in list.lines().filter(|l| Path::new(l).is_absolute()) {
        match fs::remove_dir(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(io::Error::new(e.kind(), format!("removing {path}: {e}")));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_group_of_its_own_gets_schemata_and_process_and_goes_again() {
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let plan = RdtPlan { schemata: vec!["L3:0=f".into(), "MB:0=50".into()], ..RdtPlan::default() };
        apply(root.path(), &plan, "c1", 42, state.path()).unwrap();
        assert_eq!(read(root.path().join("c1/schemata")), "L3:0=f\nMB:0=50\n");
        assert_eq!(read(root.path().join("c1/tasks")), "42");
        // the kernel's files go with their directory; here they have to go first
        fs::remove_file(root.path().join("c1/schemata")).unwrap();
        fs::remove_file(root.path().join("c1/tasks")).unwrap();
        remove(state.path()).unwrap();
        assert!(!root.path().join("c1").exists());
    }

    #[test]
    fn a_named_class_is_joined_and_stays() {
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let plan = RdtPlan { clos: Some("gold".into()), ..RdtPlan::default() };
        let text = apply(root.path(), &plan, "c1", 42, state.path()).unwrap_err().to_string();
        assert!(text.contains("has to exist"), "{text}");
        fs::create_dir(root.path().join("gold")).unwrap();
        apply(root.path(), &plan, "c1", 42, state.path()).unwrap();
        remove(state.path()).unwrap();
        assert_eq!(read(root.path().join("gold/tasks")), "42");
    }
}
