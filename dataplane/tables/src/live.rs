//! What is found out about a cluster while it serves: health and counts of its endpoints, and what is left of its
//! limits.
//!
//! The tables never change; this is what they lead to that does. It is made by the compiler and handed on to the next
//! version as long as the ids stay, so that shards and the admin endpoint find it without a register of their own.
//! Every cell has one writer: a shard its own counts, the shard that judges the health. Cells are made when they are
//! first written, because most endpoints of a mesh are never called by most proxies.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use ringsail_runtime::lease::Pool;

use crate::cluster::{Breakers, Cluster};
use crate::endpoint::Endpoints;
use crate::ids::EndpointId;

/// The live side of one cluster and one set of endpoints.
#[derive(Debug)]
pub struct Live {
    shared: Arc<ClusterLive>,
    endpoints: Arc<Endpoints>,
    /// Endpoints begin unhealthy, until they pass a check.
    checked: bool,
    /// By slot; made when the cluster is first used, which most are never.
    hosts: OnceLock<Hosts>,
    limits: Arc<OnceLock<Box<Limits>>>,
}

type Hosts = Box<[Option<Arc<HostLive>>]>;

/// What all endpoint sets of a cluster share.
#[derive(Debug, Default)]
struct ClusterLive {
    health_version: AtomicU32,
    /// Bits of the ejection threshold in percent plus 1.0, by origin of the errors; 0 means none.
    thresholds: [AtomicU64; 2],
    /// Hosts that each shard knows beside the tables' endpoints.
    destinations: OnceLock<Box<[AtomicU32]>>,
}

impl Live {
    /// For a cluster, with what `previous` knows of the same endpoints and limits.
    pub(crate) fn new(
        cluster: &Cluster,
        endpoints: &Arc<Endpoints>,
        previous: Option<(&Cluster, &Live)>,
    ) -> Live {
        // A shard that makes the previous set's hosts at this very moment makes them for itself; counts of a first call
        // may be lost then.
        let checked = cluster.health_check.is_some();
        let hosts =
            previous.and_then(|(_, live)| live.hosts.get()).map(|known| hosts(endpoints, known, checked));
        let limits = match previous {
            Some((old, live))
                if old.breakers == cluster.breakers && old.breakers_high == cluster.breakers_high =>
            {
                live.limits.clone()
            }
            // Compat: changed limits count anew, as those of a changed cluster do in Envoy: what runs under the old ones
            // ends under them.
            _ => Arc::default(),
        };
        Live {
            shared: previous.map(|(_, live)| live.shared.clone()).unwrap_or_default(),
            endpoints: endpoints.clone(),
            checked,
            hosts: hosts.map(OnceLock::from).unwrap_or_default(),
            limits,
        }
    }

    /// An endpoint's, made if need be.
    pub fn host(&self, id: EndpointId) -> Option<&Arc<HostLive>> {
        let hosts = self.hosts.get_or_init(|| hosts(&self.endpoints, &[], self.checked));
        hosts.get(id.slot as usize)?.as_ref().filter(|host| host.id == id)
    }

    /// An endpoint's, unless the cluster was never used.
    pub fn used_host(&self, id: EndpointId) -> Option<&Arc<HostLive>> {
        self.hosts.get()?.get(id.slot as usize)?.as_ref().filter(|host| host.id == id)
    }

    /// The place of the limits of this cluster; it changes with their settings.
    pub fn limits(&self) -> &Arc<OnceLock<Box<Limits>>> {
        &self.limits
    }

    /// Changes with the health of any endpoint.
    pub fn health_version(&self) -> u32 {
        self.shared.health_version.load(Relaxed)
    }

    /// The health of an endpoint changed. For the judge only.
    pub fn health_changed(&self) {
        self.shared.health_version.store(self.health_version().wrapping_add(1), Relaxed);
    }

    /// Hosts of a cluster that forwards to original destinations: as many as the shard knows that knows most of them.
    pub fn destinations(&self) -> u32 {
        let all = self.shared.destinations.get().map_or(&[][..], |all| all);
        all.iter().map(|known| known.load(Relaxed)).max().unwrap_or(0)
    }

    /// Tells how many destinations shard `shard` of `shards` knows.
    pub fn set_destinations(&self, shard: u32, shards: u32, count: u32) {
        let all = self.shared.destinations.get_or_init(|| (0..shards.max(1)).map(|_| 0.into()).collect());
        all[shard as usize % all.len()].store(count, Relaxed);
    }

