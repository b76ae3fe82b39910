//! What moved between two snapshots.

use std::collections::BTreeSet;

use crate::service::ServiceKey;

/// Keys that are new, gone or different in the newer of two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Mesh-wide settings changed: everything may differ.
    pub settings: bool,
    /// Services by key.
    pub services: BTreeSet<ServiceKey>,
    /// Services whose endpoints moved.
    pub endpoints: BTreeSet<ServiceKey>,
    /// VirtualServices, as `namespace/name`.
    pub virtual_services: BTreeSet<String>,
    /// Hosts of DestinationRules, as `namespace/host`.
    pub destination_rules: BTreeSet<String>,
    /// Gateways, as `namespace/name`.
    pub gateways: BTreeSet<String>,
    /// Sidecars, as `namespace/name`.
    pub sidecars: BTreeSet<String>,
    /// Telemetry objects, as `namespace/name`.
    pub telemetries: BTreeSet<String>,
    /// EnvoyFilters, as `namespace/name`.
    pub envoy_filters: BTreeSet<String>,
}

impl Delta {
    /// Nothing moved.
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }

    /// Only endpoints moved: clusters, listeners and routes of proxies whose own address is not concerned stay.
    pub fn only_endpoints(&self) -> bool {
        !self.endpoints.is_empty() && Delta { endpoints: BTreeSet::new(), ..self.clone() }.is_empty()
    }

    /// Adds what a later delta moved.
    pub fn merge(&mut self, later: Delta) {
        self.settings |= later.settings;
        self.services.extend(later.services);
        self.endpoints.extend(later.endpoints);
        self.virtual_services.extend(later.virtual_services);
        self.destination_rules.extend(later.destination_rules);
        self.gateways.extend(later.gateways);
        self.sidecars.extend(later.sidecars);
        self.telemetries.extend(later.telemetries);
        self.envoy_filters.extend(later.envoy_filters);
    }
}
