//! Configuration from files: followed without restart, refused without harm.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringsail_harness::config::{TYPE, bootstrap, http_listener, static_cluster};
use ringsail_harness::peer::Peer;
use ringsail_harness::{binaries, client, engines, upstream};
use serde_json::{Value, json};

/// How long a renamed-in file may take to be followed: inotify answers within milliseconds, a busy machine later.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn a_renamed_in_route_file_is_followed_while_requests_run() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let folder = tempfile::tempdir().unwrap();
    let routes = folder.path().join("rds.json");
    for engine in engines::available() {
        replace(&routes, &answering("version 0"));
        let peer = start(&binary, &routes, engine);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let traffic = scope.spawn(|| {
                let (mut requests, mut failures) = (0, Vec::new());
                let mut connection = client::Connection::open(peer.address(0)).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let answer = connection.get("/").unwrap();
                    requests += 1;
                    if answer.status != 200 {
                        failures.push(answer.status);
                    }
                }
                (requests, failures)
            });
            for version in 1..=20 {
                let text = format!("version {version}");
                replace(&routes, &answering(&text));
                wait_for(peer.address(0), &text);
            }
            stop.store(true, Ordering::Relaxed);
            let (requests, failures) = traffic.join().unwrap();
            println!("{engine}: {requests} requests on one connection over 20 changes");
            assert!(requests > 20 && failures.is_empty(), "{engine}: {failures:?}");
        });
    }
}

#[test]
fn a_broken_route_file_leaves_the_last_good_one_serving_and_is_counted() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let folder = tempfile::tempdir().unwrap();
    let routes = folder.path().join("rds.json");
    replace(&routes, &answering("good"));
    let peer = start(&binary, &routes, "auto");
    let refusals = || -> u64 {
        let stats = peer.admin("/stats?filter=update_(failure|rejected)").unwrap();
        let lines = stats.lines().filter(|line| line.contains(".rds."));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    for (before, broken) in ["{ not json".to_string(), unknown_field(), bad_regex()].into_iter().enumerate() {
        replace(&routes, &broken);
        let deadline = Instant::now() + FOLLOW_TIMEOUT;
        while refusals() == before as u64 {
            assert!(Instant::now() < deadline, "never refused: {broken}");
            thread::sleep(Duration::from_millis(20));
        }
        let answer = client::get(peer.address(0), "/").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "good"), "after {broken}");
    }
    assert_eq!(refusals(), 3);
    replace(&routes, &answering("mended"));
    wait_for(peer.address(0), "mended");
}

#[test]
fn a_change_of_endpoints_keeps_the_clusters_counters() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (routes, clusters) = (folder.path().join("rds.json"), folder.path().join("cds.json"));
    let app = upstream::start().unwrap();
    replace(&routes, &route_file(json!([{"match": {"prefix": "/"}, "route": {"cluster": "app"}}])));
    replace(&clusters, &cluster_file(&[app]));
    let mut template = template(&routes);
    template["dynamic_resources"] =
        json!({"cds_config": {"path_config_source": {"path": clusters}, "resource_api_version": "V3"}});
    let peer = Peer::start("ringsail", &binary, &template).unwrap();
    for _ in 0..5 {
        assert_eq!(client::get(peer.address(0), "/").unwrap().status, 200);
    }
    replace(&clusters, &cluster_file(&[app, upstream::start().unwrap()]));
    let deadline = Instant::now() + FOLLOW_TIMEOUT;
    while !peer.admin("/stats?filter=cluster.app.membership_total").unwrap().contains(": 2") {
        assert!(Instant::now() < deadline, "the second endpoint never came");
        thread::sleep(Duration::from_millis(20));
    }
    let stats = peer.admin("/stats?filter=cluster.app.upstream_rq_total").unwrap();
    assert!(stats.contains("cluster.app.upstream_rq_total: 5"), "{stats}");
}

fn start(binary: &Path, routes: &Path, engine: &str) -> Peer {
    Peer::start_with("ringsail", binary, &template(routes), &["--engine", engine]).unwrap()
}

fn template(routes: &Path) -> Value {
    let rds = json!({"rds": {"route_config_name": "inline",
        "config_source": {"path_config_source": {"path": routes}, "resource_api_version": "V3"}}});
    bootstrap(json!([http_listener("http", rds)]), json!([]))
}

fn answering(text: &str) -> String {
    route_file(
        json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": text}}}]),
    )
}

fn unknown_field() -> String {
    answering("bad").replace("\"prefix\"", "\"prefixx\"")
}

fn bad_regex() -> String {
    route_file(json!([{"match": {"safe_regex": {"regex": "(unclosed"}}, "direct_response": {"status": 200}}]))
}

fn route_file(routes: Value) -> String {
    discovery_response(
        json!([{"@type": format!("{TYPE}envoy.config.route.v3.RouteConfiguration"), "name": "inline",
        "virtual_hosts": [{"name": "any", "domains": ["*"], "routes": routes}]}]),
    )
}

fn cluster_file(addresses: &[SocketAddr]) -> String {
    let mut cluster = static_cluster("app", addresses);
    cluster["@type"] = json!(format!("{TYPE}envoy.config.cluster.v3.Cluster"));
    discovery_response(json!([cluster]))
}

fn discovery_response(resources: Value) -> String {
    json!({"version_info": "1", "resources": resources}).to_string()
}

/// Writes beside the file and renames over it, the only change Envoy's file watch promises to follow.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

fn wait_for(proxy: SocketAddr, body: &str) {
    let deadline = Instant::now() + FOLLOW_TIMEOUT;
    while client::get(proxy, "/").unwrap().body != body {
        assert!(Instant::now() < deadline, "never answered {body:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
