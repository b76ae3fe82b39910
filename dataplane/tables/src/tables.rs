//! One version of the whole configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::address::Address;
use crate::cluster::{ClusterEntry, ClusterRef};
use crate::endpoint::Locality;
use crate::ids::{ClusterId, ClusterSlot, ListenerId, RouteConfigId, RouteId};
use crate::listener::Listener;
use crate::route::{Action, ClusterChoice, RouteConfig, RouteMatch};
use crate::strings::Str;
use crate::tls::Secrets;

/// A closed configuration: everything a listener in it names (route configurations) is in it too.
///
/// Immutable and shared. Parts that did not change between versions are the same allocations.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Counts up with every change.
    pub version: u64,
    pub(crate) listeners: Arc<[Option<Arc<Listener>>]>,
    pub(crate) route_configs: Arc<[Option<Arc<RouteConfig>>]>,
    pub(crate) clusters: Arc<[Option<ClusterEntry>]>,
    pub(crate) cluster_names: Arc<HashMap<Str, ClusterSlot>>,
    pub(crate) destinations: Arc<Destinations>,
    pub(crate) secrets: Arc<Secrets>,
    /// Where this proxy is among others of its kind.
    pub(crate) own: Option<Arc<Own>>,
}

/// This proxy's place. Source: `cluster_manager.local_cluster_name` and `node.locality` of the bootstrap.
#[derive(Clone, PartialEq, Debug)]
pub struct Own {
    /// The cluster whose endpoints are this proxy and its like.
    pub cluster: Str,
    /// Where it runs.
    pub locality: Locality,
}

/// Listeners by address.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    pub(crate) by_address: HashMap<SocketAddr, ListenerId>,
}

