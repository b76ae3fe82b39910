//! How an endpoint of a cluster is chosen.
//!
//! Sources: `Cluster.lb_policy` with its `…_lb_config` and `common_lb_config`, or the extension in
//! `Cluster.load_balancing_policy` that says the same.

use std::sync::Arc;
use std::time::Duration;

use crate::subset::Subsets;

/// The load balancing of a cluster.
#[derive(Clone, PartialEq, Debug)]
pub struct LoadBalancing {
    /// How a host is chosen within its priority and locality.
    pub policy: LbPolicy,
    /// Whether locality weights count (`locality_weighted_lb_config`).
    pub locality_weighted: bool,
    /// Percent of healthy endpoints below which health is disregarded; 0 switches panic off. Default 50.
    pub panic_percent: u8,
    /// Requests stay in the proxy's own zone as far as that has room; not with locality weights.
    pub zone: Option<ZoneAware>,
    /// In panic no endpoint is picked instead of any (`fail_traffic_on_panic`). Compat: hashing policies do not look at
    /// it.
    pub fail_on_panic: bool,
    /// New endpoints get their share little by little.
    pub slow_start: Option<SlowStart>,
    /// Hashing policies know an endpoint by its name instead of its address (`use_hostname_for_hashing`).
    pub hash_by_hostname: bool,
    /// Most load of one endpoint as percent of the average, for hashing policies; `None` means no bound. At least 100.
    /// Source: `ConsistentHashingLbConfig.hash_balance_factor`.
    pub hash_balance_percent: Option<u32>,
    /// Requests may ask for a part of the endpoints.
    pub subsets: Option<Arc<Subsets>>,
}

/// Source: `CommonLbConfig.ZoneAwareLbConfig`. It acts where the bootstrap names the proxy's own cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneAware {
    /// Percent of requests it is applied to. Default 100.
    pub routing_percent: u8,
    /// Fewest healthy endpoints of the first priority. Default 6.
    pub hosts_min: u32,
}

/// How a host is chosen. Source: `Cluster.LbPolicy`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum LbPolicy {
    /// In turn, by weight.
    RoundRobin,
    /// The least loaded.
    LeastRequest {
        /// Of so many random ones; `None` means of all (`selection_method: FULL_SCAN`). Default 2.
        choices: Option<u32>,
        /// With unequal weights: how much requests in flight lower a weight, as the exponent of their number plus 1.
        /// Default 1.0; 0 disregards them.
        active_request_bias: f64,
    },
    /// At random. Compat: Envoy disregards endpoint weights here.
    Random,
    /// On a ring of hashes (ketama).
    RingHash {
        /// Fewest entries of the ring. Default 1024.
        size_min: u64,
        /// Most entries. Default 8 Mi.
        size_max: u64,
        /// What is computed of an endpoint's key.
        function: HashFunction,
    },
    /// In a table filled by Google's Maglev.
    Maglev {
        /// Its entries; a prime number. Default 65,537.
        table_size: u32,
    },
    /// By the cluster's discovery: [`crate::cluster::Discovery::OriginalDst`].
    ClusterProvided,
}

impl LbPolicy {
    /// Whether it goes by the request's hash.
    pub fn hashes(&self) -> bool {
        matches!(self, LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. })
    }
}

/// Source: `RingHashLbConfig.HashFunction`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashFunction {
    /// xxHash, 64 bits, seed 0. The default.
    XxHash,
    /// MurmurHash2, 64 bits, with the seed of libstdc++.
    MurmurHash2,
}

/// Source: `Cluster.SlowStartConfig`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SlowStart {
    /// How long an endpoint is new.
    pub window: Duration,
    /// Above 0; 1.0, the default, raises the weight evenly, a larger one faster at first.
    pub aggression: f64,
    /// Least share of its weight, 0 to 1. Default 0.1.
    pub weight_min: f64,
}
