//! Who has statistics: names on one side, blocks of all shards on the other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use hashbrown::HashMap;

use crate::block::{Block, Stats, Totals};
use crate::histogram::Bounds;
use crate::istio::{self, IstioMetric, Made, SeriesSet, SeriesTotals, Shown};
use crate::limits::SCOPES_PER_SHARD_MAX;
use crate::metrics::{
    AccessLogs, Cluster, ClusterManager, ConnectionLimit, ConnectionRate, ControlPlane, DownstreamHttp2,
    Grpc, Http, Listener, ListenerManager, LocalRateLimit, Rds, Server, Spans, Tcp, UpstreamHttp2,
};
use crate::scope::{Metric as _, Scope};

/// All statistics of the process. The agent reads it; shards write into it through a [`Seat`].
#[derive(Debug)]
pub struct Registry {
    buckets: Arc<BucketSettings>,
    created: Receiver<Created>,
    creations: Sender<Created>,
    scopes: Mutex<Scopes>,
    server: Arc<Block<Server>>,
    cluster_manager: Arc<Block<ClusterManager>>,
    listener_manager: Arc<Block<ListenerManager>>,
    control_plane: Arc<Block<ControlPlane>>,
    access_logs: Arc<Block<AccessLogs>>,
    spans: Arc<Block<Spans>>,
}

/// A block that a shard made, on its way to the registry.
#[derive(Debug)]
pub(crate) enum Created {
    Cluster(Box<str>, Arc<Block<Cluster>>),
    Http(Box<str>, Arc<Block<Http>>),
    Listener(Box<str>, Arc<Block<Listener>>),
    Tcp(Box<str>, Arc<Block<Tcp>>),
    LocalRateLimit(Box<str>, Arc<Block<LocalRateLimit>>),
    ConnectionLimit(Box<str>, Arc<Block<ConnectionLimit>>),
    ConnectionRate(Box<str>, Arc<Block<ConnectionRate>>),
    DownstreamHttp2(Box<str>, Arc<Block<DownstreamHttp2>>),
    UpstreamHttp2(Box<str>, Arc<Block<UpstreamHttp2>>),
    Grpc(Box<str>, Arc<Block<Grpc>>),
    Series(Made),
    /// Istio's metrics are produced, by this version.
    IstioBuild(Box<str>),
}

/// Bounds of histograms by the full dotted name of their metric; the first setting that matches counts.
/// Source: `StatsConfig.histogram_bucket_settings`.
#[derive(Default)]
pub struct BucketSettings(Vec<(Box<NamePredicate>, Bounds)>);

/// Whether a setting is for a name.
type NamePredicate = dyn Fn(&str) -> bool + Send + Sync;

impl BucketSettings {
    /// Adds a setting after those there are.
    pub fn push(&mut self, matches: impl Fn(&str) -> bool + Send + Sync + 'static, bounds: Bounds) {
        self.0.push((Box::new(matches), bounds));
    }

    fn of(&self, name: &str) -> Bounds {
        let found = self.0.iter().find(|(matches, _)| matches(name));
        found.map(|(_, bounds)| bounds.clone()).unwrap_or_default()
    }

    /// Bounds of a scope's histograms; `None` when no setting is for any of them.
    fn of_scope<S: Scope>(&self, scope: &str) -> Option<Box<[Bounds]>> {
        if self.0.is_empty() {
            return None;
        }
        let mut name = String::new();
        let bounds: Box<[Bounds]> = S::Histogram::ALL
            .iter()
            .map(|histogram| {
                crate::render::full_name::<S>(&mut name, scope, histogram.name());
                self.of(&name)
            })
            .collect();
        bounds.iter().any(|bounds| *bounds != Bounds::default()).then_some(bounds)
    }

    /// Bounds of Istio's histograms, in the order of their cells.
    fn of_istio(&self) -> [Bounds; 3] {
        [IstioMetric::RequestDuration, IstioMetric::RequestBytes, IstioMetric::ResponseBytes]
            .map(|metric| self.of(&format!("{}.{}", istio::NAMESPACE, metric.name())))
    }
}

impl std::fmt::Debug for BucketSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(_, bounds)| bounds)).finish()
    }
}

/// Blocks by name, one per shard that uses the name.
type ByName<S> = BTreeMap<Box<str>, Vec<Arc<Block<S>>>>;

