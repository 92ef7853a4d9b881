//! Instructions, and the binary search.

use wharf_sys::seccomp::SockFilter;

// include/uapi/linux/bpf_common.h: class | size or operation | mode or source
const LD_W_ABS: u16 = 0x20;
const RET_K: u16 = 0x06;
const JA: u16 = 0x05;
pub(crate) const JEQ: u16 = 0x15;
pub(crate) const JGT: u16 = 0x25;
pub(crate) const JGE: u16 = 0x35;
pub(crate) const AND: u16 = 0x54;

/// Offsets in `struct seccomp_data`.
pub(crate) const NR: u32 = 0;
pub(crate) const ARCH: u32 = 4;

pub(crate) fn op(code: u16, k: u32) -> SockFilter {
    SockFilter { code, jt: 0, jf: 0, k }
}

pub(crate) fn load(offset: u32) -> SockFilter {
    op(LD_W_ABS, offset)
}

pub(crate) fn ret(value: u32) -> SockFilter {
    op(RET_K, value)
}

/// `jump` if the test holds over `body`, which is what runs if it does not.
pub(crate) fn unless(code: u16, k: u32, body: &mut Vec<SockFilter>, out: &mut Vec<SockFilter>) {
    match u8::try_from(body.len()) {
        Ok(len) => out.push(SockFilter { code, jt: len, jf: 0, k }),
        Err(_) => {
            out.push(SockFilter { code, jt: 0, jf: 1, k });
            out.push(op(JA, body.len() as u32));
        }
    }
    out.append(body);
}

/// `body` runs if the architecture loaded is `audit`, else what follows it.
pub(crate) fn for_arch(audit: u32, body: &mut Vec<SockFilter>, out: &mut Vec<SockFilter>) {
    match u8::try_from(body.len()) {
        Ok(len) => out.push(SockFilter { code: JEQ, jt: 0, jf: len, k: audit }),
        Err(_) => {
            out.push(SockFilter { code: JEQ, jt: 1, jf: 0, k: audit });
            out.push(op(JA, body.len() as u32));
        }
    }
    out.append(body);
}

/// A search over ranges, each from its number to the one before the next. `leaf` emits what decides within a range
/// and must end with a return on every way.
pub(crate) fn search<T>(
    ranges: &[(u32, T)],
    leaf: &mut dyn FnMut(&T, &mut Vec<SockFilter>),
    out: &mut Vec<SockFilter>,
) {
    match ranges {
        [] => {}
        [(_, one)] => leaf(one, out),
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            let mut body = Vec::new();
            search(left, leaf, &mut body);
            unless(JGE, right[0].0, &mut body, out);
            search(right, leaf, out);
        }
    }
}
