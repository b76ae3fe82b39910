//! Messages as protobuf's JSON and back, as Envoy reads it in its bootstrap and prints it in its config dump.
//!
//! Differences from what `prost-reflect` offers by itself, and the reason for an own walk over dynamic messages:
//! a type inside an `Any` that the subset does not hold is kept instead of failing the whole document, and an error
//! says where in the document it is.
//!
//! Printing follows Envoy's admin interface: field names as in the `.proto` file, in the order of their numbers, unset
//! fields left out (see [`Print`]). Reading accepts both spellings of a field name. Source:
//! <https://protobuf.dev/programming-guides/json/>.

mod parse;
mod print;
mod well_known;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prost::{Message, Name};
use prost_reflect::DescriptorPool;
use prost_types::Any;
use serde_json::Value;

/// The descriptors of this crate's types, unpacked for lookup.
///
/// About 2 MB while alive: hold it while there is something to map, then drop it.
#[derive(Debug)]
pub struct Schema {
    pool: DescriptorPool,
}

/// The schema in use, if anyone holds it.
static SHARED: Mutex<Weak<Schema>> = Mutex::new(Weak::new());

/// What to print of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Print {
    /// Fields that are set: `/config_dump`, `/clusters`, `/listeners`.
    #[default]
    Set,
    /// Also numbers, booleans, strings and enums at their default: `/server_info`, `/memory`, `/certs`.
    WithDefaults,
}

impl Schema {
    /// The schema, built at the first call and shared for as long as somebody holds it.
    pub fn shared() -> Arc<Schema> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = shared.upgrade() {
            return schema;
        }
        let pool = DescriptorPool::decode(crate::DESCRIPTORS).expect("the generated descriptor set is valid");
        let schema = Arc::new(Schema { pool });
        *shared = Arc::downgrade(&schema);
        schema
    }

    /// Whether the subset holds a message of this type URL.
    pub fn knows(&self, type_url: &str) -> bool {
        self.pool.get_message_by_name(crate::type_url::message_name(type_url)).is_some()
    }

    /// The descriptors themselves.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// A message as JSON.
    pub fn to_json<M: Message + Name>(&self, message: &M, print: Print) -> Value {
        let descriptor = self
            .pool
            .get_message_by_name(&M::full_name())
            .expect("every generated type is in the descriptor set");
        print::message_bytes(&self.pool, &descriptor, &message.encode_to_vec(), print).unwrap_or(Value::Null)
    }

    /// A packed message as JSON with its `@type`. Types outside the subset, and bytes that do not follow their type's
    /// schema, appear as `{"@type": …, "value": <base64>}`.
    pub fn any_to_json(&self, any: &Any) -> Value {
        print::any(&self.pool, &any.type_url, &any.value, Print::Set)
    }

    /// A message from JSON.
    ///
    /// # Errors
    /// At the first unknown field, value of the wrong type, or second member of a oneof.
    pub fn from_json<M: Message + Name + Default>(&self, value: &Value) -> Result<M, JsonError> {
        let descriptor = self
            .pool
            .get_message_by_name(&M::full_name())
            .expect("every generated type is in the descriptor set");
        let message = parse::root(&self.pool, &descriptor, value)?;
        message.transcode_to().map_err(|error| JsonError::at_root(error.to_string()))
    }

    /// The message that an extension written as JSON stands for: `Ok(None)` when `any` is no typed struct, or one of a
    /// type outside the subset.
    ///
    /// # Errors
    /// As [`Schema::from_json`], and when the typed struct itself is malformed.
    pub fn from_typed_struct(&self, any: &Any) -> Result<Option<Any>, JsonError> {
        if !is_typed_struct(&any.type_url) {
            return Ok(None);
        }
        // Both names have the same two fields.
        let inner = crate::xds::r#type::v3::TypedStruct::decode(any.value.as_slice())
            .map_err(|error| JsonError::at_root(error.to_string()))?;
        let Some(descriptor) = self.pool.get_message_by_name(crate::type_url::message_name(&inner.type_url))
        else {
            return Ok(None);
        };
        let value = struct_from_proto(&inner.value.unwrap_or_default());
        let message = parse::root(&self.pool, &descriptor, &value)?;
        Ok(Some(Any { type_url: inner.type_url, value: message.encode_to_vec() }))
    }

    /// A packed message from JSON with an `@type`. A type outside the subset is kept as `xds.type.v3.TypedStruct`,
    /// which is how xDS carries an extension as JSON under its type's name, or as opaque bytes if that is what
    /// [`Schema::any_to_json`] printed.
    ///
    /// # Errors
    /// As [`Schema::from_json`], and when there is no `@type`.
    pub fn any_from_json(&self, value: &Value) -> Result<Any, JsonError> {
        parse::root_any(&self.pool, value)
    }
}

/// Whether a type URL is one of the two names for an extension written as JSON.
pub fn is_typed_struct(type_url: &str) -> bool {
    use crate::type_url::{TYPED_STRUCT, UDPA_TYPED_STRUCT, message_name};
    [TYPED_STRUCT, UDPA_TYPED_STRUCT].into_iter().any(|known| message_name(known) == message_name(type_url))
}

/// A `google.protobuf.Value` as the JSON value it stands for.
pub fn value_from_proto(value: &prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::NumberValue(value)) => print::float(*value, || Some(*value)),
        Some(Kind::StringValue(value)) => Value::String(value.clone()),
        Some(Kind::ListValue(list)) => list.values.iter().map(value_from_proto).collect::<Vec<_>>().into(),
        Some(Kind::StructValue(object)) => struct_from_proto(object),
    }
}

/// A `google.protobuf.Struct` as the JSON object it stands for.
pub fn struct_from_proto(object: &prost_types::Struct) -> Value {
    Value::Object(object.fields.iter().map(|(key, value)| (key.clone(), value_from_proto(value))).collect())
}

/// One step from the root of a document to a value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A member of an object, as spelled in the document.
    Key(String),
    /// An element of an array, from 0.
    Index(usize),
}

/// Why a JSON document is not the message it should be, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The way to the offending value.
    pub path: Vec<Step>,
    /// One sentence, without the path.
    pub text: String,
}

impl JsonError {
    fn at_root(text: String) -> JsonError {
        JsonError { path: Vec::new(), text }
    }

    /// The path as people write it: `static_resources.clusters[0].name`.
    pub fn path_text(&self) -> String {
        path_text(&self.path)
    }
}

/// A path as people write it: `static_resources.clusters[0].name`.
pub fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.text)
        } else {
            write!(f, "{}: {}", self.path_text(), self.text)
        }
    }
}

impl std::error::Error for JsonError {}

#[cfg(test)]
mod tests;
