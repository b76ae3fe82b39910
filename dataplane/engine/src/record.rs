//! What is written down of every exchange and connection, also of those that failed: counters here, log lines by a
//! thread of their own, which gets plain values through a bounded queue and does the formatting.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringsail_http::{RequestHead, ResponseHead, TargetForm, Version};
use ringsail_runtime::net::Address;
use ringsail_runtime::time::now;
use ringsail_tables::access_log::{AccessLog, Filter, Format, Sink};
use ringsail_tables::metadata::Value;
use ringsail_telemetry::access_log::{
    self, Context, HeaderSource, JsonTemplate, LogFormat, LogId, LogQueue, LogSink, LogSpec, LogWriter,
    Protocol, Record, RecordKind, Text, TimePoint, WantedHeader,
};
use ringsail_telemetry::{HttpCounter, HttpGauge, HttpHistogram, ResponseFlag};

use crate::connection::Connection;
use crate::exchange::{Exchange, Facts};
use crate::relay::Counts;
use crate::serving::{ChainVersion, ListenerVersion};
use crate::shard::Shard;
use crate::trail::Trail;

/// A shard's way to the access-log writer.
pub struct Log {
    writer: Arc<LogWriter>,
    queue: LogQueue,
    hostname: String,
    /// Logs that were declared, by their configuration: listeners share most of them.
    declared: RefCell<Vec<(AccessLog, Rc<Declared>)>>,
}

/// An access log the writer knows.
#[derive(Debug)]
pub struct Declared {
    id: LogId,
    headers: Vec<WantedHeader>,
    filter: Option<Filter>,
}

impl Log {
    /// A way for one more shard.
    pub fn new(writer: Arc<LogWriter>, hostname: &str) -> Log {
        let queue = writer.queue();
        Log { writer, queue, hostname: hostname.to_owned(), declared: RefCell::default() }
    }

    /// Makes logs known to the writer. One whose format the writer cannot render is reported and left out.
    pub fn declare(&self, logs: &[AccessLog]) -> Vec<Rc<Declared>> {
        logs.iter().filter_map(|log| self.declare_one(log)).collect()
    }

    fn declare_one(&self, log: &AccessLog) -> Option<Rc<Declared>> {
        if let Some((_, known)) = self.declared.borrow().iter().find(|(known, _)| known == log) {
            return Some(known.clone());
        }
        let environment = |name: &str| std::env::var(name).ok();
        let context = Context { hostname: &self.hostname, environment: &environment, ..Context::default() };
        let format = match &log.format {
            Format::Default => LogFormat::envoy_default(&context),
            Format::Text(text) => LogFormat::text(text, &context),
            Format::Json(template) => LogFormat::json(&json_template(template), &context),
        };
        let format = match format {
            Ok(format) => format,
            Err(error) => {
                tracing::error!(%error, "access log left out: its format cannot be rendered");
                return None;
            }
        };
        let headers = format.headers().to_vec();
        let sink = match &log.sink {
            Sink::File(path) => LogSink::of_path(path),
            Sink::Stdout => LogSink::Stdout,
            Sink::Stderr => LogSink::Stderr,
        };
        let Some(id) = self.writer.declare(LogSpec { sink, format }) else {
            tracing::error!("access log left out: there are as many as there may be");
            return None;
        };
        let declared = Rc::new(Declared { id, headers, filter: log.filter.clone() });
        self.declared.borrow_mut().push((log.clone(), declared.clone()));
        Some(declared)
    }
}

fn json_template(value: &Value) -> JsonTemplate {
    match value {
        Value::Null => JsonTemplate::Null,
        Value::Bool(flag) => JsonTemplate::Bool(*flag),
        Value::Number(number) => JsonTemplate::Number(*number),
        Value::String(text) => JsonTemplate::String(text.to_string()),
        Value::List(items) => JsonTemplate::List(items.iter().map(json_template).collect()),
        Value::Struct(fields) => JsonTemplate::Object(
            fields.iter().map(|(key, value)| (key.to_string(), json_template(value))).collect(),
        ),
    }
}

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

/// An exchange is over.
pub fn exchange(exchange: &Exchange<'_>) {
    let (facts, trail) = (&exchange.facts, &*exchange.trail);
    let length = now().saturating_duration_since(facts.progress.started);
    if let Some(stats) = facts.http_stats() {
        stats.lower(HttpGauge::DownstreamRqActive, 1);
        if trail.status > 0 {
            stats.count_answer(trail.status);
        }
        stats.record(HttpHistogram::DownstreamRqTime, length.as_millis() as u64);
    }
    crate::telemetry::exchange(exchange, length);
    for log in &facts.chain.logs {
        if !passes(log.filter.as_ref(), trail, length) {
            continue;
        }
        let mut record = line(facts.connection, facts.chain, trail, length);
        record.kind = RecordKind::Http;
        record.protocol = Some(protocol(exchange.request.version()));
        record.upstream_protocol = trail.upstream_version.map(protocol);
        record.downstream_remote = facts.origin.client.map(Into::into).or(record.downstream_remote.take());
        record.bytes_received = facts.progress.bytes_received.get();
        record.bytes_sent = facts.progress.bytes_sent.get();
        let moments = [
            (TimePoint::RequestEnd, facts.progress.request_complete.get()),
            (TimePoint::UpstreamSendEnd, facts.progress.request_sent.get()),
            (TimePoint::UpstreamReceiveBegin, facts.progress.answer_began.get()),
        ];
        for (point, moment) in moments {
            if let Some(moment) = moment {
                record.mark(point, moment.saturating_duration_since(facts.progress.started));
            }
        }
        record.mark(TimePoint::ResponseEnd, length);
        record.set(Text::StreamId, exchange.request.fields().get("x-request-id").unwrap_or_default());
        for (slot, wanted) in log.headers.iter().enumerate() {
            let value = match wanted.source {
                HeaderSource::Request => request_header(exchange.request, &wanted.name),
                HeaderSource::Response => response_header(exchange.response, trail, &wanted.name),
                HeaderSource::ResponseTrailer => None,
            };
            if let Some(value) = value {
                record.push_header(slot, value);
            }
        }
        facts.shard.log.queue.send(log.id, record);
    }
}

