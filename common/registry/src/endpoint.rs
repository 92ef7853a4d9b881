//! Where a registry is: the URLs to try, in order, and which of them may do without TLS.

use std::net::IpAddr;

use reqwest::Url;
use reqwest::header::HeaderMap;

use crate::config::{Config, InsecureRule, Scheme};
use crate::error::RegistryError;
use crate::hosts::{self, Capabilities, Host, Server};
use crate::tls::TlsSettings;

/// The registry behind the name `docker.io`.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// One place where the API of a registry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The API's root, such as `https://host/v2`; no slash at the end.
    pub base: String,
    /// `host` or `host:port` of it.
    pub host: String,
    /// A copy of the registry that Docker's setting names: whatever it says, the original is asked next, and only
    /// what that says counts.
    pub mirror: bool,
    /// For whom it stands in, if it is not the registry itself.
    pub stands_for: Option<String>,
    pub can: Capabilities,
    pub headers: HeaderMap,
    pub tls: TlsSettings,
    /// The next endpoint is the same host without TLS, for when none is to be had here.
    pub has_plain_twin: bool,
}

impl Endpoint {
    fn new(scheme: Scheme, host: &str, path: &str, domain: &str) -> Self {
        let is_registry = host == domain || (domain == "docker.io" && host == DOCKER_HUB);
        Self {
            base: format!("{}://{host}{path}", scheme.as_str()),
            host: host.to_owned(),
            mirror: false,
            stands_for: (!is_registry).then(|| domain.to_owned()),
            can: Capabilities::ALL,
            headers: HeaderMap::new(),
            tls: TlsSettings::default(),
            has_plain_twin: false,
        }
    }

    /// The host of a URL that is no registry.
    pub fn elsewhere(url: &Url) -> Self {
        // plain HTTP has to be allowed for the host: this is no place that the operator named
        Self::new(Scheme::Https, &authority(url), "", "")
    }

    /// This one without TLS.
    fn plain(&self) -> Self {
        let base = self.base.replacen("https://", "http://", 1);
        Self { base, has_plain_twin: false, ..self.clone() }
    }

    pub fn is_plain(&self) -> bool {
        self.base.starts_with("http://")
    }
}

/// The endpoints of a registry domain: those that the operator's folder names, or else Docker's mirrors, then the
/// registry itself.
///
/// # Errors
/// [`RegistryError::Settings`] if what the operator says cannot be used.
pub(crate) async fn endpoints(config: &Config, domain: &str) -> Result<Vec<Endpoint>, RegistryError> {
    let mut found = Vec::new();
    for host in described(config, domain).await? {
        match &host.server {
            Some(server) => listed(&host, server, domain, &mut found),
            None => {
                mirrors(config, domain, &mut found);
                itself(config, &host, domain, &mut found).await;
            }
        }
    }
    Ok(found)
}

async fn described(config: &Config, domain: &str) -> Result<Vec<Host>, RegistryError> {
    let Some(root) = config.hosts.clone() else { return Ok(vec![Host::plain()]) };
    let domain = domain.to_owned();
    let loaded = tokio::task::spawn_blocking(move || hosts::load(&root, &domain)).await;
    let loaded = loaded.unwrap_or_else(|e| Err(RegistryError::Settings(e.to_string())))?;
    Ok(loaded.unwrap_or_else(|| vec![Host::plain()]))
}

/// A host as the folder names it.
fn listed(host: &Host, server: &Server, domain: &str, found: &mut Vec<Endpoint>) {
    let described = |scheme| Endpoint {
        can: host.capabilities,
        headers: host.headers.clone(),
        tls: host.tls(),
        ..Endpoint::new(scheme, &server.host, &server.path, domain)
    };
    let is_port_80 = server.host.ends_with(":80");
    // who says something about TLS means it to be tried
    if server.scheme == Scheme::Http && host.speaks_of_tls() && !is_port_80 {
        let secure = Endpoint { has_plain_twin: true, ..described(Scheme::Https) };
        found.extend([secure.clone(), secure.plain()]);
    } else {
        found.push(described(server.scheme));
    }
}

