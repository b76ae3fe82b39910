//! Clients and servers of other projects on both sides of the proxy.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use ringsail_harness::config::{TYPE, bootstrap, http_listener, inline_routes, static_cluster};
use ringsail_harness::peer::Peer;
use ringsail_harness::{binaries, python, upstream};
use serde_json::{Value, json};

#[test]
fn grpcio_calls_pass_between_grpcio_peers() {
    let (Some(binary), Some(python)) = (binaries::ringsail_or_notice(), python::interpreter_or_notice())
    else {
        return;
    };
    let server = python::Server::start(&python, "grpc_calls.py").unwrap();
    let peer = start(&binary, json!({}), http2_cluster(server.address()));
    all_ok(&python::run(&python, "grpc_calls.py", &["call", &peer.address(0).to_string()]).unwrap(), 15);
}

#[test]
fn websockets_converse_through_the_proxy() {
    let (Some(binary), Some(python)) = (binaries::ringsail_or_notice(), python::interpreter_or_notice())
    else {
        return;
    };
    let server = python::Server::start(&python, "websocket_calls.py").unwrap();
    let upgrades = json!({"upgrade_configs": [{"upgrade_type": "websocket"}]});
    let peer = start(&binary, upgrades, static_cluster("app", &[server.address()]));
    all_ok(&python::run(&python, "websocket_calls.py", &["call", &peer.address(0).to_string()]).unwrap(), 9);
}

#[test]
fn websockets_over_http2_converse_with_a_server_of_http1() {
    let (Some(binary), Some(python)) = (binaries::ringsail_or_notice(), python::interpreter_or_notice())
    else {
        return;
    };
    let server = python::Server::start(&python, "websocket_calls.py").unwrap();
    let upgrades = json!({"upgrade_configs": [{"upgrade_type": "websocket"}],
        "http2_protocol_options": {"allow_connect": true}});
    let peer = start(&binary, upgrades, static_cluster("app", &[server.address()]));
    all_ok(&python::run(&python, "websocket_http2.py", &[&peer.address(0).to_string()]).unwrap(), 4);
}

#[test]
fn idle_http2_clients_do_not_hold_up_the_end_of_the_process() {
    let (Some(binary), Some(python)) = (binaries::ringsail_or_notice(), python::interpreter_or_notice())
    else {
        return;
    };
    // hyper-h2 answers no ping once it was told goodbye.
    let peer = start(&binary, json!({}), static_cluster("app", &[upstream::start().unwrap()]));
    let process = peer.pid().to_string();
    let lines = python::run(&python, "http2_goodbye.py", &[&peer.address(0).to_string(), &process]).unwrap();
    all_ok(&lines, 1);
}

#[test]
fn curl_gets_an_answer_in_every_version_it_speaks() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    if Command::new("curl").arg("--version").output().is_err() {
        return binaries::skip_notice("no curl: `cargo xtask test` installs it");
    }
    let peer = start(
        &binary,
        json!({"http_protocol_options": {"accept_http_10": true}}),
        static_cluster("app", &[upstream::start().unwrap()]),
    );
    // What curl writes for HTTP/1.0 is `1`.
    for (option, version) in [("--http1.0", "1"), ("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        for method in [vec![], vec!["--data", "a=1"], vec!["--head"]] {
            let output = Command::new("curl")
                .args(["--silent", "--show-error", "--max-time", "30", option, "--output", "/dev/null"])
                .args(["--write-out", "%{http_version} %{http_code}"])
                .args(&method)
                .arg(format!("http://{}/any", peer.address(0)))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert_eq!(said, format!("{version} 200"), "{option} {method:?}: {complaint}");
        }
    }
}

#[test]
fn h2load_gets_every_answer_it_asks_for() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    if Command::new("h2load").arg("--version").output().is_err() {
        return binaries::skip_notice("no h2load: `cargo xtask test` installs nghttp2-client");
    }
    let peer = start(&binary, json!({}), static_cluster("app", &[upstream::start().unwrap()]));
    for protocol in [&["--h1"][..], &["-m", "20"]] {
        let output = Command::new("h2load")
            .args(["-n", "2000", "-c", "10"])
            .args(protocol)
            .arg(format!("http://{}/any", peer.address(0)))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{protocol:?}: {said}");
    }
}

fn start(binary: &Path, manager: Value, cluster: Value) -> Peer {
    let mut fields =
        inline_routes(json!([{"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}]));
    for (key, value) in manager.as_object().into_iter().flatten() {
        fields[key] = value.clone();
    }
    let template = bootstrap(json!([http_listener("http", fields)]), json!([cluster]));
    Peer::start("ringsail", binary, &template).unwrap()
}

fn http2_cluster(address: SocketAddr) -> Value {
    let mut cluster = static_cluster("app", &[address]);
    cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": format!("{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": {"http2_protocol_options": {}}}});
    cluster
}

/// Every line says `ok`, and there are as many as there should be.
fn all_ok(lines: &[String], count: usize) {
    let failures: Vec<&String> = lines.iter().filter(|line| !line.starts_with("ok ")).collect();
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(lines.len(), count, "{lines:?}");
}
