//! What shards find out about upstreams together: limits that hold for the process, and endpoints that fail.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use ringsail_harness::config::{bootstrap, http_listener, inline_routes, one_route, static_cluster};
use ringsail_harness::peer::Peer;
use ringsail_harness::wait;
use ringsail_harness::{binaries, client, engines, upstream};
use serde_json::{Value, json};

const SHARDS: &[&str] = &["--concurrency", "4"];

fn start(engine: &str, template: &Value) -> Peer {
    let binary = binaries::ringsail_proxy().expect("looked for before");
    let arguments: Vec<&str> = SHARDS.iter().copied().chain(["--engine", engine]).collect();
    Peer::start_with("ringsail", &binary, template, &arguments).unwrap()
}

#[test]
fn a_limit_is_reached_exactly_however_requests_fall_on_shards() {
    if binaries::ringsail_or_notice().is_none() {
        return;
    }
    for engine in engines::available() {
        for limit in [1, 3, 6] {
            let (upstream, release) = upstream::held().unwrap();
            let mut template = one_route(upstream);
            template["static_resources"]["clusters"][0]["circuit_breakers"] =
                json!({"thresholds": [{"max_requests": limit, "track_remaining": true}]});
            let peer = start(engine, &template);
            let clients: Vec<_> = (0..limit + 8)
                .map(|_| {
                    let address = peer.address(0);
                    thread::spawn(move || client::get(address, "/").unwrap().status)
                })
                .collect();
            wait::until("the limit is reached and the rest is refused", || {
                counter(&peer, "cluster.app.upstream_rq_active") == limit
                    && counter(&peer, "cluster.app.upstream_rq_pending_overflow") == 8
            });
            assert_eq!(counter(&peer, "cluster.app.circuit_breakers.default.rq_open"), 1, "{engine}");
            assert_eq!(counter(&peer, "cluster.app.circuit_breakers.default.cx_open"), 0, "{engine}");
            assert_eq!(counter(&peer, "cluster.app.circuit_breakers.default.remaining_pending"), 1024);
            drop(release);
            let mut statuses: Vec<u16> = clients.into_iter().map(|client| client.join().unwrap()).collect();
            statuses.sort_unstable();
            let passed = statuses.iter().take_while(|status| **status == 200).count() as u64;
            assert_eq!(passed, limit, "{engine}: {statuses:?}");
            // A client may have its answer a moment before its place is free.
            wait::until("what was used is free again", || {
                client::get(peer.address(0), "/").unwrap().status == 200
            });
        }
    }
}

#[test]
fn an_endpoint_that_fails_is_left_out_by_every_shard_and_comes_back() {
    if binaries::ringsail_or_notice().is_none() {
        return;
    }
    for engine in engines::available() {
        let (failing, status) = answering(500);
        let good = upstream::start().unwrap();
        let mut cluster = static_cluster("app", &[failing, good]);
        cluster["outlier_detection"] = json!({
            "consecutive_5xx": 5, "interval": "0.1s", "base_ejection_time": "0.5s",
            "max_ejection_percent": 50, "enforcing_success_rate": 0});
        cluster["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 0.0}});
        let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]);
        let template = bootstrap(json!([http_listener("http", inline_routes(routes))]), json!([cluster]));
        let peer = start(engine, &template);
        let flags = format!("app::{failing}::health_flags::/failed_outlier_check\n");
        wait::until("the failing endpoint is ejected", || {
            // A connection of its own each time, so that all shards take part.
            let _ = client::get(peer.address(0), "/").unwrap();
            peer.admin("/clusters").unwrap().contains(&flags)
        });
        assert!(counter(&peer, "cluster.app.outlier_detection.ejections_enforced_consecutive_5xx") >= 1);
        status.store(200, Ordering::Relaxed);
        wait::until("the endpoint is back", || {
            let _ = client::get(peer.address(0), "/").unwrap();
            peer.admin("/clusters").unwrap().contains(&format!("app::{failing}::health_flags::healthy\n"))
        });
        let count = |what: &str| endpoint_count(&peer, failing, what);
        let before = count("rq_success");
        wait::until("it gets requests again", || {
            let _ = client::get(peer.address(0), "/").unwrap();
            count("rq_success") > before
        });
        assert!(count("rq_error") >= 5 && count("rq_total") >= 6 && count("cx_total") >= 1, "{engine}");
        assert_eq!(count("rq_active"), 0, "{engine}");
    }
}

