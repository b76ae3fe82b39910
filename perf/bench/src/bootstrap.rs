//! The Envoy bootstrap that ringsail-proxy and Envoy both get, shaped as istiod shapes a sidecar's outbound side.

use std::path::Path;

use serde_json::{Value, json};

use crate::scenario::{Protocol, Scenario};

/// Endpoints of each further cluster.
pub const ENDPOINTS_PER_CLUSTER: usize = 5;

const TYPE: &str = "type.googleapis.com/";
const NO_LIMIT: u32 = u32::MAX;

/// The backend's cluster, named as istiod names it.
const CLUSTER: &str = "outbound|80||bench.shop.svc.cluster.local";

/// Istio's default text format. Source: meshConfig.accessLogFormat's default.
const ACCESS_LOG_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

/// The bootstrap for `scenario`, listening on `port` of the loopback address. `istio_filters` tells whether the proxy
/// knows Istio's own filters.
pub fn bootstrap(scenario: &Scenario, port: u16, istio_filters: bool) -> Value {
    let mut first = cluster(CLUSTER, &[("127.0.0.1".into(), scenario.upstream_port)]);
    if scenario.protocol == Protocol::Http2 {
        first["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "upstreams.http.v3.HttpProtocolOptions",
                json!({"explicit_http_config": {"http2_protocol_options": {}}}))
        });
    }
    let mut clusters = vec![first];
    let mut hosts = vec![virtual_host("bench.shop.svc.cluster.local", &["bench.local"], CLUSTER)];
    for index in 0..scenario.clusters {
        let host = format!("svc-{index}.shop.svc.cluster.local");
        let name = format!("outbound|80||{host}");
        clusters.push(cluster(&name, &endpoints(index)));
        let short = [format!("svc-{index}"), format!("svc-{index}.shop"), format!("svc-{index}.shop.svc")];
        hosts.push(virtual_host(&host, &short.each_ref().map(String::as_str), &name));
    }
    hosts.extend((0..scenario.hosts).map(|index| virtual_host(&Scenario::host(index), &[], CLUSTER)));
    let filter = match scenario.protocol {
        Protocol::Tcp => tcp_proxy(scenario),
        _ => http_connection_manager(scenario, hosts, istio_filters),
    };
    json!({
        "node": {"id": "sidecar~127.0.0.1~bench.shop~shop.svc.cluster.local", "cluster": "bench",
            "metadata": {"NAMESPACE": "shop", "WORKLOAD_NAME": "bench", "CLUSTER_ID": "Kubernetes"}},
        "static_resources": {
            "listeners": [{
                "name": format!("127.0.0.1_{port}"), "traffic_direction": "OUTBOUND",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{"filters": [filter]}]
            }],
            "clusters": clusters
        }
    })
}

/// Address and port of each endpoint of cluster `index`; nobody is there.
pub fn endpoints(index: usize) -> Vec<(String, u16)> {
    (1..=ENDPOINTS_PER_CLUSTER)
        .map(|last| (format!("10.{}.{}.{last}", 1 + (index >> 8), index & 255), 8080))
        .collect()
}

fn cluster(name: &str, endpoints: &[(String, u16)]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, port)| {
            json!({"load_balancing_weight": 1, "endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}})
        })
        .collect();
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "10s", "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{"max_connections": NO_LIMIT, "max_pending_requests": NO_LIMIT,
            "max_requests": NO_LIMIT, "max_retries": NO_LIMIT, "track_remaining": true}]},
        "common_lb_config": {"locality_weighted_lb_config": {}},
        "load_assignment": {"cluster_name": name, "endpoints": [{
            "locality": {"region": "r1", "zone": "z1"}, "load_balancing_weight": endpoints.len(), "lb_endpoints": endpoints}]}
    })
}

fn virtual_host(name: &str, others: &[&str], cluster: &str) -> Value {
    let domains: Vec<&str> = [name].iter().chain(others).copied().collect();
    json!({"name": format!("{name}:80"), "domains": domains, "include_request_attempt_count": true, "routes": [{
        "name": "default", "match": {"prefix": "/"}, "decorator": {"operation": format!("{name}:80/*")},
        "route": {"cluster": cluster, "timeout": "0s", "retry_policy": {
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
            "num_retries": 2, "host_selection_retry_max_attempts": "5",
            "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": typed("retry.host.previous_hosts.v3.PreviousHostsPredicate", json!({}))}]}}}]})
}

fn http_connection_manager(scenario: &Scenario, hosts: Vec<Value>, istio_filters: bool) -> Value {
    let filter = |name: &str, kind: &str| json!({"name": name, "typed_config": typed(kind, json!({}))});
    let mut filters = vec![
        filter("envoy.filters.http.fault", "filters.http.fault.v3.HTTPFault"),
        filter("envoy.filters.http.cors", "filters.http.cors.v3.Cors"),
    ];
    if scenario.metrics && istio_filters {
        filters.push(
            json!({"name": "istio.stats", "typed_config": {"@type": format!("{TYPE}stats.PluginConfig")}}),
        );
    }
    filters.push(filter("envoy.filters.http.router", "filters.http.router.v3.Router"));
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager", json!({
            "stat_prefix": "outbound_0.0.0.0_80;", "codec_type": "AUTO", "normalize_path": true,
            "stream_idle_timeout": "0s", "use_remote_address": false, "generate_request_id": true,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "access_log": access_log(scenario.access_log.as_deref()),
            "http_filters": filters,
            "route_config": {"name": "80", "validate_clusters": false, "ignore_port_in_host_matching": true, "virtual_hosts": hosts}}))})
}

fn access_log(file: Option<&Path>) -> Value {
    let Some(file) = file else { return json!([]) };
    json!([{"name": "envoy.access_loggers.file", "typed_config": typed("access_loggers.file.v3.FileAccessLog", json!({
        "path": file, "log_format": {"text_format_source": {"inline_string": ACCESS_LOG_FORMAT}}}))}])
}

fn tcp_proxy(scenario: &Scenario) -> Value {
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": typed(
        "filters.network.tcp_proxy.v3.TcpProxy",
        json!({"stat_prefix": CLUSTER, "cluster": CLUSTER, "access_log": access_log(scenario.access_log.as_deref())}))})
}

fn typed(kind: &str, mut fields: Value) -> Value {
    fields["@type"] = json!(format!("{TYPE}envoy.extensions.{kind}"));
    fields
}
