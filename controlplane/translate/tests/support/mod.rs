//! YAML in, decisions out: a mesh from text, a proxy in it, and what happens to a call there.
#![allow(dead_code, missing_docs)]

use std::net::SocketAddr;
use std::sync::Arc;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use ringsail_model::{Change, Mesh, MeshBuilder, MeshSettings, Proxy};
use ringsail_reference::{Request, Verdict, evaluate};
use ringsail_translate::{ProxyResources, translate};
use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::envoy::config::core::v3::{Address, Node, address::Address as Specifier, socket_address};
use ringsail_xds::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
use ringsail_xds::envoy::config::listener::v3::{FilterChain, Listener, filter::ConfigType};
use ringsail_xds::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use ringsail_xds::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy, tcp_proxy::ClusterSpecifier,
};
use ringsail_xds::{type_url, unpack};

/// Builds a mesh. Objects must be accepted without errors.
pub fn mesh(yaml: &str) -> Arc<Mesh> {
    mesh_with("", yaml)
}

/// Builds a mesh with a mesh configuration.
pub fn mesh_with(mesh_config: &str, yaml: &str) -> Arc<Mesh> {
    let config = ringsail_api::decode_mesh_config(mesh_config, "mesh.yaml").expect("valid mesh config");
    let mut builder = MeshBuilder::new(MeshSettings::new(config, "cluster.local"));
    let decoded = ringsail_api::decode(yaml, "test.yaml");
    assert!(
        decoded.refused.is_empty(),
        "{}",
        decoded.diagnostics.iter().map(|d| format!("{d}\n")).collect::<String>()
    );
    builder.apply(decoded.objects.into_iter().map(|object| Change::Put(Arc::new(object)))).0
}

