//! Go's text/template language, as `--format` takes it.
//!
//! [`Template::parse`] once, then [`Template::render`] for every row. Errors have Go's texts and positions:
//! `template: :1:2: executing "" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext`.

mod ast;
mod compare;
mod execute;
mod functions;
mod lex;
mod number;
mod parse;
mod printf;
pub(crate) mod quote;
mod serialize;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use functions::Dialect;
pub(crate) use serialize::{Unserializable, to_value};
pub(crate) use value::{Struct, Value};

/// A parsed format.
#[derive(Debug)]
pub(crate) struct Template {
    name: String,
    source: String,
    root: ast::List,
}

/// Why a format is not a template; the text is Go's.
#[derive(Debug, thiserror::Error)]
#[error("template: {name}:{line}: {text}")]
pub(crate) struct ParseError {
    name: String,
    line: usize,
    text: String,
}

impl ParseError {
    fn at(name: &str, source: &str, pos: usize, text: impl std::fmt::Display) -> ParseError {
        let line = 1 + source.as_bytes()[..pos.min(source.len())].iter().filter(|b| **b == b'\n').count();
        ParseError { name: name.to_owned(), line, text: text.to_string() }
    }
}

/// Why a template could not be run against a value; the text is Go's.
#[derive(Debug, thiserror::Error)]
#[error("template: {name}:{line}:{column}: executing {quoted} at <{context}>: {text}")]
pub(crate) struct ExecError {
    name: String,
    line: usize,
    column: usize,
    quoted: String,
    context: String,
    text: String,
}

impl Template {
    /// Parses `source`; `name` shows up in errors only, and is empty for most of docker's formats.
    pub(crate) fn parse(name: &str, source: &str) -> Result<Template, ParseError> {
        let root = parse::parse(name, source, &functions::is_known)?;
        Ok(Template { name: name.to_owned(), source: source.to_owned(), root })
    }

    /// Runs it against `data`. A key that a map lacks prints `<no value>`.
    pub(crate) fn render(&self, data: &Value, dialect: Dialect) -> Result<String, ExecError> {
        self.execute(data, dialect, false)
    }

    /// As [`Self::render`], where a key that a map lacks is an error (Go's `missingkey=error`).
    pub(crate) fn render_strict(&self, data: &Value) -> Result<String, ExecError> {
        self.execute(data, Dialect::Row, true)
    }

    fn execute(&self, data: &Value, dialect: Dialect, strict: bool) -> Result<String, ExecError> {
        let mut run = execute::Run::new(self, data, dialect, strict);
        run.run(data)?;
        Ok(run.out)
    }

    /// Whether the format reads a field of this name, of whatever object.
    pub(crate) fn mentions(&self, field: &str) -> bool {
        ast::mentions(&self.root, field)
    }

    fn error_at(&self, pos: usize, context: &str, text: impl std::fmt::Display) -> ExecError {
        let before = &self.source[..pos.min(self.source.len())];
        let line = 1 + before.matches('\n').count();
        let column = before.rfind('\n').map_or(before.len(), |newline| before.len() - newline - 1);
        ExecError {
            name: self.name.clone(),
            line,
            column,
            quoted: quote::quote(&self.name),
            context: context.to_owned(),
            text: text.to_string(),
        }
    }
}
