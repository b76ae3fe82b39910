//! What a manifest becomes: pods, environments, bootstraps.

use std::net::Ipv4Addr;
use std::path::Path;

use ringsail_api::decode;

use super::address::Addresses;
use super::bootstrap::bootstrap;
use super::pod;
use super::workload::{Role, Workload, declared};

const ADDRESSES: Addresses = Addresses {
    mesh: Ipv4Addr::new(127, 77, 0, 1),
    app: Ipv4Addr::new(127, 78, 0, 1),
    outbound: Ipv4Addr::new(127, 79, 0, 1),
};

fn read(yaml: &str) -> (Vec<Workload>, Vec<String>) {
    let decoded = decode(yaml, "test.yaml");
    assert!(decoded.diagnostics.is_empty(), "{:?}", decoded.diagnostics);
    declared(&decoded.objects)
}

/// A Deployment with one container, given the lines that differ.
fn deployment(replicas: u32, template_metadata: &str, container: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {template_metadata}
    spec:
      containers:
      - {container}
"
    )
}

const LABELS: &str = "{labels: {app: web, version: v1}}";

#[test]
fn every_replica_is_a_pod_of_its_own() {
    let (workloads, complaints) = read(&deployment(3, LABELS, "{name: web, image: web, command: [web]}"));
    assert!(complaints.is_empty(), "{complaints:?}");
    let ids: Vec<_> = workloads.iter().map(Workload::id).collect();
    assert_eq!(ids, ["web-0.shop", "web-1.shop", "web-2.shop"]);
}

#[test]
fn an_image_without_command_is_explained_and_not_run() {
    let (workloads, complaints) = read(&deployment(1, LABELS, "{name: web, image: nginx}"));
    assert!(workloads.is_empty());
    assert!(complaints[0].contains("test.yaml:1"), "{complaints:?}");
    assert!(complaints[0].contains("container `web` has no `command`"), "{complaints:?}");
}

#[test]
fn injection_decides_what_stands_in_front() {
    let role = |metadata: &str, container: &str| read(&deployment(1, metadata, container)).0[0].role;
    let web = "{name: web, image: web, command: [web]}";
    assert_eq!(role(LABELS, web), Role::Sidecar);
    assert_eq!(role("{labels: {app: web, sidecar.istio.io/inject: 'false'}}", web), Role::Plain);
    let gateway = "{labels: {istio: ingressgateway}, annotations: {inject.istio.io/templates: gateway}}";
    assert_eq!(role(gateway, "{name: istio-proxy, image: auto}"), Role::Gateway);
}

#[test]
fn a_program_learns_its_address_as_in_a_cluster() {
    let container =
        "{name: web, image: web, command: [web, '--listen=$(POD_IP):80'], args: ['$(VERSION)'], env: [
        {name: VERSION, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['version']\"}}},
        {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}},
        {name: GREETING, value: 'hello from $(VERSION)'}]}";
    let (workloads, _) = read(&deployment(1, LABELS, container));
    let program = &workloads[0].programs[0];
    assert_eq!(program.command, ["web", "--listen=$(POD_IP):80", "$(VERSION)"]);
    let environment = pod::environment(&workloads[0], program, ADDRESSES);
    let value = |name: &str| {
        environment.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    };
    assert_eq!(value("POD_IP"), Some("127.78.0.1"));
    assert_eq!(value("OUTBOUND_ADDRESS"), Some("127.79.0.1"));
    assert_eq!(value("http_proxy"), Some("http://127.79.0.1:15080"));
    assert_eq!(value("GREETING"), Some("hello from v1"));
}

#[test]
fn a_program_without_sidecar_is_its_pod() {
    let metadata = "{labels: {app: web, sidecar.istio.io/inject: 'false'}}";
    let (workloads, _) = read(&deployment(1, metadata, "{name: web, image: web, command: [web]}"));
    let environment = pod::environment(&workloads[0], &workloads[0].programs[0], ADDRESSES);
    assert_eq!(environment, [("POD_IP".to_owned(), "127.77.0.1".to_owned())]);
}

const RATINGS_VM: &str = "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: ratings-vm, namespace: shop, labels: {app: ratings}}
spec: {address: 127.0.0.1, ports: {http: 9180}, labels: {version: v1}, serviceAccount: ratings, weight: 3, locality: eu/a}
";

