//! Attempts to get an answer from an upstream: balance, connect, send, receive, and again where the policy says so.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use ringsail_http::{BodyLength, Framing, Method, ResponseDecoder, ResponseTo, Version, encode_request};
use ringsail_runtime::time::{now, sleep};
use ringsail_tables::cluster::{ConnectionSettings, UpstreamProtocol};
use ringsail_tables::policy::RetryPolicy;
use ringsail_tables::route::Action;
use ringsail_telemetry::{ClusterCounter, ClusterGauge, ClusterHistogram, ResponseFlag};

use super::admit::Switch;
use super::answer;
use super::plan::{Plan, rewrite_host};
use super::{Ending, Exchange, Outcome as Served, Source, redirect};
use crate::breaker::{LeasedPermit, Limit};
use crate::decimal::Decimal;
use crate::failure::Failure;
use crate::filters::grpc_web;
use crate::forward::{self, together};
use crate::http2::upstream as http2;
use crate::inflow::Inflow;
use crate::message::{Answer, Outgoing};
use crate::progress::count;
use crate::record;
use crate::retry;
use crate::trace::{self, AttemptEnd};
use crate::upstream::{
    self, Carries, Choice, ClusterState, Connection, Dial, HostKey, Lease, Outcome, Reuse, Wish,
};

/// What an attempt came to.
enum Attempt {
    /// The client has its answer.
    Answered(Ending),
    /// A connection that had been idle turned out closed: the same again, on a new one. Not a retry.
    Stale,
    /// The answer is one that the policy wants to be replaced.
    Unwanted,
    /// The answer leads to another place, and is followed.
    Redirected,
}

/// What attempts remember of each other.
#[derive(Default)]
struct History {
    tried: Vec<HostKey>,
    /// Priorities of [`Self::tried`], as far as they have one.
    priorities: Vec<u32>,
    /// The host of the attempt that runs, and its priority.
    current: Option<(HostKey, Option<u32>)>,
    retries: u32,
    /// How long the last answer asked to wait.
    reset_interval: Option<Duration>,
    /// Held from the first retry to the end, as Envoy does.
    permit: Option<LeasedPermit>,
    /// The next connection must be a new one.
    fresh: bool,
}

impl History {
    /// The attempt that ran is over.
    fn note(&mut self) {
        if let Some((host, priority)) = self.current.take() {
            self.tried.push(host);
            self.priorities.extend(priority);
        }
    }

    /// Priorities to leave out, when that is decided anew every `frequency` attempts. Source: Envoy's
    /// `PreviousPrioritiesRetryPriority`.
    fn priorities_left_out(&self, frequency: u32) -> &[u32] {
        let attempts = self.priorities.len();
        &self.priorities[..attempts - attempts % frequency.max(1) as usize]
    }
}

/// Where an attempt goes.
struct Course {
    state: Rc<ClusterState>,
    choice: Choice,
    lease: Lease,
    reach: http2::Settings,
    /// The upstream speaks HTTP/2.
    speaks_http2: bool,
}

/// What carries a request.
enum Link {
    /// A connection of its own.
    H1(Connection),
    /// A stream of a shared one.
    H2(http2::Lane),
}

/// Sends the request until it is answered, or no further attempt is allowed.
pub(super) async fn forward(
    exchange: &mut Exchange<'_>,
    source: &mut Source<'_>,
    plan: Plan,
) -> Result<Served, Failure> {
    let mut history = History::default();
    exchange.trail.attempts = 1;
    loop {
        let span = trace::begin_attempt(exchange).map_err(|_| Failure::HeadTooLargeAfterEdits)?;
        let outcome = attempt(exchange, source, &plan, &mut history).await;
        if let Some(span) = span {
            let end = match &outcome {
                Ok(Attempt::Answered(_)) => AttemptEnd::Answered(exchange.trail.status),
                Ok(Attempt::Unwanted | Attempt::Redirected) => {
                    AttemptEnd::Unwanted(exchange.response.status())
                }
                Ok(Attempt::Stale) => AttemptEnd::Stale,
                Err(failure) => AttemptEnd::Failed(*failure),
            };
            trace::finish_attempt(exchange, span, end);
        }
        match outcome {
            Ok(Attempt::Answered(ending)) => return Ok(Served::Ended(ending)),
            Ok(Attempt::Redirected) => return Ok(Served::Redirected),
            Ok(Attempt::Stale) => {
                history.fresh = true;
                continue;
            }
            Ok(Attempt::Unwanted) => {}
            Err(failure) if retry_allowed_after(exchange, &plan, &mut history, failure) => {}
            Err(failure) => return Err(charged(exchange, &plan, failure)),
        }
        history.note();
        back_off(exchange, source, &plan, &mut history)
            .await
            .map_err(|failure| charged(exchange, &plan, failure))?;
    }
}

