//! Outbound routes of sidecars: one virtual host per service, and a catch-all.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ringsail_api::ProxyConfig;
use ringsail_model::{
    Egress, Mesh, OutboundMode, Proxy, Resolution, Service, ServiceAddress, ServiceKey, View, VirtualService,
    host,
};
use ringsail_xds::envoy::config::route::v3::route_action::ClusterSpecifier;
use ringsail_xds::envoy::config::route::v3::{
    Decorator, DirectResponseAction, Route, RouteAction, RouteConfiguration, VirtualHost, route,
};

use super::virtual_service::{self, RouteScope, consistent_hash, destination_cluster, hash_policy};
use super::{configuration, matching, retry};
use crate::cluster::PortPolicy;
use crate::telemetry::ProxyTelemetry;
use crate::{names, xds};

/// Which routes a listener asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RouteSet {
    /// All HTTP and undeclared services with this port.
    Port(u32),
    /// One service behind a listener of its own.
    Service {
        /// Host name of the service.
        hostname: String,
        /// Number of the service port.
        port: u32,
    },
    /// All services and ports, for the explicit HTTP proxy.
    HttpProxy,
    /// All services and ports of the egress listener bound to this Unix socket.
    Socket(String),
}

impl RouteSet {
    /// Name of the route configuration.
    pub(crate) fn name(&self) -> String {
        match self {
            RouteSet::Port(port) => port.to_string(),
            RouteSet::Service { hostname, port } => format!("{hostname}:{port}"),
            RouteSet::HttpProxy => names::HTTP_PROXY_ROUTES.to_owned(),
            RouteSet::Socket(path) => path.clone(),
        }
    }

    /// The single port it is about.
    fn port(&self) -> Option<u32> {
        match self {
            RouteSet::Port(port) | RouteSet::Service { port, .. } => Some(*port),
            RouteSet::HttpProxy | RouteSet::Socket(_) => None,
        }
    }
}

/// Everything routes are built from.
#[derive(Clone, Copy)]
pub(crate) struct Outbound<'a> {
    pub(crate) mesh: &'a Mesh,
    pub(crate) proxy: &'a Proxy,
    pub(crate) view: &'a View,
    pub(crate) telemetry: &'a ProxyTelemetry,
    pub(crate) config: &'a ProxyConfig,
}

/// Builds one route configuration.
pub(crate) fn build(set: &RouteSet, outbound: Outbound<'_>) -> RouteConfiguration {
    let Some(egress) = egress_for(set, outbound.view) else {
        return configuration(&set.name(), vec![catch_all(outbound.view)]);
    };
    let mut ports: BTreeSet<u32> = BTreeSet::new();
    match set.port() {
        Some(port) => {
            ports.insert(port);
        }
        None => {
            let http = egress
                .services
                .iter()
                .flat_map(|service| &service.ports)
                .filter(|port| sniffed(port.protocol));
            ports.extend(http.map(|port| port.number));
            // Hosts that only a VirtualService knows live on port 80.
            ports.insert(80);
        }
    }
    let mut domains = Domains::new(egress, outbound.proxy, set);
    let mut hosts: Vec<VirtualHost> = Vec::new();
    for port in ports {
        hosts.extend(build_port(port, egress, outbound, &mut domains));
    }
    if let RouteSet::Service { hostname, port } = set {
        let name = names::host_port(hostname, *port);
        hosts.retain(|host| host.name == name);
        hosts.iter_mut().for_each(|host| host.domains = vec!["*".to_owned()]);
        return configuration(&set.name(), hosts);
    }
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    hosts.push(catch_all(outbound.view));
    RouteConfiguration {
        // Compat: istiod sets it here too, and then no request matches the domains with ports that it sends, because
        // Envoy takes the port away first. One proxy listener serves every port, so the port has to count.
        ignore_port_in_host_matching: set.port().is_some(),
        ..configuration(&set.name(), hosts)
    }
}

