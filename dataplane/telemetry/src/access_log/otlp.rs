//! Records as OTLP log records.
//!
//! Source: opentelemetry-proto `logs/v1`; labels of the resource as Envoy's OpenTelemetry access logger has them.

use std::time::UNIX_EPOCH;

use prost::Message as _;
use ringsail_xds::opentelemetry::proto::collector::logs::v1::ExportLogsServiceRequest;
use ringsail_xds::opentelemetry::proto::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Any,
};
use ringsail_xds::opentelemetry::proto::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use ringsail_xds::opentelemetry::proto::resource::v1::Resource;

use super::error::FormatError;
use super::format::{Context, JsonTemplate, LogFormat};
use super::operator::Wanted;
use super::record::Record;
use super::tag::{Tag, TagValue};

/// What log records hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OtlpLogSettings {
    /// Attributes of the resource.
    pub resource: Vec<(String, JsonTemplate)>,
    /// The body; strings in it are formats.
    pub body: Option<JsonTemplate>,
    /// Attributes; strings in them are formats.
    pub attributes: Vec<(String, JsonTemplate)>,
    /// Further attributes.
    pub tags: Vec<Tag>,
}

/// Encodes records.
#[derive(Clone, Debug)]
pub struct OtlpLog {
    resource: Resource,
    body: Option<Template>,
    attributes: Vec<(String, Template)>,
    tags: Vec<TagValue>,
    wanted: Wanted,
}

/// A value with formats in it.
#[derive(Clone, Debug)]
enum Template {
    Fixed(AnyValue),
    Format(LogFormat),
    List(Vec<Template>),
    Map(Vec<(String, Template)>),
}

impl OtlpLog {
    /// Compiles the settings.
    ///
    /// # Errors
    /// When a format is wrong.
    pub fn new(settings: &OtlpLogSettings, context: &Context<'_>) -> Result<OtlpLog, FormatError> {
        let mut wanted = Wanted::default();
        let fixed =
            |(key, value): &(String, JsonTemplate)| KeyValue { key: key.clone(), value: Some(plain(value)) };
        Ok(OtlpLog {
            resource: Resource { attributes: settings.resource.iter().map(fixed).collect() },
            body: settings.body.as_ref().map(|body| template(body, context, &mut wanted)).transpose()?,
            attributes: map(&settings.attributes, context, &mut wanted)?,
            tags: TagValue::compile(&settings.tags, context, &mut wanted)?,
            wanted,
        })
    }

    /// What log records show that the engine has to copy.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Adds a record; gives about how many bytes that will be.
    pub(super) fn add(&self, record: &Record, entries: &mut Vec<LogRecord>) -> usize {
        let mut attributes: Vec<KeyValue> =
            self.attributes.iter().map(|(key, value)| key_value(key, value.evaluate(record))).collect();
        attributes.extend(self.tags.iter().filter_map(|tag| {
            Some(key_value(tag.name(), AnyValue { value: Some(Any::StringValue(tag.value(record)?)) }))
        }));
        let since_epoch = record.start_time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let entry = LogRecord {
            time_unix_nano: u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX),
            body: self.body.as_ref().map(|body| body.evaluate(record)),
            attributes,
            trace_id: record.trace_id.map(|id| id.bytes().to_vec()).unwrap_or_default(),
            span_id: record.span_id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
            ..LogRecord::default()
        };
        let bytes = entry.encoded_len();
        entries.push(entry);
        bytes
    }

    /// The message for these log records; empties the list.
    pub(super) fn take_message(&self, entries: &mut Vec<LogRecord>) -> Vec<u8> {
        let logs = ResourceLogs {
            resource: Some(self.resource.clone()),
            scope_logs: vec![ScopeLogs { scope: None, log_records: std::mem::take(entries) }],
        };
        ExportLogsServiceRequest { resource_logs: vec![logs] }.encode_to_vec()
    }
}

fn key_value(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value) }
}

