//! The terminal filter of plain TCP.

use std::time::Duration;

use crate::access_log::AccessLog;
use crate::ids::ClusterSlot;
use crate::strings::Str;

/// Source: `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Debug)]
pub struct TcpProxy {
    /// Prefix in statistics.
    pub stat_prefix: Str,
    /// Clusters with weights; one entry for a single cluster, never empty.
    pub clusters: Box<[TcpCluster]>,
    /// Sum of the weights, at least 1.
    pub total_weight: u32,
    /// Time without bytes in either direction after which the connection is closed; `None` means never. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// Longest life of a downstream connection; then FIN, flag `DT`.
    pub duration_max: Option<Duration>,
    /// Connection attempts. Default 1.
    pub connect_attempts_max: u32,
    /// Access logs.
    pub access_logs: Box<[AccessLog]>,
}

/// A destination of a TCP proxy.
#[derive(Clone, PartialEq, Debug)]
pub struct TcpCluster {
    /// Name of the cluster.
    pub name: Str,
    /// Its place in the tables.
    pub slot: ClusterSlot,
    /// Its weight.
    pub weight: u32,
}

impl TcpProxy {
    /// The cluster, when there is only one.
    pub fn only_cluster(&self) -> Option<ClusterSlot> {
        match &*self.clusters {
            [only] => Some(only.slot),
            _ => None,
        }
    }

    /// The cluster `random % total_weight` falls on.
    pub fn pick(&self, random: u64) -> &TcpCluster {
        let mut point = random % u64::from(self.total_weight);
        for cluster in &self.clusters {
            let weight = u64::from(cluster.weight);
            if point < weight {
                return cluster;
            }
            point -= weight;
        }
        &self.clusters[self.clusters.len() - 1]
    }
}
