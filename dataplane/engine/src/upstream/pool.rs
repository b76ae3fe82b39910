//! Connections of one shard to one host: reuse an idle one, dial, or wait for one to become free.
//!
//! The latest used connection is taken first, so that what a quieter time does not need grows old and is closed.
//! A connection is looked at before it is used again (one `recv` that peeks): one the server has closed meanwhile
//! is dropped instead of costing the request a 503.

use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use ringsail_runtime::time::now;
use ringsail_tables::cluster::ConnectionSettings;
use ringsail_tables::live::HostCount;
use ringsail_telemetry::{ClusterCounter, ClusterGauge, ClusterHistogram};

use super::cluster::{Choice, ClusterState};
use super::connect::{self, Dial, TransportKey};
use super::host::Host;
use crate::breaker::{Lease, LeasedPermit, Limit};
use crate::failure::{ConnectError, Failure};
use crate::http2::Guard;
use crate::stream::Stream;

/// A connection to a host, counted from before it is made until it is closed.
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// Our end of it.
    pub local_address: Option<SocketAddr>,
    /// Its number, and when it was made.
    pub facts: UpstreamConnection,
    /// Requests sent on it.
    requests: u32,
    /// A request is on it.
    busy: bool,
    /// Bytes received and sent that are in the cluster's counters.
    counted: (u64, u64),
    opened: Instant,
    idle_since: Instant,
    transport: TransportKey,
    slot: Slot,
}

/// What is told of a connection.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamConnection {
    /// Its number. Source: Envoy numbers connections of either side from one row.
    pub id: u64,
    /// When it was dialed.
    pub dialed: Instant,
    /// When it was there.
    pub connected: Instant,
}

/// The place of a connection in the counts of its host and cluster.
pub(crate) struct Slot {
    // Weak: the host's pool holds idle connections, and they must not hold the pool.
    cluster: Weak<ClusterState>,
    host: Weak<Host>,
    _permit: LeasedPermit,
}

impl Slot {
    pub(crate) fn new(cluster: &Rc<ClusterState>, host: &Rc<Host>, permit: LeasedPermit) -> Slot {
        host.set_connections(host.connections.get() + 1);
        host.count(HostCount::CxTotal, 1);
        cluster.stats.add(ClusterCounter::UpstreamCxTotal, 1);
        let slot = Slot { cluster: Rc::downgrade(cluster), host: Rc::downgrade(host), _permit: permit };
        cluster.stats.set(ClusterGauge::UpstreamCxActive, cluster.connections.count().into());
        slot
    }

    /// Counts a TLS handshake, if there was one.
    pub(crate) fn count_tls(&self, dialed: &Result<Stream, Failure>) {
        let Some(cluster) = self.cluster.upgrade() else { return };
        match dialed {
            Ok(stream) => {
                let Some(facts) = stream.tls() else { return };
                cluster.stats.add(ClusterCounter::SslHandshake, 1);
                cluster.stats.add(ClusterCounter::SslSessionReused, facts.is_resumed.into());
            }
            Err(Failure::ConnectFailure(ConnectError::Tls(_))) => {
                cluster.stats.add(ClusterCounter::SslConnectionError, 1);
            }
            Err(_) => {}
        }
    }

    /// Counts what an HTTP/2 connection has seen, at its end.
    pub(crate) fn count_http2(&self, guard: &Guard, protocol_error: bool) {
        let Some(cluster) = self.cluster.upgrade() else { return };
        for (counter, count) in [
            (ClusterCounter::UpstreamCxCloseNotify, guard.go_away_received().into()),
            (ClusterCounter::UpstreamCxProtocolError, protocol_error.into()),
        ] {
            cluster.stats.add(counter, count);
        }
    }
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// We did.
    ByUs,
    /// The other side.
    ByPeer,
}

impl Slot {
    /// Counts how a connection ended that had been made.
    pub(crate) fn count_end(&self, ended: Ended, busy: bool, opened: Instant) {
        let Some(cluster) = self.cluster.upgrade() else { return };
        let stats = &cluster.stats;
        stats.record(ClusterHistogram::UpstreamCxLengthMs, (now() - opened).as_millis() as u64);
        let (counter, with_request) = match ended {
            Ended::ByUs => {
                (ClusterCounter::UpstreamCxDestroyLocal, ClusterCounter::UpstreamCxDestroyLocalWithActiveRq)
            }
            Ended::ByPeer => {
                (ClusterCounter::UpstreamCxDestroyRemote, ClusterCounter::UpstreamCxDestroyRemoteWithActiveRq)
            }
        };
        stats.add(counter, 1);
        if busy {
            stats.add(with_request, 1);
            stats.add(ClusterCounter::UpstreamCxDestroyWithActiveRq, 1);
        }
    }

