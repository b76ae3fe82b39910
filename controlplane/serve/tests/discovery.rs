//! What proxies see of the control plane, over real sockets.

mod support;

use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ringsail_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use ringsail_xds::unpack;
use support::{ControlPlane, Delta, StateOfTheWorld, patient, sidecar};
use tonic::Code;

/// A service with one endpoint.
fn service(name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{clusterIP: 10.1.0.1, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\n\
         ports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: [{address}]}}]\n"
    )
}

fn cluster(name: &str) -> String {
    format!("outbound|80||{name}.default.svc.cluster.local")
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

/// A delta proxy that has subscribed to all clusters and accepted the first response.
async fn with_clusters(plane: &ControlPlane, name: &str) -> (Delta, DeltaDiscoveryResponse) {
    let mut proxy = Delta::open(plane).await;
    proxy.subscribe(Some(sidecar(name)), CLUSTER, &[]).await;
    let first = proxy.next().await;
    proxy.ack(&first).await;
    (proxy, first)
}

#[tokio::test]
async fn a_delta_proxy_gets_everything_once_and_then_only_what_changed() {
    let plane = ControlPlane::with(&service("a", "10.0.0.1")).await;
    let (mut proxy, first) = with_clusters(&plane, "p").await;
    assert_eq!(first.type_url, CLUSTER);
    assert!(names(&first).contains(&cluster("a").as_str()), "{:?}", names(&first));
    proxy.subscribe(None, ENDPOINT, &[&cluster("a")]).await;
    let endpoints = proxy.next().await;
    assert_eq!((endpoints.type_url.as_str(), names(&endpoints)), (ENDPOINT, vec![cluster("a").as_str()]));
    proxy.ack(&endpoints).await;
    proxy.subscribe(None, LISTENER, &[]).await;
    let listeners = proxy.next().await;
    assert!(!listeners.resources.is_empty());
    proxy.ack(&listeners).await;
    proxy.subscribe(None, ROUTE, &["80"]).await;
    let routes = proxy.next().await;
    assert_eq!(names(&routes), ["80"]);
    proxy.ack(&routes).await;
    assert!(proxy.is_quiet().await);

    // Another endpoint concerns endpoints alone.
    plane.put(&service("a", "10.0.0.2")).await;
    let moved = proxy.next().await;
    assert_eq!((moved.type_url.as_str(), names(&moved)), (ENDPOINT, vec![cluster("a").as_str()]));
    proxy.ack(&moved).await;

    // Another service: its cluster alone, before the routes that name it.
    plane.put(&service("b", "10.0.0.3")).await;
    let clusters = proxy.next().await;
    assert_eq!((clusters.type_url.as_str(), names(&clusters)), (CLUSTER, vec![cluster("b").as_str()]));
    proxy.ack(&clusters).await;
    let routes = proxy.next().await;
    assert_eq!((routes.type_url.as_str(), names(&routes)), (ROUTE, vec!["80"]));
}

#[tokio::test]
async fn a_state_of_the_world_proxy_gets_all_clusters_whenever_one_changes() {
    let plane = ControlPlane::with(&service("a", "10.0.0.1")).await;
    let mut proxy = StateOfTheWorld::open(&plane).await;
    proxy.subscribe(Some(sidecar("p")), CLUSTER, &[]).await;
    let first = proxy.next().await;
    proxy.ack(&first).await;
    plane.put(&service("b", "10.0.0.3")).await;
    let second = proxy.next().await;
    assert_ne!(first.version_info, second.version_info);
    assert_eq!(second.resources.len(), first.resources.len() + 1);
    let decoded: Vec<Cluster> =
        second.resources.iter().map(|resource| unpack(resource).expect("a cluster")).collect();
    assert!(decoded.iter().any(|found| found.name == cluster("b")));
}

#[tokio::test]
async fn a_replaced_cluster_is_followed_by_its_endpoints() {
    let plane = ControlPlane::with(&service("a", "10.0.0.1")).await;
    let (mut proxy, _) = with_clusters(&plane, "p").await;
    proxy.subscribe(None, ENDPOINT, &[&cluster("a")]).await;
    let endpoints = proxy.next().await;
    proxy.ack(&endpoints).await;
    plane
        .put(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\n\
             spec: {host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}}\n",
        )
        .await;
    let clusters = proxy.next().await;
    assert_eq!((clusters.type_url.as_str(), names(&clusters)), (CLUSTER, vec![cluster("a").as_str()]));
    let again = proxy.next().await;
    assert_eq!((again.type_url.as_str(), names(&again)), (ENDPOINT, vec![cluster("a").as_str()]));
}

#[tokio::test]
async fn a_refusal_is_shown_in_syncz_until_it_is_mended() {
    let plane = ControlPlane::with(&service("a", "10.0.0.1")).await;
    let mut proxy = Delta::open(&plane).await;
    proxy.subscribe(Some(sidecar("p")), CLUSTER, &[]).await;
    let first = proxy.next().await;
    proxy.nack(&first, "cluster a: no such filter").await;
    let page = plane.page_until("/debug/syncz", |page| page.contains("no such filter")).await;
    let rows: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(rows[0]["proxy"], sidecar("p").id);
    assert_eq!(rows[0]["nacks"]["cluster"], "cluster a: no such filter");
    assert_eq!(rows[0]["cluster_sent"], first.nonce);
    assert_eq!(rows[0].get("cluster_acked"), None);
    assert!(plane.page("/metrics").await.contains("pilot_total_xds_rejects{type=\"cds\"} 1"));

    plane.put(&service("b", "10.0.0.3")).await;
    let second = proxy.next().await;
    proxy.ack(&second).await;
    let page = plane.page_until("/debug/syncz", |page| !page.contains("nacks")).await;
    let rows: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(rows[0]["cluster_acked"], second.nonce);
}

