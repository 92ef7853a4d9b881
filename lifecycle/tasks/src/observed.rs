//! Values that others wait for.
//!
//! What tokio's watch channel does, at a sixth of its memory: there are several for every task.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A value and those who wait for it to become something.
#[derive(Debug, Default)]
pub(crate) struct Observed<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T> Observed<T> {
    pub(crate) fn new(value: T) -> Self {
        Observed { value: Mutex::new(value), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        // changes are single assignments: a panic leaves nothing half done
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the value, which is locked meanwhile.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock())
    }

    pub(crate) fn set(&self, value: T) {
        let old = std::mem::replace(&mut *self.lock(), value);
        self.changed.notify_waiters();
        // whatever that does is not done under the lock
        drop(old);
    }

    /// Changes the value if `change` says so by returning true.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        if change(&mut self.lock()) {
            self.changed.notify_waiters();
        }
    }

    /// Waits until `look` finds what it looks for. It sees the value that there is and later ones, not every one.
    pub(crate) async fn until<R>(&self, mut look: impl FnMut(&T) -> Option<R>) -> R {
        loop {
            // from here on no change is missed
            let changed = self.changed.notified();
            let found = look(&self.lock());
            match found {
                Some(found) => return found,
                None => changed.await,
            }
        }
    }
}

impl<T: Copy> Observed<T> {
    pub(crate) fn get(&self) -> T {
        *self.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_waiter_sees_the_last_value() {
        let value = Arc::new(Observed::new(0));
        let waiters: Vec<_> = (0..100)
            .map(|_| {
                let value = value.clone();
                tokio::spawn(async move { value.until(|value| (*value == 1000).then_some(*value)).await })
            })
            .collect();
        for next in 1..=1000 {
            value.set(next);
            tokio::task::yield_now().await;
        }
        for waiter in waiters {
            let seen = tokio::time::timeout(Duration::from_secs(60), waiter).await.expect("in time");
            assert_eq!(seen.expect("no panic"), 1000);
        }
    }

    #[tokio::test]
    async fn change_that_is_none_wakes_nobody() {
        let value = Observed::new(1);
        let waiting = value.until(|value| (*value == 2).then_some(()));
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        value.change(|_| false);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        value.change(|value| {
            *value = 2;
            true
        });
        assert!(futures_util::poll!(&mut waiting).is_ready());
    }
}
