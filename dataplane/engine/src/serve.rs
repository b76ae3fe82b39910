//! A new connection: where it was going, what it speaks, which filter chain serves it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use ringsail_runtime::net::{Address, Stream};
use ringsail_runtime::time::now;
use ringsail_tables::filter_chain::{ConnectionFacts, FilterChain, Terminal};
use ringsail_tables::listener::{Listener, ListenerFilterKind};
use ringsail_telemetry::{HttpCounter, HttpGauge, ListenerCounter, ListenerGauge, TcpCounter, TcpGauge};

use crate::acceptor::serving_listener;
use crate::breaker::Permit;
use crate::connection::{ChainStats, Connection, ServingListener};
use crate::downstream::h1;
use crate::inflow::Inflow;
use crate::shard::Shard;
use crate::sniff::{self, Protocol, Sniffed};
use crate::{record, relay};

/// Serves one accepted connection to its end; `permit` is its place among the shard's.
pub async fn connection(shard: Rc<Shard>, accepted_by: Rc<ServingListener>, stream: Stream, permit: Permit) {
    let counted = Counted::begin(accepted_by.clone(), permit);
    // Boxed, as is all that an idle HTTP connection is past or not yet in: a task is as large as its largest step.
    let Some((connection, inflow)) = Box::pin(establish(&shard, accepted_by, stream)).await else { return };
    let _counted = counted.with_chain(connection.serving.chain_stats.get(connection.chain).cloned());
    match &connection.chain().terminal {
        Terminal::Http(_) => h1::serve(shard, connection, inflow).await,
        Terminal::Tcp(_) => Box::pin(relay::relay(shard, connection, inflow)).await,
    }
}

/// Finds out what a connection is and who serves it. `None` when nobody does: it is closed then.
async fn establish(
    shard: &Rc<Shard>,
    accepted_by: Rc<ServingListener>,
    stream: Stream,
) -> Option<(Rc<Connection>, Inflow)> {
    let peer = inet(stream.peer_addr());
    let own = inet(stream.local_addr());
    let restored = original_destination(&accepted_by.listener, &stream);
    let serving = hand_over(shard, accepted_by, restored);
    let local = restored.or(own);

    let mut inflow = Inflow::default();
    let sniffed = match sniffing(&serving.listener, local) {
        None => Sniffed { protocol: Protocol::NotLooked, timed_out: false },
        Some(inspectors) => {
            let limit = serving.listener.listener_filters_timeout;
            sniff::sniff(&stream, &mut inflow, inspectors, limit).await.ok()?
        }
    };
    if sniffed.timed_out {
        serving.stats.add(ListenerCounter::DownstreamPreCxTimeout, 1);
        if !serving.listener.continue_on_listener_filters_timeout {
            return None;
        }
    }

    let facts = ConnectionFacts {
        destination: local,
        server_name: "",
        transport_protocol: if sniffed.protocol == Protocol::Tls { "tls" } else { "raw_buffer" },
        application_protocols: sniffed.protocol.application_protocols(),
        direct_source: peer.map(|peer| peer.ip()),
        source: peer,
    };
    let found = serving.listener.filter_chain(&facts);
    let Some(chain) = found.and_then(|found| index_of(&serving.listener, found)) else {
        serving.stats.add(ListenerCounter::NoFilterChainMatch, 1);
        record::no_filter_chain(shard, &serving, peer, local);
        stream.reset();
        return None;
    };
    let connection = Connection {
        stream,
        serving,
        chain,
        peer,
        local,
        restored,
        id: shard.next_connection_id(),
        opened: now(),
        requests: Cell::new(0),
    };
    Some((Rc::new(connection), inflow))
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
    if !accepted_by.listener.use_original_dst {
        return accepted_by;
    }
    let tables = shard.tables.current();
    let target = tables.hand_over(&accepted_by.listener, restored);
    if target.id == accepted_by.listener.id {
        return accepted_by;
    }
    shard.handed_over(target, || serving_listener(shard, target))
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

fn index_of(listener: &Listener, chain: &FilterChain) -> Option<usize> {
    listener.filter_chains.iter().position(|other| std::ptr::eq(other, chain))
}

/// Keeps the gauges of open connections right, however the connection ends.
struct Counted {
    serving: Rc<ServingListener>,
    chain: Option<ChainStats>,
    _permit: Permit,
}

impl Counted {
    fn begin(serving: Rc<ServingListener>, permit: Permit) -> Counted {
        serving.stats.raise(ListenerGauge::DownstreamCxActive, 1);
        Counted { serving, chain: None, _permit: permit }
    }

    fn with_chain(mut self, chain: Option<ChainStats>) -> Counted {
        match &chain {
            Some(ChainStats::Http(stats)) => {
                stats.add(HttpCounter::DownstreamCxTotal, 1);
                stats.add(HttpCounter::DownstreamCxHttp1Total, 1);
                stats.raise(HttpGauge::DownstreamCxActive, 1);
            }
            Some(ChainStats::Tcp(stats)) => {
                stats.add(TcpCounter::DownstreamCxTotal, 1);
                stats.raise(TcpGauge::DownstreamCxActive, 1);
            }
            None => {}
        }
        self.chain = chain;
        self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.serving.stats.lower(ListenerGauge::DownstreamCxActive, 1);
        self.serving.stats.add(ListenerCounter::DownstreamCxDestroy, 1);
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
