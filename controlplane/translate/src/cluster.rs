//! Outbound clusters: one per service port and one per subset of it.

use std::sync::Arc;

use ringsail_api::networking::traffic_policy::RetryBudget;
use ringsail_api::networking::{
    ConnectionPoolSettings, LoadBalancerSettings, OutlierDetection, TrafficPolicy,
};
use ringsail_model::{
    DestinationRule, EndpointAddress, MeshSettings, Protocol, ProxyType, Resolution, Service,
    ServiceEndpoints, ServicePort, TargetPort,
};
use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbConfig,
    LbPolicy, OriginalDstLbConfig,
};
use ringsail_xds::envoy::r#type::v3::Percent;

use crate::endpoint::{EndpointInput, build_assignment};
use crate::policy::{self, UpstreamProtocol};
use crate::shared::Shared;
use crate::{names, xds};

/// Everything the clusters of one service depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClusterInput {
    pub(crate) settings: Shared<MeshSettings>,
    pub(crate) service: Shared<Service>,
    pub(crate) rule: Option<Shared<DestinationRule>>,
    /// Only for services whose endpoints are part of the cluster (DNS).
    pub(crate) endpoints: Option<Shared<ServiceEndpoints>>,
    pub(crate) proxy: ProxyType,
    pub(crate) proxy_ipv4: bool,
    pub(crate) proxy_ipv6: bool,
    pub(crate) locality: ringsail_model::Locality,
}

/// The parts of a traffic policy that concern a cluster, taken for one port of a destination or subset.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PortPolicy<'a> {
    pub(crate) pool: Option<&'a ConnectionPoolSettings>,
    pub(crate) load_balancer: Option<&'a LoadBalancerSettings>,
    pub(crate) outlier: Option<&'a OutlierDetection>,
    /// Not settable by port.
    pub(crate) retry_budget: Option<&'a RetryBudget>,
}

impl<'a> PortPolicy<'a> {
    /// Blocks of the port settings if there are any for this port, else those of the policy: a port entry replaces all
    /// blocks. Source: Istio API, `TrafficPolicy.port_level_settings`.
    fn of(policy: &'a TrafficPolicy, port: u32) -> PortPolicy<'a> {
        let entry = policy
            .port_level_settings
            .iter()
            .find(|entry| entry.port.as_ref().is_some_and(|selector| selector.number == port));
        match entry {
            Some(entry) => PortPolicy {
                pool: entry.connection_pool.as_ref(),
                load_balancer: entry.load_balancer.as_ref(),
                outlier: entry.outlier_detection.as_ref(),
                retry_budget: policy.retry_budget.as_ref(),
            },
            None => PortPolicy {
                pool: policy.connection_pool.as_ref(),
                load_balancer: policy.load_balancer.as_ref(),
                outlier: policy.outlier_detection.as_ref(),
                retry_budget: policy.retry_budget.as_ref(),
            },
        }
    }

    /// The policy of a destination (`subset` empty) or of a subset, which overrides block by block.
    pub(crate) fn effective(
        rule: Option<&'a DestinationRule>,
        subset: &str,
        port: u32,
        settings: &'a MeshSettings,
    ) -> PortPolicy<'a> {
        let mut policy = PortPolicy::default();
        if let Some(rule) = rule {
            if let Some(top) = &rule.traffic_policy {
                policy = PortPolicy::of(top, port);
            }
            if let Some(own) = rule.subset(subset).and_then(|subset| subset.traffic_policy.as_ref()) {
                let own = PortPolicy::of(own, port);
                policy.pool = own.pool.or(policy.pool);
                policy.load_balancer = own.load_balancer.or(policy.load_balancer);
                policy.outlier = own.outlier.or(policy.outlier);
                policy.retry_budget = own.retry_budget.or(policy.retry_budget);
            }
        }
        if let Some(mesh) = &settings.config.default_traffic_policy {
            policy.pool = policy.pool.or(mesh.connection_pool.as_ref());
            policy.outlier = policy.outlier.or(mesh.outlier_detection.as_ref());
        }
        policy
    }
}

/// The clusters of every port of a service: the default one, then its subsets.
pub(crate) fn build_outbound(input: &ClusterInput) -> Vec<Cluster> {
    let service = &input.service;
    if service.is_alias() || service.resolution == Resolution::DynamicDns {
        // Dynamic DNS needs the dynamic forward proxy; such entries are refused when they are read.
        return Vec::new();
    }
    let mut clusters = Vec::new();
    for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
        clusters.extend(build_one(input, port, ""));
        let subsets = input.rule.as_ref().map_or(&[][..], |rule| &rule.subsets);
        clusters.extend(subsets.iter().filter_map(|subset| build_one(input, port, &subset.name)));
    }
    clusters
}

/// How the cluster of a service finds its hosts, for a proxy of this type.
pub(crate) fn discovery_type(service: &Service, proxy: ProxyType) -> DiscoveryType {
    match (&service.resolution, proxy) {
        (Resolution::ClientSideLb, _) => DiscoveryType::Eds,
        (Resolution::Dns, _) => DiscoveryType::StrictDns,
        (Resolution::DnsRoundRobin, _) => DiscoveryType::LogicalDns,
        (Resolution::Passthrough, ProxyType::Router) => DiscoveryType::Eds,
        (Resolution::Passthrough | Resolution::DynamicDns | Resolution::Alias(_), _) => {
            DiscoveryType::OriginalDst
        }
    }
}

