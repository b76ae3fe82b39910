//! The HTTP filters of a chain: on a request before it is forwarded, on an answer before it leaves.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use ringsail_http::{BodyLength, EditError, RequestHead};
use ringsail_runtime::publish::Current;
use ringsail_runtime::time::{now, sleep};
use ringsail_tables::Tables;
use ringsail_tables::hcm::HttpFilter;
use ringsail_tables::metadata::Metadata;
use ringsail_tables::policy::{CorsPolicy, Fault};
use ringsail_tables::rate_limit::{GlobalRateLimit, LocalRateLimit, Surroundings, service};
use ringsail_tables::rbac::RbacFilter;
use ringsail_tables::route::RouteMatch;
use ringsail_tables::template::Values;
use ringsail_telemetry::{ClusterCounter, HttpCounter, ResponseFlag};

use super::reply::Reply;
use super::{Ending, Exchange, Source, values};
use crate::decimal::Decimal;
use crate::failure::Failure;
use crate::filters::{cors, fault, grpc_stats, grpc_web, local_rate_limit, mirror, rate_limit, rbac};
use crate::forward::together;
use crate::grpc;
use crate::headers::edits;
use crate::pace::Pace;
use crate::progress::{Deadlines, Limits};
use crate::telemetry;
use crate::view::RequestView;

/// What filters leave for the rest of the exchange.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) suppress_envoy_headers: bool,
    /// The answer gets the headers of an allowed cross-origin request.
    cors_allowed: bool,
    /// What the answer tells of a rate limit of ours.
    told: Option<local_rate_limit::Told>,
    /// What it tells of a limit that a service keeps.
    told_by_service: rate_limit::Told,
    /// The body of an answer that is not gRPC, for a client that wants gRPC.
    pub(super) text: Option<Vec<u8>>,
    /// The client speaks gRPC-Web.
    pub(super) grpc_web: Option<grpc_web::Call>,
    /// Held to the end: the request has a fault.
    fault: Option<fault::Active>,
    /// The answer is slowed down.
    pub(super) pace: Option<Pace>,
    /// Cookies made for the client, as values of `set-cookie`.
    pub(super) cookies: Vec<String>,
}

