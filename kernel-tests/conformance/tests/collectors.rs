//! What becomes of log entries while their collector is away.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringsail_conformance::collector::{self, Messages};
use ringsail_conformance::wire;
use ringsail_harness::client::Connection;
use ringsail_harness::config::{TYPE, bootstrap, http_listener, inline_routes, static_cluster};
use ringsail_harness::peer::Peer;
use ringsail_harness::ports::free_address;
use ringsail_harness::{binaries, engines, wait};
use serde_json::{Value, json};

fn template(sink: SocketAddr) -> Value {
    let direct = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
    let mut listener = http_listener("web", inline_routes(direct));
    listener["filter_chains"][0]["filters"][0]["typed_config"]["access_log"] = json!([{"name": "als", "typed_config": {
        "@type": format!("{TYPE}envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"),
        "common_config": {"log_name": "own", "transport_api_version": "V3", "buffer_size_bytes": 0,
            "grpc_service": {"envoy_grpc": {"cluster_name": "sink"}}},
        "additional_request_headers_to_log": ["x-run"]}}]);
    let mut cluster = static_cluster("sink", &[sink]);
    cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": format!("{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": {"http2_protocol_options": {}}}});
    bootstrap(json!([listener]), json!([cluster]))
}

fn count(peer: &Peer, name: &str) -> u64 {
    let page = peer.admin(&format!("/stats?filter={name}")).unwrap_or_default();
    page.lines().find_map(|line| line.split_once(": ")?.1.parse().ok()).unwrap_or(0)
}

#[test]
fn entries_for_an_absent_collector_are_dropped_and_counted_and_those_after_its_return_arrive() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let sink = free_address().unwrap();
    let peer = Peer::start_with("ringsail", &binary, &template(sink), &["--engine", engines::available()[0]])
        .unwrap();
    let mut client = Connection::open(peer.address(0)).unwrap();
    let mut ask = |run: &str| {
        let answer = client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\nx-run: {run}\r\n\r\n")).unwrap();
        assert_eq!(answer.status, 200, "requests do not wait for logs");
    };
    for _ in 0..3 {
        ask("before");
    }
    wait::until("what could not be sent is counted", || count(&peer, "grpc_access_log.logs_dropped") >= 3);
    assert_eq!(count(&peer, "grpc_access_log.logs_written"), 0);

    let messages = Messages::default();
    collector::start_grpc_at(sink, messages.clone()).unwrap();
    let arrived = || -> Vec<_> {
        let messages = messages.lock().unwrap();
        messages.iter().filter(|message| collector::names(&message.body, "after")).cloned().collect()
    };
    let deadline = Instant::now() + wait::PATIENCE;
    while arrived().is_empty() {
        assert!(Instant::now() < deadline, "nothing arrived after the collector came back");
        ask("after");
        std::thread::sleep(Duration::from_millis(20));
    }
    let first = messages.lock().unwrap()[0].clone();
    assert_eq!(first.path, "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs");
    assert_eq!(wire::field(&first.body, 1).len(), 1, "a new stream says who sends it");
    wait::until("what arrived is counted", || count(&peer, "grpc_access_log.logs_written") >= 1);
}
