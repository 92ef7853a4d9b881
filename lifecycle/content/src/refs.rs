//! One writer an ingest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::error::ContentError;

/// Which ingests have a writer now, by namespace and reference.
#[derive(Debug, Default)]
pub(crate) struct OpenRefs(Mutex<HashMap<(String, String), Instant>>);

/// An ingest held by a writer; dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct RefGuard {
    refs: Arc<OpenRefs>,
    key: (String, String),
}

impl OpenRefs {
    pub(crate) fn acquire(
        self: &Arc<Self>,
        namespace: &str,
        reference: &str,
    ) -> Result<RefGuard, ContentError> {
        let key = (namespace.to_owned(), reference.to_owned());
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = open.get(&key) {
            return Err(ContentError::Locked { reference: reference.into(), held: since.elapsed() });
        }
        open.insert(key.clone(), Instant::now());
        Ok(RefGuard { refs: Arc::clone(self), key })
    }
}

impl Drop for RefGuard {
    fn drop(&mut self) {
        self.refs.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
