//! Where a registry is: the URLs to try, in order, and which of them may do without TLS.

use std::net::IpAddr;

use reqwest::Url;

use crate::config::{Config, InsecureRule};

/// The registry behind the name `docker.io`.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// One base URL under which `/v2/` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `scheme://host[:port]`, perhaps with a path; no slash at the end.
    pub base: String,
    /// A copy of another registry: whatever it says, the original is asked next.
    pub mirror: bool,
}

impl Endpoint {
    fn new(scheme: &str, host: &str) -> Self {
        Self { base: format!("{scheme}://{host}"), mirror: false }
    }
}

/// The endpoints of a registry domain: mirrors, then HTTPS, then HTTP where that is allowed.
pub(crate) async fn endpoints(config: &Config, domain: &str) -> Vec<Endpoint> {
    if domain == "docker.io" {
        let mirrors = config
            .mirrors
            .iter()
            .map(|m| Endpoint { base: m.trim_end_matches('/').to_owned(), mirror: true });
        return mirrors.chain([Endpoint::new("https", DOCKER_HUB)]).collect();
    }
    let mut found = vec![Endpoint::new("https", domain)];
    if is_insecure(config, domain).await {
        found.push(Endpoint::new("http", domain));
    }
    found
}

/// `host[:port]` of a URL as it stands in image references.
pub(crate) fn authority(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => String::new(),
    }
}

/// Whether plain HTTP and unverified certificates are allowed for `host[:port]`.
pub(crate) async fn is_insecure(config: &Config, authority: &str) -> bool {
    let host = without_port(authority);
    if config.insecure.iter().any(|r| matches!(r, InsecureRule::Host(h) if h == authority || h == host)) {
        return true;
    }
    if host == "localhost" {
        return true;
    }
    let in_a_range = |address: IpAddr| config.insecure.iter().any(|r| r.holds_address(address));
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return address.to_canonical().is_loopback() || in_a_range(address);
    }
    if !config.insecure.iter().any(|r| matches!(r, InsecureRule::Range { .. })) {
        return false;
    }
    match tokio::net::lookup_host((host, 443)).await {
        Ok(mut addresses) => addresses.any(|a| in_a_range(a.ip())),
        Err(_) => false,
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rules: &[&str]) -> Config {
        Config { insecure: rules.iter().map(|r| r.parse().unwrap()).collect(), ..Config::default() }
    }

    #[tokio::test]
    async fn loopback_may_do_without_tls_and_others_only_when_listed() {
        for host in ["127.0.0.1:5000", "127.1.2.3", "localhost:5000", "[::1]:5000"] {
            assert!(is_insecure(&config(&[]), host).await, "{host}");
        }
        for host in ["registry.example", "10.0.0.1:5000", "localhost.example"] {
            assert!(!is_insecure(&config(&[]), host).await, "{host}");
        }
        assert!(is_insecure(&config(&["registry.example"]), "registry.example:5000").await);
        assert!(!is_insecure(&config(&["registry.example:5000"]), "registry.example:5001").await);
        assert!(is_insecure(&config(&["10.0.0.0/8"]), "10.0.0.1:5000").await);
    }

    #[tokio::test]
    async fn https_comes_before_http() {
        let bases: Vec<_> =
            endpoints(&config(&[]), "localhost:5000").await.into_iter().map(|e| e.base).collect();
        assert_eq!(bases, ["https://localhost:5000", "http://localhost:5000"]);
        let bases: Vec<_> =
            endpoints(&config(&[]), "quay.example").await.into_iter().map(|e| e.base).collect();
        assert_eq!(bases, ["https://quay.example"]);
    }

    #[tokio::test]
    async fn mirrors_serve_docker_hub_alone() {
        let config = Config { mirrors: vec!["https://mirror.example/".into()], ..Config::default() };
        let found = endpoints(&config, "docker.io").await;
        assert_eq!(found[0], Endpoint { base: "https://mirror.example".into(), mirror: true });
        assert_eq!(found[1].base, "https://registry-1.docker.io");
        assert_eq!(endpoints(&config, "quay.example").await.len(), 1);
    }
}