/// The egress listener a route configuration belongs to: the one with that port or socket, else the catch-all.
fn egress_for<'a>(set: &RouteSet, view: &'a View) -> Option<&'a Egress> {
    let exact = match set {
        RouteSet::Port(port) | RouteSet::Service { port, .. } => {
            view.egress.iter().find(|egress| egress.port() == Some(*port))
        }
        RouteSet::Socket(path) => view.egress.iter().find(|egress| {
            egress
                .declared
                .as_ref()
                .is_some_and(|declared| declared.bind.strip_prefix("unix://") == Some(path))
        }),
        RouteSet::HttpProxy => None,
    };
    exact.or_else(|| view.egress.iter().find(|egress| egress.port().is_none())).or_else(|| view.egress.last())
}

fn sniffed(protocol: ringsail_model::Protocol) -> bool {
    protocol.is_http() || protocol == ringsail_model::Protocol::Auto
}

/// Virtual hosts of one port: VirtualServices first, in lookup order, then services without one.
fn build_port(
    port: u32,
    egress: &Egress,
    outbound: Outbound<'_>,
    domains: &mut Domains<'_>,
) -> Vec<VirtualHost> {
    let on_port: Vec<&Arc<Service>> = egress
        .services
        .iter()
        .filter(|service| !service.is_alias())
        .filter(|service| service.port(port).is_some_and(|port| sniffed(port.protocol)))
        .collect();
    let hostnames: HashSet<&str> = on_port.iter().map(|service| service.hostname()).collect();
    let mut by_virtual_service: HashMap<*const VirtualService, Vec<&Arc<Service>>> = HashMap::new();
    for service in &on_port {
        if let Some(vs) = egress.virtual_service(service.hostname()) {
            by_virtual_service.entry(Arc::as_ptr(vs)).or_default().push(service);
        }
    }
    let mut hosts = Vec::new();
    let mut served: HashSet<&ServiceKey> = HashSet::new();
    for vs in &egress.virtual_services {
        let own = by_virtual_service.remove(&Arc::as_ptr(vs)).unwrap_or_default();
        let covers_a_service = |pattern: &str| match host::is_wildcard(pattern) {
            true => on_port.iter().any(|service| host::is_subset_of(service.hostname(), pattern)),
            false => hostnames.contains(pattern),
        };
        let unknown: Vec<&String> = vs.spec.hosts.iter().filter(|name| !covers_a_service(name)).collect();
        let known = unknown.len() < vs.spec.hosts.len();
        if own.is_empty() && (unknown.is_empty() || !(known || port == 80)) {
            continue;
        }
        let routes = virtual_service_routes(vs, port, outbound);
        if routes.is_empty() {
            continue;
        }
        for name in unknown {
            hosts.extend(domains.host(name, port, std::slice::from_ref(name), routes.clone()));
        }
        for service in own {
            served.insert(&service.key);
            hosts.extend(domains.service(service, port, routes.clone()));
        }
    }
    for service in on_port.iter().filter(|service| !served.contains(&service.key)) {
        hosts.extend(domains.service(service, port, vec![default_route(service, port, outbound)]));
    }
    hosts
}

fn virtual_service_routes(vs: &VirtualService, port: u32, outbound: Outbound<'_>) -> Vec<Route> {
    let Outbound { mesh, proxy, view, .. } = outbound;
    let service = |hostname: &str| find_service(mesh, view, proxy, hostname);
    let hash = |service: &Service, subset: &str, port: u32| {
        let rule = mesh.destination_rule(&proxy.namespace, &proxy.labels, service);
        let policy = PortPolicy::effective(rule.map(|rule| &**rule), subset, port, mesh.settings());
        consistent_hash(policy.load_balancer)
    };
    virtual_service::build(
        vs,
        &RouteScope {
            proxy,
            settings: mesh.settings(),
            gateway: ringsail_model::MESH_GATEWAY,
            port,
            tls: false,
            service: &service,
            hash: &hash,
        },
    )
}

