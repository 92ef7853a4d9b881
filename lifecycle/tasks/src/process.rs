//! What is known of a container's processes, in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use prost_types::Timestamp;

use crate::observed::Observed;

/// Where a process's streams lead, in the words the client used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// How a process ended. `status` is 128 + signal for a killed one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exit {
    pub pid: u32,
    pub status: u32,
    pub at: Option<Timestamp>,
}

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Phase {
    /// The shim has not said yet, or does not answer.
    Unknown,
    Created,
    Running,
    Pausing,
    Paused,
    Stopped(Exit),
}

/// A process as it is reported.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessState {
    /// The container's id, or the exec's.
    pub id: String,
    pub pid: u32,
    pub phase: Phase,
    pub stdio: Stdio,
}

/// What a waiter learns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Outcome {
    Pending,
    Exited(Exit),
    /// The shim that knew is gone, or never will tell.
    Lost,
}

/// One process. Its phase only moves forward: what arrives late or twice changes nothing.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    phase: Phase,
    stdio: Stdio,
    outcome: Arc<Observed<Outcome>>,
    /// It had not ended then. An exec's id may be used again while events of its former bearer are under way.
    not_before: SystemTime,
}

impl Process {
    pub(crate) fn new(pid: u32, phase: Phase, stdio: Stdio) -> Self {
        let outcome = match phase {
            Phase::Stopped(exit) => Outcome::Exited(exit),
            _ => Outcome::Pending,
        };
        Process {
            pid,
            phase,
            stdio,
            outcome: Arc::new(Observed::new(outcome)),
            not_before: SystemTime::UNIX_EPOCH,
        }
    }

    /// What happened before that time did not happen to this process.
    pub(crate) fn not_before(mut self, not_before: SystemTime) -> Self {
        self.not_before = not_before;
        self
    }

    /// Whether an event is about this process, and not about an earlier one of the same id. While no pid is known,
    /// the time tells; an event that does not have one is believed.
    pub(crate) fn is_meant(&self, pid: u32, at: Option<Timestamp>) -> bool {
        let at = at.and_then(|at| SystemTime::try_from(at).ok());
        self.pid == pid || (self.pid == 0 && at.is_none_or(|at| at >= self.not_before))
    }

    /// Whether it is the one whose outcome that is.
    pub(crate) fn tells(&self, outcome: &Arc<Observed<Outcome>>) -> bool {
        Arc::ptr_eq(&self.outcome, outcome)
    }

    /// The process was started. Ignored once it has run.
    pub(crate) fn started(&mut self, pid: u32) {
        if pid != 0 {
            self.pid = pid;
        }
        if matches!(self.phase, Phase::Created | Phase::Unknown) {
            self.phase = Phase::Running;
        }
    }

    /// The process was paused or resumed. Ignored unless it lives.
    pub(crate) fn paused(&mut self, paused: bool) {
        if matches!(self.phase, Phase::Running | Phase::Pausing | Phase::Paused) {
            self.phase = if paused { Phase::Paused } else { Phase::Running };
        }
    }

    /// The process ended. The first report stands.
    pub(crate) fn exited(&mut self, mut exit: Exit) {
        if matches!(self.phase, Phase::Stopped(_)) {
            return;
        }
        if exit.pid == 0 {
            exit.pid = self.pid;
        }
        self.phase = Phase::Stopped(exit);
        self.outcome.set(Outcome::Exited(exit));
    }

    /// Nobody can say any more how it ended.
    pub(crate) fn lost(&mut self) {
        self.outcome.change(|outcome| {
            let pending = *outcome == Outcome::Pending;
            if pending {
                *outcome = Outcome::Lost;
            }
            pending
        });
    }

