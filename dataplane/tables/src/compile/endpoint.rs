//! Load assignments and the endpoints they stand for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::config::endpoint::v3 as pb;

use super::context::Context;
use super::metadata::metadata;
use super::value::{Target, target};
use crate::address::Address;
use crate::endpoint::{Endpoint, Endpoints, Health, Locality, LocalityEndpoints, Priority};
use crate::ids::EndpointId;
use crate::limits::PRIORITY_MAX;
use crate::metadata::Metadata;
use crate::strings::Str;

/// Source: `ClusterLoadAssignment.Policy.overprovisioning_factor`.
const OVERPROVISIONING_DEFAULT: u32 = 140;

/// A load assignment whose host names are not resolved yet.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Assignment {
    pub(super) overprovisioning_percent: u32,
    pub(super) localities: Vec<AssignedLocality>,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct AssignedLocality {
    priority: u32,
    locality: Option<Arc<Locality>>,
    weight: Option<u32>,
    pub(super) hosts: Vec<AssignedHost>,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct AssignedHost {
    pub(super) target: HostTarget,
    hostname: Option<Str>,
    health: Health,
    weight: u32,
    metadata: Option<Arc<Metadata>>,
}

/// Where a host is.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum HostTarget {
    Address(Address),
    /// To be resolved.
    Name {
        name: Str,
        port: u16,
    },
}

/// The result of resolving names, as the compiler keeps it. `None` while a name has not been resolved once.
pub(super) trait Resolved {
    fn addresses(&self, name: &Str) -> Option<&[IpAddr]>;
}

/// For assignments whose hosts all have addresses.
pub(super) struct NoNames;

impl Resolved for NoNames {
    fn addresses(&self, _: &Str) -> Option<&[IpAddr]> {
        None
    }
}

/// Compiles an assignment. `names` tells whether host names are allowed, as in DNS clusters.
pub(super) fn assignment(cx: &mut Context<'_>, value: &pb::ClusterLoadAssignment, names: bool) -> Assignment {
    let policy = value.policy.as_ref();
    let localities = cx.each("endpoints", &value.endpoints, |cx, value| locality(cx, value, names));
    Assignment {
        overprovisioning_percent: policy
            .and_then(|policy| policy.overprovisioning_factor)
            .unwrap_or(OVERPROVISIONING_DEFAULT),
        localities: localities.into_vec(),
    }
}

fn locality(cx: &mut Context<'_>, value: &pb::LocalityLbEndpoints, names: bool) -> Option<AssignedLocality> {
    if value.priority > PRIORITY_MAX {
        return cx.refuse("priority", format_args!("{} is above {PRIORITY_MAX}", value.priority));
    }
    let locality = value.locality.as_ref().map(|value| {
        let (region, zone, sub_zone) =
            (cx.intern(&value.region), cx.intern(&value.zone), cx.intern(&value.sub_zone));
        cx.share_locality(Locality { region, zone, sub_zone })
    });
    Some(AssignedLocality {
        priority: value.priority,
        locality,
        weight: value.load_balancing_weight,
        hosts: cx.each("lb_endpoints", &value.lb_endpoints, |cx, value| host(cx, value, names)).into_vec(),
    })
}

fn host(cx: &mut Context<'_>, value: &pb::LbEndpoint, names: bool) -> Option<AssignedHost> {
    let Some(pb::lb_endpoint::HostIdentifier::Endpoint(endpoint)) = &value.host_identifier else {
        return cx.refuse("endpoint", "is not set");
    };
    let hostname = cx.intern_set(&endpoint.hostname);
    let (target, hostname) = cx.at("endpoint", |cx| match target(cx, endpoint.address.as_ref())? {
        Target::Address(address) => Some((HostTarget::Address(address), hostname)),
        Target::Host { name, port } if names => {
            let name = cx.intern(&name);
            // Compat: an endpoint found by its name has that name, unless another is given.
            let hostname = hostname.or_else(|| Some(name.clone()));
            Some((HostTarget::Name { name, port }, hostname))
        }
        Target::Host { name, .. } => cx.refuse(
            "address.socket_address.address",
            format_args!("{name:?} is no IP address (host names need STRICT_DNS or LOGICAL_DNS)"),
        ),
    })?;
    if value.load_balancing_weight == Some(0) {
        return cx.refuse("load_balancing_weight", "is zero");
    }
    let health = match core::HealthStatus::try_from(value.health_status) {
        Ok(core::HealthStatus::Unknown | core::HealthStatus::Healthy) => Health::Healthy,
        Ok(core::HealthStatus::Unhealthy | core::HealthStatus::Timeout) => Health::Unhealthy,
        Ok(core::HealthStatus::Draining) => Health::Draining,
        Ok(core::HealthStatus::Degraded) => Health::Degraded,
        Err(_) => return cx.refuse("health_status", "is not known"),
    };
    Some(AssignedHost {
        target,
        hostname,
        health,
        weight: value.load_balancing_weight.unwrap_or(1),
        metadata: metadata(cx, value.metadata.as_ref()),
    })
}