/// A node as a proxy introduces itself; `metadata` as `KEY=value`, labels as `label:NAME=value`.
pub fn node(kind: &str, ip: &str, namespace: &str, metadata: &[&str]) -> Proxy {
    let string = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let mut fields = Struct::default();
    let mut labels = Struct::default();
    for entry in metadata {
        let (key, value) = entry.split_once('=').expect("KEY=value");
        match key.strip_prefix("label:") {
            Some(label) => labels.fields.insert(label.to_owned(), string(value)),
            None => fields.fields.insert(key.to_owned(), string(value)),
        };
    }
    fields.fields.insert("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(labels)) });
    let id = format!("{kind}~{ip}~app.{namespace}~{namespace}.svc.cluster.local");
    Proxy::from_node(&Node { id, metadata: Some(fields), ..Node::default() }).expect("valid node")
}

/// What a captured sidecar at `ip` is sent.
pub fn sidecar(mesh: &Mesh, ip: &str, namespace: &str) -> Seen {
    Seen::of(&translate(mesh, &node("sidecar", ip, namespace, &[])))
}

/// What a gateway with these labels is sent.
pub fn gateway(mesh: &Mesh, ip: &str, namespace: &str, metadata: &[&str]) -> Seen {
    Seen::of(&translate(mesh, &node("router", ip, namespace, metadata)))
}

/// The resources of one proxy.
pub struct Seen {
    pub clusters: Vec<Cluster>,
    pub endpoints: Vec<ClusterLoadAssignment>,
    pub listeners: Vec<Listener>,
    pub routes: Vec<RouteConfiguration>,
}

impl Seen {
    pub fn of(resources: &ProxyResources) -> Seen {
        Seen {
            clusters: resources.decode_clusters(),
            endpoints: resources.decode_endpoints(),
            listeners: resources.decode_listeners(),
            routes: resources.decode_routes(),
        }
    }

    pub fn listener_names(&self) -> Vec<&str> {
        self.listeners.iter().map(|listener| listener.name.as_str()).collect()
    }

    pub fn cluster_names(&self) -> Vec<&str> {
        self.clusters.iter().map(|cluster| cluster.name.as_str()).collect()
    }

    pub fn route_names(&self) -> Vec<&str> {
        self.routes.iter().map(|routes| routes.name.as_str()).collect()
    }

    pub fn listener(&self, name: &str) -> &Listener {
        self.listeners.iter().find(|l| l.name == name).unwrap_or_else(|| panic!("no listener {name}"))
    }

    pub fn cluster(&self, name: &str) -> &Cluster {
        self.clusters.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no cluster {name}"))
    }

    pub fn routes(&self, name: &str) -> &RouteConfiguration {
        self.routes.iter().find(|r| r.name == name).unwrap_or_else(|| panic!("no routes {name}"))
    }

    pub fn virtual_host(&self, routes: &str, name: &str) -> &VirtualHost {
        let hosts = &self.routes(routes).virtual_hosts;
        hosts.iter().find(|h| h.name == name).unwrap_or_else(|| panic!("no virtual host {name} in {routes}"))
    }

    /// The first route of the virtual host that a request for `host` reaches.
    pub fn first_route(&self, routes: &str, host: &str) -> &Route {
        let hosts = &self.routes(routes).virtual_hosts;
        let found = hosts.iter().find(|h| h.domains.iter().any(|domain| domain == host));
        &found.unwrap_or_else(|| panic!("no virtual host for {host}")).routes[0]
    }

    /// Addresses of a cluster's endpoints with health and priority where they are not the default.
    pub fn endpoints_of(&self, cluster: &str) -> Vec<String> {
        let assignment = self.endpoints.iter().find(|e| e.cluster_name == cluster);
        addresses(assignment.unwrap_or_else(|| panic!("no endpoints of {cluster}")))
    }

    /// What happens to a plaintext request. `to` is where the client connects; the request is a head in its own notation,
    /// the request line first. The answer is the cluster, or the status of a local answer.
    pub fn http(&self, to: &str, head: &str) -> String {
        let Some((listener, port)) = self.listener_for(to) else { return "connection refused".to_owned() };
        match self.chain(listener, port, true) {
            Some(chain) => self.serve(chain, head),
            None => "no filter chain".to_owned(),
        }
    }

    /// What happens to bytes that are not HTTP: the cluster they are carried to.
    pub fn tcp(&self, to: &str) -> String {
        let Some((listener, port)) = self.listener_for(to) else { return "connection refused".to_owned() };
        match self.chain(listener, port, false) {
            Some(chain) => self.serve(chain, "not http"),
            None => "no filter chain".to_owned(),
        }
    }

    /// The TCP proxy that carries bytes which are not HTTP.
    pub fn tcp_proxy(&self, to: &str) -> TcpProxy {
        let (listener, port) = self.listener_for(to).expect("a listener");
        let chain = self.chain(listener, port, false).expect("a chain");
        let Some(ConfigType::TypedConfig(config)) = chain.filters.last().and_then(|f| f.config_type.as_ref())
        else {
            panic!("no filter")
        };
        unpack(config).expect("a TCP proxy")
    }

    /// What happens to a request to this port of the proxy's workload, on a captured sidecar.
    pub fn inbound_http(&self, port: u32, head: &str) -> String {
        let chain = self.chain(self.listener("virtualInbound"), port, true).expect("a chain");
        self.serve(chain, head)
    }

    /// What happens to bytes for this port of the proxy's workload, on a captured sidecar.
    pub fn inbound_tcp(&self, port: u32) -> String {
        let chain = self.chain(self.listener("virtualInbound"), port, false).expect("a chain");
        self.serve(chain, "not http")
    }

    /// The listener of an address: itself, all addresses, or what captured traffic falls back to.
    fn listener_for(&self, to: &str) -> Option<(&Listener, u32)> {
        let to: SocketAddr = to.parse().expect("address:port");
        let everywhere = if to.is_ipv4() { "0.0.0.0" } else { "::" };
        let names = [
            format!("{}_{}", to.ip(), to.port()),
            format!("{everywhere}_{}", to.port()),
            "virtualOutbound".to_owned(),
        ];
        let listener = names.iter().find_map(|name| self.listeners.iter().find(|l| l.name == *name))?;
        Some((listener, u32::from(to.port())))
    }

    /// Of the chains for the port the one for HTTP when the bytes are HTTP, else the one without such a test.
    fn chain<'a>(&'a self, listener: &'a Listener, port: u32, http: bool) -> Option<&'a FilterChain> {
        let parts = |chain: &FilterChain| {
            let matched = chain.filter_chain_match.clone().unwrap_or_default();
            (matched.destination_port.as_ref().copied(), !matched.application_protocols.is_empty())
        };
        let fits = |own_port: Option<u32>, sniffs: bool| {
            listener.filter_chains.iter().find(|chain| parts(chain) == (own_port, sniffs))
        };
        let sniffed = |own_port| if http { fits(own_port, true) } else { None };
        sniffed(Some(port))
            .or_else(|| fits(Some(port), false))
            .or_else(|| sniffed(None))
            .or_else(|| fits(None, false))
            .or(listener.default_filter_chain.as_ref())
    }

    fn serve(&self, chain: &FilterChain, head: &str) -> String {
        let Some(ConfigType::TypedConfig(config)) = chain.filters.last().and_then(|f| f.config_type.as_ref())
        else {
            return "no filter".to_owned();
        };
        if config.type_url == type_url::TCP_PROXY {
            let proxy: TcpProxy = unpack(config).expect("a TCP proxy");
            return match proxy.cluster_specifier {
                Some(ClusterSpecifier::Cluster(name)) => name,
                Some(ClusterSpecifier::WeightedClusters(weighted)) => weighted
                    .clusters
                    .iter()
                    .map(|c| format!("{} {}", c.name, c.weight))
                    .collect::<Vec<_>>()
                    .join(", "),
                None => "no cluster".to_owned(),
            };
        }
        let manager: HttpConnectionManager = unpack(config).expect("a connection manager");
        let Some(request) = request(head) else { return "protocol error".to_owned() };
        let verdict = match &manager.route_specifier {
            Some(RouteSpecifier::Rds(rds)) => evaluate(self.routes(&rds.route_config_name), &request),
            Some(RouteSpecifier::RouteConfig(routes)) => evaluate(routes, &request),
            _ => return "no routes".to_owned(),
        };
        show(&verdict)
    }
}

/// A verdict as a test writes it.
pub fn show(verdict: &Verdict) -> String {
    match verdict {
        Verdict::NoRoute => "404".to_owned(),
        Verdict::RedirectToHttps { .. } => "301 https".to_owned(),
        Verdict::Forward(forward) => forward.cluster.clone().unwrap_or_default(),
        Verdict::Redirect { status, location, .. } => format!("{status} {location}"),
        Verdict::DirectResponse { status, body, .. } if body.is_empty() => status.to_string(),
        Verdict::DirectResponse { status, body, .. } => format!("{status} {body}"),
        Verdict::Unsupported(what) => format!("unsupported: {what}"),
    }
}

/// Reads a head; `None` when it is no HTTP.
fn request(head: &str) -> Option<Request> {
    let mut lines = head.lines().map(str::trim);
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?, first.next()?);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    if !path.starts_with('/') {
        return None;
    }
    let host = headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.clone());
    let mut rest: Vec<(String, String)> = headers.into_iter().filter(|(name, _)| name != "host").collect();
    rest.push(("x-forwarded-proto".to_owned(), "http".to_owned()));
    Some(Request {
        method: method.to_owned(),
        scheme: "http".to_owned(),
        authority: host.unwrap_or_default(),
        path: path.to_owned(),
        headers: rest,
        random: 0,
    })
}

/// Endpoints of an assignment: `address:port`, then ` unhealthy` and ` P1` where they apply.
pub fn addresses(assignment: &ClusterLoadAssignment) -> Vec<String> {
    let mut found = Vec::new();
    for group in &assignment.endpoints {
        for endpoint in &group.lb_endpoints {
            let Some(HostIdentifier::Endpoint(inner)) = &endpoint.host_identifier else { continue };
            let mut text = inner.address.as_ref().map(show_address).unwrap_or_default();
            if endpoint.health_status == 2 {
                text.push_str(" unhealthy");
            }
            if group.priority > 0 {
                text.push_str(&format!(" P{}", group.priority));
            }
            found.push(text);
        }
    }
    found
}

/// An address as text.
pub fn show_address(address: &Address) -> String {
    match &address.address {
        Some(Specifier::SocketAddress(socket)) => match &socket.port_specifier {
            Some(socket_address::PortSpecifier::PortValue(port)) => format!("{}:{port}", socket.address),
            _ => socket.address.clone(),
        },
        Some(Specifier::Pipe(pipe)) => pipe.path.clone(),
        _ => String::new(),
    }
}
