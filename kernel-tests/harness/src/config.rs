//! Bootstrap templates that several tests start from.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// The type URL prefix of every typed configuration.
pub const TYPE: &str = "type.googleapis.com/";

/// One HTTP listener whose only route leads to `upstream`.
pub fn one_route(upstream: SocketAddr) -> Value {
    bootstrap(
        json!([http_listener(
            "http",
            inline_routes(json!([{"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}]))
        )]),
        json!([static_cluster("app", &[upstream])]),
    )
}

/// A bootstrap of static resources in the form [`crate::peer::Peer::start_with`] fills in.
pub fn bootstrap(listeners: Value, clusters: Value) -> Value {
    json!({
        "node": {"id": "sidecar~127.0.0.1~a.b~b.svc.cluster.local", "cluster": "test"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": "ADMIN"}}},
        "static_resources": {"listeners": listeners, "clusters": clusters}
    })
}

/// A listener with one HTTP connection manager; `routes` is its `route_config` or `rds` field as an object.
pub fn http_listener(name: &str, routes: Value) -> Value {
    let mut manager = json!({
        "@type": format!("{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name, "codec_type": "AUTO", "stream_idle_timeout": "0s",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config":
            {"@type": format!("{TYPE}envoy.extensions.filters.http.router.v3.Router")}}]
    });
    for (key, value) in routes.as_object().into_iter().flatten() {
        manager[key] = value.clone();
    }
    json!({"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]})
}

/// `routes` for any host, as the inline route configuration of [`http_listener`].
pub fn inline_routes(routes: Value) -> Value {
    json!({"route_config": {"name": "inline", "virtual_hosts": [{"name": "any", "domains": ["*"], "routes": routes}]}})
}

/// A STATIC cluster of `addresses`.
pub fn static_cluster(name: &str, addresses: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| {
            json!({"endpoint": {"address": {"socket_address":
                {"address": address.ip().to_string(), "port_value": address.port()}}}})
        })
        .collect();
    json!({"name": name, "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}})
}
