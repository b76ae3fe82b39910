//! Counting: an exchange at its end, a connection when its upstream is known.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ringsail_http::{Fields, RequestHead};
use ringsail_runtime::time::now;
use ringsail_telemetry::ResponseFlags;
use ringsail_telemetry::istio::{Family, IstioMetric, Series};
use ringsail_telemetry::limits::SERIES_EXPIRY_DEFAULT;

use super::attributes::{ConnectionAttributes, ExchangeAttributes};
use super::chain::StatsChain;
use super::labels::{Principals, RouteKind, Subject};
use super::{GrpcCounts, Key, Live, Local, Peer, Service, Telemetry, Told};
use crate::connection::Connection;
use crate::exchange::{Exchange, Facts};
use crate::relay::Counts;
use crate::shard::Shard;
use crate::trail::Trail;

/// What an exchange or connection has met, for its labels.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Who called, as far as it told.
    pub downstream: Option<Rc<Peer>>,
    /// Who answered.
    pub upstream: Option<Rc<Peer>>,
    /// The service that was called.
    pub service: Option<Rc<Service>>,
    /// What the request said about its sender.
    pub told: Told,
    /// Bytes of the request's head as it came, about.
    pub request_head_bytes: u32,
}

impl Telemetry {
    /// The number of a text; when there is no room, all numbers are given anew.
    fn word(&self, text: &str) -> u32 {
        if let Some(number) = self.words.borrow_mut().text(text) {
            return number;
        }
        self.forget_keys();
        self.words.borrow_mut().text(text).unwrap_or(0)
    }

    fn flags(&self, flags: ResponseFlags) -> u32 {
        if let Some(number) = self.words.borrow_mut().flags(flags) {
            return number;
        }
        self.forget_keys();
        self.words.borrow_mut().flags(flags).unwrap_or(0)
    }

    /// What a subject of any family is known by.
    fn key(&self, stats: &StatsChain, family: Family, seen: &Seen, subject: &Subject<'_>) -> Key {
        Key {
            stats: stats.number,
            family,
            downstream: number(&seen.downstream),
            upstream: number(&seen.upstream),
            service: seen.service.as_ref().map_or(0, |service| service.number),
            host: subject.host.map_or(0, |host| self.word(host)),
            route: subject.route,
            grpc: false,
            status: 0,
            grpc_status: 0,
            flags: 0,
            values: if subject.values.is_empty() { 0 } else { self.word(&subject.values.join("\u{1f}")) },
            principals: match subject.principals {
                Principals { source: "", destination: "" } => 0,
                Principals { source, destination } => self.word(&format!("{source}\u{1f}{destination}")),
            },
        }
    }

    /// A key whose numbers are all of one generation: giving one may void those given before.
    fn settled(&self, make: impl Fn(&Telemetry) -> Key) -> Key {
        let generation = self.generation.get();
        let key = make(self);
        if generation == self.generation.get() { key } else { make(self) }
    }

    /// The series of a subject in every group of a family.
    fn series_of(
        &self,
        shard: &Shard,
        stats: &StatsChain,
        family: Family,
        key: Key,
        subject: &Subject<'_>,
    ) -> Rc<[Series]> {
        self.series(key, || {
            let expiry = stats.settings.expiry.unwrap_or(SERIES_EXPIRY_DEFAULT);
            let groups = stats.groups.iter().filter(|group| group.family == family);
            groups
                .map(|group| shard.stats.istio().series(family, group.metrics, subject.labels(group), expiry))
                .collect()
        })
    }
}

/// Values of a chain's expressions.
fn values(stats: &StatsChain, attributes: &dyn ringsail_tables::cel::Attributes) -> Vec<String> {
    let Some(overrides) = &stats.settings.overrides else { return Vec::new() };
    let text = |expression: &ringsail_tables::cel::Expression| match expression.evaluate(attributes) {
        Ok(value) => value.to_string(),
        Err(_) => "unknown".to_owned(),
    };
    overrides.expressions.iter().map(text).collect()
}

/// An exchange of a chain with metrics begins.
pub fn begin(facts: &Facts<'_>, head: &RequestHead, trail: &mut Trail) {
    trail.seen.request_head_bytes = request_head_bytes(head);
    begin_grpc(facts);
}

