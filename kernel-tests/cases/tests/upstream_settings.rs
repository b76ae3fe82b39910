//! Settings of upstream connections, each seen from the upstream's side.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ringsail_harness::client::Connection;
use ringsail_harness::peer::Peer;
use ringsail_harness::{binaries, client, config, upstream, wait};
use serde_json::{Value, json};

/// What an upstream sees of its connections.
#[derive(Default)]
struct Seen {
    /// Where each came from.
    peers: Vec<SocketAddr>,
    /// How many the other side ended.
    ended: usize,
}

/// An upstream that answers every request and ends no connection.
fn watching() -> (SocketAddr, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let shared = seen.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            shared.lock().unwrap().peers.push(stream.peer_addr().unwrap());
            let shared = shared.clone();
            thread::spawn(move || {
                let mut block = [0; 4096];
                while stream.read(&mut block).is_ok_and(|length| length > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
                }
                shared.lock().unwrap().ended += 1;
            });
        }
    });
    (address, seen)
}

/// A proxy of one shard whose only cluster has `fields`.
fn start(upstream: SocketAddr, fields: Value) -> Option<Peer> {
    let binary = binaries::ringsail_or_notice()?;
    let mut template = config::one_route(upstream);
    let cluster = template["static_resources"]["clusters"][0].as_object_mut().unwrap();
    cluster.extend(fields.as_object().unwrap().clone());
    Some(Peer::start_with("ringsail", &binary, &template, &["--concurrency", "1"]).unwrap())
}

/// Fields that set common HTTP options of upstream connections.
fn common(options: Value) -> Value {
    json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": options, "explicit_http_config": {"http_protocol_options": {}}}}})
}

fn counter(peer: &Peer, name: &str) -> u64 {
    let page = peer.admin(&format!("/stats?filter=^cluster.app.{name}$")).unwrap();
    let line = page.lines().next().unwrap_or_default().to_string();
    line.rsplit(": ").next().and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[test]
fn a_connection_serves_as_many_requests_as_it_may() {
    let (upstream, seen) = watching();
    let Some(peer) = start(upstream, common(json!({"max_requests_per_connection": 3}))) else { return };
    let mut connection = Connection::open(peer.address(0)).unwrap();
    for _ in 0..9 {
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    assert_eq!(seen.lock().unwrap().peers.len(), 3);
    wait::until("each was ended after its third answer", || seen.lock().unwrap().ended == 3);
    assert_eq!(counter(&peer, "upstream_cx_max_requests"), 3);
}

#[test]
fn a_connection_lives_as_long_as_it_may() {
    let (upstream, seen) = watching();
    let Some(peer) = start(upstream, common(json!({"max_connection_duration": "0.3s"}))) else { return };
    let mut connection = Connection::open(peer.address(0)).unwrap();
    let begun = Instant::now();
    assert_eq!(connection.get("/").unwrap().status, 200);
    while seen.lock().unwrap().peers.len() < 2 {
        assert_eq!(connection.get("/").unwrap().status, 200, "no request is lost by that");
        assert!(begun.elapsed() < wait::PATIENCE, "no second connection");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    wait::until("the first was ended", || seen.lock().unwrap().ended >= 1);
}

#[test]
fn an_idle_connection_is_ended_in_time() {
    let (upstream, seen) = watching();
    let Some(peer) = start(upstream, common(json!({"idle_timeout": "0.5s"}))) else { return };
    assert_eq!(client::get(peer.address(0), "/").unwrap().status, 200);
    wait::until("it was ended", || seen.lock().unwrap().ended == 1);
    assert_eq!(counter(&peer, "upstream_cx_idle_timeout"), 1);
    assert_eq!(client::get(peer.address(0), "/").unwrap().status, 200, "the next request gets another one");
}

#[test]
fn connections_come_from_the_configured_address() {
    let (upstream, seen) = watching();
    let bind = json!({"upstream_bind_config": {"source_address": {"address": "127.0.0.7", "port_value": 0}}});
    let Some(peer) = start(upstream, bind) else { return };
    assert_eq!(client::get(peer.address(0), "/").unwrap().status, 200);
    assert_eq!(seen.lock().unwrap().peers[0].ip(), IpAddr::from([127, 0, 0, 7]));
}

#[test]
fn keep_alive_runs_on_connections_that_ask_for_it() {
    for (fields, armed) in [
        (json!({"upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 600}}}), true),
        (json!({}), false),
    ] {
        let (upstream, seen) = watching();
        let Some(peer) = start(upstream, fields) else { return };
        assert_eq!(client::get(peer.address(0), "/").unwrap().status, 200);
        let port = seen.lock().unwrap().peers[0].port();
        // proc(5), proc_net_tcp: 02 is a timer that neither retransmits nor ends the connection.
        wait::until("the kernel's timer says so", || (timer_of(port).as_deref() == Some("02")) == armed);
    }
}

/// The kind of timer that runs on the socket with this local port, as `/proc/net/tcp` has it.
fn timer_of(port: u16) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!("0100007F:{port:04X}");
    let row = table.lines().map(str::split_ascii_whitespace).find_map(|mut columns| {
        (columns.nth(1) == Some(&local)).then(|| columns.nth(3).map(str::to_string)).flatten()
    });
    row.and_then(|timer| timer.split(':').next().map(str::to_string))
}

#[test]
fn an_endpoint_gets_no_more_connections_than_it_may() {
    let (upstream, release) = upstream::held().unwrap();
    let limits = json!({"circuit_breakers": {"thresholds": [{"max_connections": 100, "max_pending_requests": 100}],
        "per_host_thresholds": [{"max_connections": 2}]}});
    let Some(peer) = start(upstream, limits) else { return };
    let address = peer.address(0);
    let asked = || thread::spawn(move || client::get(address, "/").unwrap());
    let clients = [asked(), asked(), asked()];
    wait::until("two are being answered and one waits", || {
        counter(&peer, "upstream_rq_active") == 2 && counter(&peer, "upstream_rq_pending_active") == 1
    });
    assert!(counter(&peer, "upstream_cx_overflow") >= 1);
    drop(release);
    assert!(clients.into_iter().all(|client| client.join().unwrap().status == 200));
    assert_eq!(counter(&peer, "upstream_cx_total"), 2);
}

#[test]
fn requests_beyond_connections_and_queue_are_refused() {
    let (upstream, release) = upstream::held().unwrap();
    let limits =
        json!({"circuit_breakers": {"thresholds": [{"max_connections": 1, "max_pending_requests": 1}]}});
    let Some(peer) = start(upstream, limits) else { return };
    let address = peer.address(0);
    let asked = || thread::spawn(move || client::get(address, "/").unwrap());
    let first = asked();
    wait::until("one is being answered", || counter(&peer, "upstream_rq_active") == 1);
    let second = asked();
    wait::until("one waits", || counter(&peer, "upstream_rq_pending_active") == 1);
    let third = client::get(address, "/").unwrap();
    assert_eq!(third.status, 503);
    assert!(third.fields.iter().any(|(name, value)| name == "x-envoy-overloaded" && value == "true"));
    assert!(
        counter(&peer, "upstream_cx_overflow") >= 1 && counter(&peer, "upstream_rq_pending_overflow") == 1
    );
    drop(release);
    assert_eq!((first.join().unwrap().status, second.join().unwrap().status), (200, 200));
    assert_eq!(counter(&peer, "upstream_cx_total"), 1, "the second had to wait for the first's connection");
}
