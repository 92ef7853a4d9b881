//! System call numbers by name.

use oci_spec::runtime::Arch;

use crate::arch::Column;

const NONE: u32 = u32::MAX;

static TABLE: &[(&str, [u32; 6])] = include!(concat!(env!("OUT_DIR"), "/syscalls.rs"));

/// The number of a call on an architecture; x32's have bit 30 set.
pub fn number(name: &str, arch: Arch) -> Option<u32> {
    Some(row(name)?[Column::of(arch)? as usize]).filter(|n| *n != NONE)
}

fn row(name: &str) -> Option<&'static [u32; 6]> {
    TABLE.binary_search_by(|(n, _)| (*n).cmp(name)).ok().map(|i| &TABLE[i].1)
}

pub(crate) fn lookup(name: &str, column: Column) -> Option<u32> {
    Some(row(name)?[column as usize]).filter(|n| *n != NONE)
}

/// `socketcall(2)` and `ipc(2)` of x86: the multiplexer's number, and the first argument that means `name`
/// (include/uapi/linux/net.h, ipc.h).
pub(crate) fn multiplexed(name: &str) -> Option<(u32, u64)> {
    const SOCKETCALL: u32 = 102;
    const IPC: u32 = 117;
    const SOCKETS: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    if let Some(i) = SOCKETS.iter().position(|s| *s == name) {
        return Some((SOCKETCALL, i as u64 + 1));
    }
    let call = match name {
        "semop" => 1,
        "semget" => 2,
        "semctl" => 3,
        "semtimedop" => 4,
        "msgsnd" => 11,
        "msgrcv" => 12,
        "msgget" => 13,
        "msgctl" => 14,
        "shmat" => 21,
        "shmdt" => 22,
        "shmget" => 23,
        "shmctl" => 24,
        _ => return None,
    };
    Some((IPC, call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_unique_in_each_column() {
        assert!(TABLE.windows(2).all(|w| w[0].0 < w[1].0));
        for column in 0..6 {
            let mut numbers: Vec<u32> = TABLE.iter().map(|(_, n)| n[column]).filter(|n| *n != NONE).collect();
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "column {column}");
        }
    }

    #[test]
    fn a_few_numbers_that_everybody_knows() {
        assert_eq!(number("read", Arch::ScmpArchX86_64), Some(0));
        assert_eq!(number("read", Arch::ScmpArchX86), Some(3));
        assert_eq!(number("execve", Arch::ScmpArchX32), Some(0x4000_0208));
        assert_eq!(number("openat", Arch::ScmpArchAarch64), Some(56));
        assert_eq!(number("open", Arch::ScmpArchAarch64), None);
        assert_eq!(number("nonsense", Arch::ScmpArchX86_64), None);
    }
}