#[derive(Debug, Default)]
struct Scopes {
    clusters: ByName<Cluster>,
    http: ByName<Http>,
    listeners: ByName<Listener>,
    tcp: ByName<Tcp>,
    local_rate_limits: ByName<LocalRateLimit>,
    connection_limits: ByName<ConnectionLimit>,
    connection_rates: ByName<ConnectionRate>,
    downstream_http2: ByName<DownstreamHttp2>,
    upstream_http2: ByName<UpstreamHttp2>,
    grpc: ByName<Grpc>,
    rds: ByName<Rds>,
    istio: Shown,
}

impl Registry {
    /// An empty registry whose histograms have Envoy's buckets.
    pub fn new() -> Arc<Self> {
        Registry::with_buckets(BucketSettings::default())
    }

    /// An empty registry.
    pub fn with_buckets(buckets: BucketSettings) -> Arc<Self> {
        // Not bounded itself: what travels here is bounded by SCOPES_PER_SHARD_MAX per shard and
        // kind, and would be held by the shard anyway.
        let (creations, created) = unbounded();
        Arc::new(Self {
            buckets: Arc::new(buckets),
            created,
            creations,
            scopes: Mutex::default(),
            server: Arc::default(),
            cluster_manager: Arc::default(),
            listener_manager: Arc::default(),
            control_plane: Arc::default(),
            access_logs: Arc::default(),
            spans: Arc::default(),
        })
    }

    /// A place for one more writing thread.
    pub fn seat(&self) -> Seat {
        Seat { creations: self.creations.clone(), buckets: Arc::clone(&self.buckets) }
    }

    /// `server.…`; written by the agent only.
    pub fn server(&self) -> &Block<Server> {
        &self.server
    }

    /// `cluster_manager.…`; written by the agent only.
    pub fn cluster_manager(&self) -> &Block<ClusterManager> {
        &self.cluster_manager
    }

    /// `listener_manager.…`; written by the agent only.
    pub fn listener_manager(&self) -> &Block<ListenerManager> {
        &self.listener_manager
    }

    /// `access_logs.…`; written by the agent only.
    pub fn access_logs(&self) -> &Block<AccessLogs> {
        &self.access_logs
    }

    /// `tracing.…`; written by the agent only.
    pub fn spans(&self) -> &Block<Spans> {
        &self.spans
    }

    /// `control_plane.…`; written by the agent only.
    pub fn control_plane(&self) -> &Block<ControlPlane> {
        &self.control_plane
    }

    /// A further block of a cluster, for a writer that is no shard: the agent's `xds-grpc`, and the
    /// membership gauges it knows. The caller is the block's only writer and keeps it; calling
    /// again makes another block.
    pub fn cluster_block(&self, name: &str) -> Arc<Block<Cluster>> {
        let block = Arc::new(Block::with_bounds(self.buckets.of_scope::<Cluster>(name)));
        let mut scopes = self.lock();
        scopes.clusters.entry(name.into()).or_default().push(Arc::clone(&block));
        block
    }

    /// A block for the subscription of one connection manager to one route configuration. The
    /// caller is its only writer and keeps it; calling again makes another block.
    pub fn rds_block(&self, stat_prefix: &str, route_config: &str) -> Arc<Block<Rds>> {
        let block = Arc::<Block<Rds>>::default();
        let name = Rds::scope_name(stat_prefix, route_config);
        let mut scopes = self.lock();
        scopes.rds.entry(name.into()).or_default().push(Arc::clone(&block));
        block
    }

    /// Lets all counters start at zero again. Source: Envoy's `/reset_counters`.
    pub fn reset_counters(&self) {
        fn all<S: Scope>(scopes: &ByName<S>) {
            scopes.values().flatten().for_each(|block| block.reset_counters());
        }
        let scopes = self.lock();
        all(&scopes.clusters);
        all(&scopes.http);
        all(&scopes.listeners);
        all(&scopes.tcp);
        all(&scopes.local_rate_limits);
        all(&scopes.downstream_http2);
        all(&scopes.upstream_http2);
        all(&scopes.grpc);
        all(&scopes.rds);
        self.server.reset_counters();
        self.cluster_manager.reset_counters();
        self.listener_manager.reset_counters();
        self.control_plane.reset_counters();
    }

    /// Takes in what shards have made since, and lets go of what they dropped. Whoever owns the registry calls it every
    /// now and then: what shards make waits for it, also when nobody ever asks for a page.
    pub fn collect(&self) {
        let mut scopes = self.lock();
        scopes.istio.release();
    }

