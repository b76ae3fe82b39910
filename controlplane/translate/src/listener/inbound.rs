//! Inbound traffic of sidecars: `virtualInbound`, or bound listeners where traffic is not captured, and the clusters
//! of the workload's own ports.

use std::net::IpAddr;
use std::sync::Arc;

use ringsail_api::networking::{ConnectionPoolSettings, IstioIngressListener};
use ringsail_model::telemetry::Role;
use ringsail_model::{InterceptionMode, MeshSettings, Protocol, Service};
use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use ringsail_xds::envoy::config::core::v3::{Address, BindConfig, TrafficDirection, socket_address};
use ringsail_xds::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use ringsail_xds::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener, ListenerFilter, ListenerFilterChainMatchPredicate,
    listener_filter_chain_match_predicate::{MatchSet, Rule},
};
use ringsail_xds::envoy::config::route::v3::route_action::{ClusterSpecifier, MaxStreamDuration};
use ringsail_xds::envoy::config::route::v3::{Decorator, Route, RouteAction, RouteMatch, VirtualHost, route};
use ringsail_xds::envoy::config::route::v3::{RouteConfiguration, route_match::PathSpecifier};
use ringsail_xds::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use ringsail_xds::envoy::r#type::v3::Int32Range;
use ringsail_xds::pack;

use super::chain;
use super::filters::{self, Routes, Side};
use crate::cluster::{PortPolicy, service_metadata};
use crate::policy::{self, UpstreamProtocol};
use crate::route::retry;
use crate::route::sidecar::Outbound;
use crate::{names, xds};

/// Source of inbound connections to the workload, by which capture rules tell them from the workload's own.
const INBOUND_SOURCE_V4: &str = "127.0.0.6";
/// The same for IPv6.
const INBOUND_SOURCE_V6: &str = "::6";
/// Inbound ORIGINAL_DST hosts are kept practically for ever: they are the workload itself.
const CLEANUP_INTERVAL_NEVER: prost_types::Duration =
    prost_types::Duration { seconds: 60 * 60 * 24 * 365, nanos: 0 };
/// Idle time of connections to passed-through ports, 5 minutes. Source: istiod `cluster_builder.go`.
const PASSTHROUGH_IDLE_TIMEOUT: prost_types::Duration = prost_types::Duration { seconds: 300, nanos: 0 };

/// One port of the workload that is served.
pub(crate) struct InboundPort {
    /// Port of the workload.
    port: u32,
    protocol: Protocol,
    /// Number of the service port, for names.
    service_port: u32,
    /// Host name for traces.
    host: String,
    /// The service it belongs to; a Sidecar's own ports may have none.
    service: Option<Arc<Service>>,
    /// Where a Sidecar says the workload listens.
    endpoint: Option<Address>,
    /// A listener of its own with this address, instead of a chain of the captured listener.
    bind: Option<IpAddr>,
    pool: Option<ConnectionPoolSettings>,
}

/// The ports of the workload: those a Sidecar declares, else those of its services; one per number, in order. Of
/// several services on one port the oldest decides.
pub(crate) fn ports(outbound: Outbound<'_>) -> Vec<InboundPort> {
    let Outbound { mesh, proxy, view, .. } = outbound;
    let instances = mesh.instances_at(&proxy.ips);
    let sidecar = view.sidecar.as_deref();
    let declared = sidecar.map_or(&[][..], |sidecar| &sidecar.spec.ingress);
    let pool_of_sidecar = sidecar.and_then(|sidecar| sidecar.spec.inbound_connection_pool);
    let mut ports: Vec<InboundPort> = Vec::new();
    if declared.is_empty() {
        for (service, instance) in instances {
            let Some(port) = service.port(instance.service_port) else { continue };
            if port.protocol == Protocol::Udp || ports.iter().any(|known| known.port == instance.port) {
                continue;
            }
            ports.push(InboundPort {
                port: instance.port,
                protocol: port.protocol,
                service_port: port.number,
                host: service.hostname().to_owned(),
                endpoint: None,
                bind: proxy.app_address.map(|_| proxy.ip()),
                pool: pool_of_sidecar,
                service: Some(service),
            });
        }
    } else if let Some(sidecar) = sidecar {
        for listener in declared {
            let Some(port) = &listener.port else { continue };
            let owner = instances.iter().find(|(_, instance)| instance.port == port.number);
            ports.push(InboundPort {
                port: port.number,
                protocol: Protocol::parse(&port.protocol),
                service_port: port.number,
                host: format!("{}.{}", sidecar.name, sidecar.namespace),
                endpoint: default_endpoint(listener),
                bind: ingress_bind(listener, outbound),
                pool: listener.connection_pool.or(pool_of_sidecar),
                service: owner.or(instances.first()).map(|(service, _)| Arc::clone(service)),
            });
        }
    }
    ports.sort_by_key(|port| port.port);
    ports
}

