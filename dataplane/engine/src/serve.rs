//! A new connection: where it was going, what it speaks, which filter chain serves it.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use ringsail_runtime::buffers::Lease;
use ringsail_runtime::net::{self, Address, Stream};
use ringsail_runtime::time::{now, sleep};
use ringsail_runtime::{Either, race};
use ringsail_tables::filter_chain::ConnectionFacts;
use ringsail_tables::listener::{Listener, ListenerFilterKind, ProxyProtocol};
use ringsail_tables::tls::ServerTls;
use ringsail_telemetry::{
    HttpCounter, HttpGauge, HttpHistogram, ListenerCounter, ListenerGauge, ListenerHistogram, ListenerStats,
    TcpCounter, TcpGauge,
};

use crate::breaker::Permit;
use crate::connection::Connection;
use crate::downstream::h1;
use crate::gates::{self, Held, Verdict};
use crate::inflow::Inflow;
use crate::limits::TLS_HANDSHAKE_TIMEOUT;
use crate::relay::{self, Early};
use crate::serving::{ChainStats, ListenerVersion, ServingChain, ServingListener};
use crate::shard::Shard;
use crate::sniff::{self, Protocol, Sniffed};
use crate::{proxy_protocol, record, server_first, tls};

/// Serves one accepted connection to its end; `permit` is its place among the shard's.
pub fn connection(
    shard: Rc<Shard>,
    accepted_by: Rc<ServingListener>,
    stream: Stream,
    permit: Permit,
) -> impl Future<Output = ()> {
    let counted = Counted::begin(&accepted_by, permit);
    // Boxed, as is all that an idle HTTP connection is past or not yet in: a task is as large as its largest step. So
    // are its arguments, which a task keeps for as long as it lasts.
    let establishing = Box::pin(establish(shard.clone(), accepted_by, stream));
    run(shard, counted, establishing)
}

/// No `async fn`, for the same reason as [`h1::serve`].
#[allow(clippy::manual_async_fn)]
fn run(
    shard: Rc<Shard>,
    mut counted: Counted,
    establishing: Pin<Box<impl Future<Output = Option<Established>>>>,
) -> impl Future<Output = ()> {
    async move {
        // A block of its own, so that what it needs does not stay.
        let (connection, inflow) = {
            let Some(established) = establishing.await else { return };
            let is_http = {
                // A long connection must not keep the version it began with.
                let chain = established.connection.enter(&shard).chain;
                counted.enter_chain(chain.stats.clone());
                if !chain.chain().gates.is_empty() {
                    match gates::enter(&shard, &chain) {
                        Verdict::Served(held) => counted.places = held,
                        Verdict::Refused(held, delay) => {
                            drop(chain);
                            if !delay.is_zero() {
                                Box::pin(sleep(delay)).await;
                            }
                            drop(held);
                            return;
                        }
                    }
                }
                chain.manager().is_some()
            };
            if !is_http {
                return Box::pin(relay::relay(shard, established)).await;
            }
            (established.connection, established.inflow)
        };
        let ending = Ending { connection: connection.clone() };
        h1::serve(shard, connection, inflow).await;
        drop(ending);
        drop(counted);
    }
}

/// Counts how an HTTP connection ended, however that came about.
struct Ending {
    connection: Rc<Connection>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let connection = &self.connection;
        let chain = connection.chain.borrow().version();
        let Some(stats) = chain.http_stats() else { return };
        connection.count_bytes(stats);
        let by_client = connection.stream.peer_has_ended();
        stats.add(
            if by_client {
                HttpCounter::DownstreamCxDestroyRemote
            } else {
                HttpCounter::DownstreamCxDestroyLocal
            },
            1,
        );
        let length = now().saturating_duration_since(connection.opened);
        stats.record(HttpHistogram::DownstreamCxLengthMs, length.as_millis() as u64);
    }
}

/// A connection on its way to its filter chain.
pub struct Established {
    /// The connection.
    pub connection: Rc<Connection>,
    /// Bytes that were looked at.
    pub inflow: Inflow,
    /// The upstream that was asked whether it speaks first. Boxed: few have one, and all would carry the room for it.
    pub early: Option<Box<Early>>,
}

