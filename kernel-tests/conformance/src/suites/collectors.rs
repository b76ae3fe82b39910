//! Access-log services, OpenTelemetry and Zipkin: what both proxies send to one collector for the same requests, field by
//! field as it is on the wire. Paths in the comparison are field numbers of the collectors' own messages.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ringsail_harness::config::TYPE;
use serde_json::{Value, json};

use crate::collector::{self, Message, names};
use crate::scenario::{Observed, Run, Scenario};
use crate::suite::{Suite, filter};
use crate::wire;

/// How long something may wait for others: Envoy's tracers send every 5 s.
const PATIENCE: Duration = Duration::from_secs(15);
/// What requests are known by.
const REQUEST_ID: &str = "5b3c6d58-cc1c-4c1c-9c1c-111111111111";
/// Trace and span of a caller.
const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";
const SPAN: &str = "a2fb4a1d1a96d312";

fn sink_cluster(id: &str, http: bool) -> Value {
    let address = if http { collector::shared().http } else { collector::shared().grpc };
    let mut cluster = json!({"name": format!("{id}-sink"), "type": "STATIC", "connect_timeout": "2s",
        "load_assignment": {"cluster_name": format!("{id}-sink"), "endpoints": [{"lb_endpoints": [{"endpoint": {"address":
            {"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}}}}]}]}});
    if !http {
        crate::scenario::merge(&mut cluster, super::http2_upstream());
    }
    cluster
}

fn grpc_service(id: &str) -> Value {
    json!({"envoy_grpc": {"cluster_name": format!("{id}-sink")}, "timeout": "3s",
        "initial_metadata": [{"key": "x-own", "value": "yes"}]})
}

/// Waits until `count` items of a run have arrived, as `items` finds them in messages.
fn arrived(
    run: &Run<'_>,
    count: usize,
    items: impl Fn(&Message) -> Vec<Vec<u8>>,
) -> Result<(Vec<Vec<u8>>, Vec<Message>)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let messages = collector::shared().of(&run.run);
        let found: Vec<Vec<u8>> =
            messages.iter().flat_map(&items).filter(|item| names(item, &run.run)).collect();
        if found.len() >= count {
            return Ok((found, messages));
        }
        if Instant::now() > deadline {
            bail!("{} of {count} items arrived in {} messages", found.len(), messages.len());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a line of a message is at or below one of `paths`.
fn below(line: &str, paths: &[&str]) -> bool {
    let path = line.split(" = ").next().unwrap_or_default();
    paths
        .iter()
        .any(|wanted| path == *wanted || path.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.')))
}

/// The values of a message; of those at `masked` only that they are there, without those at `left_out`, sorted where
/// `sorted` says so.
fn shape(run: &Run<'_>, item: &[u8], masked: &[&str], left_out: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = wire::lines("", item)
        .into_iter()
        .filter(|line| !below(line, left_out))
        .map(|line| {
            if below(&line, masked) {
                // Of a length of time only that there is one.
                let top = masked.iter().find(|path| below(&line, &[path])).copied().unwrap_or_default();
                format!("{top} = *")
            } else {
                run.unnamed(&line)
            }
        })
        .collect();
    lines.dedup();
    lines
}

/// Where a request's or a connection's entry has what no two runs share: start, lengths of time, ports of ours and of
/// clients, the connection's id.
const ENTRY_MASKED: &[&str] = &[
    "1.2.1.3", "1.3.1.3", "1.20.1.3", "1.5", "1.6", "1.7", "1.8", "1.9", "1.10", "1.11", "1.12", "1.14.1.3",
    "1.23", "1.24.1.3", "1.29", "1.30.1.3",
];

fn als(id: &'static str, fields: Value) -> Value {
    let mut config = json!({"@type": format!("{TYPE}envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"),
        "common_config": {"log_name": "own_log", "transport_api_version": "V3", "grpc_service": grpc_service(id),
            "buffer_flush_interval": "0.1s", "custom_tags": tags()},
        "additional_request_headers_to_log": ["x-run", "x-a", "x-nope"],
        "additional_response_headers_to_log": ["x-backend", "x-nope"],
        "additional_response_trailers_to_log": ["x-nope"]});
    crate::scenario::merge(&mut config, fields);
    json!([{"name": "als", "typed_config": config}])
}

/// A tag of each kind.
fn tags() -> Value {
    json!([
        {"tag": "run", "request_header": {"name": "x-run"}},
        {"tag": "literal", "literal": {"value": "fixed"}},
        {"tag": "header", "request_header": {"name": "x-a", "default_value": "none"}},
        {"tag": "header-default", "request_header": {"name": "x-nope", "default_value": "none"}},
        {"tag": "header-missing", "request_header": {"name": "x-nope"}},
        {"tag": "environment", "environment": {"name": "NO_SUCH_VARIABLE", "default_value": "unset"}},
        {"tag": "environment-missing", "environment": {"name": "NO_SUCH_VARIABLE"}},
        {"tag": "route", "metadata": {"kind": {"route": {}}, "metadata_key": {"key": "ns", "path": [{"key": "s"}]}}},
        {"tag": "cluster", "metadata": {"kind": {"cluster": {}}, "metadata_key": {"key": "ns", "path": [{"key": "o"}]}}},
        {"tag": "host-default", "metadata": {"kind": {"host": {}}, "metadata_key": {"key": "ns", "path": [{"key": "s"}]}, "default_value": "none"}},
        {"tag": "request-missing", "metadata": {"kind": {"request": {}}, "metadata_key": {"key": "ns", "path": [{"key": "s"}]}}},
    ])
}

fn metadata() -> Value {
    json!({"filter_metadata": {"ns": {"s": "text", "o": {"l": [1, "a"]}}}})
}

fn base(id: &'static str, http: bool) -> Scenario {
    Scenario::new(id)
        .entry(json!({"metadata": metadata()}))
        .cluster(json!({"metadata": metadata()}))
        .and_cluster(sink_cluster(id, http))
}

fn router() -> Value {
    json!([filter("router", "router.v3.Router", json!({"suppress_envoy_headers": true}))])
}

const FIELDS: &str =
    "x-a: alpha\r\nuser-agent: ua\r\nreferer: http://r.example/\r\nx-forwarded-for: 10.0.0.1\r\n";

fn send(run: &Run<'_>, fields: &str) -> Result<()> {
    let id = if fields.contains("x-request-id") {
        String::new()
    } else {
        format!("x-request-id: {REQUEST_ID}\r\n")
    };
    run.connection()?.send(&run.request(&format!("{FIELDS}{id}{fields}")))?;
    Ok(())
}

/// A request's entry for an access-log service.
fn logged(id: &'static str, fields: &'static str) -> Scenario {
    base(id, false).manager(json!({"access_log": als(id, json!({})), "http_filters": router()})).does(
        move |run| {
            send(run, fields)?;
            let entries = |message: &Message| {
                wire::field(&message.body, 2)
                    .into_iter()
                    .flat_map(|logs| wire::field(logs, 1))
                    .map(<[u8]>::to_vec)
                    .collect()
            };
            let (found, messages) = arrived(run, 1, entries)?;
            let mut observed = Observed::new();
            let mut entry = shape(run, &found[0], ENTRY_MASKED, &[]);
            // Maps have no order.
            entry.sort();
            observed.exact("entry", entry.join("\n"));
            let first = &messages[0];
            observed.exact("path", first.path.clone());
            observed.exact("authority", first.authority.clone());
            for name in ["content-type", "te", "x-own", "grpc-timeout"] {
                observed.exact(name, first.fields.get(name).cloned().unwrap_or_default());
            }
            let identifier = wire::field(&first.body, 1).concat();
            let identified: Vec<String> = wire::lines("", &identifier)
                .into_iter()
                .filter(|line| below(line, &["1.1", "1.2", "2"]))
                .collect();
            observed.exact("identifier", identified.join("\n"));
            Ok(observed)
        },
    )
}

/// Many requests: each entry arrives once, and only the first message of a stream says who sends it.
fn batched(id: &'static str, common: Value) -> Scenario {
    let log = als(id, json!({"common_config": common}));
    base(id, false).manager(json!({"access_log": log, "http_filters": router()})).does(move |run| {
        let mut connection = run.connection()?;
        for _ in 0..40 {
            connection.send(&run.request(&format!("x-request-id: {REQUEST_ID}\r\n")))?;
        }
        let entries = |message: &Message| {
            wire::field(&message.body, 2)
                .into_iter()
                .flat_map(|logs| wire::field(logs, 1))
                .map(<[u8]>::to_vec)
                .collect()
        };
        let (found, messages) = arrived(run, 40, entries)?;
        let identified = |message: &&Message| !wire::field(&message.body, 1).is_empty();
        let mut observed = Observed::new();
        observed.exact("entries", found.len().to_string());
        observed.exact(
            "identified",
            (messages.iter().filter(identified).count() == messages.iter().filter(|m| m.index == 0).count())
                .to_string(),
        );
        observed.exact("more than one message", (messages.len() > 1).to_string());
        Ok(observed)
    })
}

fn any(text: &str) -> Value {
    json!({"string_value": text})
}

/// A log record for OpenTelemetry.
fn otlp_logged(id: &'static str, fields: Value) -> Scenario {
    let mut config = json!({"@type": format!("{TYPE}envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig"),
        "common_config": {"log_name": "own_log", "transport_api_version": "V3", "grpc_service": grpc_service(id),
            "buffer_flush_interval": "0.1s"},
        "resource_attributes": {"values": [{"key": "service.name", "value": any("own")}]},
        "body": any("%REQ(:METHOD)% %RESPONSE_CODE%"),
        "attributes": {"values": [{"key": "run", "value": any("%REQ(x-run)%")}, {"key": "code", "value": any("%RESPONSE_CODE%")},
            {"key": "missing", "value": any("%REQ(nope)%")},
            {"key": "nested", "value": {"kvlist_value": {"values": [{"key": "p", "value": any("%PROTOCOL%")}]}}},
            {"key": "list", "value": {"array_value": {"values": [any("%ROUTE_NAME%"), any("x")]}}}]}});
    crate::scenario::merge(&mut config, fields);
    let log = json!([{"name": "otlp", "typed_config": config}]);
    base(id, false).manager(json!({"access_log": log, "http_filters": router()})).does(|run| {
        send(run, "")?;
        let records = |message: &Message| {
            let logs = wire::field(&message.body, 1).into_iter();
            logs.flat_map(|logs| wire::field(logs, 2))
                .flat_map(|scope| wire::field(scope, 2))
                .map(<[u8]>::to_vec)
                .collect()
        };
        let (found, messages) = arrived(run, 1, records)?;
        let mut observed = Observed::new();
        observed.exact("record", shape(run, &found[0], &["1", "11"], &[]).join("\n"));
        let resources: Vec<u8> = wire::field(&messages[0].body, 1)
            .into_iter()
            .flat_map(|logs| wire::field(logs, 1))
            .flatten()
            .copied()
            .collect();
        observed.exact("resource", wire::lines("", &resources).join("\n"));
        observed.exact("path", messages[0].path.clone());
        Ok(observed)
    })
}

/// The request whose span is compared, and what the called side sees of its context.
struct Traced {
    provider: Value,
    http: bool,
    tracing: Value,
    inbound: bool,
    fields: String,
}

fn zipkin(id: &str, fields: Value) -> Value {
    let mut config = json!({"@type": format!("{TYPE}envoy.config.trace.v3.ZipkinConfig"),
        "collector_cluster": format!("{id}-sink"), "collector_endpoint": "/api/v2/spans",
        "collector_endpoint_version": "HTTP_JSON", "trace_id_128bit": true, "shared_span_context": false,
        "collector_hostname": "zipkin.example"});
    crate::scenario::merge(&mut config, fields);
    json!({"name": "envoy.tracers.zipkin", "typed_config": config})
}

fn otlp(id: &str, http: bool) -> Value {
    let mut config =
        json!({"@type": format!("{TYPE}envoy.config.trace.v3.OpenTelemetryConfig"), "service_name": "own"});
    if http {
        config["http_service"] = json!({"http_uri": {"uri": "http://otel.example/v1/traces", "cluster": format!("{id}-sink"), "timeout": "3s"},
            "request_headers_to_add": [{"header": {"key": "x-own", "value": "yes"}}]});
    } else {
        config["grpc_service"] = grpc_service(id);
    }
    json!({"name": "envoy.tracers.opentelemetry", "typed_config": config})
}

fn traced(id: &'static str, traced: Traced) -> Scenario {
    let Traced { provider, http, tracing, inbound, fields } = traced;
    let zipkin = provider["name"] == "envoy.tracers.zipkin";
    let mut settings =
        json!({"provider": provider, "random_sampling": {"value": 100}, "custom_tags": tags()});
    crate::scenario::merge(&mut settings, tracing);
    let mut scenario =
        base(id, http).manager(json!({"tracing": settings, "http_filters": router(), "access_log": []}));
    if inbound {
        scenario = scenario.listener(json!({"traffic_direction": "INBOUND"}));
    }
    scenario.does(move |run| {
        let mut observed = Observed::new();
        // Envoy's Zipkin tracer sends five spans at once.
        let answer = run
            .connection()?
            .send(&run.request(&format!("{FIELDS}x-request-id: {REQUEST_ID}\r\n{fields}")))?;
        observed.exact("headers upstream", run.unnamed(&context_fields(&answer.body)));
        if zipkin {
            note_zipkin(run, &mut observed)?;
        } else {
            note_otlp(run, &mut observed, http)?;
        }
        Ok(observed)
    })
}

/// The fields of a forwarded request that belong to tracing; ids that were made up are shown by their length.
fn context_fields(request: &str) -> String {
    let known = [
        "b3",
        "traceparent",
        "tracestate",
        "x-request-id",
        "x-envoy-decorator-operation",
        "x-client-trace-id",
    ];
    let mut lines: Vec<String> = request
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| known.contains(name) || name.starts_with("x-b3-"))
        .map(|(name, value)| format!("{name}: {}", masked_ids(value)))
        .collect();
    lines.sort();
    lines.join("\n")
}

/// Runs of 16 or 32 hexadecimal digits that are not the caller's ids, as their length.
fn masked_ids(value: &str) -> String {
    let parts: Vec<String> = value
        .split('-')
        .map(|part| {
            let id = matches!(part.len(), 16 | 32) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            let known = part == TRACE || part == SPAN || TRACE.ends_with(part);
            if id && !known { format!("({} digits)", part.len()) } else { part.to_string() }
        })
        .collect();
    parts.join("-")
}

fn note_zipkin(run: &Run<'_>, observed: &mut Observed) -> Result<()> {
    let spans = |message: &Message| -> Vec<Vec<u8>> {
        let list: Vec<Value> = serde_json::from_slice(&message.body).unwrap_or_default();
        list.iter().map(|span| span.to_string().into_bytes()).collect()
    };
    let (found, messages) = arrived(run, 1, spans)?;
    let mut span: Value = serde_json::from_slice(&found[0])?;
    for id in ["traceId", "id", "parentId"] {
        if let Some(value) = span.get(id).and_then(Value::as_str).map(masked_ids) {
            span[id] = json!(value);
        }
    }
    for number in ["timestamp", "duration"] {
        span[number] = json!(span[number].is_u64());
    }
    for annotation in span["annotations"].as_array_mut().into_iter().flatten() {
        annotation["timestamp"] = json!(annotation["timestamp"].is_u64());
    }
    let sorted = |value: &Value| -> Vec<String> {
        let mut lines: Vec<String> = value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{name} = {}", in_order(value)))
            .collect();
        lines.sort();
        lines
    };
    observed.exact("tags", run.unnamed(&sorted(&span["tags"]).join("\n")));
    span["tags"] = Value::Null;
    observed.exact("span", run.unnamed(&sorted(&span).join("\n")));
    let first = &messages[0];
    observed.exact("path", format!("{} {}", first.authority, first.path));
    observed.exact("content-type", first.fields.get("content-type").cloned().unwrap_or_default());
    Ok(())
}

/// A value with the members of its objects in order.
fn in_order(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> =
                members.iter().map(|(name, value)| (name.clone(), in_order(value))).collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(members.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(in_order).collect()),
        other => other.clone(),
    }
}

fn note_otlp(run: &Run<'_>, observed: &mut Observed, http: bool) -> Result<()> {
    let spans = |message: &Message| {
        let resources = wire::field(&message.body, 1).into_iter();
        resources
            .flat_map(|spans| wire::field(spans, 2))
            .flat_map(|scope| wire::field(scope, 2))
            .map(<[u8]>::to_vec)
            .collect()
    };
    let (found, messages) = arrived(run, 1, spans)?;
    let span = &found[0];
    let attributes = |bytes: &[u8], number: u64| {
        let mut lines: Vec<String> = wire::field(bytes, number)
            .into_iter()
            .map(|pair| run.unnamed(&wire::lines("", pair).join(" ")))
            .collect();
        lines.sort();
        lines.join("\n")
    };
    observed.exact("attributes", attributes(span, 9));
    let id = |number: u64| {
        let hex: String =
            wire::field(span, number).concat().iter().map(|byte| format!("{byte:02x}")).collect();
        masked_ids(&hex)
    };
    observed.exact("ids", format!("{} {} {}", id(1), id(2), id(4)));
    observed.exact("span", shape(run, span, &["7", "8", "11.1"], &["1", "2", "4", "9"]).join("\n"));
    let own = ["telemetry.sdk."];
    let resource =
        wire::field(&messages[0].body, 1).into_iter().flat_map(|spans| wire::field(spans, 1)).next();
    let resource = attributes(resource.unwrap_or_default(), 1);
    let resource: Vec<&str> =
        resource.lines().filter(|line| !own.iter().any(|name| line.contains(name))).collect();
    observed.exact("resource", resource.join("\n"));
    let first = &messages[0];
    observed.exact("path", format!("{} {}", first.authority, first.path));
    for name in ["content-type", "x-own"] {
        observed.exact(name, first.fields.get(name).cloned().unwrap_or_default());
    }
    observed.exact("by HTTP", http.to_string());
    Ok(())
}

/// The suite.
pub fn suite() -> Suite {
    let to_zipkin = |id: &'static str, tracing: Value, inbound: bool, fields: String, config: Value| {
        traced(id, Traced { provider: zipkin(id, config), http: true, tracing, inbound, fields })
    };
    let to_otlp = |id: &'static str, http: bool, tracing: Value, inbound: bool, fields: String| {
        traced(id, Traced { provider: otlp(id, http), http, tracing, inbound, fields })
    };
    let none = || json!({});
    let b3 = format!("x-b3-traceid: {TRACE}\r\nx-b3-spanid: {SPAN}\r\nx-b3-sampled: 1\r\n");
    let single = format!("b3: {TRACE}-{SPAN}-1\r\n");
    let w3c = format!("traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=b\r\n");
    let scenarios = vec![
        logged("als-plain", ""),
        logged("als-refused", "").backends(&["refused"]),
        logged("als-no-endpoints", "").backends(&[]),
        logged("als-503", "x-script: 503\r\n"),
        logged("als-direct", "")
            .entry(json!({"direct_response": {"status": 403, "body": {"inline_string": "no"}}})),
        batched("als-batched", json!({"buffer_size_bytes": 2000})),
        batched("als-unbuffered", json!({"buffer_size_bytes": 0})),
        otlp_logged("otlp-log", json!({})),
        otlp_logged("otlp-log-without-labels", json!({"disable_builtin_labels": true})),
        otlp_logged(
            "otlp-log-text-only",
            json!({"attributes": {"values": [{"key": "run", "value": any("%REQ(x-run)%")}]}, "resource_attributes": null}),
        ),
        // Zipkin.
        to_zipkin("zipkin-root", none(), false, String::new(), none()),
        to_zipkin("zipkin-inbound", none(), true, String::new(), none()),
        to_zipkin("zipkin-child", none(), false, b3.clone(), none()),
        to_zipkin("zipkin-child-inbound", none(), true, b3.clone(), none()),
        to_zipkin("zipkin-child-shared", none(), true, b3, json!({"shared_span_context": true})),
        to_zipkin("zipkin-single-header", none(), false, single, none()),
        to_zipkin("zipkin-short-ids", none(), false, String::new(), json!({"trace_id_128bit": false})),
        to_zipkin("zipkin-verbose", json!({"verbose": true}), false, String::new(), none()),
        to_zipkin(
            "zipkin-w3c",
            none(),
            false,
            w3c.clone(),
            json!({"trace_context_option": "USE_B3_WITH_W3C_PROPAGATION"}),
        ),
        to_zipkin("zipkin-503", none(), false, "x-script: 503\r\n".to_string(), none()),
        to_zipkin("zipkin-refused", none(), false, String::new(), none()).backends(&["refused"]),
        to_zipkin("zipkin-no-route-cluster", none(), false, String::new(), none()).backends(&[]),
        to_zipkin("zipkin-client-trace", none(), false, "x-client-trace-id: abc\r\n".to_string(), none()),
        to_zipkin("zipkin-decorator", none(), false, String::new(), none())
            .entry(json!({"decorator": {"operation": "own.example:80/*"}})),
        to_zipkin(
            "zipkin-decorator-inbound",
            none(),
            true,
            "x-envoy-decorator-operation: theirs\r\n".to_string(),
            none(),
        )
        .entry(json!({"decorator": {"operation": "own.example:80/*"}})),
        to_zipkin(
            "zipkin-grpc",
            none(),
            false,
            "content-type: application/grpc\r\nx-script: grpc=13\r\n".to_string(),
            none(),
        ),
        // OpenTelemetry.
        to_otlp("otlp-grpc-root", false, none(), false, String::new()),
        to_otlp("otlp-grpc-inbound", false, none(), true, String::new()),
        to_otlp("otlp-grpc-child", false, none(), false, w3c.clone()),
        to_otlp("otlp-grpc-child-inbound", false, none(), true, w3c.clone()),
        to_otlp("otlp-grpc-verbose", false, json!({"verbose": true}), false, String::new()),
        to_otlp("otlp-grpc-503", false, none(), false, "x-script: 503\r\n".to_string()),
        to_otlp("otlp-grpc-404", false, none(), false, "x-script: 404\r\n".to_string()),
        to_otlp("otlp-http-root", true, none(), false, String::new()),
        to_otlp("otlp-http-child", true, none(), false, w3c),
    ];
    Suite { name: "collectors", scenarios, filters: json!([]) }
}