/// Where a bound ingress listener listens; `None` for a chain of the captured listener.
fn ingress_bind(listener: &IstioIngressListener, outbound: Outbound<'_>) -> Option<IpAddr> {
    use ringsail_api::networking::CaptureMode;
    let proxy = outbound.proxy;
    let bound = match listener.capture_mode() {
        CaptureMode::None => true,
        CaptureMode::Iptables => false,
        CaptureMode::Default => proxy.is_uncaptured(),
    };
    let declared: Option<IpAddr> = listener.bind.parse().ok();
    bound.then(|| {
        let everywhere = if proxy.has_ipv4() { IpAddr::from([0, 0, 0, 0]) } else { IpAddr::from([0_u16; 8]) };
        declared.unwrap_or(if proxy.app_address.is_some() { proxy.ip() } else { everywhere })
    })
}

/// `127.0.0.1:p`, `[::1]:p` and Unix sockets are dialled; `0.0.0.0:p` and `[::]:p` mean the workload's own address.
fn default_endpoint(listener: &IstioIngressListener) -> Option<Address> {
    let text = listener.default_endpoint.as_str();
    if let Some(path) = text.strip_prefix("unix://") {
        return Some(xds::pipe_address(path));
    }
    let address: std::net::SocketAddr = text.parse().ok()?;
    (!address.ip().is_unspecified())
        .then(|| xds::tcp_address(&address.ip().to_string(), u32::from(address.port())))
}

/// The clusters of the workload's ports, and the one for all other captured ports.
pub(crate) fn clusters(ports: &[InboundPort], outbound: Outbound<'_>) -> Vec<Cluster> {
    let Outbound { mesh, proxy, .. } = outbound;
    let settings = mesh.settings();
    let mut clusters: Vec<Cluster> = ports.iter().map(|port| cluster(port, outbound)).collect();
    if proxy.interception != InterceptionMode::None {
        let mut passthrough = original_destination(names::INBOUND_PASSTHROUGH, settings);
        passthrough.alt_stat_name = names::stat_prefix(names::INBOUND_PASSTHROUGH);
        passthrough.upstream_bind_config = Some(bind_config(proxy.has_ipv4()));
        policy::use_downstream_protocol(&mut passthrough, Some(PASSTHROUGH_IDLE_TIMEOUT));
        clusters.push(passthrough);
    }
    clusters
}

/// A cluster of the address the client dialled.
pub(crate) fn original_destination(name: &str, settings: &MeshSettings) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(xds::duration(settings.connect_timeout())),
        lb_policy: LbPolicy::ClusterProvided as i32,
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32)),
        circuit_breakers: Some(policy::circuit_breakers(None, None)),
        ..Cluster::default()
    }
}

fn bind_config(ipv4: bool) -> BindConfig {
    let source = if ipv4 { INBOUND_SOURCE_V4 } else { INBOUND_SOURCE_V6 };
    let mut address = xds::socket_address(source, 0);
    address.port_specifier = Some(socket_address::PortSpecifier::PortValue(0));
    BindConfig { source_address: Some(address), ..BindConfig::default() }
}

