use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::flags::{ResponseFlag, ResponseFlags};

/// Compiles `format` and renders a request with most values set.
fn line(format: &str) -> String {
    rendered(&LogFormat::text(format, &Context::default()).unwrap_or_else(|e| panic!("{format}: {e}")))
}

fn rendered(format: &LogFormat) -> String {
    let mut out = Vec::new();
    format.write(&sample(format), &mut out);
    String::from_utf8(out).expect("UTF-8")
}

fn sample(format: &LogFormat) -> Record {
    let mut record = Record::new();
    record.start_time = UNIX_EPOCH + Duration::from_millis(1_785_585_600_123);
    record.duration = Some(Duration::from_micros(12_900));
    record.protocol = Some(Protocol::Http11);
    record.response_code = 503;
    record.flags.insert(ResponseFlag::UpstreamRetryLimitExceeded);
    record.flags.insert(ResponseFlag::UpstreamConnectionFailure);
    record.bytes_sent = 95;
    record.downstream_remote = Some(Address::Ip("10.0.0.9:41234".parse().expect("address")));
    record.downstream_local = Some(Address::Ip("[fd00::1]:15006".parse().expect("address")));
    record.upstream_remote = Some(Address::Ip("10.0.0.2:9080".parse().expect("address")));
    record.set(Text::ResponseCodeDetails, b"upstream reset {x}");
    record.set(Text::ConnectionTerminationDetails, b"two words");
    record.set(Text::UpstreamClusterRaw, b"outbound|9080||reviews");
    record.set(Text::RouteName, b"default");
    record.mark(TimePoint::RequestEnd, Duration::from_millis(1));
    record.mark(TimePoint::UpstreamReceiveBegin, Duration::from_millis(4));
    record.mark(TimePoint::ResponseEnd, Duration::from_micros(9999));
    for (slot, wanted) in format.wanted().headers.iter().enumerate() {
        let value = match (wanted.source, wanted.name.as_str()) {
            (HeaderSource::Request, ":method") => "GET",
            (HeaderSource::Request, ":path") => "/reviews/0?a=1&b=two&e=",
            (HeaderSource::Request, ":authority") => "reviews:9080",
            (HeaderSource::Request, "x-empty") => "",
            (HeaderSource::Request, "user-agent") => "curl \"quoted\"",
            _ => continue,
        };
        record.push_header(slot, value.as_bytes());
    }
    record
}

#[test]
fn istio_default_line_has_its_fields_in_order() {
    assert_eq!(
        line(ISTIO_TEXT),
        "[2026-08-01T12:00:00.123Z] \"GET /reviews/0?a=1&b=two&e= HTTP/1.1\" 503 URX,UF upstream_reset_{x} two words \
\"-\" 0 95 12 - \"-\" \"curl \"quoted\"\" \"-\" \"reviews:9080\" \"10.0.0.2:9080\" outbound|9080||reviews - \
[fd00::1]:15006 10.0.0.9:41234 - default\n"
    );
}

#[test]
fn tcp_line_has_dashes_for_http() {
    let format = LogFormat::text(ISTIO_TEXT, &Context::default()).expect("valid");
    let mut out = Vec::new();
    let mut record = Record::new();
    record.kind = RecordKind::TcpConnectionEnd;
    format.write(&record, &mut out);
    let out = String::from_utf8(out).expect("UTF-8");
    assert!(out.starts_with("[1970-01-01T00:00:00.000Z] \"- - -\" 0 - - - \"-\" 0 0 - - "), "{out}");
}

