//! A call's way through the tables of a proxy.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use ringsail_tables::filter_chain::{ConnectionFacts, Terminal};
use ringsail_tables::listener::{Listener, ListenerFilterKind};
use ringsail_tables::route::{Action, ClusterChoice};
use ringsail_tables::route::{Found, RouteConfig};
use ringsail_tables::{Change, Compiler, Request, ResourceType, Severity, Tables};
use ringsail_translate::{ProxyResources, Resource};
use ringsail_xds::envoy::config::route::v3::{route, route_action::ClusterSpecifier};

use super::scenario::Call;

/// Where a call ended up; empty names were not reached.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) error: Option<String>,
    pub(super) listener: String,
    pub(super) filter_chain: String,
    pub(super) route_config: String,
    pub(super) virtual_host: String,
    pub(super) route: String,
    pub(super) cluster: String,
}

impl Outcome {
    fn failed(mut self, error: &str) -> Outcome {
        self.error = Some(error.to_owned());
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            ("error", self.error.as_deref().unwrap_or_default()),
            ("listener", &self.listener),
            ("chain", &self.filter_chain),
            ("routes", &self.route_config),
            ("virtual host", &self.virtual_host),
            ("route", &self.route),
            ("cluster", &self.cluster),
        ];
        let given: Vec<String> = fields
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        f.write_str(&given.join(", "))
    }
}

/// Compiles a proxy's resources as the proxy would.
fn compile(resources: &ProxyResources) -> Result<std::sync::Arc<Tables>> {
    let put = |kind: ResourceType, list: &[std::sync::Arc<Resource>]| {
        list.iter()
            .map(|resource| Change::Put {
                kind,
                name: resource.name.clone(),
                resource: resource.body.clone().into(),
            })
            .collect::<Vec<_>>()
    };
    let mut changes = put(ResourceType::Cluster, &resources.clusters);
    changes.extend(put(ResourceType::ClusterLoadAssignment, &resources.endpoints));
    changes.extend(put(ResourceType::RouteConfiguration, &resources.routes));
    changes.extend(put(ResourceType::Listener, &resources.listeners));
    let (tables, diagnostics) = Compiler::new().apply(changes);
    match diagnostics.iter().find(|diagnostic| diagnostic.severity == Severity::Refused) {
        Some(refused) => anyhow::bail!("the proxy refuses what it is sent: {refused}"),
        None => Ok(tables),
    }
}

/// Traces one call.
pub(super) fn call(resources: &ProxyResources, call: &Call<'_>, router: bool) -> Result<Outcome> {
    let tables = compile(resources)?;
    let ip: IpAddr = call.address.parse().with_context(|| format!("{} is no address", call.address))?;
    let destination = SocketAddr::new(ip, call.port);
    let mut outcome = Outcome::default();
    let listener = if router {
        tables.listener_at(destination)
    } else {
        let captured = if call.inbound { "virtualInbound" } else { "virtualOutbound" };
        tables.listener_named(captured).map(|listener| tables.hand_over(listener, Some(destination)))
    };
    let Some(listener) = listener else { return Ok(outcome.failed("no listener matched")) };
    outcome.listener = listener.name.to_string();
    let detected = detect(listener, call);
    // A call that names a server name has it, whatever else it says of TLS.
    let server_name = call.sni.or(detected.tls.then_some(call.host)).unwrap_or_default().to_ascii_lowercase();
    let facts = ConnectionFacts {
        destination: Some(destination),
        server_name: &server_name,
        transport_protocol: if detected.tls { "tls" } else { "raw_buffer" },
        application_protocols: &detected.protocols,
        direct_source: None,
        source: None,
    };
    let Some(chain) = listener.filter_chain(&facts) else {
        return Ok(outcome.failed("no filter chains matched"));
    };
    outcome.filter_chain = chain.name.to_string();
    match &chain.terminal {
        Terminal::Tcp(proxy) => {
            outcome.cluster = proxy.pick(0).name.to_string();
            Ok(outcome)
        }
        // Nothing terminates TLS, so the connection manager would read a handshake where a request belongs.
        Terminal::Http(_) if call.tls != "plaintext" || call.protocol == "tcp" => {
            Ok(outcome.failed("protocol error"))
        }
        Terminal::Http(manager) => {
            let routes = tables.route_config(manager.routes).context("a listener without its routes")?;
            Ok(route(routes, call, outcome))
        }
    }
}

