//! One shard: everything its connections share, and nothing another shard sees.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ringsail_http::{RequestHead, ResponseHead};
use ringsail_runtime::mailbox::{Mailbox, MailboxSender};
use ringsail_runtime::publish::{Current, Subscriber};
use ringsail_runtime::{Either, drain, race, task, time};
use ringsail_tables::Tables;
use ringsail_tables::cluster::{ClusterRef, UpstreamProtocol};
use ringsail_tables::listener::{Direction, Listener};
use ringsail_telemetry::ShardRegistry;

use crate::breaker::{self, Usage};
use crate::date::DateCache;
use crate::filters::mirror::Mirrors;
use crate::limits::{DRAIN_SWEEP_INTERVAL, POOL_SWEEP_INTERVAL, SCRATCH_BYTES_KEPT_MAX, SCRATCH_KEPT_MAX};
use crate::record::Log;
use crate::serving::{DrainPolicy, Making, ServingListener};
use crate::telemetry::{Local, Telemetry};
use crate::trail::Trail;
use crate::upstream::{ClusterState, Clusters, Lease, Report};

/// Facts about this process that requests may show.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Our own address, written to `x-forwarded-for` in place of a loopback peer.
    pub address: IpAddr,
    /// `%HOSTNAME%`.
    pub hostname: String,
    /// Who it works for.
    pub local: Arc<Local>,
    /// Who this proxy is to collectors.
    pub node: Node,
}

/// This proxy's node, as far as spans and logs tell it. Source: `envoy.config.core.v3.Node`.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// The cluster it is of: `--service-cluster`, or the bootstrap's.
    pub cluster: String,
    /// Its zone.
    pub zone: String,
}

/// A shard's state. Never leaves its thread.
pub struct Shard {
    /// Its number, from 0.
    pub number: u32,
    /// How many shards there are; limits are divided among them.
    pub count: u32,
    /// This process.
    pub identity: Identity,
    /// The configuration as it is published; see [`Shard::current_tables`].
    pub tables: Subscriber<Tables>,
    /// What is remembered of clusters.
    pub clusters: Clusters,
    /// Counters.
    pub stats: ShardRegistry,
    /// Peers, services and series of Istio's metrics.
    pub telemetry: Telemetry,
    /// The way to the access-log writer.
    pub log: Log,
    /// Mirrored copies of requests.
    pub mirrors: Mirrors,
    /// Downstream connections, and how many this shard may have.
    pub downstream: Usage,
    /// See [`Shard::downstream`].
    pub downstream_max: u32,
    /// How connections are asked to end.
    pub drain_policy: DrainPolicy,
    dates: RefCell<DateCache>,
    #[expect(
        clippy::vec_box,
        reason = "boxes go in and out; unboxed, each exchange would copy its scratch twice"
    )]
    scratch: RefCell<Vec<Box<Scratch>>>,
    reports: RefCell<Option<Mailbox<Report>>>,
    /// The tables that [`Self::serving`] is in step with.
    adopted: RefCell<Current<Tables>>,
    /// Listeners with sockets or connections, by slot.
    serving: RefCell<Vec<Option<Rc<ServingListener>>>>,
    drains: Cell<Option<DrainOrder>>,
}

/// What an operator told to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainOrder {
    /// Only listeners with direction INBOUND.
    pub inbound_only: bool,
}

/// What a shard is told when it starts, by flags and bootstrap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Bounds the downstream connections of the process; each shard gets its share.
    pub downstream_max: Option<u32>,
    /// How connections are asked to end.
    pub drain: DrainPolicy,
}

/// Memory of one exchange, recycled.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The request's head.
    pub request: RequestHead,
    /// Bytes it took on an HTTP/1 connection.
    pub request_head_bytes: u32,
    /// The response's head.
    pub response: ResponseHead,
    /// Bytes on their way upstream.
    pub upstream_out: Vec<u8>,
    /// Bytes on their way downstream.
    pub downstream_out: Vec<u8>,
    /// What happened.
    pub trail: Trail,
    /// Text in the making.
    pub text: Vec<u8>,
}

impl Shard {
    /// A shard before its first connection.
    pub fn new(
        number: u32,
        count: u32,
        identity: Identity,
        tables: Subscriber<Tables>,
        stats: ShardRegistry,
        log: Log,
        settings: Settings,
    ) -> Rc<Shard> {
        let adopted = tables.current();
        Rc::new(Shard {
            number,
            count,
            identity,
            tables,
            clusters: Clusters::new(number, count),
            stats,
            telemetry: Telemetry::default(),
            log,
            mirrors: Mirrors::default(),
            downstream: Usage::default(),
            downstream_max: breaker::lease(settings.downstream_max.unwrap_or(u32::MAX), number, count, 0),
            drain_policy: settings.drain,
            dates: RefCell::default(),
            scratch: RefCell::default(),
            reports: RefCell::default(),
            adopted: RefCell::new(adopted),
            serving: RefCell::default(),
            drains: Cell::new(None),
        })
    }

    /// Tells where endpoints that fail too often are reported to; `reports` are given to the shard that judges them.
    pub fn report_to(&self, judge: MailboxSender<Report>, reports: Option<Mailbox<Report>>) {
        self.clusters.report_to(judge);
        *self.reports.borrow_mut() = reports;
    }

    /// The reports, if this shard judges; once.
    pub(crate) fn take_reports(&self) -> Option<Mailbox<Report>> {
        self.reports.borrow_mut().take()
    }

