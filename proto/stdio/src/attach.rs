//! The messages on an attach socket.

use serde::{Deserialize, Serialize};

/// The version of [`AttachRequest`] that this crate speaks.
pub const ATTACH_VERSION: u32 = 1;

/// How output goes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Bytes as they come: terminals.
    Raw,
    /// Docker's header of eight bytes before each piece: stream (1 stdout, 2 stderr), three zeros, length
    /// as big-endian u32.
    Multiplexed,
}

/// The one message of the engine. The client's socket rides on its first byte as SCM_RIGHTS; without one
/// the control socket itself becomes the data socket after the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// [`ATTACH_VERSION`].
    pub version: u32,
    /// The client's bytes go to the container.
    pub stdin: bool,
    /// The client gets stdout.
    pub stdout: bool,
    /// The client gets stderr.
    pub stderr: bool,
    /// How output is framed.
    pub framing: Framing,
    /// The key sequence that detaches, base64; empty for none. Heeded on terminals only, as Docker does:
    /// a pipe's bytes are never keys.
    #[serde(default, with = "base64_bytes")]
    pub detach_keys: Vec<u8>,
    /// What the engine has read from the client already, base64.
    #[serde(default, with = "base64_bytes")]
    pub buffered: Vec<u8>,
}

/// Who ended an attached stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClosedBy {
    /// The client went away.
    Client,
    /// The process ended and all its output was delivered.
    Exit,
    /// The client took nothing for so long that it was dropped.
    Stalled,
}

/// What the shim says of an attached client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum AttachEvent {
    /// The shim serves the client from now on.
    Attached,
    /// It does not; the engine still owns the client.
    Refused {
        /// Why.
        reason: String,
    },
    /// The client pressed the detach keys.
    Detached,
    /// The stream ended.
    Closed {
        /// By whom.
        by: ClosedBy,
    },
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_the_contracts_json() {
        let request = AttachRequest {
            version: ATTACH_VERSION,
            stdin: true,
            stdout: true,
            stderr: false,
            framing: Framing::Multiplexed,
            detach_keys: vec![16, 17],
            buffered: b"ls\n".to_vec(),
        };
        let json = serde_json::to_value(&request).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"version":1,"stdin":true,"stdout":true,"stderr":false,
                "framing":"multiplexed","detach_keys":"EBE=","buffered":"bHMK"})
        );
        assert_eq!(serde_json::from_value::<AttachRequest>(json).unwrap(), request);
    }

    #[test]
    fn the_events_are_the_contracts_json() {
        for (event, json) in [
            (AttachEvent::Attached, r#"{"event":"attached"}"#),
            (AttachEvent::Refused { reason: "x".into() }, r#"{"event":"refused","reason":"x"}"#),
            (AttachEvent::Detached, r#"{"event":"detached"}"#),
            (AttachEvent::Closed { by: ClosedBy::Client }, r#"{"event":"closed","by":"client"}"#),
            (AttachEvent::Closed { by: ClosedBy::Exit }, r#"{"event":"closed","by":"exit"}"#),
        ] {
            assert_eq!(serde_json::to_string(&event).unwrap(), json);
            assert_eq!(serde_json::from_str::<AttachEvent>(json).unwrap(), event);
        }
    }
}
