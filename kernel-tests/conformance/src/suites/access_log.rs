//! Access logs: every operator in text and JSON, formats, filters, and when lines are written.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ringsail_harness::config::TYPE;
use serde_json::{Map, Value, json};

use crate::http2::{Call, calls};
use crate::scenario::{Observed, Run, Scenario, endpoint};
use crate::suite::{Suite, filter};

/// How long lines may take to be written; both proxies write every 50 ms.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between values of a text line: nothing else holds it.
const SEPARATOR: char = '\u{1e}';

/// What requests are known by.
const REQUEST_ID: &str = "5b3c6d58-cc1c-4c1c-9c1c-111111111111";

/// Every operator of Envoy 1.40 but those of [`WAITING`], with the parameters that change what it shows.
const OPERATORS: &[&str] = &[
    "ACCESS_LOG_TYPE",
    "BYTES_RECEIVED",
    "BYTES_RETRANSMITTED",
    "BYTES_SENT",
    "CEL(1 + 'a')",
    "CEL(connection.mtls)",
    "CEL(request.headers['nope'])",
    "CEL(request.headers['x-a'])",
    "CEL(request.path):3",
    "CEL(request.path)",
    "CEL(request.size)",
    "CEL(request.total_size)",
    "CEL(response.code == 200)",
    "CEL(response.code)",
    "CEL(response.flags)",
    "CEL(response.size)",
    "CEL(response.total_size)",
    "CEL(upstream.address)",
    "CEL(xds.cluster_name)",
    "CEL(xds.route_name)",
    "CEL([1,2])",
    "CLUSTER_METADATA(ns)",
    "CLUSTER_METADATA(ns:b)",
    "CLUSTER_METADATA(ns:n)",
    "CLUSTER_METADATA(ns:nope)",
    "CLUSTER_METADATA(ns:o)",
    "CLUSTER_METADATA(ns:o:l)",
    "CLUSTER_METADATA(ns:s)",
    "CLUSTER_METADATA(ns:z)",
    "COALESCE({\"operators\":[\"PROTOCOL\"]}):4",
    "COALESCE({\"operators\":[\"UPSTREAM_TLS_VERSION\",\"RESPONSE_CODE\"]})",
    "COALESCE({\"operators\":[{\"command\":\"REQ\",\"param\":\"nope\"},{\"command\":\"REQ\",\"param\":\"x-a\",\"max_length\":2},\"PROTOCOL\"]})",
    "COMMON_DURATION(DS_CX_BEG:DS_CX_END:ns)",
    "COMMON_DURATION(DS_RX_BEG:DS_RX_END)",
    "COMMON_DURATION(DS_RX_BEG:DS_TX_END:ms)",
    "COMMON_DURATION(DS_TX_BEG:DS_TX_END:ns)",
    "COMMON_DURATION(US_CX_BEG:US_CX_END:us)",
    "COMMON_DURATION(US_CX_BEG:US_HS_END:us)",
    "COMMON_DURATION(US_RX_BEG:DS_RX_BEG:ns)",
    "COMMON_DURATION(US_RX_BEG:US_RX_END:ns)",
    "COMMON_DURATION(US_RX_BODY_BEG:US_RX_END:ns)",
    "COMMON_DURATION(US_TX_BEG:US_TX_END:ns)",
    "COMMON_DURATION(own:DS_TX_END:ns)",
    "CONNECTION_ID",
    "CONNECTION_TERMINATION_DETAILS",
    "CUSTOM_FLAGS",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_LOCAL_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_PORT",
    "DOWNSTREAM_HANDSHAKE_DURATION",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_EMAIL_SAN",
    "DOWNSTREAM_LOCAL_IP_SAN",
    "DOWNSTREAM_LOCAL_OTHERNAME_SAN",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CERT_V_END",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_CERT_V_START(%s)",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_EMAIL_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_IP_SAN",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_ISSUER_SERIAL",
    "DOWNSTREAM_PEER_OTHERNAME_SAN",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_GROUP",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    "DOWNSTREAM_WIRE_BYTES_SENT",
    "DURATION",
    "DYNAMIC_METADATA(ns)",
    "EMIT_TIME",
    "EMIT_TIME(%s)",
    "ENVIRONMENT(NO_SUCH_VARIABLE)",
    "FILTER_CHAIN_NAME",
    "FILTER_STATE(a)",
    "FILTER_STATE(a:FIELD:b)",
    "FILTER_STATE(a:PLAIN):3",
    "GRPC_STATUS",
    "GRPC_STATUS(CAMEL_STRING)",
    "GRPC_STATUS(NUMBER)",
    "GRPC_STATUS(SNAKE_STRING)",
    "GRPC_STATUS_NUMBER",
    "HOSTNAME",
    "LISTENER_NAME",
    "LOCAL_REPLY_BODY",
    "METADATA(CLUSTER:ns:s)",
    "METADATA(DYNAMIC:ns:s)",
    "METADATA(LISTENER:ns:s)",
    "METADATA(LISTENER_FILTER_CHAIN:ns:s)",
    "METADATA(ROUTE:ns):5",
    "METADATA(ROUTE:ns:s)",
    "METADATA(ROUTE:ns:s):2",
    "METADATA(UPSTREAM_HOST:ns:s)",
    "METADATA(VIRTUAL_HOST:ns:s)",
    "PACKETS_RETRANSMITTED",
    "PATH",
    "PATH(NQ)",
    "PATH(NQ:ORIG_OR_PATH)",
    "PATH(NQ:PATH)",
    "PATH(WQ)",
    "PATH(WQ):3",
    "PATH(WQ:ORIG)",
    "PROTOCOL",
    "QUERY_PARAM(a)",
    "QUERY_PARAM(a):1",
    "QUERY_PARAM(b)",
    "QUERY_PARAM(e)",
    "QUERY_PARAM(nope)",
    "QUERY_PARAMS",
    "QUERY_PARAMS(DECODED)",
    "QUERY_PARAMS(ORIG)",
    "QUERY_PARAMS:3",
    "REQ(:AUTHORITY)",
    "REQ(:METHOD)",
    "REQ(:PATH)",
    "REQ(:SCHEME)",
    "REQ(HOST)",
    "REQ(X-A):1",
    "REQ(X-EMPTY)",
    "REQ(X-MISSING?X-A)",
    "REQUESTED_SERVER_NAME",
    "REQUESTED_SERVER_NAME(HOST_FIRST)",
    "REQUESTED_SERVER_NAME(SNI_FIRST)",
    "REQUESTED_SERVER_NAME(SNI_FIRST:ORIG)",
    "REQUEST_DURATION",
    "REQUEST_HEADER(X-A)",
    "REQUEST_HEADERS_BYTES",
    "REQUEST_TX_DURATION",
    "RESP(:STATUS)",
    "RESP(content-length)",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)",
    "RESPONSE_DURATION",
    "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG",
    "RESPONSE_HEADER(x-backend)",
    "RESPONSE_HEADERS_BYTES",
    "RESPONSE_TRAILER(grpc-status)",
    "RESPONSE_TRAILERS_BYTES",
    "RESPONSE_TX_DURATION",
    "ROUNDTRIP_DURATION",
    "ROUTE_NAME",
    "SPAN_ID",
    "START_TIME",
    "START_TIME(%Y/%m/%dT%H:%M:%S%z)",
    "START_TIME(%s%6f%9f%f)",
    "START_TIME(%s.%3f)",
    "STREAM_ID",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "TRACE_ID",
    "TRAILER(nope)",
    "TYPED_CEL(connection.mtls)",
    "TYPED_CEL(request.headers['nope'])",
    "TYPED_CEL(request.headers['x-a'])",
    "TYPED_CEL(response.code)",
    "UNIQUE_ID",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_CLUSTER_RAW",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "UPSTREAM_DETECTED_CLOSE_TYPE",
    "UPSTREAM_FILTER_STATE(a)",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_HOST",
    "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAME",
    "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAME_WITHOUT_PORT",
    "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(0)",
    "UPSTREAM_LOCAL_CLOSE_REASON",
    "UPSTREAM_LOCAL_DNS_SAN",
    "UPSTREAM_LOCAL_IP_SAN",
    "UPSTREAM_LOCAL_PORT",
    "UPSTREAM_LOCAL_URI_SAN",
    "UPSTREAM_METADATA(ns:s)",
    "UPSTREAM_PEER_CERT",
    "UPSTREAM_PEER_CERT_V_END",
    "UPSTREAM_PEER_CERT_V_START",
    "UPSTREAM_PEER_DNS_SAN",
    "UPSTREAM_PEER_IP_SAN",
    "UPSTREAM_PEER_ISSUER",
    "UPSTREAM_PEER_SUBJECT",
    "UPSTREAM_PEER_URI_SAN",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(8)",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_SERVER_NAME",
    "UPSTREAM_TLS_CIPHER",
    "UPSTREAM_TLS_GROUP",
    "UPSTREAM_TLS_SESSION_ID",
    "UPSTREAM_TLS_VERSION",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_WIRE_BYTES_SENT",
    "VIRTUAL_CLUSTER_NAME",
    "XFCC_VALUE(uri)",
];