    /// Success rate in percent below which endpoints are ejected, as computed last.
    pub fn success_rate_threshold(&self, origin: Origin) -> Option<f64> {
        let bits = self.shared.thresholds[origin as usize].load(Relaxed);
        (bits != 0).then(|| f64::from_bits(bits) - 1.0)
    }

    /// See [`Live::success_rate_threshold`]. For the judge only.
    pub fn set_success_rate_threshold(&self, origin: Origin, percent: Option<f64>) {
        let bits = percent.map_or(0, |percent| (percent.max(0.0) + 1.0).to_bits());
        self.shared.thresholds[origin as usize].store(bits, Relaxed);
    }
}

fn hosts(endpoints: &Endpoints, known: &[Option<Arc<HostLive>>], checked: bool) -> Hosts {
    let mut hosts: Hosts = (0..endpoints.slots).map(|_| None).collect();
    for (_, _, endpoint) in endpoints.iter() {
        let slot = endpoint.id.slot as usize;
        let known = known.get(slot).and_then(Option::as_ref).filter(|host| host.id == endpoint.id);
        hosts[slot] = Some(known.cloned().unwrap_or_else(|| Arc::new(HostLive::new(endpoint.id, checked))));
    }
    hosts
}

/// Whose errors: those the endpoint answered, or those of reaching it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The endpoint's answers, and everything else unless they are split.
    External,
    /// Connecting and waiting, when split.
    Local,
}

/// The live side of one endpoint.
#[derive(Debug)]
pub struct HostLive {
    id: EndpointId,
    flags: AtomicU32,
    used: OnceLock<Box<Used>>,
}

/// The cells of an endpoint that was called.
#[derive(Debug)]
struct Used {
    judged: [AtomicU32; 3],
    /// Bits of percent plus 1.0 by origin; 0 means none.
    success_rates: [AtomicU64; 2],
    shards: Box<[ShardCells]>,
}

/// Why an endpoint is not as healthy as EDS says. Source: Envoy's `Host::HealthFlag`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HealthFlags(u32);

impl HealthFlags {
    /// An active check failed.
    pub const FAILED_ACTIVE_CHECK: HealthFlags = HealthFlags(1);
    /// Ejected.
    pub const FAILED_OUTLIER_CHECK: HealthFlags = HealthFlags(2);
    /// An active check found it degraded.
    pub const DEGRADED_ACTIVE_CHECK: HealthFlags = HealthFlags(4);
    /// No active check is over yet.
    pub const PENDING_ACTIVE_CHECK: HealthFlags = HealthFlags(8);
    /// The last active check was not answered in time.
    pub const ACTIVE_CHECK_TIMEOUT: HealthFlags = HealthFlags(16);
    /// It asked to be left out at once (`x-envoy-immediate-health-check-fail`).
    pub const EXCLUDED_AT_ONCE: HealthFlags = HealthFlags(32);

    /// Whether any flag of `other` is set.
    pub fn any(self, other: HealthFlags) -> bool {
        self.0 & other.0 != 0
    }

    /// With a flag set or cleared.
    pub fn with(self, flag: HealthFlags, set: bool) -> HealthFlags {
        HealthFlags(if set { self.0 | flag.0 } else { self.0 & !flag.0 })
    }

    /// No request goes there, except in panic.
    pub fn is_unhealthy(self) -> bool {
        self.any(HealthFlags::FAILED_ACTIVE_CHECK.with(HealthFlags::FAILED_OUTLIER_CHECK, true))
    }
}

/// Rules about failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InARow {
    /// Answers with 5xx.
    Answer5xx,
    /// Answers with 502, 503 or 504.
    Gateway,
    /// Not reached, or not answered in time.
    LocalOrigin,
}

/// What a shard counts of an endpoint. Names of the first ones are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostCount {
    /// Connections open; a gauge.
    CxActive,
    /// Connections that could not be made.
    CxConnectFail,
    /// Connections.
    CxTotal,
    /// Requests in flight; a gauge.
    RqActive,
    /// Requests without an answer, or with 5xx.
    RqError,
    /// Requests answered otherwise.
    RqSuccess,
    /// Requests not answered in time.
    RqTimeout,
    /// Requests.
    RqTotal,
    /// Results that outlier detection saw.
    Results,
    /// Those that were good.
    GoodResults,
    /// Those with a 5xx that is not a gateway's.
    OtherErrors,
    /// Attempts to reach it, when told apart.
    LocalResults,
    /// Those that did.
    GoodLocalResults,
}

/// How many [`HostCount`]s there are.
const COUNTS: usize = HostCount::GoodLocalResults as usize + 1;

