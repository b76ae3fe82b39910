//! Outbound service listeners of sidecars, and how services that want the same address share one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ringsail_api::networking::CaptureMode;
use ringsail_model::{Egress, Protocol, Registry, Service, ServiceAddress, ServicePort, TargetPort};
use ringsail_xds::envoy::config::core::v3::TrafficDirection;
use ringsail_xds::envoy::config::listener::v3::{AdditionalAddress, Listener};

use super::chain::{self, Chain};
use super::filters::{self, Routes, Side};
use super::tcp;
use crate::route::sidecar::{Outbound, RouteSet};
use crate::{names, xds};

/// Ports of the proxy's own listeners: readiness and metrics. A listener for all addresses would take them over.
const STATIC_PORTS: [u32; 2] = [15021, 15090];
/// Lowest port that an unprivileged process may bind.
const UNPRIVILEGED_PORT_MIN: u32 = 1024;

/// Where a listener is bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bind {
    /// These addresses; the first names the listener.
    Ips(Vec<IpAddr>),
    /// A Unix socket.
    Socket(String),
}

/// What is known of a listener while services are added to it.
struct Entry {
    bind: Bind,
    port: u32,
    bind_to_port: bool,
    kind: EntryKind,
    /// Protocol of the port that opened the listener; some must not be sniffed.
    protocol: Protocol,
    chains: Vec<Chain>,
    /// A Sidecar listener with a port of its own: later catch-all listeners add nothing to it.
    locked: bool,
}

/// How a listener tells protocols apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    Http,
    Tcp,
    Sniffing,
}

/// The listeners and the routes they ask for.
#[derive(Default)]
pub(crate) struct OutboundListeners {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) routes: BTreeSet<RouteSet>,
}

/// Builds all outbound service listeners.
pub(crate) fn build(outbound: Outbound<'_>) -> OutboundListeners {
    let mut builder = Builder { outbound, entries: BTreeMap::new(), routes: BTreeSet::new() };
    for egress in &outbound.view.egress {
        builder.add_egress(egress);
    }
    builder.finish()
}

struct Builder<'a> {
    outbound: Outbound<'a>,
    entries: BTreeMap<(String, u32), Entry>,
    routes: BTreeSet<RouteSet>,
}

/// One service port to add, with the listener it asks for.
struct Wanted<'a> {
    service: &'a Arc<Service>,
    port: ServicePort,
    listener_port: u32,
    bind: Option<Bind>,
    bind_to_port: bool,
    egress: &'a Egress,
}

impl<'a> Builder<'a> {
    fn add_egress(&mut self, egress: &'a Egress) {
        let proxy = self.outbound.proxy;
        let declared = egress.declared.as_ref();
        let capture = declared.map_or(CaptureMode::Default, |declared| declared.capture_mode());
        let socket = declared.and_then(|declared| declared.bind.strip_prefix("unix://"));
        let bind_to_port = match capture {
            CaptureMode::None => true,
            CaptureMode::Iptables => false,
            CaptureMode::Default => proxy.is_uncaptured() || socket.is_some(),
        };
        let own_bind = declared.and_then(|declared| declared.bind.parse::<IpAddr>().ok());
        let bind = match (socket, own_bind) {
            (Some(path), _) => Some(Bind::Socket(path.to_owned())),
            (None, Some(ip)) => Some(Bind::Ips(vec![ip])),
            (None, None) if bind_to_port => Some(Bind::Ips(local_addresses(self.outbound))),
            (None, None) => None,
        };
        let Some(port) = declared.and_then(|declared| declared.port.as_ref()) else {
            self.entries.values_mut().for_each(|entry| entry.locked = true);
            self.add_all(egress, bind, bind_to_port);
            return;
        };
        let protocol = Protocol::parse(&port.protocol);
        if !self.may_bind(port.number, protocol, bind.as_ref(), bind_to_port) {
            return;
        }
        for service in egress.services.iter().filter(|service| !service.is_alias()) {
            let own = ServicePort {
                number: port.number,
                name: port.name.clone(),
                protocol,
                target: TargetPort::Number(port.number),
            };
            self.add(Wanted {
                service,
                port: own,
                listener_port: port.number,
                bind: bind.clone(),
                bind_to_port,
                egress,
            });
        }
    }

