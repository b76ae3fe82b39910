//! Istio's standard metrics: labels from node, endpoint and peer metadata, on both sides of a call.

mod harness;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::*;
use ringsail_engine::shard::Settings;
use ringsail_engine::telemetry::Local;
use ringsail_runtime::engine::EngineChoice;
use ringsail_tables::istio::Workload;
use ringsail_telemetry::render::{self, Selection};
use serde_json::{Value, json};

const STATS: &str = "type.googleapis.com/stats.PluginConfig";
const PEERS: &str = "type.googleapis.com/io.istio.http.peer_metadata.Config";

fn workload(app: &str) -> Local {
    Local {
        workload: Workload {
            name: format!("{app}-v1"),
            namespace: "shop".into(),
            kind: "deployment".into(),
            canonical_service: app.into(),
            app: app.into(),
            version: "v1".into(),
            cluster: "east".into(),
            ..Workload::default()
        },
        node_id: format!("sidecar~{app}"),
        version: "1.30.0".into(),
        ..Local::default()
    }
}

/// A connection manager with Istio's filters in front of the router.
fn istio_manager(routes: Value, stats: Value, peers: Value) -> Value {
    let mut manager = manager(routes);
    let named = |kind: &str, mut settings: Value| {
        settings["@type"] = json!(kind);
        json!({"name": kind, "typed_config": settings})
    };
    let filters = manager["http_filters"].as_array_mut().expect("a list");
    filters.insert(0, named(STATS, stats));
    filters.insert(0, named(PEERS, peers));
    manager
}

fn outbound() -> Value {
    json!({"upstream_discovery": [{"istio_headers": {}}], "upstream_propagation": [{"istio_headers": {}}]})
}

fn inbound() -> Value {
    json!({"downstream_discovery": [{"istio_headers": {}}], "downstream_propagation": [{"istio_headers": {}}]})
}

