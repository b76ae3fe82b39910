//! What is written down of every exchange and connection, also of those that failed: counters here, log lines by a
//! thread of their own, which gets plain values through a bounded queue and does the formatting.

mod body;
mod declare;
mod filter;
mod line;

use std::net::SocketAddr;
use std::time::Duration;

use ringsail_http::{RequestHead, ResponseHead, Version};
use ringsail_runtime::time::now;
use ringsail_telemetry::access_log::{Record, RecordKind, Text};
use ringsail_telemetry::{HttpCounter, HttpGauge, HttpHistogram, ResponseFlag};

use crate::connection::Connection;
use crate::exchange::{Exchange, Facts};
use crate::progress::count;
use crate::relay::Counts;
use crate::serving::ListenerVersion;
use crate::shard::Shard;
use crate::telemetry::{ConnectionAttributes, ExchangeAttributes};
use crate::trace;
use crate::trail::Trail;

pub use body::{body, passes};
pub use declare::{Declared, Log, Needs, Shown};
use filter::Candidate;
pub(crate) use filter::grpc_status;
pub(crate) use line::{fields_bytes, fill, request_head_bytes, request_record, response_head_bytes};

/// `RESPONSE_CODE_DETAILS` of a redirect that was followed here.
pub(crate) const FOLLOWED: &str = "internal_redirect";

/// An exchange begins.
pub fn begin(facts: &Facts<'_>) {
    let Some(stats) = facts.http_stats() else { return };
    stats.add(HttpCounter::DownstreamRqTotal, 1);
    stats.add(
        match facts.version {
            Version::Http10 | Version::Http11 => HttpCounter::DownstreamRqHttp1Total,
            Version::Http2 => HttpCounter::DownstreamRqHttp2Total,
        },
        1,
    );
    stats.raise(HttpGauge::DownstreamRqActive, 1);
}

/// Counts the bytes of a request's head, `wire_bytes` on an HTTP/1 connection, where a log shows such counts.
pub fn begin_counting(facts: &Facts<'_>, head: &RequestHead, wire_bytes: u32) {
    let (needs, progress) = (facts.chain.needs, facts.progress);
    progress.keep_trailers.set(needs.trailers);
    if !needs.bytes {
        return;
    }
    let side = &progress.wire.downstream;
    if facts.version == Version::Http2 {
        let bytes = line::http2_bytes(head.fields()) + line::pseudo_bytes(head);
        count(&side.received, bytes);
        count(&side.fields_received, bytes);
    } else {
        // Compat: each field with its colon and line end, without the blank after the colon.
        let line = head.method_name().len() + head.path().len() + "  HTTP/1.1\r\n".len();
        let others = line + head.fields().len() + "\r\n".len();
        count(&side.received, wire_bytes as usize);
        count(&side.fields_received, (wire_bytes as usize).saturating_sub(others));
        // What follows is what the socket takes from here on.
        side.sent.set(facts.connection.stream.bytes_sent());
    }
}

/// Counts a head that goes to an HTTP/1 upstream.
pub fn count_head_sent(facts: &Facts<'_>, head: &RequestHead, wire_bytes: usize) {
    if facts.chain.needs.bytes {
        let line = head.method_name().len() + head.path().len() + "  HTTP/1.1\r\n\r\n".len();
        count(&facts.progress.wire.upstream.fields_sent, wire_bytes.saturating_sub(line));
    }
}

/// Counts a head that goes to an HTTP/2 upstream.
pub fn count_http2_head_sent(facts: &Facts<'_>, head: &RequestHead) {
    if facts.chain.needs.bytes {
        let side = &facts.progress.wire.upstream;
        let bytes = line::http2_bytes(head.fields()) + line::pseudo_bytes(head);
        count(&side.fields_sent, bytes);
        count(&side.sent, bytes);
    }
}

/// Counts a head that came from an HTTP/2 upstream.
pub fn count_http2_head_received(facts: &Facts<'_>, head: &ResponseHead) {
    if facts.chain.needs.bytes {
        let side = &facts.progress.wire.upstream;
        let bytes = line::http2_bytes(head.fields()) + ":status200".len();
        count(&side.fields_received, bytes);
        count(&side.received, bytes);
    }
}