    /// Counts bytes of an HTTP/2 connection.
    pub(crate) fn count_bytes(&self, received: u64, sent: u64) {
        if let Some(cluster) = self.cluster.upgrade() {
            cluster.stats.add(ClusterCounter::UpstreamCxRxBytesTotal, received);
            cluster.stats.add(ClusterCounter::UpstreamCxTxBytesTotal, sent);
        }
    }

    /// Counts how long it took to make a connection.
    pub(crate) fn count_connect(&self, length: Duration) {
        if let Some(cluster) = self.cluster.upgrade() {
            cluster.stats.record(ClusterHistogram::UpstreamCxConnectMs, length.as_millis() as u64);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.upgrade() {
            cluster.stats.add(ClusterCounter::UpstreamCxDestroy, 1);
            // The permit is given back after this.
            let left = cluster.connections.count().saturating_sub(1);
            cluster.stats.set(ClusterGauge::UpstreamCxActive, left.into());
        }
        if let Some(host) = self.host.upgrade() {
            host.set_connections(host.connections.get() - 1);
            host.freed.notify_one();
        }
    }
}

/// How long a connection may be used again.
#[derive(Clone, Copy, Debug)]
pub struct Reuse {
    /// Requests; 0 means any number.
    pub requests_max: u32,
    /// Time since it was opened.
    pub duration_max: Option<Duration>,
}

impl Reuse {
    /// As a cluster's settings say.
    pub fn of(settings: &ConnectionSettings) -> Reuse {
        Reuse {
            requests_max: settings.requests_per_connection_max,
            duration_max: settings.connection_duration_max,
        }
    }
}

/// A connection for one request.
pub struct Acquired {
    /// The connection.
    pub connection: Connection,
    /// It has served requests before: if it turns out closed, that says nothing about the host.
    pub reused: bool,
}

/// Gets a connection to `choice`: an idle one unless `fresh`, else a new one as far as the breakers allow, else
/// waits for one. Dropping the future gives up the place in the queue or the dial.
pub async fn acquire(
    cluster: &Rc<ClusterState>,
    choice: &Choice,
    lease: Lease,
    dial: &Dial,
    fresh: bool,
) -> Result<Acquired, Failure> {
    if !fresh && let Some(connection) = choice.host.take_idle(dial.key()) {
        return Ok(Acquired { connection, reused: true });
    }
    let _pending = Pending::begin(cluster, lease.pending_max).ok_or(Failure::Overflow)?;
    loop {
        let allowed = choice.host.may_connect(lease.connections_per_host_max);
        let permit =
            allowed.then(|| cluster.connections.take(lease.connections_max)).flatten().or_else(|| {
                cluster.stats.add(ClusterCounter::UpstreamCxOverflow, 1);
                // Compat: a host without any connection gets one even past the limit, or requests queued for it would
                // never be served. Envoy does so on each of its workers.
                (choice.host.connections.get() == 0).then(|| cluster.connections.take_anyway())
            });
        if let Some(permit) = permit {
            cluster.stats.add(ClusterCounter::UpstreamCxHttp1Total, 1);
            let connection = open(cluster, choice, dial, permit).await.inspect_err(|_| {
                cluster.stats.add(ClusterCounter::UpstreamRqPendingFailureEject, 1);
            })?;
            return Ok(Acquired { connection, reused: false });
        }
        choice.host.freed.notified().await;
        if let Some(connection) = choice.host.take_idle(dial.key()) {
            return Ok(Acquired { connection, reused: true });
        }
    }
}

/// Dials a connection of its own, outside the queue: for TCP relays.
pub async fn open(
    cluster: &Rc<ClusterState>,
    choice: &Choice,
    dial: &Dial,
    permit: LeasedPermit,
) -> Result<Connection, Failure> {
    let slot = Slot::new(cluster, &choice.host, permit);
    let dialed_at = now();
    let dialed = connect::dial(&choice.address, dial).await;
    slot.count_tls(&dialed);
    let stream = dialed.inspect_err(|_| {
        choice.host.count(HostCount::CxConnectFail, 1);
        // Compat: a connection that was never there was ended by the other side.
        cluster.stats.add(ClusterCounter::UpstreamCxDestroyRemote, 1);
    })?;
    let local_address = stream.local_addr().ok().and_then(|address| address.as_inet());
    let opened = now();
    cluster.stats.record(ClusterHistogram::UpstreamCxConnectMs, (opened - dialed_at).as_millis() as u64);
    let facts = UpstreamConnection { id: cluster.next_connection_id(), dialed: dialed_at, connected: opened };
    let transport = dial.key();
    Ok(Connection {
        stream,
        local_address,
        facts,
        requests: 0,
        busy: false,
        counted: (0, 0),
        opened,
        idle_since: opened,
        transport,
        slot,
    })
}

impl Connection {
    /// Counts a request about to be sent.
    pub fn begin_request(&mut self) {
        self.requests += 1;
        self.busy = true;
    }