fn build_one(input: &ClusterInput, port: &ServicePort, subset: &str) -> Option<Cluster> {
    let service = &input.service;
    let name = names::outbound_cluster(port.number, subset, service.hostname());
    let policy = PortPolicy::effective(input.rule.as_deref(), subset, port.number, &input.settings);
    let mut kind = discovery_type(service, input.proxy);
    if policy::asks_for_original_destination(policy.load_balancer) && kind == DiscoveryType::Eds {
        kind = DiscoveryType::OriginalDst;
    }
    let mut cluster = Cluster {
        alt_stat_name: names::stat_prefix(&name),
        connect_timeout: Some(xds::duration(input.settings.connect_timeout())),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind as i32)),
        metadata: Some(metadata(input, subset)),
        circuit_breakers: Some(policy::circuit_breakers(policy.pool, policy.retry_budget)),
        ..Cluster::default()
    };
    match kind {
        DiscoveryType::Eds => {
            cluster.eds_cluster_config =
                Some(EdsClusterConfig { eds_config: Some(xds::ads()), service_name: name.clone() });
        }
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
            let endpoints = input.endpoints.as_ref()?;
            let single = kind == DiscoveryType::LogicalDns;
            let assignment = build_assignment(&EndpointInput {
                settings: input.settings.clone(),
                cluster: name.clone(),
                endpoints: endpoints.clone(),
                service: input.service.clone(),
                rule: input.rule.clone(),
                port: port.number,
                subset: subset.to_owned(),
                client: crate::endpoint::Client { locality: input.locality.clone(), ..Default::default() },
                single,
            });
            if assignment.endpoints.is_empty() {
                return None;
            }
            if all_ips(endpoints, port.number) {
                cluster.cluster_discovery_type =
                    Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32));
            } else {
                cluster.dns_lookup_family = dns_family(input) as i32;
                cluster.dns_refresh_rate = Some(xds::duration(input.settings.dns_refresh_rate()));
                cluster.respect_dns_ttl = true;
                cluster.dns_jitter = Some(DNS_JITTER);
            }
            cluster.load_assignment = Some(assignment);
        }
        DiscoveryType::OriginalDst => {
            if let TargetPort::Number(target) = port.target
                && target != port.number
                && service.registry == ringsail_model::Registry::External
            {
                cluster.lb_config = Some(LbConfig::OriginalDstLbConfig(OriginalDstLbConfig {
                    upstream_port_override: Some(target),
                    ..OriginalDstLbConfig::default()
                }));
            }
        }
        DiscoveryType::Static => {}
    }
    cluster.common_lb_config = Some(CommonLbConfig {
        // Unready endpoints are sent as unhealthy; in panic mode they would get traffic.
        healthy_panic_threshold: Some(Percent { value: 0.0 }),
        ..CommonLbConfig::default()
    });
    policy::apply_outlier_detection(&mut cluster, policy.outlier);
    if kind == DiscoveryType::OriginalDst {
        cluster.lb_policy = LbPolicy::ClusterProvided as i32;
    } else {
        policy::apply_load_balancer(&mut cluster, policy.load_balancer, &input.settings, &input.locality);
    }
    policy::apply_pool(&mut cluster, policy.pool, &input.settings);
    let protocol = match port.protocol {
        p if p.is_http2() => UpstreamProtocol::Http2,
        Protocol::Auto if input.proxy == ProxyType::Sidecar => UpstreamProtocol::Downstream,
        _ => UpstreamProtocol::Http1,
    };
    policy::apply_protocol(&mut cluster, protocol, port.protocol, policy.pool, &input.settings);
    cluster.name = name;
    Some(cluster)
}

/// Spreads the refreshes of proxies that resolve the same names. Source: `PILOT_DNS_JITTER_DURATION`.
const DNS_JITTER: prost_types::Duration = prost_types::Duration { seconds: 0, nanos: 100_000_000 };

fn all_ips(endpoints: &ServiceEndpoints, port: u32) -> bool {
    endpoints.of_port(port).iter().all(|endpoint| !matches!(endpoint.address, EndpointAddress::Dns(_)))
}

fn dns_family(input: &ClusterInput) -> DnsLookupFamily {
    match (input.proxy_ipv4, input.proxy_ipv6) {
        (true, true) => DnsLookupFamily::All,
        (false, true) => DnsLookupFamily::V6Only,
        _ => DnsLookupFamily::V4Only,
    }
}

fn metadata(input: &ClusterInput, subset: &str) -> ringsail_xds::envoy::config::core::v3::Metadata {
    let service = &input.service;
    let mut fields = service_metadata([service.as_ref()]);
    if let Some(rule) = &input.rule {
        let path = names::config_path("destination-rule", &rule.namespace, &rule.name);
        fields.fields.insert("config".to_owned(), xds::text(path));
    }
    if !subset.is_empty() {
        fields.fields.insert("subset".to_owned(), xds::text(subset));
    }
    if service.external {
        let external = prost_types::Value { kind: Some(prost_types::value::Kind::BoolValue(true)) };
        fields.fields.insert("external".to_owned(), external);
    }
    xds::istio_metadata(fields)
}

/// `services: [{host, name, namespace}]`.
pub(crate) fn service_metadata<'a>(
    services: impl IntoIterator<Item = &'a Arc<Service>>,
) -> prost_types::Struct {
    let entry = |service: &Arc<Service>| {
        let fields = xds::object([
            ("host", xds::text(service.hostname())),
            ("name", xds::text(&service.name)),
            ("namespace", xds::text(&service.key.namespace)),
        ]);
        prost_types::Value { kind: Some(prost_types::value::Kind::StructValue(fields)) }
    };
    xds::object([("services", xds::list(services.into_iter().map(entry).collect()))])
}