/// One attempt.
async fn attempt(
    x: &mut Exchange<'_>,
    source: &mut Source<'_>,
    plan: &Plan,
    history: &mut History,
) -> Result<Attempt, Failure> {
    let facts = x.facts;
    let progress = facts.progress;
    let Course { state, choice, lease, reach, speaks_http2 } = set_course(x, plan, history)?;
    x.deadlines.begin_try();
    progress.begin_try();

    // Connect, while the client is watched.
    let acquired = {
        let client = pin!(source.body.client_gone());
        let acquire = async {
            if speaks_http2 {
                let lane = http2::acquire(&state, &choice, lease, &reach).await?;
                let reused = lane.reused;
                return Ok((Link::H2(lane), reused));
            }
            let acquired = upstream::acquire(&state, &choice, lease, &reach.dial, history.fresh).await?;
            Ok((Link::H1(acquired.connection), acquired.reused))
        };
        together(client, &mut x.deadlines, progress, acquire).await
    };
    history.current = Some((choice.host.key, choice.priority()));
    progress.pool_ready.set(Some(now()));
    let (mut link, reused) = acquired.inspect_err(|failure| {
        Outcome::of(*failure).into_iter().for_each(|outcome| choice.host.tell(outcome));
        failure.row().counter.into_iter().for_each(|counter| state.stats.add(counter, 1));
        if let Failure::ConnectFailure(error) = failure {
            x.trail.transport_failure = error.transport_failure_reason();
        }
    })?;
    choice.host.tell(Outcome::Connected);
    (x.trail.upstream_local, x.trail.upstream_version) = match &link {
        Link::H1(connection) => (connection.local_address, Some(Version::Http11)),
        Link::H2(lane) => (lane.local_address(), Some(Version::Http2)),
    };
    x.trail.upstream_tls = match &link {
        Link::H1(connection) => connection.stream.tls().cloned(),
        Link::H2(lane) => lane.tls(),
    };
    x.trail.upstream_connection = Some(match &link {
        Link::H1(connection) => connection.facts,
        Link::H2(lane) => lane.facts(),
    });
    let Some(_request) = InFlight::begin(&state, &choice, lease.requests_max) else {
        state.stats.add(ClusterCounter::UpstreamRqPendingOverflow, 1);
        if let Link::H1(connection) = link {
            connection.give_back(reach.reuse);
        }
        return Err(Failure::Overflow);
    };
    // Compat: an attempt that finds no connection is not counted.
    state.stats.add(ClusterCounter::UpstreamRqTotal, 1);
    if let Link::H1(connection) = &mut link {
        connection.begin_request();
    }
    if facts.switch == Switch::ConnectHere
        && let Link::H1(connection) = link
    {
        // Compat: our answer is counted as the cluster's.
        state.stats.count_answer(CONNECTED);
        return answer::tunnel_from_here(x, source, connection).await.map(Attempt::Answered);
    }

    // Send, receive, answer.
    let way = Way { state: &state, choice: &choice, lease, link: &link, reused };
    let sent_before = if let Link::H1(connection) = &link { connection.stream.bytes_sent() } else { 0 };
    let conversation = converse(x, source, plan, history, way).await;
    if let Link::H1(connection) = &link {
        count(&progress.wire.upstream.sent, (connection.stream.bytes_sent() - sent_before) as usize);
    }
    match conversation? {
        Conversation::Stale => Ok(Attempt::Stale),
        Conversation::Unwanted => Ok(Attempt::Unwanted),
        Conversation::Redirected => Ok(Attempt::Redirected),
        Conversation::Answered { ending, reusable } => {
            if let Link::H1(connection) = link
                && reusable
            {
                connection.give_back(reach.reuse);
            }
            Ok(Attempt::Answered(ending))
        }
    }
}

