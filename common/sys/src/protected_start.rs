//! The first instructions of a program that is not to run from a file that can be written to.
//!
//! Such a program replaces itself by a copy of its executable behind a detached read-only mount (see runw's
//! `self_exe`). Doing so in `main` starts the C library twice, and that asks the processor for its caches in some eighty
//! CPUID instructions, each a trap to the hypervisor in a virtual machine: 0.4 ms of 0.5. So a static build may
//! take [`ENTRY`] as its entry point (linker option `--entry`), which does it before anything else has run. Whatever
//! does not work out here goes on at the ordinary entry point, as if nothing had been tried: `main` has to look at
//! what it runs from all the same.
//!
//! Nothing is set up yet when this code runs: no thread-local storage, no relocations, and in a static program memcpy
//! and its like are calls through a table that is still empty. Hence the volatile accesses, which the compiler
//! does not turn into such calls.

/// The symbol of the entry point. Only x86-64 has one.
pub const ENTRY: &str = "wharf_protected_start";

/// The commands (any argument that is one of them) whose process is replaced.
pub const COMMANDS: [&str; 4] = ["create", "run", "exec", "restore"];

/// Set in the environment of the program executed anew: if it still finds itself writable, it must not try for ever.
pub const MARK: &str = "_RUNW_PROTECTED";

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::ffi::c_char;
    use std::mem::MaybeUninit;
    use std::ptr::{null, read_volatile, write_volatile};

    /// What the kernel jumps to: argc, argv and the environment are on the stack.
    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    extern "C" fn wharf_protected_start() -> ! {
        core::arch::naked_asm!(
            "mov rbx, rsp",
            "mov r12, rdx",
            "mov rdi, rsp",
            "and rsp, -16",
            "call {replace}",
            "mov rsp, rbx",
            "mov rdx, r12",
            "jmp _start",
            replace = sym replace,
        )
    }

    // kept where nothing but the linker's option names it
    #[used]
    static KEEP: extern "C" fn() -> ! = wharf_protected_start;

    const MAX_ENV: usize = 4096;
    /// The environment of the new program. The stack has no room that is ours to take, and there is no heap yet.
    static mut ENVIRONMENT: [*const c_char; MAX_ENV] = [null(); MAX_ENV];
    /// [`COMMANDS`](super::COMMANDS), as data without pointers: those of a position-independent program are not yet right.
    static WORDS: [u8; 24] = *b"create\0run\0exec\0restore\0";
    /// `MARK=1`
    static MARKED: [u8; 18] = *b"_RUNW_PROTECTED=1\0";

    const AT_FDCWD: usize = -100_isize as usize;
    const AT_EMPTY_PATH: usize = 0x1000;
    const O_PATH_CLOEXEC: usize = 0o10_000_000 | 0o2_000_000;
    const OPEN_TREE_CLONE_CLOEXEC: usize = 1 | 0o2_000_000;
    const ST_RDONLY: u64 = 1;
    /// Place of `f_flags` in `struct statfs`, in words.
    const F_FLAGS: usize = 10;

    /// `struct mount_attr` (include/uapi/linux/mount.h).
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }

    /// Replaces this process if its arguments say so; returns if they do not, or if that failed.
    extern "C" fn replace(stack: *const usize) {
        // SAFETY: `stack` is the stack as the kernel leaves it to a new program: the number of arguments, that many
        // pointers and a null, then pointers to the environment's strings and a null; all strings end with NUL.
        // ENVIRONMENT is touched by nobody else, and there is one thread.
        unsafe {
            let argc = read_volatile(stack);
            let argv = stack.add(1).cast::<*const c_char>();
            let envp = argv.wrapping_add(argc).wrapping_add(1);
            if !(1..argc).any(|i| is_command(read_volatile(argv.wrapping_add(i)))) {
                return;
            }
            let environment = (&raw mut ENVIRONMENT).cast::<*const c_char>();
            let mut n = 0;
            loop {
                let entry = read_volatile(envp.wrapping_add(n));
                if entry.is_null() {
                    break;
                }
                // the mark, and the null behind it, have to find room
                if n + 2 >= MAX_ENV || starts_with(entry, &MARKED[..16]) {
                    return;
                }
                write_volatile(environment.wrapping_add(n), entry);
                n += 1;
            }
            write_volatile(environment.wrapping_add(n), (&raw const MARKED).cast());
            write_volatile(environment.wrapping_add(n + 1), null());
            execute(argv, environment);
        }
    }

    /// # Safety
    /// Both arrays hold pointers to C strings and end with a null.
    unsafe fn execute(argv: *const *const c_char, environment: *const *const c_char) {
        let empty = c"".as_ptr() as usize;
        let exe = c"/proc/self/exe".as_ptr() as usize;
        // SAFETY: each pointer is to a live object of the layout that its call takes; `statfs` is 120 bytes.
        unsafe {
            let file = call(libc::SYS_openat, [AT_FDCWD, exe, O_PATH_CLOEXEC, 0, 0]);
            if file < 0 {
                return;
            }
            let file = file as usize;
            let mut statfs = MaybeUninit::<[u64; 16]>::uninit();
            let known = call(libc::SYS_fstatfs, [file, statfs.as_mut_ptr() as usize, 0, 0, 0]) == 0;
            call(libc::SYS_close, [file, 0, 0, 0, 0]);
            let flags = statfs.as_ptr().cast::<u64>().wrapping_add(F_FLAGS);
            // read-only: this is the copy already, or never needed one
            if !known || read_volatile(flags) & ST_RDONLY != 0 {
                return;
            }
            let tree = call(libc::SYS_open_tree, [AT_FDCWD, exe, OPEN_TREE_CLONE_CLOEXEC, 0, 0]);
            if tree < 0 {
                return;
            }
            let tree = tree as usize;
            let change = MountAttr {
                set: crate::mount::attr::RDONLY | crate::mount::attr::NODEV,
                clear: 0,
                propagation: 0,
                userns: 0,
            };
            let change_at = &raw const change as usize;
            let arguments = [tree, empty, AT_EMPTY_PATH, change_at, size_of::<MountAttr>()];
            if call(libc::SYS_mount_setattr, arguments) == 0 {
                call(libc::SYS_execveat, [tree, empty, argv as usize, environment as usize, AT_EMPTY_PATH]);
            }
            call(libc::SYS_close, [tree, 0, 0, 0, 0]);
        }
    }

    /// A system call without the C library: the result, or the error number below zero.
    ///
    /// # Safety
    /// As the call demands of its arguments.
    unsafe fn call(number: libc::c_long, [a, b, c, d, e]: [usize; 5]) -> isize {
        let result: isize;
        // SAFETY: the kernel changes rax, rcx and r11 only; memory is the caller's matter.
        unsafe {
            core::arch::asm!(
                "syscall",
                inlateout("rax") number as isize => result,
                in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
                lateout("rcx") _, lateout("r11") _,
                options(nostack),
            );
        }
        result
    }

    /// # Safety
    /// `text` is a C string.
    unsafe fn is_command(text: *const c_char) -> bool {
        let mut start = 0;
        let mut i = 0;
        while i < WORDS.len() {
            // to the NUL of a word, and equal up to it and with it
            // SAFETY: `starts_with` reads no byte behind the NUL of `text`, which is among those compared.
            if WORDS[i] == 0 && unsafe { starts_with(text, &WORDS[start..=i]) } {
                return true;
            }
            i += 1;
            if WORDS[i - 1] == 0 {
                start = i;
            }
        }
        false
    }

    /// # Safety
    /// `text` is a C string.
    unsafe fn starts_with(text: *const c_char, start: &[u8]) -> bool {
        let mut i = 0;
        while i < start.len() {
            // SAFETY: no byte is read behind one that differs, and `start` has no NUL but as its last byte.
            if unsafe { read_volatile(text.wrapping_add(i)) } as u8 != start[i] {
                return false;
            }
            i += 1;
        }
        true
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn words_are_commands_as_a_whole() {
            for (text, is) in
                [(c"run", true), (c"restore", true), (c"runs", false), (c"ru", false), (c"", false)]
            {
                // SAFETY: a C string.
                assert_eq!(unsafe { is_command(text.as_ptr()) }, is, "{text:?}");
            }
        }

        #[test]
        fn the_words_are_the_commands() {
            assert_eq!(WORDS.as_slice(), (super::super::COMMANDS.join("\0") + "\0").as_bytes());
        }

        #[test]
        fn the_mark_is_the_one_that_main_looks_for() {
            assert_eq!(MARKED.as_slice(), format!("{}=1\0", super::super::MARK).as_bytes());
        }
    }
}
