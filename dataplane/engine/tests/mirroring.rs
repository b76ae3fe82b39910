//! Mirrored requests, and that they cost the request they copy nothing.

mod harness;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::{Peer, Proxy, Upstream, closed_port, cluster, engines, listener, manager, stable};
use ringsail_runtime::engine::EngineChoice;
use serde_json::{Value, json};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const POST: &str = "POST /p?x=1 HTTP/1.1\r\nHost: a.example:81\r\nContent-Length: 5\r\n\r\nhello";

/// A proxy to `up`, whose requests are copied as `policies` say; mirror clusters are `m0`, `m1`, …
fn proxy(engine: EngineChoice, up: SocketAddr, mirrors: &[SocketAddr], policies: Value) -> Proxy {
    let routes = json!([{"match": {"prefix": "/"},
        "route": {"cluster": "up", "timeout": "0s", "request_mirror_policies": policies}}]);
    let mut clusters = vec![cluster("up", &[up])];
    clusters.extend(mirrors.iter().enumerate().map(|(i, at)| cluster(&format!("m{i}"), &[*at])));
    Proxy::start(engine, &[listener(manager(routes))], &clusters)
}

fn ok(client: &mut Peer) {
    assert!(client.read_message().ends_with("\r\n\r\nok"));
}

#[test]
fn each_mirror_gets_the_request_with_its_body_under_a_shadow_name() {
    for engine in engines() {
        let (first, second) = (Upstream::manual(), Upstream::manual());
        let policies = json!([
            {"cluster": "m0"},
            {"cluster": "m1", "disable_shadow_host_suffix_append": true},
            {"cluster": "none"},
            {"cluster_header": "x-mirror"},
        ]);
        let proxy = proxy(engine, Upstream::answering(OK), &[first.address, second.address], policies);
        let mut client = proxy.connect();
        client.send(POST);
        ok(&mut client);
        let copy = "Content-Length: 5\nx-forwarded-proto: http\nx-envoy-attempt-count: 1\nx-envoy-internal: true\n\
                    x-forwarded-for: 192.0.2.1\n\nhello";
        for (mirror, host) in [(&first, "a.example-shadow:81"), (&second, "a.example:81")] {
            let mut server = mirror.accept();
            assert_eq!(stable(&server.read_message()), format!("POST /p?x=1 HTTP/1.1\nHost: {host}\n{copy}"));
            server.send(OK);
        }
        proxy.wait_for_stat("cluster.m0.upstream_rq_2xx", 1);
        assert_eq!(proxy.stat("cluster.m0.upstream_rq_total"), 1);
        assert_eq!(proxy.stat("cluster.up.upstream_rq_total"), 1);
        // The connection to the mirror is used again.
        client.send("GET / HTTP/1.1\r\nHost: a\r\nx-mirror: m0\r\n\r\n");
        ok(&mut client);
        proxy.wait_for_stat("cluster.m0.upstream_rq_total", 3);
    }
}

#[test]
fn a_chunked_body_reaches_the_mirror_as_it_comes() {
    for engine in engines() {
        let (up, mirror) = (Upstream::manual(), Upstream::manual());
        let proxy = proxy(engine, up.address, &[mirror.address], json!([{"cluster": "m0"}]));
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        let (mut up, mut mirror) = (up.accept(), mirror.accept());
        for server in [&mut up, &mut mirror] {
            server.read_head();
            assert_eq!(server.read_until("abc\r\n"), "3\r\nabc\r\n");
        }
        client.send("2\r\nde\r\n0\r\n\r\n");
        for server in [&mut up, &mut mirror] {
            assert_eq!(server.read_until("0\r\n\r\n"), "2\r\nde\r\n0\r\n\r\n");
        }
    }
}

#[test]
fn a_mirror_that_reads_nothing_does_not_hold_the_request_up() {
    for engine in engines() {
        let mirror = Upstream::manual();
        let up = Upstream::serving(|_| OK.to_owned());
        let proxy = proxy(engine, up, &[mirror.address], json!([{"cluster": "m0"}]));
        let body = vec![b'x'; 8 * 1024 * 1024];
        let mut client = proxy.connect();
        for _ in 0..3 {
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
            client.send(&body);
            ok(&mut client);
        }
        // The copies were given up, and their connections closed, so that no server takes a part for the whole.
        for _ in 0..3 {
            let mut server = mirror.accept();
            server.read_head();
            server.read_to_end();
        }
        proxy.wait_for_stat("cluster.m0.upstream_rq_rx_reset", 3);
        assert_eq!(proxy.stat("cluster.m0.upstream_rq_active"), 0);
    }
}