/// Runs the filters over a request. `Some`: it is answered already.
pub(super) async fn request(
    x: &mut Exchange<'_>,
    source: &mut Source<'_>,
    found: Option<&RouteMatch<'_>>,
) -> Result<Option<Ending>, Failure> {
    let manager = x.facts.manager;
    for filter in &manager.filters {
        match filter {
            HttpFilter::Fault(settings) => {
                let Some(fault) = found.map_or(settings.as_ref(), |found| found.fault(settings)) else {
                    continue;
                };
                if let Some(ending) = inject(x, source, fault).await? {
                    return Ok(Some(ending));
                }
            }
            HttpFilter::Cors => {
                let Some(policy) = found.and_then(|found| found.cors()) else { continue };
                if let Some(ending) = cross_origin(x, policy).await? {
                    return Ok(Some(ending));
                }
            }
            HttpFilter::LocalRateLimit(settings) => {
                let limit = found.map_or(settings.as_ref(), |found| found.local_rate_limit(settings));
                let Some(limit) = limit else { continue };
                if let Some(ending) = limit_here(x, limit, found).await? {
                    return Ok(Some(ending));
                }
            }
            HttpFilter::RateLimit(limit) => {
                let Some(found) = found else { continue };
                if let Some(ending) = ask_service(x, source, limit, found).await? {
                    return Ok(Some(ending));
                }
            }
            HttpFilter::GrpcStats(settings) => {
                if x.facts.grpc {
                    let (registry, cluster) = (&x.facts.shard.stats, &x.trail.cluster_stat_name);
                    let counted = grpc_stats::Counted::of(settings, registry, cluster, x.request.path());
                    x.facts.progress.count_call(counted);
                }
            }
            HttpFilter::GrpcWeb => {
                x.left.grpc_web =
                    grpc_web::Call::begin(x.request).map_err(|_| Failure::HeadTooLargeAfterEdits)?;
                if let Some(call) = x.left.grpc_web {
                    // From here on it is a gRPC call.
                    x.facts.grpc = true;
                    source.body.become_grpc(call.text_request);
                    telemetry::begin_grpc(&x.facts);
                }
            }
            HttpFilter::Buffer(settings) => {
                let Some(settings) = found.map_or(Some(settings), |found| found.buffer(settings)) else {
                    continue;
                };
                if let Some(ending) = buffer(x, source, settings.bytes_max).await? {
                    return Ok(Some(ending));
                }
            }
            HttpFilter::HeaderMutation(settings) => {
                let context = values::Context::of(&x.facts, x.trail);
                let with_values = |head: &RequestHead, use_values: &mut dyn FnMut(&dyn Values)| {
                    use_values(&context.with_request(head));
                };
                let too_large = |_| Failure::HeadTooLargeAfterEdits;
                match found {
                    Some(found) => found
                        .mutations(settings)
                        .try_for_each(|level| edits::mutate(&level.request, x.request, with_values)),
                    None => edits::mutate(&settings.mutations.request, x.request, with_values),
                }
                .map_err(too_large)?;
            }
            HttpFilter::PeerMetadata(_) => {
                if let Some(peers) = &x.facts.chain.telemetry.peers {
                    let service = x.trail.seen.service.as_deref();
                    peers
                        .tell_upstream(service, x.request.fields_mut())
                        .map_err(|_| Failure::HeadTooLargeAfterEdits)?;
                }
            }
            HttpFilter::Rbac { name, settings } => {
                let filter = found.map_or(Some(settings), |found| found.rbac(name, settings));
                let Some(filter) = filter else { continue };
                let metadata = found.and_then(|found| found.route.metadata.as_deref());
                if let Some(ending) = authorize(x, filter, metadata).await {
                    return Ok(Some(ending));
                }
            }
            HttpFilter::Router(router) => x.left.suppress_envoy_headers = router.suppress_envoy_headers,
        }
    }
    Ok(None)
}

/// Runs the filters over an answer, of the upstream or of ours, in the reverse order.
pub(super) fn response(x: &mut Exchange<'_>) -> Result<(), EditError> {
    let manager = x.facts.manager;
    let tables = x.tables.clone();
    let found = x.route.and_then(|route| tables.as_ref()?.route(route));
    for filter in manager.filters.iter().rev() {
        match filter {
            HttpFilter::Cors => {
                if let Some(policy) =
                    found.as_ref().and_then(|found| found.cors()).filter(|_| x.left.cors_allowed)
                {
                    let origin = x.request.fields().get("origin").unwrap_or_default();
                    cors::write_allowed(policy, origin, x.response.fields_mut())?;
                }
            }
            HttpFilter::LocalRateLimit(_) => {
                if let Some(told) = x.left.told {
                    told.write(x.response.fields_mut())?;
                }
            }
            HttpFilter::HeaderMutation(settings) => {
                let context = values::Context::of(&x.facts, x.trail);
                let context = context.with_request(x.request);
                let with_values = |head: &_, use_values: &mut dyn FnMut(&dyn Values)| {
                    use_values(&context.with_response(head));
                };
                match &found {
                    Some(found) => found
                        .mutations(settings)
                        .try_for_each(|level| edits::mutate(&level.response, x.response, with_values))?,
                    None => edits::mutate(&settings.mutations.response, x.response, with_values)?,
                }
            }
            HttpFilter::RateLimit(_) => x.left.told_by_service.write(x.response.fields_mut())?,
            HttpFilter::PeerMetadata(_) => x.settle_peers()?,
            HttpFilter::GrpcStats(_) => {
                x.facts.progress.note_answer(x.response);
            }
            HttpFilter::GrpcWeb => {
                if let Some(call) = x.left.grpc_web {
                    x.response.fields_mut().set("content-type", call.answer_type())?;
                    if let Some(text) = x.left.text.take() {
                        grpc_web::write_status(x.response, &text)?;
                    }
                }
            }
            HttpFilter::Fault(_)
            | HttpFilter::Buffer(_)
            | HttpFilter::Rbac { .. }
            | HttpFilter::Router(_) => {}
        }
    }
    Ok(())
}

