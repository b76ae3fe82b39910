//! Resources ready to be sent: encoded once, comparable without decoding.

use std::sync::Arc;

use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::envoy::config::endpoint::v3::ClusterLoadAssignment;
use ringsail_xds::envoy::config::listener::v3::Listener;
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;
use ringsail_xds::prost::{Message, Name};
use ringsail_xds::type_url;

/// One encoded xDS resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name; for endpoints that of the cluster.
    pub name: String,
    /// The encoded message. Encoding is deterministic: equal content gives equal bytes.
    pub body: Vec<u8>,
    /// Hash of `body`. Equal versions of one name mean equal content.
    pub version: u64,
}

impl Resource {
    /// Encodes a message.
    pub fn encode(name: &str, message: &impl Message) -> Resource {
        let body = message.encode_to_vec();
        let version = fnv1a(&body);
        Resource { name: name.to_owned(), body, version }
    }
}

/// FNV-1a, 64 bits: stable between processes and builds, unlike the standard library's hashers, so that a proxy that
/// reconnects to another control plane finds the versions it knows.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// All resources of one proxy. Lists are in name order with unique names, except where noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyResources {
    /// CDS.
    pub clusters: Vec<Arc<Resource>>,
    /// EDS: one for every EDS cluster, empty ones included, because a cluster warms until it has an answer.
    pub endpoints: Vec<Arc<Resource>>,
    /// LDS.
    pub listeners: Vec<Arc<Resource>>,
    /// RDS: one for every name that a listener refers to.
    pub routes: Vec<Arc<Resource>>,
}

impl ProxyResources {
    /// The resources of a type, or `None` when it is not one of CDS, EDS, LDS and RDS.
    pub fn of_type(&self, type_url: &str) -> Option<&[Arc<Resource>]> {
        match type_url {
            type_url::CLUSTER => Some(&self.clusters),
            type_url::ENDPOINT => Some(&self.endpoints),
            type_url::LISTENER => Some(&self.listeners),
            type_url::ROUTE => Some(&self.routes),
            _ => None,
        }
    }

    /// The resource of a type and name.
    pub fn find(&self, type_url: &str, name: &str) -> Option<&Arc<Resource>> {
        let list = self.of_type(type_url)?;
        list.binary_search_by(|resource| resource.name.as_str().cmp(name)).ok().map(|index| &list[index])
    }

    /// The clusters decoded, for dumps and tests.
    pub fn decode_clusters(&self) -> Vec<Cluster> {
        decode_all(&self.clusters)
    }

    /// The endpoints decoded, for dumps and tests.
    pub fn decode_endpoints(&self) -> Vec<ClusterLoadAssignment> {
        decode_all(&self.endpoints)
    }

    /// The listeners decoded, for dumps and tests.
    pub fn decode_listeners(&self) -> Vec<Listener> {
        decode_all(&self.listeners)
    }

    /// The routes decoded, for dumps and tests.
    pub fn decode_routes(&self) -> Vec<RouteConfiguration> {
        decode_all(&self.routes)
    }
}

fn decode_all<M: Message + Name + Default>(list: &[Arc<Resource>]) -> Vec<M> {
    list.iter()
        .map(|resource| {
            M::decode(resource.body.as_slice()).expect("encoded by this crate from the same type")
        })
        .collect()
}

/// Sorts by name and keeps the first of equal names.
pub(crate) fn by_name(mut list: Vec<Arc<Resource>>) -> Vec<Arc<Resource>> {
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list.dedup_by(|later, first| later.name == first.name);
    list
}