fn route(routes: &RouteConfig, call: &Call<'_>, mut outcome: Outcome) -> Outcome {
    outcome.route_config = routes.name.to_string();
    let request = Head { call };
    match routes.find(&request, 0) {
        Found::RedirectToHttps(host) => {
            outcome.virtual_host = host.name.to_string();
            outcome.failed("tls required, sending 301")
        }
        Found::Nothing => match routes.virtual_host(call.host) {
            None => outcome.failed("no virtual host matched"),
            Some(host) => {
                outcome.virtual_host = host.name.to_string();
                outcome.failed("no route matched")
            }
        },
        Found::Route(found) => {
            outcome.virtual_host = found.virtual_host.name.to_string();
            outcome.route = found.route.name.to_string();
            if let Action::Forward(forward) = &found.route.action {
                let choice = found.weighted_cluster.map_or(&forward.cluster, |weighted| &weighted.cluster);
                if let ClusterChoice::Named { name, .. } = choice {
                    outcome.cluster = name.to_string();
                }
            }
            outcome
        }
    }
}

/// What the listener's inspectors find out about a connection.
struct Detected<'a> {
    tls: bool,
    protocols: Vec<&'a str>,
}

fn detect<'a>(listener: &Listener, call: &Call<'a>) -> Detected<'a> {
    let inspects = |kind: ListenerFilterKind| {
        let mut filters = listener.listener_filters.iter();
        filters.any(|filter| filter.kind == kind && Listener::runs(filter, call.port))
    };
    let encrypted = call.tls != "plaintext";
    if encrypted {
        let tls = inspects(ListenerFilterKind::TlsInspector);
        let protocols = match (tls, call.alpn) {
            (false, _) => Vec::new(),
            (true, Some(alpn)) => vec![alpn],
            (true, None) => offered(call),
        };
        return Detected { tls, protocols };
    }
    let protocols = match call.protocol {
        "http" if inspects(ListenerFilterKind::HttpInspector) => vec!["http/1.1"],
        "http2" if inspects(ListenerFilterKind::HttpInspector) => vec!["h2c"],
        _ => Vec::new(),
    };
    Detected { tls: false, protocols }
}

/// ALPN of a TLS client that names none: by protocol, and Istio's own for mutual TLS in the mesh.
fn offered<'a>(call: &Call<'a>) -> Vec<&'a str> {
    match (call.tls, call.protocol) {
        ("mtls", "http") => vec!["istio-http/1.1"],
        ("mtls", "http2") => vec!["istio-h2"],
        ("mtls", _) => vec!["istio"],
        (_, "http") => vec!["http/1.1"],
        (_, "http2") => vec!["h2"],
        _ => Vec::new(),
    }
}

/// A call as a request head.
struct Head<'a> {
    call: &'a Call<'a>,
}

impl Request for Head<'_> {
    fn method(&self) -> &str {
        "GET"
    }

    fn authority(&self) -> &str {
        self.call.host
    }

    fn path(&self) -> &str {
        self.call.path
    }

    fn scheme(&self) -> &str {
        "http"
    }

    fn header(&self, name: &str, nth: usize) -> Option<&[u8]> {
        (name == "x-forwarded-proto" && nth == 0).then_some(b"http")
    }
}

/// The clusters that the routes of each domain lead to, in order.
pub(super) fn clusters_by_domain(resources: &ProxyResources, routes: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for config in resources.decode_routes().into_iter().filter(|config| config.name == routes) {
        for host in config.virtual_hosts {
            let clusters: Vec<String> = host.routes.iter().flat_map(clusters_of).collect();
            for domain in host.domains {
                found.entry(domain).or_default().extend(clusters.iter().cloned());
            }
        }
    }
    found
}

fn clusters_of(route: &ringsail_xds::envoy::config::route::v3::Route) -> Vec<String> {
    let Some(route::Action::Route(action)) = &route.action else { return Vec::new() };
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => vec![name.clone()],
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted.clusters.iter().map(|cluster| cluster.name.clone()).collect()
        }
        _ => Vec::new(),
    }
}