/// Lets a request pass, or refuses it.
async fn authorize(x: &mut Exchange<'_>, filter: &RbacFilter, route: Option<&Metadata>) -> Option<Ending> {
    let facts = x.facts;
    let subject = rbac::of_request(facts.connection, facts.origin, route);
    let verdict = rbac::judge(filter, &RequestView(x.request), &subject);
    if let Some(stats) = facts.http_stats() {
        if let Some(shadow) = verdict.shadow {
            let counter =
                if shadow.allowed { HttpCounter::RbacShadowAllowed } else { HttpCounter::RbacShadowDenied };
            stats.add(counter, 1);
        }
        if let Some(enforced) = verdict.enforced {
            stats.add(if enforced.allowed { HttpCounter::RbacAllowed } else { HttpCounter::RbacDenied }, 1);
        }
    }
    let details = verdict.refusal()?;
    x.response.reset(FORBIDDEN);
    let reply = Reply { body: b"RBAC: access denied", details: details.into(), ..Reply::new(FORBIDDEN, "") };
    Some(x.reply(reply).await)
}

/// Receives a request completely before it goes on.
async fn buffer(
    x: &mut Exchange<'_>,
    source: &mut Source<'_>,
    bytes_max: u32,
) -> Result<Option<Ending>, Failure> {
    let progress = x.facts.progress;
    if source.body.is_complete() || source.body.length() == BodyLength::Tunnel {
        return Ok(None);
    }
    // Who receives sees the client leave.
    let client = pin!(pending::<Failure>());
    let holding = source.body.hold(bytes_max as usize, progress);
    if together(client, &mut x.deadlines, progress, holding).await? {
        if let BodyLength::Length(length) = source.body.length() {
            let fields = x.request.fields_mut();
            fields.remove("transfer-encoding");
            fields
                .set("content-length", Decimal::new(length).text())
                .map_err(|_| Failure::HeadTooLargeAfterEdits)?;
        }
        return Ok(None);
    }
    x.facts.connection.count(HttpCounter::DownstreamRqTooLarge);
    x.response.reset(PAYLOAD_TOO_LARGE);
    let body = b"Payload Too Large";
    let closes = true;
    let reply = Reply { body, closes, ..Reply::new(PAYLOAD_TOO_LARGE, "request_payload_too_large") };
    Ok(Some(x.reply(reply).await))
}

/// Delays or aborts a request.
async fn inject(
    x: &mut Exchange<'_>,
    source: &mut Source<'_>,
    fault: &Fault,
) -> Result<Option<Ending>, Failure> {
    let cluster = Some(x.trail.cluster_name.as_str()).filter(|name| !name.is_empty());
    let verdict = fault::judge(fault, x.request, cluster, || fastrand::u64(..));
    if verdict == fault::Verdict::default() {
        return Ok(None);
    }
    let Some(stats) = x.facts.http_stats() else { return Ok(None) };
    let shard = x.facts.shard;
    // Compat: a request counts once, whatever is done to it.
    let (number, count) = (shard.number as usize, shard.count as usize);
    let active = fault::Active::begin(stats, fault.active_faults.as_ref(), number, count);
    let Some(active) = active else { return Ok(None) };
    x.left.fault = Some(active);
    if let Some(rate) = verdict.kib_per_second {
        stats.add(HttpCounter::FaultResponseRlInjected, 1);
        x.left.pace = Some(Pace::new(rate.saturating_mul(1024), now()));
    }
    if let Some(delay) = verdict.delay {
        stats.add(HttpCounter::FaultDelaysInjected, 1);
        x.trail.flag(ResponseFlag::DelayInjected);
        pause(x, source, delay).await?;
    }
    let Some(abort) = verdict.abort else { return Ok(None) };
    stats.add(HttpCounter::FaultAbortsInjected, 1);
    x.abort_by_fault(abort).await.map(Some)
}

