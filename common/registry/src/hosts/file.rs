//! `hosts.toml` (containerd, docs/hosts.md): a table `host` for each place to ask before the registry itself, in the
//! order of the file, and the same settings at the top for the registry itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use toml::Spanned;

use super::{Capabilities, Host, Server};
use crate::config::Scheme;
use crate::endpoint::authority;
use crate::tls::{ClientPair, PemFile};

const MAX_HOSTS: usize = 64;

#[derive(Deserialize)]
struct HostsFile {
    server: Option<String>,
    // the spans give the order, which a map does not keep
    #[serde(default)]
    host: BTreeMap<Spanned<String>, Settings>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    capabilities: Vec<String>,
    ca: Option<OneOrMany>,
    client: Option<Clients>,
    skip_verify: Option<bool>,
    header: BTreeMap<Spanned<String>, OneOrMany>,
    override_path: bool,
    dial_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn items(&self) -> &[String] {
        match self {
            Self::One(item) => std::slice::from_ref(item),
            Self::Many(items) => items,
        }
    }
}

/// A file with certificate and key, several of them, or pairs of files.
#[derive(Deserialize)]
#[serde(untagged)]
enum Clients {
    One(String),
    Many(Vec<OneOrMany>),
}

/// The hosts of the file in order, the registry's own place last. Errors name the key.
pub(super) fn parse(folder: &Path, text: &str) -> Result<Vec<Host>, String> {
    let failed = |error| unreadable(text, &error);
    let own: Settings = toml::from_str(text).map_err(failed)?;
    let file: HostsFile = toml::from_str(text).map_err(failed)?;
    let mut listed: Vec<_> = file.host.iter().collect();
    if listed.len() > MAX_HOSTS {
        return Err(format!("host: more than {MAX_HOSTS} are listed"));
    }
    // a host may be begun with its table of headers
    let begin = |settings: &Settings| settings.header.keys().map(|key| key.span().start).min();
    listed.sort_by_key(|(name, settings)| begin(settings).unwrap_or(usize::MAX).min(name.span().start));
    let mut hosts = Vec::new();
    for (name, settings) in listed {
        let name = name.get_ref();
        let within = |reason: String| format!("host.{name:?}: {reason}");
        let place = server(name, settings.override_path).map_err(within)?;
        hosts.push(host(folder, Some(place), settings).map_err(within)?);
    }
    let place = match file.server.as_deref().unwrap_or_default() {
        "" => None,
        text => Some(server(text, own.override_path).map_err(|reason| format!("server: {reason}"))?),
    };
    hosts.push(host(folder, place, &own)?);
    Ok(hosts)
}

/// Where the file is wrong and how, without what stands there: it may be a header's secret.
fn unreadable(text: &str, error: &toml::de::Error) -> String {
    let line =
        error.span().and_then(|span| text.get(..span.start)).map_or(0, |before| before.matches('\n').count());
    let message = error.message();
    let shown = match message.split_once(" \"").zip(message.rsplit_once('"')) {
        Some(((before, _), (_, after))) => format!("{before}{after}"),
        None => message.to_owned(),
    };
    format!("line {}: {}", line + 1, shown.trim_end())
}

fn server(text: &str, override_path: bool) -> Result<Server, String> {
    let wrong = || format!("{text:?} is neither host[:port] nor an http or https URL");
    let with_scheme = if text.starts_with("http") { text.to_owned() } else { format!("https://{text}") };
    let url: Url = with_scheme.parse().map_err(|_| wrong())?;
    let scheme = match url.scheme() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(wrong()),
    };
    let host = authority(&url);
    if host.is_empty() {
        return Err(wrong());
    }
    let mut path = String::new();
    for part in url.path().split('/').filter(|part| !part.is_empty()) {
        path.push('/');
        path.push_str(part);
    }
    if !override_path && !path.ends_with("/v2") {
        path.push_str("/v2");
    }
    Ok(Server { scheme, host, path })
}

