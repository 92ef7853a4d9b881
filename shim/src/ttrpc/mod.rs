//! ttrpc: containerd's small RPC over unix sockets.
//!
//! A frame is a header of ten bytes (big-endian u32 length of the data, big-endian u32 stream id, type byte,
//! flags byte) and the data: a protobuf [`Request`] (type 1, odd stream ids, from the client) or
//! [`Response`] (type 2, same stream id). Streaming frames (type 3) are not used by the shim's services.
//! Source: the protocol description in containerd/ttrpc.
//!
//! Own framing instead of the ttrpc crate: the crate's server keeps 9 to 11 threads and 170 kB (PSS) a shim,
//! this one a thread for each connection and 72 kB; and a method may answer later from any thread, so that
//! a waiting `Wait` costs no thread.

mod client;
mod message;
mod server;

pub use client::{CallError, Client};
pub use message::{Metadata, Request, Response, Status};
pub use server::{Responder, Service, serve};