/// A relayed connection is over.
pub fn relay(shard: &Shard, connection: &Connection, trail: &Trail, counts: &Counts) {
    let length = now().saturating_duration_since(connection.opened);
    let chain = connection.enter(shard).chain;
    for log in &chain.logs {
        if passes(log.filter.as_ref(), trail, length) {
            let mut record = line(connection, &chain, trail, length);
            record.kind = RecordKind::Tcp;
            record.bytes_received = counts.up.get();
            record.bytes_sent = counts.down.get();
            shard.log.queue.send(log.id, record);
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
        if passes(log.filter.as_ref(), &trail, Duration::ZERO) {
            let mut record = Box::new(Record::new());
            record.kind = RecordKind::Listener;
            record.start_time = trail.start;
            record.duration = Some(Duration::ZERO);
            record.flags = trail.flags;
            record.downstream_remote = peer.map(Into::into);
            record.downstream_direct_remote = peer.map(Into::into);
            record.downstream_local = local.map(Into::into);
            record.downstream_direct_local = local.map(Into::into);
            record.set(Text::ResponseCodeDetails, b"filter_chain_not_found");
            shard.log.queue.send(log.id, record);
        }
    }
}

/// The values that exchanges and relays have in common.
fn line(connection: &Connection, chain: &ChainVersion, trail: &Trail, length: Duration) -> Box<Record> {
    let mut record = Box::new(Record::new());
    record.start_time = trail.start;
    record.duration = Some(length);
    record.response_code = trail.status;
    record.flags = trail.flags;
    record.upstream_attempts = trail.attempts;
    record.connection_id = connection.id;
    record.downstream_remote = connection.peer.map(Into::into);
    record.downstream_direct_remote = connection.peer.map(Into::into);
    record.downstream_local = connection.local.map(Into::into);
    record.downstream_direct_local = connection.local.map(Into::into);
    record.upstream_local = trail.upstream_local.map(Into::into);
    record.upstream_remote = trail.upstream_host.as_ref().map(|address| match address {
        Address::Inet(address) => access_log::Address::Ip(*address),
        Address::Unix(path) => access_log::Address::Pipe(path.to_string_lossy().into()),
    });
    for (text, value) in [
        (Text::ResponseCodeDetails, &*trail.details),
        (Text::UpstreamTransportFailureReason, &*trail.transport_failure),
        (Text::UpstreamCluster, &trail.cluster_stat_name),
        (Text::UpstreamClusterRaw, &trail.cluster_name),
        (Text::RouteName, &trail.route_name),
        (Text::RequestedServerName, connection.sniffed.server_name()),
        (Text::FilterChainName, &chain.chain().name),
    ] {
        record.set(text, value.as_bytes());
    }
    record
}

fn protocol(version: Version) -> Protocol {
    match version {
        Version::Http10 => Protocol::Http10,
        Version::Http11 => Protocol::Http11,
        Version::Http2 => Protocol::Http2,
    }
}

fn request_header<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    match name {
        ":method" => Some(head.method_name()).filter(|name| !name.is_empty()),
        ":path" if head.target_form() == TargetForm::Authority => None,
        ":path" => Some(head.path()).filter(|path| !path.is_empty()),
        ":authority" | "host" => head.authority(),
        ":scheme" => Some(crate::view::scheme(head).as_bytes()),
        _ => crate::view::nth_field(head.fields(), name, 0),
    }
}

fn response_header<'a>(head: &'a ResponseHead, trail: &Trail, name: &str) -> Option<&'a [u8]> {
    if trail.status == 0 { None } else { crate::view::nth_field(head.fields(), name, 0) }
}

/// Source: `envoy.config.accesslog.v3.AccessLogFilter`.
fn passes(filter: Option<&Filter>, trail: &Trail, length: Duration) -> bool {
    let Some(filter) = filter else { return true };
    match filter {
        Filter::StatusCode(comparison) => comparison.holds(trail.status.into()),
        Filter::DurationMillis(comparison) => comparison.holds(length.as_millis() as u64),
        // No health-check filter runs here, so no request is one.
        Filter::NotHealthCheck => true,
        Filter::ResponseFlags(wanted) if wanted.is_empty() => !trail.flags.is_empty(),
        Filter::ResponseFlags(wanted) => {
            trail.flags.iter().any(|flag| wanted.iter().any(|short| *short == flag.short()))
        }
        Filter::And(filters) => filters.iter().all(|filter| passes(Some(filter), trail, length)),
        Filter::Or(filters) => filters.iter().any(|filter| passes(Some(filter), trail, length)),
    }
}
