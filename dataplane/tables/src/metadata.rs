//! Metadata of endpoints, clusters and routes, as far as requests may read it (`%UPSTREAM_METADATA(…)%`,
//! telemetry labels). Source: `envoy.config.core.v3.Metadata.filter_metadata`.

use crate::strings::Str;

/// `filter_metadata`, sorted by name space. `typed_filter_metadata` stays in the raw resource.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metadata {
    pub(crate) namespaces: Box<[(Str, Value)]>,
}

/// One JSON-like value. Source: `google.protobuf.Value`.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// JSON null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A string.
    String(Str),
    /// A list.
    List(Box<[Value]>),
    /// An object, sorted by key.
    Struct(Box<[(Str, Value)]>),
}

impl Metadata {
    /// From name spaces, in any order.
    pub fn of(namespaces: impl IntoIterator<Item = (Str, Value)>) -> Metadata {
        let mut namespaces: Vec<(Str, Value)> = namespaces.into_iter().collect();
        namespaces.sort_by(|a, b| a.0.cmp(&b.0));
        Metadata { namespaces: namespaces.into() }
    }

    /// The value at `path` below name space `namespace`; an empty path is the whole name space.
    pub fn at(&self, namespace: &str, path: &[Str]) -> Option<&Value> {
        let mut value = field(&self.namespaces, namespace)?;
        for key in path {
            value = value.field(key)?;
        }
        Some(value)
    }

    /// The string at `namespace`/`key`.
    pub fn string(&self, namespace: &str, key: &str) -> Option<&str> {
        match field(&self.namespaces, namespace)?.field(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// All name spaces in order.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.namespaces.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl Value {
    /// The value of a key, when this is an object that has it.
    pub fn field(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Struct(fields) => field(fields, key),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::List(_) => None,
        }
    }

    /// A message as a value; what is nested deeper than the bound is null.
    pub fn from_proto(object: &prost_types::Struct) -> Value {
        from_struct(object, crate::limits::NESTING_MAX)
    }

    /// An object from its fields, in any order.
    pub fn object(fields: impl IntoIterator<Item = (Str, Value)>) -> Value {
        let mut fields: Vec<(Str, Value)> = fields.into_iter().collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Value::Struct(fields.into())
    }
}

fn from_struct(object: &prost_types::Struct, depth: u32) -> Value {
    Value::object(object.fields.iter().map(|(key, value)| (Str::new(key), from_value(value, depth))))
}

fn from_value(value: &prost_types::Value, depth: u32) -> Value {
    use prost_types::value::Kind;
    let Some(depth) = depth.checked_sub(1) else { return Value::Null };
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(*flag),
        Some(Kind::NumberValue(number)) => Value::Number(*number),
        Some(Kind::StringValue(text)) => Value::String(Str::new(text)),
        Some(Kind::ListValue(list)) => {
            Value::List(list.values.iter().map(|item| from_value(item, depth)).collect())
        }
        Some(Kind::StructValue(object)) => from_struct(object, depth),
    }
}

fn field<'a>(fields: &'a [(Str, Value)], name: &str) -> Option<&'a Value> {
    let at = fields.binary_search_by(|(key, _)| key.as_str().cmp(name)).ok()?;
    Some(&fields[at].1)
}
