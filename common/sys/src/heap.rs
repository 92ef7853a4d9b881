//! Memory that the C library keeps after it was freed.

/// Free bytes that are worth the work.
#[cfg(target_env = "gnu")]
const WORTHWHILE: usize = 4 << 20;

/// Gives whole free pages back to the kernel if there are many; true if it gave any. Takes milliseconds at the most, in which
/// allocations wait.
///
/// glibc does so by itself for the end of the heap only: what lies before one small object that lives on stays
/// resident, and that is most of what a burst of work has used.
#[cfg(target_env = "gnu")]
pub fn give_back() -> bool {
    // SAFETY: both calls take the allocator's locks and touch nothing that is in use.
    unsafe { libc::mallinfo2().fordblks >= WORTHWHILE && libc::malloc_trim(0) == 1 }
}

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