impl Assignment {
    /// The host names in it.
    pub(super) fn names(&self) -> impl Iterator<Item = &Str> {
        let hosts = self.localities.iter().flat_map(|locality| &locality.hosts);
        hosts.filter_map(|host| match &host.target {
            HostTarget::Name { name, .. } => Some(name),
            HostTarget::Address(_) => None,
        })
    }

    /// The endpoints, with ids kept from `previous` where addresses stay. `first_only` takes one address per name, as
    /// LOGICAL_DNS does. `None` while a name has not been resolved once.
    pub(super) fn endpoints(
        &self,
        resolved: &impl Resolved,
        first_only: bool,
        previous: Option<&Endpoints>,
        generation: &mut u32,
    ) -> Option<Endpoints> {
        let mut ids = Ids::new(previous, generation);
        let mut priorities: BTreeMap<u32, Vec<LocalityEndpoints>> = BTreeMap::new();
        for assigned in &self.localities {
            let mut endpoints = Vec::with_capacity(assigned.hosts.len());
            for host in &assigned.hosts {
                for address in host.addresses(resolved, first_only)? {
                    endpoints.push((address, host));
                }
            }
            let same = |other: &&mut LocalityEndpoints| other.locality == assigned.locality;
            let group = priorities.entry(assigned.priority).or_default();
            let endpoints = endpoints.into_iter().map(|(address, host)| Endpoint {
                id: ids.take(&address),
                address,
                hostname: host.hostname.clone(),
                health: host.health,
                weight: host.weight,
                metadata: host.metadata.clone(),
            });
            match group.iter_mut().find(same) {
                // One locality listed twice in a priority is one locality.
                Some(other) => {
                    let mut joined = std::mem::take(&mut other.endpoints).into_vec();
                    joined.extend(endpoints);
                    other.endpoints = joined.into();
                    other.weight = other.weight.or(assigned.weight);
                }
                None => group.push(LocalityEndpoints {
                    locality: assigned.locality.clone(),
                    weight: assigned.weight,
                    endpoints: endpoints.collect(),
                }),
            }
        }
        let count = priorities.last_key_value().map_or(0, |(last, _)| last + 1);
        Some(Endpoints {
            priorities: (0..count)
                .map(|priority| Priority {
                    localities: priorities.remove(&priority).unwrap_or_default().into(),
                })
                .collect(),
            overprovisioning_percent: self.overprovisioning_percent,
            slots: ids.end,
        })
    }
}

impl AssignedHost {
    fn addresses(&self, resolved: &impl Resolved, first_only: bool) -> Option<Vec<Address>> {
        match &self.target {
            HostTarget::Address(address) => Some(vec![address.clone()]),
            HostTarget::Name { name, port } => {
                let found = resolved.addresses(name)?;
                let mut found = found.to_vec();
                if first_only {
                    found.truncate(1);
                } else {
                    // Servers turn the order of addresses; the endpoints are the same.
                    found.sort();
                    found.dedup();
                }
                Some(found.into_iter().map(|ip| Address::Socket(SocketAddr::new(ip, *port))).collect())
            }
        }
    }
}

/// Hands out endpoint ids: the previous one for a known address, else a free slot with a generation nobody had.
struct Ids<'a> {
    known: HashMap<&'a Address, Vec<EndpointId>>,
    taken: HashSet<u32>,
    next_free: u32,
    end: u32,
    generation: &'a mut u32,
}

impl<'a> Ids<'a> {
    fn new(previous: Option<&'a Endpoints>, generation: &'a mut u32) -> Ids<'a> {
        let mut known: HashMap<&Address, Vec<EndpointId>> = HashMap::new();
        let mut taken = HashSet::new();
        for (_, _, endpoint) in previous.into_iter().flat_map(Endpoints::iter) {
            known.entry(&endpoint.address).or_default().push(endpoint.id);
            taken.insert(endpoint.id.slot);
        }
        // Slots of endpoints that leave are free only in the next version: simple, and never wrong.
        Ids { known, taken, next_free: 0, end: 0, generation }
    }

    fn take(&mut self, address: &Address) -> EndpointId {
        let known = self.known.get_mut(address).and_then(Vec::pop);
        let id = known.unwrap_or_else(|| {
            while self.taken.contains(&self.next_free) {
                self.next_free += 1;
            }
            let slot = self.next_free;
            self.taken.insert(slot);
            *self.generation = self.generation.wrapping_add(1);
            EndpointId { slot, generation: *self.generation }
        });
        self.end = self.end.max(id.slot + 1);
        id
    }
}
