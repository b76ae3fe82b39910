//! Route configurations.

pub(crate) mod filters;
pub(crate) mod gateway;
mod headers;
mod matching;
pub(crate) mod retry;
pub(crate) mod sidecar;
pub(crate) mod virtual_service;

use ringsail_xds::envoy::config::route::v3::{RouteConfiguration, VirtualHost};

/// Largest body of a direct response, in bytes. Source: istiod sets 1 MiB where Envoy's default is 4 KiB.
const DIRECT_RESPONSE_BYTES_MAX: u32 = 1 << 20;

/// A route configuration with the settings that all of them share.
pub(crate) fn configuration(name: &str, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts,
        // A route may name a cluster that does not exist: it answers 503 instead of blocking the whole update.
        validate_clusters: Some(false),
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: Some(DIRECT_RESPONSE_BYTES_MAX),
        ..RouteConfiguration::default()
    }
}