    /// Sums over all shards as of now. Blocks that no writer holds any more are let go first.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut scopes = self.lock();
        release(&mut scopes.clusters);
        release(&mut scopes.http);
        release(&mut scopes.listeners);
        release(&mut scopes.tcp);
        release(&mut scopes.local_rate_limits);
        release(&mut scopes.connection_limits);
        release(&mut scopes.connection_rates);
        release(&mut scopes.downstream_http2);
        release(&mut scopes.upstream_http2);
        release(&mut scopes.grpc);
        release(&mut scopes.rds);
        scopes.istio.release();
        Snapshot {
            istio: scopes.istio.totals(),
            istio_build: scopes.istio.build().map(Box::from),
            clusters: sum(&scopes.clusters),
            http: sum(&scopes.http),
            listeners: sum(&scopes.listeners),
            tcp: sum(&scopes.tcp),
            local_rate_limits: sum(&scopes.local_rate_limits),
            connection_limits: sum(&scopes.connection_limits),
            connection_rates: sum(&scopes.connection_rates),
            downstream_http2: sum(&scopes.downstream_http2),
            upstream_http2: sum(&scopes.upstream_http2),
            grpc: sum(&scopes.grpc),
            rds: sum(&scopes.rds),
            server: total(&[Arc::clone(&self.server)]),
            cluster_manager: total(&[Arc::clone(&self.cluster_manager)]),
            listener_manager: total(&[Arc::clone(&self.listener_manager)]),
            control_plane: total(&[Arc::clone(&self.control_plane)]),
            access_logs: total(&[Arc::clone(&self.access_logs)]),
            spans: total(&[Arc::clone(&self.spans)]),
        }
    }

    /// The scopes, with everything that shards created since.
    fn lock(&self) -> MutexGuard<'_, Scopes> {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        for created in self.created.try_iter() {
            match created {
                Created::Cluster(name, block) => scopes.clusters.entry(name).or_default().push(block),
                Created::Http(name, block) => scopes.http.entry(name).or_default().push(block),
                Created::Listener(name, block) => scopes.listeners.entry(name).or_default().push(block),
                Created::Tcp(name, block) => scopes.tcp.entry(name).or_default().push(block),
                Created::LocalRateLimit(name, block) => {
                    scopes.local_rate_limits.entry(name).or_default().push(block);
                }
                Created::ConnectionLimit(name, block) => {
                    scopes.connection_limits.entry(name).or_default().push(block);
                }
                Created::ConnectionRate(name, block) => {
                    scopes.connection_rates.entry(name).or_default().push(block);
                }
                Created::DownstreamHttp2(name, block) => {
                    scopes.downstream_http2.entry(name).or_default().push(block);
                }
                Created::UpstreamHttp2(name, block) => {
                    scopes.upstream_http2.entry(name).or_default().push(block);
                }
                Created::Grpc(name, block) => scopes.grpc.entry(name).or_default().push(block),
                Created::Series(made) => scopes.istio.add(made),
                Created::IstioBuild(version) => scopes.istio.announce(version),
            }
        }
        scopes
    }
}

/// Lets go of blocks that only the registry holds: their cluster or listener is gone.
fn release<S: Scope>(scopes: &mut ByName<S>) {
    scopes.retain(|_, blocks| {
        blocks.retain(|block| Arc::strong_count(block) > 1);
        !blocks.is_empty()
    });
}

fn sum<S: Scope>(scopes: &ByName<S>) -> Vec<(Box<str>, Totals<S>)> {
    scopes.iter().map(|(name, blocks)| (name.clone(), total(blocks))).collect()
}

fn total<S: Scope>(blocks: &[Arc<Block<S>>]) -> Totals<S> {
    let mut totals = Totals::new();
    for block in blocks {
        block.add_to(&mut totals);
    }
    totals
}

/// All values at one moment, scopes sorted by name.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) istio: Vec<SeriesTotals>,
    /// Version of a proxy that produces Istio's metrics.
    pub(crate) istio_build: Option<Box<str>>,
    pub(crate) clusters: Vec<(Box<str>, Totals<Cluster>)>,
    pub(crate) http: Vec<(Box<str>, Totals<Http>)>,
    pub(crate) listeners: Vec<(Box<str>, Totals<Listener>)>,
    pub(crate) tcp: Vec<(Box<str>, Totals<Tcp>)>,
    pub(crate) local_rate_limits: Vec<(Box<str>, Totals<LocalRateLimit>)>,
    pub(crate) connection_limits: Vec<(Box<str>, Totals<ConnectionLimit>)>,
    pub(crate) connection_rates: Vec<(Box<str>, Totals<ConnectionRate>)>,
    pub(crate) downstream_http2: Vec<(Box<str>, Totals<DownstreamHttp2>)>,
    pub(crate) upstream_http2: Vec<(Box<str>, Totals<UpstreamHttp2>)>,
    pub(crate) grpc: Vec<(Box<str>, Totals<Grpc>)>,
    pub(crate) rds: Vec<(Box<str>, Totals<Rds>)>,
    pub(crate) server: Totals<Server>,
    pub(crate) cluster_manager: Totals<ClusterManager>,
    pub(crate) listener_manager: Totals<ListenerManager>,
    pub(crate) control_plane: Totals<ControlPlane>,
    pub(crate) access_logs: Totals<AccessLogs>,
    pub(crate) spans: Totals<Spans>,
}

