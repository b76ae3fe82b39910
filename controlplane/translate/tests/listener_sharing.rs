//! Services that want the same address, and those without one.

mod support;

use support::{Seen, mesh, sidecar};

fn services(list: &[&str]) -> Seen {
    sidecar(&mesh(&list.join("\n---\n")), "10.0.0.5", "shop")
}

fn service(name: &str, ip: &str, port: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: {ip}, ports: [{port}]}}"
    )
}

fn entry(name: &str, created: &str, addresses: &str, port: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop, \
         creationTimestamp: '{created}'}}\nspec: {{hosts: [{name}.example.com], addresses: [{addresses}], \
         ports: [{port}], resolution: NONE}}"
    )
}

const OLD: &str = "2020-01-01T00:00:00Z";
const NEW: &str = "2021-01-01T00:00:00Z";
const TCP: &str = "{number: 9000, name: tcp, protocol: TCP}";
const HTTP: &str = "{number: 9000, name: http, protocol: HTTP}";
const GET: &str = "GET / HTTP/1.1\nhost: b.example.com";

#[test]
fn http_services_of_a_port_share_one_listener() {
    let seen = services(&[
        &service("a", "10.96.0.1", "{name: http, port: 80}"),
        &service("b", "10.96.0.2", "{name: http, port: 80}"),
    ]);
    assert_eq!(seen.listener_names(), ["0.0.0.0_80", "virtualInbound", "virtualOutbound"]);
    assert_eq!(seen.routes("80").virtual_hosts.len(), 3);
}

#[test]
fn undeclared_port_serves_http_and_other_bytes() {
    let seen = services(&[&service("a", "10.96.0.1", "{name: web, port: 80}")]);
    assert_eq!(seen.http("10.96.0.1:80", "GET / HTTP/1.1\nhost: x"), "outbound|80||a.shop.svc.cluster.local");
    assert_eq!(seen.tcp("10.96.0.1:80"), "outbound|80||a.shop.svc.cluster.local");
    assert_eq!(seen.route_names(), ["a.shop.svc.cluster.local:80"]);
}

#[test]
fn older_of_two_tcp_services_on_one_address_wins() {
    let seen = services(&[&entry("b", NEW, "", TCP), &entry("a", OLD, "", TCP)]);
    assert_eq!(seen.tcp("1.2.3.4:9000"), "outbound|9000||a.example.com");
}

#[test]
fn tcp_beside_http_turns_the_listener_into_a_sniffing_one() {
    for (first, second) in [((TCP, OLD), (HTTP, NEW)), ((TCP, NEW), (HTTP, OLD))] {
        let seen = services(&[&entry("a", first.1, "", first.0), &entry("b", second.1, "", second.0)]);
        assert_eq!(seen.tcp("1.2.3.4:9000"), "outbound|9000||a.example.com");
        assert_eq!(seen.http("1.2.3.4:9000", GET), "outbound|9000||b.example.com");
    }
}

#[test]
fn port_that_must_not_be_sniffed_keeps_the_listener_to_itself() {
    let seen = services(&[
        &entry("a", OLD, "", "{number: 9000, name: db, protocol: MONGO}"),
        &entry("b", NEW, "", HTTP),
    ]);
    assert_eq!(seen.http("1.2.3.4:9000", GET), "outbound|9000||a.example.com");
}

#[test]
fn address_block_is_a_chain_of_the_shared_listener() {
    let seen = services(&[&entry("a", OLD, "10.1.0.0/16", TCP), &entry("b", NEW, "10.2.0.0/16", TCP)]);
    let listener = seen.listener("0.0.0.0_9000");
    let ranges: Vec<_> = listener
        .filter_chains
        .iter()
        .filter_map(|chain| chain.filter_chain_match.as_ref())
        .flat_map(|matched| &matched.prefix_ranges)
        .map(|range| format!("{}/{}", range.address_prefix, range.prefix_len.unwrap_or(0)))
        .collect();
    assert_eq!(ranges, ["10.1.0.0/16", "10.2.0.0/16"]);
    assert_eq!(
        listener.default_filter_chain.as_ref().map(|chain| chain.name.as_str()),
        Some("PassthroughFilterChain")
    );
}

