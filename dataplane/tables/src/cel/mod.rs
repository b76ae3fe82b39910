//! Expressions of the Common Expression Language over the attributes of a request or connection.
//!
//! *What it is.* The `cel` crate's parser and interpreter behind a compiled [`Expression`] that knows which attributes it
//! needs and asks an [`Attributes`] for just those.
//!
//! *What it is not.* Timestamps, and anything that would need all members of an attribute at once (a computed key,
//! iteration), are refused when the expression is compiled. Source: the CEL language definition; attributes by
//! Envoy, "Attributes".
//!
//! Invariants: source length and nesting are bounded by [`crate::limits`]; evaluation visits constants of the expression
//! only, so it cannot run long; a failure is a value the caller sees.

mod needs;
mod span;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::parser::{Expression as Tree, PrattParser};
use cel::{Context, Env, ExecutionError};

use crate::limits::{CEL_BYTES_MAX, CEL_DEPTH_MAX, CEL_NODES_MAX};
use crate::regex_re2::Regex;
use crate::strings::Str;

pub use value::Value;

/// A compiled expression.
#[derive(Clone)]
pub struct Expression {
    text: Str,
    form: Form,
}

#[derive(Clone)]
enum Form {
    /// Nothing but an attribute: needs no interpreter.
    Attribute(Box<[Str]>),
    Program {
        tree: Arc<Tree>,
        needs: Arc<[needs::Member]>,
        patterns: Arc<[Regex]>,
    },
}

/// Where an expression's attributes come from.
pub trait Attributes {
    /// The value at a path such as `["request", "headers", "x-id"]`; `None` when there is none. A path that ends at an
    /// object may answer [`Value::Map`] to say that it exists.
    fn attribute(&self, path: &[Str]) -> Option<Value<'_>>;
}

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// An attribute is not there.
    Missing,
    /// A value has the wrong type for what is done with it, or a number is out of range.
    Type,
}

/// Why a text is no expression we can evaluate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CelError {
    /// What is wrong, and where where that is known.
    pub text: String,
}

impl CelError {
    fn new(text: impl Into<String>) -> CelError {
        CelError { text: text.into() }
    }
}

impl fmt::Display for CelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for CelError {}

/// The functions and types of the language; [`span`] adds lengths of time.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib().with_optional_support(false);
    span::declare(&mut environment);
    Arc::new(environment)
});

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// At the first thing that is not understood or not supported.
    pub fn parse(text: &str) -> Result<Expression, CelError> {
        if text.len() > CEL_BYTES_MAX {
            return Err(CelError::new(format!("longer than {CEL_BYTES_MAX} bytes")));
        }
        // This of the crate's two parsers bounds nesting and size itself; the other overflows the stack.
        let parser =
            PrattParser::new().max_recursion_depth(CEL_DEPTH_MAX).max_expression_node_count(CEL_NODES_MAX);
        let tree = parser.parse(text).map_err(|errors| match errors.errors.first() {
            Some(first) => {
                CelError::new(format!("line {}, column {}: {}", first.pos.0, first.pos.1, first.msg))
            }
            None => CelError::new("this is no expression"),
        })?;
        let found = needs::find(&tree)?;
        let form = match needs::path(&tree) {
            Some(path) if !needs::is_type(&path) => Form::Attribute(path.into()),
            _ => Form::Program {
                tree: Arc::new(tree),
                needs: found.members.into(),
                patterns: found.patterns.into(),
            },
        };
        Ok(Expression { text: Str::new(text), form })
    }

    /// The text it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its value.
    ///
    /// # Errors
    /// When an attribute is not there, or a value has the wrong type for what is done with it.
    pub fn evaluate<'a>(&'a self, attributes: &'a dyn Attributes) -> Result<Value<'a>, Failed> {
        let (tree, needs, patterns) = match &self.form {
            Form::Attribute(path) => return attributes.attribute(path).ok_or(Failed::Missing),
            Form::Program { tree, needs, patterns } => (tree, needs, patterns),
        };
        let mut context = Context::with_env(ENVIRONMENT.clone());
        for member in needs.iter() {
            if let Some(value) = member.value(&mut Vec::new(), attributes) {
                context.add_variable_as_val(member.name.as_str(), value);
            }
        }
        if !patterns.is_empty() {
            span::add_matches(&mut context, patterns.clone());
        }
        let value = cel::Value::resolve_val(tree, &context);
        value.map_err(Failed::from).and_then(|value| Value::from_cel(value.as_ref()))
    }

    /// Whether it holds; a failure and anything but `true` do not.
    pub fn holds(&self, attributes: &dyn Attributes) -> bool {
        matches!(self.evaluate(attributes), Ok(Value::Bool(true)))
    }
}

impl From<ExecutionError> for Failed {
    fn from(error: ExecutionError) -> Failed {
        match error {
            ExecutionError::NoSuchKey(_) | ExecutionError::UndeclaredReference(_) => Failed::Missing,
            _ => Failed::Type,
        }
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Expression) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}
