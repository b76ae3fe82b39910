//! `?mask=`: which fields of a dump to show. Source: `google.protobuf.FieldMask`, and how Envoy applies one: to each
//! section whose fields it names, and with `?resource=` to each element, there also to what is packed in it.

use prost_reflect::{Kind, MessageDescriptor};
use ringsail_xds::json::Schema;
use ringsail_xds::type_url;
use serde_json::Value;

/// Paths of field names, comma-separated in a query.
pub(super) struct Mask<'q> {
    text: &'q str,
    paths: Vec<Vec<&'q str>>,
}

impl<'q> Mask<'q> {
    /// `None` for the empty mask, which hides nothing.
    pub(super) fn parse(text: &'q str) -> Option<Mask<'q>> {
        let paths: Vec<Vec<&str>> =
            text.split(',').filter(|path| !path.is_empty()).map(|path| path.split('.').collect()).collect();
        (!paths.is_empty()).then_some(Mask { text, paths })
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        self.text
    }

    /// The paths as a text-format message, for errors.
    pub(super) fn as_message(&self) -> String {
        self.paths.iter().map(|path| format!("paths: \"{}\"\n", path.join("."))).collect()
    }

    /// Trims a section. False when a path names no field of it or leads through a list: such a section is left out.
    pub(super) fn trim_section(&self, schema: &Schema, section: &mut Value) -> bool {
        let Some(descriptor) = descriptor_of(schema, section) else { return false };
        let fits = self.paths.iter().all(|path| names_field(&descriptor, path));
        if fits {
            trim(section, &self.steps());
        }
        fits
    }

    /// Trims an element of a list. False when a path names no field of it.
    pub(super) fn trim_element(&self, schema: &Schema, element: &mut Value) -> bool {
        let Some(descriptor) = descriptor_of(schema, element) else { return false };
        let fits = self.paths.iter().all(|path| {
            let packed = path.split_first().and_then(|(first, rest)| {
                let inside = element.get(*first).filter(|value| value.get("@type").is_some())?;
                Some(rest.is_empty() || names_field(&descriptor_of(schema, inside)?, rest))
            });
            packed.unwrap_or_else(|| names_field(&descriptor, path))
        });
        if fits {
            trim(element, &self.steps());
        }
        fits
    }

    fn steps(&self) -> Vec<&[&'q str]> {
        self.paths.iter().map(Vec::as_slice).collect()
    }
}

fn descriptor_of(schema: &Schema, value: &Value) -> Option<MessageDescriptor> {
    schema.pool().get_message_by_name(type_url::message_name(value["@type"].as_str()?))
}

/// Whether a path names a field, through messages only.
fn names_field(descriptor: &MessageDescriptor, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    let Some(field) = descriptor.get_field_by_name(first) else { return false };
    match field.kind() {
        _ if rest.is_empty() => true,
        Kind::Message(inner) if !field.is_list() && !field.is_map() => names_field(&inner, rest),
        _ => false,
    }
}

/// Removes what no path names.
fn trim(value: &mut Value, paths: &[&[&str]]) {
    let Value::Object(fields) = value else { return };
    fields.retain(|name, field| {
        if name == "@type" {
            return true;
        }
        let below: Vec<&[&str]> =
            paths.iter().filter(|path| path.first() == Some(&name.as_str())).map(|path| &path[1..]).collect();
        if below.iter().all(|rest| !rest.is_empty()) {
            trim(field, &below);
        }
        !below.is_empty()
    });
}
