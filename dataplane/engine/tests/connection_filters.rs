//! What is done to a connection before its first request: PROXY headers and limits.

mod harness;

use std::time::{Duration, Instant};

use harness::{Proxy, Seen, Upstream, cluster, engines, listener, manager};
use ringsail_runtime::engine::EngineChoice;
use serde_json::{Value, json};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A proxy with these listener filters and network filters.
fn proxy(engine: EngineChoice, before: Value, network: Vec<Value>) -> (Proxy, Seen) {
    let seen = Seen::default();
    let note = seen.clone();
    let up = Upstream::serving(move |request| {
        note.note(request);
        OK.to_owned()
    });
    let mut manager = manager(json!([{"match": {"prefix": "/"}, "route": {"cluster": "up"}}]));
    manager["use_remote_address"] = true.into();
    let mut listener = listener(manager);
    listener["listener_filters"] = before;
    let filters = listener["filter_chains"][0]["filters"].as_array_mut().unwrap();
    filters.splice(0..0, network);
    (Proxy::start(engine, &[listener], &[cluster("up", &[up])]), seen)
}

fn proxy_protocol(more: Value) -> Value {
    let mut config = json!({"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!([{"name": "p", "typed_config": config}])
}

#[test]
fn the_client_that_a_balancer_names_is_the_one_the_upstream_is_told() {
    for engine in engines() {
        let (proxy, seen) = proxy(engine, proxy_protocol(json!({})), vec![]);
        let mut client = proxy.connect();
        // In pieces, as it may come.
        client.send("PROXY TCP4 203.0.113.7 ");
        client.send(format!("10.0.0.2 4660 80\r\n{ASK}"));
        assert!(client.read_message().ends_with("ok"));
        assert!(seen.all()[0].contains("\r\nx-forwarded-for: 203.0.113.7\r\n"), "{:?}", seen.all());
        // Only the connection begins with a header, not each request.
        client.send(ASK);
        assert!(client.read_message().ends_with("ok"));
    }
}

#[test]
fn without_a_header_a_connection_is_served_only_where_that_is_allowed() {
    for engine in engines() {
        let (strict, seen) = proxy(engine, proxy_protocol(json!({})), vec![]);
        assert_eq!(strict.ask(ASK), "");
        assert_eq!(seen.all().len(), 0);
        let optional = proxy_protocol(json!({"allow_requests_without_proxy_protocol": true}));
        let (lenient, _) = proxy(engine, optional, vec![]);
        let mut client = lenient.connect();
        client.send(ASK);
        assert!(client.read_message().ends_with("ok"));
    }
}

#[test]
fn one_connection_too_many_is_closed_and_there_is_room_when_another_ends() {
    for engine in engines() {
        let limit = json!({"name": "l", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
            "stat_prefix": "few", "max_connections": 1}});
        let (proxy, _) = proxy(engine, json!([]), vec![limit]);
        let mut first = proxy.connect();
        first.send(ASK);
        assert!(first.read_message().ends_with("ok"));
        assert_eq!(proxy.ask(ASK), "");
        assert_eq!(proxy.stat("connection_limit.few.limited_connections"), 1);
        drop(first);
        let began = Instant::now();
        loop {
            // The end of the first is noticed a moment later.
            let mut next = proxy.connect();
            next.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            if next.read_to_end().ends_with("ok") {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20));
        }
    }
}

#[test]
fn connections_past_their_rate_are_closed() {
    for engine in engines() {
        let limit = json!({"name": "l", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "slow", "token_bucket": {"max_tokens": 2, "fill_interval": "600s"}}});
        let (proxy, seen) = proxy(engine, json!([]), vec![limit]);
        let closing = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answers: Vec<bool> = (0..3).map(|_| proxy.ask(closing).ends_with("ok")).collect();
        assert_eq!((answers, seen.all().len()), (vec![true, true, false], 2));
        assert_eq!(proxy.stat("local_rate_limit.slow.rate_limited"), 1);
    }
}
