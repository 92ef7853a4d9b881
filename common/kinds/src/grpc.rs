//! gRPC and ttrpc status codes; ttrpc carries gRPC's numbers.

use crate::Kind;

impl Kind {
    /// The gRPC status code number. Conflict and NotModified have none of their own: containerd sends
    /// FailedPrecondition for both.
    pub const fn grpc_code(self) -> i32 {
        match self {
            Kind::Cancelled => 1,
            Kind::Unknown => 2,
            Kind::InvalidArgument => 3,
            Kind::DeadlineExceeded => 4,
            Kind::NotFound => 5,
            Kind::AlreadyExists => 6,
            Kind::PermissionDenied => 7,
            Kind::ResourceExhausted => 8,
            Kind::FailedPrecondition | Kind::Conflict | Kind::NotModified => 9,
            Kind::Aborted => 10,
            Kind::OutOfRange => 11,
            Kind::Unimplemented => 12,
            Kind::Internal => 13,
            Kind::Unavailable => 14,
            Kind::DataLoss => 15,
            Kind::Unauthenticated => 16,
        }
    }

    /// The kind of a gRPC or ttrpc status code number; numbers outside the standard are Unknown.
    pub const fn from_grpc_code(code: i32) -> Kind {
        match code {
            1 => Kind::Cancelled,
            3 => Kind::InvalidArgument,
            4 => Kind::DeadlineExceeded,
            5 => Kind::NotFound,
            6 => Kind::AlreadyExists,
            7 => Kind::PermissionDenied,
            8 => Kind::ResourceExhausted,
            9 => Kind::FailedPrecondition,
            10 => Kind::Aborted,
            11 => Kind::OutOfRange,
            12 => Kind::Unimplemented,
            13 => Kind::Internal,
            14 => Kind::Unavailable,
            15 => Kind::DataLoss,
            16 => Kind::Unauthenticated,
            _ => Kind::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_but_the_folded_ones_survives_the_wire() {
        for kind in Kind::ALL {
            let back = Kind::from_grpc_code(kind.grpc_code());
            match kind {
                Kind::Conflict | Kind::NotModified => assert_eq!(back, Kind::FailedPrecondition),
                _ => assert_eq!(back, kind),
            }
        }
    }
}
