//! Gateways: merging, hosts and ports.

mod support;

use support::{Seen, gateway, mesh};

const LABELS: &[&str] = &["label:istio=ingressgateway"];

fn seen(yaml: &str) -> Seen {
    gateway(&mesh(&format!("{SERVICES}\n---\n{yaml}")), "10.0.0.9", "istio-system", LABELS)
}

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: ingress, namespace: istio-system}
spec: {clusterIP: 10.96.0.2, selector: {istio: ingressgateway}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: gw-0, namespace: istio-system, labels: {istio: ingressgateway}}
status: {podIP: 10.0.0.9}
";

const WEB: &str = "outbound|80||web.shop.svc.cluster.local";

fn gateway_object(name: &str, namespace: &str, servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{selector: {{istio: ingressgateway}}, servers: [{servers}]}}"
    )
}

fn bound(name: &str, hosts: &str, gateway: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{hosts: [{hosts}], gateways: [{gateway}], http: [{http}]}}"
    )
}

const HTTP_80: &str = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com']}";
const TO_WEB: &str = "{route: [{destination: {host: web}}]}";

#[test]
fn gateway_listens_at_the_target_port_of_its_service() {
    let seen = seen(
        &[gateway_object("gw", "edge", HTTP_80), bound("vs", "a.example.com", "edge/gw", TO_WEB)]
            .join("\n---\n"),
    );
    assert_eq!(seen.listener_names(), ["0.0.0.0_8080"]);
    assert_eq!(seen.route_names(), ["http.8080"]);
    assert_eq!(seen.http("10.0.0.9:8080", "GET / HTTP/1.1\nhost: a.example.com"), WEB);
    assert_eq!(seen.http("10.0.0.9:8080", "GET / HTTP/1.1\nhost: b.example.com"), "404");
    assert!(!seen.cluster_names().contains(&"PassthroughCluster"));
}

#[test]
fn port_that_no_service_has_is_taken_as_it_is() {
    let server = "{port: {number: 8443, name: http, protocol: HTTP}, hosts: ['*']}";
    let seen = seen(&gateway_object("gw", "edge", server));
    assert_eq!(seen.listener_names(), ["0.0.0.0_8443"]);
    assert_eq!(seen.http("10.0.0.9:8443", "GET / HTTP/1.1\nhost: a"), "404");
    assert_eq!(seen.routes("http.8443").virtual_hosts[0].name, "blackhole:8443");
}

#[test]
fn routes_of_several_virtual_services_join_with_catch_alls_last() {
    let all = [
        gateway_object("gw", "edge", HTTP_80),
        bound("a", "x.example.com", "edge/gw", TO_WEB),
        bound(
            "b",
            "x.example.com",
            "edge/gw",
            "{match: [{uri: {prefix: /b}}], directResponse: {status: 299}}",
        ),
    ];
    let seen = seen(&all.join("\n---\n"));
    assert_eq!(seen.http("10.0.0.9:8080", "GET /b HTTP/1.1\nhost: x.example.com"), "299");
    assert_eq!(seen.http("10.0.0.9:8080", "GET /a HTTP/1.1\nhost: x.example.com"), WEB);
}

#[test]
fn server_admits_only_virtual_services_of_the_namespaces_it_names() {
    let server = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['other/*.example.com']}";
    let all = [gateway_object("gw", "edge", server), bound("vs", "a.example.com", "edge/gw", TO_WEB)];
    let seen = seen(&all.join("\n---\n"));
    assert_eq!(seen.http("10.0.0.9:8080", "GET / HTTP/1.1\nhost: a.example.com"), "404");
}

#[test]
fn virtual_service_for_the_mesh_is_not_served_at_the_gateway() {
    let all = [
        gateway_object("gw", "edge", HTTP_80),
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs, namespace: shop}\n\
         spec: {hosts: [a.example.com], http: [{route: [{destination: {host: web}}]}]}"
            .to_owned(),
    ];
    let seen = seen(&all.join("\n---\n"));
    assert_eq!(seen.http("10.0.0.9:8080", "GET / HTTP/1.1\nhost: a.example.com"), "404");
}

#[test]
fn https_redirect_comes_before_routing() {
    let server = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['a.example.com'], tls: {httpsRedirect: true}}";
    let seen = seen(&gateway_object("gw", "edge", server));
    assert_eq!(seen.http("10.0.0.9:8080", "GET / HTTP/1.1\nhost: a.example.com"), "301 https");
}

#[test]
fn gateways_on_one_port_merge_by_host_and_the_first_protocol_stays() {
    let tcp = "{port: {number: 80, name: tcp, protocol: TCP}, hosts: ['*']}";
    let all = [
        gateway_object("a", "edge", HTTP_80),
        gateway_object(
            "b",
            "edge",
            "{port: {number: 80, name: h, protocol: HTTP}, hosts: ['*.example.org']}",
        ),
        gateway_object("c", "edge", tcp),
        bound("one", "x.example.com", "edge/a", TO_WEB),
        bound("two", "x.example.org", "edge/b", TO_WEB),
    ];
    let seen = seen(&all.join("\n---\n"));
    assert_eq!(seen.http("10.0.0.9:8080", "GET / HTTP/1.1\nhost: x.example.com"), WEB);
    assert_eq!(seen.http("10.0.0.9:8080", "GET / HTTP/1.1\nhost: x.example.org"), WEB);
}

#[test]
fn tcp_server_carries_connections_to_its_route() {
    let all = [
        gateway_object("gw", "edge", "{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}"),
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs, namespace: shop}\n\
         spec: {hosts: ['*'], gateways: [edge/gw], tcp: [{route: [{destination: {host: web, port: {number: 80}}}]}]}"
            .to_owned(),
    ];
    let seen = seen(&all.join("\n---\n"));
    assert_eq!(seen.tcp("10.0.0.9:9000"), WEB);
}

#[test]
fn local_gateway_keeps_to_its_own_address() {
    let metadata = [LABELS, &["RINGSAIL_APP_ADDRESS=127.78.0.9"]].concat();
    let mesh = mesh(&format!("{SERVICES}\n---\n{}", gateway_object("gw", "edge", HTTP_80)));
    let seen = gateway(&mesh, "10.0.0.9", "istio-system", &metadata);
    assert_eq!(seen.listener_names(), ["10.0.0.9_8080"]);
}

#[test]
fn router_that_no_gateway_selects_has_no_listeners() {
    let mesh = mesh(&format!("{SERVICES}\n---\n{}", gateway_object("gw", "edge", HTTP_80)));
    let seen = gateway(&mesh, "10.0.0.8", "istio-system", &["label:istio=egressgateway"]);
    assert!(seen.listener_names().is_empty());
}
