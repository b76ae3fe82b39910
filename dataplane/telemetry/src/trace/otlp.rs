//! Spans as OTLP.
//!
//! Source: opentelemetry-proto `trace/v1`; attributes of the resource as Envoy's OpenTelemetry tracer fills them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringsail_xds::opentelemetry::proto::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use ringsail_xds::opentelemetry::proto::resource::v1::Resource;
use ringsail_xds::opentelemetry::proto::trace::v1 as pb;

use super::span::{Kind, Span};

/// What spans of this process have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpTracer {
    /// Attributes of the resource; those of the library are added.
    pub resource: Vec<(String, String)>,
}

/// Flags of a span that say where it comes from: sampled, and it is known whether the parent is elsewhere.
const FLAGS_SAMPLED: u32 = 0x101;
/// The parent is elsewhere.
const FLAG_REMOTE: u32 = 0x200;

impl OtlpTracer {
    /// The message for these spans.
    pub(crate) fn resource_spans(&self, spans: Vec<pb::Span>) -> pb::ResourceSpans {
        let own = [
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", "ringsail"),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        let attributes = self.resource.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        pb::ResourceSpans {
            resource: Some(Resource {
                attributes: attributes.chain(own).map(|(key, value)| text(key, value)).collect(),
            }),
            scope_spans: vec![pb::ScopeSpans { scope: Some(scope()), spans }],
        }
    }
}

/// Which program says all this.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "ringsail".into(), version: env!("CARGO_PKG_VERSION").into() }
}

/// One span.
pub(crate) fn span(span: &Span) -> pb::Span {
    let start = nanos(span.start, Duration::ZERO);
    let status = pb::Status { code: pb::status::StatusCode::Error.into(), message: String::new() };
    pb::Span {
        trace_id: span.context.trace.bytes().to_vec(),
        span_id: span.context.span.to_be_bytes().to_vec(),
        trace_state: span.tracestate.clone(),
        parent_span_id: span.context.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: if span.remote_parent { FLAGS_SAMPLED | FLAG_REMOTE } else { FLAGS_SAMPLED },
        name: span.name.clone(),
        kind: match span.kind {
            Kind::Server => pb::span::SpanKind::Server,
            Kind::Client => pb::span::SpanKind::Client,
        }
        .into(),
        start_time_unix_nano: start,
        end_time_unix_nano: nanos(span.start, span.duration),
        attributes: span.tags.iter().map(|(name, value)| text(name, value)).collect(),
        events: span
            .events
            .iter()
            .map(|(at, name)| pb::span::Event {
                time_unix_nano: nanos(span.start, *at),
                name: (*name).to_owned(),
            })
            .collect(),
        status: span.failed.then_some(status),
    }
}

/// A text attribute.
pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    let value = any_value::Value::StringValue(value.to_owned());
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn nanos(start: SystemTime, since: Duration) -> u64 {
    let since_epoch = start.duration_since(UNIX_EPOCH).unwrap_or_default() + since;
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// The attributes in `OTEL_RESOURCE_ATTRIBUTES`: `key=value` pairs with commas in between, values percent-encoded.
/// Source: OpenTelemetry specification, "Resource SDK". What is no pair is left out.
pub fn environment_attributes(value: &str) -> Vec<(String, String)> {
    let pairs = value.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.trim().to_owned(), percent_decoded(value.trim())))
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| super::context::hex(digits, 2));
        if let (b'%', Some(code)) = (first, code) {
            bytes.push(code as u8);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_attributes_are_pairs() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            environment_attributes("a=b, c=d%20e%,junk,=x,f="),
            [pair("a", "b"), pair("c", "d e%"), pair("f", "")]
        );
        assert_eq!(environment_attributes(""), []);
    }
}
