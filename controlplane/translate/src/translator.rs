//! Everything one proxy is to be sent.

use std::sync::Arc;

use ringsail_model::{DestinationRule, Mesh, Proxy, ProxyType, Service, TrafficDistribution, View};
use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use ringsail_xds::envoy::config::listener::v3::Listener;
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;
use ringsail_xds::prost::Message;

use crate::cache::Cache;
use crate::cluster::{self, ClusterInput};
use crate::endpoint::{Client, EndpointInput, build_assignment};
use crate::envoy_filter::{self, GatewayPorts, Patches};
use crate::listener::telemetry::measure_connections;
use crate::listener::{inbound, outbound, virtual_outbound};
use crate::resource::{ProxyResources, Resource, by_name};
use crate::route::sidecar::{self, Outbound, RouteSet};
use crate::telemetry::ProxyTelemetry;
use crate::{gateway, names, policy, proxy_config, xds};

/// Idle time of connections to passed-through destinations, 5 minutes. Source: istiod `cluster_builder.go`.
const PASSTHROUGH_IDLE_TIMEOUT: prost_types::Duration = prost_types::Duration { seconds: 300, nanos: 0 };

/// Everything `proxy` is to be sent.
pub fn translate(mesh: &Mesh, proxy: &Proxy) -> ProxyResources {
    Translator::default().translate(mesh, proxy)
}

/// Translates for many proxies, remembering what they share: clusters and endpoints of services.
#[derive(Debug, Default)]
pub struct Translator {
    version: u64,
    clusters: Cache<ClusterInput, Arc<Vec<ServiceCluster>>>,
    endpoints: Cache<EndpointInput, Arc<Resource>>,
}

/// A cluster of a service, and what its endpoints are selected by when they are sent apart.
#[derive(Debug)]
struct ServiceCluster {
    resource: Arc<Resource>,
    /// Service port number and subset name, for EDS clusters.
    endpoints: Option<(u32, String)>,
}

impl Translator {
    /// Everything `proxy` is to be sent. Equal to [`translate`] for the same arguments.
    pub fn translate(&mut self, mesh: &Mesh, proxy: &Proxy) -> ProxyResources {
        if mesh.version != self.version {
            self.version = mesh.version;
            self.clusters.advance();
            self.endpoints.advance();
        }
        let view = View::of(mesh, proxy);
        let config = proxy_config::effective(mesh, proxy);
        let telemetry = ProxyTelemetry::of(mesh, proxy, &config);
        let outbound = Outbound { mesh, proxy, view: &view, telemetry: &telemetry, config: &config };
        let mut resources = ProxyResources::default();
        self.add_services(outbound, &mut resources);
        let mut own: Vec<Cluster> = vec![black_hole(mesh)];
        let mut ports = GatewayPorts::new();
        let (mut listeners, mut routes) = match proxy.kind {
            ProxyType::Sidecar => {
                own.push(passthrough(mesh));
                sidecar_resources(outbound, &mut own)
            }
            ProxyType::Router => {
                let built = gateway::build(outbound);
                ports = built.ports;
                (built.listeners, built.routes)
            }
        };
        listeners.iter_mut().for_each(|listener| measure_connections(listener, &telemetry));
        let encode_cluster = |cluster: &Cluster| Arc::new(Resource::encode(&cluster.name, cluster));
        resources.clusters.extend(own.iter().map(encode_cluster));
        routes.iter_mut().for_each(|routes| proxy_config::apply_to_routes(routes, &config));
        if let Some(bytes) = proxy_config::listener_buffer(&config, proxy) {
            listeners.iter_mut().for_each(|listener| {
                listener.per_connection_buffer_limit_bytes = Some(bytes);
            });
        }
        if let Some(bytes) = proxy_config::cluster_buffer(&config, proxy) {
            limit_buffers(&mut resources.clusters, bytes);
        }
        if let Some(patches) = Patches::of(mesh, proxy) {
            let context = envoy_filter::outbound_context(proxy);
            envoy_filter::patch_clusters(&mut resources.clusters, proxy, &patches);
            envoy_filter::patch_listeners(&mut listeners, proxy, &patches);
            for configuration in &mut routes {
                envoy_filter::patch_routes(configuration, context, &ports, &patches);
            }
        }
        resources.listeners =
            listeners.iter().map(|listener| Arc::new(Resource::encode(&listener.name, listener))).collect();
        resources.routes =
            routes.iter().map(|routes| Arc::new(Resource::encode(&routes.name, routes))).collect();
        resources.clusters = by_name(resources.clusters);
        resources.endpoints = by_name(resources.endpoints);
        resources.listeners = by_name(resources.listeners);
        resources.routes = by_name(resources.routes);
        resources
    }