/// Waits without reading the body, but not past the client's leaving. Deadlines stand still: an injected delay does
/// not count towards them.
async fn pause(x: &mut Exchange<'_>, source: &mut Source<'_>, length: Duration) -> Result<(), Failure> {
    let facts = x.facts;
    let client = pin!(source.body.client_gone());
    let mut no_deadlines = Deadlines::new(Limits::default());
    together(client, &mut no_deadlines, facts.progress, async {
        sleep(length).await;
        Ok(())
    })
    .await?;
    facts.progress.postpone();
    Ok(())
}

async fn cross_origin(x: &mut Exchange<'_>, policy: &CorsPolicy) -> Result<Option<Ending>, Failure> {
    let judgement = cors::judge(policy, x.request, || fastrand::u64(..));
    let counter = match judgement.origin_allowed {
        Some(true) => Some(HttpCounter::CorsOriginValid),
        Some(false) => Some(HttpCounter::CorsOriginInvalid),
        None => None,
    };
    if let (Some(stats), Some(counter)) = (x.facts.http_stats(), counter) {
        stats.add(counter, 1);
    }
    match judgement.verdict {
        cors::Verdict::Preflight => x.answer_preflight(policy).await.map(Some),
        cors::Verdict::Allowed => {
            x.left.cors_allowed = true;
            Ok(None)
        }
        cors::Verdict::NotConcerned => Ok(None),
    }
}

/// A limit of our own.
async fn limit_here(
    x: &mut Exchange<'_>,
    limit: &std::sync::Arc<LocalRateLimit>,
    found: Option<&RouteMatch<'_>>,
) -> Result<Option<Ending>, Failure> {
    let facts = x.facts;
    let counted = local_rate_limit::Counted {
        shard: facts.shard,
        connection: &facts.connection.limits,
        request: x.request,
        found,
        client: facts.origin.client.or(facts.connection.peer).map(|client| client.ip()),
        cluster: &x.trail.cluster_name,
    };
    let (verdict, told) = local_rate_limit::judge(limit, &counted);
    if limit.ratelimit_headers {
        x.left.told = told;
    }
    match verdict {
        local_rate_limit::Verdict::NotConcerned | local_rate_limit::Verdict::Passes => return Ok(None),
        local_rate_limit::Verdict::Spared => {
            let context = values::Context::of(&x.facts, x.trail);
            let ops = &limit.request_headers_when_not_enforced;
            edits::apply(ops, x.request, |head, use_values| use_values(&context.with_request(head)))
                .map_err(|_| Failure::HeadTooLargeAfterEdits)?;
            return Ok(None);
        }
        local_rate_limit::Verdict::Refused => {}
    }
    let retry_after = told.filter(|_| limit.retry_after && limit.status == TOO_MANY_REQUESTS);
    let seconds = retry_after.map(|told| Decimal::new(told.reset_seconds));
    let reply = Reply {
        body: b"local_rate_limited",
        flag: Some(ResponseFlag::RateLimited),
        headers: Some(&limit.response_headers),
        header: seconds.as_ref().map(|seconds| ("retry-after", seconds.text())),
        grpc_status: Some(if limit.resource_exhausted { GRPC_RESOURCE_EXHAUSTED } else { GRPC_UNAVAILABLE }),
        ..Reply::new(limit.status, "local_rate_limited")
    };
    x.response.reset(limit.status);
    Ok(Some(x.reply(reply).await))
}

