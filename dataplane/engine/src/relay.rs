//! TCP: bytes of a client to an upstream and back, each direction ending by itself.
//!
//! Compat, as observed on Envoy: whatever keeps the upstream from being reached resets the client's connection; an
//! upstream's reset becomes the client's; an upstream's FIN and our own time limits become a FIN.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringsail_runtime::time::{now, sleep, sleep_until};
use ringsail_runtime::{Either, race};
use ringsail_tables::ClusterSlot;
use ringsail_tables::rbac::NoRequest;
use ringsail_tables::tcp_fault::{Drawn, TcpFault};
use ringsail_tables::tcp_proxy::LogTimes;
use ringsail_telemetry::access_log::RecordKind;
use ringsail_telemetry::{ResponseFlag, TcpCounter};

use crate::connection::Connection;
use crate::filters::rbac;
use crate::inflow::Inflow;
use crate::record;
use crate::serve::Established;
use crate::server_first::Candidate;
use crate::serving::ChainStats;
use crate::shard::Shard;
use crate::stream::Stream;
use crate::telemetry::{self, LiveCell};
use crate::trail::Trail;
use crate::upstream;
use copy::{Limits, both_ways};
use reach::{Target, connect, hash_of};

mod copy;
mod reach;

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
    candidate: Candidate,
    restored: Option<SocketAddr>,
) -> Option<Early> {
    let mut trail = Trail::default();
    let Candidate { cluster, source } = candidate;
    let hash = hash_of(source);
    let target = Target { cluster, restored, hash, criteria: None, attempts_max: 1, backoff: None };
    let upstream = connect(shard, || shard.current_tables(), target, &mut trail).await.ok()?;
    Some(Early { upstream: Rc::new(upstream), greeting: Inflow::default(), cluster, trail })
}

