//! Tokens to tree. Recursive descent, bounded in depth.

use super::ParseError;
use super::ast::{Branch, Command, Expr, ExprKind, List, Node, Pipe};
use super::lex::{Kind, Token, tokens};
use super::number::{self, Number};
use super::quote::{quote, unquote};

/// Nested actions and parentheses deeper than this are refused, so that the stack stays bounded.
const MAX_DEPTH: usize = 200;

pub(crate) fn parse(name: &str, source: &str, functions: &dyn Fn(&str) -> bool) -> Result<List, ParseError> {
    let tokens = tokens(name, source)?;
    let mut parser = Parser {
        name,
        source,
        tokens,
        at: 0,
        functions,
        variables: vec!["$".to_owned()],
        depth: 0,
        loops: 0,
    };
    let (list, end) = parser.list(true)?;
    match end.kind {
        Kind::Eof => Ok(list),
        Kind::End => parser.fail(end.pos, "unexpected {{end}}"),
        _ => parser.fail(end.pos, "unexpected {{else}}"),
    }
}

struct Parser<'a> {
    name: &'a str,
    source: &'a str,
    tokens: Vec<Token>,
    at: usize,
    functions: &'a dyn Fn(&str) -> bool,
    variables: Vec<String>,
    depth: usize,
    loops: usize,
}

