//! Handing a seccomp notification descriptor to its agent.

use crate::config::ConfigError;
use crate::console;
use crate::container::ContainerError;
use oci_spec::runtime::LinuxSeccomp;
use std::os::fd::OwnedFd;

/// Gives the seccomp notification descriptor of the process `pid` to the agent at listenerPath, with the state as the specification has it.
pub fn hand_over(
    profile: Option<&LinuxSeccomp>,
    state: &serde_json::Value,
    pid: i32,
    listener: &OwnedFd,
) -> Result<(), ContainerError> {
    let Some(profile) = profile else { return Ok(()) };
    let Some(path) = profile.listener_path() else {
        return Err(ContainerError::Config(ConfigError::invalid(
            "linux.seccomp.listenerPath",
            "missing; the profile has rules with SCMP_ACT_NOTIFY",
        )));
    };
    let message = serde_json::json!({
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": profile.listener_metadata().clone().unwrap_or_default(),
        "state": state,
    });
    let socket = console::connect_path(path).map_err(ContainerError::act(format!(
        "failed to connect with seccomp agent specified in the seccomp profile ({})",
        path.display()
    )))?;
    console::send_fd(&socket, listener, message.to_string().as_bytes())
        .map_err(ContainerError::act(format!("sending to the seccomp agent at {}", path.display())))
}