/// Relays a connection to its end.
pub async fn relay(shard: Rc<Shard>, established: Established) {
    let Established { connection, inflow, early } = established;
    let mut trail = Trail::default();
    trail.restart(shard.wall_clock());
    let counts = Rc::new(Counts::default());
    let live = LiveCell::default();
    let fate = {
        let serving = pin!(serve(&shard, &connection, inflow, early, &mut trail, (&counts, &live)));
        connection.until_drained(&shard, serving).await
    };
    if let ChainStats::Tcp(stats) = &connection.enter(&shard).chain.stats {
        stats.add(TcpCounter::DownstreamCxRxBytesTotal, counts.up.get());
        stats.add(TcpCounter::DownstreamCxTxBytesTotal, counts.down.get());
        match fate {
            Fate::Idle => stats.add(TcpCounter::IdleTimeout, 1),
            Fate::TooOld => stats.add(TcpCounter::MaxDownstreamConnectionDuration, 1),
            Fate::NoCluster => stats.add(TcpCounter::DownstreamCxNoRoute, 1),
            Fate::Unreachable
            | Fate::Ended
            | Fate::UpstreamReset
            | Fate::ClientReset
            | Fate::Faulted
            | Fate::Denied => {}
        }
    }
    let live = live.take().or_else(|| telemetry::connected(&shard, &connection, &trail, &counts));
    live.into_iter().for_each(|live| live.close());
    record::relay(&shard, &connection, &trail, &counts, RecordKind::TcpConnectionEnd);
    match fate {
        Fate::NoCluster | Fate::Unreachable | Fate::UpstreamReset | Fate::Faulted => {
            // This task is the connection's only owner.
            if let Some(connection) = Rc::into_inner(connection) {
                connection.stream.reset();
            }
        }
        Fate::Ended | Fate::Idle | Fate::TooOld | Fate::ClientReset | Fate::Denied => {}
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
    /// Broken on purpose.
    Faulted,
    /// The client may not use it.
    Denied,
}

/// What a connection needs of its TCP proxy, which may change under it.
#[derive(Clone)]
struct Settings {
    target: Target,
    idle_timeout: Option<Duration>,
    duration_max: Option<Duration>,
    connect_on_data: bool,
    log_times: LogTimes,
    fault: Drawn,
}

impl Settings {
    /// As the connection's filter chain says at this moment; `None` when there is no such cluster.
    fn of(shard: &Shard, connection: &Connection, trail: &mut Trail) -> Option<Settings> {
        let entered = connection.enter(shard);
        let proxy = entered.chain.tcp_proxy()?;
        let asked = connection.server_name();
        let mut criteria = None;
        let cluster = if proxy.cluster_by_server_name && !asked.is_empty() {
            trail.set_cluster_name(asked);
            ClusterSlot(entered.tables.cluster_named(asked)?.id.slot)
        } else {
            let picked = proxy.pick(fastrand::u64(..));
            trail.set_cluster_name(&picked.name);
            criteria = picked.subset.clone();
            picked.slot
        };
        let draw = |fault: &TcpFault| fault.draw(shard.wall_clock(), || fastrand::u64(..));
        Some(Settings {
            target: Target {
                cluster,
                restored: connection.restored(),
                criteria,
                hash: hash_of(connection.peer.filter(|_| proxy.hash_by_source_ip)),
                attempts_max: proxy.connect_attempts_max,
                backoff: proxy.backoff,
            },
            idle_timeout: proxy.idle_timeout,
            duration_max: proxy.drawn_duration_max(fastrand::f64()),
            connect_on_data: proxy.connect_on_data,
            log_times: proxy.log_times,
            fault: proxy.fault.as_ref().map(draw).unwrap_or_default(),
        })
    }
}

async fn serve(
    shard: &Rc<Shard>,
    connection: &Connection,
    inflow: Inflow,
    early: Option<Box<Early>>,
    trail: &mut Trail,
    (counts, live): (&Rc<Counts>, &LiveCell),
) -> Fate {
    let Some(settings) = Settings::of(shard, connection, trail) else {
        trail.flag(ResponseFlag::NoClusterFound);
        return Fate::NoCluster;
    };
    if settings.log_times.on_start {
        record::relay(shard, connection, trail, counts, RecordKind::TcpConnectionStart);
    }
    let too_old = async {
        match settings.duration_max {
            Some(max) => sleep_until(connection.opened + max).await,
            None => std::future::pending().await,
        }
    };
    let relayed = relayed(shard, connection, (inflow, early), settings.clone(), trail, (counts, live));
    let fate = match race(relayed, too_old).await {
        Either::Left(fate) => fate,
        Either::Right(()) => Fate::TooOld,
    };
    match fate {
        Fate::UpstreamReset => trail.flag(ResponseFlag::UpstreamRemoteReset),
        Fate::TooOld => trail.flag(ResponseFlag::DurationTimeout),
        Fate::NoCluster => trail.flag(ResponseFlag::NoClusterFound),
        Fate::Faulted => trail.flag(ResponseFlag::FaultInjected),
        Fate::Unreachable | Fate::Ended | Fate::ClientReset | Fate::Idle | Fate::Denied => {}
    }
    fate
}

/// Why access control does not let the connection pass, as its filter chain says at this moment.
fn refusal(shard: &Shard, connection: &Connection) -> Option<String> {
    let chain = connection.enter(shard).chain;
    let subject = rbac::of_connection(connection);
    let count = |counter| {
        if let ChainStats::Tcp(stats) = &chain.stats {
            stats.add(counter, 1);
        }
    };
    chain.chain().access.iter().find_map(|filter| {
        let verdict = rbac::judge(filter, &NoRequest, &subject);
        if let Some(shadow) = verdict.shadow {
            count(if shadow.allowed { TcpCounter::RbacShadowAllowed } else { TcpCounter::RbacShadowDenied });
        }
        if let Some(enforced) = verdict.enforced {
            count(if enforced.allowed { TcpCounter::RbacAllowed } else { TcpCounter::RbacDenied });
        }
        verdict.refusal()
    })
}

async fn relayed(
    shard: &Rc<Shard>,
    connection: &Connection,
    (mut inflow, early): (Inflow, Option<Box<Early>>),
    settings: Settings,
    trail: &mut Trail,
    (counts, live): (&Rc<Counts>, &LiveCell),
) -> Fate {
    let fault = settings.fault;
    if let Some(delay) = fault.connect_delay {
        trail.flag(ResponseFlag::DelayInjected);
        sleep(delay).await;
    }
    if fault.refuse {
        return Fate::Faulted;
    }
    if fault.blackhole {
        trail.flag(ResponseFlag::FaultInjected);
        return swallow(&connection.stream, inflow, settings.idle_timeout, counts).await;
    }
    if settings.connect_on_data {
        match inflow.fill(&connection.stream).await {
            Ok(true) => {}
            Ok(false) => return Fate::Ended,
            Err(_) => return Fate::ClientReset,
        }
    }
    // One for another cluster was connected by a version of the configuration that is gone.
    let (upstream, greeting) = match early.filter(|early| early.cluster == settings.target.cluster) {
        Some(early) => {
            trail.adopt_upstream(early.trail);
            (early.upstream, early.greeting)
        }
        None => match connect(shard, || connection.enter(shard).tables, settings.target, trail).await {
            Ok(upstream) => (Rc::new(upstream), Inflow::default()),
            Err(fate) => return fate,
        },
    };
    live.set(telemetry::connected(shard, connection, trail, counts));
    if settings.log_times.on_connected {
        record::relay(shard, connection, trail, counts, RecordKind::TcpUpstreamConnected);
    }
    counts.last_activity.set(now());
    let limits = Limits {
        reset_after: fault.reset.and_then(|at| at.bytes),
        ends_after: fault.half_close_after_bytes,
        bytes_per_second: fault.bytes_per_second,
    };
    let denied = Cell::new(None);
    let fate = {
        let client = (&connection.stream, inflow);
        let admits = || {
            let refusal = refusal(shard, connection);
            let admitted = refusal.is_none();
            denied.set(refusal);
            admitted
        };
        let both = both_ways(client, (&upstream.stream, greeting), counts, limits, admits);
        let timers = async {
            let periodic = log_periodically(shard, connection, settings.log_times.interval, trail, counts);
            let reset = async {
                match fault.reset.and_then(|at| at.time) {
                    Some(time) => sleep(time).await,
                    None => std::future::pending().await,
                }
            };
            let idle = idle(&counts.last_activity, settings.idle_timeout);
            match race(idle, race(reset, periodic)).await {
                Either::Left(()) => Fate::Idle,
                Either::Right(_) => Fate::Faulted,
            }
        };
        match race(both, timers).await {
            Either::Left(fate) | Either::Right(fate) => fate,
        }
    };
    if let Some(reason) = denied.take() {
        trail.termination = reason.into();
    }
    if let (Fate::Faulted, Some(mut upstream)) = (fate, Rc::into_inner(upstream)) {
        upstream.stream.reset_when_dropped();
    }
    fate
}

/// Takes what the client sends, and does nothing with it.
async fn swallow(client: &Stream, mut inflow: Inflow, limit: Option<Duration>, counts: &Counts) -> Fate {
    counts.last_activity.set(now());
    let taking = async {
        loop {
            match inflow.fill(client).await {
                Ok(true) => {}
                Ok(false) => return Fate::Ended,
                Err(_) => return Fate::ClientReset,
            }
            let taken = inflow.bytes().len();
            counts.up.set(counts.up.get() + taken as u64);
            counts.last_activity.set(now());
            inflow.consume(taken);
        }
    };
    match race(taking, idle(&counts.last_activity, limit)).await {
        Either::Left(fate) => fate,
        Either::Right(()) => Fate::Idle,
    }
}

/// Writes access log lines while the connection lasts; never ends.
async fn log_periodically(
    shard: &Shard,
    connection: &Connection,
    interval: Option<Duration>,
    trail: &Trail,
    counts: &Counts,
) {
    let Some(interval) = interval else { return std::future::pending().await };
    loop {
        sleep(interval).await;
        record::relay(shard, connection, trail, counts, RecordKind::TcpPeriodic);
    }
}

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
