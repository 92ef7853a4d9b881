//! Conditions on arguments, as instructions.

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Op};
use wharf_sys::seccomp::SockFilter;

use crate::assemble::{AND, JEQ, JGE, JGT, load, op, ret};

/// Offsets in `struct seccomp_data`, whose words are in the machine's order: all supported machines are
/// little-endian.
const ARGS: u32 = 16;

/// One comparison of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) index: u32,
    pub(crate) op: Op,
    pub(crate) value: u64,
    /// For the masked comparison: `value` is the mask, this the result.
    pub(crate) second: u64,
}

impl Condition {
    pub(crate) fn equal(index: u32, value: u64) -> Self {
        Condition { index, op: Op::ScmpCmpEq, value, second: 0 }
    }
}

impl From<&LinuxSeccompArg> for Condition {
    fn from(arg: &LinuxSeccompArg) -> Self {
        // the index was checked against 5
        Condition {
            index: arg.index() as u32,
            op: arg.op(),
            value: arg.value(),
            second: arg.value_two().unwrap_or(0),
        }
    }
}

/// An action with conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) value: u32,
}

/// Where a test goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// The instruction after it.
    Next,
    /// The next condition, or the action.
    Pass,
    /// The rule after this one.
    Fail,
}

/// A test whose jumps are not known yet.
enum Step {
    Plain(SockFilter),
    Test { code: u16, k: u32, yes: To, no: To },
}

/// The rule's instructions: they end with its action, or go on behind the last one.
pub(crate) fn emit(rule: &Rule, narrow: bool, out: &mut Vec<SockFilter>) {
    let steps: Vec<Vec<Step>> = rule.conditions.iter().map(|c| condition(*c, narrow)).collect();
    let total: usize = steps.iter().map(Vec::len).sum();
    let mut at = 0;
    for group in &steps {
        let end_of_condition = at + group.len();
        for step in group {
            at += 1;
            // a condition has seven instructions at most and there are six, so every distance fits
            let distance = |to: To| match to {
                To::Next => 0,
                To::Pass => (end_of_condition - at) as u8,
                To::Fail => (total + 1 - at) as u8,
            };
            out.push(match step {
                Step::Plain(insn) => *insn,
                Step::Test { code, k, yes, no } => {
                    SockFilter { code: *code, jt: distance(*yes), jf: distance(*no), k: *k }
                }
            });
        }
    }
    out.push(ret(rule.value));
}

fn condition(c: Condition, narrow: bool) -> Vec<Step> {
    let low_at = ARGS + c.index * 8;
    let high_at = low_at + 4;
    let (high, low) = ((c.value >> 32) as u32, c.value as u32);
    let test = |code, k, yes, no| Step::Test { code, k, yes, no };
    let mut out = Vec::with_capacity(7);
    match c.op {
        Op::ScmpCmpMaskedEq => {
            // bits outside the mask cannot be had: libseccomp, and so runc, does not look at them
            let want = c.second & c.value;
            let (want_high, want_low) = ((want >> 32) as u32, want as u32);
            if !narrow {
                out.push(Step::Plain(load(high_at)));
                out.push(Step::Plain(op(AND, high)));
                out.push(test(JEQ, want_high, To::Next, To::Fail));
            }
            out.push(Step::Plain(load(low_at)));
            out.push(Step::Plain(op(AND, low)));
            out.push(test(JEQ, want_low, To::Pass, To::Fail));
        }
        Op::ScmpCmpEq | Op::ScmpCmpNe => {
            let (same, other) =
                if c.op == Op::ScmpCmpEq { (To::Pass, To::Fail) } else { (To::Fail, To::Pass) };
            if !narrow {
                out.push(Step::Plain(load(high_at)));
                out.push(test(JEQ, high, To::Next, other));
            }
            out.push(Step::Plain(load(low_at)));
            out.push(test(JEQ, low, same, other));
        }
        Op::ScmpCmpGt | Op::ScmpCmpGe | Op::ScmpCmpLt | Op::ScmpCmpLe => {
            // a < b is not a >= b, and a <= b is not a > b
            let (last, above, below) = match c.op {
                Op::ScmpCmpGt => (JGT, To::Pass, To::Fail),
                Op::ScmpCmpGe => (JGE, To::Pass, To::Fail),
                Op::ScmpCmpLt => (JGE, To::Fail, To::Pass),
                _ => (JGT, To::Fail, To::Pass),
            };
            if !narrow {
                out.push(Step::Plain(load(high_at)));
                out.push(test(JGT, high, above, To::Next));
                out.push(test(JEQ, high, To::Next, below));
            }
            out.push(Step::Plain(load(low_at)));
            out.push(test(last, low, above, below));
        }
    }
    out
}
