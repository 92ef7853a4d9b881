//! Runs a tree against a value.

use super::ast::{Branch, Command, Expr, ExprKind, List, Node, Pipe};
use super::functions::{self, Dialect, Failure};
use super::value::{StructKind, Value, absent};
use super::{ExecError, Template};

/// Output beyond this is refused: a format cannot be made to fill the memory.
const MAX_OUTPUT: usize = 256 << 20;

pub(super) struct Run<'t> {
    template: &'t Template,
    dialect: Dialect,
    /// A key that a map lacks is an error instead of `<no value>`.
    strict: bool,
    variables: Vec<(String, Value)>,
    pub(super) out: String,
}

/// How a list of nodes was left.
enum Flow {
    Through,
    Break,
    Continue,
}

type Done<T> = Result<T, ExecError>;

impl<'t> Run<'t> {
    pub(super) fn new(template: &'t Template, data: &Value, dialect: Dialect, strict: bool) -> Run<'t> {
        Run { template, dialect, strict, variables: vec![("$".to_owned(), data.clone())], out: String::new() }
    }

    fn fail<T>(&self, expr: &Expr, text: impl std::fmt::Display) -> Done<T> {
        Err(self.template.error_at(expr.pos, &expr.to_string(), text))
    }

    pub(super) fn run(&mut self, data: &Value) -> Done<()> {
        self.list(&self.template.root, data).map(|_| ())
    }

    fn list(&mut self, list: &List, dot: &Value) -> Done<Flow> {
        for node in list {
            match node {
                Node::Text(text) => self.write(text)?,
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.write(&value.print())?;
                    }
                }
                Node::If(branch) => match self.branch(branch, dot, false)? {
                    Flow::Through => {}
                    flow => return Ok(flow),
                },
                Node::With(branch) => match self.branch(branch, dot, true)? {
                    Flow::Through => {}
                    flow => return Ok(flow),
                },
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
            }
        }
        Ok(Flow::Through)
    }

    fn write(&mut self, text: &str) -> Done<()> {
        if self.out.len() + text.len() > MAX_OUTPUT {
            return Err(self.template.error_at(0, "", "output too long"));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn branch(&mut self, branch: &Branch, dot: &Value, moves_dot: bool) -> Done<Flow> {
        let scope = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = if value.is_true() {
            self.list(&branch.body, if moves_dot { &value } else { dot })
        } else if let Some(otherwise) = &branch.otherwise {
            self.list(otherwise, dot)
        } else {
            Ok(Flow::Through)
        };
        self.variables.truncate(scope);
        flow
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Done<()> {
        let scope = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let items: Vec<(Value, Value)> = match value {
            Value::List(items) => {
                items.into_iter().enumerate().map(|(i, v)| (Value::Int(i as i64), v)).collect()
            }
            Value::Map(entries) => entries.into_iter().map(|(k, v)| (Value::Str(k), v)).collect(),
            Value::Int(n) => (0..n.clamp(0, 1 << 20)).map(|i| (Value::Int(i), Value::Int(i))).collect(),
            Value::Missing | Value::Nil(_) => Vec::new(),
            other => {
                let text = format!("range can't iterate over {}", other.print());
                return Err(self.template.error_at(branch.pipe.pos, &branch.pipe.to_string(), text));
            }
        };
        if items.is_empty()
            && let Some(otherwise) = &branch.otherwise
        {
            self.list(otherwise, dot)?;
        }
        for (key, item) in items {
            match branch.pipe.variables.as_slice() {
                [one] => self.set(one, item.clone(), branch.pipe.assigns, scope),
                [first, second] => {
                    self.set(first, key, branch.pipe.assigns, scope);
                    self.set(second, item.clone(), branch.pipe.assigns, scope);
                }
                _ => {}
            }
            let flow = self.list(&branch.body, &item)?;
            self.variables
                .truncate(scope + if branch.pipe.assigns { 0 } else { branch.pipe.variables.len() });
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        self.variables.truncate(scope);
        Ok(())
    }

    /// Declares a variable, or sets the innermost one of that name (declared at or after `scope` if new).
    fn set(&mut self, name: &str, value: Value, assigns: bool, scope: usize) {
        let from = if assigns { 0 } else { scope };
        match self.variables[from..].iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, slot)) => *slot = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Done<Value> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Missing);
        for name in &pipe.variables {
            if pipe.assigns {
                self.set(name, value.clone(), true, 0);
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    /// `last` is the value piped in, which becomes the last argument.
    fn command(&mut self, command: &Command, dot: &Value, last: Option<Value>) -> Done<Value> {
        let Some((first, args)) = command.args.split_first() else { return Ok(Value::Missing) };
        let has_args = !args.is_empty() || last.is_some();
        match &first.kind {
            ExprKind::Function(name) => self.function(first, name, args, dot, last),
            ExprKind::Field(names) => self.fields(first, dot.clone(), names, args, dot, last),
            ExprKind::Variable(name, names) => {
                let value = self.variable(name);
                self.fields(first, value, names, args, dot, last)
            }
            ExprKind::Chain(inner, names) => {
                let value = self.expr(inner, dot)?;
                self.fields(first, value, names, args, dot, last)
            }
            ExprKind::Nil => self.fail(first, "nil is not a command"),
            _ if has_args => self.fail(first, format_args!("can't give argument to non-function {first}")),
            _ => self.expr(first, dot),
        }
    }

    fn expr(&mut self, expr: &Expr, dot: &Value) -> Done<Value> {
        Ok(match &expr.kind {
            ExprKind::Dot => dot.clone(),
            ExprKind::Nil => Value::NIL,
            ExprKind::Bool(b) => Value::Bool(*b),
            ExprKind::Int(n, _) => Value::Int(*n),
            ExprKind::Float(n, _) => Value::Float(*n),
            ExprKind::Str(s, _) => Value::Str(s.clone()),
            ExprKind::Field(names) => self.fields(expr, dot.clone(), names, &[], dot, None)?,
            ExprKind::Variable(name, names) => {
                let value = self.variable(name);
                self.fields(expr, value, names, &[], dot, None)?
            }
            ExprKind::Function(name) => self.function(expr, name, &[], dot, None)?,
            ExprKind::Chain(inner, names) => {
                let value = self.expr(inner, dot)?;
                self.fields(expr, value, names, &[], dot, None)?
            }
            ExprKind::Pipe(pipe) => self.pipe(pipe, dot)?,
        })
    }

    fn variable(&self, name: &str) -> Value {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map_or(Value::Missing, |(_, value)| value.clone())
    }

    /// Follows `names` from `value`; only the last may take arguments.
    fn fields(
        &mut self,
        expr: &Expr,
        mut value: Value,
        names: &[String],
        args: &[Expr],
        dot: &Value,
        last: Option<Value>,
    ) -> Done<Value> {
        let has_args = !args.is_empty() || last.is_some();
        let Some((final_name, path)) = names.split_last() else {
            if has_args {
                return self.fail(expr, format_args!("can't give argument to non-function {expr}"));
            }
            return Ok(value);
        };
        for name in path {
            value = self.field(expr, &value, name, false)?;
        }
        if let Value::Struct(object) = &value
            && let Some(method) = object.method(final_name)
        {
            let mut given = Vec::new();
            for arg in args {
                given.push(self.expr(arg, dot)?);
            }
            given.extend(last);
            return match given.as_slice() {
                [Value::Str(key)] => Ok(Value::Str(method(key))),
                [other] => {
                    let got = other.type_name();
                    self.fail(expr, format_args!("wrong type for value; expected string; got {got}"))
                }
                _ => {
                    let got = given.len();
                    self.fail(expr, format_args!("wrong number of args for {final_name}: want 1 got {got}"))
                }
            };
        }
        self.field(expr, &value, final_name, has_args)
    }

    fn field(&self, expr: &Expr, value: &Value, name: &str, has_args: bool) -> Done<Value> {
        match value {
            Value::Struct(object) => match object.field(name) {
                Some(field) if has_args => {
                    let name = field.name;
                    self.fail(expr, format_args!("{name} has arguments but cannot be invoked as function"))
                }
                Some(field) if field.omitted && matches!(field.value, Value::Missing) => {
                    Ok(absent(field.name))
                }
                Some(field) => Ok(field.value.clone()),
                None if object.kind == StructKind::Header => Ok(Value::str("")),
                // docker reads the answer again as a plain map then, which words it so
                None if self.strict => {
                    self.fail(expr, format_args!("map has no entry for key {}", super::quote::quote(name)))
                }
                None => {
                    self.fail(expr, format_args!("can't evaluate field {name} in type {}", object.type_name))
                }
            },
            Value::Map(_) if has_args => {
                self.fail(expr, format_args!("{name} is not a method but has arguments"))
            }
            Value::Map(entries) => match Value::get(entries, name) {
                Some(value) => Ok(value.clone()),
                None if self.strict => {
                    self.fail(expr, format_args!("map has no entry for key {}", super::quote::quote(name)))
                }
                None => Ok(Value::Missing),
            },
            Value::Missing if self.strict => {
                self.fail(expr, format_args!("nil data; no entry for key {}", super::quote::quote(name)))
            }
            Value::Missing => Ok(Value::Missing),
            Value::Nil(_) => self.fail(expr, format_args!("nil pointer evaluating interface {{}}.{name}")),
            other => {
                self.fail(expr, format_args!("can't evaluate field {name} in type {}", other.type_name()))
            }
        }
    }

    fn function(
        &mut self,
        expr: &Expr,
        name: &str,
        args: &[Expr],
        dot: &Value,
        last: Option<Value>,
    ) -> Done<Value> {
        if matches!(name, "and" | "or") {
            return self.short_circuit(expr, name, args, dot, last);
        }
        let mut given = Vec::with_capacity(args.len() + 1);
        for arg in args {
            given.push(self.expr(arg, dot)?);
        }
        given.extend(last);
        match functions::call(name, &given, self.dialect) {
            Ok(value) => Ok(value),
            Err(Failure::Returned(text)) => {
                let command = args.iter().fold(expr.to_string(), |command, arg| format!("{command} {arg}"));
                Err(self.template.error_at(expr.pos, &command, format_args!("error calling {name}: {text}")))
            }
            Err(Failure::Signature(text)) => self.fail(expr, text),
            Err(Failure::Type { index, expected, got }) => {
                let Some(arg) = args.get(index) else {
                    return self
                        .fail(expr, format_args!("wrong type for value; expected {expected}; got {got}"));
                };
                match arg.kind {
                    ExprKind::Int(..) | ExprKind::Float(..) | ExprKind::Bool(_) | ExprKind::Str(..) => {
                        let expected = if expected == "int" { "integer" } else { expected };
                        self.fail(arg, format_args!("expected {expected}; found {arg}"))
                    }
                    _ => self.fail(arg, format_args!("wrong type for value; expected {expected}; got {got}")),
                }
            }
        }
    }

    fn short_circuit(
        &mut self,
        expr: &Expr,
        name: &str,
        args: &[Expr],
        dot: &Value,
        last: Option<Value>,
    ) -> Done<Value> {
        let mut value = None;
        for arg in args {
            let next = self.expr(arg, dot)?;
            let stop = next.is_true() == (name == "or");
            value = Some(next);
            if stop {
                return Ok(value.unwrap_or(Value::Missing));
            }
        }
        match last.or(value) {
            Some(value) => Ok(value),
            None => self.fail(expr, format_args!("wrong number of args for {name}: want at least 1 got 0")),
        }
    }
}
