//! `virtualOutbound`: takes captured outbound connections and hands them to the listener of their original
//! destination; its own chains serve what no listener wants.

use ringsail_model::InterceptionMode;
use ringsail_model::telemetry::Role;
use ringsail_xds::envoy::config::core::v3::TrafficDirection;
use ringsail_xds::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

use super::filters;
use crate::route::sidecar::Outbound;
use crate::{names, xds};

/// Builds the listener.
#[allow(deprecated)]
pub(crate) fn build(outbound: Outbound<'_>) -> Listener {
    let Outbound { mesh, proxy, telemetry, .. } = outbound;
    let port = mesh.settings().outbound_port();
    let address = if proxy.has_ipv4() { "0.0.0.0" } else { "::" };
    // Connections to the listener's own port would come back to it for ever.
    let loop_guard = FilterChain {
        name: "virtualOutbound-blackhole".to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(port),
            ..FilterChainMatch::default()
        }),
        filters: vec![filters::tcp(names::BLACK_HOLE, Role::Client, outbound)],
        ..FilterChain::default()
    };
    let catch_all = FilterChain {
        name: "virtualOutbound-catchall-tcp".to_owned(),
        filters: vec![filters::catch_all(outbound)],
        ..FilterChain::default()
    };
    Listener {
        name: names::VIRTUAL_OUTBOUND.to_owned(),
        address: Some(xds::tcp_address(address, port)),
        // Compat: deprecated in Envoy and still what istiod sends; there is no other way to hand connections over.
        use_original_dst: Some(true),
        transparent: (proxy.interception == InterceptionMode::Tproxy).then_some(true),
        traffic_direction: TrafficDirection::Outbound as i32,
        max_connections_to_accept_per_socket_event: Some(1),
        access_log: telemetry.side(Role::Client).listener_log.clone(),
        filter_chains: vec![loop_guard, catch_all],
        ..Listener::default()
    }
}
