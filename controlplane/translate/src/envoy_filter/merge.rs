//! Merging of messages, field by field.

use prost_reflect::{DynamicMessage, MapKey, ReflectMessage, Value};
use prost_types::Any;
use ringsail_api::networking::envoy_filter::patch::Operation;
use ringsail_xds::json::Schema;
use ringsail_xds::prost::{Message, Name};
use ringsail_xds::type_url::message_name;

/// What becomes of a list that both messages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    Append,
    Replace,
}

/// Merges a patch into a message: set fields win, messages are merged, maps take over whole entries, lists are appended
/// unless the operation says otherwise.
///
/// Compat: a zero in a patch is no value and changes nothing, as in protobuf's own merging.
pub(super) fn merge<M: Message + Name + Default>(
    target: &mut M,
    patch: &M,
    operation: Operation,
    schema: &Schema,
) {
    let lists = match operation {
        Operation::MergeAndReplaceList => Lists::Replace,
        _ => Lists::Append,
    };
    let name = M::full_name();
    let merged = merge_bytes(&name, &target.encode_to_vec(), &patch.encode_to_vec(), lists, schema);
    if let Some(merged) = merged.and_then(|bytes| M::decode(bytes.as_slice()).ok()) {
        *target = merged;
    }
}

/// Merges settings of an extension. Those of another type change nothing.
pub(super) fn merge_any(target: &mut Any, patch: &Any, schema: &Schema) {
    // The type of what we sent is known; a patch may spell it as a typed struct.
    let patch = schema.from_typed_struct(patch).ok().flatten().unwrap_or_else(|| patch.clone());
    let name = message_name(&target.type_url);
    if name != message_name(&patch.type_url) {
        return;
    }
    if let Some(merged) = merge_bytes(name, &target.value, &patch.value, Lists::Append, schema) {
        target.value = merged;
    }
}

fn merge_bytes(name: &str, target: &[u8], patch: &[u8], lists: Lists, schema: &Schema) -> Option<Vec<u8>> {
    let descriptor = schema.pool().get_message_by_name(name)?;
    let mut merged = DynamicMessage::decode(descriptor.clone(), target).ok()?;
    merge_message(&mut merged, &DynamicMessage::decode(descriptor, patch).ok()?, lists);
    Some(merged.encode_to_vec())
}

fn merge_message(target: &mut DynamicMessage, patch: &DynamicMessage, lists: Lists) {
    for (field, value) in patch.fields() {
        // A oneof may hold another member: setting one takes the other away.
        if !target.has_field(&field) {
            target.set_field(&field, value.clone());
            continue;
        }
        match (target.get_field_mut(&field), value) {
            (Value::List(own), Value::List(more)) => {
                if lists == Lists::Replace {
                    own.clear();
                }
                own.extend(more.iter().cloned());
            }
            (Value::Map(own), Value::Map(more)) => {
                let entries = more.iter().map(|(key, value): (&MapKey, &Value)| (key.clone(), value.clone()));
                own.extend(entries);
            }
            (Value::Message(own), Value::Message(more)) if !is_one_value(own) => {
                merge_message(own, more, lists);
            }
            (own, value) => *own = value.clone(),
        }
    }
}

/// Seconds of one duration and nanoseconds of another would be a third one; so with packed settings.
fn is_one_value(message: &DynamicMessage) -> bool {
    ["google.protobuf.Duration", "google.protobuf.Any"].contains(&message.descriptor().full_name())
}
