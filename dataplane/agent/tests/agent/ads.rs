use std::path::Path;

use ringsail_agent::Phase;
use ringsail_xds::protocol::Response;
use ringsail_xds::protocol::server::Answer;
use ringsail_xds::type_url::{CLUSTER, ENDPOINT, HTTP_CONNECTION_MANAGER, LISTENER, ROUTE, ROUTER};
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::proxy::{Proxy, eventually};

pub const BOTH: [&str; 2] = ["DELTA_GRPC", "GRPC"];

pub fn bootstrap(api_type: &str, socket: &Path) -> String {
    format!(
        r#"
node: {{id: sidecar~10.0.0.5~a.b~b.svc.cluster.local, cluster: a.b}}
dynamic_resources:
  ads_config: {{api_type: {api_type}, grpc_services: [{{envoy_grpc: {{cluster_name: xds-grpc}}}}]}}
  cds_config: {{ads: {{}}, initial_fetch_timeout: 0s}}
  lds_config: {{ads: {{}}, initial_fetch_timeout: 0s}}
static_resources:
  clusters:
  - name: xds-grpc
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: xds-grpc
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{pipe: {{path: {}}}}}}}}}]}}]
"#,
        socket.display()
    )
}

fn eds_cluster(name: &str) -> Value {
    json!({"name": name, "type": "EDS", "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": {"ads": {}, "initial_fetch_timeout": "0s"}}})
}

fn endpoints(name: &str, port: u16) -> Value {
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [
        {"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": port}}}}]}]})
}

