//! Docker Engine API: the JSON bodies of the REST contract.
//!
//! One Rust struct per Go struct with Docker's field names. Output keeps Go's zeros and nulls, and
//! leaves a field out only where Docker's has `omitempty`. Input is decoded in one place, [`decode`],
//! with the tolerance of Go's `encoding/json`.

pub mod auth;
pub mod container;
pub mod decode;
pub mod error;
pub mod event;
pub mod image;
pub mod moment;
pub mod omit;
pub mod progress;
pub mod system;
pub mod time;
