//! The syntax tree of a template, and how Go prints its nodes in errors.

use std::fmt;

pub(crate) type List = Vec<Node>;

#[derive(Debug)]
pub(crate) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
}

/// The common shape of `if`, `with` and `range`.
#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) pipe: Pipe,
    pub(crate) body: List,
    pub(crate) otherwise: Option<List>,
}

/// `$a, $b := cmd | cmd`.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) pos: usize,
    /// Variables with their `$`.
    pub(crate) variables: Vec<String>,
    /// `=` instead of `:=`.
    pub(crate) assigns: bool,
    pub(crate) commands: Vec<Command>,
}

#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) args: Vec<Expr>,
}

#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) pos: usize,
    pub(crate) kind: ExprKind,
}

#[derive(Debug)]
pub(crate) enum ExprKind {
    Dot,
    Nil,
    Bool(bool),
    Int(i64, String),
    Float(f64, String),
    Str(String, String),
    Field(Vec<String>),
    /// The name with its `$`, then fields.
    Variable(String, Vec<String>),
    Function(String),
    Chain(Box<Expr>, Vec<String>),
    Pipe(Box<Pipe>),
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assigns { "=" } else { ":=" })?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            for (j, arg) in command.args.iter().enumerate() {
                if j > 0 {
                    f.write_str(" ")?;
                }
                write!(f, "{arg}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Dot => f.write_str("."),
            ExprKind::Nil => f.write_str("nil"),
            ExprKind::Bool(b) => write!(f, "{b}"),
            ExprKind::Int(_, text) | ExprKind::Float(_, text) | ExprKind::Str(_, text) => f.write_str(text),
            ExprKind::Field(names) => fields(f, names),
            ExprKind::Variable(name, names) => {
                f.write_str(name)?;
                fields(f, names)
            }
            ExprKind::Function(name) => f.write_str(name),
            ExprKind::Chain(inner, names) => {
                write!(f, "{inner}")?;
                fields(f, names)
            }
            ExprKind::Pipe(pipe) => write!(f, "({pipe})"),
        }
    }
}

fn fields(f: &mut fmt::Formatter<'_>, names: &[String]) -> fmt::Result {
    names.iter().try_for_each(|name| write!(f, ".{name}"))
}

/// Whether any expression of the tree names `field` (of anything), or shows the whole object with `json .`.
pub(crate) fn mentions(list: &List, field: &str) -> bool {
    list.iter().any(|node| match node {
        Node::Text(_) | Node::Break | Node::Continue => false,
        Node::Action(pipe) => pipe_mentions(pipe, field),
        Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
            pipe_mentions(&branch.pipe, field)
                || mentions(&branch.body, field)
                || branch.otherwise.as_ref().is_some_and(|list| mentions(list, field))
        }
    })
}

fn pipe_mentions(pipe: &Pipe, field: &str) -> bool {
    let whole = |command: &Command| matches!(command.args.as_slice(), [Expr { kind: ExprKind::Function(name), .. }, Expr { kind: ExprKind::Dot, .. }] if name == "json");
    pipe.commands
        .iter()
        .any(|command| whole(command) || command.args.iter().any(|arg| expr_mentions(arg, field)))
}

fn expr_mentions(expr: &Expr, field: &str) -> bool {
    match &expr.kind {
        ExprKind::Field(names) | ExprKind::Variable(_, names) => names.iter().any(|name| name == field),
        ExprKind::Chain(inner, names) => {
            names.iter().any(|name| name == field) || expr_mentions(inner, field)
        }
        ExprKind::Pipe(pipe) => pipe_mentions(pipe, field),
        _ => false,
    }
}
