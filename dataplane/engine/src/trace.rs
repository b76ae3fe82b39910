//! Tracing of exchanges: the decision, the headers, and the span at the end.
//!
//! Source: Envoy's `ConnectionManagerImpl::ActiveStream::traceRequest`, `HttpTracerUtility` and its Zipkin and
//! OpenTelemetry tracers. Without a `tracing` setting nothing here does anything; without a provider the request id
//! still carries the decision and decorators apply.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringsail_http::{EditError, RequestHead, ResponseHead};
use ringsail_runtime::time::now;
use ringsail_tables::hcm::HttpFilter;
use ringsail_tables::listener::Direction;
use ringsail_tables::route::RouteMatch;
use ringsail_tables::tracing::{CustomTag, Sampling, TraceProvider, Tracing};
use ringsail_telemetry::access_log::{DeclaredTracer, TagValue, Wanted};
use ringsail_telemetry::trace::{
    Format, Incoming, Kind, Reason, Shares, Span, SpanContext, TraceId, decide, reason_of, request_number,
    set_reason,
};
use ringsail_telemetry::{HttpCounter, ResponseFlag};

use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::record::{Log, Shown, fill, request_record};
use crate::trail::Trail;

/// The header that carries an operation's name between proxies.
const DECORATOR: &str = "x-envoy-decorator-operation";

/// Tracing of a filter chain.
pub struct Tracer {
    settings: Arc<Tracing>,
    /// Where spans go, when they go anywhere.
    spans: Option<Rc<DeclaredTracer>>,
    tags: Vec<TagValue>,
    shown: Rc<Shown>,
    /// Spans are those of the calling side.
    outbound: bool,
    /// Each attempt gets a span of its own.
    per_attempt: bool,
}

/// The span of a running exchange.
#[derive(Clone, Debug)]
pub struct ActiveSpan {
    /// Its ids.
    pub context: SpanContext,
    /// Whether logs show its id.
    pub tells_id: bool,
    /// Its id is the caller's.
    shared: bool,
    kind: Kind,
    name: String,
    /// How it travels on.
    format: Format,
    with_w3c: bool,
}

impl Tracer {
    /// For a filter chain with these settings.
    pub fn new(log: &Log, settings: &Arc<Tracing>, filters: &[HttpFilter], direction: Direction) -> Tracer {
        let mut wanted = Wanted::default();
        let tags = log.tags(&settings.tags, &mut wanted);
        let by_router = filters
            .iter()
            .any(|filter| matches!(filter, HttpFilter::Router(router) if router.start_child_span));
        Tracer {
            spans: settings.provider.as_ref().and_then(|provider| log.declare_tracer(provider)),
            tags,
            shown: Rc::new(Shown::new(wanted)),
            outbound: direction == Direction::Outbound,
            per_attempt: settings.spawn_upstream_span || by_router,
            settings: settings.clone(),
        }
    }

    /// Which side the exchange's span is of. With a span for each attempt, those are the calling side's.
    fn kind(&self) -> Kind {
        if self.outbound && !self.settings.spawn_upstream_span { Kind::Client } else { Kind::Server }
    }

