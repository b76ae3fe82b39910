//! Gateways: which servers a router serves, merged over all Gateway objects that select it, and their listeners.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ringsail_api::networking::Server;
use ringsail_api::networking::server_tls_settings::TlSmode;
use ringsail_model::telemetry::Role;
use ringsail_model::{Gateway, Instance, Mesh, Protocol, Proxy, ServerHost, Service, host};
use ringsail_xds::envoy::config::core::v3::TrafficDirection;
use ringsail_xds::envoy::config::listener::v3::Listener;
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;

use crate::envoy_filter::GatewayPorts;
use crate::listener::chain::{self, Chain};
use crate::listener::filters::{self, Routes, Side};
use crate::listener::tcp::server_names;
use crate::route::sidecar::Outbound;
use crate::{names, proxy_config, route, xds};

/// A Service with this label does not translate gateway ports to its target ports.
const NO_PORT_TRANSLATION_LABEL: &str = "experimental.istio.io/disable-gateway-port-translation";
/// Lowest port that an unprivileged process may bind.
const UNPRIVILEGED_PORT_MIN: u32 = 1024;

/// A server of a Gateway object at the port where the router listens.
#[derive(Debug)]
pub(crate) struct BoundServer {
    /// The server.
    pub(crate) spec: Server,
    /// Namespace of the Gateway object.
    pub(crate) namespace: String,
    /// `namespace/name` of the Gateway object.
    pub(crate) gateway: String,
}

impl BoundServer {
    /// Port number as declared.
    pub(crate) fn port(&self) -> u32 {
        self.spec.port.as_ref().map_or(0, |port| port.number)
    }
}

/// What the servers of one listener have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Http,
    /// TLS that is not terminated.
    Tls,
    Tcp,
}

/// All servers of one listener.
#[derive(Debug)]
pub(crate) struct MergedPort {
    port: u32,
    bind: Option<IpAddr>,
    family: Family,
    servers: Vec<BoundServer>,
}

/// Listeners and routes of a router.
#[derive(Default)]
pub(crate) struct GatewayResources {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) routes: Vec<RouteConfiguration>,
    /// Ports of servers by the port where the router listens.
    pub(crate) ports: GatewayPorts,
}

/// Builds the listeners of a router and the routes they ask for.
pub(crate) fn build(outbound: Outbound<'_>) -> GatewayResources {
    let Outbound { mesh, proxy, view, telemetry, config } = outbound;
    let mut out = GatewayResources::default();
    for merged in merge(mesh, proxy) {
        out.ports.entry(merged.port).or_default().extend(merged.servers.iter().map(BoundServer::port));
        if proxy.unprivileged && merged.port < UNPRIVILEGED_PORT_MIN {
            continue;
        }
        let everywhere = if proxy.has_ipv4() { IpAddr::from([0, 0, 0, 0]) } else { IpAddr::from([0_u16; 8]) };
        // In a local mesh several gateways and sidecars share one host, so a router keeps to its own address.
        let default = if proxy.app_address.is_some() { proxy.ip() } else { everywhere };
        let address = merged.bind.unwrap_or(default);
        let name = names::listener(address, merged.port);
        let chains = match merged.family {
            Family::Http => {
                let routes = match merged.bind {
                    None => format!("http.{}", merged.port),
                    Some(bind) => format!("http.{}.{bind}", merged.port),
                };
                let servers: Vec<&BoundServer> = merged.servers.iter().collect();
                out.routes.push(route::gateway::build(&routes, &servers, mesh, proxy, view));
                let stat_prefix = names::stat_prefix(&format!("outbound_{name}"));
                let declared = merged.servers.first().and_then(|server| server.spec.port.as_ref());
                let protocol = declared.map_or(Protocol::Http, |port| Protocol::parse(&port.protocol));
                let routes = Routes::Named(routes);
                let filter = filters::http(&stat_prefix, routes, Side::Gateway, protocol, outbound);
                vec![Chain::of(filter)]
            }
            Family::Tcp => tcp_chains(&merged, outbound),
            Family::Tls => tls_chains(&merged, outbound),
        };
        if chains.is_empty() {
            continue;
        }
        let mut listener = Listener {
            name,
            address: Some(xds::tcp_address(&address.to_string(), merged.port)),
            traffic_direction: TrafficDirection::Outbound as i32,
            ..Listener::default()
        };
        listener.access_log.clone_from(&telemetry.side(Role::Client).listener_log);
        chain::fill(&mut listener, chains, None, proxy.http10, None);
        if proxy_config::expects_proxy_headers(config) {
            listener.listener_filters.insert(0, chain::proxy_protocol());
        }
        listener.continue_on_listener_filters_timeout = false;
        listener.listener_filters_timeout = None;
        out.listeners.push(listener);
    }
    out
}

/// Servers of all Gateways that select the router, by listener. The oldest server of a port decides what it is; those
/// that cannot share it are left out.
fn merge(mesh: &Mesh, proxy: &Proxy) -> Vec<MergedPort> {
    let instances = mesh.instances_at(&proxy.ips);
    let mut merged: Vec<MergedPort> = Vec::new();
    for gateway in mesh.gateways() {
        let Some(carriers) = carriers(gateway, proxy, &instances) else { continue };
        for server in &gateway.spec.servers {
            let Some(port) = &server.port else { continue };
            let Some(family) = family(server) else { continue };
            let bind: Option<IpAddr> = server.bind.parse().ok();
            for number in listen_ports(port.number, &carriers, gateway.bound_services.is_empty()) {
                let bound = BoundServer {
                    spec: server.clone(),
                    namespace: gateway.namespace.clone(),
                    gateway: gateway.key(),
                };
                match merged.iter_mut().find(|known| known.port == number && known.bind == bind) {
                    None => merged.push(MergedPort { port: number, bind, family, servers: vec![bound] }),
                    // Connections to two TCP servers on one port could not be told apart.
                    Some(known) if known.family == family && family != Family::Tcp => {
                        known.servers.push(bound)
                    }
                    Some(_) => {}
                }
            }
        }
    }
    merged
}

