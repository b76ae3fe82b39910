//! Sidecars without capture: real listeners, on loopback or on addresses of their own.

mod support;

use ringsail_translate::translate;
use support::{Seen, addresses, mesh, node, show_address};

const BOOKINFO: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: default}
spec: {selector: {app: ratings}, ports: [{name: http, port: 9080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-v1, namespace: default, labels: {app: reviews, version: v1}}
status: {podIP: 127.77.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: ratings-v1, namespace: default, labels: {app: ratings, version: v1}}
status: {podIP: 127.77.0.3}
";

const LOCAL: &[&str] = &[
    "INTERCEPTION_MODE=NONE",
    "HTTP_PROXY_PORT=15080",
    "RINGSAIL_APP_ADDRESS=127.78.0.2",
    "RINGSAIL_OUTBOUND_ADDRESS=127.79.0.2",
];

fn reviews(metadata: &[&str]) -> Seen {
    Seen::of(&translate(&mesh(BOOKINFO), &node("sidecar", "127.77.0.2", "default", metadata)))
}

#[test]
fn local_sidecar_listens_at_its_own_addresses() {
    let seen = reviews(LOCAL);
    assert_eq!(seen.listener_names(), ["127.77.0.2_9080", "127.79.0.2_15080", "127.79.0.2_9080"]);
    assert_eq!(seen.route_names(), ["9080", "http_proxy"]);
    for listener in &seen.listeners {
        assert_ne!(listener.bind_to_port, Some(false), "{}", listener.name);
    }
    let inbound = seen.listener("127.77.0.2_9080");
    assert_eq!(show_address(inbound.address.as_ref().expect("an address")), "127.77.0.2:9080");
}

#[test]
fn local_sidecar_hands_inbound_requests_to_the_application() {
    let seen = reviews(LOCAL);
    let cluster = seen.cluster("inbound|9080||");
    assert_eq!(addresses(cluster.load_assignment.as_ref().expect("an endpoint")), ["127.78.0.2:9080"]);
    assert_eq!(seen.http("127.77.0.2:9080", "GET / HTTP/1.1\nhost: reviews:9080"), "inbound|9080||");
}

#[test]
fn local_sidecar_routes_by_host() {
    let seen = reviews(LOCAL);
    let ratings = "outbound|9080||ratings.default.svc.cluster.local";
    assert_eq!(seen.http("127.79.0.2:9080", "GET / HTTP/1.1\nhost: ratings:9080"), ratings);
    assert_eq!(seen.http("127.79.0.2:15080", "GET / HTTP/1.1\nhost: ratings:9080"), ratings);
    assert_eq!(seen.endpoints_of(ratings), ["127.77.0.3:9080"]);
    let elsewhere = "GET / HTTP/1.1\nhost: example.com";
    assert_eq!(seen.http("127.79.0.2:15080", elsewhere), "PassthroughCluster");
}

#[test]
fn uncaptured_sidecar_binds_loopback_and_opens_no_service_ports() {
    let seen = reviews(&["INTERCEPTION_MODE=NONE"]);
    assert_eq!(seen.listener_names(), ["127.0.0.1_9080"]);
    assert_eq!(seen.route_names(), ["9080"]);
}