    /// The span of a request with this decision.
    fn start(&self, head: &RequestHead, traced: bool) -> Option<ActiveSpan> {
        let provider = self.settings.provider.as_deref()?;
        self.spans.as_ref()?;
        let header = |name: &str| crate::view::nth_field(head.fields(), name, 0);
        let id = || fastrand::u64(1..);
        let authority = || String::from_utf8_lossy(head.authority().unwrap_or_default()).into_owned();
        let root = |long: bool, sampled: bool| {
            let span = id();
            let trace = TraceId { high: long.then(id), low: span };
            SpanContext { trace, span, parent: None, sampled }
        };
        match provider {
            TraceProvider::Zipkin(zipkin) => {
                let incoming = Incoming::b3(header, zipkin.w3c).ok()?;
                let sampled = incoming.sampled.unwrap_or(traced);
                let shares = zipkin.shared_span_context && self.kind() == Kind::Server;
                let context = match incoming.context {
                    Some(caller) if shares => SpanContext { sampled, ..caller },
                    Some(caller) => SpanContext { span: id(), parent: Some(caller.span), sampled, ..caller },
                    None => root(zipkin.long_trace_ids, sampled),
                };
                Some(ActiveSpan {
                    context,
                    tells_id: false,
                    shared: shares,
                    kind: self.kind(),
                    name: if sampled { authority() } else { String::new() },
                    // Compat: a context read from a traceparent travels on in both.
                    format: match incoming.format {
                        Some(Format::B3Single) => Format::B3Single,
                        Some(Format::B3Multi | Format::W3c) | None => Format::B3Multi,
                    },
                    with_w3c: zipkin.w3c,
                })
            }
            TraceProvider::OpenTelemetry(otel) => {
                let incoming = Incoming::w3c(header).ok()?;
                let context = match incoming.context {
                    Some(caller) => SpanContext {
                        span: id(),
                        parent: Some(caller.span),
                        sampled: otel.always_on || caller.sampled,
                        ..caller
                    },
                    None => {
                        let root = root(true, otel.always_on || traced);
                        SpanContext { span: id(), ..root }
                    }
                };
                let name = match (context.sampled, self.outbound) {
                    (false, _) => String::new(),
                    (true, false) => "ingress".to_owned(),
                    (true, true) => format!("egress {}", authority()),
                };
                Some(ActiveSpan {
                    context,
                    tells_id: true,
                    shared: false,
                    kind: self.kind(),
                    name,
                    format: Format::W3c,
                    with_w3c: false,
                })
            }
        }
    }
}

/// A request's route is known, or that it has none: decides whether it is traced and begins its span.
pub(crate) fn begin(x: &mut Exchange<'_>, found: Option<&RouteMatch<'_>>) -> Result<(), EditError> {
    let facts = x.facts;
    let Some(tracer) = &facts.chain.tracer else { return Ok(()) };
    let route = found.map(|found| found.route);
    let sampling = match route.and_then(|route| route.tracing.as_deref()) {
        Some(own) => &own.sampling,
        None => &tracer.settings.sampling,
    };
    let ids = facts.manager.request_id;
    let reason = if ids.decide_sampling {
        let reason = sampled(x.request, sampling);
        note_reason(x.request, reason, ids.pack_trace_reason)?;
        reason
    } else {
        Reason::Sampling
    };
    x.trail.trace_reason = reason;
    facts.connection.count(match reason {
        Reason::NotTraceable => HttpCounter::TracingNotTraceable,
        Reason::Sampling => HttpCounter::TracingRandomSampling,
        Reason::ServiceForced => HttpCounter::TracingServiceForced,
        Reason::ClientForced => HttpCounter::TracingClientEnabled,
    });
    x.trail.span = tracer.start(x.request, reason != Reason::NotTraceable).map(Box::new);

    // The operation's name: the route's, or on the called side what the caller says.
    let decorator = route.and_then(|route| route.decorator.as_deref());
    if let Some(decorator) = decorator {
        rename(x.trail, || decorator.operation.to_string());
    }
    let propagated = decorator.filter(|decorator| decorator.propagate && !decorator.operation.is_empty());
    if tracer.outbound {
        if let Some(decorator) = propagated {
            x.request.fields_mut().set(DECORATOR, decorator.operation.as_bytes())?;
        }
        return Ok(());
    }
    x.trail.tells_operation = propagated.is_some();
    if let Some(operation) = x.request.fields().get(DECORATOR) {
        if !operation.is_empty() {
            rename(x.trail, || String::from_utf8_lossy(operation).into_owned());
            x.trail.tells_operation = false;
        }
        x.request.fields_mut().remove(DECORATOR);
    }
    Ok(())
}

fn rename(trail: &mut Trail, name: impl FnOnce() -> String) {
    if let Some(span) = trail.span.as_mut().filter(|span| span.context.sampled) {
        let name = name();
        if !name.is_empty() {
            span.name = name;
        }
    }
}

