//! Network filters: HTTP connection manager and TCP proxy.

use ringsail_api::istio::mesh::v1alpha1::mesh_config::proxy_path_normalization;
use ringsail_api::networking::load_balancer_settings::consistent_hash_lb::HashKey;
use ringsail_api::networking::{Destination, RouteDestination};
use ringsail_model::telemetry::Role;
use ringsail_model::{MeshSettings, Protocol, Service};
use ringsail_xds::envoy::config::core::v3::{Http1ProtocolOptions, HttpProtocolOptions};
use ringsail_xds::envoy::config::listener::v3::Filter;
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;
use ringsail_xds::envoy::extensions::filters::http::cors::v3::Cors;
use ringsail_xds::envoy::extensions::filters::http::fault::v3::HttpFault;
use ringsail_xds::envoy::extensions::filters::http::grpc_stats::v3::{
    FilterConfig as GrpcStats, filter_config::PerMethodStatSpecifier,
};
use ringsail_xds::envoy::extensions::filters::http::grpc_web::v3::GrpcWeb;
use ringsail_xds::envoy::extensions::filters::http::router::v3::Router;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, SetCurrentClientCertDetails, UpgradeConfig,
};
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, RequestIdExtension, http_filter,
};
use ringsail_xds::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight,
};
use ringsail_xds::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use ringsail_xds::envoy::r#type::v3::{HashPolicy, hash_policy, hash_policy::SourceIp};
use ringsail_xds::pack;

use super::telemetry::{METADATA_EXCHANGE, STATS, metadata_exchange};
use crate::cluster::PortPolicy;
use crate::route::filters as http_filters;
use crate::route::sidecar::{Outbound, find_service};
use crate::route::virtual_service::{consistent_hash, destination_cluster, destination_port};
use crate::{names, proxy_config, xds};

/// Name of the HTTP connection manager in a chain.
pub(crate) const HTTP_CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
/// Name of the TCP proxy in a chain.
pub(crate) const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
/// What `server` says towards clients outside the proxy's own workload.
const SERVER_NAME: &str = "istio-envoy";

/// Which side of the mesh a connection manager serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Requests from the sidecar's own workload.
    Outbound,
    /// The same on the explicit HTTP proxy listener.
    HttpProxy,
    /// Requests to the sidecar's own workload.
    Inbound,
    /// A gateway.
    Gateway,
}

impl Side {
    fn role(self) -> Role {
        match self {
            Side::Inbound => Role::Server,
            Side::Outbound | Side::HttpProxy | Side::Gateway => Role::Client,
        }
    }
}

/// Where routes come from.
pub(crate) enum Routes {
    /// By name from the control plane.
    Named(String),
    /// Part of the listener.
    Inline(Box<RouteConfiguration>),
}

/// An HTTP connection manager.
pub(crate) fn http(
    stat_prefix: &str,
    routes: Routes,
    side: Side,
    protocol: Protocol,
    outbound: Outbound<'_>,
) -> Filter {
    let Outbound { mesh, proxy, telemetry, config, .. } = outbound;
    let telemetry = telemetry.side(side.role());
    let route_specifier = match routes {
        Routes::Named(name) => {
            RouteSpecifier::Rds(Rds { config_source: Some(xds::ads()), route_config_name: name })
        }
        Routes::Inline(configuration) => RouteSpecifier::RouteConfig(*configuration),
    };
    let (forward, details) = match side {
        Side::Inbound => (ForwardClientCertDetails::AppendForward, Some(client_cert_details(false))),
        Side::Gateway => (ForwardClientCertDetails::SanitizeSet, Some(client_cert_details(true))),
        Side::Outbound | Side::HttpProxy => (ForwardClientCertDetails::Sanitize, None),
    };
    let http1 = match side {
        Side::HttpProxy => Some(Http1ProtocolOptions {
            allow_absolute_url: Some(true),
            accept_http_10: proxy.http10,
            ..Http1ProtocolOptions::default()
        }),
        _ if proxy.http10 => {
            Some(Http1ProtocolOptions { accept_http_10: true, ..Http1ProtocolOptions::default() })
        }
        _ => None,
    };
    let (normalize, merge_slashes, escaped) = path_normalization(mesh.settings());
    let mut manager = HttpConnectionManager {
        stat_prefix: stat_prefix.to_owned(),
        http_filters: chain(side, protocol, outbound),
        server_name: match side {
            Side::Inbound | Side::Gateway => SERVER_NAME.to_owned(),
            Side::Outbound | Side::HttpProxy => String::new(),
        },
        use_remote_address: Some(side == Side::Gateway),
        forward_client_cert_details: forward as i32,
        set_current_client_cert_details: details,
        proxy_100_continue: side != Side::HttpProxy,
        http_protocol_options: http1,
        common_http_protocol_options: proxy.idle_timeout_seconds.map(|seconds| HttpProtocolOptions {
            idle_timeout: Some(xds::duration(std::time::Duration::from_secs(seconds))),
            ..HttpProtocolOptions::default()
        }),
        stream_idle_timeout: Some(xds::ZERO),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..UpgradeConfig::default()
        }],
        normalize_path: Some(normalize),
        merge_slashes,
        path_with_escaped_slashes_action: escaped as i32,
        access_log: telemetry.request_log.clone(),
        tracing: telemetry.tracing.clone(),
        request_id_extension: Some(RequestIdExtension { typed_config: Some(telemetry.request_id.clone()) }),
        route_specifier: Some(route_specifier),
        ..HttpConnectionManager::default()
    };
    proxy_config::apply(&mut manager, side, proxy, config);
    xds::network_filter(HTTP_CONNECTION_MANAGER, &manager)
}

