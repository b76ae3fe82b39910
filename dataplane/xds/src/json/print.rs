//! Dynamic message → JSON.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::DecodeError;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _,
    Value as Field,
};
use serde_json::{Map, Number, Value, json};

use super::{Print, well_known};
use crate::type_url::message_name;

/// Bytes of a known type.
pub(super) fn message_bytes(
    pool: &DescriptorPool,
    descriptor: &MessageDescriptor,
    bytes: &[u8],
    print: Print,
) -> Result<Value, DecodeError> {
    let decoded = DynamicMessage::decode(descriptor.clone(), bytes)?;
    Ok(message(pool, &decoded, print))
}

/// The contents of an `Any`.
pub(super) fn any(pool: &DescriptorPool, type_url: &str, bytes: &[u8], print: Print) -> Value {
    let mut object = Map::new();
    object.insert("@type".to_string(), Value::String(type_url.to_string()));
    let inner = pool
        .get_message_by_name(message_name(type_url))
        .and_then(|descriptor| Some((message_bytes(pool, &descriptor, bytes, print).ok()?, descriptor)));
    match inner {
        None => {
            object.insert("value".to_string(), Value::String(STANDARD.encode(bytes)));
        }
        // Types with a JSON form of their own, and types whose own field would be taken for the type's name.
        Some((inner, descriptor)) if well_known::has_own_form(descriptor.full_name()) => {
            object.insert("value".to_string(), inner);
        }
        Some((Value::Object(fields), _)) => object.extend(fields),
        Some((other, _)) => {
            object.insert("value".to_string(), other);
        }
    }
    Value::Object(object)
}

fn message(pool: &DescriptorPool, decoded: &DynamicMessage, print: Print) -> Value {
    let descriptor = decoded.descriptor();
    if let Some(value) = well_known(pool, decoded, print) {
        return value;
    }
    let mut object = Map::new();
    for field in descriptor.fields() {
        if decoded.has_field(&field) || print == Print::WithDefaults && prints_default(&field) {
            let value = decoded.get_field(&field);
            object.insert(field.name().to_string(), field_value(pool, &field, &value, print));
        }
    }
    Value::Object(object)
}

/// Compat: Envoy's "always print primitive fields" leaves out messages and members of a oneof.
fn prints_default(field: &FieldDescriptor) -> bool {
    let is_message = matches!(field.kind(), Kind::Message(_)) && !field.is_list() && !field.is_map();
    !is_message && field.containing_oneof().is_none()
}

fn field_value(pool: &DescriptorPool, field: &FieldDescriptor, value: &Field, print: Print) -> Value {
    match value {
        Field::List(items) => {
            items.iter().map(|item| single(pool, &field.kind(), item, print)).collect::<Vec<_>>().into()
        }
        Field::Map(entries) => {
            let Kind::Message(entry) = field.kind() else { return Value::Null };
            let kind = entry.map_entry_value_field().kind();
            // Sorted, so that two dumps of one state are equal.
            let sorted: BTreeMap<String, &Field> =
                entries.iter().map(|(key, item)| (map_key(key), item)).collect();
            Value::Object(
                sorted.into_iter().map(|(key, item)| (key, single(pool, &kind, item, print))).collect(),
            )
        }
        other => single(pool, &field.kind(), other, print),
    }
}

fn map_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(value) => value.to_string(),
        MapKey::I32(value) => value.to_string(),
        MapKey::I64(value) => value.to_string(),
        MapKey::U32(value) => value.to_string(),
        MapKey::U64(value) => value.to_string(),
        MapKey::String(value) => value.clone(),
    }
}

fn single(pool: &DescriptorPool, kind: &Kind, value: &Field, print: Print) -> Value {
    match value {
        Field::Bool(value) => Value::Bool(*value),
        Field::I32(value) => json!(value),
        Field::U32(value) => json!(value),
        // 64-bit integers are strings in protobuf's JSON: JavaScript's numbers are exact to 53 bits only.
        Field::I64(value) => Value::String(value.to_string()),
        Field::U64(value) => Value::String(value.to_string()),
        Field::F32(value) => float(f64::from(*value), || value.to_string().parse().ok()),
        Field::F64(value) => float(*value, || Some(*value)),
        Field::String(value) => Value::String(value.clone()),
        Field::Bytes(value) => Value::String(STANDARD.encode(value)),
        Field::EnumNumber(number) => match kind {
            Kind::Enum(descriptor) if descriptor.full_name() == "google.protobuf.NullValue" => Value::Null,
            Kind::Enum(descriptor) => descriptor
                .get_value(*number)
                .map_or_else(|| json!(number), |value| Value::String(value.name().to_string())),
            _ => json!(number),
        },
        Field::Message(inner) => message(pool, inner, print),
        Field::List(_) | Field::Map(_) => Value::Null,
    }
}

/// `shortest` gives the value with the fewest digits that read back as the same number of its width.
pub(super) fn float(value: f64, shortest: impl FnOnce() -> Option<f64>) -> Value {
    if value.is_nan() {
        return json!("NaN");
    }
    if value.is_infinite() {
        return json!(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let value = shortest().unwrap_or(value);
    // Compat: a whole number prints without a fraction, as C++ protobuf does.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return json!(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn well_known(pool: &DescriptorPool, decoded: &DynamicMessage, print: Print) -> Option<Value> {
    let number = |number| decoded.get_field_by_number(number);
    let seconds = || number(1).and_then(|value| value.as_i64()).unwrap_or(0);
    let nanos = || number(2).and_then(|value| value.as_i32()).unwrap_or(0);
    let descriptor = decoded.descriptor();
    let value = match descriptor.full_name() {
        "google.protobuf.Any" => {
            let type_url = number(1)?;
            let bytes = number(2)?;
            any(pool, type_url.as_str()?, bytes.as_bytes()?, print)
        }
        "google.protobuf.Duration" => Value::String(well_known::duration_text(seconds(), nanos())),
        "google.protobuf.Timestamp" => Value::String(well_known::timestamp_text(seconds(), nanos())),
        "google.protobuf.Struct" => field_value(pool, &descriptor.get_field(1)?, &*number(1)?, print),
        "google.protobuf.ListValue" => field_value(pool, &descriptor.get_field(1)?, &*number(1)?, print),
        "google.protobuf.Value" => match decoded.fields().next() {
            Some((field, value)) => field_value(pool, &field, value, print),
            None => Value::Null,
        },
        name if well_known::is_wrapper(name) => {
            field_value(pool, &descriptor.get_field(1)?, &*number(1)?, print)
        }
        _ => return None,
    };
    Some(value)
}
