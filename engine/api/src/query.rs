//! The query string, read as Go reads forms.

use axum::extract::FromRequestParts;
use engine_core::filter::Filters;
use http::request::Parts;

use crate::error::ApiError;

/// A parsed query; the first value of a name counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=b&c=%20d`; what is not valid percent-encoding stays as it is.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value, or nothing if the name is not given or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The first value, or the empty text.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Every value of a name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the name is given, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// True unless the value is missing, empty, `0`, `no`, `false` or `none`.
    pub fn flag(&self, name: &str) -> bool {
        let value = self.text(name).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// Like [`Self::flag`], with a default for a name that is not given.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.has(name) { self.flag(name) } else { default }
    }

    /// A whole number; an error that names what was given.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.get(name)
            .map(|value| {
                value.parse().map_err(|_| {
                    ApiError::invalid(format!("invalid value {value:?} for {name}: not a number"))
                })
            })
            .transpose()
    }

    /// Docker's `filters`.
    pub fn filters(&self) -> Result<Filters, ApiError> {
        Ok(Filters::parse(self.text("filters"))?)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|b| (*b as char).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            (b'+', ..) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::Query;

    #[test]
    fn values_are_decoded() {
        let query =
            Query::parse("name=a%20b+c&all=1&force=False&bad=%zz&filters=%7B%22a%22%3A%5B%22b%22%5D%7D&t=-1");
        assert_eq!(query.get("name"), Some("a b c"));
        assert!(query.flag("all") && !query.flag("force") && !query.flag("missing"));
        assert_eq!(query.get("bad"), Some("%zz"));
        assert!(query.filters().unwrap().exact("a", "b"));
        assert_eq!(query.number::<i64>("t").unwrap(), Some(-1));
        assert!(query.number::<i64>("name").is_err());
        assert!(query.flag_or("missing", true));
    }
}
