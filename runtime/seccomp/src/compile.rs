//! From a profile to a filter.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSyscall};
use wharf_sys::seccomp::{FLAG_NEW_LISTENER, SockFilter};

use crate::action::{KILL_THREAD, UNKNOWN_CALL, is_permissive, value};
use crate::arch::{Column, X32_BIT};
use crate::assemble::{ARCH, NR, for_arch, load, ret, search};
use crate::conditions::{Condition, Rule, emit};
use crate::error::SeccompError;
use crate::table::{lookup, multiplexed};

const MAX_INSTRUCTIONS: usize = 4096;
const MAX_ARG: usize = 5;
// SECCOMP_FILTER_FLAG_*
const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// A filter ready to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Instructions in the kernel's form.
    pub filter: Vec<SockFilter>,
    /// SECCOMP_FILTER_FLAG_* bits for seccomp(2).
    pub flags: u32,
    /// Whether installing it gives a notification descriptor, for `linux.seccomp.listenerPath`.
    pub notify: bool,
}

/// Compiles a profile for this machine's architecture and those that the profile names.
///
/// Calls without a number are skipped, as runc does. Where the default denies, calls with a higher number than any
/// that the profile names get ENOSYS, so that programs fall back as on an older kernel. Calls of another architecture
/// end the thread.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program, SeccompError> {
    let native = Column::native().ok_or(SeccompError::Machine(std::env::consts::ARCH))?;
    let mut columns: BTreeSet<Column> =
        profile.architectures().iter().flatten().filter_map(|a| Column::of(*a)).collect();
    columns.insert(native);
    let default = value(profile.default_action(), profile.default_errno_ret(), "defaultErrnoRet")?;
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(SeccompError::invalid(
            "defaultAction",
            "SCMP_ACT_NOTIFY cannot be used as default action",
        ));
    }
    let calls: Vec<Call<'_>> = profile
        .syscalls()
        .iter()
        .flatten()
        .enumerate()
        .map(|(i, call)| Call::new(i, call))
        .collect::<Result<_, _>>()?;
    let filter = assemble(&columns, native, default, &calls);
    if filter.len() > MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong(filter.len()));
    }
    let notify = calls.iter().any(|c| c.notify);
    Ok(Program { filter, flags: flags(profile, notify), notify })
}

fn flags(profile: &LinuxSeccomp, notify: bool) -> u32 {
    let mut bits = if notify { FLAG_NEW_LISTENER } else { 0 };
    if profile.flags().is_none() {
        // as runc: who says nothing of flags does not get the mitigation that they switch off
        bits |= FLAG_SPEC_ALLOW;
    }
    for flag in profile.flags().iter().flatten() {
        bits |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
            // a filter is loaded by a process with one thread: there is nothing to bring in step
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            // the kernel refuses it without a listener, where it has no meaning
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notify => FLAG_WAIT_KILLABLE_RECV,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        };
    }
    bits
}

/// An entry of `syscalls`, checked.
struct Call<'a> {
    names: &'a [String],
    value: u32,
    /// One of these has to hold; each is conditions that all have to. Empty: always.
    alternatives: Vec<Vec<Condition>>,
    notify: bool,
}

impl<'a> Call<'a> {
    fn new(i: usize, call: &'a LinuxSyscall) -> Result<Self, SeccompError> {
        let notify = call.action() == LinuxSeccompAction::ScmpActNotify;
        if call.names().iter().any(String::is_empty) {
            return Err(SeccompError::invalid(
                format!("syscalls[{i}].names"),
                "an empty string is no system call",
            ));
        }
        // the runtime itself hands the descriptor over with write(2), which nobody could answer yet
        if notify && call.names().iter().any(|n| n == "write") {
            let reason = "SCMP_ACT_NOTIFY cannot be used for the write syscall";
            return Err(SeccompError::invalid(format!("syscalls[{i}].action"), reason));
        }
        let mut conditions = Vec::new();
        for (j, arg) in call.args().iter().flatten().enumerate() {
            if arg.index() > MAX_ARG {
                let reason = format!("{} is no argument: 0 to {MAX_ARG}", arg.index());
                return Err(SeccompError::invalid(format!("syscalls[{i}].args[{j}].index"), reason));
            }
            conditions.push(Condition::from(arg));
        }
        let indices: BTreeSet<u32> = conditions.iter().map(|c| c.index).collect();
        // runc: two conditions on one argument are alternatives, all of the entry's
        let alternatives = match (conditions.is_empty(), indices.len() == conditions.len()) {
            (true, _) => Vec::new(),
            (false, true) => vec![conditions],
            (false, false) => conditions.into_iter().map(|c| vec![c]).collect(),
        };
        let value = value(call.action(), call.errno_ret(), &format!("syscalls[{i}].errnoRet"))?;
        Ok(Call { names: call.names(), value, alternatives, notify })
    }
}

/// What happens to the calls of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    Always(u32),
    /// The first rule that holds, else the default.
    First {
        rules: Vec<Rule>,
        narrow: bool,
    },
}