    fn add_all(&mut self, egress: &'a Egress, bind: Option<Bind>, bind_to_port: bool) {
        for service in egress.services.iter().filter(|service| !service.is_alias()) {
            for port in &service.ports {
                if !self.may_bind(port.number, port.protocol, bind.as_ref(), bind_to_port) {
                    continue;
                }
                let wanted = |bind| Wanted {
                    service,
                    port: port.clone(),
                    listener_port: port.number,
                    bind,
                    bind_to_port,
                    egress,
                };
                let by_endpoint = bind.is_none()
                    && service.is_headless()
                    && (port.protocol.is_tcp() || port.protocol == Protocol::Auto);
                if by_endpoint {
                    for bind in self.headless_binds(service, port.number) {
                        self.add(wanted(bind));
                    }
                } else {
                    self.add(wanted(bind.clone()));
                }
            }
        }
    }

    /// One listener per endpoint of a headless service, because clients dial endpoints; the proxy's own is left out. A
    /// plain `resolution: NONE` entry has no endpoints and gets the wildcard (`None`).
    fn headless_binds(&self, service: &Service, port: u32) -> Vec<Option<Bind>> {
        let proxy = self.outbound.proxy;
        let endpoints = self.outbound.mesh.endpoints(&service.key);
        let endpoints = endpoints.of_port(port);
        if endpoints.is_empty() && service.registry == Registry::External && service.selector.is_empty() {
            return vec![None];
        }
        let ips = endpoints.iter().filter_map(|endpoint| endpoint.address.ip());
        ips.filter(|ip| *ip != proxy.ip() && proxy.speaks(*ip)).map(|ip| Some(Bind::Ips(vec![ip]))).collect()
    }

    fn may_bind(&self, port: u32, protocol: Protocol, bind: Option<&Bind>, bind_to_port: bool) -> bool {
        let Outbound { proxy, mesh, .. } = self.outbound;
        if bind_to_port && proxy.unprivileged && port < UNPRIVILEGED_PORT_MIN && port != 0 {
            return false;
        }
        let settings = mesh.settings();
        let reserved = STATIC_PORTS.contains(&port)
            || port == settings.outbound_port()
            || port == settings.inbound_port();
        let everywhere = match bind {
            None => protocol.is_http(),
            Some(Bind::Ips(ips)) => ips.iter().any(IpAddr::is_unspecified),
            Some(Bind::Socket(_)) => false,
        };
        !(reserved && everywhere)
    }

    fn wildcard(&self) -> Vec<IpAddr> {
        wildcards(self.outbound)
    }

    /// Resolves the address of a port and adds it, once per address that is a listener of its own.
    fn add(&mut self, wanted: Wanted<'a>) {
        let protocol = wanted.port.protocol;
        if protocol == Protocol::Udp {
            return;
        }
        if let Some(bind) = wanted.bind.clone() {
            self.add_at(&wanted, bind, Vec::new());
            return;
        }
        if protocol.is_http() {
            let bind = Bind::Ips(self.wildcard());
            self.add_at(&wanted, bind, Vec::new());
            return;
        }
        let (ips, blocks) = self.service_addresses(wanted.service);
        if ips.is_empty() && blocks.is_empty() {
            let bind = Bind::Ips(self.wildcard());
            self.add_at(&wanted, bind, Vec::new());
            return;
        }
        if !blocks.is_empty() {
            let bind = Bind::Ips(self.wildcard());
            self.add_at(&wanted, bind, blocks);
        }
        match wanted.service.registry {
            // Both families of one Service are one listener; the addresses of a ServiceEntry are independent.
            Registry::Kubernetes if !ips.is_empty() => self.add_at(&wanted, Bind::Ips(ips), Vec::new()),
            _ => {
                for ip in ips {
                    self.add_at(&wanted, Bind::Ips(vec![ip]), Vec::new());
                }
            }
        }
    }

    /// Addresses of a service that the proxy can use, and blocks as they appear in chains.
    fn service_addresses(
        &self,
        service: &Service,
    ) -> (Vec<IpAddr>, Vec<ringsail_xds::envoy::config::core::v3::CidrRange>) {
        let proxy = self.outbound.proxy;
        let mut ips: Vec<IpAddr> = Vec::new();
        let mut blocks = Vec::new();
        for address in &service.addresses {
            match address {
                ServiceAddress::Ip(ip) if proxy.speaks(*ip) => ips.push(*ip),
                ServiceAddress::Ip(_) => {}
                ServiceAddress::Cidr(ip, len) => blocks.push(xds::cidr(*ip, *len)),
            }
        }
        if proxy.dns_auto_allocate {
            ips.extend(service.auto_addresses.iter().copied().filter(|ip| proxy.speaks(*ip)));
        }
        (ips, blocks)
    }

