//! The messages in frames.

use prost::Message;
pub use wharf_containerd::google::rpc::Status;

/// A call.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Full service name, `containerd.task.v3.Task`.
    #[prost(string, tag = "1")]
    pub service: String,
    /// Method name.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The encoded request message.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// Nanoseconds the caller will wait; 0 is no limit.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    /// Headers.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<Metadata>,
}

/// A header.
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// An answer.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// Absent or code 0 for success.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The encoded response message.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}
