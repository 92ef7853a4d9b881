//! Cache and memory bandwidth allocation, from `linux.intelRdt`. Pure.

use crate::config::ConfigError;
use oci_spec::runtime::Linux;

/// What is to be done in the resource control filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdtPlan {
    /// The class of service; None: one of the container's own, named by its id.
    pub clos: Option<String>,
    /// Lines for the file `schemata`.
    pub schemata: Vec<String>,
    /// A monitoring group of the container's own.
    pub monitoring: bool,
}

/// Checks `linux.intelRdt`.
pub fn plan(linux: &Linux) -> Result<Option<RdtPlan>, ConfigError> {
    let Some(rdt) = linux.intel_rdt() else { return Ok(None) };
    let clos = rdt.clos_id().clone().filter(|c| !c.is_empty());
    if let Some(clos) = &clos
        && (clos == "." || clos == ".." || clos.contains(['/', '\n', '\0']))
    {
        return Err(ConfigError::invalid(
            "linux.intelRdt.closID",
            format!("{clos:?} is not the name of a directory"),
        ));
    }
    let mut schemata = Vec::new();
    let single = [(rdt.l3_cache_schema(), "l3CacheSchema"), (rdt.mem_bw_schema(), "memBwSchema")];
    for (line, name) in single {
        if let Some(line) = line.as_ref().filter(|l| !l.is_empty()) {
            schemata.push(checked(line, &format!("linux.intelRdt.{name}"))?);
        }
    }
    for (i, line) in rdt.schemata().iter().flatten().enumerate() {
        schemata.push(checked(line, &format!("linux.intelRdt.schemata[{i}]"))?);
    }
    #[allow(deprecated)]
    let older = rdt.enable_cmt().unwrap_or(false) || rdt.enable_mbm().unwrap_or(false);
    Ok(Some(RdtPlan { clos, schemata, monitoring: older || rdt.enable_monitoring().unwrap_or(false) }))
}

/// A line, or several, of `RESOURCE:ID=VALUE;…`. What is in them the kernel checks.
fn checked(line: &str, at: &str) -> Result<String, ConfigError> {
    if line.contains('\0') || line.lines().any(|l| !l.contains(':')) {
        return Err(ConfigError::invalid(at, format!("{line:?} is not RESOURCE:ID=VALUE;…")));
    }
    Ok(line.trim_end().to_owned())
}
