//! `/drain_listeners`, as measured on Envoy with `--drain-time-s 3 --drain-strategy immediate`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringsail_harness::config::{bootstrap, http_listener, inline_routes, static_cluster};
use ringsail_harness::peer::Peer;
use ringsail_harness::{binaries, client, engines, upstream, wait};
use serde_json::{Value, json};

/// Seconds; long enough to look at what happens before it is over.
const DRAIN_TIME: &str = "3";

/// An inbound and an outbound HTTP listener, and an inbound one for bytes.
fn start(engine: &str) -> Option<Peer> {
    let binary = binaries::ringsail_or_notice()?;
    let routes = || inline_routes(json!([{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]));
    let listener = |name: &str, direction: &str| {
        let mut listener = http_listener(name, routes());
        listener["traffic_direction"] = json!(direction);
        listener
    };
    let tcp = json!({"name": "tcp", "traffic_direction": "INBOUND",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "tcp", "cluster": "echo"}}]}]});
    let template: Value = bootstrap(
        json!([listener("in", "INBOUND"), listener("out", "OUTBOUND"), tcp]),
        json!([
            static_cluster("app", &[upstream::start().unwrap()]),
            static_cluster("echo", &[upstream::echo().unwrap()])
        ]),
    );
    let flags = ["--engine", engine, "--drain-time-s", DRAIN_TIME, "--drain-strategy", "immediate"];
    Some(Peer::start_with("ringsail", &binary, &template, &flags).unwrap())
}

fn says_close(connection: &mut client::Connection) -> bool {
    let answer = connection.get("/").unwrap();
    assert_eq!(answer.status, 200);
    answer.fields.contains(&("connection".to_string(), "close".to_string()))
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

fn echoes(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
}

#[test]
fn a_graceful_drain_of_inbound_asks_to_close_and_stops_listening_when_its_time_is_over() {
    for engine in engines::available() {
        let Some(peer) = start(engine) else { return };
        let mut old = client::Connection::open(peer.address(0)).unwrap();
        assert!(!says_close(&mut old), "{engine}");
        let mut outbound = client::Connection::open(peer.address(1)).unwrap();
        assert!(!says_close(&mut outbound), "{engine}");
        let mut session = TcpStream::connect(peer.address(2)).unwrap();
        echoes(&mut session);

        assert_eq!(peer.admin_post("/drain_listeners?inboundonly&graceful").unwrap(), "OK\n");
        // The order reaches the shard a moment after the answer.
        wait::until("new connections are asked to close", || {
            client::Connection::open(peer.address(0)).is_ok_and(|mut new| says_close(&mut new))
        });
        assert!(says_close(&mut old), "{engine}: an idle connection is asked with its next answer");
        assert!(!says_close(&mut outbound), "{engine}: outbound is not concerned");
        wait::until("inbound is closed", || !accepts(peer.address(0)));
        assert!(accepts(peer.address(1)), "{engine}: outbound still listens");
        echoes(&mut session);
        assert_eq!(peer.admin("/ready").unwrap(), "LIVE\n", "{engine}");
    }
}

#[test]
fn a_drain_without_grace_closes_the_sockets_at_once() {
    for engine in engines::available() {
        let Some(peer) = start(engine) else { return };
        let mut old = client::Connection::open(peer.address(0)).unwrap();
        assert!(!says_close(&mut old), "{engine}");
        assert_eq!(peer.admin_post("/drain_listeners?inboundonly").unwrap(), "OK\n");
        wait::until("inbound is closed", || !accepts(peer.address(0)));
        assert!(says_close(&mut old), "{engine}");
        assert!(accepts(peer.address(1)), "{engine}");
    }
}

#[test]
fn a_drain_that_skips_the_exit_listens_for_ever() {
    let Some(peer) = start("epoll") else { return };
    assert_eq!(peer.admin_post("/drain_listeners?inboundonly&graceful&skip_exit").unwrap(), "OK\n");
    wait::until("asked to close", || {
        client::Connection::open(peer.address(0)).is_ok_and(|mut new| says_close(&mut new))
    });
    // Longer than the drain time.
    std::thread::sleep(Duration::from_millis(3500));
    assert!(says_close(&mut client::Connection::open(peer.address(0)).unwrap()));
}
