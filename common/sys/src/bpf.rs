//! BPF programs of type CGROUP_DEVICE: version 2's device policy.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
/// The kernel attaches 64 programs of one type to a cgroup at most (BPF_CGROUP_MAX_PROGS).
const MAX_PROGRAMS: usize = 64;

/// One instruction of extended BPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Class, operation, source.
    pub code: u8,
    /// Destination register, 0 to 10.
    pub dst: u8,
    /// Source register, 0 to 10.
    pub src: u8,
    /// Jump or memory offset.
    pub off: i16,
    /// Immediate value.
    pub imm: i32,
}

impl Insn {
    /// `struct bpf_insn`: code, two registers in one byte, offset, immediate, in the machine's byte order.
    fn encode(self) -> u64 {
        let registers = if cfg!(target_endian = "little") {
            self.dst & 0xf | self.src << 4
        } else {
            self.dst << 4 | self.src & 0xf
        };
        let (off, imm) = (self.off.to_ne_bytes(), self.imm.to_ne_bytes());
        u64::from_ne_bytes([self.code, registers, off[0], off[1], imm[0], imm[1], imm[2], imm[3]])
    }
}

/// The head of the kernel's `union bpf_attr`, which accepts any length up to its own.
#[repr(C, align(8))]
struct Attr([u8; 64]);

impl Attr {
    fn new() -> Self {
        Attr([0; 64])
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(mut self, at: usize, value: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(self, at: usize, fd: BorrowedFd<'_>) -> Self {
        self.u32(at, fd.as_raw_fd().cast_unsigned())
    }

    /// # Safety
    /// Every address in the attribute must be valid for what the command reads and writes there.
    unsafe fn call(&mut self, command: libc::c_int) -> Result<i32, Errno> {
        // SAFETY: the attribute is 64 readable and writable bytes; the caller vouches for the addresses in it.
        let ret = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if ret < 0 {
            return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
        }
        Ok(ret as i32)
    }
}

/// Loads a device program. The descriptor is closed on exec, as the kernel makes it.
pub fn load_cgroup_device(program: &[Insn]) -> Result<OwnedFd, Errno> {
    let code: Vec<u64> = program.iter().map(|i| i.encode()).collect();
    let license = c"Apache-2.0";
    let mut attr = Attr::new()
        .u32(0, TYPE_CGROUP_DEVICE)
        .u32(4, u32::try_from(code.len()).map_err(|_| Errno::TOOBIG)?)
        .u64(8, code.as_ptr() as u64)
        .u64(16, license.as_ptr() as u64);
    // SAFETY: the program and the license outlive the call; on success the kernel gives a new descriptor, owned here.
    unsafe { attr.call(PROG_LOAD).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Attaches a device program to a cgroup beside those that are there.
pub fn attach_cgroup_device(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let cgroup = readable(cgroup)?;
    let mut attr =
        Attr::new().fd(0, borrowed(&cgroup)).fd(4, program).u32(8, ATTACH_CGROUP_DEVICE).u32(12, ALLOW_MULTI);
    // SAFETY: the attribute holds no address.
    unsafe { attr.call(PROG_ATTACH) }.map(drop)
}

/// Takes a device program off a cgroup.
pub fn detach_cgroup_device(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let cgroup = readable(cgroup)?;
    let mut attr = Attr::new().fd(0, borrowed(&cgroup)).fd(4, program).u32(8, ATTACH_CGROUP_DEVICE);
    // SAFETY: the attribute holds no address.
    unsafe { attr.call(PROG_DETACH) }.map(drop)
}

/// The device programs attached to this very cgroup.
pub fn attached_cgroup_device(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    let cgroup = readable(cgroup)?;
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut attr = Attr::new()
        .fd(0, borrowed(&cgroup))
        .u32(4, ATTACH_CGROUP_DEVICE)
        .u64(16, ids.as_mut_ptr() as u64)
        .u32(24, MAX_PROGRAMS as u32);
    // SAFETY: `ids` has room for the number of ids announced and outlives the call.
    unsafe { attr.call(PROG_QUERY) }?;
    let [a, b, c, d] = [attr.0[24], attr.0[25], attr.0[26], attr.0[27]];
    let count = (u32::from_ne_bytes([a, b, c, d]) as usize).min(MAX_PROGRAMS);
    let mut out = Vec::with_capacity(count);
    for id in &ids[..count] {
        let mut attr = Attr::new().u32(0, *id);
        // SAFETY: the attribute holds no address; on success the kernel gives a new descriptor, owned here.
        match unsafe { attr.call(PROG_GET_FD_BY_ID).map(|fd| OwnedFd::from_raw_fd(fd)) } {
            Ok(fd) => out.push(fd),
            Err(Errno::NOENT) => {} // gone since the query
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

/// bpf(2) wants a cgroup descriptor that is open for reading, not an O_PATH one.
fn readable(cgroup: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    use rustix::fs::{Mode, OFlags, openat};
    openat(cgroup, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn borrowed(fd: &OwnedFd) -> BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(fd)
}
