//! Percent encoding and query strings.

/// Encodes all but RFC 3986's unreserved characters.
pub(crate) fn escape(text: &str) -> String {
    encode(text, |b| matches!(b, b'-' | b'.' | b'_' | b'~'))
}

/// As [`escape`] for a part of a path: `/` and `:` stay, since image names hold them.
pub(crate) fn escape_path(text: &str) -> String {
    encode(text, |b| matches!(b, b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@'))
}

fn encode(text: &str, keep: fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || keep(b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// A query string under construction; what is empty or false is left out, as docker does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn new() -> Query {
        Query::default()
    }

    pub(crate) fn set(mut self, name: &str, value: impl AsRef<str>) -> Query {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&escape(value.as_ref()));
        self
    }

    /// `name=value` unless `value` is empty.
    pub(crate) fn text(self, name: &str, value: &str) -> Query {
        if value.is_empty() { self } else { self.set(name, value) }
    }

    /// `name=1` if `on`.
    pub(crate) fn flag(self, name: &str, on: bool) -> Query {
        if on { self.set(name, "1") } else { self }
    }

    /// With its `?`, or empty.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_encode_and_leave_out_what_is_empty() {
        let query = Query::new().text("name", "a b&c").text("none", "").flag("all", true).flag("size", false);
        assert_eq!(query.as_str(), "?name=a%20b%26c&all=1");
        assert_eq!(Query::new().as_str(), "");
        assert_eq!(escape_path("reg:5000/a/b@sha256:0?x"), "reg:5000/a/b@sha256:0%3Fx");
    }
}