impl Parser<'_> {
    fn fail<T>(&self, pos: usize, text: impl std::fmt::Display) -> Result<T, ParseError> {
        Err(ParseError::at(self.name, self.source, pos, text))
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Result<T, ParseError> {
        let shown = match token.kind {
            Kind::Eof => "EOF".to_owned(),
            kind if kind.is_keyword() => format!("<{}>", token.text),
            _ if token.text.len() > 10 => {
                let cut: String = token.text.chars().take(10).collect();
                format!("{}...", quote(&cut))
            }
            _ => quote(&token.text),
        };
        self.fail(token.pos, format_args!("unexpected {shown} in {context}"))
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].clone();
        // the last token is Eof, and stays
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
    }

    fn next_word(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn deeper(&mut self) -> Result<(), ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { self.fail(self.peek().pos, "template nested too deeply") } else { Ok(()) }
    }

    /// Nodes up to `{{end}}`, `{{else…` (whose keyword is returned, unconsumed beyond it) or the end.
    fn list(&mut self, top: bool) -> Result<(List, Token), ParseError> {
        let mut list = List::new();
        loop {
            let token = self.next();
            match token.kind {
                Kind::Text => list.push(Node::Text(token.text)),
                Kind::Open => {
                    let word = {
                        self.skip_space();
                        self.peek().clone()
                    };
                    match word.kind {
                        Kind::End => {
                            self.next();
                            let close = self.next_word();
                            if close.kind != Kind::Close {
                                return self.unexpected(&close, "end");
                            }
                            return Ok((list, word));
                        }
                        Kind::Else => {
                            self.next();
                            return Ok((list, word));
                        }
                        _ => list.push(self.action()?),
                    }
                }
                Kind::Eof if top => return Ok((list, token)),
                Kind::Eof => return self.fail(token.pos, "unexpected EOF"),
                _ => return self.unexpected(&token, "input"),
            }
        }
    }

    fn action(&mut self) -> Result<Node, ParseError> {
        let word = self.peek().clone();
        match word.kind {
            Kind::If => {
                self.next();
                Ok(Node::If(self.branch("if")?))
            }
            Kind::With => {
                self.next();
                Ok(Node::With(self.branch("with")?))
            }
            Kind::Range => {
                self.next();
                self.loops += 1;
                let branch = self.branch("range");
                self.loops -= 1;
                Ok(Node::Range(branch?))
            }
            Kind::Break | Kind::Continue => {
                self.next();
                let close = self.next_word();
                if close.kind != Kind::Close {
                    return self.unexpected(&close, &format!("{{{{{}}}}}", word.text));
                }
                if self.loops == 0 {
                    return self.fail(word.pos, format_args!("{{{{{}}}}} outside {{{{range}}}}", word.text));
                }
                Ok(if word.kind == Kind::Break { Node::Break } else { Node::Continue })
            }
            Kind::Define | Kind::Block | Kind::Template => {
                self.fail(word.pos, format_args!("{{{{{}}}}} is not supported in a format", word.text))
            }
            _ => Ok(Node::Action(self.pipeline("command", Kind::Close)?)),
        }
    }

    fn branch(&mut self, context: &str) -> Result<Branch, ParseError> {
        self.deeper()?;
        let scope = self.variables.len();
        let pipe = self.pipeline(context, Kind::Close)?;
        let (body, end) = self.list(false)?;
        let otherwise = if end.kind == Kind::Else { Some(self.else_part(context)?) } else { None };
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(Branch { pipe, body, otherwise })
    }

    /// After `{{else`: `}}`, or `if …`/`with …` chained without an `end` of its own.
    fn else_part(&mut self, context: &str) -> Result<List, ParseError> {
        let word = self.next_word();
        match word.kind {
            Kind::If if context == "if" => Ok(vec![Node::If(self.branch("if")?)]),
            Kind::With if context == "with" => Ok(vec![Node::With(self.branch("with")?)]),
            Kind::Close => {
                let (list, end) = self.list(false)?;
                if end.kind != Kind::End {
                    return self.fail(end.pos, "expected end; found {{else}}");
                }
                Ok(list)
            }
            _ => self.unexpected(&word, "else"),
        }
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, ParseError> {
        self.deeper()?;
        self.skip_space();
        let pos = self.peek().pos;
        let mut pipe = Pipe { pos, variables: Vec::new(), assigns: false, commands: Vec::new() };
        self.declarations(context, &mut pipe)?;
        loop {
            let token = self.next_word();
            match token.kind {
                kind if kind == end => {
                    self.check(&pipe, context, token.pos)?;
                    self.depth -= 1;
                    return Ok(pipe);
                }
                Kind::Bool
                | Kind::Char
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawStr
                | Kind::Str
                | Kind::Variable
                | Kind::LeftParen => {
                    self.at -= 1;
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(&token, context),
            }
        }
    }

    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Result<(), ParseError> {
        let start = self.at;
        let mut names = Vec::new();
        loop {
            let token = self.next_word();
            if token.kind != Kind::Variable {
                break;
            }
            names.push(token.text);
            let after = self.next_word();
            match after.kind {
                Kind::Declare | Kind::Assign => {
                    pipe.assigns = after.kind == Kind::Assign;
                    if pipe.assigns {
                        for name in &names {
                            self.known_variable(name, token.pos)?;
                        }
                    } else {
                        self.variables.extend(names.iter().cloned());
                    }
                    pipe.variables = names;
                    return Ok(());
                }
                Kind::Comma if context == "range" && names.len() < 2 => continue,
                Kind::Comma => {
                    return self.fail(after.pos, format_args!("too many declarations in {context}"));
                }
                _ => break,
            }
        }
        self.at = start;
        Ok(())
    }

    fn check(&self, pipe: &Pipe, context: &str, pos: usize) -> Result<(), ParseError> {
        if pipe.commands.is_empty() {
            return self.fail(pos, format_args!("missing value for {context}"));
        }
        for (stage, command) in pipe.commands.iter().enumerate().skip(1) {
            if let Some(Expr { kind, pos }) = command.args.first()
                && matches!(
                    kind,
                    ExprKind::Bool(_)
                        | ExprKind::Dot
                        | ExprKind::Nil
                        | ExprKind::Int(..)
                        | ExprKind::Float(..)
                        | ExprKind::Str(..)
                )
            {
                return self
                    .fail(*pos, format_args!("non executable command in pipeline stage {}", stage + 1));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command, ParseError> {
        let mut args = Vec::new();
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                args.push(operand);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::Close | Kind::RightParen => {
                    self.at -= 1;
                    break;
                }
                Kind::Pipe => {
                    self.skip_space();
                    if matches!(self.peek().kind, Kind::Close | Kind::RightParen) {
                        return self.fail(self.peek().pos, "missing value for command");
                    }
                    break;
                }
                _ => return self.unexpected(&token, "operand"),
            }
        }
        if args.is_empty() {
            return self.fail(self.peek().pos, "empty command");
        }
        Ok(Command { args })
    }

    /// A term and the fields chained to it.
    fn operand(&mut self) -> Result<Option<Expr>, ParseError> {
        let Some(term) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        let pos = self.peek().pos;
        let mut names = Vec::new();
        while self.peek().kind == Kind::Field {
            names.push(self.next().text[1..].to_owned());
        }
        let kind = match term.kind {
            ExprKind::Field(mut first) => {
                first.extend(names);
                ExprKind::Field(first)
            }
            ExprKind::Variable(name, mut first) => {
                first.extend(names);
                ExprKind::Variable(name, first)
            }
            ExprKind::Bool(_)
            | ExprKind::Str(..)
            | ExprKind::Int(..)
            | ExprKind::Float(..)
            | ExprKind::Nil
            | ExprKind::Dot => {
                return self.fail(pos, format_args!("unexpected . after term {}", quote(&term.to_string())));
            }
            _ => ExprKind::Chain(Box::new(term), names),
        };
        Ok(Some(Expr { pos, kind }))
    }

    fn term(&mut self) -> Result<Option<Expr>, ParseError> {
        let token = self.next_word();
        let kind = match token.kind {
            Kind::Identifier => {
                if !(self.functions)(&token.text) {
                    return self.fail(token.pos, format_args!("function {} not defined", quote(&token.text)));
                }
                ExprKind::Function(token.text)
            }
            Kind::Dot => ExprKind::Dot,
            Kind::Nil => ExprKind::Nil,
            Kind::Bool => ExprKind::Bool(token.text == "true"),
            Kind::Variable => {
                self.known_variable(&token.text, token.pos)?;
                ExprKind::Variable(token.text, Vec::new())
            }
            Kind::Field => ExprKind::Field(vec![token.text[1..].to_owned()]),
            Kind::Number => match number::parse(&token.text) {
                Some(Number::Int(value)) => ExprKind::Int(value, token.text),
                Some(Number::Float(value)) => ExprKind::Float(value, token.text),
                None => {
                    return self.fail(token.pos, format_args!("bad number syntax: {}", quote(&token.text)));
                }
            },
            Kind::Char => match unquote(&token.text).map(|s| s.chars().collect::<Vec<_>>()).as_deref() {
                Some([c]) => ExprKind::Int(i64::from(u32::from(*c)), token.text),
                _ => {
                    return self
                        .fail(token.pos, format_args!("malformed character constant: {}", token.text));
                }
            },
            Kind::Str | Kind::RawStr => match unquote(&token.text) {
                Some(value) => ExprKind::Str(value, token.text),
                None => return self.fail(token.pos, "invalid syntax"),
            },
            Kind::LeftParen => {
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                ExprKind::Pipe(Box::new(pipe))
            }
            _ => {
                self.at -= usize::from(token.kind != Kind::Eof);
                return Ok(None);
            }
        };
        Ok(Some(Expr { pos: token.pos, kind }))
    }

    fn known_variable(&self, name: &str, pos: usize) -> Result<(), ParseError> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        self.fail(pos, format_args!("undefined variable {}", quote(name)))
    }
}