fn assemble(columns: &BTreeSet<Column>, native: Column, default: u32, calls: &[Call<'_>]) -> Vec<SockFilter> {
    let mut by_audit: BTreeMap<u32, Vec<Column>> = BTreeMap::new();
    for column in columns {
        by_audit.entry(column.audit()).or_default().push(*column);
    }
    let mut order: Vec<(u32, Vec<Column>)> = by_audit.into_iter().collect();
    // this machine's own calls are nearly all there are
    order.sort_by_key(|(audit, _)| *audit != native.audit());
    let mut out = vec![load(ARCH)];
    for (audit, columns) in order {
        let ranges = ranges(&columns, default, calls);
        let mut body = vec![load(NR)];
        search(&ranges, &mut |decision, out| leaf(decision, default, out), &mut body);
        for_arch(audit, &mut body, &mut out);
    }
    out.push(ret(KILL_THREAD));
    out
}

fn leaf(decision: &Decision, default: u32, out: &mut Vec<SockFilter>) {
    match decision {
        Decision::Always(value) => out.push(ret(*value)),
        Decision::First { rules, narrow } => {
            for rule in rules {
                emit(rule, *narrow, out);
            }
            out.push(ret(default));
        }
    }
}

/// What happens to every call number of the columns that share an audit number. Neighbours differ.
fn ranges(columns: &[Column], default: u32, calls: &[Call<'_>]) -> Vec<(u32, Decision)> {
    let mut out: Vec<(u32, Decision)> = Vec::new();
    let mut push = |start: u32, decision: Decision| {
        if out.last().is_some_and(|(s, _)| *s == start) {
            out.pop();
        }
        if out.last().is_none_or(|(_, last)| *last != decision) {
            out.push((start, decision));
        }
    };
    let mixed = columns.iter().any(|c| matches!(c, Column::X86_64 | Column::X32));
    if mixed && !columns.contains(&Column::X86_64) {
        push(0, Decision::Always(KILL_THREAD));
    }
    for column in columns {
        let base = if *column == Column::X32 { X32_BIT } else { 0 };
        push(base, Decision::Always(default));
        let (mut numbers, highest) = decisions(*column, default, calls);
        let too_new = highest.filter(|_| !is_permissive(default)).map(|highest| highest + 1);
        if let Some(too_new) = too_new {
            // as runc: a multiplexer above every call that is named goes with them (`ipc` of x86 for `semop`)
            numbers.split_off(&too_new);
        }
        for (number, decision) in numbers {
            push(number, decision);
            push(number + 1, Decision::Always(default));
        }
        if let Some(too_new) = too_new {
            push(too_new, Decision::Always(UNKNOWN_CALL));
        }
    }
    if mixed && !columns.contains(&Column::X32) {
        push(X32_BIT, Decision::Always(KILL_THREAD));
        // a tracer that cancels a call sets its number to -1
        push(u32::MAX, Decision::Always(default));
    }
    out
}

/// The calls of a column that the default does not decide, and the highest number that the profile names.
fn decisions(column: Column, default: u32, calls: &[Call<'_>]) -> (BTreeMap<u32, Decision>, Option<u32>) {
    let mut always: BTreeMap<u32, u32> = BTreeMap::new();
    let mut first: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    let mut highest = None;
    for call in calls {
        for name in call.names {
            let direct = lookup(name, column);
            highest = highest.max(direct);
            // a rule that says what the default says anyway is left out, so that it hides no other
            if call.value == default {
                continue;
            }
            let muxed = if column == Column::X86 { multiplexed(name) } else { None };
            for (number, selector) in
                direct.map(|n| (n, None)).into_iter().chain(muxed.map(|(n, a)| (n, Some(a))))
            {
                if call.alternatives.is_empty() && selector.is_none() {
                    always.entry(number).or_insert(call.value);
                    continue;
                }
                let rules = first.entry(number).or_default();
                for conditions in alternatives(&call.alternatives, selector) {
                    rules.push(Rule { conditions, value: call.value });
                }
            }
        }
    }
    let mut out: BTreeMap<u32, Decision> = BTreeMap::new();
    for (number, mut rules) in first {
        // after a rule without a condition none is reached
        if let Some(end) = rules.iter().position(|r| r.conditions.is_empty()) {
            rules.truncate(end + 1);
        }
        out.insert(number, Decision::First { rules, narrow: column.narrow() });
    }
    // an entry without conditions decides the call whatever others say, as libseccomp has it
    out.extend(always.into_iter().map(|(number, value)| (number, Decision::Always(value))));
    (out, highest)
}

/// The alternatives of an entry; for a multiplexed call the selector takes the place of the first argument's
/// condition, since the arguments themselves are behind a pointer.
fn alternatives(entry: &[Vec<Condition>], selector: Option<u64>) -> Vec<Vec<Condition>> {
    let Some(selector) = selector else { return entry.to_vec() };
    let selector = Condition::equal(0, selector);
    if entry.is_empty() {
        return vec![vec![selector]];
    }
    let with = |conditions: &Vec<Condition>| {
        std::iter::once(selector).chain(conditions.iter().copied().filter(|c| c.index != 0)).collect()
    };
    entry.iter().map(with).collect()
}

#[cfg(test)]
mod tests;