impl Tables {
    /// The secrets that TLS is made with.
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.secrets
    }

    /// All listeners.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.listeners.iter().flatten()
    }

    /// The listener with this id; `None` when it is gone.
    pub fn listener(&self, id: ListenerId) -> Option<&Arc<Listener>> {
        self.listeners.get(id.slot as usize)?.as_ref().filter(|listener| listener.id == id)
    }

    /// The listener with this name.
    pub fn listener_named(&self, name: &str) -> Option<&Arc<Listener>> {
        self.listeners().find(|listener| listener.name == name)
    }

    /// The listener of an address: exactly that one, else the unspecified address with the same port.
    pub fn listener_at(&self, address: SocketAddr) -> Option<&Arc<Listener>> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let unspecified: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let addresses = &self.destinations.by_address;
        let id = addresses
            .get(&address)
            .or_else(|| addresses.get(&SocketAddr::new(unspecified, address.port())))?;
        self.listener(*id)
    }

    /// The listener that serves a connection accepted by `accepting`: with `use_original_dst`, the one of the original
    /// destination (whether or not it has a socket of its own), else `accepting` itself.
    ///
    /// Compat: as Envoy's `ActiveTcpListener::getBalancedHandlerByAddress`: exact address first, then the unspecified
    /// one of that port; a connection is handed over once, so the second listener's own `use_original_dst` is not asked.
    pub fn hand_over<'t>(
        &'t self,
        accepting: &'t Arc<Listener>,
        original_destination: Option<SocketAddr>,
    ) -> &'t Arc<Listener> {
        match original_destination {
            Some(destination) if accepting.use_original_dst => {
                self.listener_at(destination).unwrap_or(accepting)
            }
            _ => accepting,
        }
    }

    /// The listeners that want a socket, with each of their addresses.
    pub fn bound_addresses(&self) -> impl Iterator<Item = (&Arc<Listener>, &Address)> {
        let bound = self.listeners().filter(|listener| listener.bind_to_port);
        bound.flat_map(|listener| listener.addresses.iter().map(move |address| (listener, address)))
    }

    /// The route configuration with this id.
    pub fn route_config(&self, id: RouteConfigId) -> Option<&Arc<RouteConfig>> {
        self.route_configs.get(id.slot as usize)?.as_ref().filter(|config| config.id == id)
    }

    /// All route configurations.
    pub fn route_configs(&self) -> impl Iterator<Item = &Arc<RouteConfig>> {
        self.route_configs.iter().flatten()
    }

    /// The route an exchange of *this version* found earlier. In another version the indexes may mean other routes.
    pub fn route(&self, id: RouteId) -> Option<RouteMatch<'_>> {
        let config = self.route_config(id.config)?;
        let virtual_host = config.virtual_hosts.get(id.virtual_host as usize)?;
        let route = virtual_host.routes.get(id.route as usize)?;
        let weighted = route.action.weighted_clusters();
        Some(RouteMatch {
            config,
            virtual_host,
            route,
            weighted_cluster: weighted.and_then(|all| all.clusters.get(id.weighted_cluster as usize)),
            virtual_host_index: id.virtual_host,
            route_index: id.route,
            weighted_cluster_index: id.weighted_cluster,
        })
    }

    /// The cluster in a slot; `None` means "no such cluster" (503 `NC`).
    pub fn cluster_in(&self, slot: ClusterSlot) -> Option<ClusterRef<'_>> {
        self.clusters.get(slot.0 as usize)?.as_ref().map(|entry| self.by_ref(entry))
    }

    /// The cluster with this id; `None` when it is gone or its connection settings changed since.
    pub fn cluster(&self, id: ClusterId) -> Option<ClusterRef<'_>> {
        self.cluster_in(ClusterSlot(id.slot)).filter(|cluster| cluster.id == id)
    }

    /// The cluster with this name.
    pub fn cluster_named(&self, name: &str) -> Option<ClusterRef<'_>> {
        self.cluster_in(*self.cluster_names.get(name)?)
    }

    /// Where this proxy is, and the cluster of its like; `None` where the bootstrap names none, or it is not there.
    pub fn own(&self) -> Option<(ClusterRef<'_>, &Locality)> {
        let own = self.own.as_ref()?;
        Some((self.cluster_named(&own.cluster)?, &own.locality))
    }

    fn by_ref<'t>(&'t self, entry: &'t ClusterEntry) -> ClusterRef<'t> {
        let ClusterEntry { id, cluster, endpoints, live } = entry;
        ClusterRef { id: *id, cluster, endpoints, live, tables: self }
    }

    /// All clusters.
    pub fn clusters(&self) -> impl Iterator<Item = ClusterRef<'_>> {
        self.clusters.iter().flatten().map(|entry| self.by_ref(entry))
    }

    /// First slot that no cluster has: how long per-cluster state of a shard must be.
    pub fn cluster_slots(&self) -> usize {
        self.clusters.len()
    }

    /// First slot that no listener has.
    pub fn listener_slots(&self) -> usize {
        self.listeners.len()
    }

    /// The cluster a forwarding route leads to. `header` gives the first value of a request header, for
    /// `cluster_header`.
    pub fn target<'r>(
        &self,
        route: &RouteMatch<'_>,
        header: impl Fn(&str) -> Option<&'r [u8]>,
    ) -> Target<'_> {
        let Action::Forward(forward) = &route.route.action else { return Target::None };
        let choice = route.weighted_cluster.map_or(&forward.cluster, |weighted| &weighted.cluster);
        self.named(choice, header).map_or(Target::Unknown, Target::Cluster)
    }

    /// The cluster that a choice without weights names. `header` gives the first value of a request header.
    pub fn named<'r>(
        &self,
        choice: &ClusterChoice,
        header: impl Fn(&str) -> Option<&'r [u8]>,
    ) -> Option<ClusterRef<'_>> {
        match choice {
            ClusterChoice::Named { slot, .. } => self.cluster_in(*slot),
            ClusterChoice::Header(name) => header(name)
                .and_then(|value| std::str::from_utf8(value).ok())
                .and_then(|value| self.cluster_named(value)),
            // Nested weights do not exist; an unpicked set means the id came from another version.
            ClusterChoice::Weighted(_) => None,
        }
    }
}

/// Where a route leads.
#[derive(Clone, Copy, Debug)]
pub enum Target<'t> {
    /// To this cluster.
    Cluster(ClusterRef<'t>),
    /// To a cluster that does not exist: [`crate::route::Forward::cluster_not_found_status`], flag `NC`.
    Unknown,
    /// Nowhere: the route redirects or answers itself.
    None,
}
