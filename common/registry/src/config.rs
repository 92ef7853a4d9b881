//! What the operator decides about registries.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// Settings of a [`crate::Client`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// Registries whose certificates are not verified and that may be spoken to over plain HTTP, beside those on
    /// loopback addresses.
    pub insecure: Vec<InsecureRule>,
    /// Base URLs tried for `docker.io` before the registry itself, such as `https://mirror.example`.
    pub mirrors: Vec<String>,
    /// A folder with a folder for each `host[:port]` that holds containerd's `hosts.toml`, or `*.crt` (certificate
    /// authorities) and `NAME.cert` with `NAME.key` (client certificates) as Docker reads them.
    pub hosts: Option<PathBuf>,
    /// For a registry of which nothing else is said. Without it HTTPS, and HTTP after it where that is allowed.
    pub default_scheme: Option<Scheme>,
    /// Asks `/v2/` before anything else, as Docker does; the error of a registry that cannot be reached is about that.
    pub greet: bool,
    /// Sent with every request to a registry itself: not to its mirrors, to its token server or to where it redirects.
    pub headers: HeaderMap,
    /// For making a connection.
    pub connect_timeout: Duration,
    /// For the next bytes of an answer.
    pub read_timeout: Duration,
    pub retry: Retry,
    pub ranges: Ranges,
}

/// How a URL begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// How a large blob is fetched over several connections, where its registry serves ranges.
#[derive(Clone, Copy, Debug)]
pub struct Ranges {
    /// Bytes of one range. A blob of fewer than four of them comes over one connection.
    pub chunk: u64,
    /// Connections beside the first of each blob, over all blobs of a client together; 0: none. With
    /// [`Ranges::chunk`] it bounds what is kept of ranges whose turn has not come.
    pub connections: usize,
    /// Of these, how many one blob takes at most.
    pub for_one: usize,
}

impl Default for Ranges {
    fn default() -> Self {
        Self { chunk: 2 << 20, connections: 4, for_one: 3 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            user_agent: concat!("wharf/", env!("CARGO_PKG_VERSION")).to_owned(),
            insecure: Vec::new(),
            mirrors: Vec::new(),
            hosts: None,
            default_scheme: None,
            greet: true,
            headers: HeaderMap::new(),
            connect_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(60),
            retry: Retry::default(),
            ranges: Ranges::default(),
        }
    }
}

/// How requests that fail for a passing reason are made again, and broken transfers gone on with.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Failures in a row, without a byte received between them, after which the error is final.
    pub attempts: u32,
    /// Wait before the first retry; it doubles up to [`Retry::MAX_DELAY`].
    pub delay: Duration,
}

impl Retry {
    /// The longest wait between two attempts.
    pub const MAX_DELAY: Duration = Duration::from_secs(20);
    /// The longest wait that a registry may ask for with `Retry-After`; more is refused by giving up at once.
    pub const MAX_ASKED: Duration = Duration::from_secs(60);
    /// Connections that one blob may use, whatever the progress between them.
    pub(crate) const MAX_CONNECTIONS: u32 = 100;

    pub(crate) fn delay_before(&self, attempt: u32) -> Duration {
        self.delay.saturating_mul(1 << attempt.min(10)).min(Self::MAX_DELAY)
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, delay: Duration::from_millis(500) }
    }
}

/// A registry, or a range of addresses, that is trusted without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsecureRule {
    /// `host` or `host:port`, exactly as in image references.
    Host(String),
    /// Addresses whose first `prefix` bits are those of `network`.
    Range { network: IpAddr, prefix: u8 },
}

/// The text is neither a registry host nor an address range.
#[derive(Debug, thiserror::Error)]
#[error("insecure registry {text:?} is not valid: want host[:port] or a network in CIDR form")]
pub struct InsecureRuleError {
    text: String,
}

impl FromStr for InsecureRule {
    type Err = InsecureRuleError;

    fn from_str(text: &str) -> Result<Self, InsecureRuleError> {
        let wrong = || InsecureRuleError { text: text.chars().take(256).collect() };
        if let Some((network, prefix)) = text.split_once('/') {
            let network: IpAddr = network.parse().map_err(|_| wrong())?;
            let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
            if prefix > if network.is_ipv4() { 32 } else { 128 } {
                return Err(wrong());
            }
            return Ok(Self::Range { network, prefix });
        }
        let host_like = |b: u8| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b);
        if text.is_empty() || text.len() > 256 || !text.bytes().all(host_like) {
            return Err(wrong());
        }
        Ok(Self::Host(text.to_owned()))
    }
}

impl InsecureRule {
    pub(crate) fn holds_address(&self, address: IpAddr) -> bool {
        let Self::Range { network, prefix } = self else { return false };
        let leading = |bits: u128, width: u32| bits.checked_shr(width - u32::from(*prefix)).unwrap_or(0);
        match (network, address.to_canonical()) {
            (IpAddr::V4(n), IpAddr::V4(a)) => {
                leading(u32::from(*n).into(), 32) == leading(u32::from(a).into(), 32)
            }
            (IpAddr::V6(n), IpAddr::V6(a)) => leading((*n).into(), 128) == leading(a.into(), 128),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_addresses_only() {
        let rule: InsecureRule = "10.1.0.0/16".parse().unwrap();
        assert!(rule.holds_address("10.1.2.3".parse().unwrap()));
        assert!(rule.holds_address("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!rule.holds_address("10.2.0.1".parse().unwrap()));
        let all: InsecureRule = "::/0".parse().unwrap();
        assert!(all.holds_address("2001:db8::1".parse().unwrap()));
        assert!(!all.holds_address("10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn malformed_rules_are_refused() {
        for text in ["", "10.0.0.0/33", "x y", "https://host", "10.0/8/1"] {
            assert!(text.parse::<InsecureRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn delays_double_up_to_the_bound() {
        let retry = Retry { attempts: 5, delay: Duration::from_secs(1) };
        assert_eq!(retry.delay_before(0), Duration::from_secs(1));
        assert_eq!(retry.delay_before(3), Duration::from_secs(8));
        assert_eq!(retry.delay_before(40), Retry::MAX_DELAY);
    }
}
