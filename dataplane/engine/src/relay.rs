//! TCP: bytes of a client to an upstream and back, each direction ending by itself.
//!
//! Compat, as observed on Envoy: whatever keeps the upstream from being reached resets the client's connection; an
//! upstream's reset becomes the client's; an upstream's FIN and our own time limits become a FIN.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ringsail_runtime::net::Stream;
use ringsail_runtime::publish::Current;
use ringsail_runtime::time::{now, sleep_until};
use ringsail_runtime::{Either, race};
use ringsail_tables::cluster::Discovery;
use ringsail_tables::{ClusterSlot, Tables};
use ringsail_telemetry::{ClusterCounter, ResponseFlag, TcpCounter};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::inflow::Inflow;
use crate::record;
use crate::serving::ChainStats;
use crate::shard::Shard;
use crate::telemetry::{self, LiveCell};
use crate::trail::Trail;
use crate::upstream::{self, HostKey, Outcome, Wish};

/// An upstream that was connected before the filter chain was known.
pub struct Early {
    /// The connection.
    pub upstream: Rc<upstream::Connection>,
    /// What it said.
    pub greeting: Inflow,
    cluster: ClusterSlot,
    trail: Trail,
}

/// Connects to an endpoint of a cluster for a client that has not spoken yet. One attempt: the relay makes its own if
/// it comes to that, and reports what goes wrong then.
pub async fn connect_early(
    shard: &Rc<Shard>,
    cluster: ClusterSlot,
    restored: Option<SocketAddr>,
) -> Option<Early> {
    let mut trail = Trail::default();
    let target = Target { cluster, restored, attempts_max: 1 };
    let upstream = connect(shard, || shard.current_tables(), target, &mut trail).await.ok()?;
    Some(Early { upstream: Rc::new(upstream), greeting: Inflow::default(), cluster, trail })
}

/// Relays a connection to its end. `inflow` holds bytes that were looked at to choose the chain, `early` the upstream
/// that was connected meanwhile.
pub async fn relay(shard: Rc<Shard>, connection: Rc<Connection>, inflow: Inflow, early: Option<Early>) {
    let mut trail = Trail::default();
    trail.restart(shard.wall_clock());
    let counts = Rc::new(Counts::default());
    let live = LiveCell::default();
    let serving = serve(&shard, &connection, inflow, early, &mut trail, (&counts, &live));
    let fate = connection.until_drained(&shard, serving).await;
    if let ChainStats::Tcp(stats) = &connection.enter(&shard).chain.stats {
        stats.add(TcpCounter::DownstreamCxRxBytesTotal, counts.up.get());
        stats.add(TcpCounter::DownstreamCxTxBytesTotal, counts.down.get());
        match fate {
            Fate::Idle => stats.add(TcpCounter::IdleTimeout, 1),
            Fate::TooOld => stats.add(TcpCounter::MaxDownstreamConnectionDuration, 1),
            Fate::NoCluster => stats.add(TcpCounter::DownstreamCxNoRoute, 1),
            Fate::Unreachable | Fate::Ended | Fate::UpstreamReset | Fate::ClientReset => {}
        }
    }
    let live = live.take().or_else(|| telemetry::connected(&shard, &connection, &trail, &counts));
    live.into_iter().for_each(|live| live.close());
    record::relay(&shard, &connection, &trail, &counts);
    match fate {
        Fate::NoCluster | Fate::Unreachable | Fate::UpstreamReset => {
            // This task is the connection's only owner.
            if let Some(connection) = Rc::into_inner(connection) {
                connection.stream.reset();
            }
        }
        Fate::Ended | Fate::Idle | Fate::TooOld | Fate::ClientReset => {}
    }
}

/// Bytes that went through.
#[derive(Debug)]
pub struct Counts {
    /// From the client.
    pub up: Cell<u64>,
    /// To the client.
    pub down: Cell<u64>,
    last_activity: Cell<Instant>,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { up: Cell::new(0), down: Cell::new(0), last_activity: Cell::new(now()) }
    }
}

/// How a relayed connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// No such cluster.
    NoCluster,
    /// No endpoint, or none that could be connected.
    Unreachable,
    /// Both sides ended.
    Ended,
    /// The upstream reset it.
    UpstreamReset,
    /// The client reset it.
    ClientReset,
    /// Nothing moved for too long.
    Idle,
    /// It lasted too long.
    TooOld,
}

