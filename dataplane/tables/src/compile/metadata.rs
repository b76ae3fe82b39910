//! Metadata.

use prost_types::value::Kind;
use ringsail_xds::envoy::config::core::v3 as core;

use super::context::Context;
use crate::limits::NESTING_MAX;
use crate::metadata::{Metadata, Value};
use crate::strings::Str;

/// `filter_metadata`; nothing when it is not set or empty.
pub(super) fn metadata(
    cx: &mut Context<'_>,
    value: Option<&core::Metadata>,
) -> Option<std::sync::Arc<Metadata>> {
    let fields = &value?.filter_metadata;
    let mut namespaces: Vec<(Str, Value)> = Vec::with_capacity(fields.len());
    for (name, content) in fields {
        namespaces.push((cx.intern(name), object(cx, content, NESTING_MAX)));
    }
    namespaces.sort_by(|a, b| a.0.cmp(&b.0));
    cx.share_metadata(Metadata { namespaces: namespaces.into() })
}

/// A JSON object. What is nested deeper than the bound is null.
pub(super) fn object(cx: &mut Context<'_>, value: &prost_types::Struct, depth: u32) -> Value {
    Value::object(
        value
            .fields
            .iter()
            .map(|(name, content)| (cx.intern(name), json(cx, content, depth.saturating_sub(1)))),
    )
}

fn json(cx: &mut Context<'_>, value: &prost_types::Value, depth: u32) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(*flag),
        Some(Kind::NumberValue(number)) => Value::Number(*number),
        Some(Kind::StringValue(text)) => Value::String(cx.intern(text)),
        Some(Kind::ListValue(list)) => {
            Value::List(list.values.iter().map(|item| json(cx, item, depth - 1)).collect())
        }
        Some(Kind::StructValue(content)) => object(cx, content, depth),
    }
}
