//! Spans as Zipkin's JSON, version 2.
//!
//! Source: zipkin-api `zipkin2-api.yaml`; fields as Envoy's `JsonV2Serializer` fills them.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::context::write_hex64;
use super::span::{Kind, Span};
use crate::render::push_json_string;

/// What spans of this process have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZipkinTracer {
    /// Name of this service: the node's cluster.
    pub service_name: String,
    /// Our address.
    pub address: IpAddr,
}

impl ZipkinTracer {
    /// Appends a span to a list that the caller opens and closes.
    pub(crate) fn write(&self, span: &Span, out: &mut Vec<u8>) {
        let mut json = String::with_capacity(1024);
        json.push_str("{\"traceId\":\"");
        span.context.trace.write(&mut json);
        if let Some(parent) = span.context.parent {
            json.push_str("\",\"parentId\":\"");
            write_hex64(parent, &mut json);
        }
        json.push_str("\",\"id\":\"");
        write_hex64(span.context.span, &mut json);
        let (kind, end) = match span.kind {
            Kind::Server => ("SERVER", "ss"),
            Kind::Client => ("CLIENT", "cr"),
        };
        let _ = write!(json, "\",\"kind\":\"{kind}\",\"name\":");
        push_json_string(&span.name, &mut json);
        let _ = write!(json, ",\"timestamp\":{}", micros(span.start, Duration::ZERO));
        // Compat: a duration of nothing is none.
        let _ = write!(json, ",\"duration\":{}", span.duration.as_micros().max(1));
        json.push_str(",\"localEndpoint\":{\"serviceName\":");
        push_json_string(&self.service_name, &mut json);
        let family = if self.address.is_ipv4() { "ipv4" } else { "ipv6" };
        let _ = write!(json, ",\"{family}\":\"{}\",\"port\":0}}", self.address);
        json.push_str(",\"tags\":{");
        // Compat: a tag without a value is none.
        let tags = span.tags.iter().filter(|(_, value)| !value.is_empty());
        for (i, (name, value)) in tags.enumerate() {
            if i > 0 {
                json.push(',');
            }
            push_json_string(name, &mut json);
            json.push(':');
            push_json_string(value, &mut json);
        }
        json.push_str("},\"annotations\":[");
        for (at, event) in span.events.iter().copied().chain([(span.duration, end)]) {
            let _ = write!(json, "{{\"timestamp\":{},\"value\":\"{event}\"}},", micros(span.start, at));
        }
        // The end is always there, so there is a comma to take back.
        json.pop();
        json.push(']');
        // Compat: the server's side says so whenever ids are shared, also at the root.
        if span.shared && span.kind == Kind::Server {
            json.push_str(",\"shared\":true");
        }
        json.push('}');
        out.extend_from_slice(json.as_bytes());
    }
}

fn micros(start: SystemTime, since: Duration) -> u128 {
    (start.duration_since(UNIX_EPOCH).unwrap_or_default() + since).as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{SpanContext, TraceId};

    #[test]
    fn a_span_has_zipkins_fields() {
        let mut span = Span {
            context: SpanContext {
                trace: TraceId { high: Some(1), low: 2 },
                span: 3,
                parent: Some(4),
                sampled: true,
            },
            shared: true,
            kind: Kind::Server,
            name: "a \"b\"".into(),
            start: UNIX_EPOCH + Duration::from_micros(1_795_268_632_978_650),
            duration: Duration::from_micros(250),
            tags: vec![],
            events: vec![(Duration::from_micros(9), "first")],
            failed: false,
            remote_parent: false,
            tracestate: String::new(),
        };
        span.tag("http.method", "GET");
        span.tag("lit", "x");
        span.tag("http.method", "PUT");
        let tracer =
            ZipkinTracer { service_name: "a.b".into(), address: "10.0.0.1".parse().expect("address") };
        let mut out = Vec::new();
        tracer.write(&span, &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(
            value,
            serde_json::json!({
                "traceId": "00000000000000010000000000000002", "parentId": "0000000000000004",
                "id": "0000000000000003", "kind": "SERVER", "name": "a \"b\"",
                "timestamp": 1_795_268_632_978_650_u64, "duration": 250, "shared": true,
                "localEndpoint": {"serviceName": "a.b", "ipv4": "10.0.0.1", "port": 0},
                "tags": {"http.method": "PUT", "lit": "x"},
                "annotations": [
                    {"timestamp": 1_795_268_632_978_659_u64, "value": "first"},
                    {"timestamp": 1_795_268_632_978_900_u64, "value": "ss"},
                ],
            })
        );
        span.kind = Kind::Client;
        span.context.parent = None;
        out.clear();
        tracer.write(&span, &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert!(value.get("shared").is_none() && value.get("parentId").is_none(), "{value}");
    }
}
