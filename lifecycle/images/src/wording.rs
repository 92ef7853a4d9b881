//! What a registry's refusal reads like: containerd's words, which clients of it show and look for.

use wharf_registry::{ApiError, ManifestError, RegistryError};

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Finding out what a name means.
    Resolve,
    Fetch,
    Push,
}

const MAY_REQUIRE: &str = "access denied, repository does not exist or may require authorization";

/// The failure of an act on `subject`: a reference, or a blob with its media type.
pub(crate) fn said(act: Act, subject: &str, error: &RegistryError) -> String {
    let reason = reason(error);
    match (act, error) {
        (Act::Resolve, RegistryError::Api(api)) if api.status == 404 => {
            format!("failed to resolve image: {subject}: not found")
        }
        (Act::Resolve, RegistryError::Manifest(_)) => reason,
        (Act::Resolve, _) if is_authorization(error) => {
            format!("failed to resolve image: pull {MAY_REQUIRE}: {reason}")
        }
        (Act::Resolve, _) => format!("failed to resolve image: {reason}"),
        (Act::Fetch, RegistryError::Api(api)) if api.status == 404 => {
            format!("could not fetch content descriptor {subject} from remote: not found")
        }
        (Act::Push, _) if is_authorization(error) => format!("push {MAY_REQUIRE}: {reason}"),
        (Act::Fetch | Act::Push, _) => reason,
    }
}

/// Whether the registry wants more than the caller has, and says so in its challenge or by it.
fn is_authorization(error: &RegistryError) -> bool {
    match error {
        RegistryError::NoCredentials { .. } => true,
        RegistryError::Api(api) => api.status == 401 && api.challenge.is_some(),
        _ => false,
    }
}

fn reason(error: &RegistryError) -> String {
    match error {
        RegistryError::Transport { .. } => format!("failed to do request: {error}"),
        RegistryError::Token { is_anonymous, source } => {
            let kind = if *is_anonymous { "anonymous" } else { "oauth" };
            format!("failed to authorize: failed to fetch {kind} token: {}", reason(source))
        }
        RegistryError::NoCredentials { .. } => "authorization failed: no basic auth credentials".to_owned(),
        RegistryError::Api(ApiError { status: 401, challenge: Some(challenge), .. }) => {
            format!("server message: {challenge}: authorization failed")
        }
        RegistryError::Api(api) => {
            let method = api.method.to_ascii_uppercase();
            let status = wharf_registry::status_text(api.status);
            format!("unexpected status from {method} request to {}: {status}: {api}", api.url)
        }
        RegistryError::UnexpectedStatus { method, url, status, .. } => {
            format!("unexpected status from {} request to {url}: {status}", method.to_ascii_uppercase())
        }
        RegistryError::Manifest(ManifestError::Schema1) => {
            "schema 1 image manifests are no longer supported: invalid argument".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(status: u16, challenge: Option<&str>) -> RegistryError {
        RegistryError::Api(ApiError {
            code: "DENIED".into(),
            message: "no".into(),
            status,
            method: "Head",
            url: "https://r/v2/a/manifests/b".into(),
            challenge: challenge.map(str::to_owned),
            retry_after: None,
        })
    }

    #[test]
    fn refusals_read_as_containerds() {
        let resolve = |error: &RegistryError| said(Act::Resolve, "r/a:b", error);
        assert_eq!(resolve(&api(404, None)), "failed to resolve image: r/a:b: not found");
        assert_eq!(
            resolve(&api(401, Some("insufficient_scope"))),
            "failed to resolve image: pull access denied, repository does not exist or may require \
             authorization: server message: insufficient_scope: authorization failed"
        );
        assert_eq!(
            resolve(&api(403, None)),
            "failed to resolve image: unexpected status from HEAD request to https://r/v2/a/manifests/b: \
             403 Forbidden: denied: no"
        );
        let none = RegistryError::NoCredentials { method: "Post", url: "u".into() };
        assert_eq!(
            said(Act::Push, "", &none),
            "push access denied, repository does not exist or may require authorization: authorization \
             failed: no basic auth credentials"
        );
        let token = RegistryError::Token { is_anonymous: true, source: Box::new(api(401, None)) };
        assert!(resolve(&token).starts_with(
            "failed to resolve image: failed to authorize: failed to fetch anonymous token: unexpected status \
             from HEAD request to"
        ));
        assert_eq!(
            said(Act::Fetch, "sha256:a (t)", &api(404, None)),
            "could not fetch content descriptor sha256:a (t) from remote: not found"
        );
        let gone = RegistryError::Transport {
            method: "Head",
            url: "https://r/v2/".into(),
            reason: "dial tcp r:443: connect: connection refused".into(),
            is_connect: true,
        };
        assert_eq!(
            resolve(&gone),
            "failed to resolve image: failed to do request: Head \"https://r/v2/\": dial tcp r:443: connect: \
             connection refused"
        );
    }
}
