//! How long a proxy waits for whom, and what it says then.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::case::Case;
use crate::scenario::{Run, Scenario};
use crate::suite::Suite;

/// The timer of most scenarios: well above what a busy machine adds to an exchange on loopback.
const TIMER: Duration = Duration::from_millis(400);

/// One exchange with a note whether [`TIMER`] was waited for.
fn timed(run: &Run<'_>, fields: &str) -> anyhow::Result<crate::scenario::Observed> {
    let start = Instant::now();
    let mut connection = run.connection()?;
    let answer = connection.send(&run.request(fields))?;
    let elapsed = start.elapsed();
    let mut observed = crate::scenario::Observed::new();
    observed.answer("answer", run, &answer).timing(elapsed, TIMER).attempts(run);
    Ok(observed)
}

fn hangs(id: &'static str, route: Value) -> Scenario {
    Scenario::new(id).route(route).does(|run| timed(run, "x-script: hang\r\n"))
}

fn manager(id: &'static str, fields: Value, script: &'static str) -> Scenario {
    Scenario::new(id).manager(fields).does(move |run| timed(run, &format!("x-script: {script}\r\n")))
}

fn internal(id: &'static str, fields: &'static str) -> Scenario {
    Scenario::new(id)
        .manager(json!({"internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}))
        .does(move |run| timed(run, &format!("x-forwarded-for: 10.1.2.3\r\n{fields}")))
}

/// The suite.
pub fn suite() -> Suite {
    let scenarios = vec![
        hangs("timeout-of-route", json!({"timeout": "0.4s"})),
        hangs("route-idle-timeout", json!({"idle_timeout": "0.4s"})),
        hangs("route-idle-before-route-timeout", json!({"timeout": "3s", "idle_timeout": "0.4s"})),
        hangs("route-max-duration", json!({"max_stream_duration": {"max_stream_duration": "0.4s"}})),
        manager("manager-stream-idle", json!({"stream_idle_timeout": "0.4s"}), "hang"),
        manager("manager-max-duration", json!({"common_http_protocol_options": {"max_stream_duration": "0.4s"}}), "hang"),
        Scenario::new("cluster-max-duration")
            .cluster(json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"max_stream_duration": "0.4s"}, "explicit_http_config": {"http_protocol_options": {}}}}}))
            .does(|run| timed(run, "x-script: hang\r\n")),
        manager("answer-in-time", json!({"stream_idle_timeout": "5s", "request_timeout": "5s"}), "200"),
        Scenario::new("timeout-zero-waits").does(|run| timed(run, "x-script: slow\r\n")),
        Scenario::new("head-then-silence").route(json!({"timeout": "0.4s"})).does(|run| {
            let start = Instant::now();
            let mut observed = run.exchange("x-script: head-only\r\n")?;
            observed.timing(start.elapsed(), TIMER);
            Ok(observed)
        }),
        Scenario::new("head-then-idle").route(json!({"idle_timeout": "0.4s"})).sends("x-script: head-only\r\n"),
        Scenario::new("body-late-for-request-timeout")
            .manager(json!({"request_timeout": "0.4s"}))
            .does(|run| run.raw(run.request_of("POST", "/body-late-for-request-timeout", "content-length: 5\r\n") + "he")),
        Scenario::new("head-late")
            .manager(json!({"request_headers_timeout": "0.4s"}))
            .does(|run| run.raw(format!("GET /head-late HTTP/1.1\r\nhost: x\r\n{}", run.names()))),
        Scenario::new("body-stalls-stream-idle")
            .manager(json!({"stream_idle_timeout": "0.4s"}))
            .does(|run| run.raw(run.request_of("POST", "/body-stalls-stream-idle", "content-length: 5\r\n") + "he")),
        Scenario::new("connection-idle-without-request")
            .manager(json!({"common_http_protocol_options": {"idle_timeout": "0.4s"}}))
            .does(|run| run.case(Case::new(run.id, ""))),
        Scenario::new("request-timeout-by-external-client").does(|run| timed(run, "x-envoy-upstream-rq-timeout-ms: 400\r\nx-script: slow\r\n")),
        internal("request-says-timeout", "x-envoy-upstream-rq-timeout-ms: 400\r\nx-script: hang\r\n"),
        internal("request-says-timeout-in-time", "x-envoy-upstream-rq-timeout-ms: 5000\r\n"),
        internal("request-says-longer-than-route", "x-envoy-upstream-rq-timeout-ms: 5000\r\nx-script: slow\r\n"),
        Scenario::new("timeout-told-upstream").route(json!({"timeout": "7s"})),
        Scenario::new("per-try-told-upstream").route(json!({"timeout": "7s", "retry_policy": {"retry_on": "5xx", "per_try_timeout": "3s"}})),
        Scenario::new("grpc-timeout-capped")
            .route(json!({"timeout": "10s", "max_grpc_timeout": "0.4s"}))
            .does(|run| timed(run, "content-type: application/grpc\r\ngrpc-timeout: 5S\r\nx-script: hang\r\n")),
        Scenario::new("grpc-timeout-of-request")
            .route(json!({"timeout": "10s", "max_grpc_timeout": "0s"}))
            .does(|run| timed(run, "content-type: application/grpc\r\ngrpc-timeout: 400m\r\nx-script: hang\r\n")),
        Scenario::new("grpc-timeout-header-max")
            .route(json!({"max_stream_duration": {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"}}))
            .does(|run| timed(run, "content-type: application/grpc\r\ngrpc-timeout: 400m\r\nx-script: hang\r\n")),
        Scenario::new("connect-timeout")
            .cluster(json!({"connect_timeout": "0.4s", "load_assignment": {"cluster_name": "connect-timeout", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": {"socket_address": {"address": "240.0.0.1", "port_value": 9}}}}]}]}}))
            .does(|run| run.exchange("")),
    ];
    Suite { name: "timeouts", scenarios, filters: json!([]) }
}
