//! Locks by name, for work that must not be done twice at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

/// Asynchronous locks by key; a key takes no memory while nobody holds or wants it.
#[derive(Default)]
pub(crate) struct KeyedLocks(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

/// Keys kept before unused ones are swept.
const SWEEP_AT: usize = 256;

impl KeyedLocks {
    /// Waits until the key is free. Whoever waits is served in order.
    pub async fn hold(&self, key: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if locks.len() >= SWEEP_AT {
                locks.retain(|_, lock| lock.strong_count() > 0);
            }
            match locks.get(key).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(tokio::sync::Mutex::new(()));
                    locks.insert(key.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::KeyedLocks;

    #[tokio::test]
    async fn one_holder_a_key() {
        let locks = KeyedLocks::default();
        let held = locks.hold("a").await;
        locks.hold("b").await;
        let second = locks.hold("a");
        tokio::pin!(second);
        let now = tokio::time::timeout(std::time::Duration::ZERO, second.as_mut()).await;
        assert!(now.is_err(), "the key is held");
        drop(held);
        second.await;
    }
}