fn all_to(cluster: &str) -> Value {
    json!([{"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}])
}

fn directed(mut listener: Value, direction: &str) -> Value {
    listener["traffic_direction"] = json!(direction);
    listener
}

/// A cluster of a service whose endpoint is a workload the control plane knows.
fn service_cluster(name: &str, address: SocketAddr) -> Value {
    let mut cluster = cluster(name, &[address]);
    cluster["metadata"] = json!({"filter_metadata": {"istio": {"services": [
        {"host": "web.shop.svc.cluster.local", "name": "web", "namespace": "shop"}]}}});
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] =
        json!({"filter_metadata": {"istio": {"workload": "web-v1;shop;web;v1;east"}}});
    cluster
}

fn start(app: &str, listeners: &[Value], clusters: &[Value]) -> Proxy {
    Proxy::start_as(EngineChoice::Auto, Arc::new(workload(app)), Settings::default(), listeners, clusters)
}

/// The series of a metric, as `name{labels} value`.
fn series(proxy: &Proxy, metric: &str) -> Vec<String> {
    let mut page = String::new();
    render::prometheus(&proxy.registry, Selection::default(), &mut page);
    page.lines().filter(|line| line.starts_with(metric)).map(str::to_owned).collect()
}

fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let start = series.find(&format!("{name}=\""))? + name.len() + 2;
    series.get(start..)?.split('"').next()
}

/// Waits for a series of a metric: it is counted after the client has its answer.
fn wait_for(proxy: &Proxy, metric: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(line) = series(proxy, metric).first() {
            return line.clone();
        }
        assert!(Instant::now() < deadline, "no {metric}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An application with this answer, and the requests it gets.
fn app(answer: &'static str) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let address = Upstream::serving(move |request| {
        noted.note(request);
        answer.to_owned()
    });
    (address, seen)
}

fn labels(series: &str, wanted: &[(&str, &str)]) {
    for (name, value) in wanted {
        assert_eq!(label(series, name), Some(*value), "{name} in {series}");
    }
}

#[test]
fn both_sides_of_a_call_name_each_other() {
    let (app, seen) = app("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let mut cluster = service_cluster("inbound|80||", app);
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0].as_object_mut().unwrap().remove("metadata");
    let settings = json!({"disable_host_header_fallback": true});
    let listener_in =
        directed(listener(istio_manager(all_to("inbound|80||"), settings, inbound())), "INBOUND");
    let server = start("web", &[listener_in], &[cluster]);
    let listener_out = directed(listener(istio_manager(all_to("out"), json!({}), outbound())), "OUTBOUND");
    let client = start("front", &[listener_out], &[service_cluster("out", server.address())]);

    let answer = client.ask("GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("x-envoy-peer-metadata"), "the application sees nothing of it: {answer}");
    let request = seen.all().concat();
    assert!(!request.contains("x-envoy-peer-metadata"), "the application sees nothing of it: {request}");

    let common = [
        ("source_workload", "front-v1"),
        ("source_canonical_service", "front"),
        ("source_canonical_revision", "latest"),
        ("source_workload_namespace", "shop"),
        ("source_principal", "unknown"),
        ("source_app", "front"),
        ("source_version", "v1"),
        ("source_cluster", "east"),
        ("destination_workload", "web-v1"),
        ("destination_workload_namespace", "shop"),
        ("destination_principal", "unknown"),
        ("destination_app", "web"),
        ("destination_version", "v1"),
        ("destination_service", "web.shop.svc.cluster.local"),
        ("destination_canonical_service", "web"),
        ("destination_canonical_revision", "latest"),
        ("destination_service_name", "web"),
        ("destination_service_namespace", "shop"),
        ("destination_cluster", "east"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("grpc_response_status", ""),
        ("response_flags", "-"),
    ];
    let source = wait_for(&client, "istio_requests_total");
    labels(&source, &common);
    labels(&source, &[("reporter", "source"), ("connection_security_policy", "unknown")]);
    let destination = wait_for(&server, "istio_requests_total");
    labels(&destination, &common);
    labels(&destination, &[("reporter", "destination"), ("connection_security_policy", "none")]);
    for metric in ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"] {
        assert!(wait_for(&client, &format!("{metric}_count")).ends_with("} 1"));
    }
    assert_eq!(series(&client, "istio_build"), [r#"istio_build{component="proxy",tag="1.30.0"} 1"#]);
}

#[test]
fn a_peer_that_does_not_speak_is_named_by_the_control_plane_or_unknown() {
    let (app, seen) = app("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
    let out = directed(listener(istio_manager(all_to("out"), json!({}), outbound())), "OUTBOUND");
    let client = start("front", &[out], &[service_cluster("out", app)]);
    client.ask("GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
    let found = wait_for(&client, "istio_requests_total");
    labels(
        &found,
        &[
            ("destination_workload", "web-v1"),
            ("destination_canonical_revision", "v1"),
            ("destination_app", "unknown"),
            ("response_code", "503"),
        ],
    );
    assert!(seen.all().concat().contains("x-envoy-peer-metadata-id: sidecar~front"));

    let server = start(
        "web",
        &[directed(listener(istio_manager(all_to("in"), json!({}), inbound())), "INBOUND")],
        &[cluster("in", &[app])],
    );
    let answer = server.ask("GET / HTTP/1.1\r\nhost: web.example:80\r\nconnection: close\r\n\r\n");
    assert!(!answer.contains("x-envoy-peer-metadata"), "who did not ask is not told: {answer}");
    labels(
        &wait_for(&server, "istio_requests_total"),
        &[
            ("source_workload", "unknown"),
            ("source_canonical_revision", "latest"),
            ("destination_service", "web.example:80"),
            ("destination_service_name", "web.example:80"),
            ("destination_service_namespace", "shop"),
        ],
    );
}

#[test]
fn without_the_authority_a_server_still_knows_its_own_service() {
    let (app, _) = app("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let settings = json!({"disable_host_header_fallback": true});
    let server = start(
        "web",
        &[directed(listener(istio_manager(all_to("in"), settings, inbound())), "INBOUND")],
        &[cluster("in", &[app])],
    );
    server.ask("GET / HTTP/1.1\r\nhost: anything\r\nconnection: close\r\n\r\n");
    let found = wait_for(&server, "istio_requests_total");
    labels(&found, &[("destination_service", "web"), ("destination_service_name", "web")]);
}

#[test]
fn answers_of_our_own_are_counted_with_their_flags() {
    let none = closed_port();
    let out = directed(listener(istio_manager(all_to("out"), json!({}), outbound())), "OUTBOUND");
    let client = start("front", &[out], &[service_cluster("out", none)]);
    client.ask("GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
    let found = wait_for(&client, "istio_requests_total");
    labels(
        &found,
        &[("response_code", "503"), ("response_flags", "UF"), ("destination_service_name", "web")],
    );
}

#[test]
fn routes_out_of_the_mesh_are_named_by_their_kind() {
    let (app, _) = app("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let mut routes = all_to("PassthroughCluster");
    routes[0]["name"] = json!("allow_any");
    let out = directed(listener(istio_manager(routes, json!({}), outbound())), "OUTBOUND");
    let client = start("front", &[out], &[cluster("PassthroughCluster", &[app])]);
    client.ask("GET / HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n");
    labels(
        &wait_for(&client, "istio_requests_total"),
        &[("destination_service", "example.com"), ("destination_service_name", "PassthroughCluster")],
    );
}

#[test]
fn a_cluster_that_does_not_want_peers_gets_no_headers() {
    let (app, seen) = app("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let out = directed(listener(istio_manager(all_to("out"), json!({}), outbound())), "OUTBOUND");
    let mut quiet = cluster("out", &[app]);
    quiet["metadata"] = json!({"filter_metadata": {"istio": {"disable_mx": true}}});
    let client = start("front", &[out], &[quiet]);
    client.ask("GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
    assert!(!seen.all().concat().contains("x-envoy-peer-metadata"));
}

#[test]
fn overrides_change_labels_and_drop_metrics() {
    let (app, _) = app("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let settings = json!({"metrics": [
        {"name": "requests_total", "tags_to_remove": ["response_flags"], "dimensions": {
            "team": "request.headers['x-team']", "request_protocol": "request.protocol",
            "missing": "request.headers['x-none']", "peer": "upstream_peer.workload"}},
        {"name": "request_bytes", "drop": true},
    ]});
    let out = directed(listener(istio_manager(all_to("out"), settings, outbound())), "OUTBOUND");
    let client = start("front", &[out], &[service_cluster("out", app)]);
    for team in ["red", "blue", "blue"] {
        client.ask(&format!("GET / HTTP/1.1\r\nhost: web\r\nx-team: {team}\r\nconnection: close\r\n\r\n"));
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let found = loop {
        let found = series(&client, "istio_requests_total");
        if found.iter().any(|line| line.ends_with(" 2")) && found.len() == 2 {
            break found;
        }
        assert!(Instant::now() < deadline, "{found:?}");
    };
    let blue = found.iter().find(|line| label(line, "team") == Some("blue")).expect("counted");
    labels(blue, &[("request_protocol", "HTTP/1.1"), ("missing", "unknown"), ("peer", "web-v1")]);
    assert_eq!(label(blue, "response_flags"), None);
    assert_eq!(series(&client, "istio_request_bytes"), [""; 0]);
    let other = wait_for(&client, "istio_response_bytes_count");
    assert_eq!((label(&other, "team"), label(&other, "response_flags")), (None, Some("-")));
}

#[test]
fn grpc_calls_count_their_messages_and_their_status() {
    // Two messages and a status of 5, over HTTP/1 with trailers.
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntrailer: grpc-status\r\n\
        transfer-encoding: chunked\r\n\r\nb\r\n\0\0\0\0\x01a\0\0\0\0\0\r\n0\r\ngrpc-status: 5\r\n\r\n";
    let upstream = Upstream::manual();
    let settings = json!({"tcp_reporting_duration": "1s"});
    let mut manager = istio_manager(all_to("out"), settings, outbound());
    manager["http_protocol_options"] = json!({"enable_trailers": true});
    let out = directed(listener(manager), "OUTBOUND");
    let client = start("front", &[out], &[service_cluster("out", upstream.address)]);
    let mut http2 = harness::http2::Client::connect(client.address());
    let request =
        http::Request::post("http://web/a.B/C").header("content-type", "application/grpc").body(()).unwrap();
    let (pending, mut body) = http2.begin(request, false);
    body.send_data(bytes::Bytes::from_static(b"\0\0\0\0\x02ab"), true).unwrap();
    let mut server = upstream.accept();
    server.read_until("0\r\n\r\n");
    server.send(answer);
    let got = http2.run(harness::http2::receive(pending)).unwrap();
    assert_eq!(
        got.trailers.as_ref().and_then(|all| all.get("grpc-status")).map(|v| v.as_bytes()),
        Some(&b"5"[..])
    );
    let requests = wait_for(&client, "istio_requests_total");
    labels(
        &requests,
        &[("request_protocol", "grpc"), ("grpc_response_status", "5"), ("response_code", "200")],
    );
    assert!(wait_for(&client, "istio_request_messages_total").ends_with("} 1"));
    let messages = wait_for(&client, "istio_response_messages_total");
    assert!(messages.ends_with("} 2"), "{messages}");
    assert_eq!(label(&messages, "request_protocol"), None);
    labels(&messages, &[("destination_workload", "web-v1"), ("destination_cluster", "east")]);
}

#[test]
fn connections_are_counted_when_they_open_and_close() {
    let upstream = Upstream::manual();
    let mut listener = directed(listener(tcp_proxy("out")), "OUTBOUND");
    let filters = listener["filter_chains"][0]["filters"].as_array_mut().expect("a list");
    filters.insert(
        0,
        json!({"name": "istio.stats", "typed_config": {"@type": STATS, "tcp_reporting_duration": "1s"}}),
    );
    let client = start("front", &[listener], &[service_cluster("out", upstream.address)]);
    let mut peer = client.connect();
    peer.send("ping");
    let mut server = upstream.accept();
    assert_eq!(server.read_exact(4), "ping");
    server.send("pong!");
    assert_eq!(peer.read_exact(5), "pong!");
    let opened = wait_for(&client, "istio_tcp_connections_opened_total");
    labels(
        &opened,
        &[
            ("reporter", "source"),
            ("destination_service", "web.shop.svc.cluster.local"),
            ("destination_workload", "web-v1"),
            ("request_protocol", "tcp"),
            ("response_flags", "-"),
            ("connection_security_policy", "unknown"),
        ],
    );
    assert_eq!(label(&opened, "response_code"), None);
    // While it is open: bytes are reported every second.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !series(&client, "istio_tcp_received_bytes_total").iter().any(|line| line.ends_with(" 4")) {
        assert!(Instant::now() < deadline, "bytes are reported while the connection lasts");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(wait_for(&client, "istio_tcp_connections_closed_total").ends_with(" 0"));
    drop(server);
    drop(peer);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !series(&client, "istio_tcp_connections_closed_total").iter().any(|line| line.ends_with(" 1")) {
        assert!(Instant::now() < deadline, "the end is counted");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(wait_for(&client, "istio_tcp_sent_bytes_total").ends_with(" 5"));
}