fn cluster(port: &InboundPort, outbound: Outbound<'_>) -> Cluster {
    let Outbound { mesh, proxy, .. } = outbound;
    let settings = mesh.settings();
    let name = names::inbound_cluster(port.port);
    let rule = port
        .service
        .as_ref()
        .and_then(|service| mesh.destination_rule(&proxy.namespace, &proxy.labels, service));
    let declared = PortPolicy::effective(rule.map(|rule| &**rule), "", port.service_port, settings);
    let pool = port.pool.as_ref().or(declared.pool);
    let static_endpoint = port.endpoint.clone().or_else(|| {
        let address = match proxy.app_address {
            Some(address) => address,
            None if settings.inbound_to_localhost() || port.bind.is_some() => loopback(proxy.has_ipv4()),
            None => return None,
        };
        Some(xds::tcp_address(&address.to_string(), port.port))
    });
    let mut cluster = original_destination(&name, settings);
    cluster.alt_stat_name = names::stat_prefix(&name);
    match static_endpoint {
        Some(address) => {
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32));
            cluster.lb_policy = LbPolicy::RoundRobin as i32;
            cluster.load_assignment = Some(single_endpoint(&name, address));
        }
        None => {
            cluster.cleanup_interval = Some(CLEANUP_INTERVAL_NEVER);
            cluster.upstream_bind_config = Some(bind_config(proxy.has_ipv4()));
        }
    }
    cluster.circuit_breakers = Some(policy::circuit_breakers(pool, None));
    policy::apply_pool(&mut cluster, pool, settings);
    let protocol = match port.protocol {
        p if p.is_http2() => UpstreamProtocol::Http2,
        Protocol::Auto => UpstreamProtocol::Downstream,
        _ => UpstreamProtocol::Http1,
    };
    // The upgrade policy is about clients: the workload is spoken to in the protocol its port declares.
    let own = pool.copied().map(|mut pool| {
        if let Some(http) = &mut pool.http {
            use ringsail_api::networking::connection_pool_settings::http_settings::H2UpgradePolicy;
            http.h2_upgrade_policy = H2UpgradePolicy::DoNotUpgrade as i32;
        }
        pool
    });
    policy::apply_protocol(&mut cluster, protocol, Protocol::Tcp, own.as_ref(), settings);
    if let Some(service) = &port.service {
        cluster.metadata = Some(xds::istio_metadata(service_metadata([service])));
    }
    cluster
}

fn loopback(ipv4: bool) -> IpAddr {
    if ipv4 { IpAddr::from([127, 0, 0, 1]) } else { IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]) }
}

fn single_endpoint(cluster: &str, address: Address) -> ClusterLoadAssignment {
    let endpoint = Endpoint { address: Some(address), ..Endpoint::default() };
    let lb_endpoint = LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..LbEndpoint::default()
    };
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![lb_endpoint],
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

/// The inbound listeners: the captured one unless traffic is not captured, and the bound ones.
pub(crate) fn listeners(ports: &[InboundPort], outbound: Outbound<'_>) -> Vec<Listener> {
    let mut listeners = Vec::new();
    if outbound.proxy.interception != InterceptionMode::None {
        let chained: Vec<&InboundPort> = ports.iter().filter(|port| port.bind.is_none()).collect();
        listeners.push(virtual_inbound(&chained, outbound));
    }
    let bound = ports.iter().filter_map(|port| Some((port, port.bind?)));
    listeners.extend(bound.map(|(port, address)| bound_listener(port, address, outbound)));
    listeners
}