/// What a connection needs of its TCP proxy, which may change under it.
#[derive(Clone, Copy)]
struct Settings {
    cluster: ClusterSlot,
    connect_attempts_max: u32,
    idle_timeout: Option<Duration>,
    duration_max: Option<Duration>,
}

async fn serve(
    shard: &Rc<Shard>,
    connection: &Connection,
    inflow: Inflow,
    early: Option<Early>,
    trail: &mut Trail,
    (counts, live): (&Rc<Counts>, &LiveCell),
) -> Fate {
    let settings = {
        let chain = connection.enter(shard).chain;
        let Some(proxy) = chain.tcp_proxy() else { return Fate::NoCluster };
        let target = proxy.pick(fastrand::u64(..));
        trail.set_cluster_name(&target.name);
        Settings {
            cluster: target.slot,
            connect_attempts_max: proxy.connect_attempts_max,
            idle_timeout: proxy.idle_timeout,
            duration_max: proxy.duration_max,
        }
    };
    let too_old = async {
        match settings.duration_max {
            Some(max) => sleep_until(connection.opened + max).await,
            None => std::future::pending().await,
        }
    };
    let relayed = async {
        // One for another cluster was connected by a version of the configuration that is gone.
        let (upstream, greeting) = match early.filter(|early| early.cluster == settings.cluster) {
            Some(early) => {
                trail.adopt_upstream(early.trail);
                (early.upstream, early.greeting)
            }
            None => {
                let target = Target {
                    cluster: settings.cluster,
                    restored: connection.restored,
                    attempts_max: settings.connect_attempts_max,
                };
                match connect(shard, || connection.enter(shard).tables, target, trail).await {
                    Ok(upstream) => (Rc::new(upstream), Inflow::default()),
                    Err(fate) => return fate,
                }
            }
        };
        live.set(telemetry::connected(shard, connection, trail, counts));
        counts.last_activity.set(now());
        let idle = idle(&counts.last_activity, settings.idle_timeout);
        match race(both_ways((&connection.stream, inflow), (&upstream.stream, greeting), counts), idle).await
        {
            Either::Left(fate) => fate,
            Either::Right(()) => Fate::Idle,
        }
    };
    let fate = match race(relayed, too_old).await {
        Either::Left(fate) => fate,
        Either::Right(()) => Fate::TooOld,
    };
    match fate {
        Fate::UpstreamReset => trail.flag(ResponseFlag::UpstreamRemoteReset),
        Fate::TooOld => trail.flag(ResponseFlag::DurationTimeout),
        Fate::NoCluster => trail.flag(ResponseFlag::NoClusterFound),
        Fate::Unreachable | Fate::Ended | Fate::ClientReset | Fate::Idle => {}
    }
    fate
}

/// Where to connect.
#[derive(Clone, Copy)]
struct Target {
    cluster: ClusterSlot,
    /// Where the client wanted to go, for clusters that forward there.
    restored: Option<SocketAddr>,
    attempts_max: u32,
}

