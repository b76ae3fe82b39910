//! What ProxyConfig makes of connection managers: by MeshConfig's default, and by what a proxy was started with.

mod support;

use ringsail_model::Proxy;
use ringsail_translate::translate;
use ringsail_xds::envoy::config::core::v3::Node;
use ringsail_xds::envoy::config::listener::v3::filter::ConfigType;
use ringsail_xds::envoy::extensions::filters::http::router::v3::Router;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_filter,
};
use ringsail_xds::json::Schema;
use ringsail_xds::{type_url, unpack};
use support::{Seen, mesh_with};

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIP: 10.1.0.1}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {selector: {app: web}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
";

/// A sidecar or router of a mesh with this default, started with this own configuration (JSON).
fn seen(kind: &str, default: &str, own: &str) -> Seen {
    let node = format!(
        r#"{{"id": "{kind}~10.1.0.1~web.shop~shop.svc.cluster.local",
            "metadata": {{"LABELS": {{"app": "web"}}, "PROXY_CONFIG": {own}}}}}"#
    );
    let node: Node = Schema::shared().from_json(&serde_json_value(&node)).expect("a node");
    let proxy = Proxy::from_node(&node).expect("a proxy");
    Seen::of(&translate(&mesh_with(&format!("defaultConfig: {default}\n"), SHOP), &proxy))
}

fn serde_json_value(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

fn manager(seen: &Seen, listener: &str) -> HttpConnectionManager {
    let filters = seen.listener(listener).filter_chains.iter().flat_map(|chain| &chain.filters);
    let mut found = filters.filter_map(|filter| match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url == type_url::HTTP_CONNECTION_MANAGER => Some(any),
        _ => None,
    });
    unpack(found.next().expect("a connection manager")).expect("a connection manager")
}

#[test]
fn headers_are_left_out_or_renamed_as_proxy_headers_say() {
    let off = "{proxyHeaders: {server: {disabled: true}, requestId: {disabled: true}, attemptCount: {disabled: true},
        envoyDebugHeaders: {disabled: true}, xForwardedPort: {enabled: true}, xForwardedHost: {enabled: true},
        preserveHttp1HeaderCase: true}}";
    let seen = seen("sidecar", off, "{}");
    let inbound = manager(&seen, "virtualInbound");
    assert_eq!((inbound.server_name.as_str(), inbound.server_header_transformation), ("", 2));
    assert_eq!(inbound.generate_request_id, Some(false));
    assert!(inbound.append_x_forwarded_port);
    assert!(inbound.http_protocol_options.and_then(|options| options.header_key_format).is_some());
    let Some(http_filter::ConfigType::TypedConfig(router)) =
        &inbound.http_filters.last().expect("filters").config_type
    else {
        panic!("no router")
    };
    assert!(unpack::<Router>(router).expect("a router").suppress_envoy_headers);
    let host = &seen.routes("80").virtual_hosts[0];
    assert!(!host.include_request_attempt_count);
    assert!(format!("{:?}", host.routes[0].action).contains("append_x_forwarded_host: true"));
}

#[test]
fn what_a_proxy_was_started_with_goes_over_the_default_of_the_mesh() {
    let default = "{proxyHeaders: {server: {value: mesh}}, connectionSettings: {httpStreamIdleTimeout: 5s}}";
    let own = r#"{"proxyHeaders": {"server": {"value": "own"}}}"#;
    let of = |own: &str| manager(&seen("sidecar", default, own), "virtualInbound");
    assert_eq!(of("{}").server_name, "mesh");
    assert_eq!(of(own).server_name, "own");
    assert_eq!(of(own).stream_idle_timeout.map(|time| time.seconds), Some(5));
}

#[test]
fn connection_settings_reach_managers_listeners_and_clusters() {
    let settings = "{connectionSettings: {httpIdleTimeout: 3s, httpMaxConcurrentStreams: 7, httpRequestTimeout: 9s,
        listenerPerConnectionBufferLimitBytes: 4096, clusterPerConnectionBufferLimitBytes: 8192, httpMergeSlashes: true}}";
    let seen = seen("sidecar", settings, "{}");
    let outbound = manager(&seen, "0.0.0.0_80");
    assert_eq!(outbound.request_timeout.map(|time| time.seconds), Some(9));
    let idle = outbound.common_http_protocol_options.and_then(|options| options.idle_timeout);
    assert_eq!(idle.map(|time| time.seconds), Some(3));
    assert_eq!(outbound.http2_protocol_options.and_then(|options| options.max_concurrent_streams), Some(7));
    assert!(outbound.merge_slashes);
    assert_eq!(seen.listener("0.0.0.0_80").per_connection_buffer_limit_bytes, Some(4096));
    let cluster = seen.cluster("outbound|80||web.shop.svc.cluster.local");
    assert_eq!(cluster.per_connection_buffer_limit_bytes, Some(8192));
}

#[test]
fn gateways_have_a_topology_and_a_profile_for_the_edge() {
    let settings = "{gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: ALWAYS_FORWARD_ONLY},
        connectionSettings: {profile: EDGE, httpRequestTimeout: 7s}}";
    let gateway = manager(&seen("router", settings, "{}"), "0.0.0.0_80");
    assert_eq!((gateway.xff_num_trusted_hops, gateway.forward_client_cert_details), (2, 4));
    assert_eq!(gateway.request_timeout.map(|time| time.seconds), Some(7), "what is said stays");
    assert_eq!(gateway.request_headers_timeout.map(|time| time.seconds), Some(60));
    assert_eq!(gateway.http2_protocol_options.and_then(|options| options.max_concurrent_streams), Some(100));
    let listener_filters = |settings: &str| {
        let seen = seen("router", settings, "{}");
        let filters = seen.listener("0.0.0.0_80").listener_filters.iter().map(|filter| filter.name.clone());
        filters.collect::<Vec<_>>()
    };
    assert!(listener_filters(settings).is_empty());
    let behind = "{gatewayTopology: {proxyProtocol: {}}}";
    assert_eq!(listener_filters(behind), ["envoy.filters.listener.proxy_protocol"]);
    let sidecar = manager(&seen("sidecar", settings, "{}"), "0.0.0.0_80");
    assert_eq!((sidecar.xff_num_trusted_hops, sidecar.request_headers_timeout), (0, None));
}
