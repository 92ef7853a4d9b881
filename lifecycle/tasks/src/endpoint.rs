//! Where a shim listens, as it says after `start`.

use std::path::PathBuf;

use prost::Message;
use serde::{Deserialize, Serialize};
use wharf_containerd::containerd::runtime::bootstrap::v1::BootstrapResult;

/// The only task API version that is spoken over gRPC.
const OVER_GRPC: u32 = 3;
/// The newest task API version spoken here.
const NEWEST: u32 = 3;

/// Why a shim's answer names no place to connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("shim gave no address")]
    Empty,
    #[error("shim's answer is neither an address, JSON nor a bootstrap result")]
    Unreadable,
    #[error("unsupported shim version ({0}): not implemented")]
    Version(u32),
    #[error("unexpected protocol: {0:?}")]
    Protocol(String),
    #[error("containerd client supports only v3 GRPC task service (got {0}): not implemented")]
    GrpcVersion(u32),
}

/// What a shim speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Ttrpc,
    Grpc,
}

impl Protocol {
    /// Without a word it is ttrpc.
    fn parse(text: &str) -> Result<Self, EndpointError> {
        match text.to_ascii_lowercase().as_str() {
            "" | "ttrpc" => Ok(Protocol::Ttrpc),
            "grpc" => Ok(Protocol::Grpc),
            _ => Err(EndpointError::Protocol(text.chars().take(32).collect())),
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Protocol::Ttrpc => "ttrpc",
            Protocol::Grpc => "grpc",
        }
    }
}

/// A shim's address, and the protocol and version of the task API that it serves there (2 or 3; over gRPC 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub version: u32,
    pub protocol: Protocol,
    pub address: Address,
}

/// A unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Path(PathBuf),
    /// Without the leading NUL; shims before containerd 1.4.
    Abstract(String),
}

#[derive(Serialize, Deserialize)]
struct Json {
    version: u32,
    address: String,
    protocol: String,
}

impl Endpoint {
    /// Reads what `start` printed, or a file that holds it: an address alone (task API v2), JSON with
    /// `version`, `address`, `protocol`, or an encoded `containerd.runtime.bootstrap.v1.BootstrapResult`.
    pub fn parse(answer: &[u8]) -> Result<Self, EndpointError> {
        let text = answer.trim_ascii();
        match text.first() {
            None => Err(EndpointError::Empty),
            Some(b'{') => {
                let json: Json = serde_json::from_slice(text).map_err(|_| EndpointError::Unreadable)?;
                Endpoint::new(json.version.max(2), &json.address, &json.protocol)
            }
            _ if text.starts_with(b"unix://") || text.starts_with(b"/") => {
                let text = std::str::from_utf8(text).map_err(|_| EndpointError::Unreadable)?;
                Endpoint::new(2, text, "ttrpc")
            }
            // not trimmed: protobuf may begin or end with what looks like white space
            _ => {
                let result = BootstrapResult::decode(answer).map_err(|_| EndpointError::Unreadable)?;
                let version = u32::try_from(result.version).map_err(|_| EndpointError::Unreadable)?;
                Endpoint::new(version.max(2), &result.address, &result.protocol)
            }
        }
    }

