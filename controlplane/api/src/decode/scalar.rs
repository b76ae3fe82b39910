//! Scalars of proto3's JSON mapping: what each field type takes, and how to write it otherwise.

use prost_reflect::bytes::Bytes;
use prost_reflect::{Kind, Value as ProtoValue};

use crate::decode::base64;
use crate::decode::problem::Problems;
use crate::decode::suggest;
use crate::decode::tree::{Node, Scalar};

/// The name of a scalar type for messages.
pub(crate) fn name_of(kind: &Kind) -> &'static str {
    match kind {
        Kind::String => "a string",
        Kind::Bytes => "base64 text",
        Kind::Bool => "true or false",
        Kind::Enum(_) => "one of a set of words",
        Kind::Double | Kind::Float => "a number",
        Kind::Message(_) => "a mapping",
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64 => "an integer",
    }
}

/// Reads one scalar as a field of type `kind`; what does not fit is reported.
pub(crate) fn read_scalar(
    scalar: &Scalar,
    node: &Node,
    kind: &Kind,
    problems: &mut Problems,
) -> Option<ProtoValue> {
    match kind {
        Kind::String => read_string(scalar, node, problems).map(ProtoValue::String),
        Kind::Bool => read_bool(scalar, node, problems).map(ProtoValue::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            integer(scalar, node, problems, i32::MIN.into(), i32::MAX.into())
                .and_then(|value| i32::try_from(value).ok())
                .map(ProtoValue::I32)
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            integer(scalar, node, problems, i64::MIN.into(), i64::MAX.into())
                .and_then(|value| i64::try_from(value).ok())
                .map(ProtoValue::I64)
        }
        Kind::Uint32 | Kind::Fixed32 => integer(scalar, node, problems, 0, u32::MAX.into())
            .and_then(|value| u32::try_from(value).ok())
            .map(ProtoValue::U32),
        Kind::Uint64 | Kind::Fixed64 => integer(scalar, node, problems, 0, u64::MAX.into())
            .and_then(|value| u64::try_from(value).ok())
            .map(ProtoValue::U64),
        Kind::Double => read_float(scalar, node, problems).map(ProtoValue::F64),
        // Narrowing is what the field's type asks for.
        Kind::Float => read_float(scalar, node, problems).map(|value| ProtoValue::F32(value as f32)),
        Kind::Bytes => {
            let decoded = match scalar {
                Scalar::Text(text) => base64::decode(text),
                _ => None,
            };
            if decoded.is_none() {
                let fix = "encode it with `base64`".to_owned();
                problems.error(
                    node.at,
                    format!("expected base64 text, found {}", node.describe()),
                    Some(fix),
                );
            }
            decoded.map(|bytes| ProtoValue::Bytes(Bytes::from(bytes)))
        }
        Kind::Enum(descriptor) => {
            let number = match scalar {
                Scalar::Text(word) => descriptor.get_value_by_name(word).map(|value| value.number()),
                // A plain `ON` or `NO` may be the name of a value.
                Scalar::BoolWord(_, word) => descriptor.get_value_by_name(word).map(|value| value.number()),
                Scalar::Integer(number) => i32::try_from(*number)
                    .ok()
                    .and_then(|number| descriptor.get_value(number))
                    .map(|value| value.number()),
                Scalar::Null | Scalar::Bool(_) | Scalar::Float(_) => None,
            };
            if number.is_none() {
                let fix = suggest::for_enum(scalar, descriptor);
                problems.error(node.at, format!("{} is not one of the values", node.describe()), Some(fix));
            }
            number.map(ProtoValue::EnumNumber)
        }
        Kind::Message(_) => None,
    }
}

/// Reads a string; numbers and booleans are refused as Kubernetes refuses them.
pub(crate) fn read_string(scalar: &Scalar, node: &Node, problems: &mut Problems) -> Option<String> {
    let written = match scalar {
        Scalar::Text(text) => return Some(text.clone()),
        Scalar::Null => None,
        Scalar::Bool(value) => Some(value.to_string()),
        Scalar::Integer(value) => Some(value.to_string()),
        Scalar::Float(value) => Some(value.to_string()),
        Scalar::BoolWord(_, word) => Some(word.clone()),
    };
    let fix = written.map(|written| format!("quote it: \"{written}\""));
    problems.error(node.at, format!("expected a string, found {}", node.describe()), fix);
    None
}

fn read_bool(scalar: &Scalar, node: &Node, problems: &mut Problems) -> Option<bool> {
    match scalar {
        Scalar::Bool(value) | Scalar::BoolWord(value, _) => Some(*value),
        Scalar::Text(text) => {
            let fix = matches!(text.as_str(), "true" | "false").then(|| "remove the quotes".to_owned());
            problems.error(node.at, format!("expected true or false, found {}", node.describe()), fix);
            None
        }
        Scalar::Null | Scalar::Integer(_) | Scalar::Float(_) => {
            problems.error(node.at, format!("expected true or false, found {}", node.describe()), None);
            None
        }
    }
}

fn integer(scalar: &Scalar, node: &Node, problems: &mut Problems, min: i128, max: i128) -> Option<i128> {
    let value = match scalar {
        Scalar::Integer(value) => Some(*value),
        // proto3 JSON takes `1.0` and `1e3` for integers as long as nothing is lost.
        Scalar::Float(value) if value.fract() == 0.0 && value.abs() < 1e30 => Some(*value as i128),
        // and quoted numbers, which 64-bit fields need in JSON.
        Scalar::Text(text) => text.parse::<i128>().ok(),
        Scalar::Null | Scalar::Bool(_) | Scalar::BoolWord(..) | Scalar::Float(_) => None,
    };
    match value {
        Some(value) if (min..=max).contains(&value) => Some(value),
        Some(value) => {
            problems.error(node.at, format!("{value} is out of range ({min} to {max})"), None);
            None
        }
        None => {
            problems.error(node.at, format!("expected an integer, found {}", node.describe()), None);
            None
        }
    }
}

fn read_float(scalar: &Scalar, node: &Node, problems: &mut Problems) -> Option<f64> {
    let value = match scalar {
        Scalar::Float(value) => Some(*value),
        Scalar::Integer(value) => Some(*value as f64),
        Scalar::Text(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            number => number.parse().ok().filter(|value: &f64| value.is_finite()),
        },
        Scalar::Null | Scalar::Bool(_) | Scalar::BoolWord(..) => None,
    };
    if value.is_none() {
        problems.error(node.at, format!("expected a number, found {}", node.describe()), None);
    }
    value
}