/// One shard's cells of an endpoint, away from those of other shards.
#[derive(Debug)]
#[repr(align(64))]
pub struct ShardCells {
    counts: [AtomicU64; COUNTS],
    /// Failures in a row that this shard saw, and the mark they began at.
    runs: [(AtomicU32, AtomicU64); 3],
}

impl HostLive {
    fn new(id: EndpointId, checked: bool) -> HostLive {
        let pending = HealthFlags::FAILED_ACTIVE_CHECK.with(HealthFlags::PENDING_ACTIVE_CHECK, true);
        let flags = AtomicU32::new(if checked { pending.0 } else { 0 });
        HostLive { id, flags, used: OnceLock::new() }
    }

    /// What judges found out.
    pub fn flags(&self) -> HealthFlags {
        HealthFlags(self.flags.load(Relaxed))
    }

    /// Sets or clears a flag; true when that changed anything. For the judge only, who then calls
    /// [`Live::health_changed`].
    pub fn set_flag(&self, flag: HealthFlags, set: bool) -> bool {
        let flags = self.flags();
        let new = flags.with(flag, set);
        self.flags.store(new.0, Relaxed);
        new != flags
    }

    /// Percent of good results in the last interval, when there were enough.
    pub fn success_rate(&self, origin: Origin) -> Option<f64> {
        let bits = self.used.get()?.success_rates[origin as usize].load(Relaxed);
        (bits != 0).then(|| f64::from_bits(bits) - 1.0)
    }

    /// For the judge only.
    pub fn set_success_rate(&self, origin: Origin, percent: Option<f64>) {
        let Some(used) = self.used.get() else { return };
        let bits = percent.map_or(0, |percent| (percent + 1.0).to_bits());
        used.success_rates[origin as usize].store(bits, Relaxed);
    }

    /// The cells of shard `shard` of `shards`, which alone writes them.
    pub fn cells(&self, shard: u32, shards: u32) -> &ShardCells {
        let used = self.used.get_or_init(|| {
            let cells = || ShardCells { counts: Default::default(), runs: Default::default() };
            let shards = (0..shards.max(1)).map(|_| cells()).collect();
            Box::new(Used { judged: Default::default(), success_rates: Default::default(), shards })
        });
        &used.shards[shard as usize % used.shards.len()]
    }

    fn all_cells(&self) -> &[ShardCells] {
        self.used.get().map_or(&[], |used| &used.shards)
    }

    /// Sum over all shards.
    pub fn sum(&self, count: HostCount) -> u64 {
        self.all_cells().iter().map(|cells| cells.get(count)).fold(0, u64::wrapping_add)
    }

    /// Whether anybody counted anything.
    pub fn is_used(&self) -> bool {
        self.used.get().is_some()
    }

    /// Begins counting failures in a row anew. For the judge only.
    pub fn forget_run(&self, rule: InARow) {
        let Some(used) = self.used.get() else { return };
        let judged = &used.judged[rule as usize];
        judged.store(judged.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// A failure that counts for `rule`, seen by the shard whose cells these are; gives the failures in a row that all
    /// shards saw.
    ///
    /// What ends a row is counted by each shard for itself, and the sum of that is the mark of the row. A shard's run
    /// counts while its mark is the present one.
    pub fn extend_run(&self, rule: InARow, cells: &ShardCells) -> u32 {
        let mark = self.mark(rule);
        let (run, began) = &cells.runs[rule as usize];
        if began.load(Relaxed) != mark {
            began.store(mark, Relaxed);
            run.store(0, Relaxed);
        }
        run.store(run.load(Relaxed).saturating_add(1), Relaxed);
        self.run(rule)
    }

    /// Failures in a row that all shards saw.
    pub fn run(&self, rule: InARow) -> u32 {
        let mark = self.mark(rule);
        let runs = self.all_cells().iter().map(|cells| &cells.runs[rule as usize]);
        let current = runs.filter(|(_, began)| began.load(Relaxed) == mark);
        current.map(|(run, _)| run.load(Relaxed)).fold(0, u32::saturating_add)
    }

    fn mark(&self, rule: InARow) -> u64 {
        let ended = match rule {
            InARow::Answer5xx => self.sum(HostCount::GoodResults),
            InARow::Gateway => self.sum(HostCount::GoodResults) + self.sum(HostCount::OtherErrors),
            InARow::LocalOrigin => self.sum(HostCount::GoodLocalResults),
        };
        let judged = self.used.get().map_or(0, |used| used.judged[rule as usize].load(Relaxed));
        ended + u64::from(judged)
    }
}

impl ShardCells {
    /// A count's value on this shard.
    pub fn get(&self, count: HostCount) -> u64 {
        self.counts[count as usize].load(Relaxed)
    }

    /// Adds to a count. For the shard whose cells these are.
    pub fn add(&self, count: HostCount, n: u64) {
        self.counts[count as usize].store(self.get(count).wrapping_add(n), Relaxed);
    }

    /// Sets a gauge. For the shard whose cells these are.
    pub fn set(&self, count: HostCount, n: u64) {
        self.counts[count as usize].store(n, Relaxed);
    }
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Connections open or being made.
    Connections,
    /// Requests waiting for a connection.
    Pending,
    /// Requests being answered.
    Requests,
    /// Retries being made.
    Retries,
}

/// The limits of a cluster by priority and resource.
#[derive(Debug)]
pub struct Limits {
    /// `None` where there is no limit. A retry budget limits nothing here: it is a share of what runs.
    pools: [[Option<Pool>; 4]; 2],
    budget: bool,
    /// What runs on each shard, for retry budgets: requests, waiting requests, retries.
    running: OnceLock<Box<[Running]>>,
}

/// On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Running {
    counts: [AtomicU32; 4],
}

impl Limits {
    /// The limits of a cluster; boxed, as they are kept.
    pub fn new(cluster: &Cluster) -> Box<Limits> {
        let pool = |limit: u32| (limit != u32::MAX).then(|| Pool::new(limit));
        let pools = |breakers: &Breakers| {
            [
                pool(breakers.connections_max),
                pool(breakers.pending_max),
                pool(breakers.requests_max),
                pool(if breakers.retry_budget.is_some() { u32::MAX } else { breakers.retries_max }),
            ]
        };
        let budget = cluster.breakers.retry_budget.is_some() || cluster.breakers_high.retry_budget.is_some();
        Box::new(Limits {
            pools: [pools(&cluster.breakers), pools(&cluster.breakers_high)],
            budget,
            running: OnceLock::new(),
        })
    }