/// A real listener for one port.
fn bound_listener(port: &InboundPort, address: IpAddr, outbound: Outbound<'_>) -> Listener {
    let mut listener = Listener {
        name: names::listener(address, port.port),
        address: Some(xds::tcp_address(&address.to_string(), port.port)),
        traffic_direction: TrafficDirection::Inbound as i32,
        access_log: outbound.telemetry.side(Role::Server).listener_log.clone(),
        continue_on_listener_filters_timeout: true,
        ..Listener::default()
    };
    let chains = port_chains(port, &format!("{address}"), outbound);
    let needs_http = chains.iter().any(|(test, _)| *test == Test::PlaintextHttp);
    if needs_http {
        listener.listener_filters.push(chain::http_inspector());
        listener.listener_filters_timeout = Some(detection_timeout(outbound));
    }
    listener.filter_chains = chains
        .into_iter()
        .map(|(test, mut chain)| {
            chain.filter_chain_match = match test {
                Test::PlaintextHttp => Some(test.chain_match(None)),
                Test::Plaintext => None,
            };
            chain
        })
        .collect();
    listener
}

/// What an inbound chain tests of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    /// Not TLS.
    Plaintext,
    /// Not TLS, and HTTP by its first bytes.
    PlaintextHttp,
}

impl Test {
    fn chain_match(self, port: Option<u32>) -> FilterChainMatch {
        let alpn: &[&str] = match self {
            Test::Plaintext => &[],
            Test::PlaintextHttp => &["http/1.1", "h2c"],
        };
        FilterChainMatch {
            destination_port: port,
            transport_protocol: "raw_buffer".to_owned(),
            application_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
            ..FilterChainMatch::default()
        }
    }
}

/// The chains of one port, without their matches.
fn port_chains(port: &InboundPort, bind: &str, outbound: Outbound<'_>) -> Vec<(Test, FilterChain)> {
    let cluster = names::inbound_cluster(port.port);
    let name = format!("{bind}_{}", port.port);
    let chain = |filter| FilterChain { name: name.clone(), filters: vec![filter], ..FilterChain::default() };
    let http = || {
        let routes =
            inbound_routes(&cluster, port.service_port, &port.host, port.protocol, outbound.mesh.settings());
        let stat_prefix = names::stat_prefix(&format!("inbound_{name}"));
        filters::http(&stat_prefix, Routes::Inline(Box::new(routes)), Side::Inbound, port.protocol, outbound)
    };
    let tcp = || filters::tcp(&cluster, Role::Server, outbound);
    if port.protocol.is_http() {
        vec![(Test::Plaintext, chain(http()))]
    } else if port.protocol.is_tcp() {
        vec![(Test::Plaintext, chain(tcp()))]
    } else {
        vec![(Test::PlaintextHttp, chain(http())), (Test::Plaintext, chain(tcp()))]
    }
}

/// One route to the workload. Timeouts are the client side's business; its `grpc-timeout` is kept without a cap.
fn inbound_routes(
    cluster: &str,
    service_port: u32,
    host: &str,
    protocol: Protocol,
    settings: &MeshSettings,
) -> RouteConfiguration {
    let retries = !matches!(protocol, Protocol::Grpc | Protocol::GrpcWeb);
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        timeout: Some(xds::ZERO),
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: Some(xds::ZERO),
            grpc_timeout_header_max: Some(xds::ZERO),
            ..MaxStreamDuration::default()
        }),
        retry_policy: retries.then(|| retry::inbound(settings)).flatten(),
        ..RouteAction::default()
    };
    let route = Route {
        name: "default".to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
        decorator: Some(Decorator {
            operation: format!("{}/*", names::host_port(host, service_port)),
            ..Decorator::default()
        }),
        action: Some(route::Action::Route(action)),
        ..Route::default()
    };
    let virtual_host = VirtualHost {
        name: format!("inbound|http|{service_port}"),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..VirtualHost::default()
    };
    RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![virtual_host],
        validate_clusters: Some(false),
        ..RouteConfiguration::default()
    }
}

fn detection_timeout(outbound: Outbound<'_>) -> prost_types::Duration {
    outbound.mesh.settings().config.protocol_detection_timeout.unwrap_or(xds::ZERO)
}