#[test]
fn a_running_program_gets_a_sidecar_that_stands_in_for_it() {
    let (workloads, complaints) = read(RATINGS_VM);
    assert!(complaints.is_empty(), "{complaints:?}");
    let workload = &workloads[0];
    assert_eq!((workload.id().as_str(), workload.role), ("ratings-vm.shop", Role::Sidecar));
    assert!(workload.programs.is_empty(), "nothing is started for it");
    let running = workload.running.as_ref().expect("it runs already");
    let addresses = Addresses { app: running.address, ..ADDRESSES };
    let bootstrap = bootstrap(workload, addresses, Path::new("/run/xds.sock"));
    assert_eq!(bootstrap["node"]["metadata"]["RINGSAIL_APP_ADDRESS"], "127.0.0.1");
    assert_eq!(bootstrap["node"]["metadata"]["INSTANCE_IPS"], "127.77.0.1");

    let text = format!("{:#}", pod::object(workload, addresses));
    let decoded = decode(&text, "generated.yaml");
    assert!(decoded.diagnostics.is_empty(), "{:?}", decoded.diagnostics);
    let generated = &decoded.objects[0];
    let written = &decode(RATINGS_VM, "written.yaml").objects[0];
    assert_eq!(generated.key(), written.key(), "it takes the place of what was written");
    let (ringsail_api::Spec::WorkloadEntry(generated), ringsail_api::Spec::WorkloadEntry(written)) =
        (&generated.spec, &written.spec)
    else {
        panic!("two WorkloadEntries")
    };
    let other_address = ringsail_api::networking::WorkloadEntry {
        address: "127.77.0.1".to_owned(),
        labels: Default::default(),
        ..(**written).clone()
    };
    assert_eq!(**generated, other_address);
    assert_eq!(decoded.objects[0].meta.labels["app"], "ratings");
    assert_eq!(decoded.objects[0].meta.labels["version"], "v1");
}

#[test]
fn entries_elsewhere_or_without_injection_are_called_at_their_address() {
    for entry in [
        RATINGS_VM.replace("127.0.0.1", "10.1.2.3"),
        RATINGS_VM.replace("127.0.0.1", "ratings.example.com"),
        RATINGS_VM.replace("labels: {app: ratings}", "labels: {sidecar.istio.io/inject: 'false'}"),
    ] {
        assert!(read(&entry).0.is_empty(), "{entry}");
    }
}

#[test]
fn two_workloads_of_one_name_are_one_too_many() {
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: ratings-vm, namespace: shop}
spec: {containers: [{name: web, image: web, command: [web]}]}
---
";
    let (workloads, complaints) = read(&format!("{pod}{RATINGS_VM}"));
    assert_eq!(workloads.len(), 1);
    assert!(complaints[0].contains("ratings-vm.shop"), "{complaints:?}");
}

#[test]
fn the_control_plane_reads_the_generated_pod() {
    let container = "{name: web, image: web, command: [web], ports: [{name: http, containerPort: 8080}]}";
    let (workloads, _) = read(&deployment(1, LABELS, container));
    let text = format!("{:#}", pod::object(&workloads[0], ADDRESSES));
    let decoded = decode(&text, "pod.yaml");
    assert!(decoded.diagnostics.is_empty(), "{:?}", decoded.diagnostics);
    let ringsail_api::Spec::Pod(pod) = &decoded.objects[0].spec else { panic!("a Pod") };
    assert_eq!(pod.status.as_ref().expect("a status").pod_ip, "127.77.0.1");
    assert_eq!(decoded.objects[0].meta.labels["version"], "v1");
}

#[test]
fn bootstrap_tells_who_and_where_the_proxy_is() {
    let (workloads, _) = read(&deployment(1, LABELS, "{name: web, image: web, command: [web]}"));
    let bootstrap = bootstrap(&workloads[0], ADDRESSES, Path::new("/run/xds.sock"));
    assert_eq!(bootstrap["node"]["id"], "sidecar~127.77.0.1~web-0.shop~shop.svc.cluster.local");
    assert_eq!(bootstrap["node"]["cluster"], "web.shop");
    assert_eq!(bootstrap["node"]["metadata"]["RINGSAIL_APP_ADDRESS"], "127.78.0.1");
    assert_eq!(bootstrap["admin"]["address"]["socket_address"]["address"], "127.77.0.1");
}

#[test]
fn settings_of_the_proxy_come_from_objects_and_the_annotation() {
    let annotated =
        "{labels: {app: web}, annotations: {proxy.istio.io/config: 'proxyHeaders: {server: {value: me}}'}}";
    let yaml = format!(
        "{}---\napiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\n\
         metadata: {{name: a, namespace: shop}}\nspec: {{concurrency: 3, environmentVariables: {{A: b}}}}\n",
        deployment(1, annotated, "{name: web, image: web, command: [web]}")
    );
    let (workloads, _) = read(&yaml);
    let settings = workloads[0].settings.as_ref().expect("settings");
    assert_eq!((settings.concurrency, settings.proxy_metadata["A"].as_str()), (Some(3), "b"));
    let node = bootstrap(&workloads[0], ADDRESSES, Path::new("/run/xds"))["node"].clone();
    assert_eq!(node["metadata"]["PROXY_CONFIG"]["proxyHeaders"]["server"]["value"], "me");
    assert_eq!(
        node["metadata"]["ANNOTATIONS"]["proxy.istio.io/config"],
        "proxyHeaders: {server: {value: me}}"
    );
}