#[test]
fn an_ejected_endpoint_gets_no_request_from_any_shard() {
    if binaries::ringsail_or_notice().is_none() {
        return;
    }
    for engine in engines::available() {
        let (failing, _) = answering(503);
        let good = upstream::start().unwrap();
        let mut cluster = static_cluster("app", &[failing, good]);
        cluster["outlier_detection"] = json!({
            "consecutive_gateway_failure": 3, "enforcing_consecutive_gateway_failure": 100,
            "enforcing_consecutive_5xx": 0, "max_ejection_percent": 50, "base_ejection_time": "600s",
            "max_ejection_time": "600s"});
        let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]);
        let template = bootstrap(json!([http_listener("http", inline_routes(routes))]), json!([cluster]));
        let peer = start(engine, &template);
        wait::until("the failing endpoint is ejected", || {
            let _ = client::get(peer.address(0), "/").unwrap();
            counter(&peer, "cluster.app.outlier_detection.ejections_active") == 1
        });
        for _ in 0..40 {
            assert_eq!(client::get(peer.address(0), "/").unwrap().status, 200, "{engine}");
        }
        assert_eq!(counter(&peer, "cluster.app.membership_healthy"), 1, "{engine}");
    }
}

#[test]
fn an_endpoint_that_fails_its_checks_gets_no_requests_until_it_passes() {
    if binaries::ringsail_or_notice().is_none() {
        return;
    }
    for engine in engines::available() {
        let (sick, status) = answering(503);
        let (well, _) = answering(200);
        let mut cluster = static_cluster("app", &[sick, well]);
        cluster["health_checks"] = json!([{
            "timeout": "5s", "interval": "0.1s", "no_traffic_interval": "0.1s",
            "unhealthy_threshold": 2, "healthy_threshold": 2, "http_health_check": {"path": "/healthz"}}]);
        cluster["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 0.0}});
        let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]);
        let template = bootstrap(json!([http_listener("http", inline_routes(routes))]), json!([cluster]));
        let peer = start(engine, &template);
        let shows = |endpoint: SocketAddr, flags: &str| {
            peer.admin("/clusters").unwrap().contains(&format!("app::{endpoint}::health_flags::{flags}\n"))
        };
        wait::until("both are checked", || shows(sick, "/failed_active_hc") && shows(well, "healthy"));
        for _ in 0..20 {
            assert_eq!(client::get(peer.address(0), "/").unwrap().status, 200, "{engine}");
        }
        assert_eq!(endpoint_count(&peer, sick, "rq_total"), 0, "{engine}");
        status.store(200, Ordering::Relaxed);
        wait::until("it passed", || shows(sick, "healthy"));
        wait::until("it gets requests", || {
            let _ = client::get(peer.address(0), "/").unwrap();
            endpoint_count(&peer, sick, "rq_total") > 0
        });
        assert!(counter(&peer, "cluster.app.health_check.failure") >= 1, "{engine}");
        assert!(counter(&peer, "cluster.app.health_check.success") >= 3, "{engine}");
    }
}

#[test]
fn a_port_where_nobody_listens_fails_a_tcp_check() {
    if binaries::ringsail_or_notice().is_none() {
        return;
    }
    for engine in engines::available() {
        let (gone, well) = (upstream::refused().unwrap(), upstream::start().unwrap());
        let mut cluster = static_cluster("app", &[gone, well]);
        cluster["health_checks"] = json!([{
            "timeout": "5s", "interval": "0.1s", "unhealthy_threshold": 1, "healthy_threshold": 1,
            "tcp_health_check": {}}]);
        let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]);
        let template = bootstrap(json!([http_listener("http", inline_routes(routes))]), json!([cluster]));
        let peer = start(engine, &template);
        wait::until("both are checked", || {
            counter(&peer, "cluster.app.membership_healthy") == 1
                && counter(&peer, "cluster.app.health_check.network_failure") >= 1
                && counter(&peer, "cluster.app.health_check.success") >= 1
        });
        for _ in 0..10 {
            assert_eq!(client::get(peer.address(0), "/").unwrap().status, 200, "{engine}");
        }
    }
}

/// An HTTP server that answers every request with a status that may be changed.
fn answering(status: u16) -> (SocketAddr, Arc<AtomicU16>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let status = Arc::new(AtomicU16::new(status));
    let current = status.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let current = current.clone();
            thread::spawn(move || {
                let mut block = [0; 4096];
                while let Ok(1..) = stream.read(&mut block) {
                    let status = current.load(Ordering::Relaxed);
                    let answer = format!("HTTP/1.1 {status} Any\r\ncontent-length: 0\r\n\r\n");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, status)
}

fn counter(peer: &Peer, name: &str) -> u64 {
    let stats = peer.admin(&format!("/stats?filter=^{}$", name.replace('.', "\\."))).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn endpoint_count(peer: &Peer, endpoint: SocketAddr, what: &str) -> u64 {
    let clusters = peer.admin("/clusters").unwrap();
    let prefix = format!("app::{endpoint}::{what}::");
    clusters.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().parse().unwrap()
}