fn mirrors(config: &Config, domain: &str, found: &mut Vec<Endpoint>) {
    if domain != "docker.io" {
        return;
    }
    for mirror in &config.mirrors {
        let base = format!("{}/v2", mirror.trim_end_matches('/'));
        let host = base.parse::<Url>().map(|url| authority(&url)).unwrap_or_default();
        let endpoint = Endpoint::new(Scheme::Https, &host, "", domain);
        found.push(Endpoint { base, mirror: true, stands_for: None, ..endpoint });
    }
}

/// The registry itself.
async fn itself(config: &Config, host: &Host, domain: &str, found: &mut Vec<Endpoint>) {
    let name = if domain == "docker.io" { DOCKER_HUB } else { domain };
    let is_insecure = is_insecure(config, name).await;
    let mut tls = host.tls();
    tls.skip_verify = host.skip_verify.unwrap_or(is_insecure);
    let headers = host.headers.clone();
    let described = |scheme| Endpoint {
        can: host.capabilities,
        headers: headers.clone(),
        tls: tls.clone(),
        ..Endpoint::new(scheme, name, "/v2", domain)
    };
    match config.default_scheme {
        Some(Scheme::Http) if !host.speaks_of_tls() => found.push(described(Scheme::Http)),
        scheme if is_insecure || scheme == Some(Scheme::Http) => {
            let secure = Endpoint { has_plain_twin: true, ..described(Scheme::Https) };
            found.extend([secure.clone(), secure.plain()]);
        }
        _ => found.push(described(Scheme::Https)),
    }
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

    async fn bases(config: &Config, domain: &str) -> Vec<String> {
        endpoints(config, domain).await.unwrap().into_iter().map(|e| e.base).collect()
    }

    #[tokio::test]
    async fn https_comes_before_http() {
        assert_eq!(
            bases(&config(&[]), "localhost:5000").await,
            ["https://localhost:5000/v2", "http://localhost:5000/v2"]
        );
        assert_eq!(bases(&config(&[]), "quay.example").await, ["https://quay.example/v2"]);
    }

    #[tokio::test]
    async fn mirrors_serve_docker_hub_alone() {
        let config = Config { mirrors: vec!["https://mirror.example/".into()], ..Config::default() };
        let wanted = ["https://mirror.example/v2", "https://registry-1.docker.io/v2"];
        assert_eq!(bases(&config, "docker.io").await, wanted);
        let found = endpoints(&config, "docker.io").await.unwrap();
        assert!(found[0].mirror && !found[1].mirror && found[1].stands_for.is_none());
        assert_eq!(bases(&config, "quay.example").await.len(), 1);
    }

    #[tokio::test]
    async fn a_scheme_that_is_asked_for_holds_where_nothing_else_is_said() {
        let http = Config { default_scheme: Some(Scheme::Http), ..Config::default() };
        assert_eq!(bases(&http, "quay.example").await, ["http://quay.example/v2"]);
        let root = tempfile::tempdir().unwrap();
        let of = |name: &str, text: &str| {
            std::fs::create_dir_all(root.path().join(name)).unwrap();
            std::fs::write(root.path().join(name).join("hosts.toml"), text).unwrap();
        };
        of("tls.example", "skip_verify = true");
        of(
            "quay.example",
            "server = \"https://quay.example\"\n[host.\"http://m.example:81\"]\nskip_verify = true",
        );
        let http = Config { hosts: Some(root.path().into()), ..http };
        assert_eq!(bases(&http, "tls.example").await, ["https://tls.example/v2", "http://tls.example/v2"]);
        let wanted = ["https://m.example:81/v2", "http://m.example:81/v2", "https://quay.example/v2"];
        assert_eq!(bases(&http, "quay.example").await, wanted);
        let found = endpoints(&http, "quay.example").await.unwrap();
        assert_eq!(found[0].stands_for.as_deref(), Some("quay.example"));
        assert_eq!(found[2].stands_for, None);
    }
}
