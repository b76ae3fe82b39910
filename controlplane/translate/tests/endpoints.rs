//! Where endpoints come from, and in which order they are preferred.

mod support;

use ringsail_translate::translate;
use support::{Seen, mesh, node, sidecar};

const CLUSTER: &str = "outbound|80||web.shop.svc.cluster.local";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: web}]}
";

fn pod(name: &str, ip: &str, zone: &str, ready: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: web, \
         topology.kubernetes.io/region: r, topology.kubernetes.io/zone: {zone}}}}}\n\
         spec: {{containers: [{{name: c, image: i, ports: [{{name: web, containerPort: 8080}}]}}]}}\n\
         status: {{podIP: {ip}, conditions: [{{type: Ready, status: '{ready}'}}]}}"
    )
}

fn client(yaml: &[&str], metadata: &[&str]) -> Seen {
    let mesh = mesh(&yaml.join("\n---\n"));
    Seen::of(&translate(&mesh, &node("sidecar", "10.0.0.5", "shop", metadata)))
}

#[test]
fn selected_pods_are_endpoints_at_their_named_port() {
    let seen = client(&[SERVICE, &pod("a", "10.0.0.1", "z", "True")], &[]);
    assert_eq!(seen.endpoints_of(CLUSTER), ["10.0.0.1:8080"]);
}

#[test]
fn unready_pod_is_sent_as_unhealthy() {
    let pods = [pod("a", "10.0.0.1", "z", "True"), pod("b", "10.0.0.2", "z", "False")];
    let seen = client(&[SERVICE, &pods[0], &pods[1]], &[]);
    assert_eq!(seen.endpoints_of(CLUSTER), ["10.0.0.1:8080", "10.0.0.2:8080 unhealthy"]);
}

#[test]
fn panic_threshold_above_zero_leaves_unready_pods_out() {
    let rule = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, trafficPolicy: {outlierDetection: {minHealthPercent: 20}}}";
    let seen = client(&[SERVICE, &pod("a", "10.0.0.1", "z", "False"), rule], &[]);
    assert!(seen.endpoints_of(CLUSTER).is_empty());
}

#[test]
fn slices_of_a_service_replace_what_its_selector_picks() {
    let slice = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 9999}]
endpoints:
- {addresses: [10.0.0.7], conditions: {ready: true}}
- {addresses: [10.0.0.8], conditions: {ready: false}}
- {addresses: [10.0.0.9], conditions: {ready: false, terminating: true}}";
    let seen = client(&[SERVICE, &pod("a", "10.0.0.1", "z", "True"), slice], &[]);
    assert_eq!(seen.endpoints_of(CLUSTER), ["10.0.0.7:9999", "10.0.0.8:9999 unhealthy"]);
}

#[test]
fn workload_entry_joins_the_pods_of_a_service() {
    let entry = "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: shop}
spec: {address: 192.168.0.7, labels: {app: web}, ports: {http: 7070}, weight: 3}";
    let seen = client(&[SERVICE, &pod("a", "10.0.0.1", "z", "True"), entry], &[]);
    assert_eq!(seen.endpoints_of(CLUSTER), ["192.168.0.7:7070", "10.0.0.1:8080"]);
}

#[test]
fn failover_needs_outlier_detection() {
    let pods = [pod("a", "10.0.0.1", "far", "True"), pod("b", "10.0.0.2", "near", "True")];
    let here = ["label:topology.kubernetes.io/region=r", "label:topology.kubernetes.io/zone=near"];
    let seen = client(&[SERVICE, &pods[0], &pods[1]], &here);
    assert_eq!(seen.endpoints_of(CLUSTER), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    let rule = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}}";
    let seen = client(&[SERVICE, &pods[0], &pods[1], rule], &here);
    assert_eq!(seen.endpoints_of(CLUSTER), ["10.0.0.2:8080", "10.0.0.1:8080 P1"]);
}

#[test]
fn traffic_distribution_prefers_the_own_zone_without_a_rule() {
    let service = SERVICE.replace("selector:", "trafficDistribution: PreferClose, selector:");
    let pods = [pod("a", "10.0.0.1", "far", "True"), pod("b", "10.0.0.2", "near", "True")];
    let here = ["label:topology.kubernetes.io/region=r", "label:topology.kubernetes.io/zone=near"];
    let seen = client(&[&service, &pods[0], &pods[1]], &here);
    assert_eq!(seen.endpoints_of(CLUSTER), ["10.0.0.2:8080", "10.0.0.1:8080 P1"]);
}

#[test]
fn dns_entry_resolves_its_host_or_its_endpoints() {
    let entry = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: shop}
spec:
  hosts: [api.example.com]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP}]";
    let seen = sidecar(&mesh(entry), "10.0.0.5", "shop");
    let cluster = seen.cluster("outbound|80||api.example.com");
    let inline = cluster.load_assignment.as_ref().expect("endpoints in the cluster");
    assert_eq!(support::addresses(inline), ["api.example.com:80"]);
    assert!(cluster.respect_dns_ttl);
    assert!(seen.endpoints.is_empty());
}

#[test]
fn every_eds_cluster_has_an_answer_even_without_endpoints() {
    let seen = sidecar(&mesh(SERVICE), "10.0.0.5", "shop");
    assert!(seen.endpoints_of(CLUSTER).is_empty());
}