/// Finds out what a connection is and who serves it. `None` when nobody does: it is closed then.
async fn establish(
    shard: Rc<Shard>,
    accepted_by: Rc<ServingListener>,
    stream: Stream,
) -> Option<Established> {
    let peer = inet(stream.peer_addr());
    let own = inet(stream.local_addr());
    let restored = original_destination(&accepted_by.version().listener, &stream);
    let serving = hand_over(&shard, accepted_by, restored);
    let local = restored.or(own);

    let mut inflow = Inflow::default();
    let early = RefCell::new(None);
    let before = serving.version();
    let (direct_peer, mut peer, mut local, mut restored) = (peer, peer, local, restored);
    if let Some(settings) = proxy_protocol(&before.listener, local) {
        let limit = before.listener.listener_filters_timeout;
        // Boxed: few listeners ask for it, and all would carry the room for it.
        let reading = Box::pin(proxy_protocol::read(&stream, &mut inflow, settings, &before.stats, limit));
        let named = match reading.await {
            Ok(named) => named,
            Err(error) => {
                let late = error.kind() == ErrorKind::TimedOut;
                if !(late && before.listener.continue_on_listener_filters_timeout) {
                    // Compat: bytes that are no header are answered with a reset.
                    if error.kind() == ErrorKind::InvalidData {
                        stream.reset();
                    }
                    return None;
                }
                None
            }
        };
        if let Some(ends) = named {
            peer = Some(ends.source);
            if local != Some(ends.destination) {
                restored = Some(ends.destination);
            }
            local = Some(ends.destination);
        }
    }
    let sniffed = match sniffing(&before.listener, local) {
        None => Sniffed::as_is(Protocol::NotLooked),
        Some(inspectors) => {
            let limit = before.listener.listener_filters_timeout;
            let candidate = server_first::candidate(&before.listener, peer, local);
            let sniffing = sniff::sniff(&stream, &mut inflow, inspectors, limit);
            match candidate {
                None => sniffing.await.ok()?,
                Some(cluster) => {
                    let watching = server_first::watch(&shard, cluster, restored, &early);
                    match race(sniffing, watching).await {
                        Either::Left(sniffed) => sniffed.ok()?,
                        Either::Right(()) => Sniffed::as_is(Protocol::Unknown),
                    }
                }
            }
        }
    };
    if sniffed.timed_out {
        before.stats.add(ListenerCounter::DownstreamPreCxTimeout, 1);
        if !before.listener.continue_on_listener_filters_timeout {
            return None;
        }
    }

    // Sniffing may have taken a while.
    drop(shard.current_tables());
    let version = serving.version();
    let choose = |facts: &ConnectionFacts<'_>| version.listener.filter_chain_index(facts);
    let Some(index) = sniffed.facts(direct_peer, peer, local, choose) else {
        version.stats.add(ListenerCounter::NoFilterChainMatch, 1);
        record::no_filter_chain(&shard, &version, peer, local);
        stream.reset();
        return None;
    };
    let chain = version.chain(shard.making(), index);
    let stream = match &version.listener.filter_chains[index].tls {
        None => stream.into(),
        Some(tls) => {
            let arrived = std::mem::take(&mut inflow).into_lease();
            shake_hands(&shard, &version, &chain, tls, stream, arrived).await?
        }
    };
    let connection = Connection {
        stream,
        chain: RefCell::new(chain),
        serving,
        peer,
        direct_peer,
        local,
        is_restored: restored.is_some(),
        sniffed,
        id: shard.next_connection_id(),
        opened: now(),
        requests: Cell::new(0),
        counted: Cell::new((0, 0)),
        limits: Default::default(),
    };
    Some(Established { connection: Rc::new(connection), inflow, early: early.into_inner() })
}

/// The TLS handshake of a chain that asks for one. `None` when it failed: the client knows, and so does the log.
async fn shake_hands(
    shard: &Shard,
    version: &ListenerVersion,
    chain: &ServingChain,
    tls: &ServerTls,
    socket: net::Stream,
    arrived: Option<Lease>,
) -> Option<crate::stream::Stream> {
    let secrets = shard.current_tables().secrets().clone();
    let settings = chain.version();
    let limit = settings.chain().transport_connect_timeout.filter(|limit| !limit.is_zero());
    let peer = socket.peer_addr().ok();
    let limit = limit.unwrap_or(TLS_HANDSHAKE_TIMEOUT);
    match tls::accept(socket, arrived, &settings.tls, tls, &secrets, limit).await {
        Ok(stream) => {
            version.stats.add(ListenerCounter::SslHandshake, 1);
            let facts = stream.tls();
            let resumed = facts.is_some_and(|facts| facts.is_resumed);
            version.stats.add(ListenerCounter::SslSessionReused, resumed.into());
            let anonymous = facts.is_some_and(|facts| facts.peer.is_none());
            version.stats.add(ListenerCounter::SslNoCertificate, anonymous.into());
            Some(stream)
        }
        Err(refusal) => {
            version.stats.add(ListenerCounter::SslConnectionError, 1);
            let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
            let listener = &*version.listener.name;
            tracing::info!(listener, peer, reason = refusal.text, "no TLS session with a client");
            None
        }
    }
}

