//! `--filter name=value`.

use std::collections::BTreeMap;

/// Filters as they were given, in the JSON that the API takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters(BTreeMap<String, BTreeMap<String, bool>>);

/// Splits one flag; the name is folded to lower case.
pub(crate) fn parse(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_lowercase(), value.trim().to_owned())),
        None => Err("bad format of filter (expected name=value)".to_owned()),
    }
}

impl Filters {
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_owned()).or_default().insert(value.to_owned(), true);
    }

    /// The query parameter; empty without filters.
    pub(crate) fn to_query(&self) -> String {
        // maps of strings to booleans always encode
        if self.0.is_empty() { String::new() } else { serde_json::to_string(&self.0).unwrap_or_default() }
    }
}

impl FromIterator<(String, String)> for Filters {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Filters {
        let mut filters = Filters::default();
        for (name, value) in pairs {
            filters.add(&name, &value);
        }
        filters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_become_the_api_s_json() {
        let filters: Filters =
            ["Label=a=b", "status=exited", "label=c"].iter().map(|f| parse(f).expect("filter")).collect();
        assert_eq!(filters.to_query(), r#"{"label":{"a=b":true,"c":true},"status":{"exited":true}}"#);
        assert!(parse("x").is_err());
        assert_eq!(Filters::default().to_query(), "");
    }
}
