//! Who is sent Istio's telemetry filters, and with which settings.

mod support;

use ringsail_translate::translate;
use ringsail_xds::envoy::config::listener::v3::{Listener, filter};
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_filter,
};
use ringsail_xds::io::istio::http::peer_metadata::Config;
use ringsail_xds::prost::Message as _;
use ringsail_xds::stats::PluginConfig;
use support::{Seen, mesh, node};

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  clusterIP: 10.0.0.1
  selector: {app: web}
  ports: [{name: http, port: 80}, {name: tcp-db, port: 5432}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default, labels: {app: web}}
status: {podIP: 10.1.0.1}
";

fn seen(istio: bool) -> Seen {
    let mut proxy = node("sidecar", "10.1.0.1", "default", &[]);
    proxy.istio_filters = istio;
    Seen::of(&translate(&mesh(SHOP), &proxy))
}

/// Network filters by name and packed settings, of every chain.
fn chains(listener: &Listener) -> Vec<Vec<(String, prost_types::Any)>> {
    let all = listener.filter_chains.iter().chain(listener.default_filter_chain.as_ref());
    all.map(|chain| {
        let filters = chain.filters.iter().filter_map(|found| match found.config_type.clone()? {
            filter::ConfigType::TypedConfig(any) => Some((found.name.clone(), any)),
            _ => None,
        });
        filters.collect()
    })
    .collect()
}

fn http_filters(any: &prost_types::Any) -> Vec<(String, prost_types::Any)> {
    let manager = HttpConnectionManager::decode(any.value.as_slice()).expect("a connection manager");
    let filters = manager.http_filters.into_iter().filter_map(|found| match found.config_type? {
        http_filter::ConfigType::TypedConfig(any) => Some((found.name, any)),
        _ => None,
    });
    filters.collect()
}

#[test]
fn every_chain_of_an_istio_proxy_measures() {
    let seen = seen(true);
    let (mut managers, mut relays) = (0, 0);
    for listener in &seen.listeners {
        for chain in chains(listener) {
            let names: Vec<&str> = chain.iter().map(|(name, _)| name.as_str()).collect();
            match names[..] {
                ["istio.stats", "envoy.filters.network.tcp_proxy"] => relays += 1,
                ["envoy.filters.network.http_connection_manager"] => {
                    managers += 1;
                    let filters = http_filters(&chain[0].1);
                    let names: Vec<&str> = filters.iter().map(|(name, _)| name.as_str()).collect();
                    assert_eq!(names.first(), Some(&"istio.metadata_exchange"), "{}", listener.name);
                    assert_eq!(names[names.len() - 2..], ["istio.stats", "envoy.filters.http.router"]);
                }
                _ => panic!("{}: {names:?}", listener.name),
            }
        }
    }
    assert!(managers >= 2 && relays >= 3, "{managers} connection managers, {relays} TCP proxies");
}

#[test]
fn a_server_answers_who_asked_and_does_not_trust_the_authority() {
    let seen = seen(true);
    let inbound = chains(seen.listener("virtualInbound"));
    let manager = inbound.iter().find(|chain| chain[0].0.ends_with("http_connection_manager")).expect("HTTP");
    let filters = http_filters(&manager[0].1);
    let peers = Config::decode(filters[0].1.value.as_slice()).expect("settings");
    assert_eq!((peers.downstream_discovery.len(), peers.downstream_propagation.len()), (2, 1));
    assert!(peers.upstream_propagation.is_empty());
    let (_, stats) = filters.iter().find(|(name, _)| name == "istio.stats").expect("metrics");
    let stats = PluginConfig::decode(stats.value.as_slice()).expect("settings");
    assert!(stats.disable_host_header_fallback);
}

#[test]
fn a_stock_envoy_is_sent_no_filter_it_does_not_know() {
    for listener in &seen(false).listeners {
        for (name, any) in chains(listener).into_iter().flatten() {
            assert_ne!(name, "istio.stats");
            if name.ends_with("http_connection_manager") {
                assert!(!http_filters(&any).iter().any(|(name, _)| name.starts_with("istio.")));
            }
        }
    }
}