/// A writing thread's place in the registry, before it reached its thread.
#[derive(Clone, Debug)]
pub struct Seat {
    creations: Sender<Created>,
    buckets: Arc<BucketSettings>,
}

impl Seat {
    /// The thread's own registry. Call it on that thread: the result cannot move.
    pub fn open(self) -> ShardRegistry {
        ShardRegistry {
            istio: SeriesSet::new(self.creations.clone(), self.buckets.of_istio()),
            buckets: self.buckets,
            creations: self.creations,
            clusters: RefCell::default(),
            http: RefCell::default(),
            listeners: RefCell::default(),
            tcp: RefCell::default(),
            local_rate_limits: RefCell::default(),
            connection_limits: RefCell::default(),
            connection_rates: RefCell::default(),
            downstream_http2: RefCell::default(),
            upstream_http2: RefCell::default(),
            grpc: RefCell::default(),
        }
    }
}

type Handles<S> = RefCell<HashMap<Box<str>, Stats<S>>>;

/// One shard's statistics by name. Look a handle up once and keep it with what it counts.
#[derive(Debug)]
pub struct ShardRegistry {
    creations: Sender<Created>,
    buckets: Arc<BucketSettings>,
    istio: SeriesSet,
    clusters: Handles<Cluster>,
    http: Handles<Http>,
    listeners: Handles<Listener>,
    tcp: Handles<Tcp>,
    local_rate_limits: Handles<LocalRateLimit>,
    connection_limits: Handles<ConnectionLimit>,
    connection_rates: Handles<ConnectionRate>,
    downstream_http2: Handles<DownstreamHttp2>,
    upstream_http2: Handles<UpstreamHttp2>,
    grpc: Handles<Grpc>,
}

impl ShardRegistry {
    /// Series of Istio's metrics.
    pub fn istio(&self) -> &SeriesSet {
        &self.istio
    }

    /// Statistics of the cluster with this statistics name; created on first use.
    pub fn cluster(&self, name: &str) -> Stats<Cluster> {
        self.handle(&self.clusters, name, Created::Cluster)
    }

    /// Statistics of an HTTP connection manager's `stat_prefix`; created on first use.
    pub fn http(&self, stat_prefix: &str) -> Stats<Http> {
        self.handle(&self.http, stat_prefix, Created::Http)
    }

    /// Statistics of a listener, by `stat_prefix` or else address; created on first use. Colons are
    /// written as `_`, as Envoy does.
    pub fn listener(&self, name: &str) -> Stats<Listener> {
        self.handle(&self.listeners, &name.replace(':', "_"), Created::Listener)
    }

    /// Statistics of a TCP proxy's `stat_prefix`; created on first use.
    pub fn tcp(&self, stat_prefix: &str) -> Stats<Tcp> {
        self.handle(&self.tcp, stat_prefix, Created::Tcp)
    }

    /// Statistics of a local rate limit's `stat_prefix`; created on first use.
    pub fn local_rate_limit(&self, stat_prefix: &str) -> Stats<LocalRateLimit> {
        self.handle(&self.local_rate_limits, stat_prefix, Created::LocalRateLimit)
    }

    /// Statistics of a connection limit's `stat_prefix`; created on first use.
    pub fn connection_limit(&self, stat_prefix: &str) -> Stats<ConnectionLimit> {
        self.handle(&self.connection_limits, stat_prefix, Created::ConnectionLimit)
    }

    /// Statistics of a connection rate's `stat_prefix`; created on first use.
    pub fn connection_rate(&self, stat_prefix: &str) -> Stats<ConnectionRate> {
        self.handle(&self.connection_rates, stat_prefix, Created::ConnectionRate)
    }

    /// Statistics of all HTTP/2 connections of clients; created on first use.
    pub fn downstream_http2(&self) -> Stats<DownstreamHttp2> {
        self.handle(&self.downstream_http2, "", Created::DownstreamHttp2)
    }

    /// Statistics of HTTP/2 connections to the cluster with this statistics name; created on first use.
    pub fn upstream_http2(&self, cluster: &str) -> Stats<UpstreamHttp2> {
        self.handle(&self.upstream_http2, &UpstreamHttp2::scope_name(cluster), Created::UpstreamHttp2)
    }