    /// What the shim said about it, after the daemon was away.
    pub(crate) fn learned(&mut self, pid: u32, phase: Phase, stdio: Stdio) {
        self.stdio = stdio;
        if pid != 0 {
            self.pid = pid;
        }
        match (self.phase, phase) {
            (_, Phase::Stopped(exit)) => self.exited(exit),
            (Phase::Unknown, phase) => self.phase = phase,
            _ => {}
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn exit(&self) -> Option<Exit> {
        match self.phase {
            Phase::Stopped(exit) => Some(exit),
            _ => None,
        }
    }

    /// Settled at the latest when the process is forgotten.
    pub(crate) fn outcome(&self) -> Arc<Observed<Outcome>> {
        self.outcome.clone()
    }

    pub(crate) fn state(&self, id: &str) -> ProcessState {
        ProcessState { id: id.into(), pid: self.pid, phase: self.phase, stdio: self.stdio.clone() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.lost();
    }
}

impl Observed<Outcome> {
    /// Waits until it is known how the process ended, or that this will not be known.
    pub(crate) async fn settled(&self) -> Outcome {
        self.until(|outcome| (*outcome != Outcome::Pending).then_some(*outcome)).await
    }
}

/// A container's init process and its execs by id.
#[derive(Debug)]
pub(crate) struct Processes {
    pub(crate) init: Process,
    pub(crate) execs: HashMap<String, Process>,
}

impl Processes {
    pub(crate) fn new(init: Process) -> Self {
        Processes { init, execs: HashMap::new() }
    }

    /// The exec of that id, or init for the empty one.
    pub(crate) fn get(&self, exec: &str) -> Option<&Process> {
        if exec.is_empty() { Some(&self.init) } else { self.execs.get(exec) }
    }

    pub(crate) fn get_mut(&mut self, exec: &str) -> Option<&mut Process> {
        if exec.is_empty() { Some(&mut self.init) } else { self.execs.get_mut(exec) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_an_earlier_process_are_told_apart() {
        let second = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let created = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(9);
        let mut process = Process::new(0, Phase::Created, Stdio::default()).not_before(created);
        assert!(!process.is_meant(5, second(8)), "it was not there then");
        assert!(process.is_meant(5, second(9)) && process.is_meant(5, None));
        process.started(6);
        assert!(!process.is_meant(5, second(10)), "the pid tells");
        assert!(process.is_meant(6, second(8)), "a clock that was set back does not matter");
    }

    fn exit(status: u32) -> Exit {
        Exit { pid: 0, status, at: None }
    }

    #[test]
    fn phases_only_move_forward() {
        let mut process = Process::new(5, Phase::Created, Stdio::default());
        process.paused(true);
        assert_eq!(process.phase, Phase::Created, "what has not started cannot be paused");
        process.exited(exit(3));
        process.started(5);
        process.paused(false);
        assert_eq!(process.exit().map(|e| (e.pid, e.status)), Some((5, 3)), "a late start changes nothing");
        process.exited(exit(9));
        assert_eq!(process.exit().map(|e| e.status), Some(3), "the first report stands");
    }

    #[test]
    fn waiters_learn_the_exit_once_known() {
        let mut process = Process::new(5, Phase::Running, Stdio::default());
        let waiter = process.outcome();
        assert_eq!(waiter.get(), Outcome::Pending);
        process.exited(exit(1));
        process.lost();
        assert!(matches!(waiter.get(), Outcome::Exited(exit) if exit.status == 1));
        let stopped = Process::new(5, Phase::Stopped(exit(2)), Stdio::default());
        assert!(matches!(stopped.outcome().get(), Outcome::Exited(exit) if exit.status == 2));
    }

    #[test]
    fn lost_process_ends_the_wait() {
        let mut process = Process::new(5, Phase::Running, Stdio::default());
        let waiter = process.outcome();
        process.lost();
        assert_eq!(waiter.get(), Outcome::Lost);
    }

    #[test]
    fn recovery_fills_what_is_unknown() {
        let mut process = Process::new(0, Phase::Unknown, Stdio::default());
        process.learned(8, Phase::Paused, Stdio { terminal: true, ..Stdio::default() });
        assert_eq!(process.state("c").phase, Phase::Paused);
        assert!(process.state("c").stdio.terminal);
        process.learned(8, Phase::Running, Stdio::default());
        assert_eq!(process.state("c").phase, Phase::Paused, "what is known stays");
    }
}
