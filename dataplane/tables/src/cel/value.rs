//! Values.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

/// A value. Strings that are not UTF-8 do not occur: who answers for an attribute decides what becomes of them.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer; unsigned ones are the same here.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// A string.
    String(Cow<'a, str>),
    /// A length of time.
    Duration(Duration),
    /// A list.
    List(Vec<Value<'a>>),
    /// An object, of which only is known that it exists and how many members it has.
    Map(usize),
}

impl<'a> Value<'a> {
    /// A borrowed string.
    pub fn text(text: &'a str) -> Value<'a> {
        Value::String(Cow::Borrowed(text))
    }

    /// The order of two values of comparable types.
    pub(super) fn order(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Int(a), Value::Double(b)) => (*a as f64).partial_cmp(b),
            (Value::Double(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
            (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// Whether two values are equal; `None` when their types can never be.
    pub(super) fn equals(&self, other: &Value<'_>) -> Option<bool> {
        match (self, other) {
            (Value::Null, Value::Null) => Some(true),
            (Value::Null, _) | (_, Value::Null) => Some(false),
            (Value::List(a), Value::List(b)) => {
                let pairs = a.iter().zip(b);
                Some(a.len() == b.len() && pairs.into_iter().all(|(a, b)| a.equals(b) == Some(true)))
            }
            (Value::Double(a), Value::Double(b)) if a.is_nan() || b.is_nan() => Some(false),
            (a, b) => a.order(b).map(|order| order == Ordering::Equal),
        }
    }
}

/// The text a value has in a label. Source: Envoy's `Expr::print`.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("NULL"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Double(value) => write!(f, "{value}"),
            Value::String(text) => f.write_str(text),
            Value::Duration(value) => write!(f, "{}s", value.as_secs_f64()),
            Value::List(_) => f.write_str("CelList value"),
            Value::Map(_) => f.write_str("CelMap value"),
        }
    }
}
