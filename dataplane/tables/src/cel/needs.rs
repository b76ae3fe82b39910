//! Which attributes an expression needs, found once when it is compiled.

use std::collections::HashMap;

use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators};
use cel::common::types::{CelMap, CelMapKey};
use cel::common::value::Val;
use cel::parser::Expression as Tree;

use super::{Attributes, CelError};
use crate::limits::CEL_DEPTH_MAX;
use crate::regex_re2::Regex;
use crate::strings::Str;

/// Names of types; they are values of the language and no attributes.
const TYPES: [&str; 12] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
    "optional_type",
    "google",
];

/// The functions that are there. Source: the CEL language definition, "List of Standard Definitions", without timestamps.
const FUNCTIONS: [&str; 14] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// An attribute, or an object with the members that are asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) name: Str,
    members: Vec<Member>,
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) members: Vec<Member>,
    pub(super) patterns: Vec<Regex>,
}

/// The path of an expression that is nothing but an attribute.
pub(super) fn path(tree: &Tree) -> Option<Vec<Str>> {
    match &tree.expr {
        Expr::Ident(name) => Some(vec![Str::new(name)]),
        Expr::Select(select) if !select.test => {
            let mut path = path(&select.operand)?;
            path.push(Str::new(&select.field));
            Some(path)
        }
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let mut path = path(call.args.first()?)?;
            path.push(literal(call.args.get(1)?)?);
            Some(path)
        }
        _ => None,
    }
}

/// Whether a path names a type.
pub(super) fn is_type(path: &[Str]) -> bool {
    path.first().is_some_and(|root| TYPES.contains(&root.as_str()))
}

/// Collects what `tree` needs and refuses what cannot be evaluated.
pub(super) fn find(tree: &Tree) -> Result<Found, CelError> {
    let mut search = Search { found: Found::default(), bound: Vec::new() };
    search.visit(tree, 0)?;
    Ok(search.found)
}

fn literal(tree: &Tree) -> Option<Str> {
    match &tree.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(Str::new(text.inner())),
        _ => None,
    }
}

struct Search {
    found: Found,
    /// Variables of the comprehensions around.
    bound: Vec<String>,
}

impl Search {
    fn visit(&mut self, tree: &Tree, depth: u16) -> Result<(), CelError> {
        if depth > CEL_DEPTH_MAX {
            return Err(CelError::new(format!("nested deeper than {CEL_DEPTH_MAX}")));
        }
        if let Some(path) = self.attribute(tree) {
            if path.len() > usize::from(CEL_DEPTH_MAX) {
                return Err(CelError::new(format!("an attribute of more than {CEL_DEPTH_MAX} names")));
            }
            self.add(&path);
            return Ok(());
        }
        match &tree.expr {
            Expr::Call(call) => self.call(call, depth),
            Expr::Select(select) => match self.attribute(&select.operand) {
                // `has(a.b)`
                Some(mut path) => {
                    path.push(Str::new(&select.field));
                    self.add(&path);
                    Ok(())
                }
                None => self.visit(&select.operand, depth + 1),
            },
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.visit(element, depth + 1)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key, depth + 1)?;
                    self.visit(&entry.value, depth + 1)
                }
                EntryExpr::StructField(_) => Err(CelError::new("a message cannot be made here")),
            }),
            Expr::Comprehension(loops) => {
                if self.attribute(&loops.iter_range).is_some() {
                    return Err(CelError::new("an attribute's members cannot be iterated"));
                }
                self.visit(&loops.iter_range, depth + 1)?;
                self.visit(&loops.accu_init, depth + 1)?;
                let outer = self.bound.len();
                self.bound.extend([loops.iter_var.clone(), loops.accu_var.clone()]);
                self.bound.extend(loops.iter_var2.clone());
                for part in [&loops.loop_cond, &loops.loop_step, &loops.result] {
                    self.visit(part, depth + 1)?;
                }
                self.bound.truncate(outer);
                Ok(())
            }
            Expr::Struct(_) => Err(CelError::new("a message cannot be made here")),
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }

    fn call(&mut self, call: &CallExpr, depth: u16) -> Result<(), CelError> {
        let name = call.func_name.as_str();
        let is_operator = !name.starts_with(|first: char| first.is_ascii_alphabetic());
        if !is_operator && !FUNCTIONS.contains(&name) {
            return Err(CelError::new(format!("the function {name}() is not supported")));
        }
        match (name, call.args.as_slice()) {
            (operators::INDEX, [whole, _]) if self.attribute(whole).is_some() => {
                return Err(CelError::new("only a string can be the index of an attribute"));
            }
            (operators::IN, [needle, whole]) => {
                if let Some(mut path) = self.attribute(whole) {
                    let Some(key) = literal(needle) else {
                        return Err(CelError::new("only a string can be looked for in an attribute"));
                    };
                    path.push(key);
                    self.add(&path);
                    return Ok(());
                }
            }
            ("matches", arguments) => {
                let pattern = arguments.last().and_then(literal);
                let pattern = pattern.ok_or_else(|| CelError::new("matches() needs a literal pattern"))?;
                let regex = Regex::search(pattern).map_err(|error| CelError::new(error.to_string()))?;
                self.found.patterns.push(regex);
            }
            _ => {}
        }
        if let Some(target) = &call.target {
            self.visit(target, depth + 1)?;
        }
        call.args.iter().try_for_each(|argument| self.visit(argument, depth + 1))
    }

    fn attribute(&self, tree: &Tree) -> Option<Vec<Str>> {
        let path = path(tree)?;
        let root = path.first()?;
        let is_bound = self.bound.iter().any(|bound| bound == root.as_str());
        (!is_bound && !is_type(&path)).then_some(path)
    }

    fn add(&mut self, path: &[Str]) {
        let mut members = &mut self.found.members;
        for name in path {
            let index = members.iter().position(|member| member.name == *name).unwrap_or_else(|| {
                members.push(Member { name: name.clone(), members: Vec::new() });
                members.len() - 1
            });
            members = &mut members[index].members;
        }
    }
}

impl Member {
    /// Its value for one request or connection; `path` leads to it. An object always is there, so that `has()` of a
    /// member can say no.
    pub(super) fn value<'a>(
        &'a self,
        path: &mut Vec<Str>,
        attributes: &'a dyn Attributes,
    ) -> Option<Box<dyn Val + 'a>> {
        path.push(self.name.clone());
        let value = if self.members.is_empty() {
            attributes.attribute(path).map(super::Value::into_cel)
        } else {
            self.object(path, attributes)
        };
        path.pop();
        value
    }

    fn object<'a>(
        &'a self,
        path: &mut Vec<Str>,
        attributes: &'a dyn Attributes,
    ) -> Option<Box<dyn Val + 'a>> {
        let mut object: HashMap<CelMapKey<'a>, Box<dyn Val + 'a>> =
            HashMap::with_capacity(self.members.len());
        for member in &self.members {
            if let Some(value) = member.value(path, attributes) {
                object.insert(CelMapKey::from(member.name.as_str()), value);
            }
        }
        Some(Box::new(CelMap::from(object)))
    }
}