fn map(
    entries: &[(String, JsonTemplate)],
    context: &Context<'_>,
    wanted: &mut Wanted,
) -> Result<Vec<(String, Template)>, FormatError> {
    entries.iter().map(|(key, value)| Ok((key.clone(), template(value, context, wanted)?))).collect()
}

fn template(
    value: &JsonTemplate,
    context: &Context<'_>,
    wanted: &mut Wanted,
) -> Result<Template, FormatError> {
    Ok(match value {
        JsonTemplate::String(format) => Template::Format(LogFormat::text_sharing(format, context, wanted)?),
        JsonTemplate::List(items) => Template::List(
            items.iter().map(|item| template(item, context, wanted)).collect::<Result<_, _>>()?,
        ),
        JsonTemplate::Object(entries) => Template::Map(map(entries, context, wanted)?),
        other => Template::Fixed(plain(other)),
    })
}

/// A value whose strings are no formats.
fn plain(value: &JsonTemplate) -> AnyValue {
    let value = match value {
        JsonTemplate::Null => None,
        JsonTemplate::Bool(flag) => Some(Any::BoolValue(*flag)),
        // Whole numbers are all that configuration lets in.
        JsonTemplate::Number(number) => Some(Any::IntValue(*number as i64)),
        JsonTemplate::String(text) => Some(Any::StringValue(text.clone())),
        JsonTemplate::List(items) => {
            Some(Any::ArrayValue(ArrayValue { values: items.iter().map(plain).collect() }))
        }
        JsonTemplate::Object(entries) => Some(Any::KvlistValue(KeyValueList {
            values: entries.iter().map(|(key, value)| key_value(key, plain(value))).collect(),
        })),
    };
    AnyValue { value }
}

impl Template {
    fn evaluate(&self, record: &Record) -> AnyValue {
        let value = match self {
            Self::Fixed(value) => return value.clone(),
            Self::Format(format) => {
                let mut out = Vec::new();
                format.write(record, &mut out);
                Any::StringValue(String::from_utf8_lossy(&out).into_owned())
            }
            Self::List(items) => Any::ArrayValue(ArrayValue {
                values: items.iter().map(|item| item.evaluate(record)).collect(),
            }),
            Self::Map(entries) => Any::KvlistValue(KeyValueList {
                values: entries.iter().map(|(key, value)| key_value(key, value.evaluate(record))).collect(),
            }),
        };
        AnyValue { value: Some(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tag::TagSource;
    use super::*;
    use crate::trace::TraceId;

    #[test]
    fn a_log_record_has_body_attributes_and_trace() {
        let text = |text: &str| JsonTemplate::String(text.to_owned());
        let settings = OtlpLogSettings {
            resource: vec![("log_name".into(), text("otel"))],
            body: Some(text("%RESPONSE_CODE% %PROTOCOL%")),
            attributes: vec![
                ("a".into(), JsonTemplate::List(vec![text("%RESPONSE_CODE%"), JsonTemplate::Number(3.0)])),
                ("b".into(), JsonTemplate::Bool(true)),
            ],
            tags: vec![Tag { name: "t".into(), source: TagSource::Literal("x".into()), default: None }],
        };
        let log = OtlpLog::new(&settings, &Context::default()).expect("valid");
        let mut record = Record::new();
        record.response_code = 204;
        record.trace_id = Some(TraceId { high: None, low: 7 });
        let mut entries = Vec::new();
        log.add(&record, &mut entries);
        let message = log.take_message(&mut entries);
        let message = ExportLogsServiceRequest::decode(message.as_slice()).expect("valid");
        let logs = &message.resource_logs[0];
        assert_eq!(
            logs.resource.as_ref().expect("set").attributes,
            [key_value("log_name", AnyValue { value: Some(Any::StringValue("otel".into())) })]
        );
        let entry = &logs.scope_logs[0].log_records[0];
        assert_eq!(entry.body, Some(AnyValue { value: Some(Any::StringValue("204 -".into())) }));
        assert_eq!(entry.attributes.len(), 3);
        assert_eq!(entry.attributes[2].key, "t");
        assert_eq!(entry.trace_id.len(), 16);
        assert!(entries.is_empty());
    }
}