    /// The time of day.
    pub fn wall_clock(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Value of the `date` header now.
    pub fn date(&self) -> [u8; 29] {
        let second = self.wall_clock().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.dates.borrow_mut().at(second)
    }

    /// A number for a connection, unique in the process.
    pub fn next_connection_id(&self) -> u64 {
        self.clusters.next_connection_id()
    }

    /// The configuration of this moment. Listeners and filter chains on this shard are in step with what this gives:
    /// whoever asks first after a change brings them there.
    pub fn current_tables(&self) -> Current<Tables> {
        if self.adopted.borrow().number() != self.tables.number() {
            self.adopt();
        }
        self.adopted.borrow().clone()
    }

    fn adopt(&self) {
        let next = self.tables.current();
        let previous = self.adopted.replace(next.clone());
        let mut serving = self.serving.take();
        for place in &mut serving {
            let Some(listener) = place else { continue };
            let id = listener.version().listener.id;
            match next.listener(id) {
                Some(version) => listener.update(self.making(), version, &previous),
                None => {
                    listener.remove(&previous);
                    *place = None;
                }
            }
        }
        *self.serving.borrow_mut() = serving;
    }

    /// A listener of [`Shard::current_tables`] as it is on this shard.
    pub fn serving(&self, listener: &Arc<Listener>) -> Rc<ServingListener> {
        let slot = listener.id.slot as usize;
        let mut serving = self.serving.borrow_mut();
        if serving.len() <= slot {
            serving.resize_with(slot + 1, || None);
        }
        let place = &mut serving[slot];
        if let Some(known) = place {
            return known.clone();
        }
        let new = Rc::new(ServingListener::new(self.making(), listener));
        if self.drains.get().is_some_and(|order| order.concerns(new.direction())) {
            new.drain.begin();
        }
        place.insert(new).clone()
    }

    /// Obeys an order to drain, which also holds for listeners to come.
    pub fn begin_drain(&self, order: DrainOrder) {
        let all = self.drains.get().is_some_and(|earlier| !earlier.inbound_only);
        self.drains.set(Some(DrainOrder { inbound_only: order.inbound_only && !all }));
        let serving = self.serving.borrow().clone();
        serving
            .iter()
            .flatten()
            .filter(|listener| order.concerns(listener.direction()))
            .for_each(|listener| listener.drain.begin());
    }

    /// What counters and logs of listeners are made with.
    pub fn making(&self) -> Making<'_> {
        Making { stats: &self.stats, log: &self.log, telemetry: &self.telemetry, local: &self.identity.local }
    }

    /// The state of a cluster on this shard.
    pub fn cluster(&self, cluster: &ClusterRef<'_>) -> Rc<ClusterState> {
        let state = self.clusters.state(cluster.id, || self.stats.cluster(cluster.cluster.stat_name()));
        if cluster.cluster.connection.protocol != UpstreamProtocol::Http1 {
            state.http2_stats.get_or_init(|| self.stats.upstream_http2(cluster.cluster.stat_name()));
        }
        state
    }

    /// The limits of a cluster for one attempt.
    pub fn lease(&self, cluster: &ClusterRef<'_>, state: &ClusterState, high_priority: bool) -> Lease {
        state.lease(cluster.cluster, cluster.live, high_priority)
    }

    /// Memory for an exchange.
    pub fn take_scratch(&self) -> Box<Scratch> {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps the memory for another exchange, unless it grew large.
    pub fn give_back_scratch(&self, mut scratch: Box<Scratch>) {
        let mut kept = self.scratch.borrow_mut();
        if kept.len() < SCRATCH_KEPT_MAX && scratch.heap_bytes() <= SCRATCH_BYTES_KEPT_MAX {
            scratch.clear();
            kept.push(scratch);
        }
    }

    /// Reports on connections and streams while they last, for ever.
    pub async fn report_telemetry(self: Rc<Self>) {
        loop {
            time::sleep(self.telemetry.sweep_interval()).await;
            self.telemetry.sweep(&self.stats, time::now());
        }
    }

    /// Closes upstream connections that are dead or too old, for ever; once the shard drains, all idle ones, which
    /// would only keep the process from ending.
    pub async fn sweep_pools(self: Rc<Self>) {
        loop {
            if drain::draining() {
                self.clusters
                    .used()
                    .iter()
                    .flat_map(|state| state.hosts())
                    .for_each(|host| host.close_idle());
                time::sleep(DRAIN_SWEEP_INTERVAL).await;
                continue;
            }
            if let Either::Right(()) = race(time::sleep(POOL_SWEEP_INTERVAL), drain::drain_begun()).await {
                continue;
            }
            let tables = self.current_tables();
            self.clusters.retain(|id| tables.cluster(id).is_some());
            for state in self.clusters.used() {
                let Some(cluster) = tables.cluster(state.id) else { continue };
                let settings = &cluster.cluster.connection;
                for host in state.hosts() {
                    host.close_stale(settings.idle_timeout, settings.connection_duration_max);
                }
                state.forget_unused_hosts(&cluster);
            }
            task::yield_now().await;
        }
    }
}

impl DrainOrder {
    /// Whether it is about listeners of this direction.
    pub fn concerns(self, direction: Direction) -> bool {
        !self.inbound_only || direction == Direction::Inbound
    }
}

impl Scratch {
    fn clear(&mut self) {
        self.upstream_out.clear();
        self.downstream_out.clear();
        self.text.clear();
    }

    fn heap_bytes(&self) -> usize {
        self.request.heap_bytes()
            + self.response.heap_bytes()
            + self.upstream_out.capacity()
            + self.downstream_out.capacity()
            + self.text.capacity()
    }
}
