//! Endpoints of a cluster: subset selection, health, localities, priorities and weights.

use std::collections::BTreeMap;

use ringsail_model::{
    DestinationRule, Endpoint, EndpointAddress, Health, Labels, Locality, MeshSettings, Service,
    ServiceEndpoints, TrafficDistribution, labels,
};
use ringsail_xds::envoy::config::core::v3::{self as core, HealthStatus, Metadata};
use ringsail_xds::envoy::config::endpoint::v3::{
    self as eds, ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};

use crate::cluster::PortPolicy;
use crate::locality;
use crate::shared::Shared;
use crate::xds;

/// What the order of preference among endpoints depends on. All empty for a client that has no preference, so that
/// such clients share results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) locality: Locality,
    pub(crate) labels: Labels,
    pub(crate) network: String,
    pub(crate) cluster: String,
    pub(crate) node: String,
}

/// Everything the endpoints of one cluster depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EndpointInput {
    pub(crate) settings: Shared<MeshSettings>,
    pub(crate) cluster: String,
    pub(crate) endpoints: Shared<ServiceEndpoints>,
    pub(crate) service: Shared<Service>,
    pub(crate) rule: Option<Shared<DestinationRule>>,
    /// Number of the service port.
    pub(crate) port: u32,
    /// Name of the subset, empty for all.
    pub(crate) subset: String,
    pub(crate) client: Client,
    /// LOGICAL_DNS clusters take exactly one endpoint.
    pub(crate) single: bool,
}

/// The endpoints of one cluster.
pub(crate) fn build_assignment(input: &EndpointInput) -> ClusterLoadAssignment {
    let policy = PortPolicy::effective(input.rule.as_deref(), &input.subset, input.port, &input.settings);
    let subset = input.rule.as_ref().and_then(|rule| rule.subset(&input.subset)).map(|subset| &subset.labels);
    let distribution = input.service.traffic_distribution;
    let min_health = policy.outlier.map_or(0, |outlier| outlier.min_health_percent);
    let send_unhealthy = min_health <= 0 || distribution != TrafficDistribution::Any;
    let wanted = |endpoint: &&Endpoint| {
        (endpoint.health == Health::Healthy || send_unhealthy)
            && subset.is_none_or(|subset| labels::selects(subset, &endpoint.workload.labels))
            && (!input.service.node_local
                || input.client.node.is_empty()
                || endpoint.workload.node == input.client.node)
    };
    let mut groups: BTreeMap<&Locality, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in input.endpoints.of_port(input.port).iter().filter(wanted) {
        groups.entry(&endpoint.locality).or_default().push(endpoint);
        if input.single {
            break;
        }
    }
    let setting = policy.load_balancer.and_then(|lb| lb.locality_lb_setting.as_ref()).or(input
        .settings
        .config
        .locality_lb_setting
        .as_ref());
    let preference = locality::Preference::of(setting, policy.outlier.is_some(), distribution);
    let endpoints = preference
        .arrange(groups, &input.client)
        .into_iter()
        .map(|group| LocalityLbEndpoints {
            locality: Some(core::Locality {
                region: group.locality.region.clone(),
                zone: group.locality.zone.clone(),
                sub_zone: group.locality.subzone.clone(),
            }),
            lb_endpoints: group.endpoints.iter().map(|endpoint| lb_endpoint(endpoint)).collect(),
            load_balancing_weight: Some(group.weight),
            priority: group.priority,
            ..LocalityLbEndpoints::default()
        })
        .collect();
    ClusterLoadAssignment {
        cluster_name: input.cluster.clone(),
        endpoints,
        ..ClusterLoadAssignment::default()
    }
}

fn lb_endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let address = match &endpoint.address {
        EndpointAddress::Ip(ip) => xds::tcp_address(&ip.to_string(), endpoint.port),
        EndpointAddress::Dns(name) => xds::tcp_address(name, endpoint.port),
        EndpointAddress::Unix(path) => xds::pipe_address(path),
    };
    let health = match endpoint.health {
        // Compat: the default stays unset, as istiod leaves it.
        Health::Healthy => HealthStatus::Unknown,
        Health::Unhealthy => HealthStatus::Unhealthy,
    };
    LbEndpoint {
        health_status: health as i32,
        metadata: workload_metadata(endpoint),
        load_balancing_weight: Some(endpoint.weight),
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(eds::Endpoint {
            address: Some(address),
            ..eds::Endpoint::default()
        })),
    }
}

/// `istio.workload`: who the endpoint is, for telemetry of peers that cannot exchange metadata.
fn workload_metadata(endpoint: &Endpoint) -> Option<Metadata> {
    let workload = &endpoint.workload;
    if workload.name.is_empty() {
        return None;
    }
    let label =
        |keys: &[&str]| keys.iter().find_map(|key| workload.labels.get(*key)).cloned().unwrap_or_default();
    let mut name = label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    if name.is_empty() {
        name.clone_from(&workload.name);
    }
    let revision = label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    let parts = [&workload.name, &workload.namespace, &name, &revision, &workload.cluster];
    let joined = parts.map(String::as_str).join(";");
    Some(xds::istio_metadata(xds::object([("workload", xds::text(joined))])))
}
