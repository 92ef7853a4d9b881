//! Waiting for conditions, never for time.

use std::thread;
use std::time::{Duration, Instant};

/// For what has to happen: the machine may be busy with other tests.
pub const SOON: Duration = Duration::from_secs(60);

/// Polls `check` every 5 ms until it gives a value or `within` has passed; then panics naming `what`.
pub fn eventually<T>(what: &str, within: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not so after {within:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
