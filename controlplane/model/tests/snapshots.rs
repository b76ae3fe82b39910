//! Snapshots: a function of the set of objects, sharing what a change does not touch.

use std::sync::Arc;

use ringsail_model::{Change, Delta, Mesh, MeshBuilder, MeshSettings, ServiceKey};

fn put(yaml: &str) -> Vec<Change> {
    let decoded = ringsail_api::decode(yaml, "test.yaml");
    let problems: String = decoded.diagnostics.iter().map(|d| format!("{d}\n")).collect();
    assert!(decoded.refused.is_empty(), "{problems}");
    decoded.objects.into_iter().map(|object| Change::Put(Arc::new(object))).collect()
}

fn builder(yaml: &str) -> MeshBuilder {
    let mut builder = MeshBuilder::new(MeshSettings::default());
    builder.apply(put(yaml));
    builder
}

fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: "shop".into(), hostname: format!("{name}.shop.svc.cluster.local") }
}

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.2, selector: {app: db}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}}
status: {podIP: 10.0.0.1}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
";

#[test]
fn new_pod_moves_the_endpoints_of_its_services_and_nothing_else() {
    let mut builder = builder(MESH);
    let before = Arc::clone(builder.mesh());
    let (after, delta) = builder.apply(put("apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
status: {podIP: 10.0.0.2}"));
    assert!(delta.only_endpoints());
    assert_eq!(delta.endpoints.into_iter().collect::<Vec<_>>(), [key("web")]);
    assert_eq!(after.version, before.version + 1);
    let same = |key: &ServiceKey| Arc::ptr_eq(&before.endpoints(key), &after.endpoints(key));
    assert!(same(&key("db")) && !same(&key("web")));
    let service = |mesh: &Mesh| Arc::clone(mesh.services().get(&key("web")).expect("the service"));
    assert!(Arc::ptr_eq(&service(&before), &service(&after)));
}

#[test]
fn same_object_again_gives_the_same_snapshot() {
    let mut builder = builder(MESH);
    let before = Arc::clone(builder.mesh());
    let (after, delta) = builder.apply(put(MESH));
    assert_eq!(delta, Delta::default());
    assert!(Arc::ptr_eq(&before, &after));
}

#[test]
fn changed_virtual_service_moves_its_key_alone() {
    let mut builder = builder(MESH);
    let (_, delta) = builder.apply(put("apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{timeout: 1s, route: [{destination: {host: web}}]}]}"));
    let expected = Delta { virtual_services: ["shop/web".to_owned()].into(), ..Delta::default() };
    assert_eq!(delta, expected);
}

#[test]
fn deleted_objects_leave_nothing_behind() {
    let mut builder = builder(MESH);
    let keys: Vec<_> = builder.objects().map(|object| object.key()).collect();
    let (mesh, delta) = builder.apply(keys.into_iter().map(Change::Delete));
    assert!(mesh.services().by_age().is_empty() && mesh.virtual_services().is_empty());
    assert!(mesh.all_endpoints().is_empty());
    assert_eq!(delta.destination_rules.len(), 1);
}

#[test]
fn order_of_arrival_does_not_matter() {
    let mut changes = put(MESH);
    let mut forward = MeshBuilder::new(MeshSettings::default());
    forward.apply(changes.clone());
    changes.reverse();
    let mut backward = MeshBuilder::new(MeshSettings::default());
    for change in changes {
        backward.apply([change]);
    }
    let (a, b) = (forward.mesh(), backward.mesh());
    assert_eq!(a.services(), b.services());
    assert_eq!(a.all_endpoints(), b.all_endpoints());
    assert_eq!(a.virtual_services(), b.virtual_services());
    assert_eq!(a.destination_rules(), b.destination_rules());
}

#[test]
fn instances_of_an_address_are_its_services_with_both_ports() {
    let builder = builder(MESH);
    let found = builder.mesh().instances_at(&["10.0.0.1".parse().expect("an address")]);
    let ports: Vec<_> =
        found.iter().map(|(service, i)| (service.name.as_str(), i.service_port, i.port)).collect();
    assert_eq!(ports, [("web", 80, 80)]);
}

#[test]
fn kubernetes_service_wins_over_an_entry_for_its_host() {
    let builder = builder(&format!(
        "{MESH}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: web, namespace: other}}
spec:
  hosts: [web.shop.svc.cluster.local]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 9.9.9.9}}]"
    ));
    let services = builder.mesh().services();
    let host = "web.shop.svc.cluster.local";
    assert_eq!(services.resolve(host, "shop").map(|s| s.key.namespace.as_str()), Some("shop"));
    assert_eq!(services.resolve(host, "third").map(|s| s.key.namespace.as_str()), Some("shop"));
    // The client's own namespace comes before everything else.
    assert_eq!(services.resolve(host, "other").map(|s| s.key.namespace.as_str()), Some("other"));
}
