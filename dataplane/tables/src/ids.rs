//! Ids that outlive one version of the tables.
//!
//! A shard keys its pools, counters and in-flight counts by these ids, never by references into a version.
//! Each id is a *slot* (a small dense number, good as an index) and a *generation*. A slot is reused when its
//! resource is gone; the generation then differs, so a stale id finds nothing instead of a stranger.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name {
            /// Dense index, below the matching `*_slots()` bound of [`crate::Tables`].
            pub slot: u32,
            /// Told apart from earlier users of the same slot.
            pub generation: u32,
        }
    };
}

id! {
    /// A listener. Kept over every update of the listener of that name, until it is removed.
    ListenerId
}
id! {
    /// A route configuration, named (RDS) or inline. Kept over updates.
    RouteConfigId
}
id! {
    /// A cluster. Kept over endpoint, balancing and breaker updates; a new generation in the same slot when the
    /// settings of its connections change ([`crate::cluster::ConnectionSettings`]), so that pools start afresh.
    ClusterId
}
id! {
    /// An endpoint *within one cluster*, kept as long as its address stays in the cluster.
    EndpointId
}

/// The place of a cluster *name*: what routes hold. A route may name a cluster that does not exist (Envoy answers
/// 503 `NC`), so this is resolved against a version by [`crate::Tables::cluster_in`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ClusterSlot(pub u32);

/// A route within a version: what an exchange keeps across awaits instead of references.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RouteId {
    /// The route configuration.
    pub config: RouteConfigId,
    /// Index into [`crate::route::RouteConfig::virtual_hosts`].
    pub virtual_host: u32,
    /// Index into [`crate::route::VirtualHost::routes`].
    pub route: u32,
    /// Index of the weighted cluster that was picked; 0 for other cluster choices.
    pub weighted_cluster: u32,
}