    /// Puts what was received and sent since into the cluster's counters.
    fn count_bytes(&mut self) {
        let Some(cluster) = self.slot.cluster.upgrade() else { return };
        let now = (self.stream.bytes_received(), self.stream.bytes_sent());
        cluster.stats.add(ClusterCounter::UpstreamCxRxBytesTotal, now.0 - self.counted.0);
        cluster.stats.add(ClusterCounter::UpstreamCxTxBytesTotal, now.1 - self.counted.1);
        self.counted = now;
    }

    /// Puts the connection back for the next request, unless its settings say that it has served long enough.
    /// Call it only when the last answer was complete and both sides want to go on.
    pub fn give_back(mut self, reuse: Reuse) {
        self.count_bytes();
        self.busy = false;
        let Some(host) = self.slot.host.upgrade() else { return };
        let served_all = reuse.requests_max > 0 && self.requests >= reuse.requests_max;
        let now = now();
        let too_old = reuse.duration_max.is_some_and(|max| now - self.opened >= max);
        // A process that drains needs it no more.
        if served_all || too_old || ringsail_runtime::drain::draining() {
            if let Some(cluster) = self.slot.cluster.upgrade() {
                cluster.stats.add(ClusterCounter::UpstreamCxMaxRequests, served_all.into());
            }
            return;
        }
        self.idle_since = now;
        host.idle.borrow_mut().push(self);
        host.freed.notify_one();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.count_bytes();
        let ended = if self.stream.peer_has_ended() { Ended::ByPeer } else { Ended::ByUs };
        self.slot.count_end(ended, self.busy, self.opened);
    }
}

impl Host {
    /// The latest used idle connection that is still open.
    fn take_idle(&self, transport: TransportKey) -> Option<Connection> {
        loop {
            let connection = self.idle.borrow_mut().pop()?;
            // One that was made under other settings is of no use to anybody any more.
            if connection.transport == transport && connection.stream.is_idle_alive() {
                return Some(connection);
            }
            // Dropped: closed by the server, or with bytes on it that nobody asked for.
        }
    }

    /// Closes connections that the server has closed, that were idle too long, or that are too old.
    pub fn close_stale(&self, idle_timeout: Option<Duration>, duration_max: Option<Duration>) {
        let now = now();
        let is_idle =
            |connection: &Connection| idle_timeout.is_some_and(|max| now - connection.idle_since >= max);
        let fresh = |connection: &Connection| {
            !is_idle(connection)
                && duration_max.is_none_or(|max| now - connection.opened < max)
                && connection.stream.is_idle_alive()
        };
        let (kept, stale): (Vec<_>, Vec<_>) = self.idle.take().into_iter().partition(fresh);
        *self.idle.borrow_mut() = kept;
        for connection in stale {
            // One that its server ended was not ended by the timeout.
            let by_timeout = is_idle(&connection) && connection.stream.is_idle_alive();
            if let Some(cluster) = connection.slot.cluster.upgrade() {
                cluster.stats.add(ClusterCounter::UpstreamCxIdleTimeout, by_timeout.into());
            }
        }
        self.http2.close_stale(idle_timeout, duration_max);
    }

    /// Closes all idle connections.
    pub fn close_idle(&self) {
        drop(self.idle.take());
        self.http2.close_idle();
    }
}

/// A request that waits for a connection.
pub(crate) struct Pending<'a> {
    cluster: &'a ClusterState,
    _permit: LeasedPermit,
}

impl<'a> Pending<'a> {
    /// `None` when as many wait as may.
    pub(crate) fn begin(cluster: &'a ClusterState, pending_max: Limit) -> Option<Pending<'a>> {
        let permit = cluster.pending.take(pending_max)?;
        cluster.stats.add(ClusterCounter::UpstreamRqPendingTotal, 1);
        cluster.stats.set(ClusterGauge::UpstreamRqPendingActive, cluster.pending.count().into());
        Some(Pending { cluster, _permit: permit })
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // The permit is given back after this.
        let left = self.cluster.pending.count().saturating_sub(1);
        self.cluster.stats.set(ClusterGauge::UpstreamRqPendingActive, left.into());
    }
}
