//! What a mesh accepts and its author probably did not mean.

use std::sync::Arc;

use ringsail_model::{Change, MeshBuilder, MeshSettings, analyze};

fn warnings(yaml: &str) -> Vec<String> {
    let mut builder = MeshBuilder::new(MeshSettings::default());
    let objects = ringsail_api::decode(yaml, "test.yaml").objects;
    builder.apply(objects.into_iter().map(|object| Change::Put(Arc::new(object))));
    analyze(&builder)
        .into_iter()
        .map(|d| {
            format!("{}: {}{}", d.field_path, d.message, d.fix.map(|f| format!(" ({f})")).unwrap_or_default())
        })
        .collect()
}

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
";

fn route(destination: &str) -> String {
    format!(
        "{WEB}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{hosts: [web], http: [{{route: [{{destination: {destination}}}]}}]}}"
    )
}

#[test]
fn destination_that_is_no_service_is_named_with_its_place() {
    let found = warnings(&route("{host: wbe}"));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("spec.http[0].route[0].destination.host: no service has the host wbe.shop.svc")
    );
}

#[test]
fn short_name_of_a_service_elsewhere_gets_the_full_one_as_fix() {
    let yaml = route("{host: web}").replace(
        "metadata: {name: web, namespace: shop}\nspec: {hosts",
        "metadata: {name: web, namespace: other}\nspec: {hosts",
    );
    assert!(warnings(&yaml)[0].ends_with("(write web.shop.svc.cluster.local)"));
}

#[test]
fn subset_without_a_rule_and_port_without_a_service_port_are_reported() {
    assert!(warnings(&route("{host: web, subset: v1}"))[0].contains("no DestinationRule of"));
    assert!(warnings(&route("{host: web, port: {number: 81}}"))[0].contains("has no port 81"));
    assert!(warnings(&route("{host: web}")).is_empty());
}

#[test]
fn unknown_gateway_is_reported() {
    let yaml = route("{host: web}").replace("hosts: [web],", "hosts: [web], gateways: [edge/gw],");
    assert!(warnings(&yaml)[0].contains("gateway edge/gw does not exist"));
}

#[test]
fn second_virtual_service_of_a_host_is_reported() {
    let second =
        route("{host: web}").split("---\n").nth(1).expect("a rule").replace("name: web,", "name: web2,");
    let found = warnings(&format!("{}\n---\n{second}", route("{host: web}")));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("sidecars use only the oldest"));
}

#[test]
fn policy_without_effect_is_reported() {
    let rule = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, trafficPolicy: {proxyProtocol: {version: V2}}}";
    let found = warnings(&format!("{WEB}---\n{rule}"));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("spec.trafficPolicy.proxyProtocol: the PROXY protocol is not applied yet"));
}

fn with_settings(settings: &str, yaml: &str) -> Vec<String> {
    let config = ringsail_api::decode_mesh_config(settings, "mesh").expect("valid");
    let mut builder = MeshBuilder::new(MeshSettings::new(config, "cluster.local"));
    let objects = ringsail_api::decode(yaml, "test.yaml").objects;
    builder.apply(objects.into_iter().map(|object| Change::Put(Arc::new(object))));
    analyze(&builder).into_iter().map(|d| format!("{}: {}", d.field_path, d.message)).collect()
}

#[test]
fn providers_that_lead_nowhere_are_reported_by_name() {
    let settings = "extensionProviders:
- {name: dog, datadog: {service: web.shop.svc.cluster.local, port: 80}}
- {name: far, zipkin: {service: nowhere.example.com, port: 80}}
- {name: port, zipkin: {service: web.shop.svc.cluster.local, port: 81}}
- {name: good, zipkin: {service: web.shop.svc.cluster.local, port: 80}}
defaultProviders: {tracing: [dog], metrics: [prometheus]}
";
    let telemetry = |provider: &str| {
        format!(
            "{WEB}---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: t, namespace: shop}}\n\
             spec: {{tracing: [{{providers: [{{name: {provider}}}]}}]}}"
        )
    };
    let found = |provider: &str| with_settings(settings, &telemetry(provider)).join("\n");
    assert!(found("dog").contains("a provider of kind datadog is not supported here; no spans are sent"));
    assert!(found("far").contains("spec.tracing[0].providers[0].name: far: no service, or more than one"));
    assert!(found("port").contains("has no port 81"));
    assert!(found("none").contains("no extension provider has the name none"));
    assert!(found("envoy").contains("kind envoyFileAccessLog"));
    assert_eq!(found("good"), "");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n";
    let defaults = with_settings(settings, map);
    assert!(defaults[0].starts_with("data.mesh: defaultProviders.tracing[0]: dog"), "{defaults:?}");
}

#[test]
fn settings_of_proxies_that_nothing_follows_are_reported() {
    let pod = |text: &str| {
        let yaml = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, annotations: {{proxy.istio.io/config: '{text}'}}}}\n"
        );
        warnings(&yaml).join("\n")
    };
    assert_eq!(pod("concurrency: 2"), "");
    assert!(pod("concurency: 2").contains("so the proxy runs without these settings"));
    assert!(pod("privateKeyProvider: {cryptomb: {}}").contains("a provider of keys is not supported"));
}
