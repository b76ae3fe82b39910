//! The value of a tree.

use std::borrow::Cow;
use std::time::Duration;

use super::parser::{Function, Node, Operator};
use super::{Attributes, Value};

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// An attribute is not there.
    Missing,
    /// A value has the wrong type for what is done with it, or a number is out of range.
    Type,
}

type Outcome<'a> = Result<Value<'a>, Failed>;

pub(super) fn evaluate<'a>(node: &'a Node, attributes: &'a dyn Attributes) -> Outcome<'a> {
    let value = |node: &'a Node| evaluate(node, attributes);
    match node {
        Node::Literal(Value::String(text)) => Ok(Value::text(text)),
        Node::Literal(literal) => Ok(literal.clone()),
        Node::List(items) => items.iter().map(value).collect::<Result<_, _>>().map(Value::List),
        Node::Attribute(path) => attributes.attribute(path).ok_or(Failed::Missing),
        Node::Has(path) => Ok(Value::Bool(attributes.attribute(path).is_some())),
        Node::Not(inner) => Ok(Value::Bool(!truth(value(inner)?)?)),
        Node::Negate(inner) => match value(inner)? {
            Value::Int(number) => number.checked_neg().map(Value::Int).ok_or(Failed::Type),
            Value::Double(number) => Ok(Value::Double(-number)),
            _ => Err(Failed::Type),
        },
        Node::Choice(parts) => {
            let (condition, yes, no) = &**parts;
            if truth(value(condition)?)? { value(yes) } else { value(no) }
        }
        Node::Binary(Operator::Or, sides) => either(value(&sides.0), || value(&sides.1), true),
        Node::Binary(Operator::And, sides) => either(value(&sides.0), || value(&sides.1), false),
        Node::Binary(Operator::In, sides) => contains(&sides.0, &sides.1, attributes),
        Node::Binary(operator, sides) => binary(*operator, value(&sides.0)?, value(&sides.1)?),
        Node::Call(function, arguments) => {
            let [first, rest @ ..] = &**arguments else { return Err(Failed::Type) };
            match rest {
                [] => convert(*function, value(first)?),
                [second, ..] => compare_text(*function, &value(first)?, &value(second)?),
            }
        }
        Node::Matches(subject, regex) => match value(subject)? {
            Value::String(text) => Ok(Value::Bool(regex.matches(text.as_bytes()))),
            _ => Err(Failed::Type),
        },
    }
}

fn truth(value: Value<'_>) -> Result<bool, Failed> {
    match value {
        Value::Bool(value) => Ok(value),
        _ => Err(Failed::Type),
    }
}

/// `||` and `&&`: one side that settles it is enough, whatever became of the other.
fn either<'a>(left: Outcome<'a>, right: impl FnOnce() -> Outcome<'a>, settles: bool) -> Outcome<'a> {
    let left = left.and_then(truth);
    if left == Ok(settles) {
        return Ok(Value::Bool(settles));
    }
    let right = right().and_then(truth);
    if right == Ok(settles) {
        return Ok(Value::Bool(settles));
    }
    left.and(right).map(Value::Bool)
}

/// `in`: an element of a list, or a member of an attribute.
fn contains<'a>(needle: &'a Node, whole: &'a Node, attributes: &'a dyn Attributes) -> Outcome<'a> {
    let needle = evaluate(needle, attributes)?;
    if let Node::Attribute(path) = whole {
        let found = attributes.attribute(path).ok_or(Failed::Missing)?;
        return match (found, needle) {
            (Value::Map(_), Value::String(key)) => {
                let path: Vec<_> = path.iter().cloned().chain([crate::strings::Str::new(&key)]).collect();
                Ok(Value::Bool(attributes.attribute(&path).is_some()))
            }
            (Value::List(items), needle) => Ok(Value::Bool(has_element(&items, &needle))),
            _ => Err(Failed::Type),
        };
    }
    match evaluate(whole, attributes)? {
        Value::List(items) => Ok(Value::Bool(has_element(&items, &needle))),
        _ => Err(Failed::Type),
    }
}