/// The upstream side of a conversation.
#[derive(Clone, Copy)]
struct Way<'a> {
    state: &'a ClusterState,
    choice: &'a Choice,
    lease: Lease,
    link: &'a Link,
    reused: bool,
}

/// How a conversation on a connection ended.
enum Conversation {
    /// See [`Attempt::Stale`].
    Stale,
    /// See [`Attempt::Unwanted`].
    Unwanted,
    /// See [`Attempt::Redirected`].
    Redirected,
    /// The client has its answer.
    Answered {
        ending: Ending,
        /// The upstream connection can carry another request.
        reusable: bool,
    },
}

/// Sends the request on a connection and the answer to the client, both directions at once.
async fn converse(
    x: &mut Exchange<'_>,
    source: &mut Source<'_>,
    plan: &Plan,
    history: &mut History,
    way: Way<'_>,
) -> Result<Conversation, Failure> {
    let facts = x.facts;
    let (progress, state) = (facts.progress, way.state);
    let method = x.request.method();
    x.request.set_framing(request_framing(method, source.body.length()));
    progress.request_begun.set(Some(now()));
    let mut arrived = Inflow::default();
    let (outgoing, mut answer) = match way.link {
        Link::H1(connection) => {
            source.upstream_out.clear();
            encode_request(x.request, &mut source.upstream_out);
            record::count_head_sent(&facts, x.request, source.upstream_out.len());
            let to = ResponseTo { method, upgrade: facts.switch == Switch::Upgrade };
            let (stream, decoder) = (&connection.stream, ResponseDecoder::new(to));
            let outgoing = Outgoing::h1(stream, &mut source.upstream_out, &progress.request_written);
            (outgoing, Answer::H1 { stream, inflow: &mut arrived, decoder })
        }
        Link::H2(lane) => {
            let ends = source.body.is_complete() && source.body.kept().is_empty();
            let (send, answer) = lane.request(x.request, ends, &progress.request_written)?;
            record::count_http2_head_sent(&facts, x.request);
            (Outgoing::H2(send), Answer::H2(answer, None))
        }
    };
    let mut client = pin!(forward::request(&mut source.body, outgoing, progress));
    let interim = facts.manager.proxy_100_continue.then_some(&mut x.outgoing);
    let head = answer.head(x.response, interim, progress);
    if let Err(failure) = together(client.as_mut(), &mut x.deadlines, progress, head).await {
        let untouched = !progress.request_written.get();
        let repeatable = !progress.body_lost.get() && (untouched || method.is_some_and(is_idempotent));
        if failure == Failure::ConnectionTermination && way.reused && repeatable {
            return Ok(Conversation::Stale);
        }
        if matches!(failure, Failure::RemoteReset | Failure::RemoteRefused) {
            state.stats.add(ClusterCounter::UpstreamRqRxReset, 1);
        }
        Outcome::of(failure).into_iter().for_each(|outcome| way.choice.host.tell(outcome));
        failure.row().counter.into_iter().for_each(|counter| state.stats.add(counter, 1));
        return Err(failure);
    }
    if let Link::H2(_) = way.link {
        record::count_http2_head_received(&facts, x.response);
    }
    let status = x.response.status();
    way.choice.host.hear(x.response.fields());
    way.choice.host.tell(Outcome::Answered(grpc_status(facts.grpc, x.response).unwrap_or(status)));
    let since = progress.request_complete.get().unwrap_or(progress.started);
    state.stats.record(ClusterHistogram::UpstreamRqTime, (now() - since).as_millis() as u64);

    // Another attempt instead?
    if let Some(tables) = x.tables.clone() {
        let found = tables.route(plan.route);
        let no_policy = RetryPolicy::default();
        let policy = found.as_ref().and_then(|found| found.retry()).map_or(&no_policy, |policy| policy);
        if plan.retries.any() && plan.retries.want_after_response(policy, x.response) {
            if !progress.body_lost.get() && retry_allowed(plan, state, way.lease, history, x.trail) {
                let unix_now =
                    facts.shard.wall_clock().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let listens = policy.rate_limited.as_ref();
                history.reset_interval =
                    listens.and_then(|policy| retry::reset_interval(policy, x.response, unix_now));
                return Ok(Conversation::Unwanted);
            }
        } else if history.retries > 0 {
            state.stats.add(ClusterCounter::UpstreamRqRetrySuccess, 1);
        }
    }
    if let Some(tables) = x.tables.clone()
        && redirect::follow(x, &tables, plan, state).map_err(|_| Failure::HeadTooLargeAfterEdits)?
    {
        x.trail.status = x.response.status();
        x.trail.details = record::FOLLOWED.into();
        return Ok(Conversation::Redirected);
    }
    // Compat: only the answer that is passed on counts as one.
    state.stats.count_answer(x.response.status());

    // Answer the client. Without another attempt the tables are not needed beyond the head.
    let keep_upstream = x.response.framing().persistent;
    let is_whole = answer.ends_with_head()
        && matches!(x.response.framing().body, BodyLength::None | BodyLength::Length(0));
    if x.left.grpc_web.is_some() && !grpc_web::is_of_grpc(x.response, is_whole) {
        let incoming = if is_whole { None } else { answer.body(x.response.framing().body) };
        let text = answer::begin_of_text(incoming);
        x.left.text = Some(together(client, &mut x.deadlines, progress, text).await?);
        x.response.set_framing(Framing { body: BodyLength::Length(0), persistent: true });
        let prepared = answer::prepare(x, plan, way.choice, true)?;
        x.tables = None;
        x.outgoing.finish(None).await.map_err(|_| Failure::ClientGone)?;
        progress.response_started.set(true);
        return Ok(Conversation::Answered { ending: facts.ending(prepared.persistent), reusable: false });
    }
    let prepared = answer::prepare(x, plan, way.choice, is_whole)?;
    x.tables = None;
    if prepared.refused {
        x.outgoing.finish(None).await.map_err(|_| Failure::ClientGone)?;
        progress.response_started.set(true);
        return Ok(Conversation::Answered { ending: Ending::DelayedClose, reusable: false });
    }
    let mut incoming = answer.body(prepared.inward).ok_or(Failure::UpstreamProtocol)?;
    let mut web = x.left.grpc_web.map(grpc_web::Writer::new);
    let (outgoing, pace) = (&mut x.outgoing, x.left.pace.as_ref());
    let inward = prepared.inward;
    let body = forward::response_body(&mut incoming, inward, outgoing, web.as_mut(), pace, progress);
    let clean = together(client, &mut x.deadlines, progress, body).await?;
    progress.answer_complete.set(Some(now()));
    let reusable = clean && keep_upstream && progress.request_sent.get().is_some();
    Ok(Conversation::Answered { ending: facts.ending(prepared.persistent), reusable })
}

