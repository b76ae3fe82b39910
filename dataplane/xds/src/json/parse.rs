//! JSON → dynamic message.

use std::collections::HashMap;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::Message as _;
use prost::bytes::Bytes;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value as Field,
};
use prost_types::Any;
use serde_json::{Map, Value};

use super::{JsonError, Step, well_known};
use crate::type_url::{TYPED_STRUCT, message_name};

/// Deepest nesting read, in JSON levels: protobuf's own limit for binary messages, so that nothing is read that
/// could not be sent.
const DEPTH_MAX: usize = 100;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

pub(super) fn root(
    pool: &DescriptorPool,
    descriptor: &MessageDescriptor,
    value: &Value,
) -> Result<DynamicMessage, JsonError> {
    Parser { pool, path: Vec::new() }.message(descriptor, value)
}

pub(super) fn root_any(pool: &DescriptorPool, value: &Value) -> Result<Any, JsonError> {
    Parser { pool, path: Vec::new() }.any(value)
}

struct Parser<'a> {
    pool: &'a DescriptorPool,
    path: Vec<Step>,
}

type Parsed<T> = Result<T, JsonError>;

impl Parser<'_> {
    fn message(&mut self, descriptor: &MessageDescriptor, value: &Value) -> Parsed<DynamicMessage> {
        if self.path.len() > DEPTH_MAX {
            return Err(self.error(format!("is nested deeper than {DEPTH_MAX} levels")));
        }
        match descriptor.full_name() {
            "google.protobuf.Any" => {
                let any = self.any(value)?;
                let mut message = DynamicMessage::new(descriptor.clone());
                message.set_field_by_number(1, Field::String(any.type_url));
                message.set_field_by_number(2, Field::Bytes(Bytes::from(any.value)));
                Ok(message)
            }
            // Compat: Envoy's reader also takes the plain fields of these types, as in `timeout: {seconds: 5}`, which
            // configurations use.
            "google.protobuf.Duration" if !value.is_object() => self.time(
                descriptor,
                value,
                well_known::duration_from_text,
                "is no duration: write seconds with the letter s, as in \"0.25s\"",
            ),
            "google.protobuf.Timestamp" => self.time(
                descriptor,
                value,
                well_known::timestamp_from_text,
                "is no time: write it as in \"2026-01-31T12:00:00Z\"",
            ),
            "google.protobuf.Struct" => self.structure(descriptor, value),
            "google.protobuf.Value" => self.value(descriptor, value),
            "google.protobuf.ListValue" => {
                let Value::Array(_) = value else { return Err(self.wrong_type("a list", value)) };
                self.members(descriptor, [("values", value)])
            }
            name if well_known::is_wrapper(name) && !value.is_object() => {
                self.members(descriptor, [("value", value)])
            }
            _ => match value {
                Value::Object(object) => {
                    self.members(descriptor, object.iter().map(|(k, v)| (k.as_str(), v)))
                }
                other => Err(self.wrong_type("an object", other)),
            },
        }
    }

    fn members<'v>(
        &mut self,
        descriptor: &MessageDescriptor,
        members: impl IntoIterator<Item = (&'v str, &'v Value)>,
    ) -> Parsed<DynamicMessage> {
        let mut message = DynamicMessage::new(descriptor.clone());
        let implicit = well_known::has_own_form(descriptor.full_name());
        for (key, value) in members {
            let Some(field) =
                descriptor.get_field_by_name(key).or_else(|| descriptor.get_field_by_json_name(key))
            else {
                self.path.push(Step::Key(key.to_string()));
                return Err(self.error(unknown_field(descriptor, key)));
            };
            if !implicit {
                self.path.push(Step::Key(key.to_string()));
            }
            self.member(&mut message, &field, value)?;
            if !implicit {
                self.path.pop();
            }
        }
        Ok(message)
    }

    fn member(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor, value: &Value) -> Parsed<()> {
        // null stands for "not set", except where null is a value.
        if value.is_null() && !is_value(&field.kind()) {
            return Ok(());
        }
        if message.has_field(field) {
            return Err(self.error("is given twice".to_string()));
        }
        if let Some(oneof) = field.containing_oneof()
            && let Some(other) = oneof.fields().find(|other| message.has_field(other))
        {
            return Err(self.error(format!("cannot be set together with {}", other.name())));
        }
        let parsed = if field.is_map() {
            self.map(field, value)?
        } else if field.is_list() {
            self.list(field, value)?
        } else {
            self.single(&field.kind(), value)?
        };
        message.try_set_field(field, parsed).map_err(|error| self.error(error.to_string()))
    }

    fn list(&mut self, field: &FieldDescriptor, value: &Value) -> Parsed<Field> {
        let Value::Array(items) = value else { return Err(self.wrong_type("a list", value)) };
        let mut parsed = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.path.push(Step::Index(index));
            parsed.push(self.single(&field.kind(), item)?);
            self.path.pop();
        }
        Ok(Field::List(parsed))
    }

    fn map(&mut self, field: &FieldDescriptor, value: &Value) -> Parsed<Field> {
        let Value::Object(object) = value else { return Err(self.wrong_type("an object", value)) };
        let Kind::Message(entry) = field.kind() else { return Err(self.wrong_type("an object", value)) };
        let (key_kind, value_kind) =
            (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let mut parsed = HashMap::with_capacity(object.len());
        for (key, item) in object {
            self.path.push(Step::Key(key.clone()));
            let key = self.map_key(&key_kind, key)?;
            parsed.insert(key, self.single(&value_kind, item)?);
            self.path.pop();
        }
        Ok(Field::Map(parsed))
    }

    fn map_key(&self, kind: &Kind, key: &str) -> Parsed<MapKey> {
        let number = || self.error(format!("{key:?} is no valid key here"));
        Ok(match kind {
            Kind::String => MapKey::String(key.to_string()),
            Kind::Bool => MapKey::Bool(key.parse().map_err(|_| number())?),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(key.parse().map_err(|_| number())?),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(key.parse().map_err(|_| number())?),
            Kind::Uint32 | Kind::Fixed32 => MapKey::U32(key.parse().map_err(|_| number())?),
            Kind::Uint64 | Kind::Fixed64 => MapKey::U64(key.parse().map_err(|_| number())?),
            _ => return Err(number()),
        })
    }

    fn single(&mut self, kind: &Kind, value: &Value) -> Parsed<Field> {
        let wrong = |parser: &Self, wanted: &str| Err(parser.wrong_type(wanted, value));
        match kind {
            Kind::Message(descriptor) => self.message(descriptor, value).map(Field::Message),
            Kind::Enum(descriptor) => {
                if descriptor.full_name() == "google.protobuf.NullValue" && value.is_null() {
                    return Ok(Field::EnumNumber(0));
                }
                if let Some(number) = integer(value).and_then(|number| i32::try_from(number).ok()) {
                    return Ok(Field::EnumNumber(number));
                }
                let Value::String(name) = value else { return wrong(self, "one of the names of an enum") };
                match descriptor.get_value_by_name(name) {
                    Some(value) => Ok(Field::EnumNumber(value.number())),
                    None => {
                        let names: Vec<_> =
                            descriptor.values().map(|value| value.name().to_string()).collect();
                        Err(self.error(format!("{name:?} is none of {}", names.join(", "))))
                    }
                }
            }
            Kind::Bool => match value {
                Value::Bool(value) => Ok(Field::Bool(*value)),
                _ => wrong(self, "true or false"),
            },
            Kind::String => match value {
                Value::String(value) => Ok(Field::String(value.clone())),
                _ => wrong(self, "a string"),
            },
            Kind::Bytes => match value {
                Value::String(text) => match STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)) {
                    Ok(bytes) => Ok(Field::Bytes(bytes.into())),
                    Err(_) => wrong(self, "bytes in base64"),
                },
                _ => wrong(self, "bytes in base64"),
            },
            Kind::Double => match float(value) {
                Some(value) => Ok(Field::F64(value)),
                None => wrong(self, "a number"),
            },
            Kind::Float => match float(value) {
                Some(value) => Ok(Field::F32(value as f32)),
                None => wrong(self, "a number"),
            },
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => match integer(value).map(i32::try_from) {
                Some(Ok(value)) => Ok(Field::I32(value)),
                _ => wrong(self, "a whole number of 32 bits"),
            },
            Kind::Uint32 | Kind::Fixed32 => match integer(value).map(u32::try_from) {
                Some(Ok(value)) => Ok(Field::U32(value)),
                _ => wrong(self, "a whole number from 0 to 4294967295"),
            },
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => match integer(value).map(i64::try_from) {
                Some(Ok(value)) => Ok(Field::I64(value)),
                _ => wrong(self, "a whole number of 64 bits"),
            },
            Kind::Uint64 | Kind::Fixed64 => match integer(value).map(u64::try_from) {
                Some(Ok(value)) => Ok(Field::U64(value)),
                _ => wrong(self, "a whole number that is not negative"),
            },
        }
    }

    fn any(&mut self, value: &Value) -> Parsed<Any> {
        let Value::Object(object) = value else {
            return Err(self.wrong_type("an object with an @type", value));
        };
        let Some(type_url) = object.get("@type").and_then(Value::as_str) else {
            return Err(self.error("needs an \"@type\" naming the type of what is in it".to_string()));
        };
        let Some(descriptor) = self.pool.get_message_by_name(message_name(type_url)) else {
            return self.unknown_type(type_url, object);
        };
        let message = if well_known::has_own_form(descriptor.full_name()) {
            let inner = object.get("value").unwrap_or(&Value::Null);
            self.path.push(Step::Key("value".to_string()));
            let message = self.message(&descriptor, inner)?;
            self.path.pop();
            message
        } else {
            let members = object.iter().filter(|(key, _)| *key != "@type");
            self.members(&descriptor, members.map(|(key, value)| (key.as_str(), value)))?
        };
        Ok(Any { type_url: type_url.to_string(), value: message.encode_to_vec() })
    }

    /// Keeps what cannot be encoded, because the numbers of its fields are not known here.
    fn unknown_type(&mut self, type_url: &str, object: &Map<String, Value>) -> Parsed<Any> {
        // A message without fields is the same bytes in every type.
        if object.len() == 1 {
            return Ok(Any { type_url: type_url.to_string(), value: Vec::new() });
        }
        if object.len() == 2
            && let Some(Value::String(text)) = object.get("value")
            && let Ok(value) = STANDARD.decode(text)
        {
            return Ok(Any { type_url: type_url.to_string(), value });
        }
        let fields =
            object.iter().filter(|(key, _)| *key != "@type").map(|(k, v)| (k.clone(), v.clone())).collect();
        let descriptor =
            self.pool.get_message_by_name(message_name(TYPED_STRUCT)).expect("the subset holds TypedStruct");
        let wrapper = [("type_url", Value::String(type_url.to_string())), ("value", Value::Object(fields))];
        let message = self.members(&descriptor, wrapper.iter().map(|(key, value)| (*key, value)))?;
        Ok(Any { type_url: TYPED_STRUCT.to_string(), value: message.encode_to_vec() })
    }

    fn time(
        &self,
        descriptor: &MessageDescriptor,
        value: &Value,
        read: fn(&str) -> Option<(i64, i32)>,
        complaint: &str,
    ) -> Parsed<DynamicMessage> {
        let Some((seconds, nanos)) = value.as_str().and_then(read) else {
            return Err(self.error(format!("{value} {complaint}")));
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        message.set_field_by_number(1, Field::I64(seconds));
        message.set_field_by_number(2, Field::I32(nanos));
        Ok(message)
    }

    fn structure(&mut self, descriptor: &MessageDescriptor, value: &Value) -> Parsed<DynamicMessage> {
        let Value::Object(_) = value else { return Err(self.wrong_type("an object", value)) };
        self.members(descriptor, [("fields", value)])
    }

    fn value(&mut self, descriptor: &MessageDescriptor, value: &Value) -> Parsed<DynamicMessage> {
        let member = match value {
            Value::Null => "null_value",
            Value::Bool(_) => "bool_value",
            Value::Number(_) => "number_value",
            Value::String(_) => "string_value",
            Value::Array(_) => "list_value",
            Value::Object(_) => "struct_value",
        };
        if value.is_null() {
            let mut message = DynamicMessage::new(descriptor.clone());
            message.set_field_by_name(member, Field::EnumNumber(0));
            return Ok(message);
        }
        self.members(descriptor, [(member, value)])
    }

    fn error(&self, text: String) -> JsonError {
        JsonError { path: self.path.clone(), text }
    }

    fn wrong_type(&self, wanted: &str, found: &Value) -> JsonError {
        let found = match found {
            Value::Null => "null".to_string(),
            Value::Array(_) => "a list".to_string(),
            Value::Object(_) => "an object".to_string(),
            other => other.to_string(),
        };
        self.error(format!("must be {wanted}, found {found}"))
    }
}

fn is_value(kind: &Kind) -> bool {
    match kind {
        Kind::Message(descriptor) => descriptor.full_name() == "google.protobuf.Value",
        Kind::Enum(descriptor) => descriptor.full_name() == "google.protobuf.NullValue",
        _ => false,
    }
}

/// Whole numbers, also as strings and as floats without a fraction, as protobuf's JSON allows.
fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => {
            number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)).or_else(|| {
                number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e19).map(|f| f as i128)
            })
        }
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => text.parse().ok().filter(|value: &f64| value.is_finite()),
        },
        _ => None,
    }
}

fn unknown_field(descriptor: &MessageDescriptor, key: &str) -> String {
    let nearest = descriptor
        .fields()
        .map(|field| (strsim::damerau_levenshtein(key, field.name()), field.name().to_string()))
        .min()
        .filter(|(distance, _)| *distance <= 2.max(key.len() / 4));
    match nearest {
        Some((_, name)) => {
            format!("is no field of {}: did you mean {name:?}?", descriptor.full_name())
        }
        None => format!("is no field of {}", descriptor.full_name()),
    }
}