#[tokio::test]
async fn a_proxy_that_never_answers_delays_nobody_and_catches_up_in_one_push() {
    let plane = ControlPlane::with(&service("a", "10.0.0.1")).await;
    let mut slow = Delta::open(&plane).await;
    slow.subscribe(Some(sidecar("slow")), CLUSTER, &[]).await;
    let unanswered = slow.next().await;
    let (mut quick, _) = with_clusters(&plane, "quick").await;
    for index in 0..5 {
        let name = format!("s{index}");
        plane.put(&service(&name, "10.0.0.3")).await;
        let response = quick.next().await;
        assert_eq!(names(&response), [cluster(&name)]);
        quick.ack(&response).await;
    }
    assert!(slow.is_quiet().await, "no push before the last one was answered");
    slow.ack(&unanswered).await;
    assert_eq!(slow.next().await.resources.len(), 5, "all five changes in one response");
}

#[tokio::test]
async fn a_proxy_that_reconnects_is_sent_only_what_it_lacks() {
    let plane = ControlPlane::with(&service("a", "10.0.0.1")).await;
    let (proxy, first) = with_clusters(&plane, "p").await;
    let held =
        first.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone())).collect();
    let plane = plane.restart().await;
    drop(proxy);

    let mut proxy = Delta::open(&plane).await;
    proxy
        .send(DeltaDiscoveryRequest {
            node: Some(sidecar("p")),
            type_url: CLUSTER.to_owned(),
            initial_resource_versions: held,
            ..Default::default()
        })
        .await;
    assert!(proxy.is_quiet().await, "a control plane that knows nothing yet must not answer");
    plane.put(&(service("a", "10.0.0.1") + &service("b", "10.0.0.3"))).await;
    let response = proxy.next().await;
    assert_eq!(names(&response), [cluster("b")]);
    assert_eq!(response.removed_resources, Vec::<String>::new());
}

#[tokio::test]
async fn a_node_that_cannot_be_served_is_told_why() {
    let plane = ControlPlane::with(&service("a", "10.0.0.1")).await;
    let mut node = sidecar("p");
    node.id = "sidecar~10.0.0.9".to_owned();
    let mut proxy = Delta::open(&plane).await;
    proxy.subscribe(Some(node), CLUSTER, &[]).await;
    let status = proxy.result().await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("sidecar~10.0.0.9"), "{status}");
    let mut proxy = Delta::open(&plane).await;
    proxy.subscribe(None, CLUSTER, &[]).await;
    assert_eq!(proxy.result().await.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_bad_mesh_configuration_is_reported_and_changes_nothing() {
    let plane = ControlPlane::with(&service("a", "10.0.0.1")).await;
    let (mut proxy, _) = with_clusters(&plane, "p").await;
    plane
        .put(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
             data: {mesh: 'outboundTrafficPolicy: {mode: REGISTRY}'}\n",
        )
        .await;
    let page = plane.page_until("/debug/diagnostics", |page| page.contains("data.mesh line 1")).await;
    assert!(page.contains("did you mean REGISTRY_ONLY?"), "{page}");
    assert!(proxy.is_quiet().await);
}

#[tokio::test]
async fn streams_end_and_are_forgotten() {
    let plane = ControlPlane::with(&service("a", "10.0.0.1")).await;
    let (proxy, _) = with_clusters(&plane, "p").await;
    plane.page_until("/debug/syncz", |page| page.contains("sidecar~")).await;
    drop(proxy);
    plane.page_until("/debug/syncz", |page| page.trim() == "[]").await;

    let (mut proxy, _) = with_clusters(&plane, "p").await;
    let plane = patient(plane.restart()).await;
    let status = proxy.result().await.expect_err("the control plane said goodbye");
    assert_eq!(status.code(), Code::Unavailable);
    drop(plane);
}

#[tokio::test]
async fn the_dump_of_a_proxy_holds_what_it_was_sent() {
    let plane = ControlPlane::with(&service("a", "10.0.0.1")).await;
    let (_proxy, _) = with_clusters(&plane, "p").await;
    let dump = plane.page("/debug/config_dump?proxyID=p.default").await;
    let dump: serde_json::Value = serde_json::from_str(&dump).expect("JSON");
    let clusters = dump["configs"][0]["dynamic_active_clusters"].as_array().expect("a list");
    assert!(clusters.iter().any(|found| found["cluster"]["name"] == cluster("a").as_str()));
    let objects: serde_json::Value = serde_json::from_str(&plane.page("/debug/configz").await).expect("JSON");
    assert!(objects.as_array().expect("a list").iter().any(|object| object["kind"] == "Service"));
}
