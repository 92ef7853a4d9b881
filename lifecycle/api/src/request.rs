//! What every request carries beside its message: namespace and lease, as metadata.

use tonic::{Request, Status};
use wharf_kinds::Kind;
use wharf_vocab::Identifier;

use crate::status::status;

/// The largest messages of clients and of this server, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLimits {
    pub receive: usize,
    pub send: usize,
}

impl Default for MessageLimits {
    /// containerd's: 16 MiB either way.
    fn default() -> Self {
        MessageLimits { receive: 16 << 20, send: 16 << 20 }
    }
}

const NAMESPACE: &str = "containerd-namespace";
const LEASE: &str = "containerd-lease";

/// The namespace a request is made in (metadata `containerd-namespace`).
///
/// FailedPrecondition if there is none, InvalidArgument if it is not an identifier.
pub(crate) fn namespace<T>(request: &Request<T>) -> Result<String, Status> {
    let Some(text) = text(request, NAMESPACE) else {
        return Err(status(Kind::FailedPrecondition, "namespace is required: failed precondition"));
    };
    match Identifier::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(status(Kind::InvalidArgument, format_args!("namespace validation: {error}"))),
    }
}

/// The lease that what the request creates is to belong to (metadata `containerd-lease`).
#[allow(dead_code, reason = "used by the storage services")]
pub(crate) fn lease<T>(request: &Request<T>) -> Option<String> {
    text(request, LEASE).map(str::to_owned)
}

fn text<'a, T>(request: &'a Request<T>, key: &str) -> Option<&'a str> {
    request.metadata().get(key)?.to_str().ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_without_a_namespace_is_a_failed_precondition() {
        let error = namespace(&Request::new(())).expect_err("no namespace");
        assert_eq!(error.code(), tonic::Code::FailedPrecondition);
    }

    #[test]
    fn namespace_must_be_an_identifier() {
        let mut request = Request::new(());
        request.metadata_mut().insert(NAMESPACE, "a/b".parse().expect("metadata"));
        assert_eq!(namespace(&request).expect_err("slash").code(), tonic::Code::InvalidArgument);
        request.metadata_mut().insert(NAMESPACE, "default".parse().expect("metadata"));
        assert_eq!(namespace(&request).expect("valid"), "default");
    }

    #[test]
    fn lease_is_optional() {
        let mut request = Request::new(());
        assert_eq!(lease(&request), None);
        request.metadata_mut().insert(LEASE, "l1".parse().expect("metadata"));
        assert_eq!(lease(&request).as_deref(), Some("l1"));
    }
}
