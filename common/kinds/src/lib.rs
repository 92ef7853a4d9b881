//! Error kinds, and their only mapping to gRPC, ttrpc and HTTP codes.
//!
//! Every error enum of the project has a `kind()`; adapters turn the kind into the wire's code here and
//! nowhere else. Sources: the gRPC status code numbers; containerd's errdefs-to-gRPC mapping; Docker's HTTP
//! statuses by error class.

mod grpc;
mod http;

/// What went wrong, for the caller's decision, independent of any wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself is wrong and will be wrong again.
    InvalidArgument,
    /// What the request names does not exist.
    NotFound,
    /// What the request would create exists.
    AlreadyExists,
    /// The request contradicts the present state of what it names (Docker: 409).
    Conflict,
    /// Something must be done first.
    FailedPrecondition,
    /// The state asked for already holds (Docker: 304).
    NotModified,
    /// The caller did not prove who it is.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// A part is not reachable now; the same request may succeed later.
    Unavailable,
    /// Not offered by this program.
    Unimplemented,
    /// A limit or a full disk.
    ResourceExhausted,
    /// An offset beyond the end.
    OutOfRange,
    /// A concurrent change won; read again and repeat.
    Aborted,
    /// The caller gave up.
    Cancelled,
    /// It took longer than allowed.
    DeadlineExceeded,
    /// Stored data is damaged, or a digest does not match.
    DataLoss,
    /// A fault of ours.
    Internal,
    /// Unclassified, as foreign programs report it.
    Unknown,
}

impl Kind {
    /// Every kind, for tests and tables.
    pub const ALL: [Kind; 18] = [
        Kind::InvalidArgument,
        Kind::NotFound,
        Kind::AlreadyExists,
        Kind::Conflict,
        Kind::FailedPrecondition,
        Kind::NotModified,
        Kind::Unauthenticated,
        Kind::PermissionDenied,
        Kind::Unavailable,
        Kind::Unimplemented,
        Kind::ResourceExhausted,
        Kind::OutOfRange,
        Kind::Aborted,
        Kind::Cancelled,
        Kind::DeadlineExceeded,
        Kind::DataLoss,
        Kind::Internal,
        Kind::Unknown,
    ];

    /// The words that containerd's errors end with, such as `not found`; clients match on them.
    pub const fn containerd_text(self) -> &'static str {
        match self {
            Kind::InvalidArgument => "invalid argument",
            Kind::NotFound => "not found",
            Kind::AlreadyExists => "already exists",
            Kind::Conflict => "conflict",
            Kind::FailedPrecondition => "failed precondition",
            Kind::NotModified => "not modified",
            Kind::Unauthenticated => "unauthenticated",
            Kind::PermissionDenied => "permission denied",
            Kind::Unavailable => "unavailable",
            Kind::Unimplemented => "not implemented",
            Kind::ResourceExhausted => "resource exhausted",
            Kind::OutOfRange => "out of range",
            Kind::Aborted => "aborted",
            Kind::Cancelled => "context canceled",
            Kind::DeadlineExceeded => "context deadline exceeded",
            Kind::DataLoss => "data loss",
            Kind::Internal => "internal",
            Kind::Unknown => "unknown",
        }
    }

    /// The kind of an operating system error: a missing path, a full disk and so on.
    pub fn of_io(error: &std::io::Error) -> Kind {
        use std::io::ErrorKind as E;
        match error.kind() {
            E::NotFound => Kind::NotFound,
            E::AlreadyExists => Kind::AlreadyExists,
            E::PermissionDenied => Kind::PermissionDenied,
            E::StorageFull | E::QuotaExceeded | E::OutOfMemory => Kind::ResourceExhausted,
            E::TimedOut => Kind::DeadlineExceeded,
            E::ConnectionRefused | E::ConnectionReset | E::BrokenPipe | E::NotConnected => Kind::Unavailable,
            _ => Kind::Internal,
        }
    }
}