/// Operators that this proxy refuses: times of a time zone, the kernel's round-trip time, and how long a route took to
/// be found.
const WAITING: &[&str] = &[
    "START_TIME_LOCAL",
    "EMIT_TIME_LOCAL",
    "DOWNSTREAM_CX_RTT",
    "ROUTE_RESOLUTION_COUNT",
    "ROUTE_RESOLUTION_TIME_US",
];

/// A value without what differs between any two runs: moments, lengths of time, ports of ours and of clients, numbers of
/// connections, ids.
fn shape(operator: &str, value: &str) -> String {
    let own_port = operator.starts_with("DOWNSTREAM_") || operator.starts_with("UPSTREAM_LOCAL_");
    let by_chance = operator.contains("TIME")
        || operator.contains("DURATION")
        || operator.contains("CONNECTION_ID")
        || operator.ends_with("_PORT") && own_port;
    if by_chance {
        let mut shape = String::new();
        for c in value.chars() {
            if !c.is_ascii_digit() {
                shape.push(c);
            } else if !shape.ends_with('N') {
                shape.push('N');
            }
        }
        return shape;
    }
    if operator == "UNIQUE_ID" {
        return format!("{} characters", value.len());
    }
    match value.split_once(':') {
        Some((host, port)) if own_port && operator.ends_with("_ADDRESS") => {
            format!("{host}:{}", if port.is_empty() { "" } else { "N" })
        }
        _ => value.to_string(),
    }
}

