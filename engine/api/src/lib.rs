//! Docker Engine API: routes that translate between HTTP and the engine's domain, and the connection loop they run in.
//!
//! A route decodes, calls, maps the error and encodes; it decides nothing. Versions are dealt with at the edge:
//! [`version`] strips `/vX.Y` and refuses what is too old or too new before the router sees a request.

pub mod body;
pub mod error;
pub mod hijack;
pub mod query;
pub mod routes;
pub mod server;
pub mod state;
pub mod streams;
pub mod times;
pub mod version;

pub use error::ApiError;
pub use state::{AppState, DaemonInfo};
pub use version::ApiVersion;
