//! HTTP statuses as Docker's API gives them.

use crate::Kind;

impl Kind {
    /// The HTTP status code Docker answers for an error of this kind.
    pub const fn http_status(self) -> u16 {
        match self {
            Kind::InvalidArgument | Kind::OutOfRange | Kind::FailedPrecondition => 400,
            Kind::Unauthenticated => 401,
            Kind::PermissionDenied => 403,
            Kind::NotFound => 404,
            Kind::AlreadyExists | Kind::Conflict => 409,
            Kind::NotModified => 304,
            Kind::Unimplemented => 501,
            Kind::Unavailable => 503,
            Kind::ResourceExhausted
            | Kind::Aborted
            | Kind::Cancelled
            | Kind::DeadlineExceeded
            | Kind::DataLoss
            | Kind::Internal
            | Kind::Unknown => 500,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_dockers() {
        assert_eq!(Kind::NotFound.http_status(), 404);
        assert_eq!(Kind::Conflict.http_status(), 409);
        assert_eq!(Kind::NotModified.http_status(), 304);
        assert_eq!(Kind::Unavailable.http_status(), 503);
        assert_eq!(Kind::Internal.http_status(), 500);
    }
}
