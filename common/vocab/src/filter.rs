//! containerd's filter language: which records of a list to give.
//!
//! ```text
//! filter    := selector ("," selector)*        every selector must hold
//! selector  := path [("==" | "!=" | "~=") value]   without an operator: the field is present
//! path      := field ("." field)*
//! field     := quoted | [A-Za-z0-9_]+
//! value     := quoted | anything up to a comma or a space
//! quoted    := "…" with Go's escapes; after ~= also /…/ and |…|
//! ```
//!
//! An absent field counts as the empty string for `!=` and `~=`, and never equals anything.

mod scan;

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};
use wharf_kinds::Kind;

use scan::{Scanner, Token};

const MAX_INPUT: usize = 64 << 10;
const MAX_FILTERS: usize = 256;
const MAX_REGEX: usize = 1 << 20;

/// A filter that cannot be read. The text is containerd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filters: parse error: {place}: {message}: invalid argument")]
pub struct FilterError {
    place: String,
    message: String,
}

impl FilterError {
    /// Always [`Kind::InvalidArgument`].
    pub const fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }

    fn new(input: &str, at: usize, message: impl Into<String>) -> Self {
        let place = match input.get(at..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!("[{} >|{c}|< {}]", &input[..at], &input[at + c.len_utf8()..]),
            None => format!("[{input}]"),
        };
        FilterError { place, message: message.into() }
    }
}

/// Any number of filters of which one must match; none at all match everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    alternatives: Vec<Vec<Selector>>,
}

#[derive(Debug, Clone)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Filter {
    /// Matches everything.
    pub fn always() -> Self {
        Filter::default()
    }

    /// Reads the filters of a request; a record matches if any of them does.
    pub fn parse_all<S: AsRef<str>>(filters: &[S]) -> Result<Self, FilterError> {
        if filters.len() > MAX_FILTERS {
            return Err(FilterError::new("", 0, format!("more than {MAX_FILTERS} filters")));
        }
        let alternatives = filters.iter().map(|f| parse(f.as_ref())).collect::<Result<_, _>>()?;
        Ok(Filter { alternatives })
    }

    /// Whether the record matches whose fields `field` gives: `labels.a.b` arrives as `["labels", "a", "b"]`,
    /// and a field that the record does not have is `None`.
    pub fn matches<'a>(&self, field: impl Fn(&[&str]) -> Option<Cow<'a, str>>) -> bool {
        self.alternatives.is_empty()
            || self.alternatives.iter().any(|all| all.iter().all(|selector| selector.matches(&field)))
    }
}

impl Selector {
    fn matches<'a>(&self, field: &impl Fn(&[&str]) -> Option<Cow<'a, str>>) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let value = field(&path);
        let text = value.as_deref().unwrap_or_default();
        match &self.test {
            Test::Present => value.is_some(),
            Test::Equal(want) => value.is_some() && text == want,
            Test::NotEqual(want) => text != want,
            Test::Matches(pattern) => pattern.is_match(text),
        }
    }
}

fn parse(input: &str) -> Result<Vec<Selector>, FilterError> {
    if input.is_empty() {
        return Ok(Vec::new());
    }
    if input.len() > MAX_INPUT {
        return Err(FilterError::new("", 0, format!("longer than {MAX_INPUT} bytes")));
    }
    let mut parser = Parser { scanner: Scanner::new(input), input };
    let mut selectors = vec![parser.selector()?];
    loop {
        match parser.scanner.peek() {
            None => return Ok(selectors),
            Some(',') => {
                parser.scanner.scan();
                selectors.push(parser.selector()?);
            }
            Some(other) => {
                return Err(FilterError::new(
                    input,
                    parser.scanner.position(),
                    format!("unexpected input: {other}"),
                ));
            }
        }
    }
}

struct Parser<'a> {
    scanner: Scanner<'a>,
    input: &'a str,
}

impl Parser<'_> {
    fn error(&self, at: usize, message: impl Into<String>) -> FilterError {
        FilterError::new(self.input, at, message)
    }

    fn selector(&mut self) -> Result<Selector, FilterError> {
        let mut path = vec![self.field()?];
        while self.scanner.peek() == Some('.') {
            self.scanner.scan();
            path.push(self.field()?);
        }
        if matches!(self.scanner.peek(), None | Some(',')) {
            return Ok(Selector { path, test: Test::Present });
        }
        let (at, token) = self.scanner.scan();
        let test = match token {
            Token::Operator("==") => Test::Equal(self.value(false)?),
            Token::Operator("!=") => Test::NotEqual(self.value(false)?),
            Token::Operator("~=") => {
                let at = self.scanner.position();
                let pattern = self.value(true)?;
                let compiled = RegexBuilder::new(&pattern).size_limit(MAX_REGEX).build();
                Test::Matches(compiled.map_err(|_| {
                    self.error(at, format!("{pattern:?} is not a regular expression, or too large a one"))
                })?)
            }
            Token::Operator(other) => return Err(self.error(at, format!("unsupported operator {other:?}"))),
            Token::Illegal(why) => return Err(self.error(at, why)),
            _ => return Err(self.error(at, r#"expected an operator ("=="|"!="|"~=")"#)),
        };
        Ok(Selector { path, test })
    }

    fn field(&mut self) -> Result<String, FilterError> {
        let (at, token) = self.scanner.scan();
        match token {
            Token::Field(text) => Ok(text.to_owned()),
            Token::Quoted(text) => self.unquote(at, text, false),
            Token::Illegal(why) => Err(self.error(at, why)),
            _ => Err(self.error(at, "expected field or quoted")),
        }
    }

    fn value(&mut self, any_quote: bool) -> Result<String, FilterError> {
        let (at, token) = self.scanner.scan();
        match token {
            Token::Value(text) | Token::Field(text) => Ok(text.to_owned()),
            Token::Quoted(text) => self.unquote(at, text, any_quote),
            Token::Illegal(why) => Err(self.error(at, why)),
            _ => Err(self.error(at, "expected value or quoted")),
        }
    }

    fn unquote(&self, at: usize, text: &str, any_quote: bool) -> Result<String, FilterError> {
        if !any_quote && !text.starts_with('"') {
            return Err(self.error(at, "invalid quote encountered"));
        }
        scan::unquote(text).ok_or_else(|| self.error(at, "unquoting failed: quote syntax error"))
    }
}

#[cfg(test)]
mod tests;
