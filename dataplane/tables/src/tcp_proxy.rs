//! The terminal filter of plain TCP.

use std::sync::Arc;
use std::time::Duration;

use crate::access_log::AccessLog;
use crate::ids::ClusterSlot;
use crate::strings::Str;
use crate::subset::Criteria;
use crate::tcp_fault::TcpFault;

/// Source: `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Debug)]
pub struct TcpProxy {
    /// Prefix in statistics.
    pub stat_prefix: Str,
    /// Clusters with weights; one entry for a single cluster, never empty.
    pub clusters: Box<[TcpCluster]>,
    /// Sum of the weights, at least 1.
    pub total_weight: u32,
    /// The cluster is the one named by the server name a TLS client asked for; [`Self::clusters`] serves clients that
    /// ask for none. Source: `envoy.filters.network.sni_cluster`.
    pub cluster_by_server_name: bool,
    /// Connections of one source address go to one endpoint, where the cluster balances by hash.
    pub hash_by_source_ip: bool,
    /// Time without bytes in either direction after which the connection is closed; `None` means never. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// Longest life of a downstream connection; then FIN, flag `DT`.
    pub duration_max: Option<Duration>,
    /// Up to this much longer, in percent of [`Self::duration_max`], drawn for each connection. 0 to 100.
    pub duration_jitter_percent: f64,
    /// Connection attempts, at least 1.
    pub connect_attempts_max: u32,
    /// Pauses between them; `None` means none.
    pub backoff: Option<Backoff>,
    /// The upstream is connected when the client has sent something, not before.
    pub connect_on_data: bool,
    /// What may be done to connections on purpose.
    pub fault: Option<TcpFault>,
    /// When lines are written besides the end of a connection.
    pub log_times: LogTimes,
    /// Access logs.
    pub access_logs: Box<[AccessLog]>,
}

/// Pauses between connection attempts: drawn between 0 and a bound that doubles from `base` to `max`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// First bound.
    pub base: Duration,
    /// Last bound.
    pub max: Duration,
}

impl Backoff {
    /// The pause before attempt number `attempt`, counted from 1 for the first repetition.
    pub fn pause(&self, attempt: u32, random: u64) -> Duration {
        let doubled =
            self.base.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
        let bound = doubled.min(self.max);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(random % nanos)
    }
}

/// When access log lines of a connection are written, besides its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogTimes {
    /// Each time this has passed.
    pub interval: Option<Duration>,
    /// When the upstream is connected.
    pub on_connected: bool,
    /// When the connection begins.
    pub on_start: bool,
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
    /// Which endpoints of it, where it has subsets.
    pub subset: Option<Arc<Criteria>>,
}

impl TcpProxy {
    /// The cluster of every connection, when there is only one and nothing stands between a connection and it.
    pub fn only_cluster(&self) -> Option<ClusterSlot> {
        let plain = !self.cluster_by_server_name && !self.connect_on_data && self.fault.is_none();
        match &*self.clusters {
            [only] if plain && only.subset.is_none() => Some(only.slot),
            _ => None,
        }
    }

    /// Longest life of one connection, with its jitter.
    pub fn drawn_duration_max(&self, random: f64) -> Option<Duration> {
        let jitter = 1.0 + self.duration_jitter_percent.clamp(0.0, 100.0) / 100.0 * random.clamp(0.0, 1.0);
        self.duration_max.map(|max| max.mul_f64(jitter))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_no_further() {
        let backoff = Backoff { base: Duration::from_millis(10), max: Duration::from_millis(35) };
        for (attempt, bound) in [(1, 10), (2, 20), (3, 35), (40, 35), (u32::MAX, 35)] {
            let bound = Duration::from_millis(bound);
            let longest = (0..1000).map(|step| backoff.pause(attempt, step * 99_991)).max().unwrap();
            assert!(longest < bound && longest > bound / 2, "{attempt}: {longest:?}");
        }
    }
}
