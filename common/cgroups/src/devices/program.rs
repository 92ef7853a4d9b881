//! A device policy as a BPF program of type CGROUP_DEVICE.

use wharf_sys::bpf::Insn;

use super::rules::{DeviceKind, Policy};

// include/uapi/linux/bpf_common.h and bpf.h: class | size or operation | mode or source
const LDX_W: u8 = 0x61;
const MOV64_K: u8 = 0xb7;
const MOV32_X: u8 = 0xbc;
const AND32_K: u8 = 0x54;
const RSH32_K: u8 = 0x74;
const JNE_K: u8 = 0x55;
const JNE32_K: u8 = 0x56;
const JEQ32_K: u8 = 0x16;
const EXIT: u8 = 0x95;

// BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

/// Compiles the policy. The kernel passes `struct bpf_cgroup_dev_ctx { access_type, major, minor }` in register 1:
/// the type in the low half of `access_type`, the rights asked for in its high half. The program returns 1 to allow.
pub fn compile(policy: &Policy) -> Vec<Insn> {
    let mut out = vec![
        Insn { code: LDX_W, dst: 2, src: 1, off: 0, imm: 0 }, // r2 = access_type
        Insn { code: MOV32_X, dst: 3, src: 2, off: 0, imm: 0 },
        Insn { code: RSH32_K, dst: 3, src: 0, off: 0, imm: 16 }, // r3 = rights
        Insn { code: AND32_K, dst: 2, src: 0, off: 0, imm: 0xffff }, // r2 = kind
        Insn { code: LDX_W, dst: 4, src: 1, off: 4, imm: 0 },    // r4 = major
        Insn { code: LDX_W, dst: 5, src: 1, off: 8, imm: 0 },    // r5 = minor
    ];
    for e in &policy.exceptions {
        let mut block = Vec::with_capacity(8);
        let kind = match e.kind {
            DeviceKind::Block => BLOCK,
            DeviceKind::Char => CHAR,
        };
        block.push(Insn { code: JNE_K, dst: 2, src: 0, off: 0, imm: kind });
        for (register, number) in [(4, e.major), (5, e.minor)] {
            if let Some(n) = number {
                block.push(Insn { code: JNE32_K, dst: register, src: 0, off: 0, imm: n.cast_signed() });
            }
        }
        let bits = e.access.bits().cast_signed();
        block.push(Insn { code: MOV32_X, dst: 0, src: 3, off: 0, imm: 0 });
        block.push(match policy.default_allow {
            // any right of the exception is asked for
            true => Insn { code: AND32_K, dst: 0, src: 0, off: 0, imm: bits },
            // a right beyond the exception is asked for
            false => Insn { code: AND32_K, dst: 0, src: 0, off: 0, imm: !bits & 7 },
        });
        let skip = if policy.default_allow { JEQ32_K } else { JNE32_K };
        block.push(Insn { code: skip, dst: 0, src: 0, off: 0, imm: 0 });
        block.push(Insn { code: MOV64_K, dst: 0, src: 0, off: 0, imm: i32::from(!policy.default_allow) });
        block.push(Insn { code: EXIT, dst: 0, src: 0, off: 0, imm: 0 });
        let len = block.len();
        for (at, insn) in block.iter_mut().enumerate() {
            if matches!(insn.code, JNE_K | JNE32_K | JEQ32_K) {
                // to the first instruction after the block; blocks have eight at most
                insn.off = (len - at - 1) as i16;
            }
        }
        out.append(&mut block);
    }
    out.push(Insn { code: MOV64_K, dst: 0, src: 0, off: 0, imm: i32::from(policy.default_allow) });
    out.push(Insn { code: EXIT, dst: 0, src: 0, off: 0, imm: 0 });
    out
}