#[test]
fn operators_give_their_values() {
    for (format, expected) in [
        ("%RESPONSE_FLAGS_LONG%", "UpstreamRetryLimitExceeded,UpstreamConnectionFailure"),
        ("%REQ(X-A?:PATH):8%", "/reviews"),
        ("%REQ(x-a?X-B)%", "-"),
        ("%QUERY_PARAM(b)% %QUERY_PARAM(c)%", "two -"),
        ("%PATH(NQ)% %PATH(WQ:ORIG)% %PATH%", "/reviews/0 - /reviews/0?a=1&b=two&e="),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%", "10.0.0.9 41234"),
        ("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "fd00::1"),
        ("%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% %REQUEST_TX_DURATION%", "1 4 5 -"),
        ("%COMMON_DURATION(DS_RX_END:DS_TX_END:us)%", "8999"),
        ("%COMMON_DURATION(DS_TX_END:DS_RX_END:ns)%", "-"),
        ("%START_TIME(%s.%3f)%", "1785585600.123"),
        ("%EMIT_TIME(%E6S)%", "00.135900"),
        ("%ACCESS_LOG_TYPE% %GRPC_STATUS%", "DownstreamEnd -"),
        ("%DYNAMIC_METADATA(a:b)% %FILTER_STATE(k:PLAIN)%", "- -"),
        ("%DOWNSTREAM_PEER_URI_SAN% %TRACE_ID% %UPSTREAM_TLS_VERSION%", "- - -"),
        ("[%REQ(x-empty)%] [%REQ(x-empty?user-agent)%] [%QUERY_PARAM(e)%]", "[] [] []"),
        ("[%LOCAL_REPLY_BODY%] [%CUSTOM_FLAGS%] %ENVIRONMENT(NOPE)%", "[] [] -"),
        ("%UPSTREAM_HOST% %UPSTREAM_HOST_NAME% %UPSTREAM_REMOTE_ADDRESS%", "10.0.0.2:9080 10.0.0.2:9080 -"),
        ("%UPSTREAM_CONNECTION_ID% %UPSTREAM_REQUEST_ATTEMPT_COUNT%", "0 0"),
        ("%REQUESTED_SERVER_NAME% %REQUESTED_SERVER_NAME(SNI_FIRST)%", "- reviews:9080"),
        ("%QUERY_PARAMS% %QUERY_PARAMS(DECODED):5%", "a=1&b=two&e= a=1&b"),
        (
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(8)%",
            "10.0.0.0/16 fd00::/8",
        ),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(33)%", "-"),
        (
            r#"%COALESCE({"operators": [{"command": "REQ", "param": "x-none"}, "UPSTREAM_TLS_VERSION", "PROTOCOL"]}):4%"#,
            "HTTP",
        ),
        ("%COMMON_DURATION(own:DS_TX_END)% %COMMON_DURATION(DS_RX_BEG:DS_RX_END)%", "- 1"),
        ("%CEL(response.code)% %XFCC_VALUE(uri)% %BYTES_RETRANSMITTED%", "- - 0"),
        ("100%%", "100%"),
    ] {
        assert_eq!(line(format), expected, "{format}");
    }
}

#[test]
fn wrong_formats_are_refused_with_their_place() {
    use FormatProblem as P;
    let problem = |format: &str| {
        let error = LogFormat::text(format, &Context::default()).expect_err(format);
        (error.position, error.problem)
    };
    assert_eq!(problem("ab %NOPE%"), (3, P::Unknown("NOPE".into())));
    assert_eq!(problem("%VIRTUAL_HOST_NAME%"), (0, P::Unknown("VIRTUAL_HOST_NAME".into())));
    assert_eq!(problem("%REQ_WITHOUT_QUERY(:path)%"), (0, P::Unknown("REQ_WITHOUT_QUERY".into())));
    assert_eq!(problem("%REQ%"), (0, P::MissingParameter("REQ".into())));
    assert_eq!(problem("%REQ(a b)%"), (0, P::BadParameter("REQ".into(), "a b".into())));
    assert_eq!(problem("%REQ(a?b?c)%"), (0, P::BadParameter("REQ".into(), "a?b?c".into())));
    assert_eq!(problem("%PROTOCOL(x)%"), (0, P::BadParameter("PROTOCOL".into(), "x".into())));
    assert_eq!(problem("%START_TIME(%q)%"), (0, P::BadParameter("START_TIME".into(), "%q".into())));
    assert_eq!(problem("%START_TIME:5%"), (0, P::NoLength("START_TIME".into())));
    assert_eq!(
        problem("%COMMON_DURATION(a:b:xx)%"),
        (0, P::BadParameter("COMMON_DURATION".into(), "a:b:xx".into()))
    );
    assert_eq!(problem("%START_TIME_LOCAL%"), (0, P::Unsupported("START_TIME_LOCAL".into())));
    assert_eq!(problem("%METADATA(SECRET:ns)%"), (0, P::BadParameter("METADATA".into(), "SECRET:ns".into())));
    let long = "x".repeat(crate::limits::LOG_FORMAT_BYTES_MAX + 1);
    assert_eq!(problem(&long).1, P::TooLong);
    assert_eq!(
        LogFormat::text("x %NOPE%", &Context::default()).unwrap_err().to_string(),
        "unknown operator `NOPE` (byte 2 of the format)"
    );
}

/// Every operator that Envoy 1.40 was seen to accept (envoy-observed §10).
#[test]
fn every_operator_envoy_accepts_compiles() {
    let plain = "START_TIME EMIT_TIME PROTOCOL UPSTREAM_PROTOCOL RESPONSE_CODE RESPONSE_CODE_DETAILS \
CONNECTION_TERMINATION_DETAILS RESPONSE_FLAGS RESPONSE_FLAGS_LONG CUSTOM_FLAGS BYTES_RECEIVED BYTES_SENT \
REQUEST_HEADERS_BYTES RESPONSE_HEADERS_BYTES RESPONSE_TRAILERS_BYTES UPSTREAM_WIRE_BYTES_SENT \
DOWNSTREAM_WIRE_BYTES_RECEIVED UPSTREAM_HEADER_BYTES_RECEIVED DOWNSTREAM_HEADER_BYTES_SENT BYTES_RETRANSMITTED \
PACKETS_RETRANSMITTED DURATION REQUEST_DURATION REQUEST_TX_DURATION RESPONSE_DURATION RESPONSE_TX_DURATION \
DOWNSTREAM_HANDSHAKE_DURATION ROUNDTRIP_DURATION UPSTREAM_HOST UPSTREAM_HOST_NAME UPSTREAM_CLUSTER \
UPSTREAM_CLUSTER_RAW UPSTREAM_LOCAL_ADDRESS UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT UPSTREAM_LOCAL_PORT \
UPSTREAM_REMOTE_ADDRESS UPSTREAM_REMOTE_PORT UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_CONNECTION_ID \
UPSTREAM_TLS_CIPHER UPSTREAM_TLS_VERSION UPSTREAM_TLS_SESSION_ID UPSTREAM_PEER_ISSUER UPSTREAM_PEER_CERT \
UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_URI_SAN UPSTREAM_PEER_DNS_SAN UPSTREAM_TRANSPORT_FAILURE_REASON \
DOWNSTREAM_TRANSPORT_FAILURE_REASON UPSTREAM_DETECTED_CLOSE_TYPE DOWNSTREAM_DETECTED_CLOSE_TYPE \
UPSTREAM_LOCAL_CLOSE_REASON DOWNSTREAM_LOCAL_CLOSE_REASON DOWNSTREAM_REMOTE_ADDRESS DOWNSTREAM_LOCAL_ADDRESS \
DOWNSTREAM_DIRECT_REMOTE_ADDRESS DOWNSTREAM_DIRECT_LOCAL_ADDRESS DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT \
DOWNSTREAM_LOCAL_PORT DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_SUBJECT \
DOWNSTREAM_LOCAL_URI_SAN DOWNSTREAM_LOCAL_DNS_SAN DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_PEER_IP_SAN \
DOWNSTREAM_PEER_ISSUER DOWNSTREAM_PEER_SERIAL DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_CERT_V_START \
DOWNSTREAM_PEER_CERT_V_END DOWNSTREAM_PEER_FINGERPRINT_1 DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_TLS_CIPHER \
DOWNSTREAM_TLS_VERSION DOWNSTREAM_TLS_SESSION_ID TLS_JA3_FINGERPRINT TLS_JA4_FINGERPRINT CONNECTION_ID STREAM_ID \
UNIQUE_ID TRACE_ID SPAN_ID REQUESTED_SERVER_NAME ROUTE_NAME VIRTUAL_CLUSTER_NAME FILTER_CHAIN_NAME PATH \
LOCAL_REPLY_BODY ACCESS_LOG_TYPE HOSTNAME GRPC_STATUS GRPC_STATUS_NUMBER";
    let with_parameter = "START_TIME(%Y%3f) COMMON_DURATION(DS_RX_BEG:US_TX_BEG:ms) REQUESTED_SERVER_NAME(SNI_FIRST) \
CLUSTER_METADATA(ns) UPSTREAM_METADATA(ns:k) DYNAMIC_METADATA(ns:k:l) METADATA(ROUTE:ns) METADATA(LISTENER:ns:k) FILTER_STATE(k:FIELD:f) \
UPSTREAM_FILTER_STATE(k) REQ(a?b):9 REQUEST_HEADER(a) RESP(a) RESPONSE_HEADER(a) TRAILER(a) RESPONSE_TRAILER(a) \
QUERY_PARAM(k) PATH(NQ) ENVIRONMENT(x) GRPC_STATUS(SNAKE_STRING)";
    for operator in plain.split_whitespace().chain(with_parameter.split_whitespace()) {
        line(&format!("%{operator}%"));
    }
    for operator in ["VIRTUAL_HOST_NAME", "LISTENER_METADATA(x)", "ROUTE_METADATA(x)", "SECRET(x)"] {
        assert!(LogFormat::text(&format!("%{operator}%"), &Context::default()).is_err(), "{operator}");
    }
}

#[test]
fn json_keeps_types_and_escapes() {
    let text = |s: &str| JsonTemplate::String(s.to_owned());
    let template = JsonTemplate::Object(vec![
        ("null".into(), JsonTemplate::Null),
        ("flags".into(), text("%RESPONSE_FLAGS%")),
        ("code".into(), text("%RESPONSE_CODE%")),
        ("agent".into(), text("%REQ(user-agent)%")),
        ("missing".into(), text("%REQ(x)%")),
        ("mixed".into(), text("%PROTOCOL% %REQ(x)%")),
        ("fixed".into(), JsonTemplate::Number(1.5)),
        ("list".into(), JsonTemplate::List(vec![JsonTemplate::Bool(true), text("%BYTES_SENT%")])),
    ]);
    let format = LogFormat::json(&template, &Context::default()).expect("valid");
    let mut record = sample(&format);
    record.flags = ResponseFlags::new();
    let mut out = Vec::new();
    format.write(&record, &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "{\"agent\":\"curl \\\"quoted\\\"\",\"code\":503,\"fixed\":1.5,\"flags\":\"-\",\"list\":[true,95],\"missing\":null,\
\"mixed\":\"HTTP/1.1 -\",\"null\":null}\n"
    );
    let omit = Context { omit_empty: true, ..Context::default() };
    let short = rendered(&LogFormat::json(&template, &omit).expect("valid"));
    assert!(!short.contains("missing") && !short.contains("null"), "{short}");
    serde_json::from_str::<serde_json::Value>(&short).expect("valid JSON");
}

#[test]
fn json_nesting_is_limited() {
    let nested =
        |depth: usize| (0..depth).fold(JsonTemplate::Null, |inner, _| JsonTemplate::List(vec![inner]));
    let depth = crate::limits::LOG_JSON_DEPTH_MAX;
    assert!(LogFormat::json(&nested(depth), &Context::default()).is_ok());
    assert!(LogFormat::json(&nested(depth + 1), &Context::default()).is_err());
}

#[test]
fn context_answers_host_environment_and_extension() {
    let environment = |name: &str| (name == "POD").then(|| "web-1".to_owned());
    let context =
        Context { hostname: "node", environment: &environment, req_without_query: true, omit_empty: true };
    let format = "%HOSTNAME% %ENVIRONMENT(POD)% %ENVIRONMENT(NO)%|%REQ_WITHOUT_QUERY(:PATH)%";
    assert_eq!(rendered(&LogFormat::text(format, &context).expect("valid")), "node web-1 -|/reviews/0");
}

#[test]
fn a_cleared_record_is_an_empty_one() {
    let format = LogFormat::text(ISTIO_TEXT, &Context::default()).expect("valid");
    let mut record = sample(&format);
    record.clear();
    assert_eq!(record.text(Text::RouteName), None);
    assert_eq!(record.header(0), None);
    assert_eq!(record.time(TimePoint::RequestEnd), None);
    assert_eq!(record.flags, ResponseFlags::new());
}
