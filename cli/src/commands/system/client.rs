//! What this program says of itself.

use crate::session::Session;
use crate::template::{Struct, Value};
use crate::transport::MAX_VERSION;

/// The client's side of `version` and `info`.
pub(super) struct ClientSide {
    pub(super) version: &'static str,
    /// The version in use; empty if the daemon has not been asked.
    pub(super) api_version: String,
    pub(super) default_api_version: String,
    pub(super) os: &'static str,
    pub(super) arch: &'static str,
    pub(super) context: String,
}

impl ClientSide {
    pub(super) fn of(session: &Session, api_version: String) -> ClientSide {
        ClientSide {
            version: env!("CARGO_PKG_VERSION"),
            api_version,
            default_api_version: MAX_VERSION.to_string(),
            os: std::env::consts::OS,
            arch: go_arch(),
            context: session.context_name(),
        }
    }

    /// In docker's names; what is empty is left out.
    pub(super) fn fields(&self) -> Vec<(&'static str, Option<Value>)> {
        let text = |text: &str| (!text.is_empty()).then(|| Value::str(text));
        vec![
            ("Platform", None),
            ("Version", text(self.version)),
            ("ApiVersion", text(&self.api_version)),
            ("DefaultAPIVersion", text(&self.default_api_version)),
            ("GitCommit", None),
            ("GoVersion", None),
            ("Os", text(self.os)),
            ("Arch", text(self.arch)),
            ("BuildTime", None),
            ("Context", Some(Value::str(&self.context))),
        ]
    }

    pub(super) fn value(&self) -> Value {
        Struct::ordered("system.clientVersion", self.fields()).into()
    }
}

/// The architecture in Go's words.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
