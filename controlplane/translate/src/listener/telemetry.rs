//! Istio's telemetry filters: who the peer is, and what is counted. Source: telemetry contract §1 and §2; istiod sends
//! them by default.

use prost_types::Any;
use ringsail_model::telemetry::Role;
use ringsail_xds::envoy::config::core::v3::TrafficDirection;
use ringsail_xds::envoy::config::listener::v3::{Filter, Listener, filter};
use ringsail_xds::io::istio::http::peer_metadata::Config;
use ringsail_xds::io::istio::http::peer_metadata::config::{
    DiscoveryMethod, IstioHeaders, PropagationMethod, WorkloadDiscovery, discovery_method, propagation_method,
};
use ringsail_xds::pack;

use super::filters::{Side, TCP_PROXY};
use crate::telemetry::ProxyTelemetry;

/// Name of the filter that counts.
pub(crate) const STATS: &str = "istio.stats";
/// Name of the filter that tells peers who we are.
pub(crate) const METADATA_EXCHANGE: &str = "istio.metadata_exchange";

/// How a connection manager learns of its peers and makes itself known. A server answers who asked; a client, and a
/// gateway towards the mesh, tells every server.
/// With `mesh_only` servers outside the mesh are told nothing.
pub(crate) fn metadata_exchange(side: Side, mesh_only: bool) -> Any {
    let headers = || IstioHeaders { skip_external_clusters: mesh_only };
    let discovery = || {
        let methods = [
            discovery_method::MethodSpecifier::IstioHeaders(headers()),
            discovery_method::MethodSpecifier::WorkloadDiscovery(WorkloadDiscovery {}),
        ];
        methods.map(|method| DiscoveryMethod { method_specifier: Some(method) }).to_vec()
    };
    let propagation = || {
        let method = propagation_method::MethodSpecifier::IstioHeaders(headers());
        vec![PropagationMethod { method_specifier: Some(method) }]
    };
    pack(&match side {
        Side::Inbound => Config {
            downstream_discovery: discovery(),
            downstream_propagation: propagation(),
            ..Config::default()
        },
        Side::Outbound | Side::HttpProxy | Side::Gateway => Config {
            upstream_discovery: discovery(),
            upstream_propagation: propagation(),
            ..Config::default()
        },
    })
}

/// Lets every TCP proxy of a listener count its connections.
pub(crate) fn measure_connections(listener: &mut Listener, telemetry: &ProxyTelemetry) {
    let role = match listener.traffic_direction() {
        TrafficDirection::Inbound => Role::Server,
        TrafficDirection::Outbound | TrafficDirection::Unspecified => Role::Client,
    };
    let stats = &telemetry.side(role).stats;
    for chain in listener.filter_chains.iter_mut().chain(listener.default_filter_chain.as_mut()) {
        if let Some(position) = chain.filters.iter().position(|filter| filter.name == TCP_PROXY) {
            let filters = stats.iter().map(|config| Filter {
                name: STATS.to_owned(),
                config_type: Some(filter::ConfigType::TypedConfig(config.clone())),
            });
            chain.filters.splice(position..position, filters);
        }
    }
}
