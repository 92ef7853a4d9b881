//! Freezing and thawing.

use super::ContainerError;
use super::status::{Container, Status};

pub fn pause(container: &Container) -> Result<(), ContainerError> {
    match container.status() {
        Status::Running | Status::Created => Ok(container.cgroup()?.freeze()?),
        _ => Err(ContainerError::Refused("container not running".into())),
    }
}

pub fn resume(container: &Container) -> Result<(), ContainerError> {
    match container.status() {
        Status::Paused => Ok(container.cgroup()?.thaw()?),
        _ => Err(ContainerError::Refused("container not paused".into())),
    }
}