/// Connects to an endpoint of the cluster; other endpoints are tried as often as the proxy may.
async fn connect(
    shard: &Rc<Shard>,
    tables: impl Fn() -> Current<Tables>,
    Target { cluster, restored, attempts_max }: Target,
    trail: &mut Trail,
) -> Result<upstream::Connection, Fate> {
    let mut tried: Vec<HostKey> = Vec::new();
    loop {
        let (state, choice, lease, options) = {
            let tables = tables();
            let cluster = tables.cluster_in(cluster).ok_or(Fate::NoCluster)?;
            let state = shard.cluster(&cluster);
            trail.seen.service = Some(shard.telemetry.service(&cluster));
            trail.cluster_stat_name.clear();
            trail.cluster_stat_name.push_str(cluster.cluster.stat_name());
            let destination = match &cluster.cluster.discovery {
                Discovery::OriginalDst { port_override, .. } => restored.map(|mut destination| {
                    destination.set_port(port_override.unwrap_or(destination.port()));
                    destination
                }),
                Discovery::Static
                | Discovery::StrictDns(_)
                | Discovery::LogicalDns(_)
                | Discovery::Eds { .. } => None,
            };
            let wish = Wish { destination, tried: &tried, attempts_max: RETRY_PICKS, ..Wish::default() };
            let Some(choice) = state.pick(&cluster, wish) else {
                state.stats.add(ClusterCounter::UpstreamCxNoneHealthy, 1);
                trail.flag(ResponseFlag::NoHealthyUpstream);
                return Err(Fate::Unreachable);
            };
            let endpoint = choice.endpoint(cluster.endpoints);
            trail.seen.upstream = endpoint.and_then(|endpoint| shard.telemetry.endpoint(endpoint));
            let lease = shard.lease(&cluster, &state, false);
            (state, choice, lease, upstream::options(&cluster.cluster.connection))
        };
        trail.upstream_host = Some(choice.address.clone());
        trail.attempts += 1;
        let Some(permit) = state.connections.take(lease.connections_max) else {
            state.stats.add(ClusterCounter::UpstreamCxOverflow, 1);
            trail.flag(ResponseFlag::UpstreamOverflow);
            return Err(Fate::Unreachable);
        };
        match upstream::open(&state, &choice, &options, permit).await {
            Ok(upstream) => {
                choice.host.tell(Outcome::Reached);
                trail.upstream_local = upstream.local_address;
                return Ok(upstream);
            }
            Err(failure) => {
                Outcome::of(failure).into_iter().for_each(|outcome| choice.host.tell(outcome));
                failure.row().counter.into_iter().for_each(|counter| state.stats.add(counter, 1));
                if let Failure::ConnectFailure(error) = failure {
                    trail.transport_failure = error.transport_failure_reason();
                }
                tried.push(choice.host.key);
                if trail.attempts >= attempts_max.max(1) {
                    state.stats.add(ClusterCounter::UpstreamCxConnectAttemptsExceeded, 1);
                    // Compat: the order Envoy logs for TCP, also after a single attempt.
                    trail.flag(ResponseFlag::UpstreamConnectionFailure);
                    trail.flag(ResponseFlag::UpstreamRetryLimitExceeded);
                    return Err(Fate::Unreachable);
                }
            }
        }
    }
}

/// Picks that may be spent on finding an endpoint that was not tried yet.
const RETRY_PICKS: u32 = 5;

/// Ready when nothing has moved for `limit`.
async fn idle(last_activity: &Cell<Instant>, limit: Option<Duration>) {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        let deadline = last_activity.get() + limit;
        if now() >= deadline {
            return;
        }
        sleep_until(deadline).await;
    }
}

/// Copies both directions until each has ended, or either socket is reset. Each side comes with what it has said.
async fn both_ways(
    (downstream, inflow): (&Stream, Inflow),
    (upstream, greeting): (&Stream, Inflow),
    counts: &Counts,
) -> Fate {
    let activity = &counts.last_activity;
    let mut up = pin!(copy(downstream, inflow, upstream, &counts.up, activity));
    let mut down = pin!(copy(upstream, greeting, downstream, &counts.down, activity));
    let (mut up_ended, mut down_ended) = (false, false);
    poll_fn(|cx| {
        if !up_ended && let Poll::Ready(result) = up.as_mut().poll(cx) {
            match result {
                Ok(()) => up_ended = true,
                Err(Broken::Source) => return Poll::Ready(Fate::ClientReset),
                Err(Broken::Sink) => return Poll::Ready(Fate::UpstreamReset),
            }
        }
        if !down_ended && let Poll::Ready(result) = down.as_mut().poll(cx) {
            match result {
                Ok(()) => down_ended = true,
                Err(Broken::Source) => return Poll::Ready(Fate::UpstreamReset),
                Err(Broken::Sink) => return Poll::Ready(Fate::ClientReset),
            }
        }
        if up_ended && down_ended { Poll::Ready(Fate::Ended) } else { Poll::Pending }
    })
    .await
}

/// Which socket of a copy is gone.
enum Broken {
    Source,
    Sink,
}

/// Copies one direction until its source ends, and passes the end on.
async fn copy(
    source: &Stream,
    mut inflow: Inflow,
    sink: &Stream,
    count: &Cell<u64>,
    last_activity: &Cell<Instant>,
) -> Result<(), Broken> {
    loop {
        if !inflow.fill(source).await.map_err(|_| Broken::Source)? {
            // A sink that is gone says so to the other direction.
            let _ = sink.shutdown_write();
            return Ok(());
        }
        let bytes = inflow.bytes();
        let moved = bytes.len();
        sink.send_all(bytes).await.map_err(|_| Broken::Sink)?;
        count.set(count.get() + moved as u64);
        last_activity.set(now());
        inflow.consume(moved);
    }
}
