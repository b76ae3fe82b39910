//! Objects back to JSON, for people who ask what is served.

use prost_reflect::{DynamicMessage, ReflectMessage, SerializeOptions, Value as ProtoValue};
use serde_json::Value;

use crate::decode::POOL;

/// A message of that name in JSON as Kubernetes shows it: proto3 JSON, with ports by number or name, and
/// without the parts that are not read.
pub(crate) fn to_json(name: &str, message: &impl prost::Message) -> Value {
    let descriptor = POOL.get_message_by_name(name).expect("the name of a generated message");
    let mut dynamic = DynamicMessage::new(descriptor);
    // Neither can fail: both sides are the same message. An empty object is a harmless answer all the same.
    let _ = dynamic.transcode_from(message);
    let serialized = dynamic.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new());
    let mut json = serialized.unwrap_or_default();
    adapt_fields(&dynamic, &mut json);
    json
}

fn adapt_fields(message: &DynamicMessage, json: &mut Value) {
    let Value::Object(fields) = json else { return };
    for (field, value) in message.fields() {
        let Some(shown) = fields.get_mut(field.json_name()) else { continue };
        match (value, shown) {
            (ProtoValue::Message(inner), shown) => match inner.descriptor().full_name() {
                "ringsail.api.Unread" => {
                    fields.remove(field.json_name());
                }
                "k8s.io.apimachinery.pkg.util.intstr.IntOrString" => *shown = port(inner),
                _ => adapt_fields(inner, shown),
            },
            (ProtoValue::List(items), Value::Array(shown)) => {
                for (item, shown) in items.iter().zip(shown) {
                    if let ProtoValue::Message(inner) = item {
                        adapt_fields(inner, shown);
                    }
                }
            }
            _ => {}
        }
    }
}

fn port(int_or_string: &DynamicMessage) -> Value {
    let field = |name: &str| int_or_string.get_field_by_name(name).map(|value| value.into_owned());
    match (field("type"), field("intVal"), field("strVal")) {
        (Some(ProtoValue::I64(1)), _, Some(ProtoValue::String(name))) => Value::from(name),
        (_, Some(ProtoValue::I32(number)), _) => Value::from(number),
        _ => Value::Null,
    }
}