fn inet(address: std::io::Result<Address>) -> Option<SocketAddr> {
    address.ok().and_then(|address| address.as_inet())
}

/// The address the client dialed before it was redirected to us, where the listener asks for it.
fn original_destination(listener: &Listener, stream: &Stream) -> Option<SocketAddr> {
    let filter =
        listener.listener_filters.iter().any(|filter| filter.kind == ListenerFilterKind::OriginalDst);
    (filter || listener.use_original_dst).then(|| stream.original_dst()).flatten()
}

/// The listener of the original destination, for listeners that hand over.
fn hand_over(
    shard: &Shard,
    accepted_by: Rc<ServingListener>,
    restored: Option<SocketAddr>,
) -> Rc<ServingListener> {
    let tables = shard.current_tables();
    let accepting = accepted_by.version();
    if !accepting.listener.use_original_dst {
        return accepted_by;
    }
    let target = tables.hand_over(&accepting.listener, restored);
    if target.id == accepting.listener.id { accepted_by.clone() } else { shard.serving(target) }
}

/// The PROXY headers that are taken on connections to this port; `None` when none is looked for.
fn proxy_protocol(listener: &Listener, local: Option<SocketAddr>) -> Option<ProxyProtocol> {
    let port = local.map_or(0, |local| local.port());
    listener.listener_filters.iter().find_map(|filter| match filter.kind {
        ListenerFilterKind::ProxyProtocol(settings) if Listener::runs(filter, port) => Some(settings),
        _ => None,
    })
}

/// The inspectors that run for a connection to this port; `None` when none does.
fn sniffing(listener: &Listener, local: Option<SocketAddr>) -> Option<sniff::Inspectors> {
    let port = local.map_or(0, |local| local.port());
    let runs = |kind| {
        let mut filters = listener.listener_filters.iter();
        filters.any(|filter| filter.kind == kind && Listener::runs(filter, port))
    };
    let inspectors = sniff::Inspectors {
        tls: runs(ListenerFilterKind::TlsInspector),
        http: runs(ListenerFilterKind::HttpInspector),
    };
    (inspectors.tls || inspectors.http).then_some(inspectors)
}

/// Keeps the gauges of open connections right, however the connection ends.
struct Counted {
    listener: ListenerStats,
    chain: Option<ChainStats>,
    /// Under the limits of its chain.
    places: Held,
    opened: Instant,
    _permit: Permit,
}

impl Counted {
    fn begin(serving: &ServingListener, permit: Permit) -> Counted {
        let opened = now();
        let listener = serving.version().stats.clone();
        listener.raise(ListenerGauge::DownstreamCxActive, 1);
        Counted { listener, chain: None, places: Held::default(), opened, _permit: permit }
    }

    fn enter_chain(&mut self, chain: ChainStats) {
        match &chain {
            ChainStats::Http(stats) => {
                stats.add(HttpCounter::DownstreamCxTotal, 1);
                stats.raise(HttpGauge::DownstreamCxActive, 1);
            }
            ChainStats::Tcp(stats) => {
                stats.add(TcpCounter::DownstreamCxTotal, 1);
                stats.raise(TcpGauge::DownstreamCxActive, 1);
            }
        }
        self.chain = Some(chain);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.listener.lower(ListenerGauge::DownstreamCxActive, 1);
        self.listener.add(ListenerCounter::DownstreamCxDestroy, 1);
        let length = now().saturating_duration_since(self.opened);
        self.listener.record(ListenerHistogram::DownstreamCxLengthMs, length.as_millis() as u64);
        match &self.chain {
            Some(ChainStats::Http(stats)) => {
                stats.add(HttpCounter::DownstreamCxDestroy, 1);
                stats.lower(HttpGauge::DownstreamCxActive, 1);
            }
            Some(ChainStats::Tcp(stats)) => stats.lower(TcpGauge::DownstreamCxActive, 1),
            None => {}
        }
    }
}
