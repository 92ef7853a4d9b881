//! `WWW-Authenticate` headers (RFC 9110 §11.6.1, RFC 6750 §3).

use std::collections::BTreeMap;
use std::fmt;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// Challenges read from one answer.
const MAX_CHALLENGES: usize = 8;
const MAX_PARAMETERS: usize = 16;

/// One way in that the registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Lower case: `bearer`, `basic`.
    pub scheme: String,
    /// Names in lower case.
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }
}

impl fmt::Display for Challenge {
    /// As it stands in a header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scheme)?;
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            write!(f, "{}{name}=\"{value}\"", if index == 0 { " " } else { "," })?;
        }
        Ok(())
    }
}

/// Every challenge of an answer; one that is malformed ends the reading of its header.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        if let Ok(text) = value.to_str() {
            read_header(text, &mut found);
        }
    }
    found
}

fn read_header(text: &str, found: &mut Vec<Challenge>) {
    let mut rest = text;
    while found.len() < MAX_CHALLENGES {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((scheme, after)) = token(rest) else { return };
        rest = after;
        let mut parameters = BTreeMap::new();
        // `name=` belongs to this challenge; a bare token starts the next one
        while let Some((name, value, after)) = parameter(rest) {
            if parameters.len() < MAX_PARAMETERS {
                parameters.insert(name.to_ascii_lowercase(), value);
            }
            rest = after;
        }
        found.push(Challenge { scheme: scheme.to_ascii_lowercase(), parameters });
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (name, rest) = token(text)?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, rest) = token(rest)?;
        return Some((name, value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((name, value, &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Challenge> {
        let mut found = Vec::new();
        read_header(text, &mut found);
        found
    }

    #[test]
    fn bearer_with_quoted_commas() {
        let found =
            read(r#"Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull,push""#);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].scheme, "bearer");
        assert_eq!(found[0].parameter("realm"), Some("https://auth.example/token"));
        assert_eq!(found[0].parameter("scope"), Some("repository:a/b:pull,push"));
    }

    #[test]
    fn two_challenges_in_one_header() {
        let found = read(r#"Basic realm="a \"b\"", Bearer realm=x, service="s""#);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].parameter("realm"), Some("a \"b\""));
        assert_eq!(found[1].parameter("realm"), Some("x"));
        assert_eq!(found[1].parameter("service"), Some("s"));
    }

    #[test]
    fn what_is_shown_reads_back() {
        let found = read(r#"Bearer realm="https://a/\"t\"",scope="x y""#);
        assert_eq!(read(&found[0].to_string()), found);
    }

    #[test]
    fn garbage_ends_without_a_panic() {
        for text in ["", "\"", "Bearer realm=\"x", "é", "Bearer ,,, =", "Basic realm=\"\\"] {
            read(text);
        }
        assert!(read(&"a ".repeat(1000)).len() <= MAX_CHALLENGES);
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics(text in "\\PC{0,200}") {
            read(&text);
        }
    }
}
