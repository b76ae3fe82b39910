//! Values.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString};
use cel::common::value::Val;

use super::Failed;
use super::span::Span;

/// A value. Strings that are not UTF-8 do not occur: who answers for an attribute decides what becomes of them.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer; unsigned ones are the same here, those past `i64::MAX` fail.
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

    /// The interpreter's form.
    pub(super) fn into_cel(self) -> Box<dyn Val + 'a> {
        match self {
            Value::Null => Box::new(CelNull),
            Value::Bool(value) => Box::new(CelBool::from(value)),
            Value::Int(value) => Box::new(CelInt::from(value)),
            Value::Double(value) => Box::new(CelDouble::from(value)),
            Value::String(text) => Box::new(CelString::from(text)),
            Value::Duration(length) => Box::new(Span(length)),
            Value::List(items) => {
                Box::new(CelList::from(items.into_iter().map(Value::into_cel).collect::<Vec<_>>()))
            }
            // Its members are not known, but how many there are.
            Value::Map(count) => {
                let members = (0..count as i64).map(|key| (CelMapKey::from(key), Value::Null.into_cel()));
                Box::new(CelMap::from(members.collect::<HashMap<_, _>>()))
            }
        }
    }

    /// From the interpreter's form; what has no form here fails.
    pub(super) fn from_cel(value: &dyn Val) -> Result<Value<'static>, Failed> {
        if let Some(length) = value.downcast_ref::<Span>() {
            return Ok(Value::Duration(length.0));
        }
        let owned = cel::Value::try_from(value).map_err(|_| Failed::Type)?;
        owned.try_into()
    }
}

impl TryFrom<cel::Value> for Value<'static> {
    type Error = Failed;

    fn try_from(value: cel::Value) -> Result<Value<'static>, Failed> {
        Ok(match value {
            cel::Value::Null => Value::Null,
            cel::Value::Bool(value) => Value::Bool(value),
            cel::Value::Int(value) => Value::Int(value),
            cel::Value::UInt(value) => Value::Int(i64::try_from(value).map_err(|_| Failed::Type)?),
            cel::Value::Float(value) => Value::Double(value),
            cel::Value::String(text) => Value::String(Cow::Owned(Arc::unwrap_or_clone(text))),
            cel::Value::List(items) => {
                Value::List(items.iter().cloned().map(Value::try_from).collect::<Result<_, _>>()?)
            }
            cel::Value::Map(map) => Value::Map(map.map.len()),
            _ => return Err(Failed::Type),
        })
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
            Value::Duration(value) => write_span(f, *value),
            Value::List(_) => f.write_str("CelList value"),
            Value::Map(_) => f.write_str("CelMap value"),
        }
    }
}

/// A length of time in the largest unit that fits: `1h2m3.5s`, `1.5ms`, `495.588us`. Source: `absl::FormatDuration`.
fn write_span(f: &mut fmt::Formatter<'_>, length: Duration) -> fmt::Result {
    let nanos = length.subsec_nanos();
    match (length.as_secs(), nanos) {
        (0, 0) => f.write_str("0"),
        (0, 1..1_000) => write!(f, "{nanos}ns"),
        (0, 1_000..1_000_000) => write!(f, "{}us", f64::from(nanos) / 1e3),
        (0, _) => write!(f, "{}ms", f64::from(nanos) / 1e6),
        (seconds, _) => {
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            if hours > 0 {
                write!(f, "{hours}h")?;
            }
            if minutes > 0 {
                write!(f, "{minutes}m")?;
            }
            let rest = Duration::new(seconds % 60, nanos);
            if rest.is_zero() { Ok(()) } else { write!(f, "{}s", rest.as_secs_f64()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_in_the_largest_unit_that_fits() {
        for (nanos, text) in [
            (0, "0"),
            (7, "7ns"),
            (495_588, "495.588us"),
            (1_150_174, "1.150174ms"),
            (2_500_000_000, "2.5s"),
            (90_000_000_000, "1m30s"),
            (3_723_500_000_000, "1h2m3.5s"),
        ] {
            assert_eq!(Value::Duration(Duration::from_nanos(nanos)).to_string(), text);
        }
    }
}