    fn new(version: u32, address: &str, protocol: &str) -> Result<Self, EndpointError> {
        if version > NEWEST {
            return Err(EndpointError::Version(version));
        }
        let protocol = Protocol::parse(protocol)?;
        if protocol == Protocol::Grpc && version != OVER_GRPC {
            return Err(EndpointError::GrpcVersion(version));
        }
        if address.is_empty() || address.contains('\n') {
            return Err(if address.is_empty() { EndpointError::Empty } else { EndpointError::Unreadable });
        }
        // abstract addresses are written `/containerd-shim/…` by old shims, without a scheme
        let address = match address.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Address::Path(path.into()),
            Some(_) => return Err(EndpointError::Unreadable),
            // gRPC shims give the path alone
            None if protocol == Protocol::Grpc && address.starts_with('/') => Address::Path(address.into()),
            None if protocol == Protocol::Grpc => return Err(EndpointError::Unreadable),
            None => Address::Abstract(address.into()),
        };
        Ok(Endpoint { version, protocol, address })
    }

    /// Reads the address of a task API as a sandbox's controller gives it, `ttrpc+unix:///…` or `unix:///…`.
    pub(crate) fn of_api(address: &str, version: u32) -> Result<Self, EndpointError> {
        let (protocol, rest) = address.split_once('+').unwrap_or(("ttrpc", address));
        Endpoint::new(version.max(2), rest, protocol)
    }

    /// The address as shims write it.
    pub fn address_text(&self) -> String {
        match &self.address {
            Address::Path(path) => format!("unix://{}", path.display()),
            Address::Abstract(name) => name.clone(),
        }
    }

    /// The address as a sandbox's controller gives it, with the protocol before it.
    pub fn api_text(&self) -> String {
        format!("{}+{}", self.protocol.text(), self.address_text())
    }

    /// As `bootstrap.json` holds it.
    pub fn to_json(&self) -> String {
        let protocol = self.protocol.text().into();
        let json = Json { version: self.version, address: self.address_text(), protocol };
        serde_json::to_string(&json).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: u32, path: &str) -> Endpoint {
        Endpoint { version, protocol: Protocol::Ttrpc, address: Address::Path(path.into()) }
    }

    #[test]
    fn every_form_of_answer_is_read() {
        assert_eq!(Endpoint::parse(b"unix:///run/s/a\n"), Ok(at(2, "/run/s/a")));
        let json = br#"{"version":3,"address":"unix:///run/s/b","protocol":"ttrpc"}"#;
        assert_eq!(Endpoint::parse(json), Ok(at(3, "/run/s/b")));
        let result = BootstrapResult {
            version: 3,
            address: "unix:///run/s/c".into(),
            protocol: "ttrpc".into(),
            ..Default::default()
        };
        assert_eq!(Endpoint::parse(&result.encode_to_vec()), Ok(at(3, "/run/s/c")));
        assert_eq!(
            Endpoint::parse(b"/containerd-shim/x.sock").map(|e| e.address),
            Ok(Address::Abstract("/containerd-shim/x.sock".into()))
        );
    }

    #[test]
    fn endpoint_survives_being_written_down() {
        let endpoint = at(3, "/run/s/b");
        assert_eq!(Endpoint::parse(endpoint.to_json().as_bytes()), Ok(endpoint.clone()));
        let endpoint = Endpoint { protocol: Protocol::Grpc, ..endpoint };
        assert_eq!(Endpoint::parse(endpoint.to_json().as_bytes()), Ok(endpoint.clone()));
        assert_eq!(endpoint.api_text(), "grpc+unix:///run/s/b");
        assert_eq!(Endpoint::of_api(&endpoint.api_text(), 3), Ok(endpoint.clone()));
        let path_alone = br#"{"version":3,"address":"/run/s/b","protocol":"grpc"}"#;
        assert_eq!(Endpoint::parse(path_alone), Ok(endpoint));
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Endpoint::parse(b" \n"), Err(EndpointError::Empty));
        assert_eq!(Endpoint::parse(b"io.containerd.runc.v2: oops"), Err(EndpointError::Unreadable));
        assert_eq!(Endpoint::parse(b"unix://relative"), Err(EndpointError::Unreadable));
        assert_eq!(
            Endpoint::parse(br#"{"version":9,"address":"unix:///a","protocol":"ttrpc"}"#),
            Err(EndpointError::Version(9))
        );
        assert_eq!(
            Endpoint::parse(br#"{"version":3,"address":"unix:///a","protocol":"smoke"}"#),
            Err(EndpointError::Protocol("smoke".into()))
        );
        assert_eq!(
            Endpoint::parse(br#"{"version":2,"address":"unix:///a","protocol":"grpc"}"#),
            Err(EndpointError::GrpcVersion(2))
        );
    }
}