    /// Statistics of gRPC calls; created on first use. `name` is [`Grpc::push_scope_name`]'s.
    pub fn grpc(&self, name: &str) -> Stats<Grpc> {
        self.handle(&self.grpc, name, Created::Grpc)
    }

    /// Forgets a cluster that is gone. Its values vanish once no handle is left on any shard.
    pub fn forget_cluster(&self, name: &str) {
        self.clusters.borrow_mut().remove(name);
        self.grpc.borrow_mut().retain(|scope, _| {
            let [cluster, ..] = Grpc::labels(scope);
            cluster.is_none_or(|(_, cluster)| cluster != name.strip_suffix(';').unwrap_or(name))
        });
        self.upstream_http2.borrow_mut().remove(UpstreamHttp2::scope_name(name).as_str());
    }

    /// Forgets a listener that is gone.
    pub fn forget_listener(&self, name: &str) {
        self.listeners.borrow_mut().remove(name.replace(':', "_").as_str());
    }

    fn handle<S: Scope>(
        &self,
        handles: &Handles<S>,
        name: &str,
        created: fn(Box<str>, Arc<Block<S>>) -> Created,
    ) -> Stats<S> {
        if let Some(stats) = handles.borrow().get(name) {
            return stats.clone();
        }
        let mut handles = handles.borrow_mut();
        let name = if handles.len() < SCOPES_PER_SHARD_MAX { name } else { OVERFLOW };
        if let Some(stats) = handles.get(name) {
            return stats.clone();
        }
        let block = Arc::new(Block::with_bounds(self.buckets.of_scope::<S>(name)));
        // Fails only when the registry is gone, that is at shutdown: then nobody reads.
        let _ = self.creations.send(created(name.into(), Arc::clone(&block)));
        let stats = Stats::new(block);
        handles.insert(name.into(), stats.clone());
        stats
    }
}

/// Name of the scope that counts for all scopes beyond the limit.
const OVERFLOW: &str = "ringsail_overflow";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{ClusterCounter, ClusterGauge};

    fn cluster(registry: &Registry, name: &str) -> Option<(u64, u64)> {
        let snapshot = registry.snapshot();
        let totals = &snapshot.clusters.iter().find(|(n, _)| &**n == name)?.1;
        Some((totals.counter(ClusterCounter::UpstreamRqTotal), totals.gauge(ClusterGauge::UpstreamRqActive)))
    }

    #[test]
    fn values_of_all_shards_add_up() {
        let registry = Registry::new();
        let threads: Vec<_> = (1..=3u64)
            .map(|n| {
                let seat = registry.seat();
                std::thread::spawn(move || {
                    let shard = seat.open();
                    shard.cluster("a").add(ClusterCounter::UpstreamRqTotal, n);
                    shard.cluster("a").set(ClusterGauge::UpstreamRqActive, n);
                    // Leaked, so that the block still counts as held after the thread.
                    std::mem::forget(shard);
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(cluster(&registry, "a"), Some((6, 6)));
    }

    #[test]
    fn a_scope_is_created_once_per_shard() {
        let registry = Registry::new();
        let shard = registry.seat().open();
        let first = shard.cluster("a");
        shard.cluster("a").add(ClusterCounter::UpstreamRqTotal, 1);
        assert_eq!(first.counter(ClusterCounter::UpstreamRqTotal), 1);
        assert_eq!(registry.snapshot().clusters.len(), 1);
    }

    #[test]
    fn a_forgotten_cluster_disappears_with_its_last_handle() {
        let registry = Registry::new();
        let shard = registry.seat().open();
        let held = shard.cluster("a");
        shard.forget_cluster("a");
        assert!(cluster(&registry, "a").is_some());
        drop(held);
        assert!(cluster(&registry, "a").is_none());
    }

    #[test]
    fn scopes_beyond_the_limit_share_one() {
        let registry = Registry::new();
        let shard = registry.seat().open();
        for i in 0..SCOPES_PER_SHARD_MAX + 2 {
            shard.tcp(&format!("t{i}"));
        }
        assert_eq!(registry.snapshot().tcp.len(), SCOPES_PER_SHARD_MAX + 1);
    }

    #[test]
    fn listener_addresses_have_no_colon() {
        let registry = Registry::new();
        let shard = registry.seat().open();
        let _held = shard.listener("[::1]:80");
        assert_eq!(&*registry.snapshot().listeners[0].0, "[__1]_80");
    }
}
