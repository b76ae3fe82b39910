//! Expressions of the Common Expression Language, as far as Istio's telemetry uses them.
//!
//! *What it is.* A parser that turns text into a tree once, when configuration is compiled, and an evaluator that asks
//! an [`Attributes`] for the values of a request or connection.
//!
//! *What it is not.* The whole language: comprehension macros, message construction, timestamps, byte strings and
//! indexing by a computed key are refused with the place in the text. Source: the CEL language definition; attributes
//! by Envoy, "Attributes".
//!
//! Invariants: no recursion deeper than [`CEL_DEPTH_MAX`](crate::limits::CEL_DEPTH_MAX); evaluation cannot loop, and
//! cannot fail in a way that the caller does not see.

mod evaluate;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;
mod value;

pub use evaluate::Failed;
pub use value::Value;

use std::fmt;

use crate::limits::CEL_BYTES_MAX;
use crate::strings::Str;

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Expression {
    text: Str,
    root: parser::Node,
}

/// Where an expression's attributes come from.
pub trait Attributes {
    /// The value at a path such as `["request", "headers", "x-id"]`; `None` when there is none. A path that ends at an
    /// object may answer [`Value::Map`] to say that it exists.
    fn attribute(&self, path: &[Str]) -> Option<Value<'_>>;
}

/// Why a text is no expression we can evaluate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CelError {
    /// Byte in the text.
    pub at: usize,
    /// One sentence.
    pub text: String,
}

impl fmt::Display for CelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.text)
    }
}

impl std::error::Error for CelError {}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// At the first thing that is not understood or not supported.
    pub fn parse(text: &str) -> Result<Expression, CelError> {
        if text.len() > CEL_BYTES_MAX {
            return Err(CelError { at: CEL_BYTES_MAX, text: format!("longer than {CEL_BYTES_MAX} bytes") });
        }
        Ok(Expression { text: Str::new(text), root: parser::parse(text)? })
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
        evaluate::evaluate(&self.root, attributes)
    }

    /// Whether it holds; a failure and anything but `true` do not.
    pub fn holds(&self, attributes: &dyn Attributes) -> bool {
        matches!(self.evaluate(attributes), Ok(Value::Bool(true)))
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Expression) -> bool {
        self.text == other.text
    }
}
