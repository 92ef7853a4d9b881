//! Signal masks and signals as a readable descriptor.

use crate::check;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

fn full_set() -> libc::sigset_t {
    // SAFETY: sigset_t is plain data; sigfillset initialises it whole.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        set
    }
}

/// A saved signal mask.
#[derive(Clone, Copy)]
pub struct Mask(libc::sigset_t);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask")
    }
}

/// Blocks every signal that can be blocked; returns the mask that was in force.
pub fn block_all() -> io::Result<Mask> {
    let set = full_set();
    let mut old = Mask(set);
    // SAFETY: both sets are initialised and live across the call.
    check(libc::c_long::from(unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, &raw mut old.0)
    }))?;
    Ok(old)
}

/// Puts a saved mask back.
pub fn restore(mask: &Mask) -> io::Result<()> {
    // SAFETY: the set is initialised; the old-mask pointer may be null.
    check(libc::c_long::from(unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, &raw const mask.0, std::ptr::null_mut())
    }))?;
    Ok(())
}

/// Gives the calling process the dispositions and mask of a fresh one: default handlers, nothing blocked or ignored.
/// Made for just before an exec: the C library's own two signals are reset as well.
pub fn reset_all() -> io::Result<()> {
    /// `struct sigaction` as the kernel has it; all zeros is the default action.
    #[repr(C)]
    struct KernelAction([u64; 4]);
    let default = KernelAction([0; 4]);
    for signal in (1..=64).filter(|s| ![libc::SIGKILL, libc::SIGSTOP].contains(s)) {
        // SAFETY: the action is as large as the kernel's and only read; the old action is not asked for. The raw call is
        // needed since the C library hides signals 32 and 33, which a parent may have left ignored.
        check(unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const default,
                std::ptr::null_mut::<KernelAction>(),
                8,
            )
        })?;
    }
    // SAFETY: sigemptyset initialises the set, which lives across the call.
    check(libc::c_long::from(unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    }))?;
    Ok(())
}

/// Has each of the signals end this process with the exit code 128 + its number, where the default would not: the first
/// process of a pid namespace does not take the signals it has no handler for. An exec brings the defaults back.
pub fn end_on(signals: &[i32]) -> io::Result<()> {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: _exit is async-signal-safe.
        unsafe { libc::_exit(128 + signal) }
    }
    // SAFETY: sigset_t and sigaction are plain data; sigemptyset initialises the set. The handler takes the one argument
    // that handlers without SA_SIGINFO get, and makes one async-signal-safe call. Both structures live across the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = end as extern "C" fn(libc::c_int) as usize;
        for signal in signals {
            check(libc::c_long::from(libc::sigaction(*signal, &raw const action, std::ptr::null_mut())))?;
            libc::sigaddset(&raw mut set, *signal);
        }
        check(libc::c_long::from(libc::sigprocmask(
            libc::SIG_UNBLOCK,
            &raw const set,
            std::ptr::null_mut(),
        )))?;
    }
    Ok(())
}

/// A descriptor that reads as the signals pending for this process. The signals must be blocked.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Receives every blocked signal. Non-blocking, close-on-exec.
    pub fn all() -> io::Result<Self> {
        let set = full_set();
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = check(libc::c_long::from(unsafe {
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        }))?;
        // SAFETY: signalfd succeeded with -1, so this is a fresh descriptor nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// The number of the next pending signal, or None if there is none now.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is writable for `size` bytes.
        let ret = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        match check(ret as libc::c_long) {
            // SAFETY: a full record was read, and every bit pattern is valid for its integer fields.
            Ok(n) if n as usize == size => Ok(Some(unsafe { info.assume_init() }.ssi_signo as i32)),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl std::os::fd::AsFd for SignalFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}
