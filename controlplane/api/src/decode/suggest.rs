//! What the author probably meant.

use prost_reflect::{EnumDescriptor, Kind, MessageDescriptor};

use crate::decode::tree::{Node, Scalar, Value};

/// Names closer than this (normalised Damerau–Levenshtein, 1 = equal) are worth suggesting: `hst` for
/// `host` (0.75), `timeot` for `timeout` (0.86), not `port` for `host` (0.5).
const CLOSE_ENOUGH: f64 = 0.6;

/// The candidate closest to `word`, if any is close.
pub(crate) fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    let word = plain(word);
    candidates
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&word, &plain(candidate)), candidate))
        .filter(|(closeness, _)| *closeness >= CLOSE_ENOUGH)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// For an unknown field: a similar name, the place it belongs to, or the names there are.
pub(crate) fn for_field(
    key: &str,
    descriptor: &MessageDescriptor,
    around: Option<&MessageDescriptor>,
) -> Option<String> {
    let names: Vec<String> = descriptor.fields().map(|field| field.json_name().to_owned()).collect();
    if let Some(name) = names.iter().find(|name| name.eq_ignore_ascii_case(key)) {
        return Some(format!("did you mean `{name}`?"));
    }
    // A field of a nested message that was written one level too high.
    let nested = descriptor.fields().find_map(|field| match field.kind() {
        Kind::Message(inner) if !field.is_map() && inner.get_field_by_json_name(key).is_some() => {
            Some(format!("`{key}` belongs inside `{}`", field.json_name()))
        }
        _ => None,
    });
    if nested.is_some() {
        return nested;
    }
    // A field that was indented one level too far.
    if around.is_some_and(|outer| outer.get_field_by_json_name(key).is_some()) {
        return Some(format!("`{key}` belongs one level further out"));
    }
    if let Some(name) = closest(key, names.iter().map(String::as_str)) {
        return Some(format!("did you mean `{name}`?"));
    }
    if names.is_empty() {
        return Some("this mapping takes no fields".to_owned());
    }
    let mut listed = names;
    listed.sort();
    Some(format!("the fields here are {}", listed.join(", ")))
}

/// For a wrong enum value: a similar word and the list of all.
pub(crate) fn for_enum(scalar: &Scalar, descriptor: &EnumDescriptor) -> String {
    let names: Vec<String> = descriptor.values().map(|value| value.name().to_owned()).collect();
    let all = names.join(", ");
    match scalar {
        Scalar::Text(word) | Scalar::BoolWord(_, word) => {
            match closest(word, names.iter().map(String::as_str)) {
                Some(name) => format!("did you mean {name}? The values are {all}"),
                None => format!("use one of {all}"),
            }
        }
        Scalar::Null | Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Float(_) => {
            format!("use one of {all}")
        }
    }
}

/// For a scalar or list where a mapping is wanted.
pub(crate) fn for_shape(node: &Node, descriptor: &MessageDescriptor) -> Option<String> {
    match &node.value {
        Value::List(_) => {
            Some("remove the `- ` in front: this field takes one mapping, not a list".to_owned())
        }
        // `uri: /foo` for a StringMatch is the commonest of these.
        Value::Scalar(_) if descriptor.full_name().ends_with(".StringMatch") => {
            Some("write `exact:`, `prefix:` or `regex:` before the text".to_owned())
        }
        Value::Scalar(_) => {
            let names: Vec<String> =
                descriptor.fields().take(6).map(|field| field.json_name().to_owned()).collect();
            Some(format!("this field takes a mapping with {}", names.join(", ")))
        }
        Value::Map(_) => None,
    }
}
