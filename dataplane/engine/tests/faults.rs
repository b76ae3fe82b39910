//! Injected faults.

mod harness;

use std::time::{Duration, Instant};

use harness::{Proxy, Upstream, cluster, engines, listener, manager, stable};
use ringsail_runtime::engine::EngineChoice;
use serde_json::{Value, json};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A proxy whose route injects `fault`.
fn proxy(engine: EngineChoice, fault: Value) -> Proxy {
    let mut fault = fault;
    fault["@type"] = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault".into();
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0.2s"},
        "typed_per_filter_config": {"envoy.filters.http.fault": fault}}]);
    let up = Upstream::answering(OK);
    Proxy::start(engine, &[listener(manager(routes))], &[cluster("up", &[up])])
}

fn always() -> Value {
    json!({"numerator": 100})
}

#[test]
fn an_abort_is_answered_here_and_counted() {
    for engine in engines() {
        let proxy = proxy(engine, json!({"abort": {"http_status": 418, "percentage": always()}}));
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            stable(&client.read_message()),
            "HTTP/1.1 418 Unknown\ncontent-length: 18\ncontent-type: text/plain\nserver: envoy\n\nfault filter abort"
        );
        proxy.wait_for_stat("http.test.fault.aborts_injected", 1);
        proxy.wait_for_stat("http.test.fault.active_faults", 0);
        assert_eq!(proxy.stat("cluster.up.upstream_rq_total"), 0);
        drop(client);
        assert_eq!(proxy.log(), "418 FI fault_filter_abort\n");
    }
}

#[test]
fn a_grpc_client_gets_the_status_of_a_grpc_abort() {
    for engine in engines() {
        let proxy = proxy(engine, json!({"abort": {"grpc_status": 7, "percentage": always()}}));
        let mut client = proxy.connect();
        client.send(
            "POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n",
        );
        let answer = client.read_head();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\ngrpc-status: 7\r\n"),
            "{answer}"
        );
    }
}

#[test]
fn a_delay_comes_first_and_the_routes_timeout_does_not_count_it() {
    for engine in engines() {
        let delay = json!({"delay": {"fixed_delay": "0.4s", "percentage": always()}});
        let proxy = proxy(engine, delay);
        let mut client = proxy.connect();
        let began = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.read_message().ends_with("ok"));
        assert!(began.elapsed() >= Duration::from_millis(400));
        proxy.wait_for_stat("http.test.fault.delays_injected", 1);
        drop(client);
        assert_eq!(proxy.log(), "200 DI via_upstream\n");
    }
}

#[test]
fn a_client_asks_for_faults_by_header() {
    for engine in engines() {
        let fault = json!({"delay": {"header_delay": {}, "percentage": always()},
            "abort": {"header_abort": {}, "percentage": always()}});
        let proxy = proxy(engine, fault);
        for (fields, expected) in [
            ("", "200 OK"),
            ("x-envoy-fault-abort-request: 503\r\n", "503 Service Unavailable"),
            ("x-envoy-fault-abort-request: 503\r\nx-envoy-fault-abort-request-percentage: 0\r\n", "200 OK"),
            ("x-envoy-fault-delay-request: 1\r\nx-envoy-fault-abort-request: 504\r\n", "504 Gateway Timeout"),
        ] {
            let mut client = proxy.connect();
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            assert!(client.read_message().starts_with(&format!("HTTP/1.1 {expected}\r\n")), "{fields}");
        }
        assert_eq!(
            proxy.log(),
            "200 - via_upstream\n503 FI fault_filter_abort\n200 - via_upstream\n504 DI,FI fault_filter_abort\n"
        );
    }
}

#[test]
fn no_more_faults_at_once_than_allowed() {
    for engine in engines() {
        let fault = json!({"max_active_faults": 1,
            "delay": {"fixed_delay": "30s", "percentage": always()}});
        let proxy = proxy(engine, fault);
        let mut first = proxy.connect();
        first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        proxy.wait_for_stat("http.test.fault.active_faults", 1);
        let mut second = proxy.connect();
        second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(second.read_message().ends_with("ok"));
        assert_eq!(proxy.stat("http.test.fault.faults_overflow"), 1);
        // The delayed client leaves: there is room again.
        drop(first);
        proxy.wait_for_stat("http.test.fault.active_faults", 0);
    }
}

#[test]
fn a_fault_may_concern_some_requests_only() {
    for engine in engines() {
        let abort = json!({"http_status": 500, "percentage": always()});
        for (fault, hit) in [
            (json!({"upstream_cluster": "up"}), true),
            (json!({"upstream_cluster": "other"}), false),
            (json!({"downstream_nodes": ["n1", "n2"]}), true),
            (json!({"downstream_nodes": ["n1"]}), false),
            (json!({"headers": [{"name": "x-user", "string_match": {"exact": "bob"}}]}), true),
            (json!({"headers": [{"name": "x-user", "string_match": {"exact": "eve"}}]}), false),
        ] {
            let mut fault = fault;
            fault["abort"] = abort.clone();
            let proxy = proxy(engine, fault.clone());
            let mut client = proxy.connect();
            client.send(
                "GET / HTTP/1.1\r\nHost: a\r\nx-user: bob\r\nx-envoy-downstream-service-node: n2\r\n\r\n",
            );
            let status = if hit { "500" } else { "200" };
            assert!(client.read_message().starts_with(&format!("HTTP/1.1 {status} ")), "{fault}");
        }
    }
}