/// An exchange is over.
pub fn exchange(exchange: &Exchange<'_>) {
    let (facts, trail) = (&exchange.facts, &*exchange.trail);
    let length = now().saturating_duration_since(facts.progress.started);
    if let Some(stats) = facts.http_stats() {
        stats.lower(HttpGauge::DownstreamRqActive, 1);
        // A redirect that was followed reached nobody.
        if trail.status > 0 && trail.details != FOLLOWED {
            stats.count_answer(trail.status);
        }
        stats.record(HttpHistogram::DownstreamRqTime, length.as_millis() as u64);
    }
    crate::telemetry::exchange(exchange, length);
    trace::finish(exchange, length);
    write(exchange, RecordKind::DownstreamEnd, length);
}

/// A request's head is there, and its route is known: the line that some want to see then.
pub fn exchange_begun(exchange: &Exchange<'_>) {
    if exchange.facts.manager.log_moments.at_start {
        write(exchange, RecordKind::DownstreamStart, Duration::ZERO);
    }
}

/// An exchange has become two directions of bytes.
pub fn upgraded(facts: &Facts<'_>) {
    if let Some(stats) = facts.http_stats() {
        stats.add(HttpCounter::DownstreamCxUpgradesTotal, 1);
        stats.raise(HttpGauge::DownstreamCxUpgradesActive, 1);
    }
}

/// A request became a tunnel.
pub fn tunnel_established(exchange: &Exchange<'_>) {
    if exchange.facts.manager.log_moments.on_connected {
        let length = now().saturating_duration_since(exchange.facts.progress.started);
        write(exchange, RecordKind::DownstreamTunnelSuccessfullyEstablished, length);
    }
}

fn write(exchange: &Exchange<'_>, kind: RecordKind, length: Duration) {
    let (facts, trail) = (&exchange.facts, &*exchange.trail);
    let attributes = ExchangeAttributes { x: exchange, length };
    for log in &facts.chain.logs {
        let candidate = Candidate {
            kind,
            trail,
            length,
            request: Some(exchange.request),
            response: (trail.status > 0).then_some(&*exchange.response),
            in_trailers: facts.progress.grpc_status.get(),
            attributes: Some(&attributes),
        };
        if log.filter.as_deref().is_none_or(|filter| candidate.passes(filter)) {
            let mut record = request_record(exchange, length);
            record.kind = kind;
            fill(&mut record, &log.known.shown, exchange);
            facts.shard.log.queue.send(&log.known.log, record);
        }
    }
}

/// A moment of a relayed connection.
pub fn relay(shard: &Shard, connection: &Connection, trail: &Trail, counts: &Counts, kind: RecordKind) {
    let length = now().saturating_duration_since(connection.opened);
    let chain = connection.enter(shard).chain;
    let local = &shard.identity.local;
    let attributes = ConnectionAttributes { connection, trail, version: &chain, local };
    for log in &chain.logs {
        let candidate = Candidate {
            kind,
            trail,
            length,
            request: None,
            response: None,
            in_trailers: None,
            attributes: Some(&attributes),
        };
        if log.filter.as_deref().is_none_or(|filter| candidate.passes(filter)) {
            let mut record = line::common(connection, &chain, trail, length);
            record.kind = kind;
            let (up, down) = (counts.up.get(), counts.down.get());
            (record.bytes_received, record.bytes_sent) = (up, down);
            (record.downstream_wire_bytes_received, record.downstream_wire_bytes_sent) = (up, down);
            (record.upstream_wire_bytes_sent, record.upstream_wire_bytes_received) = (up, down);
            line::fill_connection(&mut record, &log.known.shown, &attributes);
            shard.log.queue.send(&log.known.log, record);
        }
    }
}

/// A connection found no filter chain.
pub fn no_filter_chain(
    shard: &Shard,
    listener: &ListenerVersion,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
) {
    let mut trail = Trail::default();
    trail.restart(shard.wall_clock());
    trail.flag(ResponseFlag::NoRouteFound);
    for log in &listener.logs {
        let (kind, length) = (RecordKind::NotSet, Duration::ZERO);
        let candidate = Candidate {
            kind,
            trail: &trail,
            length,
            request: None,
            response: None,
            in_trailers: None,
            attributes: None,
        };
        if log.filter.as_deref().is_none_or(|filter| candidate.passes(filter)) {
            let mut record = Box::new(Record::new());
            record.kind = kind;
            record.start_time = trail.start;
            record.duration = Some(length);
            record.flags = trail.flags;
            record.downstream_remote = peer.map(Into::into);
            record.downstream_direct_remote = peer.map(Into::into);
            record.downstream_local = local.map(Into::into);
            record.downstream_direct_local = local.map(Into::into);
            record.set(Text::ResponseCodeDetails, b"filter_chain_not_found");
            shard.log.queue.send(&log.known.log, record);
        }
    }
}
