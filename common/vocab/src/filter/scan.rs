//! Splitting a filter into tokens, and reading quoted text.

/// One token; texts are slices of the input, quotes included.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    End,
    Field(&'a str),
    Value(&'a str),
    Quoted(&'a str),
    Operator(&'a str),
    Separator,
    Other,
    Illegal(&'static str),
}

pub(super) struct Scanner<'a> {
    input: &'a str,
    at: usize,
    /// After an operator the next plain text is a value, which may hold nearly anything.
    expects_value: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(input: &'a str) -> Self {
        Scanner { input, at: 0, expects_value: false }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next character, spaces included.
    pub(super) fn peek(&self) -> Option<char> {
        self.input[self.at..].chars().next()
    }

    /// The next token and where it begins.
    pub(super) fn scan(&mut self) -> (usize, Token<'a>) {
        self.take_while(char::is_whitespace);
        let start = self.at;
        let Some(first) = self.peek() else { return (start, Token::End) };
        let token = match first {
            '\0' => Token::Illegal("unexpected null"),
            '"' | '/' | '|' => self.quoted(first),
            ',' | '.' => {
                self.at += 1;
                self.expects_value = false;
                Token::Separator
            }
            '=' | '!' | '~' => {
                self.expects_value = true;
                Token::Operator(self.take_while(|c| matches!(c, '=' | '!' | '~')))
            }
            _ if self.expects_value => {
                self.expects_value = false;
                Token::Value(self.take_while(|c| c != ',' && !c.is_whitespace() && !c.is_control()))
            }
            c if is_field(c) => Token::Field(self.take_while(is_field)),
            _ => Token::Other,
        };
        (start, token)
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.input[self.at..];
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn quoted(&mut self, quote: char) -> Token<'a> {
        let start = self.at;
        let mut escaped = false;
        for (i, c) in self.input[start..].char_indices().skip(1) {
            if c == '\n' {
                break;
            }
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == quote {
                self.at = start + i + 1;
                return Token::Quoted(&self.input[start..self.at]);
            }
        }
        Token::Illegal("quoted literal not terminated")
    }
}

fn is_field(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

/// The text between quotes with Go's escapes read; `None` if an escape is malformed.
pub(super) fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    // \x and octal escapes give bytes, which together must be UTF-8
    let mut out: Vec<u8> = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let byte = match chars.next()? {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            c if c == quote => c as u8,
            'x' => u8::try_from(number(&mut chars, 2, 16)?).ok()?,
            c @ ('u' | 'U') => {
                let code = number(&mut chars, if c == 'u' { 4 } else { 8 }, 16)?;
                out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            c @ '0'..='7' => {
                let rest = number(&mut chars, 2, 8)?;
                u8::try_from(c.to_digit(8)? * 64 + rest).ok()?
            }
            _ => return None,
        };
        out.push(byte);
    }
    String::from_utf8(out).ok()
}

fn number(chars: &mut std::str::Chars<'_>, digits: usize, base: u32) -> Option<u32> {
    (0..digits).try_fold(0u32, |sum, _| sum.checked_mul(base)?.checked_add(chars.next()?.to_digit(base)?))
}
