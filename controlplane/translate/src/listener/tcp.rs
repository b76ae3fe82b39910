//! TCP and TLS chains of an outbound service port.

use ringsail_api::networking::{L4MatchAttributes, TlsMatchAttributes};
use ringsail_model::{
    Egress, MESH_GATEWAY, Proxy, Service, ServiceAddress, ServicePort, VirtualService, source_matches,
};
use ringsail_xds::envoy::config::core::v3::CidrRange;
use ringsail_xds::envoy::config::listener::v3::Filter;

use super::chain::Chain;
use super::filters;
use crate::route::sidecar::Outbound;
use crate::{names, xds};

/// What TCP chains are built for.
pub(crate) struct Port<'a> {
    pub(crate) service: &'a Service,
    pub(crate) port: &'a ServicePort,
    /// Port the listener has, which a Sidecar may choose freely.
    pub(crate) listener_port: u32,
    /// Blocks the connection must be for; empty when the listener's address says it.
    pub(crate) prefix_ranges: Vec<CidrRange>,
    /// Other services may have chains on the same listener, so that TLS ones must test the server name.
    pub(crate) shared: bool,
}

/// The chains of a port: those of TLS rules or the default for TLS ports, those of TCP rules or the default for others.
pub(crate) fn chains(port: &Port<'_>, egress: &Egress, outbound: Outbound<'_>) -> Vec<Chain> {
    let own = egress.virtual_service(port.service.hostname()).map(|vs| &**vs);
    if port.port.protocol.is_tls() {
        tls_chains(port, own, outbound)
    } else {
        tcp_chains(port, own, outbound)
    }
}

/// Carries connections no rule is about to the port's cluster, or to that of the service's only port.
fn default_filter(port: &Port<'_>, outbound: Outbound<'_>) -> Filter {
    let number = match &port.service.ports[..] {
        [only] => only.number,
        _ => port.port.number,
    };
    let cluster = names::outbound_cluster(number, "", port.service.hostname());
    filters::tcp_service(&cluster, port.service, number, outbound)
}

fn tcp_chains(port: &Port<'_>, own: Option<&VirtualService>, outbound: Outbound<'_>) -> Vec<Chain> {
    let proxy = outbound.proxy;
    let mut chains: Vec<Chain> = Vec::new();
    for rule in own.map_or(&[][..], |vs| &vs.spec.tcp) {
        let concerns = |m: &&L4MatchAttributes| l4_concerns(m, port, proxy);
        let matches: Vec<&L4MatchAttributes> = rule.r#match.iter().filter(concerns).collect();
        if !rule.r#match.is_empty() && matches.is_empty() {
            continue;
        }
        let route = filters::tcp_route(&rule.route, port.listener_port, outbound);
        let Some(filter) = route else { continue };
        // A rule for every address of the port ends the search.
        if matches.iter().all(|m| !m.destination_subnets.is_empty()) && !matches.is_empty() {
            chains.extend(matches.iter().map(|m| Chain {
                prefix_ranges: subnets(&m.destination_subnets),
                ..Chain::of(filter.clone())
            }));
        } else {
            chains.push(Chain { prefix_ranges: port.prefix_ranges.clone(), ..Chain::of(filter) });
            return chains;
        }
    }
    let filter = default_filter(port, outbound);
    chains.push(Chain { prefix_ranges: port.prefix_ranges.clone(), ..Chain::of(filter) });
    chains
}

fn tls_chains(port: &Port<'_>, own: Option<&VirtualService>, outbound: Outbound<'_>) -> Vec<Chain> {
    let proxy = outbound.proxy;
    let mut chains: Vec<Chain> = Vec::new();
    for rule in own.map_or(&[][..], |vs| &vs.spec.tls) {
        let route = filters::tcp_route(&rule.route, port.listener_port, outbound);
        let Some(filter) = route else { continue };
        for m in rule.r#match.iter().filter(|m| tls_concerns(m, port, proxy)) {
            let prefix_ranges = match m.destination_subnets.is_empty() {
                true => port.prefix_ranges.clone(),
                false => subnets(&m.destination_subnets),
            };
            let server_names = server_names(&m.sni_hosts);
            let chain = Chain { server_names, prefix_ranges, ..Chain::of(filter.clone()) };
            if !chains.iter().any(|known| known.same_match(&chain)) {
                chains.push(chain);
            }
        }
    }
    if chains.is_empty() {
        let mut names = Vec::new();
        if port.shared {
            names.push(port.service.hostname().to_owned());
            names.extend(port.service.aliases.iter().map(|alias| alias.hostname.clone()));
        }
        let filter = default_filter(port, outbound);
        chains.push(Chain {
            server_names: server_names(&names),
            prefix_ranges: port.prefix_ranges.clone(),
            ..Chain::of(filter)
        });
    }
    chains
}

/// Envoy has no pattern for every name: `*` is "no test".
pub(crate) fn server_names(hosts: &[String]) -> Vec<String> {
    if hosts.iter().any(|host| host == "*") { Vec::new() } else { hosts.to_vec() }
}

fn subnets(texts: &[String]) -> Vec<CidrRange> {
    texts
        .iter()
        .filter_map(|text| match ServiceAddress::parse(text)? {
            ServiceAddress::Ip(ip) => Some(xds::cidr(ip, if ip.is_ipv4() { 32 } else { 128 })),
            ServiceAddress::Cidr(ip, len) => Some(xds::cidr(ip, len)),
        })
        .collect()
}

fn l4_concerns(m: &L4MatchAttributes, port: &Port<'_>, proxy: &Proxy) -> bool {
    (m.port == 0 || m.port == port.listener_port)
        && for_sidecars(&m.gateways)
        && source_matches(proxy, &m.source_labels, &m.source_namespace)
}

fn tls_concerns(m: &TlsMatchAttributes, port: &Port<'_>, proxy: &Proxy) -> bool {
    (m.port == 0 || m.port == port.listener_port)
        && for_sidecars(&m.gateways)
        && source_matches(proxy, &m.source_labels, &m.source_namespace)
}

/// A match may narrow the object's gateways, which include `mesh` here.
fn for_sidecars(gateways: &[String]) -> bool {
    gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH_GATEWAY)
}