/// What is known to be a gRPC call now has messages to count.
pub fn begin_grpc(facts: &Facts<'_>) {
    if facts.grpc && facts.chain.telemetry.produces() {
        // Set once: an exchange begins once.
        let _ = facts.progress.grpc.set(Rc::default());
    }
}

/// An exchange is over.
pub fn exchange(x: &Exchange<'_>, length: Duration) {
    let facts = &x.facts;
    let Some(stats) = &facts.chain.telemetry.stats else { return };
    let (shard, seen) = (facts.shard, &x.trail.seen);
    let telemetry = &shard.telemetry;
    let values = values(stats, &ExchangeAttributes { x, length });
    let grpc_status = facts.grpc.then(|| grpc_status(x)).flatten();
    let grpc_text = grpc_status.map(|status| status.to_string()).unwrap_or_default();
    let subject = Subject {
        protocol: if facts.grpc { "grpc" } else { "http" },
        status: x.trail.status,
        grpc_status: &grpc_text,
        flags: x.trail.flags,
        ..http_subject(facts, stats, x.trail, host(x, stats), &values)
    };
    let key = telemetry.settled(|telemetry| Key {
        grpc: facts.grpc,
        status: x.trail.status,
        grpc_status: grpc_status.map_or(0, |status| status.saturating_add(1)),
        flags: telemetry.flags(x.trail.flags),
        ..telemetry.key(stats, Family::Http, seen, &subject)
    });
    let received = facts.progress.bytes_received.get() + u64::from(seen.request_head_bytes);
    let sent = facts.progress.bytes_sent.get() + response_head_bytes(x);
    let series = telemetry.series_of(shard, stats, Family::Http, key, &subject);
    for series in series.iter() {
        series.add(IstioMetric::Requests, 1);
        series.record(IstioMetric::RequestDuration, length.as_millis() as u64);
        series.record(IstioMetric::RequestBytes, received);
        series.record(IstioMetric::ResponseBytes, sent);
    }
    if facts.grpc {
        match facts.progress.live.take() {
            Some(live) => live.finish(),
            // It ended before there was anything to report on.
            None => drop(grpc_stream(x, stats, &subject).inspect(|live| live.finish())),
        }
    }
}

/// An exchange's peer is known, and more than its end is reported of it.
pub fn answer_begins(x: &Exchange<'_>) {
    let facts = &x.facts;
    let Some(stats) = facts.chain.telemetry.stats.as_ref().filter(|_| facts.grpc) else { return };
    let values = values(stats, &ExchangeAttributes { x, length: Duration::ZERO });
    let subject = http_subject(facts, stats, x.trail, host(x, stats), &values);
    facts.progress.live.set(grpc_stream(x, stats, &subject));
}

/// The report on a gRPC stream, whose labels do not say how it ended.
fn grpc_stream(x: &Exchange<'_>, stats: &StatsChain, subject: &Subject<'_>) -> Option<Rc<Live>> {
    let counts = x.facts.progress.grpc.get()?.clone();
    let (shard, seen) = (x.facts.shard, &x.trail.seen);
    let telemetry = &shard.telemetry;
    let key = telemetry.settled(|telemetry| telemetry.key(stats, Family::Messages, seen, subject));
    let series = telemetry.series_of(shard, stats, Family::Messages, key, subject);
    Some(telemetry.live.grpc(series, counts, stats.settings.report_interval, now()))
}

fn http_subject<'a>(
    facts: &'a Facts<'_>,
    stats: &StatsChain,
    trail: &'a Trail,
    host: Option<&'a str>,
    values: &'a [String],
) -> Subject<'a> {
    Subject {
        reporter: stats.reporter,
        local: &facts.shard.identity.local,
        downstream: trail.seen.downstream.as_deref(),
        upstream: trail.seen.upstream.as_deref(),
        service: trail.seen.service.as_deref(),
        host,
        route: RouteKind::of(&trail.route_name),
        protocol: "",
        status: 0,
        grpc_status: "",
        flags: ResponseFlags::new(),
        values,
        principals: Principals::of(
            stats.reporter,
            facts.connection.stream.tls().map(|session| &**session),
            trail.upstream_tls.as_deref(),
        ),
    }
}

