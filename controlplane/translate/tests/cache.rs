//! Remembered results are the results one would compute again.

mod support;

use std::sync::Arc;

use ringsail_model::{Change, MeshBuilder, MeshSettings};
use ringsail_translate::{Translator, translate};
use support::node;

const STEPS: [&str; 5] = [
    include_str!("shop.yaml"),
    "apiVersion: v1
kind: Pod
metadata: {name: web-v3, namespace: shop, labels: {app: web, version: v1}}
status: {podIP: 10.0.0.13}",
    "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}}",
    "apiVersion: v1
kind: Pod
metadata: {name: web-v3, namespace: shop, labels: {app: other}}
status: {podIP: 10.0.0.13}",
    "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.1.10, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8081}]}",
];

#[test]
fn translator_agrees_with_a_fresh_translation_after_every_change() {
    let mut builder = MeshBuilder::new(MeshSettings::default());
    let mut translator = Translator::default();
    let proxies = [
        node("sidecar", "10.0.0.5", "shop", &[]),
        node("sidecar", "10.0.0.11", "shop", &["label:topology.kubernetes.io/zone=z"]),
        node("sidecar", "10.0.0.99", "other", &["INTERCEPTION_MODE=NONE"]),
        node("router", "10.0.0.98", "edge", &[]),
    ];
    for step in STEPS {
        let objects = ringsail_api::decode(step, "step.yaml").objects;
        builder.apply(objects.into_iter().map(|object| Change::Put(Arc::new(object))));
        for proxy in &proxies {
            let remembered = translator.translate(builder.mesh(), proxy);
            assert_eq!(remembered, translate(builder.mesh(), proxy), "{}", proxy.id);
        }
    }
}

#[test]
fn endpoint_change_keeps_the_bytes_of_everything_else() {
    let mut builder = MeshBuilder::new(MeshSettings::default());
    let mut translator = Translator::default();
    let proxy = node("sidecar", "10.0.0.5", "shop", &[]);
    let apply = |builder: &mut MeshBuilder, yaml: &str| {
        let objects = ringsail_api::decode(yaml, "step.yaml").objects;
        builder.apply(objects.into_iter().map(|object| Change::Put(Arc::new(object))));
    };
    apply(&mut builder, STEPS[0]);
    let before = translator.translate(builder.mesh(), &proxy);
    apply(&mut builder, STEPS[1]);
    let after = translator.translate(builder.mesh(), &proxy);
    assert_eq!(
        (&before.clusters, &before.listeners, &before.routes),
        (&after.clusters, &after.listeners, &after.routes)
    );
    let changed: Vec<&str> = before
        .endpoints
        .iter()
        .zip(&after.endpoints)
        .filter(|(a, b)| a.version != b.version)
        .map(|(a, _)| a.name.as_str())
        .collect();
    assert_eq!(
        changed,
        ["outbound|80|v1|web.shop.svc.cluster.local", "outbound|80||web.shop.svc.cluster.local"]
    );
}