/// The service a destination names, among those the proxy sees.
pub(crate) fn find_service<'a>(
    mesh: &'a Mesh,
    view: &'a View,
    proxy: &Proxy,
    hostname: &str,
) -> Option<&'a Service> {
    view.service(hostname)
        .or_else(|| mesh.services().resolve(hostname, &proxy.namespace))
        .map(|service| &**service)
}

/// The route of a service without a VirtualService.
fn default_route(service: &Service, port: u32, outbound: Outbound<'_>) -> Route {
    let Outbound { mesh, proxy, .. } = outbound;
    let rule = mesh.destination_rule(&proxy.namespace, &proxy.labels, service);
    let policy = PortPolicy::effective(rule.map(|rule| &**rule), "", port, mesh.settings());
    let hash: Vec<_> =
        consistent_hash(policy.load_balancer).and_then(|hash| hash_policy(&hash)).into_iter().collect();
    Route {
        name: "default".to_owned(),
        r#match: Some(matching::any()),
        decorator: Some(Decorator {
            operation: format!("{}/*", names::host_port(service.hostname(), port)),
            ..Decorator::default()
        }),
        action: Some(route::Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(names::outbound_cluster(
                port,
                "",
                service.hostname(),
            ))),
            timeout: Some(xds::ZERO),
            max_grpc_timeout: Some(xds::ZERO),
            retry_policy: retry::outbound(None, mesh.settings(), !hash.is_empty()),
            hash_policy: hash,
            ..RouteAction::default()
        })),
        ..Route::default()
    }
}

/// Requests for hosts the mesh does not know.
fn catch_all(view: &View) -> VirtualHost {
    let (name, action) = match view.outbound {
        OutboundMode::AllowAny => {
            let cluster = match &view.egress_proxy {
                Some(destination) => {
                    destination_cluster(destination, view.service(&destination.host).map(|s| &**s), 0)
                }
                None => names::PASSTHROUGH.to_owned(),
            };
            let action = RouteAction {
                cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
                timeout: Some(xds::ZERO),
                max_grpc_timeout: Some(xds::ZERO),
                ..RouteAction::default()
            };
            (names::ALLOW_ANY, route::Action::Route(action))
        }
        OutboundMode::RegistryOnly => {
            let response = DirectResponseAction { status: 502, ..DirectResponseAction::default() };
            (names::BLOCK_ALL, route::Action::DirectResponse(response))
        }
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![Route {
            name: name.to_owned(),
            r#match: Some(matching::any()),
            action: Some(action),
            ..Route::default()
        }],
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}

/// Domains given out so far: within one route configuration a domain belongs to one virtual host.
struct Domains<'a> {
    used: HashSet<String>,
    names: HashSet<String>,
    /// Full names of services, which a short name of another service must not shadow.
    full: HashSet<&'a str>,
    proxy: &'a Proxy,
    with_port: bool,
}

impl<'a> Domains<'a> {
    fn new(egress: &'a Egress, proxy: &'a Proxy, set: &RouteSet) -> Domains<'a> {
        Domains {
            used: HashSet::new(),
            names: HashSet::new(),
            full: egress
                .services
                .iter()
                .filter(|service| !service.is_alias())
                .map(|s| s.hostname())
                .collect(),
            proxy,
            with_port: set.port().is_none(),
        }
    }

    /// The virtual host of a service, reachable by all its names.
    fn service(&mut self, service: &Service, port: u32, routes: Vec<Route>) -> Option<VirtualHost> {
        let domains = service_domains(service, self.proxy);
        self.host(service.hostname(), port, &domains, routes)
    }

    /// A virtual host with those of the domains that are free; `None` when none is.
    fn host(&mut self, name: &str, port: u32, domains: &[String], routes: Vec<Route>) -> Option<VirtualHost> {
        let vhost = names::host_port(name, port);
        if !self.names.insert(vhost.clone()) {
            return None;
        }
        let mut free = Vec::with_capacity(domains.len());
        for domain in domains {
            if domain != name && self.full.contains(domain.as_str()) {
                continue;
            }
            let forms = match (self.with_port, port) {
                (false, _) => vec![domain.clone()],
                (true, 80) => vec![domain.clone(), names::host_port(domain, port)],
                (true, _) => vec![names::host_port(domain, port)],
            };
            free.extend(forms.into_iter().filter(|form| self.used.insert(form.to_ascii_lowercase())));
        }
        (!free.is_empty()).then(|| VirtualHost {
            name: vhost,
            domains: free,
            routes,
            include_request_attempt_count: true,
            ..VirtualHost::default()
        })
    }
}