#[test]
fn tls_service_without_an_address_is_told_by_its_server_name() {
    let seen = services(&[&entry("a", OLD, "", "{number: 443, name: tls, protocol: TLS}")]);
    let listener = seen.listener("0.0.0.0_443");
    let matched = listener.filter_chains[0].filter_chain_match.as_ref().expect("a match");
    assert_eq!(matched.server_names, ["a.example.com"]);
    assert!(listener.listener_filters[0].name.ends_with("tls_inspector"));
}

#[test]
fn headless_tcp_service_has_a_listener_per_endpoint_but_not_for_the_own_one() {
    let seen = services(&[
        "apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 5432}]}",
        "apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: shop, labels: {app: db}}
status: {podIP: 10.0.0.20}",
        "apiVersion: v1
kind: Pod
metadata: {name: db-1, namespace: shop, labels: {app: db}}
status: {podIP: 10.0.0.5}",
    ]);
    assert_eq!(seen.listener_names(), ["10.0.0.20_5432", "virtualInbound", "virtualOutbound"]);
    assert_eq!(seen.tcp("10.0.0.20:5432"), "outbound|5432||db.shop.svc.cluster.local");
}

#[test]
fn headless_http_service_answers_for_the_names_of_its_pods() {
    let seen = services(&["apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}"]);
    let host = seen.virtual_host("80", "web.shop.svc.cluster.local:80");
    assert!(host.domains.contains(&"*.web".to_owned()));
    assert!(host.domains.contains(&"*.web.shop.svc.cluster.local".to_owned()));
}

#[test]
fn alias_is_another_name_of_its_target_and_nothing_else() {
    let seen = services(&[
        &service("real", "10.96.0.1", "{name: http, port: 80}"),
        "apiVersion: v1
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: real.shop.svc.cluster.local}",
    ]);
    let real = "outbound|80||real.shop.svc.cluster.local";
    assert_eq!(seen.http("10.96.0.1:80", "GET / HTTP/1.1\nhost: alias"), real);
    assert!(!seen.cluster_names().iter().any(|name| name.contains("alias")));
}

#[test]
fn udp_ports_are_not_proxied() {
    let seen = services(&[&service("dns", "10.96.0.1", "{name: dns, port: 53, protocol: UDP}")]);
    assert_eq!(seen.listener_names(), ["virtualInbound", "virtualOutbound"]);
}

#[test]
fn tcp_routes_of_a_virtual_service_are_weighted_per_connection() {
    let seen = services(&[
        &service("db", "10.96.0.1", "{name: tcp, port: 5432}"),
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: shop}
spec:
  hosts: [db]
  tcp:
  - route:
    - {destination: {host: db, subset: v1}, weight: 80}
    - {destination: {host: db, subset: v2}, weight: 20}",
    ]);
    assert_eq!(
        seen.tcp("10.96.0.1:5432"),
        "outbound|5432|v1|db.shop.svc.cluster.local 80, outbound|5432|v2|db.shop.svc.cluster.local 20"
    );
}

#[test]
fn destination_rule_limits_tcp_connections_and_pins_them_to_a_source() {
    let seen = services(&[
        &service("db", "10.96.0.1", "{name: tcp, port: 5432}"),
        &service("cache", "10.96.0.2", "{name: tcp, port: 6379}"),
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db, namespace: shop}
spec:
  host: db
  trafficPolicy:
    connectionPool: {tcp: {idleTimeout: 7s, maxConnectionDuration: 90s}}
    loadBalancer: {consistentHash: {useSourceIp: true}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - name: v2
    labels: {version: v2}
    trafficPolicy:
      connectionPool: {tcp: {idleTimeout: 8s}}
      loadBalancer: {simple: RANDOM}",
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cache, namespace: shop}
spec:
  hosts: [cache]
  tcp:
  - route: [{destination: {host: db, subset: v2, port: {number: 5432}}}]",
    ]);
    let proxy = |address: &str| seen.tcp_proxy(address);
    let seconds = |duration: Option<prost_types::Duration>| duration.map(|duration| duration.seconds);
    let db = proxy("10.96.0.1:5432");
    assert_eq!(seconds(db.idle_timeout), Some(7));
    assert_eq!(seconds(db.max_downstream_connection_duration), Some(90));
    assert_eq!(db.hash_policy.len(), 1, "by source address");
    // The subset's balancing counts, its limits do not.
    let subset = proxy("10.96.0.2:6379");
    assert_eq!(seconds(subset.idle_timeout), Some(7));
    assert!(subset.hash_policy.is_empty());
}
