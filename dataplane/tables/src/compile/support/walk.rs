//! Compares the bytes of a resource with the table of fields.

use prost_types::Any;
use ringsail_xds::json::Schema;
use ringsail_xds::type_url::TYPED_STRUCT;

use super::wire::{Field, Value, fields};
use super::{AnyRule, AnyTypes, Message, Rule};
use crate::compile::report::Report;
use crate::limits::NESTING_MAX;

/// Reports every set field of a message that is refused or has no row.
pub(crate) fn walk(message: &'static Message, bytes: &[u8], report: &mut Report) {
    walk_message(message, bytes, report, NESTING_MAX);
}

fn walk_message(message: &'static Message, bytes: &[u8], report: &mut Report, depth: u32) {
    if depth == 0 {
        report.refuse(format_args!("nested deeper than {NESTING_MAX} messages"));
        return;
    }
    // How often each repeated field came, by its row.
    let mut counts = [0_u32; 64];
    for field in fields(bytes) {
        let Ok(field) = field else {
            report.refuse(format_args!("not a valid {}", message.name));
            return;
        };
        let Some(index) = message.fields.iter().position(|row| row.number == field.number) else {
            report.refuse(format_args!("{} has a field {} that is not known", message.name, field.number));
            continue;
        };
        let row = &message.fields[index];
        match (&row.rule, field.value) {
            (Rule::Supported | Rule::Ignored(_), _) => {}
            (Rule::Refused(reason), _) => report.at(row.name, |report| report.refuse(reason)),
            (Rule::RefusedUnlessZero(reason), value) => {
                if !is_zero(value) {
                    report.at(row.name, |report| report.refuse(reason));
                }
            }
            (Rule::Message(inner), Value::Bytes(bytes)) => {
                report.at(row.name, |report| walk_message(inner, bytes, report, depth - 1));
            }
            (Rule::Repeated(inner), Value::Bytes(bytes)) => {
                let position = counts.get(index).copied().unwrap_or_default();
                report.at_index(row.name, position as usize, |report| {
                    walk_message(inner, bytes, report, depth - 1);
                });
                if let Some(count) = counts.get_mut(index) {
                    *count += 1;
                }
            }
            (Rule::Any(types), Value::Bytes(bytes)) => {
                report.at(row.name, |report| walk_any(types, bytes, report, depth - 1));
            }
            (Rule::MapOfAny(types), Value::Bytes(entry)) => {
                walk_entry(row.name, types, entry, report, depth - 1)
            }
            (Rule::Message(_) | Rule::Repeated(_) | Rule::Any(_) | Rule::MapOfAny(_), Value::Number(_)) => {
                report.at(row.name, |report| report.refuse("a number stands where a message belongs"));
            }
        }
    }
}

/// Zero, false, or a wrapper of one of them.
fn is_zero(value: Value<'_>) -> bool {
    match value {
        Value::Number(number) => number == 0,
        Value::Bytes(bytes) => {
            fields(bytes).all(|field| matches!(field, Ok(Field { value: Value::Number(0), .. })))
        }
    }
}

fn walk_entry(name: &'static str, types: &'static AnyTypes, entry: &[u8], report: &mut Report, depth: u32) {
    let (mut key, mut value) = ("", &b""[..]);
    for field in fields(entry) {
        match field {
            Ok(Field { number: 1, value: Value::Bytes(bytes) }) => {
                key = std::str::from_utf8(bytes).unwrap_or("?");
            }
            Ok(Field { number: 2, value: Value::Bytes(bytes) }) => value = bytes,
            Ok(_) | Err(_) => {
                report.at(name, |report| report.refuse("not a valid map entry"));
                return;
            }
        }
    }
    report.at_key(name, key, |report| walk_any(types, value, report, depth));
}

fn walk_any(types: &'static AnyTypes, bytes: &[u8], report: &mut Report, depth: u32) {
    let (mut url, mut value) = ("", &b""[..]);
    for field in fields(bytes) {
        match field {
            Ok(Field { number: 1, value: Value::Bytes(bytes) }) => {
                url = std::str::from_utf8(bytes).unwrap_or_default();
            }
            Ok(Field { number: 2, value: Value::Bytes(bytes) }) => value = bytes,
            Ok(_) | Err(_) => {
                report.refuse("not a valid google.protobuf.Any");
                return;
            }
        }
    }
    let name = message_name(url);
    if ringsail_xds::json::is_typed_struct(url) {
        walk_typed_struct(types, value, report, depth);
        return;
    }
    match types.rule(name) {
        Some(AnyRule::Message(message)) => walk_message(message, value, report, depth),
        Some(AnyRule::Ignored(_)) => {}
        Some(AnyRule::Refused(reason)) => report.refuse(reason),
        None => report.refuse(format_args!("type {name:?} is not supported")),
    }
}

/// A message given as JSON: where its content matters, it is read by its schema and judged in its binary form.
fn walk_typed_struct(types: &'static AnyTypes, bytes: &[u8], report: &mut Report, depth: u32) {
    let (mut url, mut empty) = ("", true);
    for field in fields(bytes) {
        match field {
            Ok(Field { number: 1, value: Value::Bytes(bytes) }) => {
                url = std::str::from_utf8(bytes).unwrap_or_default();
            }
            Ok(Field { number: 2, value: Value::Bytes(bytes) }) => empty &= bytes.is_empty(),
            Ok(_) | Err(_) => {
                report.refuse("not a valid TypedStruct");
                return;
            }
        }
    }
    let name = message_name(url);
    match types.rule(name) {
        Some(AnyRule::Ignored(_)) => {}
        Some(AnyRule::Message(_)) if empty => {}
        Some(AnyRule::Message(message)) => {
            let any = Any { type_url: TYPED_STRUCT.to_owned(), value: bytes.to_vec() };
            match Schema::shared().from_typed_struct(&any) {
                Ok(Some(inner)) => walk_message(message, &inner.value, report, depth),
                Ok(None) => {
                    report.refuse(format_args!("settings of {name} in a TypedStruct are not supported"));
                }
                Err(error) => report.refuse(format_args!("settings of {name}: {error}")),
            }
        }
        Some(AnyRule::Refused(reason)) => report.refuse(reason),
        None => report.refuse(format_args!("type {name:?} is not supported")),
    }
}

/// The message name of a type URL.
fn message_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}
