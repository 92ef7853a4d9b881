//! What images occupy.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use engine_backend::BackendError;
use wharf_vocab::Digest;

use crate::images::Images;
use crate::stored::StoredImage;

/// Bytes of committed snapshots, which never change.
#[derive(Default)]
pub(crate) struct Sizes(Mutex<HashMap<Digest, u64>>);

const MAX_KNOWN: usize = 16_384;

impl Images {
    /// Bytes of each layer, lowest first: unpacked, or as it is stored where it is not unpacked.
    pub(crate) async fn layer_sizes(&self, image: &StoredImage) -> Result<Vec<u64>, BackendError> {
        let mut sizes = Vec::with_capacity(image.chain.len());
        for (chain, layer) in image.chain.iter().zip(&image.layers) {
            sizes.push(match self.snapshot_size(chain).await {
                Ok(size) => size,
                Err(error) if error.is_not_found() => layer.size,
                Err(error) => return Err(error),
            });
        }
        Ok(sizes)
    }

    /// Bytes of all layers together.
    pub(crate) async fn size(&self, image: &StoredImage) -> Result<i64, BackendError> {
        let total: u64 = self.layer_sizes(image).await?.iter().sum();
        Ok(i64::try_from(total).unwrap_or(i64::MAX))
    }

    async fn snapshot_size(&self, chain: &Digest) -> Result<u64, BackendError> {
        let known =
            |sizes: &Sizes| sizes.0.lock().unwrap_or_else(PoisonError::into_inner).get(chain).copied();
        if let Some(size) = known(&self.inner.sizes) {
            return Ok(size);
        }
        let size = self.backend().snapshot_usage(chain.as_str()).await?.size;
        let mut sizes = self.inner.sizes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sizes.len() >= MAX_KNOWN {
            sizes.clear();
        }
        sizes.insert(chain.clone(), size);
        Ok(size)
    }
}
