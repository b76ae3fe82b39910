//! The names and values of `/stats`, side by side after the same traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use ringsail_conformance::backend;
use ringsail_conformance::stats::{BY_CHANCE, MISSING, matches};
use ringsail_harness::binaries;
use ringsail_harness::client::Connection;
use ringsail_harness::config::{TYPE, bootstrap, static_cluster};
use ringsail_harness::peer::Peer;
use serde_json::{Value, json};

fn template() -> Value {
    let backends = backend::shared();
    let route = |prefix: &str, fields: Value| {
        let mut route = json!({"match": {"prefix": prefix}});
        route.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        route
    };
    let to = |cluster: &str| json!({"cluster": cluster, "timeout": "0s"});
    let routes = json!([
        route("/refused", json!({"route": to("refused")})),
        route("/empty", json!({"route": to("empty")})),
        route("/nowhere", json!({"route": to("missing")})),
        route(
            "/retry",
            json!({"route": {"cluster": "app", "timeout": "0s", "retry_policy": {"retry_on": "5xx", "num_retries": 1}}})
        ),
        route("/slow", json!({"route": {"cluster": "app", "timeout": "0.2s"}})),
        route("/direct", json!({"direct_response": {"status": 418}})),
        route("/redirect", json!({"redirect": {"host_redirect": "a.b"}})),
        route("/app", json!({"route": to("app")})),
    ]);
    let manager = json!({
        "@type": format!("{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "app", "http_filters": [{"name": "envoy.filters.http.router", "typed_config":
            {"@type": format!("{TYPE}envoy.extensions.filters.http.router.v3.Router")}}],
        "route_config": {"name": "app", "validate_clusters": false, "virtual_hosts": [{"name": "any", "domains": ["*"], "routes": routes}]}});
    let tcp = json!({"@type": format!("{TYPE}envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"), "stat_prefix": "app", "cluster": "echo"});
    let listener = |name: &str, filter: &str, config: Value| {
        json!({"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{"name": format!("envoy.filters.network.{filter}"), "typed_config": config}]}]})
    };
    bootstrap(
        json!([listener("http", "http_connection_manager", manager), listener("tcp", "tcp_proxy", tcp)]),
        json!([
            static_cluster("app", &[backends.address("a")]),
            static_cluster("refused", &[backends.address("refused")]),
            static_cluster("empty", &[]),
            static_cluster("echo", &[backends.address("echo")]),
        ]),
    )
}

fn drive(peer: &Peer) {
    let run = format!("stats-{}", peer.name);
    let mut connection = Connection::open(peer.address(0)).unwrap();
    for (path, fields) in [
        ("/app", ""),
        ("/app", "x-script: 404\r\n"),
        ("/app", "x-script: 503\r\n"),
        ("/retry", "x-script: 503\r\n"),
        ("/slow", "x-script: hang\r\n"),
        ("/refused", ""),
        ("/empty", ""),
        ("/nowhere", ""),
        ("/direct", ""),
        ("/redirect", ""),
        ("/none", ""),
    ] {
        connection.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-run: {run}\r\n{fields}\r\n")).unwrap();
    }
    drop(connection);
    let mut stream = TcpStream::connect(peer.address(1)).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
}

/// Names, with those of listeners by `ADDRESS`, and values.
fn stats(peer: &Peer) -> BTreeMap<String, String> {
    let mut page = peer.admin("/stats").unwrap();
    for index in [0, 1] {
        page = page.replace(&peer.address(index).to_string().replace(':', "_"), "ADDRESS");
    }
    page.lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

#[test]
fn what_both_show_is_the_same_and_what_envoy_alone_shows_is_listed() {
    let Some((envoy, ringsail)) = binaries::both() else { return };
    let template = template();
    let envoy = Peer::start("envoy", &envoy, &template).unwrap();
    let ringsail = Peer::start("ringsail", &ringsail, &template).unwrap();
    for peer in [&envoy, &ringsail] {
        drive(peer);
    }
    let by_chance = |name: &str| BY_CHANCE.iter().any(|pattern| matches(pattern, name));
    let deadline = Instant::now() + Duration::from_secs(20);
    let (theirs, ours) = loop {
        let (theirs, ours) = (stats(&envoy), stats(&ringsail));
        let differ = ours
            .iter()
            .any(|(name, value)| !by_chance(name) && theirs.get(name).is_some_and(|other| other != value));
        if !differ || Instant::now() > deadline {
            break (theirs, ours);
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let mut problems = Vec::new();
    for (name, value) in &ours {
        if let Some(other) = theirs.get(name)
            && other != value
            && !by_chance(name)
        {
            problems.push(format!("{name}: {other} in Envoy, {value} here"));
        }
    }
    // Histograms without values are not shown here at all.
    let lacking: BTreeSet<&String> = theirs
        .iter()
        .filter(|(name, value)| !ours.contains_key(*name) && !value.starts_with("No recorded"))
        .map(|(name, _)| name)
        .filter(|name| {
            !["cluster.refused.", "cluster.empty.", "cluster.echo."].iter().any(|one| name.starts_with(one))
        })
        .collect();
    for name in &lacking {
        if !MISSING.iter().any(|missing| matches(missing.names, name)) {
            problems.push(format!("{name} is not here and not listed"));
        }
    }
    for missing in MISSING {
        let names = || theirs.keys().filter(|name| matches(missing.names, name));
        if names().next().is_some() && names().all(|name| ours.contains_key(name)) {
            problems.push(format!("{} is listed as missing, and is here", missing.names));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
