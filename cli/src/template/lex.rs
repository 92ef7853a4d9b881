//! Tokens of Go's text/template language.
//!
//! The texts of lexical errors are those that Go prints, since people and scripts know them.

use super::ParseError;

/// What a token is. Keywords have a kind each, so that the parser never compares texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Open,
    Close,
    Space,
    Field,
    Variable,
    Identifier,
    Dot,
    Nil,
    Bool,
    Number,
    Char,
    Str,
    RawStr,
    Pipe,
    Declare,
    Assign,
    Comma,
    LeftParen,
    RightParen,
    If,
    Else,
    End,
    Range,
    With,
    Break,
    Continue,
    Define,
    Block,
    Template,
    Eof,
}

impl Kind {
    pub(crate) fn is_keyword(self) -> bool {
        matches!(
            self,
            Kind::If
                | Kind::Else
                | Kind::End
                | Kind::Range
                | Kind::With
                | Kind::Break
                | Kind::Continue
                | Kind::Define
                | Kind::Block
                | Kind::Template
                | Kind::Nil
                | Kind::Dot
        )
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    /// Byte offset in the source.
    pub(crate) pos: usize,
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";
const BLANKS: &[char] = &[' ', '\t', '\r', '\n'];

/// Cuts `source` into tokens; the last one is always `Eof`.
pub(crate) fn tokens(name: &str, source: &str) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer { name, source, pos: 0, out: Vec::new() };
    lexer.run()?;
    Ok(lexer.out)
}

struct Lexer<'a> {
    name: &'a str,
    source: &'a str,
    pos: usize,
    out: Vec<Token>,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.pos..]
    }

    fn emit(&mut self, kind: Kind, start: usize) {
        self.out.push(Token { kind, text: self.source[start..self.pos].to_owned(), pos: start });
    }

    fn fail<T>(&self, at: usize, text: impl std::fmt::Display) -> Result<T, ParseError> {
        Err(ParseError::at(self.name, self.source, at, text))
    }

    fn run(&mut self) -> Result<(), ParseError> {
        // true after a closing delimiter with a trim marker: blanks before the next text are dropped
        let mut trim_left = false;
        loop {
            if trim_left {
                self.pos = self.source.len() - self.rest().trim_start_matches(BLANKS).len();
            }
            let start = self.pos;
            let Some(offset) = self.rest().find(OPEN) else {
                self.pos = self.source.len();
                if self.pos > start {
                    self.emit(Kind::Text, start);
                }
                let end = self.pos;
                self.emit(Kind::Eof, end);
                return Ok(());
            };
            let open = start + offset;
            let trimmed = trims_right(&self.source[open + OPEN.len()..]);
            let text = &self.source[start..open];
            let text = if trimmed { text.trim_end_matches(BLANKS) } else { text };
            if !text.is_empty() {
                self.out.push(Token { kind: Kind::Text, text: text.to_owned(), pos: start });
            }
            self.pos = open + OPEN.len() + if trimmed { 1 } else { 0 };
            let after_marker = if trimmed { &self.rest()[1..] } else { self.rest() };
            trim_left = if after_marker.starts_with("/*") {
                self.pos = self.source.len() - after_marker.len();
                self.comment()?
            } else {
                self.out.push(Token { kind: Kind::Open, text: OPEN.to_owned(), pos: open });
                self.action()?
            };
        }
    }

    fn comment(&mut self) -> Result<bool, ParseError> {
        let start = self.pos;
        let Some(end) = self.rest().find("*/") else { return self.fail(start, "unclosed comment") };
        self.pos += end + 2;
        if let Some(trim) = self.closing() {
            return Ok(trim);
        }
        self.fail(start, "comment ends before closing delimiter")
    }

    /// Consumes a closing delimiter, telling whether it trims; None if there is none here.
    fn closing(&mut self) -> Option<bool> {
        let rest = self.rest();
        if rest.starts_with(CLOSE) {
            self.pos += CLOSE.len();
            return Some(false);
        }
        let mut chars = rest.chars();
        if chars.next().is_some_and(|c| BLANKS.contains(&c)) && chars.as_str().starts_with("-}}") {
            self.pos += 1 + 1 + CLOSE.len();
            return Some(true);
        }
        None
    }

    fn action(&mut self) -> Result<bool, ParseError> {
        let opened = self.pos;
        let mut depth = 0usize;
        loop {
            let start = self.pos;
            if let Some(trim) = self.closing() {
                if depth > 0 {
                    return self.fail(start, "unclosed left paren");
                }
                self.out.push(Token { kind: Kind::Close, text: CLOSE.to_owned(), pos: start });
                return Ok(trim);
            }
            let Some(c) = self.rest().chars().next() else { return self.fail(opened, "unclosed action") };
            match c {
                c if BLANKS.contains(&c) => self.space(start),
                '=' => self.single(Kind::Assign, start),
                ',' => self.single(Kind::Comma, start),
                '|' => self.single(Kind::Pipe, start),
                '(' => {
                    depth += 1;
                    self.single(Kind::LeftParen, start);
                }
                ')' => {
                    if depth == 0 {
                        return self.fail(start, "unexpected right paren");
                    }
                    depth -= 1;
                    self.single(Kind::RightParen, start);
                }
                ':' => {
                    if !self.rest().starts_with(":=") {
                        return self.fail(start, "expected :=");
                    }
                    self.pos += 2;
                    self.emit(Kind::Declare, start);
                }
                '"' => self.quoted('"', Kind::Str, "unterminated quoted string")?,
                '\'' => self.quoted('\'', Kind::Char, "unterminated character constant")?,
                '`' => {
                    let Some(end) = self.source[start + 1..].find('`') else {
                        return self.fail(start, "unterminated raw quoted string");
                    };
                    self.pos = start + 1 + end + 1;
                    self.emit(Kind::RawStr, start);
                }
                '$' => self.name(Kind::Variable, start)?,
                '.' => {
                    if self.source[start + 1..].starts_with(|c: char| c.is_ascii_digit()) {
                        self.number(start)?;
                    } else {
                        self.name(Kind::Field, start)?;
                    }
                }
                '+' | '-' | '0'..='9' => self.number(start)?,
                c if is_word(c) => self.word(start)?,
                c => {
                    return self.fail(
                        start,
                        format_args!("unrecognized character in action: U+{:04X} {c:?}", c as u32),
                    );
                }
            }
        }
    }

    fn single(&mut self, kind: Kind, start: usize) {
        self.pos += 1;
        self.emit(kind, start);
    }

    fn space(&mut self, start: usize) {
        let rest = self.rest();
        // a blank in front of `-}}` belongs to the delimiter
        let mut len = rest.len() - rest.trim_start_matches(BLANKS).len();
        if rest[len..].starts_with("-}}") {
            len -= 1;
        }
        if len > 0 {
            self.pos += len;
            self.emit(Kind::Space, start);
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind, unterminated: &str) -> Result<(), ParseError> {
        let start = self.pos;
        let mut chars = self.source[start + 1..].char_indices();
        while let Some((offset, c)) = chars.next() {
            match c {
                '\n' => break,
                '\\' => {
                    if matches!(chars.next(), None | Some((_, '\n'))) {
                        break;
                    }
                }
                c if c == quote => {
                    self.pos = start + 1 + offset + 1;
                    self.emit(kind, start);
                    return Ok(());
                }
                _ => {}
            }
        }
        self.fail(start, unterminated)
    }

    /// A field or a variable: a mark and a word; the mark alone is the dot or `$`.
    fn name(&mut self, kind: Kind, start: usize) -> Result<(), ParseError> {
        self.pos += 1;
        self.pos += word_len(self.rest());
        self.check_terminator()?;
        let alone = self.pos == start + 1;
        self.emit(if alone && kind == Kind::Field { Kind::Dot } else { kind }, start);
        Ok(())
    }

    fn word(&mut self, start: usize) -> Result<(), ParseError> {
        self.pos += word_len(self.rest());
        self.check_terminator()?;
        let kind = match &self.source[start..self.pos] {
            "if" => Kind::If,
            "else" => Kind::Else,
            "end" => Kind::End,
            "range" => Kind::Range,
            "with" => Kind::With,
            "break" => Kind::Break,
            "continue" => Kind::Continue,
            "define" => Kind::Define,
            "block" => Kind::Block,
            "template" => Kind::Template,
            "nil" => Kind::Nil,
            "true" | "false" => Kind::Bool,
            _ => Kind::Identifier,
        };
        self.emit(kind, start);
        Ok(())
    }

    fn check_terminator(&self) -> Result<(), ParseError> {
        match self.rest().chars().next() {
            None => Ok(()),
            Some(c) if BLANKS.contains(&c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '(' | '=') => Ok(()),
            Some(_) if self.rest().starts_with(CLOSE) => Ok(()),
            Some(c) => {
                self.fail(self.pos, format_args!("bad character U+{:04X} {}", c as u32, quote_char(c)))
            }
        }
    }

    fn number(&mut self, start: usize) -> Result<(), ParseError> {
        let rest = self.rest();
        let sign = usize::from(rest.starts_with(['+', '-']));
        let mut len = sign;
        let mut previous = '\0';
        for c in rest[sign..].chars() {
            let exponent_sign =
                matches!(c, '+' | '-') && matches!(previous, 'e' | 'E') && !rest[sign..].starts_with("0x");
            if !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || exponent_sign) {
                break;
            }
            previous = c;
            len += c.len_utf8();
        }
        self.pos += len;
        if len == sign || super::number::parse(&self.source[start..self.pos]).is_none() {
            return self.fail(
                start,
                format_args!("bad number syntax: {}", super::quote::quote(&self.source[start..self.pos])),
            );
        }
        self.emit(Kind::Number, start);
        Ok(())
    }
}

/// Go's `%q` of one rune.
fn quote_char(c: char) -> String {
    match c {
        '\'' => "'\\''".to_owned(),
        c => format!("'{c}'"),
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn word_len(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

/// Whether the text after `{{` starts with a trim marker, which needs a blank after it.
fn trims_right(after_open: &str) -> bool {
    let mut chars = after_open.chars();
    chars.next() == Some('-') && chars.next().is_some_and(|c| BLANKS.contains(&c))
}
