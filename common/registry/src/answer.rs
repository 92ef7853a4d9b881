//! Reading answers: bounded bodies, and errors in the registry's form.

use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, Url};
use serde::Deserialize;

use crate::challenge::challenges;
use crate::error::{ApiError, RegistryError};
use crate::transport::{broken, shown, spelled};

/// Error bodies are read up to here.
const MAX_ERROR_BODY: usize = 64 << 10;
/// Characters of a registry's message that are passed on.
const MAX_MESSAGE: usize = 1024;

/// The whole body, if it has at most `limit` bytes.
pub(crate) async fn body(mut response: Response, limit: usize, what: &str) -> Result<Vec<u8>, RegistryError> {
    let url = response.url().clone();
    let mut all = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| broken(&Method::GET, &url, &e))? {
        if all.len() + chunk.len() > limit {
            return Err(RegistryError::TooLarge { what: what.to_owned(), limit });
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
    #[serde(default)]
    details: String,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What an answer that is no success means.
pub(crate) async fn refusal(method: &Method, response: Response) -> RegistryError {
    let status = response.status();
    let url = response.url().clone();
    if !status.is_client_error() {
        return RegistryError::UnexpectedStatus {
            method: spelled(method),
            url: shown(&url),
            status: status.to_string(),
            retry_after: retry_after(response.headers()),
        };
    }
    let challenge = challenges(response.headers())
        .iter()
        .find_map(|c| c.parameter("error").filter(|_| c.scheme == "bearer").map(printable));
    let report = Report {
        status: status.as_u16(),
        method: spelled(method),
        url: shown(&url),
        challenge,
        retry_after: retry_after(response.headers()),
    };
    let from_header = bearer_error(response.headers());
    let is_json = response.headers().get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).is_some_and(|t| {
        matches!(t.split(';').next().map(str::trim), Some("application/json" | "application/vnd.api+json"))
    });
    let text = body(response, MAX_ERROR_BODY, "error answer").await.unwrap_or_default();
    if let Some((code, message)) = from_header {
        return report.with(code, message);
    }
    let parsed = is_json.then(|| serde_json::from_slice::<ErrorBody>(&text).ok()).flatten();
    let (code, message) = match parsed {
        Some(ErrorBody { errors, .. }) if !errors.is_empty() => from_entry(&errors[0]),
        Some(ErrorBody { details, .. }) if !details.is_empty() => by_status(report.status, &details),
        _ => by_status(report.status, &String::from_utf8_lossy(&text)),
    };
    report.with(&code, message)
}

/// What is known of a refusal beside the registry's words.
struct Report {
    status: u16,
    method: &'static str,
    url: String,
    challenge: Option<String>,
    retry_after: Option<Duration>,
}

impl Report {
    fn with(self, code: &str, message: String) -> RegistryError {
        let Report { status, method, url, challenge, retry_after } = self;
        let code = code.to_owned();
        RegistryError::Api(ApiError { code, message, status, method, url, challenge, retry_after })
    }
}

/// How long the registry asks to wait: `Retry-After` in seconds or as a date (RFC 9110 §10.2.3), none if it is past.
///
/// A date is measured against the answer's own `Date`, where it has one: clocks differ.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = text(RETRY_AFTER)?;
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(asked).ok()?;
    let now =
        text(DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or_else(SystemTime::now);
    Some(at.duration_since(now).unwrap_or_default())
}

fn from_entry(entry: &ErrorEntry) -> (String, String) {
    let code_like = |c: char| c.is_ascii_uppercase() || c == '_';
    let code = if entry.code.is_empty() || entry.code.len() > 64 || !entry.code.chars().all(code_like) {
        "UNKNOWN".to_owned()
    } else {
        entry.code.clone()
    };
    let message =
        if entry.message.is_empty() { default_message(&code).to_owned() } else { printable(&entry.message) };
    (code, message)
}

fn by_status(status: u16, message: &str) -> (String, String) {
    let code = match status {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        429 => "TOOMANYREQUESTS",
        _ => "UNKNOWN",
    };
    let message = printable(message);
    let message = if message.is_empty() { default_message(code).to_owned() } else { message };
    (code.to_owned(), message)
}

/// RFC 6750 §3.1 errors in the challenge.
fn bearer_error(headers: &HeaderMap) -> Option<(&'static str, String)> {
    let challenges = challenges(headers);
    let bearer = challenges.iter().find(|c| c.scheme == "bearer")?;
    let code = match bearer.parameter("error")? {
        "invalid_token" => "UNAUTHORIZED",
        "insufficient_scope" => "DENIED",
        _ => return None,
    };
    let message =
        bearer.parameter("error_description").map_or_else(|| default_message(code).to_owned(), printable);
    Some((code, message))
}

fn default_message(code: &str) -> &'static str {
    match code {
        "UNAUTHORIZED" => "authentication required",
        "DENIED" => "requested access to the resource is denied",
        "MANIFEST_UNKNOWN" => "manifest unknown",
        "NAME_UNKNOWN" => "repository name not known to registry",
        "BLOB_UNKNOWN" => "blob unknown to registry",
        "TOOMANYREQUESTS" => "too many requests",
        "UNSUPPORTED" => "The operation is unsupported.",
        _ => "unknown error",
    }
}

/// Foreign text for a terminal: bounded, one line, no control characters.
fn printable(text: &str) -> String {
    let clean = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_MESSAGE).collect()
}

/// An answer that breaks the specification.
pub(crate) fn malformed(method: &Method, url: &Url, reason: impl Into<String>) -> RegistryError {
    RegistryError::Malformed { method: spelled(method), url: shown(url), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn asked(retry_after: &'static str, date: Option<&'static str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(retry_after));
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_static(date));
        }
        super::retry_after(&headers)
    }

    #[test]
    fn a_registry_asks_for_a_wait_in_seconds_or_until_a_date() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(asked("7", None), seconds(7));
        assert_eq!(asked(" 7 ", None), seconds(7));
        let now = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:52 GMT", now), seconds(15));
        assert_eq!(asked("Sunday, 06-Nov-94 08:50:37 GMT", now), seconds(60), "the obsolete form");
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:00 GMT", now), seconds(0), "past");
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:00 GMT", None), seconds(0), "by our own clock");
        assert!(asked("Fri, 31 Dec 9999 23:59:59 GMT", None) > seconds(1 << 30));
        for nonsense in ["", "soon", "-1", "1.5", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(asked(nonsense, now), None, "{nonsense:?}");
        }
    }
}
