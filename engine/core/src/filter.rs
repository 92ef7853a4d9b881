//! Docker's `filters` query parameter: a map from a name to the values any of which may match.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wharf_kinds::Kind;

/// Parsed filters; empty matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

/// Filters that cannot be used; always the client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not JSON of either accepted shape.
    #[error("invalid filter")]
    Malformed,
    /// A name this list does not know.
    #[error("invalid filter '{0}'")]
    Unknown(String),
    /// A value this name does not take.
    #[error("invalid filter '{name}={value}'")]
    Value { name: String, value: String },
}

impl FilterError {
    /// Always InvalidArgument.
    pub fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

impl Filters {
    /// Parses `{"name":{"value":true}}` (since API 1.22) or the older `{"name":["value"]}`; an empty text is no filter.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Ok(Value::Object(names)) = serde_json::from_str(text) else { return Err(FilterError::Malformed) };
        let mut all = BTreeMap::new();
        for (name, values) in names {
            let values: BTreeSet<String> = match values {
                Value::Object(values) => values
                    .into_iter()
                    .filter(|(_, on)| on.as_bool() == Some(true))
                    .map(|(value, _)| value)
                    .collect(),
                Value::Array(values) => values
                    .into_iter()
                    .map(|v| v.as_str().map(str::to_owned).ok_or(FilterError::Malformed))
                    .collect::<Result<_, _>>()?,
                Value::Null => BTreeSet::new(),
                _ => return Err(FilterError::Malformed),
            };
            all.insert(name, values);
        }
        Ok(Self(all))
    }

    /// Filters made in code.
    pub fn of<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, value) in pairs {
            all.entry(name.to_owned()).or_default().insert(value.to_owned());
        }
        Self(all)
    }

    /// Refuses names outside `known`.
    pub fn expect(&self, known: &[&str]) -> Result<(), FilterError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(FilterError::Unknown(name.clone())),
            None => Ok(()),
        }
    }

    /// Whether there is nothing to filter by.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the name was given at all.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The values of one name.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// True if the name has no values, or one equals the source.
    pub fn exact(&self, name: &str, source: &str) -> bool {
        let mut values = self.values(name).peekable();
        values.peek().is_none() || values.any(|value| value == source)
    }

    /// True if the name has no values, or the source begins with one.
    pub fn prefix(&self, name: &str, source: &str) -> bool {
        let mut values = self.values(name).peekable();
        values.peek().is_none() || values.any(|value| source.starts_with(value))
    }

    /// True if the name has no values, or the source contains one.
    pub fn part(&self, name: &str, source: &str) -> bool {
        let mut values = self.values(name).peekable();
        values.peek().is_none() || values.any(|value| source.contains(value))
    }

    /// True if *every* value of the name, `key` or `key=value`, is among the labels.
    pub fn labels(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(name).all(|wanted| has_label(wanted, labels))
    }

    /// A boolean value: 1, 0, true, false; None if the name is not given.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, FilterError> {
        let mut found = None;
        for value in self.values(name) {
            let on = match value {
                "1" | "true" => true,
                "0" | "false" => false,
                _ => return Err(FilterError::Value { name: name.to_owned(), value: value.to_owned() }),
            };
            if found.is_some_and(|before| before != on) {
                return Err(FilterError::Value { name: name.to_owned(), value: value.to_owned() });
            }
            found = Some(on);
        }
        Ok(found)
    }
}

/// `key` alone asks for its presence, `key=value` for that value.
pub fn has_label(wanted: &str, labels: &BTreeMap<String, String>) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_parse_to_the_same() {
        let new = Filters::parse(r#"{"status":{"running":true,"exited":true,"dead":false}}"#).unwrap();
        let old = Filters::parse(r#"{"status":["exited","running"]}"#).unwrap();
        assert_eq!(new, old);
        assert!(new.exact("status", "running") && !new.exact("status", "dead"));
        assert!(new.exact("name", "anything"));
    }

    #[test]
    fn malformed_filters_are_refused() {
        for text in ["[", "[]", "1", r#"{"a":1}"#, r#"{"a":[1]}"#] {
            assert_eq!(Filters::parse(text), Err(FilterError::Malformed), "{text}");
        }
        let filters = Filters::of([("nonsense", "x")]);
        assert_eq!(filters.expect(&["status"]).unwrap_err().to_string(), "invalid filter 'nonsense'");
    }

    #[test]
    fn every_label_asked_for_must_be_there() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        assert!(Filters::of([("label", "a"), ("label", "b=2")]).labels("label", &labels));
        assert!(!Filters::of([("label", "a"), ("label", "b=3")]).labels("label", &labels));
    }

    #[test]
    fn booleans_do_not_contradict() {
        assert_eq!(Filters::of([("dangling", "true")]).boolean("dangling"), Ok(Some(true)));
        assert_eq!(Filters::default().boolean("dangling"), Ok(None));
        assert!(Filters::of([("dangling", "maybe")]).boolean("dangling").is_err());
        assert!(Filters::of([("dangling", "1"), ("dangling", "0")]).boolean("dangling").is_err());
    }
}