fn client_cert_details(cert: bool) -> SetCurrentClientCertDetails {
    SetCurrentClientCertDetails {
        subject: Some(true),
        uri: true,
        dns: true,
        cert,
        ..SetCurrentClientCertDetails::default()
    }
}

/// HTTP filters in order. Fault and CORS do nothing until a route configures them; a proxy that does not know Istio's
/// own filters, such as a stock Envoy, gets none of them.
fn chain(side: Side, protocol: Protocol, outbound: Outbound<'_>) -> Vec<HttpFilter> {
    let Outbound { proxy, telemetry, config, .. } = outbound;
    let filter = |name: &str, config| HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    };
    let grpc_stats = GrpcStats {
        emit_filter_state: true,
        per_method_stat_specifier: Some(PerMethodStatSpecifier::StatsForAllMethods(false)),
        ..GrpcStats::default()
    };
    let mut filters = vec![
        filter("envoy.filters.http.grpc_stats", pack(&grpc_stats)),
        filter(http_filters::FAULT, pack(&HttpFault::default())),
        filter(http_filters::CORS, pack(&Cors {})),
    ];
    if protocol == Protocol::GrpcWeb {
        filters.insert(0, filter("envoy.filters.http.grpc_web", pack(&GrpcWeb {})));
    }
    if proxy.istio_filters {
        filters.insert(
            0,
            filter(METADATA_EXCHANGE, metadata_exchange(side, proxy_config::tells_only_the_mesh(config))),
        );
    }
    filters.extend(telemetry.side(side.role()).stats.iter().map(|config| filter(STATS, config.clone())));
    let router =
        Router { suppress_envoy_headers: proxy_config::hides_envoy_headers(config), ..Router::default() };
    filters.push(filter("envoy.filters.http.router", pack(&router)));
    filters
}

fn path_normalization(settings: &MeshSettings) -> (bool, bool, PathWithEscapedSlashesAction) {
    use proxy_path_normalization::NormalizationType;
    let keep = PathWithEscapedSlashesAction::KeepUnchanged;
    match settings.config.path_normalization.as_ref().map(|setting| setting.normalization()) {
        Some(NormalizationType::None) => (false, false, keep),
        Some(NormalizationType::MergeSlashes) => (true, true, keep),
        Some(NormalizationType::DecodeAndMergeSlashes) => {
            (true, true, PathWithEscapedSlashesAction::UnescapeAndForward)
        }
        Some(NormalizationType::Default | NormalizationType::Base) | None => (true, false, keep),
    }
}

/// A TCP proxy to one cluster that no DestinationRule is about.
pub(crate) fn tcp(cluster: &str, role: Role, outbound: Outbound<'_>) -> Filter {
    let specifier = ClusterSpecifier::Cluster(cluster.to_owned());
    tcp_proxy(cluster, specifier, &TcpPolicy::default(), role, outbound)
}

/// A TCP proxy to the cluster of a service's port.
pub(crate) fn tcp_service(cluster: &str, service: &Service, port: u32, outbound: Outbound<'_>) -> Filter {
    let policy = TcpPolicy::of(service, "", port, outbound);
    let specifier = ClusterSpecifier::Cluster(cluster.to_owned());
    tcp_proxy(cluster, specifier, &policy, Role::Client, outbound)
}

