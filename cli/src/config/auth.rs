//! Credentials for a registry, as the `X-Registry-Auth` header carries them.

use std::io::Read as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;
use serde_json::json;

use super::{ConfigError, ConfigFile};

/// Docker Hub's key in `auths`.
const HUB: &str = "https://index.docker.io/v1/";
/// Answers of credential helpers are refused beyond this.
const MAX_ANSWER: u64 = 1 << 20;

/// The header's value for `image`, or None if there are no credentials for its registry.
pub(crate) fn registry_auth(config: &ConfigFile, image: &str) -> Result<Option<String>, ConfigError> {
    let domain = domain_of(image);
    let key = if domain == "docker.io" { HUB } else { domain };
    let helper =
        config.cred_helpers.get(key).or(Some(&config.creds_store)).filter(|helper| !helper.is_empty());
    let body = match helper {
        Some(helper) => ask_helper(helper, key)?,
        None => from_file(config, key),
    };
    Ok(body.map(|body| URL_SAFE.encode(body.to_string())))
}

/// The registry of an image name: its first part if that looks like a host.
fn domain_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => match first {
            "index.docker.io" => "docker.io",
            first => first,
        },
        _ => "docker.io",
    }
}

fn from_file(config: &ConfigFile, key: &str) -> Option<serde_json::Value> {
    let bare = |name: &str| {
        let name = name.trim_start_matches("https://").trim_start_matches("http://");
        name.split('/').next().unwrap_or(name).to_owned()
    };
    let auth = config
        .auths
        .get(key)
        .or_else(|| config.auths.iter().find(|(name, _)| bare(name) == bare(key)).map(|(_, auth)| auth))?;
    if !auth.identity_token.is_empty() || !auth.registry_token.is_empty() {
        return Some(json!({
            "identitytoken": auth.identity_token, "registrytoken": auth.registry_token, "serveraddress": key,
        }));
    }
    let decoded = STANDARD.decode(auth.auth.trim()).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(json!({"username": user, "password": password.trim_end_matches('\0'), "serveraddress": key}))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Runs `docker-credential-HELPER get`, the protocol that docker's configuration names.
fn ask_helper(helper: &str, key: &str) -> Result<Option<serde_json::Value>, ConfigError> {
    let failed = |text: String| ConfigError::Helper { helper: helper.to_owned(), text };
    if helper.contains('/') {
        return Err(failed("not a plain name".to_owned()));
    }
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|bad| failed(bad.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(key.as_bytes()).map_err(|bad| failed(bad.to_string()))?;
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER).read_to_end(&mut answer).map_err(|bad| failed(bad.to_string()))?;
    }
    let status = child.wait().map_err(|bad| failed(bad.to_string()))?;
    if !status.success() {
        let text = String::from_utf8_lossy(&answer).trim().to_owned();
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(text));
    }
    let HelperAnswer { username, secret } =
        serde_json::from_slice(&answer).map_err(|_| failed("malformed answer".to_owned()))?;
    Ok(Some(match username.as_str() {
        "<token>" => json!({"identitytoken": secret, "serveraddress": key}),
        _ => json!({"username": username, "password": secret, "serveraddress": key}),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_by_registry() {
        let config: ConfigFile = serde_json::from_str(
            r#"{"auths":{"https://reg:5000/v2/":{"auth":"dTpw"},"https://index.docker.io/v1/":{"identitytoken":"t"}}}"#,
        )
        .expect("json");
        let decoded = |image: &str| {
            let header = registry_auth(&config, image).expect("no helper").expect("credentials");
            serde_json::from_slice::<serde_json::Value>(&URL_SAFE.decode(header).expect("base64"))
                .expect("json")
        };
        assert_eq!(decoded("reg:5000/a/b:1")["username"], "u");
        assert_eq!(decoded("busybox")["identitytoken"], "t");
        assert!(registry_auth(&config, "other.org/x").expect("no helper").is_none());
    }
}
