//! How the C library keeps memory.

#[cfg(target_env = "gnu")]
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes freed since the last time that are worth the work.
#[cfg(target_env = "gnu")]
const WORTHWHILE: usize = 1 << 20;
/// Bytes that were free after the last time, or fewer: whole pages of them are the kernel's already.
#[cfg(target_env = "gnu")]
static GIVEN: AtomicUsize = AtomicUsize::new(0);

/// Gives whole free pages back to the kernel if many were freed since the last time; true if it gave any. Takes
/// milliseconds at the most, in which allocations wait.
///
/// glibc does so by itself for the end of the heap only: what lies before one small object that lives on stays
/// resident, and that is most of what a burst of work has used.
#[cfg(target_env = "gnu")]
pub fn give_back() -> bool {
    let free = free_bytes();
    // what was taken since then and is freed later counts again
    let given = GIVEN.fetch_min(free, Ordering::Relaxed).min(free);
    if free - given < WORTHWHILE {
        return false;
    }
    // SAFETY: it takes the allocator's locks and touches nothing that is in use.
    let gave = unsafe { libc::malloc_trim(0) } == 1;
    GIVEN.store(free_bytes(), Ordering::Relaxed);
    gave
}

/// In all arenas, whether the kernel has taken their pages or not.
#[cfg(target_env = "gnu")]
fn free_bytes() -> usize {
    // SAFETY: it takes the allocator's locks and counts.
    unsafe { libc::mallinfo2() }.fordblks
}

/// Has threads share a few arenas instead of having up to eight for each processor, each with free memory of its own.
/// To be called before threads are made.
#[cfg(target_env = "gnu")]
pub fn share_arenas(most: std::ffi::c_int) {
    // SAFETY: sets a number. A refusal leaves things as they were.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, most) };
}

/// Other C libraries have no arenas.
#[cfg(not(target_env = "gnu"))]
pub fn share_arenas(_most: std::ffi::c_int) {}

/// Other C libraries keep little.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() -> bool {
    false
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
    }

    #[test]
    fn freed_memory_between_living_objects_is_given_back() {
        // below the size from which glibc maps each object by itself
        let mut objects: Vec<Option<Vec<u8>>> = (0..1024).map(|_| Some(vec![1u8; 60 << 10])).collect();
        for (i, object) in objects.iter_mut().enumerate() {
            if i % 16 != 0 {
                *object = None;
            }
        }
        let before = resident();
        assert!(give_back());
        assert!(before - resident() > 32 << 20, "{before} before, {} after", resident());
        drop(objects);
    }
}