/// A TCP proxy to the destinations of a route, weighted per connection.
///
/// Compat: of several destinations the first one's DestinationRule counts, and its subset's policy does not.
pub(crate) fn tcp_route(
    destinations: &[RouteDestination],
    port: u32,
    outbound: Outbound<'_>,
) -> Option<Filter> {
    let Outbound { mesh, proxy, view, .. } = outbound;
    let service = |host: &str| find_service(mesh, view, proxy, host);
    let usable: Vec<(&Destination, String, i32)> = destinations
        .iter()
        .filter_map(|entry| {
            let destination = entry.destination.as_ref()?;
            let cluster = destination_cluster(destination, service(&destination.host), port);
            Some((destination, cluster, entry.weight))
        })
        .collect();
    let policy = |destination: &Destination, subset: &str| match service(&destination.host) {
        Some(service) => {
            TcpPolicy::of(service, subset, destination_port(destination, Some(service), port), outbound)
        }
        None => TcpPolicy::default(),
    };
    let (policy, specifier) = match &usable[..] {
        [] => return None,
        [(destination, cluster, _)] => {
            (policy(destination, &destination.subset), ClusterSpecifier::Cluster(cluster.clone()))
        }
        [(first, ..), ..] => {
            let clusters = usable
                .iter()
                .filter_map(|(_, name, weight)| {
                    let weight = u32::try_from(*weight).ok().filter(|weight| *weight > 0)?;
                    Some(ClusterWeight { name: name.clone(), weight, ..ClusterWeight::default() })
                })
                .collect();
            (policy(first, ""), ClusterSpecifier::WeightedClusters(WeightedCluster { clusters }))
        }
    };
    Some(tcp_proxy(&usable[0].1, specifier, &policy, Role::Client, outbound))
}

/// What a DestinationRule says of TCP connections.
#[derive(Default)]
struct TcpPolicy {
    idle_timeout: Option<prost_types::Duration>,
    duration_max: Option<prost_types::Duration>,
    /// Connections of one client go to one endpoint.
    by_source_ip: bool,
}

impl TcpPolicy {
    /// Compat: limits of connections are the destination's, whatever its subset says; balancing is the subset's.
    fn of(service: &Service, subset: &str, port: u32, outbound: Outbound<'_>) -> TcpPolicy {
        let Outbound { mesh, proxy, .. } = outbound;
        let rule = mesh.destination_rule(&proxy.namespace, &proxy.labels, service);
        let effective =
            |subset| PortPolicy::effective(rule.map(|rule| &**rule), subset, port, mesh.settings());
        let pool = effective("").pool.and_then(|pool| pool.tcp);
        let hash = consistent_hash(effective(subset).load_balancer);
        TcpPolicy {
            idle_timeout: pool.and_then(|tcp| tcp.idle_timeout),
            duration_max: pool.and_then(|tcp| tcp.max_connection_duration),
            by_source_ip: hash.is_some_and(|hash| hash.hash_key == Some(HashKey::UseSourceIp(true))),
        }
    }
}

fn tcp_proxy(
    stat_prefix: &str,
    specifier: ClusterSpecifier,
    policy: &TcpPolicy,
    role: Role,
    outbound: Outbound<'_>,
) -> Filter {
    let of_proxy = outbound.proxy.idle_timeout_seconds.map(std::time::Duration::from_secs);
    let by_source_ip =
        HashPolicy { policy_specifier: Some(hash_policy::PolicySpecifier::SourceIp(SourceIp {})) };
    let filter = TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        idle_timeout: policy.idle_timeout.or(of_proxy.map(xds::duration)),
        max_downstream_connection_duration: policy.duration_max,
        hash_policy: if policy.by_source_ip { vec![by_source_ip] } else { Vec::new() },
        access_log: outbound.telemetry.side(role).connection_log.clone(),
        cluster_specifier: Some(specifier),
        ..TcpProxy::default()
    };
    xds::network_filter(TCP_PROXY, &filter)
}

/// Where traffic to unknown destinations goes, as a TCP proxy.
pub(crate) fn catch_all(outbound: Outbound<'_>) -> Filter {
    let view = outbound.view;
    let cluster = match view.outbound {
        ringsail_model::OutboundMode::RegistryOnly => names::BLACK_HOLE.to_owned(),
        ringsail_model::OutboundMode::AllowAny => match &view.egress_proxy {
            Some(destination) => {
                destination_cluster(destination, view.service(&destination.host).map(|service| &**service), 0)
            }
            None => names::PASSTHROUGH.to_owned(),
        },
    };
    tcp(&cluster, Role::Client, outbound)
}
