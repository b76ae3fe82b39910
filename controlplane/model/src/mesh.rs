//! The snapshot: all the mesh is at one moment, immutable.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::destination_rule::{DestinationRule, DestinationRuleIndex};
use crate::endpoint::ServiceEndpoints;
use crate::envoy_filter::{self, EnvoyFilter, Patch};
use crate::gateway::Gateway;
use crate::labels::Labels;
use crate::proxy::Proxy;
use crate::registry::endpoints::EndpointIndex;
use crate::registry::services::ServiceIndex;
use crate::service::{Service, ServiceKey};
use crate::settings::MeshSettings;
use crate::sidecar::Sidecar;
use crate::telemetry::Telemetry;
use crate::virtual_service::VirtualService;

/// One immutable state of the mesh. Parts that a change does not touch are shared with the snapshot before, so pointer
/// equality of a part means that it did not change.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// Number of the snapshot, from 1; 0 is the empty mesh.
    pub version: u64,
    pub(crate) settings: Arc<MeshSettings>,
    pub(crate) namespaces: Arc<BTreeMap<String, Labels>>,
    pub(crate) services: Arc<ServiceIndex>,
    pub(crate) endpoints: Arc<EndpointIndex>,
    /// One allocation for all services without endpoints, so that they too compare by address.
    pub(crate) no_endpoints: Arc<ServiceEndpoints>,
    pub(crate) instances: Arc<HashMap<IpAddr, Vec<Instance>>>,
    pub(crate) virtual_services: Arc<Vec<Arc<VirtualService>>>,
    pub(crate) destination_rules: Arc<DestinationRuleIndex>,
    pub(crate) gateways: Arc<Vec<Arc<Gateway>>>,
    pub(crate) sidecars: Arc<Vec<Arc<Sidecar>>>,
    pub(crate) telemetries: Arc<Vec<Arc<Telemetry>>>,
    pub(crate) envoy_filters: Arc<Vec<Arc<EnvoyFilter>>>,
}

impl Mesh {
    /// Mesh-wide settings.
    pub fn settings(&self) -> &Arc<MeshSettings> {
        &self.settings
    }

    /// All services.
    pub fn services(&self) -> &ServiceIndex {
        &self.services
    }

    /// All VirtualServices, oldest first, delegates merged into the objects that name them.
    pub fn virtual_services(&self) -> &[Arc<VirtualService>] {
        &self.virtual_services
    }

    /// All DestinationRules.
    pub fn destination_rules(&self) -> &DestinationRuleIndex {
        &self.destination_rules
    }

    /// All Gateways, oldest first.
    pub fn gateways(&self) -> &[Arc<Gateway>] {
        &self.gateways
    }

    /// All Sidecars, oldest first.
    pub fn sidecars(&self) -> &[Arc<Sidecar>] {
        &self.sidecars
    }

    /// All Telemetry objects, oldest first.
    pub fn telemetries(&self) -> &[Arc<Telemetry>] {
        &self.telemetries
    }

    /// All EnvoyFilters, oldest first, refused ones included.
    pub fn envoy_filters(&self) -> &[Arc<EnvoyFilter>] {
        &self.envoy_filters
    }

    /// The patches of EnvoyFilters that concern a proxy, in the order they are applied.
    pub fn patches_for(&self, proxy: &Proxy) -> Vec<Arc<Patch>> {
        let filters = self.envoy_filters.iter().map(|filter| &**filter);
        envoy_filter::patches_for(filters, proxy, &self.settings.root_namespace)
    }

    /// Endpoints of a service; none for an unknown one.
    pub fn endpoints(&self, key: &ServiceKey) -> Arc<ServiceEndpoints> {
        self.endpoints.get(key).unwrap_or(&self.no_endpoints).clone()
    }

    /// Endpoints of all services.
    pub fn all_endpoints(&self) -> &EndpointIndex {
        &self.endpoints
    }

    /// The DestinationRule that a client uses for a service.
    pub fn destination_rule(
        &self,
        namespace: &str,
        workload: &Labels,
        service: &Service,
    ) -> Option<&Arc<DestinationRule>> {
        self.destination_rules.find(namespace, workload, &service.key, &self.settings.root_namespace)
    }

    /// The service of a collector of logs or spans: `namespace/hostname`, or `hostname` where only one namespace has it.
    pub fn collector(&self, name: &str) -> Option<&Arc<Service>> {
        match name.split_once('/') {
            Some((namespace, hostname)) => {
                let key = ServiceKey { namespace: namespace.to_owned(), hostname: hostname.to_owned() };
                self.services.get(&key)
            }
            None => match self.services.with_hostname(name) {
                [only] => Some(only),
                _ => None,
            },
        }
    }

    /// What the workload at these addresses offers: services that have an endpoint there, oldest first.
    pub fn instances_at(&self, ips: &[IpAddr]) -> Vec<(Arc<Service>, Instance)> {
        let mut found: Vec<(Arc<Service>, Instance)> = ips
            .iter()
            .filter_map(|ip| self.instances.get(ip))
            .flatten()
            .filter_map(|instance| {
                Some((Arc::clone(self.services.get(&instance.service)?), instance.clone()))
            })
            .collect();
        found.sort_by(|(a, x), (b, y)| {
            (&a.age, &a.key, x.service_port, x.port).cmp(&(&b.age, &b.key, y.service_port, y.port))
        });
        found.dedup_by(|(_, x), (_, y)| x == y);
        found
    }
}

/// One service port offered at an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance {
    /// The service.
    pub service: ServiceKey,
    /// Number of the service port.
    pub service_port: u32,
    /// Port of the workload.
    pub port: u32,
}