    /// Adds a port to the listener at an address, merging with what is there. Source: istiod's conflict table.
    fn add_at(
        &mut self,
        wanted: &Wanted<'a>,
        bind: Bind,
        blocks: Vec<ringsail_xds::envoy::config::core::v3::CidrRange>,
    ) {
        let protocol = wanted.port.protocol;
        let key = (bind_name(&bind), wanted.listener_port);
        let existing = self.entries.get(&key);
        if existing.is_some_and(|entry| entry.locked) {
            return;
        }
        let everywhere = matches!(&bind, Bind::Ips(ips) if ips.iter().all(IpAddr::is_unspecified));
        let incoming = if protocol.is_http() {
            EntryKind::Http
        } else if protocol.is_tcp() {
            EntryKind::Tcp
        } else {
            EntryKind::Sniffing
        };
        if let Some(entry) = existing {
            let same = entry.kind == EntryKind::Tcp && incoming == EntryKind::Tcp;
            if (entry.protocol.refuses_sniffing() || protocol.refuses_sniffing()) && !same {
                return;
            }
            if incoming == EntryKind::Http && entry.kind != EntryKind::Tcp {
                self.note_routes(wanted, &bind, everywhere, incoming);
                return;
            }
        }
        let mut chains: Vec<Chain> = Vec::new();
        if incoming != EntryKind::Http {
            let shared = everywhere || !blocks.is_empty();
            let port = tcp::Port {
                service: wanted.service,
                port: &wanted.port,
                listener_port: wanted.listener_port,
                prefix_ranges: blocks,
                shared,
            };
            chains.extend(tcp::chains(&port, wanted.egress, self.outbound));
        }
        let mut kind = incoming;
        if incoming != EntryKind::Tcp {
            // On the wildcard address anything may arrive; elsewhere a declared HTTP port is HTTP and nothing else,
            // unless TCP is there already.
            let beside_tcp = existing.is_some_and(|entry| entry.kind == EntryKind::Tcp);
            let sniffs = incoming == EntryKind::Sniffing || everywhere || beside_tcp;
            let routes = self.note_routes(wanted, &bind, everywhere, incoming);
            chains.push(Chain {
                sniffs_http: sniffs,
                ..Chain::of(self.http(&bind, wanted.listener_port, protocol, routes))
            });
            if sniffs {
                kind = EntryKind::Sniffing;
            }
        }
        match self.entries.get_mut(&key) {
            None => {
                let entry = Entry {
                    bind,
                    port: wanted.listener_port,
                    bind_to_port: wanted.bind_to_port,
                    kind,
                    protocol,
                    chains,
                    locked: false,
                };
                self.entries.insert(key, entry);
            }
            // A listener that is plain HTTP is replaced by one that sniffs.
            Some(entry) if entry.kind == EntryKind::Http && incoming == EntryKind::Sniffing => {
                entry.chains = chains;
                entry.kind = EntryKind::Sniffing;
                entry.protocol = protocol;
            }
            Some(entry) => {
                if entry.kind == EntryKind::Http {
                    entry.chains.iter_mut().for_each(|chain| chain.sniffs_http = true);
                }
                if entry.kind != kind {
                    entry.kind = EntryKind::Sniffing;
                }
                for chain in chains {
                    if !entry.chains.iter().any(|known| known.same_match(&chain)) {
                        entry.chains.push(chain);
                    }
                }
            }
        }
    }

    /// Which routes the HTTP chain of a port uses; a listener of a single sniffed service has its own.
    fn note_routes(
        &mut self,
        wanted: &Wanted<'_>,
        bind: &Bind,
        everywhere: bool,
        incoming: EntryKind,
    ) -> RouteSet {
        let set = match bind {
            Bind::Socket(path) if wanted.listener_port == 0 => RouteSet::Socket(path.clone()),
            // Bound listeners are shared by all services of a port, so their routes are too.
            _ if incoming == EntryKind::Sniffing && !everywhere && !wanted.bind_to_port => {
                RouteSet::Service {
                    hostname: wanted.service.hostname().to_owned(),
                    port: wanted.listener_port,
                }
            }
            _ => RouteSet::Port(wanted.listener_port),
        };
        self.routes.insert(set.clone());
        set
    }

