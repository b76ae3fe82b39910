//! A YAML mapping against a message descriptor, by proto3's JSON mapping.
//!
//! Every field of a mapping is either read or reported. Errors are collected, not returned: one reading
//! tells everything that is wrong with an object.

use std::collections::HashMap;
use std::rc::Rc;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value as ProtoValue};

use crate::decode::problem::Problems;
use crate::decode::scalar::read_scalar;
use crate::decode::suggest;
use crate::decode::tree::{Entry, Node, Scalar, Value};
use crate::decode::well_known;
use crate::path::Segment;

/// Reads `node` as a `descriptor` message. Values that are wrong are reported and left unset.
pub(crate) fn read_message(
    node: &Node,
    descriptor: &MessageDescriptor,
    problems: &mut Problems,
) -> DynamicMessage {
    let Value::Map(entries) = &node.value else {
        if let Some(special) = well_known::read(node, descriptor, problems) {
            return special;
        }
        let fix = suggest::for_shape(node, descriptor);
        problems.error(node.at, format!("expected a mapping, found {}", node.describe()), fix);
        return DynamicMessage::new(descriptor.clone());
    };
    match well_known::read(node, descriptor, problems) {
        Some(special) => special,
        None => read_fields(entries.iter(), descriptor, problems),
    }
}

/// Reads the entries of one mapping as fields of one message.
pub(crate) fn read_fields<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    descriptor: &MessageDescriptor,
    problems: &mut Problems,
) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    let mut spelling_by_field: HashMap<u32, &'a str> = HashMap::new();
    let mut spelling_by_oneof: HashMap<String, &'a str> = HashMap::new();
    for entry in entries {
        let Some(field) = find_field(descriptor, &entry.key) else {
            let fix = suggest::for_field(&entry.key, descriptor, problems.around.last());
            problems.within(Segment::Field(entry.key.clone()), |problems| {
                problems.error(entry.at, format!("unknown field `{}`", entry.key), fix);
            });
            continue;
        };
        if let Some(first) = spelling_by_field.insert(field.number(), &entry.key) {
            problems.within(Segment::Field(field.json_name().to_owned()), |problems| {
                let message = format!("`{first}` and `{}` are the same field", entry.key);
                problems.error(entry.at, message, Some("keep one of the two".to_owned()));
            });
            continue;
        }
        if entry.value.is_null() && !takes_null(&field) {
            continue;
        }
        if let Some(oneof) = field.containing_oneof()
            && !oneof.is_synthetic()
            && let Some(first) = spelling_by_oneof.insert(oneof.name().to_owned(), &entry.key)
        {
            problems.within(Segment::Field(field.json_name().to_owned()), |problems| {
                let message = format!("`{first}` and `{}` exclude each other", entry.key);
                problems.error(entry.at, message, Some("keep one of the two".to_owned()));
            });
            continue;
        }
        problems.around.push(descriptor.clone());
        problems.within(Segment::Field(field.json_name().to_owned()), |problems| {
            if let Some(value) = read_field(&entry.value, &field, problems) {
                message.set_field(&field, value);
            }
        });
        problems.around.pop();
    }
    message
}

/// The field a key means: its JSON name, or its name in the `.proto` file.
pub(crate) fn find_field(descriptor: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    descriptor.get_field_by_json_name(key).or_else(|| descriptor.get_field_by_name(key))
}