/// The captured listener: chains by destination port, and passing through for ports that no service has.
fn virtual_inbound(ports: &[&InboundPort], outbound: Outbound<'_>) -> Listener {
    let Outbound { mesh, proxy, .. } = outbound;
    let settings = mesh.settings();
    let own_port = settings.inbound_port();
    let loop_guard = FilterChain {
        name: "virtualInbound-blackhole".to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(own_port),
            ..FilterChainMatch::default()
        }),
        filters: vec![filters::tcp(names::BLACK_HOLE, Role::Server, outbound)],
        ..FilterChain::default()
    };
    let mut chains = vec![loop_guard];
    chains.extend(passthrough_chains(outbound));
    // Ports that are declared and not sniffed need no inspector: server-first protocols would wait for the client.
    let mut uninspected = vec![own_port];
    for port in ports {
        let built = port_chains(port, wildcard(outbound), outbound);
        if built.iter().all(|(test, _)| *test == Test::Plaintext) {
            uninspected.push(port.port);
        }
        chains.extend(built.into_iter().map(|(test, mut chain)| {
            chain.filter_chain_match = Some(test.chain_match(Some(port.port)));
            chain
        }));
    }
    let mut http_inspector = chain::http_inspector();
    http_inspector.filter_disabled = Some(any_port(&uninspected));
    let address = if proxy.has_ipv4() { "0.0.0.0" } else { "::" };
    Listener {
        name: names::VIRTUAL_INBOUND.to_owned(),
        address: Some(xds::tcp_address(address, own_port)),
        transparent: (proxy.interception == InterceptionMode::Tproxy).then_some(true),
        traffic_direction: TrafficDirection::Inbound as i32,
        access_log: outbound.telemetry.side(Role::Server).listener_log.clone(),
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: Some(detection_timeout(outbound)),
        listener_filters: vec![original_dst(), http_inspector],
        filter_chains: chains,
        ..Listener::default()
    }
}

fn wildcard(outbound: Outbound<'_>) -> &'static str {
    if outbound.proxy.has_ipv4() { "0.0.0.0" } else { "::" }
}

fn passthrough_chains(outbound: Outbound<'_>) -> [FilterChain; 2] {
    let cluster = names::INBOUND_PASSTHROUGH;
    let routes = inbound_routes(cluster, 0, cluster, Protocol::Auto, outbound.mesh.settings());
    let stat_prefix = names::stat_prefix(cluster);
    let routes = Routes::Inline(Box::new(routes));
    let http = filters::http(&stat_prefix, routes, Side::Inbound, Protocol::Auto, outbound);
    [
        FilterChain {
            name: "virtualInbound-catchall-http".to_owned(),
            filter_chain_match: Some(Test::PlaintextHttp.chain_match(None)),
            filters: vec![http],
            ..FilterChain::default()
        },
        FilterChain {
            name: names::VIRTUAL_INBOUND.to_owned(),
            filter_chain_match: Some(Test::Plaintext.chain_match(None)),
            filters: vec![filters::tcp(cluster, Role::Server, outbound)],
            ..FilterChain::default()
        },
    ]
}

fn original_dst() -> ListenerFilter {
    xds::listener_filter("envoy.filters.listener.original_dst", pack(&OriginalDst {}))
}

/// Holds for connections to one of these ports.
fn any_port(ports: &[u32]) -> ListenerFilterChainMatchPredicate {
    let one = |port: &u32| {
        let start = i32::try_from(*port).unwrap_or(i32::MAX);
        let range = Int32Range { start, end: start.saturating_add(1) };
        ListenerFilterChainMatchPredicate { rule: Some(Rule::DestinationPortRange(range)) }
    };
    match ports {
        [only] => one(only),
        several => ListenerFilterChainMatchPredicate {
            rule: Some(Rule::OrMatch(MatchSet { rules: several.iter().map(one).collect() })),
        },
    }
}