    fn http(
        &self,
        bind: &Bind,
        port: u32,
        protocol: Protocol,
        routes: RouteSet,
    ) -> ringsail_xds::envoy::config::listener::v3::Filter {
        let stat_prefix = names::stat_prefix(&format!("outbound_{}_{port}", bind_name(bind)));
        let routes = Routes::Named(routes.name());
        filters::http(&stat_prefix, routes, Side::Outbound, protocol, self.outbound)
    }

    fn finish(self) -> OutboundListeners {
        let Outbound { proxy, mesh, .. } = self.outbound;
        let settings = mesh.settings();
        let mut listeners = Vec::with_capacity(self.entries.len());
        for entry in self.entries.into_values() {
            let (address, additional_addresses) = addresses(&entry.bind, entry.port);
            let mut listener = Listener {
                name: format!("{}_{}", bind_name(&entry.bind), entry.port),
                address: Some(address),
                additional_addresses,
                traffic_direction: TrafficDirection::Outbound as i32,
                continue_on_listener_filters_timeout: true,
                bind_to_port: (!entry.bind_to_port).then_some(false),
                ..Listener::default()
            };
            let detection = settings.config.protocol_detection_timeout;
            let fall_back = filters::catch_all(self.outbound);
            chain::fill(&mut listener, entry.chains, Some(fall_back), proxy.http10, detection);
            listeners.push(listener);
        }
        OutboundListeners { listeners, routes: self.routes }
    }
}

/// The explicit HTTP proxy listener, when the proxy or the mesh asks for one.
pub(crate) fn http_proxy(outbound: Outbound<'_>) -> Option<Listener> {
    let Outbound { proxy, mesh, .. } = outbound;
    let settings = mesh.settings();
    let of_mesh = u32::try_from(settings.config.proxy_http_port).ok().filter(|port| *port != 0);
    let port = proxy.http_proxy_port.or(of_mesh)?;
    let bind = Bind::Ips(local_addresses(outbound));
    let name = format!("{}_{port}", bind_name(&bind));
    let stat_prefix = names::stat_prefix(&format!("outbound_{name}"));
    let routes = Routes::Named(RouteSet::HttpProxy.name());
    let filter = filters::http(&stat_prefix, routes, Side::HttpProxy, Protocol::Http, outbound);
    let (address, additional_addresses) = addresses(&bind, port);
    let mut listener = Listener {
        name,
        address: Some(address),
        additional_addresses,
        traffic_direction: TrafficDirection::Outbound as i32,
        continue_on_listener_filters_timeout: true,
        ..Listener::default()
    };
    chain::fill(&mut listener, vec![Chain::of(filter)], None, proxy.http10, None);
    Some(listener)
}

/// All addresses, in the families the proxy has.
pub(crate) fn wildcards(outbound: Outbound<'_>) -> Vec<IpAddr> {
    let v4 = outbound.proxy.has_ipv4().then_some(IpAddr::from([0, 0, 0, 0]));
    let v6 = outbound.proxy.has_ipv6().then_some(IpAddr::from([0_u16; 8]));
    v4.into_iter().chain(v6).collect()
}

/// Where listeners for the workload itself are bound: loopback, or an address of this sidecar's own in a local mesh, where
/// several workloads share one loopback interface.
fn local_addresses(outbound: Outbound<'_>) -> Vec<IpAddr> {
    let proxy = outbound.proxy;
    if let Some(address) = proxy.outbound_address.or(proxy.app_address) {
        return vec![address];
    }
    let v4 = proxy.has_ipv4().then_some(IpAddr::from([127, 0, 0, 1]));
    let v6 = proxy.has_ipv6().then_some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]));
    v4.into_iter().chain(v6).collect()
}

fn bind_name(bind: &Bind) -> String {
    match bind {
        Bind::Ips(ips) => ips.first().map(IpAddr::to_string).unwrap_or_default(),
        Bind::Socket(path) => format!("unix://{path}"),
    }
}

fn addresses(
    bind: &Bind,
    port: u32,
) -> (ringsail_xds::envoy::config::core::v3::Address, Vec<AdditionalAddress>) {
    match bind {
        Bind::Socket(path) => (xds::pipe_address(path), Vec::new()),
        Bind::Ips(ips) => {
            let mut all = ips.iter().map(|ip| xds::tcp_address(&ip.to_string(), port));
            let first = all.next().unwrap_or_default();
            let rest = all
                .map(|address| AdditionalAddress { address: Some(address), ..AdditionalAddress::default() });
            (first, rest.collect())
        }
    }
}