    /// Clusters and endpoints of every service the proxy sees.
    fn add_services(&mut self, outbound: Outbound<'_>, resources: &mut ProxyResources) {
        let Outbound { mesh, proxy, view, .. } = outbound;
        for service in view.services.iter().filter(|service| !service.is_alias()) {
            let rule = mesh.destination_rule(&proxy.namespace, &proxy.labels, service);
            let client = client(mesh, proxy, service, rule.map(|rule| &**rule));
            let in_cluster = matches!(
                cluster::discovery_type(service, proxy.kind),
                DiscoveryType::StrictDns | DiscoveryType::LogicalDns
            );
            let endpoints = mesh.endpoints(&service.key);
            let input = ClusterInput {
                settings: mesh.settings().into(),
                service: service.into(),
                rule: rule.map(Into::into),
                endpoints: in_cluster.then(|| (&endpoints).into()),
                proxy: proxy.kind,
                proxy_ipv4: proxy.has_ipv4(),
                proxy_ipv6: proxy.has_ipv6(),
                locality: client.locality.clone(),
            };
            let clusters = self.clusters.get_or_insert_with(input, service_clusters);
            for cluster in clusters.iter() {
                resources.clusters.push(Arc::clone(&cluster.resource));
                let Some((port, subset)) = &cluster.endpoints else { continue };
                let input = EndpointInput {
                    settings: mesh.settings().into(),
                    cluster: cluster.resource.name.clone(),
                    endpoints: (&endpoints).into(),
                    service: service.into(),
                    rule: rule.map(Into::into),
                    port: *port,
                    subset: subset.clone(),
                    client: client.clone(),
                    single: false,
                };
                let built = self.endpoints.get_or_insert_with(input, |input| {
                    Arc::new(Resource::encode(&input.cluster, &build_assignment(input)))
                });
                resources.endpoints.push(built);
            }
        }
    }
}

fn service_clusters(input: &ClusterInput) -> Arc<Vec<ServiceCluster>> {
    let clusters = cluster::build_outbound(input);
    let with_endpoints = |cluster: &Cluster| {
        if cluster.cluster_discovery_type != Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)) {
            return None;
        }
        let mut parts = cluster.name.split('|').skip(1);
        Some((parts.next()?.parse().ok()?, parts.next()?.to_owned()))
    };
    let list = clusters.iter().map(|cluster| ServiceCluster {
        resource: Arc::new(Resource::encode(&cluster.name, cluster)),
        endpoints: with_endpoints(cluster),
    });
    Arc::new(list.collect())
}

/// What a proxy's place means for a service: nothing, unless something orders endpoints by it.
fn client(mesh: &Mesh, proxy: &Proxy, service: &Service, rule: Option<&DestinationRule>) -> Client {
    let default_policy = mesh.settings().config.default_traffic_policy.as_ref();
    let ordered = service.traffic_distribution != TrafficDistribution::Any
        || rule.is_some_and(|rule| {
            rule.traffic_policy.is_some() || rule.subsets.iter().any(|subset| subset.traffic_policy.is_some())
        })
        || default_policy.is_some_and(|policy| policy.outlier_detection.is_some())
        || mesh
            .settings()
            .config
            .locality_lb_setting
            .as_ref()
            .is_some_and(|setting| !setting.distribute.is_empty());
    let node = if service.node_local { proxy.node_name.clone() } else { String::new() };
    if !ordered {
        return Client { node, ..Client::default() };
    }
    Client {
        locality: proxy.locality.clone(),
        labels: proxy.labels.clone(),
        network: proxy.network.clone(),
        cluster: proxy.cluster.clone(),
        node: proxy.node_name.clone(),
    }
}

fn sidecar_resources(
    outbound: Outbound<'_>,
    clusters: &mut Vec<Cluster>,
) -> (Vec<Listener>, Vec<RouteConfiguration>) {
    let proxy = outbound.proxy;
    let mut built = outbound::build(outbound);
    if let Some(listener) = outbound::http_proxy(outbound) {
        built.listeners.push(listener);
        built.routes.insert(RouteSet::HttpProxy);
    }
    if !proxy.is_uncaptured() {
        built.listeners.push(virtual_outbound::build(outbound));
    }
    let ports = inbound::ports(outbound);
    clusters.extend(inbound::clusters(&ports, outbound));
    built.listeners.extend(inbound::listeners(&ports, outbound));
    let routes = built.routes.iter().map(|set| sidecar::build(set, outbound)).collect();
    (built.listeners, routes)
}

/// Bounds what a connection of each cluster may buffer. Clusters are shared with proxies that have other settings, so
/// these are copies.
fn limit_buffers(clusters: &mut [Arc<Resource>], bytes: u32) {
    for resource in clusters {
        let Ok(mut cluster) = Cluster::decode(resource.body.as_slice()) else { continue };
        cluster.per_connection_buffer_limit_bytes = Some(bytes);
        *resource = Arc::new(Resource::encode(&cluster.name, &cluster));
    }
}

/// The cluster without hosts.
fn black_hole(mesh: &Mesh) -> Cluster {
    Cluster {
        name: names::BLACK_HOLE.to_owned(),
        alt_stat_name: names::stat_prefix(names::BLACK_HOLE),
        connect_timeout: Some(xds::duration(mesh.settings().connect_timeout())),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        ..Cluster::default()
    }
}

/// The cluster of the address the client dialled.
fn passthrough(mesh: &Mesh) -> Cluster {
    let mut cluster = inbound::original_destination(names::PASSTHROUGH, mesh.settings());
    cluster.alt_stat_name = names::stat_prefix(names::PASSTHROUGH);
    policy::use_downstream_protocol(&mut cluster, Some(PASSTHROUGH_IDLE_TIMEOUT));
    cluster
}
