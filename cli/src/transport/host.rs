//! Where the daemon listens.

use std::fmt;
use std::path::PathBuf;

/// wharfd's own socket, used when nothing else is said.
pub(crate) const DEFAULT_HOST: &str = "unix:///run/wharf/wharfd.sock";

const DEFAULT_PORT: u16 = 2375;
const DEFAULT_TLS_PORT: u16 = 2376;

/// A parsed `-H` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    /// `base` is a path that every request is put under, usually empty.
    Tcp {
        host: String,
        port: u16,
        base: String,
    },
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum HostError {
    #[error("invalid argument {0:?} for \"-H, --host\" flag: invalid bind address ({0}): {1}")]
    Invalid(String, &'static str),
    #[error("{0} hosts are not supported yet: {1}")]
    Unsupported(&'static str, String),
}

impl Endpoint {
    /// Reads `unix://PATH`, `tcp://HOST[:PORT][/BASE]`, `http://…`, or docker's short forms (`HOST:PORT`,
    /// `:PORT`, an empty `unix://`). `tls` picks the default port.
    pub(crate) fn parse(host: &str, tls: bool) -> Result<Endpoint, HostError> {
        let host = host.trim();
        let (scheme, rest) = host.split_once("://").unwrap_or(("tcp", host));
        match scheme {
            "unix" => {
                let path = if rest.is_empty() { DEFAULT_HOST.trim_start_matches("unix://") } else { rest };
                Ok(Endpoint::Unix(PathBuf::from(path)))
            }
            "tcp" | "http" => tcp(host, rest, tls),
            "https" => Err(HostError::Unsupported("https", host.to_owned())),
            "ssh" => Err(HostError::Unsupported("ssh", host.to_owned())),
            "npipe" => Err(HostError::Unsupported("npipe", host.to_owned())),
            "fd" => Err(HostError::Unsupported("fd", host.to_owned())),
            _ => Err(HostError::Invalid(host.to_owned(), "unknown protocol")),
        }
    }
}

fn tcp(whole: &str, rest: &str, tls: bool) -> Result<Endpoint, HostError> {
    let invalid = |why| HostError::Invalid(whole.to_owned(), why);
    let (authority, base) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let (host, port) = if let Some(v6) = authority.strip_prefix('[') {
        let (host, after) = v6.split_once(']').ok_or(invalid("missing ']' in address"))?;
        (host, after.strip_prefix(':').unwrap_or(""))
    } else {
        authority.rsplit_once(':').unwrap_or((authority, ""))
    };
    let port = match port {
        "" if tls => DEFAULT_TLS_PORT,
        "" => DEFAULT_PORT,
        digits => digits.parse().map_err(|_| invalid("invalid port"))?,
    };
    let host = if host.is_empty() { "localhost" } else { host };
    Ok(Endpoint::Tcp { host: host.to_owned(), port, base: base.trim_end_matches('/').to_owned() })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp { host, port, base } if host.contains(':') => {
                write!(f, "tcp://[{host}]:{port}{base}")
            }
            Endpoint::Tcp { host, port, base } => write!(f, "tcp://{host}:{port}{base}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_every_form() {
        for (text, want) in [
            ("unix:///a/b.sock", "unix:///a/b.sock"),
            ("unix://", DEFAULT_HOST),
            ("tcp://1.2.3.4:99/x/", "tcp://1.2.3.4:99/x"),
            ("tcp://h", "tcp://h:2375"),
            (":5000", "tcp://localhost:5000"),
            ("tcp://[::1]:22", "tcp://[::1]:22"),
            ("http://h:1", "tcp://h:1"),
        ] {
            assert_eq!(Endpoint::parse(text, false).expect(text).to_string(), want);
        }
        assert_eq!(Endpoint::parse("tcp://h", true).expect("tls").to_string(), "tcp://h:2376");
        assert!(
            Endpoint::parse("ssh://h", false).is_err_and(|e| e.to_string().contains("not supported yet"))
        );
        assert!(Endpoint::parse("foo://h", false).is_err());
        assert!(Endpoint::parse("tcp://h:x", false).is_err());
    }
}
