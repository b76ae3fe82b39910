use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::compile::tests::put;
use crate::filter_chain::Terminal;
use crate::hcm::{HttpConnectionManager, HttpFilter};
use crate::istio::{IstioStats, TagRule};
use crate::listener::Listener;
use crate::{Compiler, ResourceType};

const HCM: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const TYPED_STRUCT: &str = "type.googleapis.com/udpa.type.v1.TypedStruct";

/// A listener with these filters before its last one, HTTP or TCP.
fn compile(http: Vec<Value>, network: Vec<Value>) -> Result<Arc<Listener>, String> {
    let terminal = if network.is_empty() {
        let mut filters = http;
        filters.push(json!({"name": "router", "typed_config": {"@type": ROUTER}}));
        json!({"@type": HCM, "stat_prefix": "t", "http_filters": filters,
            "route_config": {"name": "r", "virtual_hosts": []}})
    } else {
        json!({"@type": TCP_PROXY, "stat_prefix": "t", "cluster": "c"})
    };
    let mut filters = network;
    filters.push(json!({"name": "last", "typed_config": terminal}));
    let listener = json!({"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
        "filter_chains": [{"filters": filters}]});
    let (tables, diagnostics) = Compiler::new().apply([put(ResourceType::Listener, listener)]);
    tables.listener_named("l").cloned().ok_or_else(|| format!("{diagnostics:?}"))
}

fn filter(name: &str, config: Value) -> Value {
    json!({"name": name, "typed_config": config})
}

fn stats_filter(mut settings: Value) -> Value {
    settings["@type"] = json!("type.googleapis.com/stats.PluginConfig");
    filter("istio.stats", settings)
}

fn manager(listener: &Listener) -> &HttpConnectionManager {
    match &listener.filter_chains[0].terminal {
        Terminal::Http(manager) => manager,
        Terminal::Tcp(_) => panic!("HTTP"),
    }
}

fn stats(settings: Value) -> Arc<IstioStats> {
    let listener = compile(vec![stats_filter(settings)], vec![]).expect("accepted");
    manager(&listener).stats.clone().expect("metrics are produced")
}

#[test]
fn defaults_are_istios() {
    let plain = stats(json!({}));
    assert!(!plain.waypoint && plain.host_header_fallback && plain.overrides.is_none());
    assert_eq!(plain.report_interval, Some(Duration::from_secs(5)));
    let set = stats(json!({"reporter": "SERVER_GATEWAY", "disable_host_header_fallback": true,
        "tcp_reporting_duration": "0s", "rotation_interval": "60s"}));
    assert!(set.waypoint && !set.host_header_fallback && set.report_interval.is_none());
    assert_eq!(set.expiry, Some(Duration::from_secs(360)));
}

#[test]
fn overrides_remove_replace_add_and_drop() {
    let stats = stats(json!({"metrics": [
        {"dimensions": {"role": "request.headers['x-role']", "request_protocol": "request.protocol"}},
        {"name": "requests_total", "tags_to_remove": ["response_flags"]},
        {"name": "request_bytes", "drop": true},
        {"name": "nonsense", "drop": true},
    ]}));
    let overrides = stats.overrides.as_ref().expect("there are some");
    assert_eq!(overrides.metrics.len(), 10);
    assert_eq!(overrides.expressions.len(), 2);
    let of = |name: &str| overrides.metrics.iter().find(|metric| metric.metric == name).expect("named");
    assert!(of("request_bytes").dropped && !of("requests_total").dropped);
    let requests = of("requests_total");
    assert!(requests.tags.iter().any(|(tag, rule)| tag == "response_flags" && *rule == TagRule::Remove));
    assert!(requests.tags.iter().any(|(tag, rule)| tag == "request_protocol" && *rule != TagRule::Remove));
    assert_eq!(requests.added.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["role"]);
    assert!(!of("response_bytes").tags.iter().any(|(tag, _)| tag == "response_flags"));
}

#[test]
fn an_expression_that_cannot_be_evaluated_refuses_the_listener_with_its_place() {
    let refusal = compile(
        vec![stats_filter(json!({"metrics": [{"dimensions": {"x": "request.headers.map(h, h)"}}]}))],
        vec![],
    )
    .expect_err("refused");
    assert!(refusal.contains("metrics[0].dimensions[\\\"x\\\"]"), "{refusal}");
    assert!(refusal.contains("cannot be iterated"), "{refusal}");
}

#[test]
fn connections_have_settings_of_their_own() {
    let listener =
        compile(vec![], vec![stats_filter(json!({"tcp_reporting_duration": "1s"}))]).expect("accepted");
    let stats = listener.filter_chains[0].stats.as_ref().expect("metrics are produced");
    assert_eq!(stats.report_interval, Some(Duration::from_secs(1)));
}

#[test]
fn peer_metadata_is_read_from_a_typed_struct() {
    let value = json!({"downstream_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}],
        "downstream_propagation": [{"istio_headers": {}}], "additional_labels": ["role"]});
    let config = json!({"@type": TYPED_STRUCT, "type_url": "type.googleapis.com/io.istio.http.peer_metadata.Config",
        "value": value});
    let listener = compile(vec![filter("istio.metadata_exchange", config)], vec![]).expect("accepted");
    let [HttpFilter::PeerMetadata(settings), HttpFilter::Router(_)] = &*manager(&listener).filters else {
        panic!("{:?}", manager(&listener).filters);
    };
    assert!(settings.downstream_headers && settings.answer_headers);
    assert!(!settings.upstream_headers && settings.send_headers.is_none());
    assert_eq!(settings.additional_labels.len(), 1);
}

#[test]
fn a_typed_struct_with_an_unknown_field_is_refused() {
    let config = json!({"@type": TYPED_STRUCT, "type_url": "type.googleapis.com/stats.PluginConfig",
        "value": {"no_such_field": true}});
    let refusal = compile(vec![filter("istio.stats", config)], vec![]).expect_err("refused");
    assert!(refusal.contains("no_such_field"), "{refusal}");
}
