//! Messages whose JSON form is not a mapping of their fields.

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, Value as ProtoValue};

use crate::decode::duration::{parse_duration, parse_timestamp};
use crate::decode::problem::Problems;
use crate::decode::scalar::read_scalar;
use crate::decode::tree::{Node, Scalar, Value};

/// Reads `node` when `descriptor` has a form of its own; `None` when it is an ordinary message.
pub(crate) fn read(
    node: &Node,
    descriptor: &MessageDescriptor,
    problems: &mut Problems,
) -> Option<DynamicMessage> {
    let mut message = DynamicMessage::new(descriptor.clone());
    match descriptor.full_name() {
        "google.protobuf.Duration" => {
            if let Some((seconds, nanos)) = duration(node, problems) {
                message.set_field_by_name("seconds", ProtoValue::I64(seconds));
                message.set_field_by_name("nanos", ProtoValue::I32(nanos));
            }
        }
        "google.protobuf.Timestamp" => match node.text().and_then(parse_timestamp) {
            Some((seconds, nanos)) => {
                message.set_field_by_name("seconds", ProtoValue::I64(seconds));
                message.set_field_by_name("nanos", ProtoValue::I32(nanos));
            }
            None => {
                let fix = "write it as `2026-01-31T12:00:00Z`".to_owned();
                problems.error(node.at, format!("expected a time, found {}", node.describe()), Some(fix));
            }
        },
        "google.protobuf.DoubleValue"
        | "google.protobuf.FloatValue"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt64Value"
        | "google.protobuf.Int32Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.BoolValue"
        | "google.protobuf.StringValue"
        | "google.protobuf.BytesValue" => {
            let field = descriptor.get_field_by_name("value")?;
            match &node.value {
                Value::Scalar(scalar) => {
                    if let Some(value) = read_scalar(scalar, node, &field.kind(), problems) {
                        message.set_field(&field, value);
                    }
                }
                Value::List(_) | Value::Map(_) => {
                    let wanted = crate::decode::scalar::name_of(&field.kind());
                    problems.error(node.at, format!("expected {wanted}, found {}", node.describe()), None);
                }
            }
        }
        "google.protobuf.Struct" => match &node.value {
            Value::Map(_) => return Some(free_struct(node, descriptor)),
            Value::List(_) | Value::Scalar(_) => {
                problems.error(node.at, format!("expected a mapping, found {}", node.describe()), None);
            }
        },
        "google.protobuf.Value" => return Some(free_value(node, descriptor)),
        "k8s.io.apimachinery.pkg.util.intstr.IntOrString" => int_or_string(node, &mut message, problems),
        // Accepted as it is and not kept.
        "ringsail.api.Unread" => {}
        _ => return None,
    }
    Some(message)
}

fn duration(node: &Node, problems: &mut Problems) -> Option<(i64, i32)> {
    let parsed = match &node.value {
        Value::Scalar(Scalar::Text(text)) => parse_duration(text),
        Value::Scalar(Scalar::Integer(0)) => Ok(0),
        _ => Err("not a duration"),
    };
    match parsed {
        Ok(nanos) => {
            let seconds = i64::try_from(nanos / 1_000_000_000).ok()?;
            let nanos = i32::try_from(nanos % 1_000_000_000).ok()?;
            Some((seconds, nanos))
        }
        Err(reason) => {
            let fix = match &node.value {
                Value::Scalar(Scalar::Integer(number)) => format!("add a unit: `{number}s`"),
                Value::Scalar(Scalar::Float(number)) => format!("add a unit: `{number}s`"),
                Value::Scalar(Scalar::Text(text)) if text.parse::<f64>().is_ok() => {
                    format!("add a unit: `{text}s`")
                }
                _ => "write it as `3s`, `1.5s`, `100ms` or `1h30m`".to_owned(),
            };
            problems.error(node.at, format!("{reason}: {}", node.describe()), Some(fix));
            None
        }
    }
}

fn int_or_string(node: &Node, message: &mut DynamicMessage, problems: &mut Problems) {
    match &node.value {
        Value::Scalar(Scalar::Integer(number)) => match i32::try_from(*number) {
            Ok(number) => message.set_field_by_name("intVal", ProtoValue::I32(number)),
            Err(_) => problems.error(node.at, format!("{number} is out of range"), None),
        },
        Value::Scalar(Scalar::Text(text)) => {
            message.set_field_by_name("type", ProtoValue::I64(1));
            message.set_field_by_name("strVal", ProtoValue::String(text.clone()));
        }
        _ => problems.error(
            node.at,
            format!("expected a port number or a port name, found {}", node.describe()),
            None,
        ),
    }
}

/// A `google.protobuf.Struct`: any mapping.
fn free_struct(node: &Node, descriptor: &MessageDescriptor) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    let Some(fields) = descriptor.get_field_by_name("fields") else { return message };
    let Kind::Message(entry_type) = fields.kind() else { return message };
    let Kind::Message(value_type) = entry_type.map_entry_value_field().kind() else { return message };
    if let Value::Map(entries) = &node.value {
        let map: HashMap<MapKey, ProtoValue> = entries
            .iter()
            .map(|entry| {
                let value = ProtoValue::Message(free_value(&entry.value, &value_type));
                (MapKey::String(entry.key.clone()), value)
            })
            .collect();
        message.set_field(&fields, ProtoValue::Map(map));
    }
    message
}

/// A `google.protobuf.Value`: anything.
fn free_value(node: &Node, descriptor: &MessageDescriptor) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    let message_type = |name: &str| match descriptor.get_field_by_name(name).map(|field| field.kind()) {
        Some(Kind::Message(inner)) => Some(inner),
        _ => None,
    };
    match &node.value {
        Value::Scalar(Scalar::Null) => message.set_field_by_name("null_value", ProtoValue::EnumNumber(0)),
        Value::Scalar(Scalar::Bool(value) | Scalar::BoolWord(value, _)) => {
            message.set_field_by_name("bool_value", ProtoValue::Bool(*value));
        }
        // JSON has one number type, a double.
        Value::Scalar(Scalar::Integer(value)) => {
            message.set_field_by_name("number_value", ProtoValue::F64(*value as f64));
        }
        Value::Scalar(Scalar::Float(value)) => {
            message.set_field_by_name("number_value", ProtoValue::F64(*value));
        }
        Value::Scalar(Scalar::Text(text)) => {
            message.set_field_by_name("string_value", ProtoValue::String(text.clone()));
        }
        Value::Map(_) => {
            if let Some(inner) = message_type("struct_value") {
                message.set_field_by_name("struct_value", ProtoValue::Message(free_struct(node, &inner)));
            }
        }
        Value::List(items) => {
            if let Some(inner) = message_type("list_value") {
                let mut list = DynamicMessage::new(inner);
                let values =
                    items.iter().map(|item| ProtoValue::Message(free_value(item, descriptor))).collect();
                list.set_field_by_name("values", ProtoValue::List(values));
                message.set_field_by_name("list_value", ProtoValue::Message(list));
            }
        }
    }
    message
}