    /// The pool of a resource; `None` means no limit.
    pub fn pool(&self, resource: Resource, high_priority: bool) -> Option<&Pool> {
        self.pools[usize::from(high_priority)][resource as usize].as_ref()
    }

    /// Whether a retry budget needs [`Limits::publish`].
    pub fn has_budget(&self) -> bool {
        self.budget
    }

    /// Tells the others how much of a resource shard `shard` of `shards` uses.
    pub fn publish(&self, resource: Resource, shard: u32, shards: u32, count: u32) {
        let all = self.running.get_or_init(|| (0..shards.max(1)).map(|_| Running::default()).collect());
        all[shard as usize % all.len()].counts[resource as usize].store(count, Relaxed);
    }

    /// How much of a resource all shards use, as far as it is published.
    pub fn running(&self, resource: Resource) -> u32 {
        let all = self.running.get().map_or(&[][..], |all| all);
        all.iter().map(|one| one.counts[resource as usize].load(Relaxed)).fold(0, u32::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostLive {
        HostLive::new(EndpointId { slot: 0, generation: 1 }, false)
    }

    #[test]
    fn failures_in_a_row_count_over_all_shards() {
        let host = host();
        let (a, b) = (host.cells(0, 2), host.cells(1, 2));
        assert_eq!(host.extend_run(InARow::Answer5xx, a), 1);
        assert_eq!(host.extend_run(InARow::Answer5xx, b), 2);
        assert_eq!(host.extend_run(InARow::Answer5xx, a), 3);
        // A success on either shard ends the row on both.
        b.add(HostCount::GoodResults, 1);
        assert_eq!(host.run(InARow::Answer5xx), 0);
        assert_eq!(host.extend_run(InARow::Answer5xx, a), 1);
    }

    #[test]
    fn another_error_ends_a_row_of_gateway_errors_only() {
        let host = host();
        let cells = host.cells(0, 1);
        host.extend_run(InARow::Answer5xx, cells);
        host.extend_run(InARow::Gateway, cells);
        cells.add(HostCount::OtherErrors, 1);
        assert_eq!(host.extend_run(InARow::Answer5xx, cells), 2);
        assert_eq!(host.run(InARow::Gateway), 0);
    }

    #[test]
    fn a_judged_row_begins_anew() {
        let host = host();
        let cells = host.cells(0, 1);
        for _ in 0..5 {
            host.extend_run(InARow::LocalOrigin, cells);
        }
        host.forget_run(InARow::LocalOrigin);
        assert_eq!(host.extend_run(InARow::LocalOrigin, cells), 1);
    }

    #[test]
    fn an_endpoint_nobody_called_is_small() {
        assert!(size_of::<HostLive>() <= 32, "{}", size_of::<HostLive>());
    }
}