/// Picks the host and puts what depends on it into the request's head.
fn set_course(x: &mut Exchange<'_>, plan: &Plan, history: &History) -> Result<Course, Failure> {
    let tables = x.tables.clone().ok_or(Failure::NoHealthyUpstream)?;
    let cluster = tables.cluster(plan.cluster).ok_or(Failure::ClusterNotFound { status: 503 })?;
    let state = x.facts.shard.cluster(&cluster);
    let found = tables.route(plan.route);
    let policy = found.as_ref().and_then(|found| found.retry());
    let predicates = policy.filter(|policy| policy.avoid_previous_hosts || policy.avoid_canary_hosts);
    let avoid_priorities = match policy.and_then(|policy| policy.avoid_previous_priorities) {
        Some(frequency) => history.priorities_left_out(frequency),
        None => &[],
    };
    let wish = Wish {
        destination: plan.destination,
        hash: plan.hash,
        tried: if policy.is_some_and(|policy| policy.avoid_previous_hosts) { &history.tried } else { &[] },
        avoid_canaries: history.retries > 0 && policy.is_some_and(|policy| policy.avoid_canary_hosts),
        attempts_max: predicates.map_or(0, |policy| policy.host_selection_attempts_max),
        criteria: found.as_ref().and_then(|found| found.subset()).map(|criteria| &**criteria),
        avoid_priorities,
    };
    let Some(choice) = state.pick(&cluster, wish) else {
        state.stats.add(ClusterCounter::UpstreamCxNoneHealthy, 1);
        if cluster.endpoints.iter().next().is_none() {
            // Compat: of no endpoints too few are healthy.
            state.stats.add(ClusterCounter::LbHealthyPanic, 1);
        }
        return Err(Failure::NoHealthyUpstream);
    };
    let too_large = |_| Failure::HeadTooLargeAfterEdits;
    if plan.host_from_endpoint
        && let Some(found) = &found
        && let Action::Forward(forward) = &found.route.action
    {
        let name = choice.endpoint(cluster.endpoints).and_then(|endpoint| endpoint.hostname.as_deref());
        rewrite_host(x, found, forward, name).map_err(too_large)?;
    }
    if plan.counts_attempts && x.trail.attempts > 1 {
        let count = Decimal::new(x.trail.attempts.into());
        x.request.fields_mut().set("x-envoy-attempt-count", count.text()).map_err(too_large)?;
    }
    if history.retries > 0 {
        plan.announce_timeout(x).map_err(too_large)?;
    }
    x.trail.upstream_host = Some(choice.address.clone());
    let endpoint = choice.endpoint(cluster.endpoints);
    x.trail.seen.upstream = endpoint.and_then(|endpoint| x.facts.shard.telemetry.endpoint(endpoint));
    x.trail.upstream_local = None;
    x.trail.upstream_connection = None;
    x.trail.upstream_version = None;
    x.trail.upstream_tls = None;
    let connection = &cluster.cluster.connection;
    let speaks_http2 = speaks_http2(connection, x.facts.version) && x.facts.switch != Switch::ConnectHere;
    let carries = match (x.facts.switch, speaks_http2) {
        (Switch::ConnectHere, _) => Carries::Tcp,
        (_, true) => Carries::Http2,
        (_, false) => Carries::Http1,
    };
    Ok(Course {
        lease: x.facts.shard.lease(&cluster, &state, plan.high_priority),
        reach: http2::Settings {
            dial: Dial::to(
                &tables,
                &cluster,
                &state,
                &choice,
                carries,
                x.facts.manager.upstream_alpn.as_deref(),
            ),
            http2: connection.http2,
            reuse: Reuse::of(connection),
        },
        speaks_http2,
        choice,
        state,
    })
}