/// A file beside the access log, as the configuration names it.
fn path(id: &str, kind: &str) -> String {
    format!("ACCESS_LOG.{id}.{kind}")
}

/// What the proxy has written there, once there are `count` lines.
fn lines(run: &Run<'_>, kind: &str, count: usize) -> Result<Vec<String>> {
    let file = run.peer.folder().join(format!("access.log.{}.{kind}", run.id));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let found: Vec<String> = text.split_terminator('\n').map(str::to_string).collect();
        if found.len() >= count {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("{} of {count} lines in {}", found.len(), file.display());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn file_log(path: String, format: Value) -> Value {
    json!({"name": "envoy.access_loggers.file", "typed_config": {
        "@type": format!("{TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog"), "path": path, "log_format": format}})
}

/// Metadata with a value of each kind.
fn metadata() -> Value {
    json!({"filter_metadata": {"ns": {"s": "text", "n": 1.5, "i": 7, "b": true, "z": null, "o": {"l": [1, "a"], "e": ""}}}})
}

/// The connection manager's fields for logs; what the router adds would make lengths differ by chance.
fn manager(logs: Value) -> Value {
    let router = filter("router", "router.v3.Router", json!({"suppress_envoy_headers": true}));
    json!({"access_log": logs, "http_filters": [router]})
}

/// A scenario with every operator, in text, in JSON, and in JSON without empty values.
fn all_operators(id: &'static str, operators: Vec<&'static str>) -> Scenario {
    let text: Vec<String> = operators.iter().map(|operator| format!("%{operator}%")).collect();
    let object: Map<String, Value> =
        operators.iter().map(|operator| (operator.to_string(), json!(format!("%{operator}%")))).collect();
    let logs = json!([
        file_log(
            path(id, "text"),
            json!({"text_format_source": {"inline_string": text.join(&SEPARATOR.to_string()) + "\n"}})
        ),
        file_log(path(id, "json"), json!({"json_format": object})),
        file_log(path(id, "omit"), json!({"json_format": object, "omit_empty_values": true})),
    ]);
    let named = endpoint("a", json!({"endpoint": {"hostname": "a.example"}, "metadata": metadata()}));
    Scenario::new(id)
        .entry(json!({"metadata": metadata()}))
        .virtual_host(json!({"metadata": metadata()}))
        .cluster(json!({"metadata": metadata(), "alt_stat_name": format!("{id}-stat"),
            "load_assignment": {"cluster_name": id, "endpoints": [{"lb_endpoints": [named]}]}}))
        .manager(manager(logs))
}

/// Notes every value of the first line.
fn note_operators(run: &Run<'_>, operators: &[&str]) -> Result<Observed> {
    let mut observed = Observed::new();
    let text = lines(run, "text", 1)?.swap_remove(0);
    let parse = |line: &str| -> Result<Value> { serde_json::from_str(line).context("a line is no JSON") };
    let json = parse(&lines(run, "json", 1)?[0])?;
    let omitting = parse(&lines(run, "omit", 1)?[0])?;
    let mut values = text.split(SEPARATOR);
    for operator in operators {
        let value =
            json.get(operator).map_or("absent".to_string(), |value| shape(operator, &value.to_string()));
        let text = shape(operator, values.next().unwrap_or("absent"));
        let left_out = omitting.get(operator).is_none();
        observed.exact(operator, format!("{value} | {text}{}", if left_out { " | left out" } else { "" }));
    }
    observed.exact("more", values.next().unwrap_or_default());
    Ok(observed)
}

/// One request, and the line it leaves.
fn operators(id: &'static str, target: &'static str, fields: &'static str) -> Scenario {
    operators_but(&[], id, target, fields)
}

/// The same without some operators.
fn operators_but(without: &[&str], id: &'static str, target: &'static str, fields: &'static str) -> Scenario {
    let operators: Vec<&str> =
        OPERATORS.iter().copied().filter(|operator| !without.contains(operator)).collect();
    all_operators(id, operators.clone()).does(move |run| {
        let known = format!("x-a: alpha\r\nx-empty: \r\nx-request-id: {REQUEST_ID}\r\n");
        let target =
            if target.starts_with("//") { target[1..].to_string() } else { format!("/{}{target}", run.id) };
        run.connection()?.send(&run.request_of("GET", &target, &format!("{known}{fields}")))?;
        note_operators(run, &operators)
    })
}

/// The same with a body.
fn posted(id: &'static str, framing: &'static str, body: &'static str) -> Scenario {
    let operators: Vec<&str> = OPERATORS.to_vec();
    all_operators(id, operators.clone()).does(move |run| {
        let head = run.request_of(
            "POST",
            &format!("/{}", run.id),
            &format!("x-a: alpha\r\nx-request-id: {REQUEST_ID}\r\n{framing}"),
        );
        run.connection()?.send(&(head + body))?;
        note_operators(run, &operators)
    })
}

/// A call over HTTP/2 on both sides. How long compressed heads were, only a codec that shares its tables knows; counts of
/// such bytes are left out.
fn called(id: &'static str, script: &'static str) -> Scenario {
    let counted = |operator: &&str| operator.contains("WIRE_BYTES") || operator.contains("HEADER_BYTES_");
    let operators: Vec<&str> = OPERATORS.iter().copied().filter(|operator| !counted(operator)).collect();
    let named = endpoint("ha", json!({"endpoint": {"hostname": "ha.example:80"}, "metadata": metadata()}));
    all_operators(id, operators.clone())
        .cluster(super::http2_upstream())
        .cluster(json!({"load_assignment": {"endpoints": [{"lb_endpoints": [named]}]}}))
        .does(move |run| {
            let field = |name: &str, value: &str| (name.to_string(), value.to_string());
            let fields = vec![
                field("x-run", &run.run),
                field("x-script", script),
                field("x-a", "alpha"),
                field("te", "trailers"),
                field("x-request-id", REQUEST_ID),
                field("content-type", "application/grpc"),
            ];
            let call = Call {
                method: "POST",
                path: format!("/{}", run.id),
                authority: run.host(),
                fields,
                body: vec![vec![0, 0, 0, 0, 1, b'x']],
                ..Call::default()
            };
            calls(run.address, vec![call])?;
            note_operators(run, &operators)
        })
}

/// A format whose line is compared as it is.
fn formatted(id: &'static str, format: Value) -> Scenario {
    Scenario::new(id).manager(manager(json!([file_log(path(id, "line"), format)]))).does(|run| {
        run.connection()?.send(&run.request("x-a: al\"pha\\\u{e9}\r\n"))?;
        let mut observed = Observed::new();
        observed.exact("line", lines(run, "line", 1)?.join("\n"));
        Ok(observed)
    })
}

/// Requests of several kinds, and which of them a filter lets be written. The second log of the same file tells when all
/// are through.
fn filtered(id: &'static str, filter: Value) -> Scenario {
    let line = |mark: &str| json!({"text_format_source": {"inline_string": format!("{mark} %REQ(x-script)% %RESPONSE_CODE% %ACCESS_LOG_TYPE%\n")}});
    let mut some = file_log(path(id, "some"), line("some"));
    some["filter"] = filter;
    let logs = json!([some, file_log(path(id, "some"), line("all"))]);
    Scenario::new(id).manager(manager(logs)).does(|run| {
        let id = |reason: char| format!("x-request-id: 5b3c6d58-cc1c-{reason}c1c-9c1c-000000000042\r\n");
        let requests = [
            // First, on a connection of its own: one that served before would be tried again.
            format!("x-script: close\r\n{}", id('4')),
            format!("x-script: 200\r\n{}", id('4')),
            format!("x-script: 404\r\n{}", id('9')),
            format!("x-script: 503\r\nx-log: yes\r\n{}", id('4')),
            format!("content-type: application/grpc\r\nx-script: grpc=5\r\n{}", id('4')),
        ];
        let mut connection = run.connection()?;
        for request in &requests {
            connection.send(&run.request(request))?;
        }
        let deadline = Instant::now() + PATIENCE;
        let found = loop {
            let found = lines(run, "some", requests.len())?;
            if found.iter().filter(|line| line.starts_with("all")).count() >= requests.len()
                || Instant::now() > deadline
            {
                break found;
            }
        };
        let mut observed = Observed::new();
        observed.exact("lines", found.join("\n"));
        Ok(observed)
    })
}

/// The suite.
pub fn suite() -> Suite {
    let compare = |op: &str, value: u32| json!({"comparison": {"op": op, "value": {"default_value": value, "runtime_key": "none"}}});
    let status = |op: &str, value: u32| json!({"status_code_filter": compare(op, value)});
    let share = |numerator: u32| json!({"runtime_filter": {"runtime_key": "none", "percent_sampled": {"numerator": numerator}}});
    let cel = |text: &str| {
        json!({"extension_filter": {"name": "cel", "typed_config": {
        "@type": format!("{TYPE}envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"), "expression": text}}})
    };
    let header = json!({"header_filter": {"header": {"name": "x-log", "present_match": true}}});
    let nested = json!({"b": {"missing": "%REQ(nope)%", "number": "%RESPONSE_CODE%", "text": "%RESPONSE_CODE% %REQ(nope)%"},
        "a": ["%RESPONSE_CODE%", "x", 1, 1.5, true, null, "%REQ(nope)%", {"c": "%REQ(x-a)%"}], "empty": "", "percent": "100%%"});
    let scenarios = vec![
        operators("log-plain", "/p?a=one&b=%20x%41&a=two&e=", ""),
        // The body of an answer that is not wanted is not waited for here.
        operators_but(
            &["UPSTREAM_WIRE_BYTES_RECEIVED", "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED"],
            "log-retry",
            "",
            "x-script: 503;200\r\n",
        )
        .route(json!({"retry_policy": {"retry_on": "5xx", "num_retries": 1}})),
        operators("log-refused", "", "").backends(&["refused"]),
        operators("log-no-endpoints", "", "").backends(&[]),
        operators("log-rewrite", "/y?q=1", "").route(json!({"prefix_rewrite": "/x"})),
        operators("log-direct", "", "")
            .entry(json!({"direct_response": {"status": 418, "body": {"inline_string": "teapot"}}})),
        operators("log-redirect", "", "").entry(json!({"redirect": {"host_redirect": "a.b"}})),
        operators("log-not-found", "//nowhere", ""),
        operators("log-upstream-closes", "", "x-script: close\r\n"),
        operators("log-timeout", "", "x-script: hang\r\n").route(json!({"timeout": "0.2s"})),
        operators("log-grpc-refused", "", "content-type: application/grpc\r\n").backends(&["refused"]),
        posted("log-post", "content-length: 5\r\n", "hello"),
        posted("log-post-chunked", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        called("log-grpc", "200"),
        called("log-grpc-status", "grpc=5"),
        called("log-grpc-503", "503"),
        all_operators("log-operators-refused", WAITING.to_vec()).does(|run| {
            run.connection()?.send(&run.request(""))?;
            note_operators(run, WAITING)
        }),
        // Formats.
        formatted("log-json-nested", json!({"json_format": nested})),
        formatted("log-json-nested-without-empty", json!({"json_format": nested, "omit_empty_values": true})),
        formatted(
            "log-text-without-empty",
            json!({"text_format_source": {"inline_string": "%REQ(nope)%|%REQ(x-a)%|100%%\n"}, "omit_empty_values": true}),
        ),
        formatted("log-text", json!({"text_format": "%REQ(nope)%|%REQ(x-a)%|%RESPONSE_CODE%\n"})),
        // Filters.
        filtered("log-filter-status", status("GE", 400)),
        filtered("log-filter-status-equal", status("EQ", 404)),
        filtered("log-filter-status-less", status("LE", 404)),
        filtered("log-filter-status-not", status("NE", 200)),
        filtered("log-filter-duration", json!({"duration_filter": compare("GE", 60_000)})),
        filtered("log-filter-duration-any", json!({"duration_filter": compare("GE", 0)})),
        filtered("log-filter-no-health-checks", json!({"not_health_check_filter": {}})),
        filtered("log-filter-traceable", json!({"traceable_filter": {}})),
        filtered("log-filter-never", share(0)),
        filtered("log-filter-always", share(100)),
        filtered("log-filter-share-by-id", share(50)),
        filtered(
            "log-filter-and",
            json!({"and_filter": {"filters": [status("GE", 400), status("LE", 404)]}}),
        ),
        filtered("log-filter-or", json!({"or_filter": {"filters": [status("EQ", 404), header.clone()]}})),
        filtered("log-filter-header", header),
        filtered("log-filter-flag", json!({"response_flag_filter": {"flags": ["UC", "UF"]}})),
        filtered("log-filter-any-flag", json!({"response_flag_filter": {}})),
        filtered("log-filter-grpc", json!({"grpc_status_filter": {"statuses": ["NOT_FOUND"]}})),
        filtered(
            "log-filter-grpc-not",
            json!({"grpc_status_filter": {"statuses": ["NOT_FOUND", "UNAVAILABLE"], "exclude": true}}),
        ),
        filtered(
            "log-filter-metadata",
            json!({"metadata_filter": {"matcher": {"filter": "ns", "path": [{"key": "a"}],
            "value": {"bool_match": true}}, "match_if_key_not_found": false}}),
        ),
        filtered(
            "log-filter-metadata-default",
            json!({"metadata_filter": {"matcher": {"filter": "ns", "path": [{"key": "a"}],
            "value": {"bool_match": true}}}}),
        ),
        filtered("log-filter-expression", cel("response.code >= 400 && 'x-log' in request.headers")),
        filtered("log-filter-expression-fails", cel("request.headers['x-log'] == 'yes'")),
        filtered("log-filter-type", json!({"log_type_filter": {"types": ["DownstreamEnd"]}})),
        filtered(
            "log-filter-type-not",
            json!({"log_type_filter": {"types": ["DownstreamEnd"], "exclude": true}}),
        ),
        // Moments.
        filtered(
            "log-on-new-request",
            json!({"log_type_filter": {"types": ["DownstreamStart", "DownstreamEnd"]}}),
        )
        .manager_too(json!({"access_log_options": {"flush_access_log_on_new_request": true}})),
    ];
    Suite { name: "access-log", scenarios, filters: json!([]) }
}
