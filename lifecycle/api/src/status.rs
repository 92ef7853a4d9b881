//! Errors of the domain as gRPC statuses.

use std::fmt::Display;

use tonic::{Code, Status};
use wharf_kinds::Kind;

/// A gRPC status whose code is the kind's, with the text as clients are to read it.
pub(crate) fn status(kind: Kind, text: impl Display) -> Status {
    Status::new(Code::from_i32(kind.grpc_code()), text.to_string())
}
