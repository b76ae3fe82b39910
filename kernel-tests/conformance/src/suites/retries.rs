//! Which failures are retried, how often, where and with what.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::scenario::{Scenario, cluster};
use crate::suite::Suite;

/// A retry policy with one retry, and what the backend does.
fn retried(id: &'static str, retry_on: &str, script: &'static str) -> Scenario {
    with_policy(id, json!({"retry_on": retry_on, "num_retries": 1}), script)
}

fn with_policy(id: &'static str, policy: Value, script: &'static str) -> Scenario {
    Scenario::new(id)
        .route(json!({"retry_policy": policy}))
        .does(move |run| run.exchange(&format!("x-script: {script}\r\n")))
}

/// The same with an HTTP/2 backend.
fn over_http2(scenario: Scenario) -> Scenario {
    scenario.backends(&["ha"]).cluster(super::http2_upstream())
}

/// The suite.
pub fn suite() -> Suite {
    let scenarios = vec![
        retried("5xx-on-503", "5xx", "503;200"),
        retried("5xx-on-500", "5xx", "500;200"),
        retried("5xx-on-close", "5xx", "close;200"),
        retried("5xx-not-on-404", "5xx", "404;200"),
        retried("5xx-used-up", "5xx", "503;502;200"),
        retried("gateway-error-on-502", "gateway-error", "502;200"),
        retried("gateway-error-on-504", "gateway-error", "504;200"),
        retried("gateway-error-not-on-500", "gateway-error", "500;200"),
        retried("gateway-error-on-close", "gateway-error", "close;200"),
        retried("reset-on-close", "reset", "close;200"),
        retried("reset-not-on-503", "reset", "503;200"),
        retried("reset-before-request-not-once-sent", "reset-before-request", "close;200"),
        retried("connect-failure-not-on-close", "connect-failure", "close;200"),
        retried("retriable-4xx-on-409", "retriable-4xx", "409;200"),
        retried("retriable-4xx-not-on-404", "retriable-4xx", "404;200"),
        retried("ratelimited-retried", "envoy-ratelimited", "429 x-envoy-ratelimited=1;200"),
        retried("ratelimited-not-without-field", "envoy-ratelimited", "429;200"),
        retried("5xx-on-overloaded", "5xx", "503 x-envoy-overloaded=true;200"),
        retried("unknown-word-ignored", "5xx,something-else", "503;200"),
        with_policy("status-codes", json!({"retry_on": "retriable-status-codes", "retriable_status_codes": [418], "num_retries": 1}), "418;200"),
        with_policy("status-codes-not-listed", json!({"retry_on": "retriable-status-codes", "retriable_status_codes": [418], "num_retries": 1}), "503;200"),
        with_policy("status-codes-not-on-close", json!({"retry_on": "retriable-status-codes", "retriable_status_codes": [503], "num_retries": 1}), "close;200"),
        with_policy("retriable-headers", json!({"retry_on": "retriable-headers", "num_retries": 1,
            "retriable_headers": [{"name": "x-again", "string_match": {"exact": "yes"}}]}), "200 x-again=yes;200"),
        with_policy("retriable-headers-not", json!({"retry_on": "retriable-headers", "num_retries": 1,
            "retriable_headers": [{"name": "x-again", "string_match": {"exact": "yes"}}]}), "200 x-again=no;200"),
        with_policy("retriable-request-headers", json!({"retry_on": "5xx", "num_retries": 1,
            "retriable_request_headers": [{"name": "x-may", "present_match": true}]}), "503;200"),
        with_policy("five-retries", json!({"retry_on": "5xx", "num_retries": 5, "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}}), "503;503;503;503;200"),
        with_policy("default-number-is-one", json!({"retry_on": "5xx"}), "503;503;200"),
        with_policy("no-retries", json!({"retry_on": "5xx", "num_retries": 0}), "503;200"),
        with_policy("empty-retry-on", json!({"num_retries": 2}), "503;200"),
        // gRPC.
        grpc("grpc-unavailable", "unavailable", "grpc=14;grpc=0"),
        grpc("grpc-cancelled", "cancelled", "grpc=1;grpc=0"),
        grpc("grpc-deadline", "deadline-exceeded", "grpc=4;grpc=0"),
        grpc("grpc-internal", "internal", "grpc=13;grpc=0"),
        grpc("grpc-exhausted", "resource-exhausted", "grpc=8;grpc=0"),
        grpc("grpc-not-listed", "unavailable", "grpc=13;grpc=0"),
        grpc("grpc-used-up", "unavailable", "grpc=14;grpc=14"),
        // Per try.
        with_policy("per-try-5xx", json!({"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.3s"}), "hang;200"),
        with_policy("per-try-reset", json!({"retry_on": "reset", "num_retries": 1, "per_try_timeout": "0.3s"}), "hang;200"),
        with_policy("per-try-not-istio", json!({"retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
            "retriable_status_codes": [503], "num_retries": 1, "per_try_timeout": "0.3s"}), "hang;200"),
        with_policy("per-try-used-up", json!({"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.3s"}), "hang"),
        with_policy("per-try-idle", json!({"retry_on": "5xx", "num_retries": 1, "per_try_idle_timeout": "0.3s"}), "hang;200"),
        Scenario::new("per-try-within-route-timeout")
            .route(json!({"timeout": "0.5s", "retry_policy": {"retry_on": "5xx", "num_retries": 5, "per_try_timeout": "0.2s"}}))
            .sends("x-script: hang\r\n"),
        // Bodies.
        body("body-sent-again", json!({}), 1_000),
        body("body-over-the-buffer", json!({"per_request_buffer_limit_bytes": 100}), 1_000),
        body("large-body-sent-again", json!({}), 200_000),
        // Where.
        Scenario::new("connect-failure")
            .backends(&["refused"])
            .route(json!({"retry_policy": {"retry_on": "connect-failure", "num_retries": 2}})),
        Scenario::new("reset-before-request-on-refused")
            .backends(&["refused"])
            .route(json!({"retry_policy": {"retry_on": "reset-before-request", "num_retries": 2}})),
        Scenario::new("previous-hosts-avoided")
            .backends(&["a", "b", "c"])
            .route(json!({"retry_policy": {"retry_on": "5xx", "num_retries": 2, "host_selection_retry_max_attempts": 100,
                "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config":
                    {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}]}}))
            .cluster(json!({"lb_policy": "RANDOM"}))
            .does(|run| {
                let mut observed = crate::scenario::Observed::new();
                run.case(crate::case::Case::new(run.id, run.request("x-script: 503;503;200\r\n")))?;
                let hosts: std::collections::BTreeSet<_> = run.seen().iter().map(|seen| seen.backend).collect();
                observed.exact("different backends", hosts.len().to_string());
                Ok(observed)
            }),
        Scenario::new("breaker-without-retries")
            .cluster(json!({"circuit_breakers": {"thresholds": [{"max_retries": 0}]}}))
            .route(json!({"retry_policy": {"retry_on": "5xx", "num_retries": 2}}))
            .sends("x-script: 503;200\r\n"),
        Scenario::new("retry-budget-empty")
            .cluster(json!({"circuit_breakers": {"thresholds": [{"retry_budget": {"budget_percent": {"value": 0}, "min_retry_concurrency": 0}}]}}))
            .route(json!({"retry_policy": {"retry_on": "5xx", "num_retries": 2}}))
            .sends("x-script: 503;200\r\n"),
        Scenario::new("next-priority-after-failure")
            .cluster(json!({"load_assignment": {"cluster_name": "next-priority-after-failure", "endpoints": [
                {"priority": 0, "lb_endpoints": [crate::scenario::endpoint("a", json!({}))]},
                {"priority": 1, "lb_endpoints": [crate::scenario::endpoint("b", json!({}))]}]}}))
            .route(json!({"retry_policy": {"retry_on": "5xx", "num_retries": 1, "retry_priority": {
                "name": "envoy.retry_priorities.previous_priorities", "typed_config":
                    {"@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", "update_frequency": 1}}}}))
            .sends("x-script: 503;200\r\n"),
        Scenario::new("waits-before-retrying")
            .route(json!({"retry_policy": {"retry_on": "5xx", "num_retries": 1, "rate_limited_retry_back_off": {
                "reset_headers": [{"name": "retry-after", "format": "SECONDS"}], "max_interval": "300s"}}}))
            .does(|run| {
                let start = Instant::now();
                let mut observed = run.exchange("x-script: 503 retry-after=1;200\r\n")?;
                observed.timing(start.elapsed(), Duration::from_secs(1));
                Ok(observed)
            }),
        // Policies of the virtual host, and of the request.
        Scenario::new("policy-of-virtual-host")
            .virtual_host(json!({"retry_policy": {"retry_on": "5xx", "num_retries": 1}}))
            .sends("x-script: 503;200\r\n"),
        Scenario::new("policy-of-route-wins")
            .virtual_host(json!({"retry_policy": {"retry_on": "5xx", "num_retries": 3}}))
            .route(json!({"retry_policy": {"retry_on": "reset", "num_retries": 1}}))
            .sends("x-script: 503;200\r\n"),
        Scenario::new("request-says-retry-but-is-external").sends("x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 2\r\nx-script: 503;200\r\n"),
        internal("request-says-retry", "x-envoy-retry-on: 5xx\r\nx-script: 503;200\r\n"),
        internal("request-says-how-often", "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 3\r\nx-script: 503;503;503;200\r\n"),
        internal("request-says-which-codes", "x-envoy-retry-on: retriable-status-codes\r\nx-envoy-retriable-status-codes: 418\r\nx-script: 418;200\r\n"),
        internal("request-says-per-try", "x-envoy-retry-on: 5xx\r\nx-envoy-upstream-rq-per-try-timeout-ms: 200\r\nx-script: hang;200\r\n"),
        internal("request-says-grpc", "x-envoy-retry-grpc-on: unavailable\r\ncontent-type: application/grpc\r\nx-script: grpc=14;grpc=0\r\n"),
        // HTTP/2 backends.
        over_http2(retried("h2-refused-stream", "refused-stream", "reset=7;200")),
        over_http2(retried("h2-refused-stream-not-on-cancel", "refused-stream", "reset=8;200")),
        over_http2(retried("h2-reset-on-cancel", "reset", "reset=8;200")),
        over_http2(retried("h2-5xx-on-internal", "5xx", "reset=2;200")),
        over_http2(retried("h2-5xx-on-503", "5xx", "503;200")),
        over_http2(retried("h2-without-retry-reset", "retriable-4xx", "reset=2;200")),
        over_http2(retried("h2-protocol-error", "retriable-4xx", "reset=1;200")),
        // A second cluster answers for the first.
        Scenario::new("retry-stays-in-the-drawn-cluster")
            .and_cluster(cluster("retry-stays-2", &["b"]))
            .entry(json!({"route": null}))
            .entry(json!({"route": {"timeout": "0s", "weighted_clusters": {"clusters": [
                {"name": "retry-stays-in-the-drawn-cluster", "weight": 100}, {"name": "retry-stays-2", "weight": 0}]},
                "retry_policy": {"retry_on": "5xx", "num_retries": 3, "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}}}}))
            .sends("x-script: 503;503;200\r\n"),
    ];
    Suite { name: "retries", scenarios, filters: json!([]) }
}

fn grpc(id: &'static str, retry_on: &str, script: &'static str) -> Scenario {
    Scenario::new(id).route(json!({"retry_policy": {"retry_on": retry_on, "num_retries": 1}})).does(
        move |run| {
            run.exchange(&format!("content-type: application/grpc\r\nte: trailers\r\nx-script: {script}\r\n"))
        },
    )
}

fn body(id: &'static str, entry: Value, length: usize) -> Scenario {
    Scenario::new(id).entry(entry).route(json!({"retry_policy": {"retry_on": "5xx", "num_retries": 1}})).does(
        move |run| {
            let fields = format!("content-length: {length}\r\nx-script: 503;200\r\n");
            run.raw(run.request_of("POST", &format!("/{}", run.id), &fields) + &"x".repeat(length))
        },
    )
}

/// A listener that takes clients of 10.0.0.0/8 for internal, and such a client.
fn internal(id: &'static str, fields: &'static str) -> Scenario {
    Scenario::new(id)
        .manager(json!({"internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}))
        .does(move |run| run.exchange(&format!("x-forwarded-for: 10.1.2.3\r\n{fields}")))
}