fn listener(name: &str, port: u16, routes: &str) -> Value {
    json!({"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager",
            "typed_config": {"@type": HTTP_CONNECTION_MANAGER, "stat_prefix": "x",
                "rds": {"route_config_name": routes, "config_source": {"ads": {}, "initial_fetch_timeout": "0s"}},
                "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}]}}]}]})
}

fn routes(name: &str, cluster: &str) -> Value {
    json!({"name": name, "validate_clusters": false, "virtual_hosts": [{"name": "v", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]})
}

/// A control plane that has everything for one route.
fn small_mesh() -> ControlPlane {
    let plane = ControlPlane::new();
    plane.set(CLUSTER, "1", &[eds_cluster("a")]);
    plane.set(ENDPOINT, "1", &[endpoints("a", 80)]);
    plane.set(LISTENER, "1", &[listener("l", 0, "80")]);
    plane.set(ROUTE, "1", &[routes("80", "a")]);
    plane
}

fn asked_types(plane: &ControlPlane) -> Vec<String> {
    let heard = plane.heard.lock().expect("lock");
    let mut types = Vec::new();
    for request in heard.iter().filter(|request| request.respond) {
        if !types.contains(&request.type_url) {
            types.push(request.type_url.clone());
        }
    }
    types
}

#[test]
fn a_proxy_becomes_live_by_clusters_endpoints_listeners_routes() {
    for api_type in BOTH {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("xds");
        let plane = small_mesh();
        let _listening = plane.listen(&socket);
        let proxy = Proxy::start(&bootstrap(api_type, &socket));
        eventually("live", || proxy.agent.phase() == Phase::Live);
        assert_eq!(proxy.request("GET", "/ready"), (200, "LIVE\n".to_string()));
        assert_eq!(asked_types(&plane), [CLUSTER, ENDPOINT, LISTENER, ROUTE], "{api_type}");
        assert_eq!(plane.nodes.lock().expect("lock")[0].id, "sidecar~10.0.0.5~a.b~b.svc.cluster.local");
        assert_eq!(proxy.get("/listeners"), "l::127.0.0.1:0\n");
        assert!(proxy.get("/clusters").contains("a::10.0.0.1:80::health_flags::healthy"));
        for (name, value) in [
            ("cluster_manager.cds.update_success", 1),
            ("listener_manager.lds.update_success", 1),
            ("listener_manager.workers_started", 1),
            ("server.state", 0),
            ("control_plane.connected_state", 1),
        ] {
            assert_eq!(proxy.stat(name), Some(value), "{name}");
        }
    }
}

#[test]
fn what_is_waited_for_keeps_the_proxy_from_being_live() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("xds");
    let plane = small_mesh();
    plane.set(ENDPOINT, "1", &[endpoints("other", 80)]);
    plane.set(ROUTE, "1", &[]);
    // The state of the world cannot say that something does not exist.
    let _listening = plane.listen(&socket);
    let proxy = Proxy::start(&bootstrap("GRPC", &socket));
    eventually("endpoints asked for", || asked_types(&plane).contains(&ENDPOINT.to_string()));
    assert_eq!(proxy.request("GET", "/ready"), (503, "PRE_INITIALIZING\n".to_string()));
    plane.set(ENDPOINT, "2", &[endpoints("a", 80)]);
    eventually("routes asked for", || asked_types(&plane).contains(&ROUTE.to_string()));
    assert_eq!(proxy.request("GET", "/ready"), (503, "INITIALIZING\n".to_string()));
    assert_eq!(proxy.get("/listeners"), "", "a listener without its routes does not serve");
    plane.set(ROUTE, "2", &[routes("80", "a")]);
    eventually("live", || proxy.agent.phase() == Phase::Live);
}

#[test]
fn a_refused_resource_is_named_and_the_last_good_version_stays() {
    for api_type in BOTH {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("xds");
        let plane = small_mesh();
        let _listening = plane.listen(&socket);
        let proxy = Proxy::start(&bootstrap(api_type, &socket));
        eventually("live", || proxy.agent.phase() == Phase::Live);
        let mut bad = eds_cluster("a");
        bad["transport_socket"] = json!({"name": "envoy.transport_sockets.tls", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "allow_renegotiation": true}});
        plane.set(CLUSTER, "2", &[bad, eds_cluster("b")]);
        plane.set(ENDPOINT, "2", &[endpoints("a", 80), endpoints("b", 81)]);
        let refusal = || {
            let heard = plane.heard.lock().expect("lock");
            heard.iter().find_map(|request| match &request.answer {
                Some(Answer::Nack { error, .. }) if request.type_url == CLUSTER => Some(error.clone()),
                _ => None,
            })
        };
        eventually("refused", || refusal().is_some());
        let text = refusal().expect("refused");
        assert!(text.starts_with("Cluster \"a\": transport_socket"), "{text}");
        eventually("the good one is used", || proxy.clusters().contains(&"b".to_string()));
        assert!(proxy.clusters().contains(&"a".to_string()), "the last good version stays");
        assert_eq!(proxy.stat("cluster_manager.cds.update_rejected"), Some(1));
        let dump = proxy.json("/config_dump?resource=dynamic_active_clusters");
        let cluster = &dump["configs"][0];
        assert_eq!(cluster["cluster"]["name"], "a");
        assert_eq!(cluster["cluster"].get("transport_socket"), None);
        assert_eq!(cluster["error_state"]["details"], text);
        assert_eq!(cluster["client_status"], "NACKED");
    }
}

#[test]
fn traffic_configuration_survives_the_control_plane() {
    for api_type in BOTH {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("xds");
        let plane = small_mesh();
        let listening = plane.listen(&socket);
        let proxy = Proxy::start(&bootstrap(api_type, &socket));
        eventually("live", || proxy.agent.phase() == Phase::Live);
        drop(listening);
        eventually("disconnected", || proxy.stat("control_plane.connected_state") == Some(0));
        assert_eq!(proxy.clusters(), ["a", "xds-grpc"]);
        assert_eq!(proxy.request("GET", "/ready").0, 200);
        // Meanwhile one cluster came and nothing else changed.
        plane.set(CLUSTER, "2", &[eds_cluster("a"), eds_cluster("b")]);
        plane.set(ENDPOINT, "2", &[endpoints("a", 80), endpoints("b", 81)]);
        plane.sent.lock().expect("lock").clear();
        let _listening = plane.listen(&socket);
        eventually("resumed", || proxy.clusters() == ["a", "b", "xds-grpc"]);
        if api_type == "DELTA_GRPC" {
            let sent = plane.sent.lock().expect("lock");
            let names: Vec<String> = sent
                .iter()
                .filter_map(|response| match response {
                    Response::Delta(response) => Some(response.resources.iter().map(|one| one.name.clone())),
                    Response::StateOfTheWorld(_) => None,
                })
                .flatten()
                .collect();
            assert_eq!(names, ["b", "b"], "only the new cluster and its endpoints are sent");
        }
    }
}

#[test]
fn resources_that_go_are_dropped_with_what_they_needed() {
    for api_type in BOTH {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("xds");
        let plane = small_mesh();
        plane.set(CLUSTER, "1", &[eds_cluster("a"), eds_cluster("b")]);
        plane.set(ENDPOINT, "1", &[endpoints("a", 80), endpoints("b", 81)]);
        let _listening = plane.listen(&socket);
        let proxy = Proxy::start(&bootstrap(api_type, &socket));
        eventually("both", || proxy.clusters().len() == 3);
        plane.set(CLUSTER, "2", &[eds_cluster("a")]);
        eventually("one", || proxy.clusters() == ["a", "xds-grpc"]);
        eventually("its endpoints are forgotten", || {
            let dump = proxy.json("/config_dump?resource=dynamic_endpoint_configs");
            dump["configs"].as_array().is_some_and(|all| all.len() == 1)
        });
        let unsubscribed = || {
            let heard = plane.heard.lock().expect("lock");
            heard.iter().any(|request| request.type_url == ENDPOINT && request.removed == ["b"])
        };
        eventually("unsubscribed", unsubscribed);
    }
}

#[test]
fn a_cluster_of_the_bootstrap_is_not_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("xds");
    let plane = small_mesh();
    plane.set(CLUSTER, "1", &[eds_cluster("a"), eds_cluster("xds-grpc")]);
    let _listening = plane.listen(&socket);
    let proxy = Proxy::start(&bootstrap("DELTA_GRPC", &socket));
    eventually("live", || proxy.agent.phase() == Phase::Live);
    let text = proxy.get("/clusters?filter=^xds-grpc$");
    assert!(text.contains("xds-grpc::added_via_api::false"), "{text}");
}
