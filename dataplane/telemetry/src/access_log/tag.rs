//! Named values of entries and spans.
//!
//! Source: `envoy.type.tracing.v3.CustomTag`. A tag without a value, or with an empty one, is left out.

use super::error::FormatError;
use super::format::{Context, LogFormat};
use super::operator::{HeaderSource, Wanted, WantedMetadata};
use super::record::Record;

/// A tag as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub source: TagSource,
    /// The value where the source has none.
    pub default: Option<String>,
}

/// Where a tag's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagSource {
    /// The configuration.
    Literal(String),
    /// A variable of the process.
    Environment(String),
    /// A request header.
    RequestHeader(String),
    /// Metadata.
    Metadata(WantedMetadata),
    /// A format.
    Format(String),
}

/// A compiled tag.
#[derive(Clone, Debug)]
pub struct TagValue {
    name: String,
    value: Value,
    default: Option<String>,
}

#[derive(Clone, Debug)]
enum Value {
    Fixed(Option<String>),
    Header(usize),
    Metadata(usize),
    Format(LogFormat),
}

impl TagValue {
    /// Compiles tags; what they show is added to `wanted`.
    ///
    /// # Errors
    /// When a format is wrong.
    pub fn compile(
        tags: &[Tag],
        context: &Context<'_>,
        wanted: &mut Wanted,
    ) -> Result<Vec<TagValue>, FormatError> {
        let context = Context { omit_empty: true, ..*context };
        let compiled = tags.iter().map(|tag| {
            let value = match &tag.source {
                TagSource::Literal(text) => Value::Fixed(Some(text.clone())),
                TagSource::Environment(name) => Value::Fixed((context.environment)(name)),
                TagSource::RequestHeader(name) => Value::Header(wanted.header(HeaderSource::Request, name)),
                TagSource::Metadata(metadata) => Value::Metadata(wanted.metadata(metadata.clone())),
                TagSource::Format(format) => {
                    Value::Format(LogFormat::text_sharing(format, &context, wanted)?)
                }
            };
            Ok(TagValue { name: tag.name.clone(), value, default: tag.default.clone() })
        });
        compiled.collect()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value for `record`.
    pub fn value(&self, record: &Record) -> Option<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let found = match &self.value {
            Value::Fixed(text) => text.clone(),
            Value::Header(slot) => record.header(*slot).map(text),
            Value::Metadata(slot) => record.metadata(*slot).map(|(value, _)| text(value)),
            Value::Format(format) => {
                let mut out = Vec::new();
                format.write(record, &mut out);
                Some(text(&out))
            }
        };
        found.filter(|value| !value.is_empty()).or_else(|| self.default.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::operator::MetadataOwner;
    use super::*;

    #[test]
    fn tags_take_their_source_then_their_default_then_nothing() {
        let environment = |name: &str| (name == "POD").then(|| "web-1".to_owned());
        let context = Context { environment: &environment, ..Context::default() };
        let metadata = WantedMetadata {
            owner: MetadataOwner::Cluster,
            namespace: "istio".into(),
            path: vec!["services".into()],
        };
        let sources = [
            TagSource::Literal("x".into()),
            TagSource::Environment("POD".into()),
            TagSource::Environment("NOPE".into()),
            TagSource::RequestHeader("x-a".into()),
            TagSource::RequestHeader("x-b".into()),
            TagSource::Metadata(metadata),
            TagSource::Format("%REQ(x-a)%-%PROTOCOL%".into()),
            TagSource::Format("%PROTOCOL%".into()),
        ];
        let tags = |default: Option<&str>| {
            sources
                .iter()
                .map(|source| Tag {
                    name: "t".into(),
                    source: source.clone(),
                    default: default.map(Into::into),
                })
                .collect::<Vec<_>>()
        };
        let values = |default| {
            let mut wanted = Wanted::default();
            let compiled = TagValue::compile(&tags(default), &context, &mut wanted).expect("valid");
            let mut record = Record::new();
            record.push_header(0, b"a");
            record.push_metadata(0, b"[1]", false);
            compiled.iter().map(|tag| tag.value(&record).unwrap_or("none".into())).collect::<Vec<_>>()
        };
        assert_eq!(values(None), ["x", "web-1", "none", "a", "none", "[1]", "a-", "none"]);
        assert_eq!(values(Some("d")), ["x", "web-1", "d", "a", "d", "[1]", "a-", "d"]);
    }
}