fn speaks_http2(settings: &ConnectionSettings, downstream: Version) -> bool {
    match settings.protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::FromDownstream => downstream == Version::Http2,
    }
}

/// Whether the policy and the breaker allow another attempt after `failure`.
fn retry_allowed_after(x: &mut Exchange<'_>, plan: &Plan, history: &mut History, failure: Failure) -> bool {
    let progress = x.facts.progress;
    if !plan.retries.any() || progress.response_started.get() || progress.body_lost.get() {
        return false;
    }
    let Some(tables) = x.tables.clone() else { return false };
    let Some(cluster) = tables.cluster(plan.cluster) else { return false };
    let state = x.facts.shard.cluster(&cluster);
    let lease = x.facts.shard.lease(&cluster, &state, plan.high_priority);
    plan.retries.want_after_failure(failure, progress.request_written.get())
        && retry_allowed(plan, &state, lease, history, x.trail)
}

/// Counts the answer that a request gets from us instead of its cluster.
fn charged(x: &Exchange<'_>, plan: &Plan, failure: Failure) -> Failure {
    if failure.is_of_upstream()
        && !x.facts.progress.response_started.get()
        && let Some(cluster) = x.tables.as_ref().and_then(|tables| tables.cluster(plan.cluster))
    {
        let status = x.status_of(failure);
        x.facts.shard.cluster(&cluster).stats.count_answer(status);
    }
    failure
}

