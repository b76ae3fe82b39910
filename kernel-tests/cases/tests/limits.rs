//! At a limit the answer is a refusal that is counted.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use ringsail_harness::config::{TYPE, one_route};
use ringsail_harness::peer::Peer;
use ringsail_harness::wait::{self, PATIENCE};
use ringsail_harness::{binaries, client, engines, upstream};
use serde_json::{Value, json};

#[test]
fn a_connection_past_the_process_limit_is_closed_and_counted() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for engine in engines::available() {
        let mut template = one_route(upstream::start().unwrap());
        template["overload_manager"] = json!({"resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": format!("{TYPE}envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"),
                "max_active_downstream_connections": "4"}}]});
        let peer = Peer::start_with("ringsail", &binary, &template, &["--engine", engine]).unwrap();
        let mut held: Vec<_> = (0..4).map(|_| client::Connection::open(peer.address(0)).unwrap()).collect();
        for connection in &mut held {
            assert_eq!(connection.get("/").unwrap().status, 200, "{engine}");
        }
        assert!(is_refused(peer.address(0)), "{engine}: the fifth connection");
        assert!(counter(&peer, "downstream_global_cx_overflow") >= 1, "{engine}");

        held.pop();
        wait::until("a place is free", || {
            client::get(peer.address(0), "/").is_ok_and(|answer| answer.status == 200)
        });
    }
}

#[test]
fn the_circuit_breaker_refuses_what_neither_runs_nor_waits() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for engine in engines::available() {
        let (upstream, release) = upstream::held().unwrap();
        let mut template = one_route(upstream);
        template["static_resources"]["clusters"][0]["circuit_breakers"] =
            json!({"thresholds": [{"max_connections": 1, "max_pending_requests": 1}]});
        let peer = Peer::start_with("ringsail", &binary, &template, &["--engine", engine]).unwrap();
        let held = || {
            let address = peer.address(0);
            thread::spawn(move || client::get(address, "/").unwrap())
        };
        let running = held();
        wait::until("the first request runs", || counter(&peer, "cluster.app.upstream_rq_active") == 1);
        let waiting = held();
        wait::until("the second request waits", || {
            counter(&peer, "cluster.app.upstream_rq_pending_active") == 1
        });
        let refused = client::get(peer.address(0), "/").unwrap();
        assert_eq!(refused.status, 503, "{engine}");
        assert_eq!(
            refused.body, "upstream connect error or disconnect/reset before headers. reset reason: overflow",
            "{engine}"
        );
        assert!(refused.fields.contains(&("x-envoy-overloaded".to_string(), "true".to_string())), "{engine}");
        drop(release);
        assert_eq!((running.join().unwrap().status, waiting.join().unwrap().status), (200, 200), "{engine}");
        assert_eq!(counter(&peer, "cluster.app.upstream_rq_pending_overflow"), 1, "{engine}");
    }
}

#[test]
fn a_head_at_the_configured_limit_passes_and_one_past_it_is_refused() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let mut template = one_route(upstream::start().unwrap());
    manager(&mut template)["max_request_headers_kb"] = json!(8);
    let peer = Peer::start("ringsail", &binary, &template).unwrap();
    for (bytes, status) in [(7 * 1024, 200), (9 * 1024, 431)] {
        let request = format!("GET / HTTP/1.1\r\nhost: test\r\nx-long: {}\r\n\r\n", "a".repeat(bytes));
        let answer = client::Connection::open(peer.address(0)).unwrap().send(&request).unwrap();
        assert_eq!(answer.status, status, "{bytes} bytes");
    }
}

fn manager(template: &mut Value) -> &mut Value {
    &mut template["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

/// Whether the proxy ends a new connection without a byte.
fn is_refused(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return true };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// The sum of the statistics whose name ends with `name`.
fn counter(peer: &Peer, name: &str) -> u64 {
    let stats = peer.admin("/stats").unwrap();
    let values = stats.lines().filter_map(|line| line.split_once(": "));
    values.filter(|(key, _)| key.ends_with(name)).filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}