fn host(folder: &Path, server: Option<Server>, settings: &Settings) -> Result<Host, String> {
    let pem = |name: &String| PemFile::at(folder.join(name)).map_err(|error| error.to_string());
    let ca = settings.ca.iter().flat_map(OneOrMany::items).map(pem).collect::<Result<_, _>>()?;
    let alone = |name: &String| Ok::<_, String>(ClientPair { certificate: pem(name)?, key: None });
    let client = match &settings.client {
        None => Vec::new(),
        Some(Clients::One(name)) => vec![alone(name)?],
        Some(Clients::Many(items)) => {
            let pair = |item: &OneOrMany| match item {
                OneOrMany::One(name) => alone(name),
                OneOrMany::Many(pair) => match pair.as_slice() {
                    [certificate, key] => {
                        Ok(ClientPair { certificate: pem(certificate)?, key: Some(pem(key)?) })
                    }
                    _ => Err("client: a pair has a certificate and a key".to_owned()),
                },
            };
            items.iter().map(pair).collect::<Result<_, _>>()?
        }
    };
    let dial_timeout = settings.dial_timeout.as_deref().filter(|text| !text.is_empty());
    let dial_timeout = dial_timeout
        .map(|text| duration(text).ok_or_else(|| format!("dial_timeout: {text:?} is no duration like 3s")))
        .transpose()?;
    Ok(Host {
        server,
        capabilities: capabilities(&settings.capabilities)?,
        ca,
        client,
        skip_verify: settings.skip_verify,
        headers: headers(&settings.header)?,
        dial_timeout,
    })
}

fn capabilities(listed: &[String]) -> Result<Capabilities, String> {
    if listed.is_empty() {
        return Ok(Capabilities::ALL);
    }
    let mut found = Capabilities { pull: false, resolve: false, push: false };
    for name in listed {
        match name.to_ascii_lowercase().as_str() {
            "pull" => found.pull = true,
            "resolve" => found.resolve = true,
            "push" => found.push = true,
            // looking referrers up is not something that is done here
            "referrers" => {}
            _ => {
                return Err(format!(
                    "capabilities: {name:?} is none of \"pull\", \"resolve\", \"push\", \"referrers\""
                ));
            }
        }
    }
    Ok(found)
}

fn headers(listed: &BTreeMap<Spanned<String>, OneOrMany>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, values) in listed {
        let name = name.get_ref();
        // the value may be a secret
        let wrong = || format!("header: {name:?} is no HTTP header");
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        for value in values.items() {
            let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.append(key.clone(), value);
        }
    }
    Ok(headers)
}

/// A duration as Go writes it: `3s`, `1m30s`, `1.5h`, `300ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(total).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, seconds) in [("3s", 3.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("300ms", 0.3), ("0", 0.0)] {
            assert_eq!(duration(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "3", "s", "-1s", "1.2.3s", "1d"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn servers_have_the_api_below_v2_unless_it_is_overridden() {
        let path = |text, over| server(text, over).unwrap().path;
        assert_eq!(path("mirror.example:5000", false), "/v2");
        assert_eq!(path("https://mirror.example/", false), "/v2");
        assert_eq!(path("https://mirror.example/proxy//hub/", false), "/proxy/hub/v2");
        assert_eq!(path("https://mirror.example/v2", false), "/v2");
        assert_eq!(path("https://mirror.example/hub", true), "/hub");
        assert_eq!(path("https://mirror.example", true), "");
        let plain = server("http://user:word@10.0.0.1:81/x", false).unwrap();
        assert_eq!((plain.scheme, plain.host.as_str()), (Scheme::Http, "10.0.0.1:81"));
        for text in ["httpx://a", "https://", "a b", "ftp//"] {
            assert!(server(text, false).is_err() || text == "ftp//", "{text}");
        }
    }
}
