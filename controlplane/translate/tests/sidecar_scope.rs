//! What a sidecar may see and where everything else goes.

mod support;

use support::{Seen, mesh, mesh_with, sidecar};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: tcp-db, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: hidden, namespace: back, annotations: {networking.istio.io/exportTo: '.'}}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: open, namespace: back}
spec: {clusterIP: 10.96.0.3, ports: [{name: http, port: 80}]}
";

fn get(seen: &Seen, host: &str) -> String {
    seen.http("10.96.0.9:80", &format!("GET / HTTP/1.1\nhost: {host}"))
}

#[test]
fn service_that_is_not_exported_is_unknown() {
    let shop = sidecar(&mesh(SERVICES), "10.0.0.5", "shop");
    assert_eq!(get(&shop, "hidden.back.svc.cluster.local"), "PassthroughCluster");
    let back = sidecar(&mesh(SERVICES), "10.0.0.6", "back");
    assert_eq!(get(&back, "hidden"), "outbound|80||hidden.back.svc.cluster.local");
}

#[test]
fn short_names_work_in_the_own_namespace_only() {
    let shop = sidecar(&mesh(SERVICES), "10.0.0.5", "shop");
    assert_eq!(get(&shop, "web"), "outbound|80||web.shop.svc.cluster.local");
    assert_eq!(get(&shop, "open"), "PassthroughCluster");
    assert_eq!(get(&shop, "open.back"), "outbound|80||open.back.svc.cluster.local");
}

#[test]
fn registry_only_refuses_unknown_destinations() {
    let mesh = mesh_with("outboundTrafficPolicy: {mode: REGISTRY_ONLY}", SERVICES);
    let shop = sidecar(&mesh, "10.0.0.5", "shop");
    assert_eq!(get(&shop, "elsewhere.example.com"), "502");
    assert_eq!(shop.tcp("10.96.0.9:80"), "BlackHoleCluster");
    assert_eq!(shop.tcp("8.8.8.8:443"), "BlackHoleCluster");
}

#[test]
fn sidecar_imports_only_what_it_lists() {
    let yaml = format!(
        "{SERVICES}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: shop}}
spec:
  egress: [{{hosts: ['back/*']}}]"
    );
    let shop = sidecar(&mesh(&yaml), "10.0.0.5", "shop");
    assert_eq!(get(&shop, "open.back"), "outbound|80||open.back.svc.cluster.local");
    assert_eq!(get(&shop, "web"), "PassthroughCluster");
    assert!(!shop.cluster_names().iter().any(|name| name.contains("web.shop")));
}

#[test]
fn egress_listener_with_a_port_is_closed_to_other_services() {
    let yaml = format!(
        "{SERVICES}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: shop}}
spec:
  egress:
  - port: {{number: 80, protocol: HTTP, name: http}}
    hosts: ['back/*']
  - hosts: ['*/*']"
    );
    let shop = sidecar(&mesh(&yaml), "10.0.0.5", "shop");
    assert_eq!(get(&shop, "open.back"), "outbound|80||open.back.svc.cluster.local");
    assert_eq!(get(&shop, "web"), "PassthroughCluster");
    assert_eq!(shop.tcp("10.96.0.1:5432"), "outbound|5432||web.shop.svc.cluster.local");
}

#[test]
fn empty_outbound_policy_of_a_sidecar_means_registry_only() {
    let yaml = format!(
        "{SERVICES}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: shop}}
spec: {{outboundTrafficPolicy: {{}}}}"
    );
    assert_eq!(get(&sidecar(&mesh(&yaml), "10.0.0.5", "shop"), "elsewhere.example.com"), "502");
}

#[test]
fn destination_of_an_imported_virtual_service_gets_a_cluster_but_no_listener() {
    let yaml = format!(
        "{SERVICES}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: open, namespace: back}}
spec:
  hosts: [open]
  http: [{{route: [{{destination: {{host: web.shop.svc.cluster.local, port: {{number: 80}}}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: shop}}
spec: {{egress: [{{hosts: ['back/*']}}]}}"
    );
    let shop = sidecar(&mesh(&yaml), "10.0.0.5", "shop");
    assert_eq!(get(&shop, "open.back"), "outbound|80||web.shop.svc.cluster.local");
    assert!(shop.cluster_names().contains(&"outbound|80||web.shop.svc.cluster.local"));
    assert!(!shop.listener_names().iter().any(|name| name.ends_with("_5432")));
}

#[test]
fn ingress_of_a_sidecar_replaces_the_ports_of_services() {
    let yaml = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}}
status: {podIP: 10.0.0.11}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web, namespace: shop}
spec:
  ingress:
  - port: {number: 9090, protocol: HTTP, name: http}
    defaultEndpoint: 127.0.0.1:8080";
    let web = sidecar(&mesh(yaml), "10.0.0.11", "shop");
    let request = "GET / HTTP/1.1\nhost: web";
    assert_eq!(web.inbound_http(9090, request), "inbound|9090||");
    assert_eq!(web.inbound_http(8080, request), "InboundPassthroughCluster");
    let cluster = web.cluster("inbound|9090||");
    assert_eq!(
        support::addresses(cluster.load_assignment.as_ref().expect("an endpoint")),
        ["127.0.0.1:8080"]
    );
}

#[test]
fn subset_policy_replaces_blocks_and_port_settings_replace_all_of_them() {
    let yaml = format!(
        "{SERVICES}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web, namespace: shop}}
spec:
  host: web
  trafficPolicy:
    connectionPool: {{tcp: {{maxConnections: 7}}}}
    outlierDetection: {{consecutive5xxErrors: 9}}
    retryBudget: {{percent: 30}}
    portLevelSettings: [{{port: {{number: 5432}}, connectionPool: {{tcp: {{maxConnections: 3}}}}}}]
  subsets:
  - {{name: v1, labels: {{version: v1}}, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 8}}}}}}}}"
    );
    let shop = sidecar(&mesh(&yaml), "10.0.0.5", "shop");
    let limits =
        |cluster: &str| shop.cluster(cluster).circuit_breakers.clone().expect("limits").thresholds[0];
    let (http, tcp) =
        ("outbound|80||web.shop.svc.cluster.local", "outbound|5432||web.shop.svc.cluster.local");
    assert_eq!(limits(http).max_connections, Some(7));
    assert_eq!(limits("outbound|80|v1|web.shop.svc.cluster.local").max_connections, Some(8));
    assert_eq!(limits(tcp).max_connections, Some(3));
    assert!(shop.cluster(http).outlier_detection.is_some());
    assert!(shop.cluster(tcp).outlier_detection.is_none());
    let budget = limits(http).retry_budget.expect("a budget");
    assert_eq!((budget.budget_percent.map(|p| p.value), budget.min_retry_concurrency), (Some(30.0), Some(3)));
}