/// All names of a service for a client: the full name, short forms relative to the client, the same for aliases,
/// wildcards of headless services, and addresses.
fn service_domains(service: &Service, proxy: &Proxy) -> Vec<String> {
    let mut domains = alternates(service.hostname(), &proxy.dns_domain);
    for alias in &service.aliases {
        domains.extend(alternates(&alias.hostname, &proxy.dns_domain));
    }
    if service.registry == ringsail_model::Registry::Kubernetes
        && service.resolution == Resolution::Passthrough
    {
        let wildcards: Vec<String> = domains.iter().map(|domain| format!("*.{domain}")).collect();
        domains.extend(wildcards);
    }
    let addresses = service.addresses.iter().filter_map(|address| match address {
        ServiceAddress::Ip(ip) => Some(*ip),
        ServiceAddress::Cidr(..) => None,
    });
    let made_up = service.auto_addresses.iter().copied().filter(|_| proxy.dns_auto_allocate);
    for ip in addresses.chain(made_up) {
        let usable = !ip.is_unspecified() && proxy.speaks(ip);
        if usable {
            domains.push(if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() });
        }
    }
    domains
}

/// A host name and its forms for a client whose DNS search domain is `<namespace>.svc.<cluster domain>`.
///
/// In the client's namespace the first label alone is enough; in others the namespace is needed. Names outside the
/// cluster's domain have only the form with a trailing dot.
pub(crate) fn alternates(hostname: &str, dns_domain: &str) -> Vec<String> {
    let mut domains = vec![hostname.to_owned()];
    if hostname.parse::<std::net::IpAddr>().is_ok() || host::is_wildcard(hostname) {
        return domains;
    }
    domains.push(format!("{hostname}."));
    let Some((own_namespace, suffix)) = dns_domain.split_once('.') else { return domains };
    let Some(rest) = hostname.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.')) else {
        return domains;
    };
    let Some((name, namespace)) = rest.split_once('.') else { return domains };
    if namespace.contains('.') || name.is_empty() || !suffix.starts_with("svc") {
        return domains;
    }
    if namespace == own_namespace {
        domains.push(name.to_owned());
        domains.push(format!("{name}.{namespace}.svc"));
        domains.push(format!("{name}.{namespace}"));
    } else {
        domains.push(format!("{name}.{namespace}"));
        domains.push(format!("{name}.{namespace}.svc"));
    }
    domains
}

#[cfg(test)]
mod tests {
    use super::alternates;

    #[test]
    fn short_names_depend_on_the_clients_namespace() {
        assert_eq!(
            alternates("web.shop.svc.cluster.local", "shop.svc.cluster.local"),
            ["web.shop.svc.cluster.local", "web.shop.svc.cluster.local.", "web", "web.shop.svc", "web.shop"]
        );
        assert_eq!(
            alternates("web.shop.svc.cluster.local", "cart.svc.cluster.local"),
            ["web.shop.svc.cluster.local", "web.shop.svc.cluster.local.", "web.shop", "web.shop.svc"]
        );
    }

    #[test]
    fn names_outside_the_cluster_have_only_the_absolute_form() {
        assert_eq!(
            alternates("api.example.com", "shop.svc.cluster.local"),
            ["api.example.com", "api.example.com."]
        );
        assert_eq!(alternates("*.example.com", "shop.svc.cluster.local"), ["*.example.com"]);
        assert_eq!(alternates("10.0.0.1", "shop.svc.cluster.local"), ["10.0.0.1"]);
    }
}
