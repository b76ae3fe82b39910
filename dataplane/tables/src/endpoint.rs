//! Endpoints of a cluster: priority → locality → endpoint.

use std::sync::Arc;

use crate::address::Address;
use crate::ids::EndpointId;
use crate::metadata::Metadata;
use crate::strings::Str;

/// All endpoints of a cluster, as assigned by EDS, given inline or resolved by DNS.
///
/// Health here is what the control plane says; ejections and active checks are the shard's state.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Endpoints {
    /// By priority, 0 first; priorities without endpoints are present and empty.
    pub priorities: Box<[Priority]>,
    /// Percent by which a priority's health is overrated before traffic spills over. Source:
    /// `ClusterLoadAssignment.Policy.overprovisioning_factor`, default 140.
    pub overprovisioning_percent: u32,
    /// First slot that no endpoint has: how long per-endpoint state of a shard must be.
    pub slots: u32,
}

/// Endpoints of one priority.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Priority {
    /// By locality, in configured order.
    pub localities: Box<[LocalityEndpoints]>,
}

/// Endpoints of one locality.
#[derive(Clone, PartialEq, Debug)]
pub struct LocalityEndpoints {
    /// Where.
    pub locality: Option<Arc<Locality>>,
    /// Share among the localities of its priority, for clusters that weigh localities; `None` gets no traffic then.
    pub weight: Option<u32>,
    /// The endpoints in configured order.
    pub endpoints: Box<[Endpoint]>,
}

/// Source: `envoy.config.core.v3.Locality`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Locality {
    /// Region.
    pub region: Str,
    /// Zone.
    pub zone: Str,
    /// Sub-zone.
    pub sub_zone: Str,
}

/// One endpoint. Source: `envoy.config.endpoint.v3.LbEndpoint`.
#[derive(Clone, PartialEq, Debug)]
pub struct Endpoint {
    /// Kept while the address stays in the cluster.
    pub id: EndpointId,
    /// Where to connect.
    pub address: Address,
    /// Its name, for `auto_host_rewrite` and DNS clusters.
    pub hostname: Option<Str>,
    /// Health as the control plane sees it.
    pub health: Health,
    /// Share among the endpoints of its locality, at least 1.
    pub weight: u32,
    /// Labels and other metadata.
    pub metadata: Option<Arc<Metadata>>,
}

/// Source: `envoy.config.core.v3.HealthStatus`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Health {
    /// UNKNOWN or HEALTHY: may be picked.
    Healthy,
    /// DEGRADED: picked when healthy ones do not suffice.
    Degraded,
    /// UNHEALTHY, TIMEOUT: not picked, except in panic.
    Unhealthy,
    /// DRAINING: not picked for new requests.
    Draining,
}

impl Endpoints {
    /// All endpoints with the priority they are in.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &LocalityEndpoints, &Endpoint)> {
        self.priorities.iter().enumerate().flat_map(|(priority, endpoints)| {
            let localities = endpoints.localities.iter();
            localities
                .flat_map(move |locality| locality.endpoints.iter().map(move |e| (priority, locality, e)))
        })
    }

    /// How many endpoints there are in all.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}