/// The authority, where labels depend on it.
fn host<'a>(x: &'a Exchange<'_>, stats: &StatsChain) -> Option<&'a str> {
    let seen = &x.trail.seen;
    let named =
        seen.service.as_ref().is_some_and(|service| service.named.is_some() && service.catch_all.is_none());
    let needed = stats.settings.host_header_fallback
        && (!named || RouteKind::of(&x.trail.route_name) != RouteKind::Usual);
    if !needed {
        return None;
    }
    std::str::from_utf8(x.request.authority()?).ok().filter(|host| !host.is_empty())
}

fn number(peer: &Option<Rc<Peer>>) -> u32 {
    peer.as_ref().map_or(0, |peer| peer.number)
}

/// From the trailers, or from the head of an answer that has nothing else.
fn grpc_status(x: &Exchange<'_>) -> Option<u32> {
    let in_head = || std::str::from_utf8(x.response.fields().get("grpc-status")?).ok()?.trim().parse().ok();
    x.facts.progress.grpc_status.get().or_else(in_head)
}

/// Bytes of a head's fields as HTTP/1 writes them.
fn field_bytes(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len() + 4).sum()
}

/// Bytes of a request's head, about: as HTTP/1 writes it with the usual spacing.
fn request_head_bytes(head: &RequestHead) -> u32 {
    let line = head.method_name().len() + head.path().len() + " HTTP/1.1\r\n\r\n ".len();
    (line + field_bytes(head.fields())) as u32
}

fn response_head_bytes(x: &Exchange<'_>) -> u64 {
    if x.trail.status == 0 {
        return 0;
    }
    let line = "HTTP/1.1 200 OK\r\n\r\n".len();
    (line + field_bytes(x.response.fields())) as u64
}

/// A connection's upstream is known, or known to be out of reach: it counts as opened. The result reports on it until
/// it is closed.
pub fn connected(
    shard: &Shard,
    connection: &Connection,
    trail: &Trail,
    counts: &Rc<Counts>,
) -> Option<Rc<Live>> {
    let entered = connection.enter(shard);
    let version = &*entered.chain;
    let stats = version.telemetry.stats.as_ref()?;
    let telemetry = &shard.telemetry;
    let seen = &trail.seen;
    let local: &Local = &shard.identity.local;
    let values = values(stats, &ConnectionAttributes { connection, trail, version, local });
    let subject = Subject {
        reporter: stats.reporter,
        local,
        downstream: seen.downstream.as_deref(),
        upstream: seen.upstream.as_deref(),
        service: seen.service.as_deref(),
        host: None,
        route: RouteKind::Usual,
        protocol: "tcp",
        status: 0,
        grpc_status: "",
        flags: trail.flags,
        values: &values,
        principals: Principals::of(
            stats.reporter,
            connection.stream.tls().map(|session| &**session),
            trail.upstream_tls.as_deref(),
        ),
    };
    let key = telemetry.settled(|telemetry| Key {
        flags: telemetry.flags(trail.flags),
        ..telemetry.key(stats, Family::Tcp, seen, &subject)
    });
    let series = telemetry.series_of(shard, stats, Family::Tcp, key, &subject);
    series.iter().for_each(|series| series.add(IstioMetric::TcpOpened, 1));
    Some(telemetry.live.tcp(series, counts.clone(), stats.settings.report_interval, now()))
}

/// Where a report is kept until what it is about has ended.
#[derive(Debug, Default)]
pub struct LiveCell(RefCell<Option<Rc<Live>>>);

impl LiveCell {
    /// Keeps a report.
    pub fn set(&self, live: Option<Rc<Live>>) {
        *self.0.borrow_mut() = live;
    }

    /// Gives it back.
    pub fn take(&self) -> Option<Rc<Live>> {
        self.0.borrow_mut().take()
    }
}

/// gRPC counters of an exchange, where they are wanted.
pub type GrpcCell = OnceCell<Rc<GrpcCounts>>;