/// What the request id, headers and shares say.
fn sampled(head: &RequestHead, sampling: &Sampling) -> Reason {
    let Some(id) = head.fields().get("x-request-id") else { return Reason::NotTraceable };
    let Some(number) = request_number(id) else { return Reason::NotTraceable };
    // All shares are drawn from the same ten thousand numbers.
    let number = number % 10_000;
    let client_asks = head.fields().contains("x-client-trace-id");
    let shares = Shares {
        client: client_asks && sampling.client.chooses(fastrand::u64(..)),
        random: sampling.random.chooses(number),
        overall: sampling.overall.chooses(number),
    };
    decide(reason_of(id), client_asks, head.fields().contains("x-envoy-force-trace"), shares)
}

/// Puts the decision into the request id, if it is not there already.
fn note_reason(head: &mut RequestHead, reason: Reason, pack: bool) -> Result<(), EditError> {
    let Some(id) = head.fields().get("x-request-id").filter(|id| pack && reason_of(id) != reason) else {
        return Ok(());
    };
    let mut id = id.to_vec();
    if set_reason(&mut id, reason) {
        head.fields_mut().set("x-request-id", &id)?;
    }
    Ok(())
}

/// An attempt that has a span of its own, from here on.
#[derive(Debug)]
pub(crate) struct AttemptSpan {
    context: SpanContext,
    /// Which attempt it is, from 1.
    number: u32,
    started: Instant,
    start: SystemTime,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AttemptEnd {
    /// With an answer of this status, which the client got.
    Answered(u16),
    /// With an answer of this status, which was not wanted.
    Unwanted(u16),
    /// Without an answer.
    Failed(Failure),
    /// A connection that had been idle turned out closed.
    Stale,
}

/// Puts the context into the head that an attempt sends.
pub(crate) fn begin_attempt(x: &mut Exchange<'_>) -> Result<Option<AttemptSpan>, EditError> {
    let facts = x.facts;
    let (Some(tracer), Some(span)) = (&facts.chain.tracer, x.trail.span.as_deref()) else { return Ok(None) };
    let context = match tracer.per_attempt {
        true => SpanContext { span: fastrand::u64(1..), parent: Some(span.context.span), ..span.context },
        false => span.context,
    };
    if !tracer.settings.no_context_propagation {
        let mut outcome = Ok(());
        context.inject(span.format, span.with_w3c, |name, value| {
            if outcome.is_ok() {
                outcome = x.request.fields_mut().set(name, value);
            }
        });
        outcome?;
        if span.format == Format::W3c {
            // Compat: the list in one field, and an empty one where there is none.
            let mut state = Vec::new();
            x.request.fields().get_joined("tracestate", &mut state);
            x.request.fields_mut().set("tracestate", &state)?;
        }
    }
    let (number, start) = (x.trail.attempts, facts.shard.wall_clock());
    let attempt = AttemptSpan { context, number, started: now(), start };
    Ok(Some(attempt).filter(|_| tracer.per_attempt && context.sampled))
}

/// An attempt with a span of its own is over.
pub(crate) fn finish_attempt(x: &Exchange<'_>, attempt: AttemptSpan, end: AttemptEnd) {
    let Some(tracer) = &x.facts.chain.tracer else { return };
    let length = now().saturating_duration_since(attempt.started);
    let mut span = Span {
        context: attempt.context,
        shared: false,
        kind: Kind::Client,
        name: format!("router {} egress", x.trail.cluster_stat_name),
        start: attempt.start,
        duration: length,
        tags: Vec::new(),
        events: if tracer.settings.verbose { upstream_events(x, attempt.started) } else { Vec::new() },
        failed: false,
        remote_parent: false,
        tracestate: tracestate(x, attempt.context.parent),
    };
    if attempt.number > 1 {
        span.tag("retry.count", (attempt.number - 1).to_string());
    }
    let (status, flag) = match end {
        AttemptEnd::Answered(status) | AttemptEnd::Unwanted(status) => (status, None),
        AttemptEnd::Failed(failure) => (0, failure.row().flag),
        AttemptEnd::Stale => (0, None),
    };
    // Compat: an attempt without an answer has no protocol.
    span.tag("http.protocol", if status == 0 { "-" } else { x.request.version().as_str() });
    if let Some(address) = &x.trail.upstream_host {
        span.tag("upstream_address", address.to_string());
        span.tag("peer.address", address.to_string());
    }
    if let AttemptEnd::Unwanted(_) = end {
        span.tag("canceled", "true");
    }
    let flags = flag.map_or("-", ResponseFlag::short);
    common_tags(&mut span, x, status, flags, length);
    send(tracer, x, span);
}

/// The operation's name on an answer: told to the calling side, or taken from the called one.
pub(crate) fn settle_response(
    chain_tracer: Option<&Tracer>,
    trail: &mut Trail,
    response: &mut ResponseHead,
    operation: Option<&str>,
) -> Result<(), EditError> {
    let Some(tracer) = chain_tracer else { return Ok(()) };
    if !tracer.outbound {
        if let Some(operation) = operation.filter(|_| trail.tells_operation) {
            response.fields_mut().set(DECORATOR, operation.as_bytes())?;
        }
    } else if let Some(operation) = response.fields().get(DECORATOR) {
        rename(trail, || String::from_utf8_lossy(operation).into_owned());
        response.fields_mut().remove(DECORATOR);
    }
    Ok(())
}

/// An exchange is over: its span, if it has one that is recorded, goes on its way.
pub(crate) fn finish(x: &Exchange<'_>, length: Duration) {
    let Some(tracer) = &x.facts.chain.tracer else { return };
    let Some(active) = x.trail.span.as_deref().filter(|span| span.context.sampled) else { return };
    let node = &x.facts.shard.identity.node;
    let mut span = Span {
        context: active.context,
        shared: active.shared,
        kind: active.kind,
        name: active.name.clone(),
        start: x.trail.start,
        duration: length,
        tags: Vec::with_capacity(24),
        events: if tracer.settings.verbose { events(x, length) } else { Vec::new() },
        failed: false,
        remote_parent: active.context.parent.is_some(),
        tracestate: tracestate(x, active.context.parent),
    };
    span.tag("node_id", node.id.as_str());
    span.tag("zone", node.zone.as_str());
    let head = &*x.request;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |name: &str| crate::view::nth_field(head.fields(), name, 0).map(text);
    if let Some(id) = header("x-request-id") {
        span.tag("guid:x-request-id", id);
    }
    span.tag("http.url", url(head, tracer.settings.path_bytes_max as usize));
    span.tag("http.method", text(head.method_name()));
    span.tag("downstream_cluster", header("x-envoy-downstream-service-cluster").unwrap_or("-".into()));
    span.tag("user_agent", header("user-agent").unwrap_or("-".into()));
    span.tag("http.protocol", head.version().as_str());
    if let Some(peer) = x.facts.connection.peer {
        span.tag("peer.address", peer.ip().to_string());
    }
    if let Some(id) = header("x-client-trace-id") {
        span.tag("guid:x-client-trace-id", id);
    }
    if x.facts.grpc {
        span.tag("grpc.path", text(head.path()));
        span.tag("grpc.authority", text(head.authority().unwrap_or_default()));
        span.tag("grpc.content_type", header("content-type").unwrap_or_default());
        if let Some(timeout) = header("grpc-timeout") {
            span.tag("grpc.timeout", timeout);
        }
    }
    span.tag("request_size", x.facts.progress.bytes_received.get().to_string());
    span.tag("response_size", x.facts.progress.bytes_sent.get().to_string());
    common_tags(&mut span, x, x.trail.status, &x.trail.flags.to_string(), length);
    send(tracer, x, span);
}

/// What the caller's tracing system wants to be told on.
fn tracestate(x: &Exchange<'_>, parent: Option<u64>) -> String {
    let mut state = Vec::new();
    if parent.is_some() {
        x.request.fields().get_joined("tracestate", &mut state);
    }
    String::from_utf8_lossy(&state).into_owned()
}

/// What the spans of an exchange and of an attempt both tell.
fn common_tags(span: &mut Span, x: &Exchange<'_>, status: u16, flags: &str, length: Duration) {
    let Some(tracer) = &x.facts.chain.tracer else { return };
    span.tag("component", "proxy");
    if !x.trail.cluster_name.is_empty() {
        span.tag("upstream_cluster", x.trail.cluster_name.as_str());
        span.tag("upstream_cluster.name", x.trail.cluster_stat_name.as_str());
    }
    span.tag("http.status_code", status.to_string());
    span.tag("response_flags", flags);
    let grpc_status = x
        .facts
        .grpc
        .then(|| crate::record::grpc_status(x.facts.progress.grpc_status.get(), Some(x.response)))
        .flatten();
    if let Some(code) = grpc_status {
        span.tag("grpc.status_code", code.to_string());
        if let Some(message) = x.response.fields().get("grpc-message") {
            span.tag("grpc.message", String::from_utf8_lossy(message));
        }
    }
    let failed = status == 0 || status >= 500 || grpc_status.is_some_and(is_grpc_failure);
    if failed {
        span.tag("error", "true");
    }
    // Compat: to the calling side a 4xx is a failure too, but not one that it tags.
    span.failed = failed || span.kind == Kind::Client && status >= 400;
    let mut record = request_record(x, length);
    fill(&mut record, &tracer.shown, x);
    let own =
        x.route().and_then(|id| x.facts.tables.route(id)).and_then(|found| found.route.tracing.as_deref());
    for tag in &tracer.tags {
        if let Some(value) = tag.value(&record) {
            span.tag(tag.name().to_owned(), value);
        }
    }
    if let Some(own) = own.filter(|own| !own.tags.is_empty()) {
        route_tags(span, x, &own.tags, length);
    }
}

/// Tags of a route are compiled when a span has them: few do.
fn route_tags(span: &mut Span, x: &Exchange<'_>, tags: &[CustomTag], length: Duration) {
    let mut wanted = Wanted::default();
    let tags = x.facts.shard.log.tags(tags, &mut wanted);
    let mut record = request_record(x, length);
    fill(&mut record, &Shown::new(wanted), x);
    for tag in &tags {
        if let Some(value) = tag.value(&record) {
            span.tag(tag.name().to_owned(), value);
        }
    }
}

fn send(tracer: &Tracer, x: &Exchange<'_>, span: Span) {
    if let Some(declared) = &tracer.spans {
        x.facts.shard.log.send_span(declared, Box::new(span));
    }
}

/// Codes that stand for a failure of the service rather than for an answer to the client.
/// Source: Envoy's `HttpTracerUtility`.
fn is_grpc_failure(code: u32) -> bool {
    matches!(code, 2 | 4 | 8 | 12 | 13 | 14 | 15)
}

/// `http.url`, from the path as the client sent it.
fn url(head: &RequestHead, path_bytes_max: usize) -> String {
    let path = head.fields().get("x-envoy-original-path").unwrap_or(head.path());
    let path = path.get(..path_bytes_max).unwrap_or(path);
    let authority = head.authority().unwrap_or_default();
    format!(
        "{}://{}{}",
        crate::view::scheme(head),
        String::from_utf8_lossy(authority),
        String::from_utf8_lossy(path)
    )
}

/// The moments of a request. Source: Envoy's `annotateVerbose`.
fn events(x: &Exchange<'_>, length: Duration) -> Vec<(Duration, &'static str)> {
    let progress = x.facts.progress;
    let since = |at: Instant| at.saturating_duration_since(progress.started);
    let mut events = Vec::new();
    events.extend(progress.request_complete.get().map(|at| (since(at), "last_downstream_rx_byte_received")));
    events.extend(upstream_events(x, progress.started));
    if let Some(at) = progress.response_begun.get() {
        events.push((since(at), "first_downstream_tx_byte_sent"));
        events.push((length, "last_downstream_tx_byte_sent"));
    }
    events
}

/// The moments of an attempt, as time since `from`.
fn upstream_events(x: &Exchange<'_>, from: Instant) -> Vec<(Duration, &'static str)> {
    let progress = x.facts.progress;
    let moments = [
        (progress.request_begun.get(), "first_upstream_tx_byte_sent"),
        (progress.request_sent.get(), "last_upstream_tx_byte_sent"),
        (progress.answer_began.get(), "first_upstream_rx_byte_received"),
        (progress.answer_complete.get(), "last_upstream_rx_byte_received"),
    ];
    let known =
        moments.into_iter().filter_map(|(at, name)| Some((at?.saturating_duration_since(from), name)));
    known.collect()
}
