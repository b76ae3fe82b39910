//! The process: its engine, its admin pages, its end.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringsail_harness::peer::Peer;
use ringsail_harness::wait::{self, PATIENCE};
use ringsail_harness::{binaries, client, config, engines, upstream};

#[test]
fn the_engine_and_its_reason_are_on_the_admin_port() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for engine in engines::available() {
        let peer = start(&binary, &["--engine", engine]);
        let page = peer.admin("/server_info").unwrap();
        assert!(page.contains(engine), "{engine}: {page}");
        let metrics = peer.admin("/stats/prometheus").unwrap();
        assert!(
            metrics.lines().any(|line| line.contains("engine") && line.contains(engine)),
            "{engine}: {metrics}"
        );
    }
}

#[test]
fn sigterm_lets_the_running_request_finish_and_exits_with_success() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for engine in engines::available() {
        let (upstream, release) = upstream::held().unwrap();
        let template = config::one_route(upstream);
        let arguments = ["--engine", engine, "--drain-time-s", "20"];
        let mut peer = Peer::start_with("ringsail", &binary, &template, &arguments).unwrap();
        let address = peer.address(0);
        let running = thread::spawn(move || client::get(address, "/"));
        wait::until("the request runs", || {
            peer.admin("/stats").unwrap().contains("cluster.app.upstream_rq_active: 1")
        });
        peer.signal("TERM").unwrap();
        wait::until("the listener is closed", || client::Connection::open(address).is_err());
        drop(release);
        assert_eq!(running.join().unwrap().unwrap().status, 200, "{engine}: the running request was cut");
        let status = peer.wait(PATIENCE).unwrap();
        assert!(status.success(), "{engine}: {status}");
    }
}

#[test]
fn quitquitquit_ends_the_process_with_success() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let mut peer = start(&binary, &[]);
    assert_eq!(peer.admin_post("/quitquitquit").unwrap(), "OK\n");
    assert!(peer.wait(PATIENCE).unwrap().success());
}

#[test]
fn a_bad_bootstrap_ends_the_process_at_once_and_names_file_and_field() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.yaml");
    std::fs::write(&path, "static_resources:\n  listenerz: []\n").unwrap();
    let started = Instant::now();
    let output = Command::new(&binary).arg("-c").arg(&path).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    assert!(started.elapsed() < PATIENCE);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("bad.yaml") && message.contains("listenerz"), "{message}");
}

#[test]
fn a_taken_port_is_named() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bootstrap = config::one_route(upstream::refused().unwrap());
    bootstrap["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] =
        serde_json::json!(taken.local_addr().unwrap().port());
    bootstrap["admin"]["address"]["socket_address"]["port_value"] = serde_json::json!(0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bootstrap.json");
    std::fs::write(&path, bootstrap.to_string()).unwrap();
    let mut child = Command::new(&binary)
        .arg("-c")
        .arg(&path)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains(&taken.local_addr().unwrap().to_string()), "{message}");
}

fn start(binary: &std::path::Path, arguments: &[&str]) -> Peer {
    let template = config::one_route(upstream::start().unwrap());
    Peer::start_with("ringsail", binary, &template, arguments).unwrap()
}
