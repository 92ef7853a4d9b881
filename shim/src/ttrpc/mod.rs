//! ttrpc: containerd's small RPC over unix sockets.
//!
//! Threads in place of the ttrpc crate: its server keeps 9 to 11 of them and 170 kB (PSS) a shim, this one a thread for
//! each connection and 72 kB; and a method may answer later from any thread, so that a waiting `Wait` costs none.

mod client;
mod server;

pub use client::{CallError, Client};
pub use server::{Responder, Service, serve};
pub use wharf_ttrpc::{Metadata, Request, Response, Status};