/// Takes one of the request's retries and of the breaker's, or notes which one is missing.
fn retry_allowed(
    plan: &Plan,
    state: &ClusterState,
    lease: Lease,
    history: &mut History,
    trail: &mut crate::trail::Trail,
) -> bool {
    if history.retries >= plan.retries.retries_max {
        state.stats.add(ClusterCounter::UpstreamRqRetryLimitExceeded, 1);
        trail.flag(ResponseFlag::UpstreamRetryLimitExceeded);
        return false;
    }
    // An earlier retry's permit counts no longer.
    history.permit = None;
    history.permit = state.retries.take(lease.retries_max);
    if history.permit.is_none() {
        state.stats.add(ClusterCounter::UpstreamRqRetryOverflow, 1);
        trail.flag(ResponseFlag::UpstreamOverflow);
        return false;
    }
    state.stats.add(ClusterCounter::UpstreamRqRetry, 1);
    history.retries += 1;
    trail.attempts += 1;
    true
}

/// Waits before the next attempt.
async fn back_off(
    x: &mut Exchange<'_>,
    source: &mut Source<'_>,
    plan: &Plan,
    history: &mut History,
) -> Result<(), Failure> {
    let length = {
        let tables = x.tables.clone().ok_or(Failure::NoHealthyUpstream)?;
        let found = tables.route(plan.route);
        let no_policy = RetryPolicy::default();
        let policy = found.as_ref().and_then(|found| found.retry()).map_or(&no_policy, |policy| policy);
        let random = fastrand::u64(..);
        let (length, counter) = match history.reset_interval.take() {
            Some(interval) => (
                retry::lower_bound_back_off(interval, random),
                ClusterCounter::UpstreamRqRetryBackoffRatelimited,
            ),
            None => (
                retry::back_off(policy, history.retries.saturating_sub(1), random),
                ClusterCounter::UpstreamRqRetryBackoffExponential,
            ),
        };
        if let Some(cluster) = tables.cluster(plan.cluster) {
            x.facts.shard.cluster(&cluster).stats.add(counter, 1);
        }
        length
    };
    let facts = x.facts;
    x.deadlines.end_try();
    let client = pin!(source.body.client_gone());
    together(client, &mut x.deadlines, facts.progress, async {
        sleep(length).await;
        Ok(())
    })
    .await
}

/// How the request is framed upstream, whose connection is ours to keep whatever the client does with its own.
///
/// Compat: a request without a body says `content-length: 0`, except where the method gives a body no meaning.
fn request_framing(method: Option<Method>, body: BodyLength) -> Framing {
    let bodiless =
        matches!(method, Some(Method::Get | Method::Head | Method::Delete | Method::Trace | Method::Connect));
    let body = if body == BodyLength::None && !bodiless { BodyLength::Length(0) } else { body };
    Framing { body, persistent: true }
}

/// The status that a gRPC answer without a body stands for. Source: Envoy's and Google's mapping of gRPC codes.
fn grpc_status(grpc: bool, head: &ringsail_http::ResponseHead) -> Option<u16> {
    let code = head.fields().get("grpc-status").filter(|_| grpc)?;
    Some(match code {
        b"0" => 200,
        b"1" => 499,
        b"3" | b"9" | b"11" => 400,
        b"4" => 504,
        b"5" => 404,
        b"6" | b"10" => 409,
        b"7" => 403,
        b"8" => 429,
        b"12" => 501,
        b"14" => 503,
        b"16" => 401,
        _ => 500,
    })
}

/// Methods whose requests may be sent twice without harm (RFC 9110 §9.2.2).
fn is_idempotent(method: Method) -> bool {
    matches!(
        method,
        Method::Get | Method::Head | Method::Options | Method::Trace | Method::Put | Method::Delete
    )
}

/// The status of a CONNECT that ends here.
const CONNECTED: u16 = 200;

/// A request being answered, counted for the breaker and for balancing.
struct InFlight<'a> {
    state: &'a ClusterState,
    choice: &'a Choice,
    _permit: LeasedPermit,
}

impl<'a> InFlight<'a> {
    fn begin(state: &'a ClusterState, choice: &'a Choice, requests_max: Limit) -> Option<InFlight<'a>> {
        let permit = state.requests.take(requests_max)?;
        choice.host.begin_request();
        state.stats.raise(ClusterGauge::UpstreamRqActive, 1);
        Some(InFlight { state, choice, _permit: permit })
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.choice.host.end_request();
        self.state.stats.lower(ClusterGauge::UpstreamRqActive, 1);
    }
}
