//! Content-addressed blobs and resumable ingests.
//!
//! Bytes live in `blobs/<algorithm>/<hex>` and, on their way in, in `ingest/<number>`; what there is of them in a
//! namespace stands in the metadata. A blob is never visible before its digest was verified and its bytes were
//! flushed. What a crash leaves without a record is swept by the collector.

mod error;
mod files;
mod reader;
mod refs;
mod store;
mod writer;

pub use error::ContentError;
pub use reader::Reader;
pub use store::{ContentStore, IngestStatus};
pub use writer::{Progress, WriteOptions, Writer};

#[cfg(test)]
mod tests;