/// The services through which a router is reached, when the Gateway selects it.
fn carriers<'a>(
    gateway: &Gateway,
    proxy: &Proxy,
    instances: &'a [(Arc<Service>, Instance)],
) -> Option<Vec<&'a (Arc<Service>, Instance)>> {
    if gateway.bound_services.is_empty() {
        return gateway.selects(&proxy.labels).then(|| instances.iter().collect());
    }
    let named: Vec<_> = instances
        .iter()
        .filter(|(service, _)| {
            service.key.namespace == gateway.namespace && gateway.bound_services.contains(service.hostname())
        })
        .collect();
    (!named.is_empty()).then_some(named)
}

/// Ports to listen on for a declared one: the target port of the service that has it. By selector the first service
/// counts and an unknown port is taken as it is; by service name every target counts and an unknown port is none.
fn listen_ports(number: u32, carriers: &[&(Arc<Service>, Instance)], by_selector: bool) -> Vec<u32> {
    let translated = carriers
        .iter()
        .filter(|(service, _)| !(by_selector && service.labels.contains_key(NO_PORT_TRANSLATION_LABEL)))
        .filter(|(_, instance)| instance.service_port == number)
        .map(|(_, instance)| instance.port);
    if by_selector {
        return vec![translated.into_iter().next().unwrap_or(number)];
    }
    let mut ports: Vec<u32> = translated.collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// What a server is; `None` for servers that terminate TLS, which were refused when they were read.
fn family(server: &Server) -> Option<Family> {
    let protocol = Protocol::parse(&server.port.as_ref()?.protocol);
    if protocol.is_http() {
        return Some(Family::Http);
    }
    match (&server.tls, protocol.is_tls()) {
        (None, false) => Some(Family::Tcp),
        (Some(tls), true) if tls.mode() == TlSmode::Passthrough => Some(Family::Tls),
        _ => None,
    }
}

/// Whether a VirtualService has a host that the server allows it to bind.
fn binds(server: &BoundServer, namespace: &str, hosts: &[String]) -> bool {
    let declared = server.spec.hosts.iter().map(|host| ServerHost::parse(host, &server.namespace));
    declared.into_iter().any(|declared| hosts.iter().any(|host| declared.bind(namespace, host).is_some()))
}

/// The first TCP rule bound to the server.
fn tcp_chains(merged: &MergedPort, outbound: Outbound<'_>) -> Vec<Chain> {
    let Outbound { mesh, proxy, .. } = outbound;
    for server in &merged.servers {
        for vs in ringsail_model::virtual_services_for(mesh, &proxy.namespace, &server.gateway) {
            if !binds(server, &vs.namespace, &vs.spec.hosts) {
                continue;
            }
            for rule in &vs.spec.tcp {
                let concerns = rule.r#match.is_empty()
                    || rule.r#match.iter().any(|m| {
                        (m.port == 0 || m.port == server.port())
                            && names_gateway(&m.gateways, &server.gateway)
                    });
                if !concerns {
                    continue;
                }
                let filter = filters::tcp_route(&rule.route, server.port(), outbound);
                if let Some(filter) = filter {
                    return vec![Chain::of(filter)];
                }
            }
        }
    }
    Vec::new()
}

fn names_gateway(listed: &[String], gateway: &str) -> bool {
    listed.is_empty() || listed.iter().any(|name| name == gateway)
}

/// One chain per TLS rule, by server name. A name that an older rule has is not given again.
fn tls_chains(merged: &MergedPort, outbound: Outbound<'_>) -> Vec<Chain> {
    let Outbound { mesh, proxy, .. } = outbound;
    let mut chains = Vec::new();
    let mut given: HashSet<String> = HashSet::new();
    let mut by_gateway: BTreeMap<&str, Vec<Arc<ringsail_model::VirtualService>>> = BTreeMap::new();
    for server in &merged.servers {
        let list = by_gateway
            .entry(&server.gateway)
            .or_insert_with(|| ringsail_model::virtual_services_for(mesh, &proxy.namespace, &server.gateway));
        for vs in list.iter().filter(|vs| binds(server, &vs.namespace, &vs.spec.hosts)) {
            for rule in &vs.spec.tls {
                for m in &rule.r#match {
                    if (m.port != 0 && m.port != server.port())
                        || !names_gateway(&m.gateways, &server.gateway)
                    {
                        continue;
                    }
                    let allowed = |name: &&String| {
                        let hosts =
                            server.spec.hosts.iter().map(|host| ServerHost::parse(host, &server.namespace));
                        hosts.into_iter().any(|server_host| host::overlaps(name, &server_host.hostname))
                    };
                    let names: Vec<String> = m.sni_hosts.iter().filter(allowed).cloned().collect();
                    let fresh: Vec<String> =
                        names.into_iter().filter(|name| given.insert(name.clone())).collect();
                    if fresh.is_empty() {
                        continue;
                    }
                    let filter = filters::tcp_route(&rule.route, server.port(), outbound);
                    if let Some(filter) = filter {
                        chains.push(Chain { server_names: server_names(&fresh), ..Chain::of(filter) });
                    }
                }
            }
        }
    }
    chains
}
