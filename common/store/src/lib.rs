//! Durable state: files replaced atomically, typed tables, a schema version, one owner a directory.
//!
//! - [`file::replace`] writes a small file so that a reader, or a start after a crash, sees the old or the new
//!   content and never a part.
//! - [`Database`] is one redb file. Writers that meet share one flush to disk.
//! - [`DirectoryLock`] keeps a second process off the same state.

mod database;
pub mod file;
mod lock;
mod table;

pub use database::{Database, Read, Schema, StoreError, View, Write};
pub use lock::{DirectoryLock, LockError};
pub use table::Table;