/// A limit that a service keeps.
async fn ask_service(
    x: &mut Exchange<'_>,
    source: &mut Source<'_>,
    limit: &GlobalRateLimit,
    found: &RouteMatch<'_>,
) -> Result<Option<Ending>, Failure> {
    let facts = x.facts;
    let Some(tables) = x.tables.clone() else { return Ok(None) };
    let around = Surroundings {
        source_cluster: &facts.shard.identity.node.cluster,
        destination_cluster: &x.trail.cluster_name,
        client: facts.origin.client.or(facts.connection.peer).map(|client| client.ip()),
        route_metadata: found.route.metadata.as_deref(),
    };
    let view = RequestView(x.request);
    let asked = rate_limit::question(limit, found, &view, facts.origin.internal, around, fastrand::u64(..));
    let Some((domain, descriptors)) = asked else { return Ok(None) };
    let message = service::question(domain, &descriptors);
    let answer = match tables.cluster_in(limit.service.cluster) {
        None => Err(grpc::CallError::Failed(Failure::ClusterNotFound { status: limit.status_on_error })),
        Some(cluster) => {
            let call = grpc::Call {
                authority: &limit.service.authority,
                path: service::PATH,
                metadata: &limit.service.metadata,
                message: &message,
                timeout: limit.timeout,
            };
            let client = pin!(source.body.client_gone());
            let asking = async { Ok(grpc::call(facts.shard, &cluster, call).await) };
            together(client, &mut x.deadlines, facts.progress, asking).await?
        }
    };
    let target = tables.cluster_named(&x.trail.cluster_name).map(|cluster| facts.shard.cluster(&cluster));
    let count = |counter| target.iter().for_each(|state| state.stats.add(counter, 1));
    let Some(mut verdict) = answer.ok().and_then(|message| service::verdict(&message)) else {
        count(ClusterCounter::RatelimitError);
        if !limit.failure_mode_deny {
            count(ClusterCounter::RatelimitFailureModeAllowed);
            return Ok(None);
        }
        let reply = Reply {
            flag: Some(ResponseFlag::RateLimitServiceError),
            ..Reply::new(limit.status_on_error, "rate_limiter_error")
        };
        x.response.reset(limit.status_on_error);
        return Ok(Some(x.reply(reply).await));
    };
    let told = rate_limit::Told::of(&mut verdict, limit);
    count(if verdict.over_limit { ClusterCounter::RatelimitOverLimit } else { ClusterCounter::RatelimitOk });
    if verdict.over_limit
        && let Some(state) = &target
    {
        // Compat: the cluster counts the answer that it would not give.
        state.stats.count_answer(limit.status);
    }
    if !verdict.over_limit || !limit.enforced.chooses(fastrand::u64(..)) {
        for (name, value) in &verdict.request_headers {
            let fields = x.request.fields_mut();
            fields.append(name, value.as_bytes()).map_err(|_| Failure::HeadTooLargeAfterEdits)?;
        }
        x.left.told_by_service = told;
        return Ok(None);
    }
    let grpc_status = if limit.resource_exhausted { GRPC_RESOURCE_EXHAUSTED } else { GRPC_UNAVAILABLE };
    let reply = Reply {
        body: &verdict.body,
        flag: Some(ResponseFlag::RateLimited),
        told: Some(&told),
        headers: Some(&limit.response_headers),
        grpc_status: Some(grpc_status),
        ..Reply::new(limit.status, "request_rate_limited")
    };
    x.response.reset(limit.status);
    Ok(Some(x.reply(reply).await))
}

/// Sends copies of the request on their way.
pub(super) fn start_mirrors(
    x: &mut Exchange<'_>,
    source: &mut Source<'_>,
    tables: &Current<Tables>,
    found: &RouteMatch<'_>,
    high_priority: bool,
) {
    let context = values::Context::of(&x.facts, x.trail);
    let original = mirror::Original {
        shard: x.facts.shard,
        connection: x.facts.connection,
        found,
        head: x.request,
        body: source.body.length(),
        timeout: x.deadlines.limits_mut().route,
        high_priority,
        downstream: x.facts.version,
    };
    let with_values = |head: &RequestHead, use_values: &mut dyn FnMut(&dyn Values)| {
        use_values(&context.with_request(head));
    };
    mirror::begin(&original, tables, fastrand::u64(..), with_values, |tap| source.body.copy_to(tap));
}

const PAYLOAD_TOO_LARGE: u16 = 413;
const FORBIDDEN: u16 = 403;
const TOO_MANY_REQUESTS: u16 = 429;
const GRPC_RESOURCE_EXHAUSTED: u32 = 8;
const GRPC_UNAVAILABLE: u32 = 14;