fn takes_null(field: &FieldDescriptor) -> bool {
    !field.is_list()
        && matches!(field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.Value")
}

/// Lists and maps where "none" differs from "not given", which the message cannot tell apart.
/// Source: Istio's webhook.
const NEVER_EMPTY: [&str; 3] = [
    "istio.security.v1beta1.Rule.from",
    "istio.security.v1beta1.Rule.to",
    "istio.security.v1beta1.PeerAuthentication.port_level_mtls",
];

fn read_field(node: &Rc<Node>, field: &FieldDescriptor, problems: &mut Problems) -> Option<ProtoValue> {
    let is_empty = match &node.value {
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::Scalar(_) => false,
    };
    if is_empty && NEVER_EMPTY.contains(&field.full_name()) {
        let fix = "leave it out, or fill it in".to_owned();
        problems.error(node.at, format!("`{}` must not be empty", field.json_name()), Some(fix));
    }
    if field.is_map() {
        return read_map(node, field, problems);
    }
    if !field.is_list() {
        return read_value(node, &field.kind(), problems);
    }
    let Value::List(items) = &node.value else {
        let fix = matches!(node.value, Value::Scalar(_) | Value::Map(_))
            .then(|| "start each element with `- `".to_owned());
        problems.error(node.at, format!("expected a list, found {}", node.describe()), fix);
        return None;
    };
    let mut list = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        problems.within(Segment::Index(index), |problems| {
            if item.is_null() {
                problems.error(
                    item.at,
                    "this element is empty (null)",
                    Some("remove it or fill it in".to_owned()),
                );
            } else if let Some(value) = read_value(item, &field.kind(), problems) {
                list.push(value);
            }
        });
    }
    Some(ProtoValue::List(list))
}

fn read_map(node: &Rc<Node>, field: &FieldDescriptor, problems: &mut Problems) -> Option<ProtoValue> {
    let Kind::Message(entry_type) = field.kind() else { return None };
    let (key_kind, value_kind) =
        (entry_type.map_entry_key_field().kind(), entry_type.map_entry_value_field().kind());
    let Value::Map(entries) = &node.value else {
        let fix = "write it as `key: value` lines without `- `".to_owned();
        problems.error(node.at, format!("expected a mapping, found {}", node.describe()), Some(fix));
        return None;
    };
    let mut map = HashMap::with_capacity(entries.len());
    for entry in entries {
        problems.within(Segment::Key(entry.key.clone()), |problems| {
            let Some(key) = read_key(&entry.key, &key_kind) else {
                let message = format!("the key `{}` is not a number in range", entry.key);
                problems.error(entry.at, message, None);
                return;
            };
            if entry.value.is_null() {
                let fix = match value_kind {
                    Kind::String => "write `\"\"` for an empty string".to_owned(),
                    _ => "give it a value, or write `{}`".to_owned(),
                };
                problems.error(entry.at, format!("`{}` has no value (null)", entry.key), Some(fix));
                return;
            }
            if let Some(value) = read_value(&entry.value, &value_kind, problems) {
                map.insert(key, value);
            }
        });
    }
    Some(ProtoValue::Map(map))
}

fn read_key(key: &str, kind: &Kind) -> Option<MapKey> {
    Some(match kind {
        Kind::String => MapKey::String(key.to_owned()),
        Kind::Bool => MapKey::Bool(key.parse().ok()?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(key.parse().ok()?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(key.parse().ok()?),
        Kind::Uint32 | Kind::Fixed32 => MapKey::U32(key.parse().ok()?),
        Kind::Uint64 | Kind::Fixed64 => MapKey::U64(key.parse().ok()?),
        Kind::Double | Kind::Float | Kind::Bytes | Kind::Message(_) | Kind::Enum(_) => return None,
    })
}

fn read_value(node: &Node, kind: &Kind, problems: &mut Problems) -> Option<ProtoValue> {
    match kind {
        Kind::Message(descriptor) => Some(ProtoValue::Message(read_message(node, descriptor, problems))),
        scalar_kind => match &node.value {
            Value::Scalar(scalar) if *scalar != Scalar::Null => {
                read_scalar(scalar, node, scalar_kind, problems)
            }
            Value::Map(entries) if *scalar_kind == Kind::String && trailing_colon(entries).is_some() => {
                trailing_colon(entries).map(ProtoValue::String)
            }
            _ => {
                let wanted = crate::decode::scalar::name_of(scalar_kind);
                problems.error(node.at, format!("expected {wanted}, found {}", node.describe()), None);
                None
            }
        },
    }
}

/// Compat: `[1.2.3.4, 2001:db8::]` is a list of two addresses to Kubernetes' reader; to ours the last colon
/// before a bracket or comma makes a key without value.
fn trailing_colon(entries: &[Entry]) -> Option<String> {
    let [entry] = entries else { return None };
    let address = format!("{}:", entry.key);
    (entry.value.is_null() && address.parse::<std::net::Ipv6Addr>().is_ok()).then_some(address)
}
