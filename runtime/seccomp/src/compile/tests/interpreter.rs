//! Classic BPF as seccomp runs it: the instructions that this compiler and libseccomp use.

use super::SockFilter;

pub(in super::super) struct Data {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            16..64 if offset.is_multiple_of(4) => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            _ => panic!("load at {offset}"),
        }
    }
}

/// The value returned, and how many instructions it took.
pub(in super::super) fn run(filter: &[SockFilter], data: &Data) -> (u32, usize) {
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
    let (mut pc, mut count) = (0usize, 0usize);
    loop {
        let i = filter[pc];
        pc += 1;
        count += 1;
        let mut jump = |yes: bool| pc += usize::from(if yes { i.jt } else { i.jf });
        match i.code {
            0x20 => a = data.word(i.k),
            0x54 => a &= i.k,
            0x15 => jump(a == i.k),
            0x25 => jump(a > i.k),
            0x35 => jump(a >= i.k),
            0x45 => jump(a & i.k != 0),
            0x05 => pc += i.k as usize,
            0x02 => memory[i.k as usize] = a,
            0x60 => a = memory[i.k as usize],
            0x07 => x = a,
            0x87 => a = x,
            0x06 => return (i.k, count),
            code => panic!("instruction {code:#x}"),
        }
    }
}
