//! Docker Engine API over HTTP/1.1: connections, version negotiation, errors, hijacked streams.

mod body;
mod client;
mod dial;
mod error;
mod hijack;
mod host;
mod response;
pub(crate) mod url;

pub(crate) use body::RequestBody;
pub(crate) use client::{ApiVersion, Client, MAX_VERSION};
pub(crate) use dial::Socket;
pub(crate) use error::ClientError;
pub(crate) use hijack::Hijacked;
pub(crate) use host::{DEFAULT_HOST, Endpoint, HostError};
pub(crate) use response::{Response, decode};