fn has_element(items: &[Value<'_>], needle: &Value<'_>) -> bool {
    items.iter().any(|item| item.equals(needle) == Some(true))
}

fn binary<'a>(operator: Operator, left: Value<'a>, right: Value<'a>) -> Outcome<'a> {
    let order = || left.order(&right).ok_or(Failed::Type);
    Ok(match operator {
        Operator::Equal => Value::Bool(left.equals(&right).ok_or(Failed::Type)?),
        Operator::NotEqual => Value::Bool(!left.equals(&right).ok_or(Failed::Type)?),
        Operator::Less => Value::Bool(order()?.is_lt()),
        Operator::LessOrEqual => Value::Bool(order()?.is_le()),
        Operator::Greater => Value::Bool(order()?.is_gt()),
        Operator::GreaterOrEqual => Value::Bool(order()?.is_ge()),
        Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => {
            arithmetic(operator, left, right)?
        }
        Operator::Or | Operator::And | Operator::In => return Err(Failed::Type),
    })
}

fn arithmetic<'a>(operator: Operator, left: Value<'a>, right: Value<'a>) -> Outcome<'a> {
    match (operator, left, right) {
        (Operator::Add, Value::String(a), Value::String(b)) => {
            Ok(Value::String(Cow::Owned(a.into_owned() + &b)))
        }
        (Operator::Add, Value::Duration(a), Value::Duration(b)) => {
            a.checked_add(b).map(Value::Duration).ok_or(Failed::Type)
        }
        (operator, Value::Int(a), Value::Int(b)) => {
            let result = match operator {
                Operator::Add => a.checked_add(b),
                Operator::Subtract => a.checked_sub(b),
                Operator::Multiply => a.checked_mul(b),
                Operator::Divide => a.checked_div(b),
                Operator::Remainder => a.checked_rem(b),
                _ => None,
            };
            result.map(Value::Int).ok_or(Failed::Type)
        }
        (operator, Value::Double(a), Value::Double(b)) => Ok(Value::Double(match operator {
            Operator::Add => a + b,
            Operator::Subtract => a - b,
            Operator::Multiply => a * b,
            Operator::Divide => a / b,
            _ => return Err(Failed::Type),
        })),
        _ => Err(Failed::Type),
    }
}

fn convert(function: Function, value: Value<'_>) -> Outcome<'_> {
    match (function, value) {
        (Function::Size, Value::String(text)) => Ok(Value::Int(text.chars().count() as i64)),
        (Function::Size, Value::List(items)) => Ok(Value::Int(items.len() as i64)),
        (Function::Size, Value::Map(len)) => Ok(Value::Int(len as i64)),
        (Function::String, value @ Value::String(_)) => Ok(value),
        (
            Function::String,
            value @ (Value::Bool(_) | Value::Int(_) | Value::Double(_) | Value::Duration(_)),
        ) => Ok(Value::String(Cow::Owned(value.to_string()))),
        (Function::Int, value @ Value::Int(_)) => Ok(value),
        (Function::Int, Value::Double(number)) if number.abs() < i64::MAX as f64 => {
            Ok(Value::Int(number as i64))
        }
        (Function::Int, Value::String(text)) => text.parse().map(Value::Int).map_err(|_| Failed::Type),
        (Function::Double, value @ Value::Double(_)) => Ok(value),
        (Function::Double, Value::Int(number)) => Ok(Value::Double(number as f64)),
        (Function::Double, Value::String(text)) => text.parse().map(Value::Double).map_err(|_| Failed::Type),
        (Function::Duration, value @ Value::Duration(_)) => Ok(value),
        (Function::Duration, Value::String(text)) => duration(&text).map(Value::Duration).ok_or(Failed::Type),
        _ => Err(Failed::Type),
    }
}

fn compare_text<'a>(function: Function, subject: &Value<'_>, other: &Value<'_>) -> Outcome<'a> {
    let (Value::String(subject), Value::String(other)) = (subject, other) else { return Err(Failed::Type) };
    Ok(Value::Bool(match function {
        Function::StartsWith => subject.starts_with(&**other),
        Function::EndsWith => subject.ends_with(&**other),
        Function::Contains => subject.contains(&**other),
        _ => return Err(Failed::Type),
    }))
}

/// `1h2m3.5s`, `200ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    Some(total)
}
