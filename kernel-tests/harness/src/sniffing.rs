//! Listeners that detect what a connection speaks, as istiod writes them for ports without a protocol.

use serde_json::{Value, json};

use crate::config::{TYPE, http_listener, inline_routes};

/// The network filter that relays to `cluster`.
pub fn tcp_proxy(cluster: &str) -> Value {
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": format!("{TYPE}envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": "tcp", "cluster": cluster}})
}

/// HTTP goes to the route's `http_cluster`, other bytes to `tcp_cluster`. `inbound` gives the shape of a sidecar's inbound
/// side (two chains), else that of its outbound side (a chain and the default one). No timeout.
pub fn listener(inbound: bool, http_cluster: &str, tcp_cluster: &str) -> Value {
    let routes = inline_routes(
        json!([{"match": {"prefix": "/"}, "route": {"cluster": http_cluster, "timeout": "0s"}}]),
    );
    let mut listener = http_listener("sniffing", routes);
    let inspector = |name: &str, message: &str| {
        json!({"name": format!("envoy.filters.listener.{name}"), "typed_config":
            {"@type": format!("{TYPE}envoy.extensions.filters.listener.{name}.v3.{message}")}})
    };
    listener["listener_filters"] =
        json!([inspector("tls_inspector", "TlsInspector"), inspector("http_inspector", "HttpInspector")]);
    listener["listener_filters_timeout"] = json!("0s");
    listener["continue_on_listener_filters_timeout"] = json!(true);
    listener["filter_chains"][0]["filter_chain_match"] =
        json!({"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]});
    if inbound {
        listener["traffic_direction"] = json!("INBOUND");
        let chains = listener["filter_chains"].as_array_mut();
        let tcp = json!({"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [tcp_proxy(tcp_cluster)]});
        chains.into_iter().for_each(|chains| chains.push(tcp.clone()));
    } else {
        listener["traffic_direction"] = json!("OUTBOUND");
        listener["default_filter_chain"] = json!({"filters": [tcp_proxy(tcp_cluster)]});
    }
    listener
}
