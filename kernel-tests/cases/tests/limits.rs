//! At a limit the answer is a refusal that is counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

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

#[test]
fn a_shard_refuses_connections_past_its_limit_and_counts_them() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for engine in engines::available() {
        let template = one_route(upstream::start().unwrap());
        let limits = ["--engine", engine, "--shard-connections-max", "4"];
        let peer = Peer::start_with("ringsail", &binary, &template, &limits).unwrap();
        // Three from clients, one to the upstream.
        let mut held: Vec<_> = (0..3).map(|_| client::Connection::open(peer.address(0)).unwrap()).collect();
        for connection in &mut held {
            assert_eq!(connection.get("/").unwrap().status, 200, "{engine}");
        }
        assert!(is_refused(peer.address(0)), "{engine}: the fifth connection");
        assert!(counter(&peer, "server.ringsail_connections_refused") >= 1, "{engine}");
        let scraped = peer.admin("/stats/prometheus").unwrap();
        assert!(scraped.contains("ringsail_connections_refused"), "{engine}: {scraped}");
        assert_eq!(held[0].get("/").unwrap().status, 200, "{engine}: those that are open go on");
        held.pop();
        wait::until("room again", || {
            client::get(peer.address(0), "/").is_ok_and(|answer| answer.status == 200)
        });
    }
}

#[test]
fn a_shard_without_a_free_buffer_refuses_the_next_connection_and_goes_on() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for engine in engines::available() {
        let (upstream, answers) = upstream::held().unwrap();
        let template = one_route(upstream);
        let limits = ["--engine", engine, "--shard-buffers-max", "2"];
        let peer = Peer::start_with("ringsail", &binary, &template, &limits).unwrap();
        // What a client sends while its request waits for an answer is kept in a buffer.
        let mut waiting = Vec::new();
        while counter(&peer, "server.ringsail_buffers_exhausted") == 0 {
            assert!(waiting.len() < 100, "{engine}: a hundred connections found buffers");
            let mut stream = TcpStream::connect(peer.address(0)).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\nGET / HTTP/1.1").unwrap();
            waiting.push(stream);
            thread::sleep(Duration::from_millis(5));
        }
        assert!(counter(&peer, "server.ringsail_buffers_lent") <= 2, "{engine}");
        drop(waiting);
        drop(answers);
        wait::until("buffers again", || {
            client::get(peer.address(0), "/").is_ok_and(|answer| answer.status == 200)
        });
    }
}

#[test]
fn a_shard_starts_no_more_tasks_than_it_may() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for engine in engines::available() {
        let template = one_route(upstream::start().unwrap());
        let limits = ["--engine", engine, "--shard-tasks-max", "16"];
        let peer = Peer::start_with("ringsail", &binary, &template, &limits).unwrap();
        let mut first = client::Connection::open(peer.address(0)).unwrap();
        assert_eq!(first.get("/").unwrap().status, 200, "{engine}");
        let held: Vec<_> = (0..32).map(|_| TcpStream::connect(peer.address(0)).unwrap()).collect();
        wait::until("tasks are refused", || counter(&peer, "server.ringsail_tasks_refused") >= 1);
        assert!(counter(&peer, "server.ringsail_tasks") <= 16, "{engine}");
        assert_eq!(first.get("/").unwrap().status, 200, "{engine}: what runs goes on");
        drop(held);
        wait::until("room again", || {
            client::get(peer.address(0), "/").is_ok_and(|answer| answer.status == 200)
        });
    }
}

#[test]
fn access_log_records_past_the_queue_are_dropped_and_counted_and_requests_go_on() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let folder = tempfile::tempdir().unwrap();
    // Opening a pipe that nobody reads blocks the writer.
    let pipe = folder.path().join("log");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut template = one_route(upstream::start().unwrap());
    manager(&mut template)["access_log"] = json!([{"name": "file", "typed_config": {
        "@type": format!("{TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog"),
        "path": pipe.to_string_lossy()}}]);
    let peer = Peer::start_with("ringsail", &binary, &template, &["--access-log-queue-max", "4"]).unwrap();
    wait::until("records are dropped", || {
        assert_eq!(client::get(peer.address(0), "/").unwrap().status, 200);
        counter(&peer, "server.ringsail_access_log_dropped") >= 5
    });
    // Somebody has to read, or the writer never ends.
    thread::spawn(move || std::fs::read(pipe));
}

#[test]
fn queues_of_one_entry_delay_the_start_and_lose_nothing() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for engine in engines::available() {
        let mut template = one_route(upstream::start().unwrap());
        let listeners = template["static_resources"]["listeners"].as_array_mut().unwrap();
        let first = listeners[0].clone();
        for number in 1..50 {
            let mut listener = first.clone();
            listener["name"] = json!(format!("listener-{number}"));
            listeners.push(listener);
        }
        let one = [
            ["--engine", engine],
            ["--shard-commands-max", "1"],
            ["--shard-events-max", "1"],
            ["--shard-reports-max", "1"],
            ["--config-updates-max", "1"],
            ["--export-batches-max", "1"],
        ];
        let peer = Peer::start_with("ringsail", &binary, &template, one.as_flattened()).unwrap();
        // It is ready when the news of every listener has arrived.
        wait::until("ready", || peer.admin("/ready").is_ok_and(|state| state.trim() == "LIVE"));
        for number in [0, 49] {
            assert_eq!(client::get(peer.address(number), "/").unwrap().status, 200, "{engine}: {number}");
        }
        let stats = peer.admin("/stats").unwrap();
        for name in ["commands", "events", "reports"] {
            assert!(
                stats.contains(&format!("server.ringsail_{name}_refused: ")),
                "{engine}: {name}: {stats}"
            );
        }
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