#[test]
fn a_mirror_that_never_answers_or_is_not_there_does_not_hold_the_request_up() {
    for engine in engines() {
        let silent = Upstream::manual();
        let policies = json!([{"cluster": "m0"}, {"cluster": "m1"}]);
        let proxy = proxy(engine, Upstream::answering(OK), &[silent.address, closed_port()], policies);
        let mut client = proxy.connect();
        let began = Instant::now();
        for _ in 0..50 {
            client.send(POST);
            ok(&mut client);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        proxy.wait_for_stat("cluster.m0.upstream_rq_total", 50);
        proxy.wait_for_stat("cluster.m1.upstream_cx_connect_fail", 50);
    }
}

#[test]
fn copies_obey_the_circuit_breaker_of_their_own_cluster() {
    for engine in engines() {
        let (up, mirror) = (Upstream::answering(OK), Upstream::manual());
        let routes = json!([{"match": {"prefix": "/"},
            "route": {"cluster": "up", "request_mirror_policies": [{"cluster": "m0"}]}}]);
        let mut narrow = cluster("m0", &[mirror.address]);
        narrow["circuit_breakers"] = json!({"thresholds": [{"max_requests": 1}]});
        let proxy = Proxy::start(engine, &[listener(manager(routes))], &[cluster("up", &[up]), narrow]);
        let mut client = proxy.connect();
        for _ in 0..3 {
            client.send(POST);
            ok(&mut client);
        }
        let mut server = mirror.accept();
        server.read_message();
        proxy.wait_for_stat("cluster.m0.upstream_rq_pending_overflow", 2);
        assert_eq!(proxy.stat("cluster.up.upstream_rq_pending_overflow"), 0);
    }
}

#[test]
fn the_share_of_copies_is_the_configured_one() {
    const REQUESTS: u32 = 2000;
    for (engine, share) in engines().into_iter().zip([250_000_u32, 5_000]) {
        let policies = json!([{"cluster": "m0", "runtime_fraction":
            {"default_value": {"numerator": share, "denominator": "MILLION"}}}]);
        let proxy = proxy(engine, Upstream::answering(OK), &[Upstream::answering(OK)], policies);
        let mut client = proxy.connect();
        for _ in 0..REQUESTS {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            ok(&mut client);
        }
        let (p, copies) = (f64::from(share) / 1e6, proxy.stat("cluster.m0.upstream_rq_total") as f64);
        let (mean, deviation) = (f64::from(REQUESTS) * p, (f64::from(REQUESTS) * p * (1.0 - p)).sqrt());
        // Five standard deviations: wrong once in three million runs.
        assert!((copies - mean).abs() <= 5.0 * deviation, "{copies} copies, {mean} wanted");
    }
}

#[test]
fn a_virtual_hosts_mirrors_serve_routes_without_their_own_and_headers_can_be_changed() {
    for engine in engines() {
        let (mirror, other) = (Upstream::manual(), Upstream::manual());
        let mut manager = manager(json!([
            {"match": {"prefix": "/own"}, "route": {"cluster": "up", "request_mirror_policies": [{"cluster": "m1"}]}},
            {"match": {"prefix": "/"}, "route": {"cluster": "up"}},
        ]));
        manager["route_config"]["virtual_hosts"][0]["request_mirror_policies"] = json!([{
            "cluster": "m0", "host_rewrite_literal": "copy.example",
            "request_headers_mutations": [
                {"append": {"header": {"key": "x-path", "value": "%REQ(:path)%"}}},
                {"remove": "x-secret"},
                {"remove_on_match": {"key_matcher": {"prefix": "x-drop-"}}},
            ],
        }]);
        let clusters = [
            cluster("up", &[Upstream::answering(OK)]),
            cluster("m0", &[mirror.address]),
            cluster("m1", &[other.address]),
        ];
        let proxy = Proxy::start(engine, &[listener(manager)], &clusters);
        let mut client = proxy.connect();
        client.send("GET /a HTTP/1.1\r\nHost: a\r\nx-secret: 1\r\nX-Drop-Me: 2\r\nx-kept: 3\r\n\r\n");
        ok(&mut client);
        let copy = mirror.accept().read_head();
        assert!(copy.contains("\r\nHost: copy.example\r\n") && copy.contains("\r\nx-path: /a\r\n"), "{copy}");
        assert!(copy.contains("\r\nx-kept: 3\r\n") && !copy.contains("x-secret"), "{copy}");
        assert!(!copy.to_ascii_lowercase().contains("x-drop"), "{copy}");
        client.send("GET /own HTTP/1.1\r\nHost: a\r\n\r\n");
        ok(&mut client);
        assert!(other.accept().read_head().starts_with("GET /own "));
        assert!(mirror.is_quiet());
    }
}
