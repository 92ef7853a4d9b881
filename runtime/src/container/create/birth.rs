//! The clone that makes init.

use super::visit::Visit;
use crate::container::ContainerError;
use crate::handshake::Channel;
use crate::init::namespaces::Entered;
use crate::plan::ContainerPlan;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use wharf_sys::fork::{Fork, Forked, exit_now};
use wharf_sys::namespace::{Namespaces, setns};

/// Which of the two this process is now.
#[derive(Debug)]
pub enum Birth {
    Runtime { pid: i32, pidfd: OwnedFd },
    Init,
}

/// Makes init: one clone into the namespaces `made` and the cgroup. Only where a user namespace is entered by path does
/// another process come between, since nobody comes back from there.
pub fn birth(
    plan: &ContainerPlan,
    made: Namespaces,
    joins: &[Entered],
    user: &[Entered],
    cgroup: Option<BorrowedFd<'_>>,
    init_channel: &Channel,
) -> Result<Birth, ContainerError> {
    if !user.is_empty() {
        return through_user_namespace(plan, made, joins, user, cgroup, init_channel);
    }
    let visit = Visit::enter(plan, joins)?;
    let fork = Fork { namespaces: made, cgroup, sibling: false };
    match fork.fork().map_err(ContainerError::act("creating the container's namespaces"))? {
        Forked::Child => {
            visit.stay();
            Ok(Birth::Init)
        }
        Forked::Parent { pid, pidfd } => Ok(Birth::Runtime { pid, pidfd }),
    }
}

/// An intermediate process enters the user namespace and makes init as its own sibling, so that the new namespaces
/// belong to the one entered, and init is the runtime's child all the same.
fn through_user_namespace(
    plan: &ContainerPlan,
    made: Namespaces,
    joins: &[Entered],
    user: &[Entered],
    cgroup: Option<BorrowedFd<'_>>,
    init_channel: &Channel,
) -> Result<Birth, ContainerError> {
    let failed = || ContainerError::act::<rustix::io::Errno>("making init by way of its user namespace");
    let (receive, send) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed())?;
    let fork = Fork::default().fork().map_err(ContainerError::act("forking to enter the user namespace"))?;
    match fork {
        Forked::Child => {
            drop(receive);
            match enter_and_fork(plan, made, joins, user, cgroup) {
                Ok(None) => Ok(Birth::Init),
                Ok(Some(pid)) => {
                    // a runtime that is gone needs no answer
                    let _ = rustix::io::write(&send, &pid.to_ne_bytes());
                    exit_now(0)
                }
                Err(e) => {
                    let _ = init_channel.fail(&e.to_string());
                    exit_now(1)
                }
            }
        }
        Forked::Parent { pidfd, .. } => {
            drop(send);
            let mut bytes = [0u8; 4];
            let got =
                rustix::io::retry_on_intr(|| rustix::io::read(&receive, &mut bytes)).map_err(failed())?;
            waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).map_err(failed())?;
            let pid = i32::from_ne_bytes(bytes);
            let Some(raw) = Pid::from_raw(pid).filter(|_| got == bytes.len()) else {
                return Err(ContainerError::Refused(
                    "init was not made: its user namespace cannot be entered".into(),
                ));
            };
            // our own child, not waited for yet: the number cannot be another's
            let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(failed())?;
            Ok(Birth::Runtime { pid, pidfd })
        }
    }
}

/// In the intermediate process; Some is the pid of init, None is init itself.
fn enter_and_fork(
    plan: &ContainerPlan,
    made: Namespaces,
    joins: &[Entered],
    user: &[Entered],
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Option<i32>, ContainerError> {
    let enter = |e: &Entered| {
        setns(&e.fd, e.join.kind).map_err(ContainerError::act(format!(
            "{}.path: entering {}",
            e.join.at,
            e.join.path.display()
        )))
    };
    // with the runtime's rights where they are needed, else with those that the user namespace gives
    let later: Vec<&Entered> = joins.iter().filter(|e| enter(e).is_err()).collect();
    user.iter().try_for_each(enter)?;
    later.into_iter().try_for_each(enter)?;
    Visit::enter(plan, &[])?.stay();
    let fork = Fork { namespaces: made, cgroup, sibling: true };
    match fork.fork().map_err(ContainerError::act("creating the container's namespaces"))? {
        Forked::Child => Ok(None),
        Forked::Parent { pid, .. } => Ok(Some(pid)),
    }
}
