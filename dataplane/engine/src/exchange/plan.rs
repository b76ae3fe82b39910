//! What a request's route means for its attempts, settled once before the first.

use std::net::SocketAddr;
use std::time::Duration;

use ringsail_tables::cluster::{ClusterRef, Discovery, UpstreamProtocol};
use ringsail_tables::hcm::HttpFilter;
use ringsail_tables::ids::{ClusterId, RouteId};
use ringsail_tables::policy::RetryPolicy;
use ringsail_tables::route::{Forward, HostRewrite, RouteMatch};

use super::{Exchange, values};
use crate::decimal::Decimal;
use crate::failure::Failure;
use crate::filters::hash;
use crate::headers::edits;
use crate::retry::Conditions;
use crate::view::RequestView;

/// Ids and plain values only: a plan outlives no table reference.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) cluster: ClusterId,
    pub(super) route: RouteId,
    /// Where an ORIGINAL_DST cluster sends it.
    pub(super) destination: Option<SocketAddr>,
    /// What the request may be tried again for.
    pub(super) retries: Conditions,
    pub(super) high_priority: bool,
    pub(super) counts_attempts: bool,
    pub(super) suppress_envoy_headers: bool,
    /// The request's hash, for clusters that balance by it.
    pub(super) hash: Option<u64>,
    /// Most bytes of the body kept, because an answer may lead to another attempt, which then needs them again.
    pub(super) body_kept_max: usize,
    pub(super) host_from_endpoint: bool,
    /// `grpc-timeout` says what the upstream has, because the route caps it.
    rewrites_grpc_timeout: bool,
}

impl Plan {
    /// Reads the route. Time limits go to the exchange's deadlines.
    pub(super) fn new(
        exchange: &mut Exchange<'_>,
        found: &RouteMatch<'_>,
        forward: &Forward,
        cluster: &ClusterRef<'_>,
    ) -> Plan {
        let retry = found.retry().map(|policy| &**policy);
        let retries = Conditions::of(retry, exchange.request);
        exchange.no_content_for_timeout = exchange.request.fields().contains(ALT_RESPONSE);
        if exchange.no_content_for_timeout {
            exchange.request.fields_mut().remove(ALT_RESPONSE);
        }
        let timeouts = Timeouts::of(exchange, found, forward);
        let limits = exchange.deadlines.limits_mut();
        limits.route = timeouts.route;
        limits.per_try = timeouts.per_try;
        limits.per_try_idle = retry.and_then(|policy| policy.per_try_idle_timeout);
        limits.upstream_duration = cluster.cluster.stream_duration_max;
        if let Some(duration) = timeouts.duration {
            limits.duration = some_unless_zero(duration);
        }
        if let Some(idle) = forward.idle_timeout {
            limits.stream_idle = some_unless_zero(idle);
        }
        let grpc = exchange.facts.grpc;
        let no_policy;
        let policy = match retry {
            Some(policy) => policy,
            None => {
                no_policy = RetryPolicy::default();
                &no_policy
            }
        };
        let refusable = cluster.cluster.connection.protocol != UpstreamProtocol::Http1;
        let kept = (retries.any() && retries.may_follow_response(policy, grpc, refusable))
            || forward.internal_redirects.is_some();
        let listener = exchange.facts.chain.listener();
        let body_kept_max =
            if kept { found.body_kept_max().unwrap_or(listener.buffer_bytes_max) as usize } else { 0 };
        Plan {
            cluster: cluster.id,
            route: found.id(),
            destination: destination(exchange, cluster),
            retries,
            high_priority: forward.high_priority,
            counts_attempts: found.virtual_host.include_request_attempt_count,
            suppress_envoy_headers: false,
            hash: hash(exchange, forward, cluster),
            body_kept_max,
            rewrites_grpc_timeout: grpc && forward.grpc_timeout_max.is_some(),
            host_from_endpoint: matches!(forward.host_rewrite, HostRewrite::Endpoint),
        }
    }

    /// Edits the request's head as the route asks, except for what depends on the chosen endpoint.
    pub(super) fn prepare_request(
        &self,
        exchange: &mut Exchange<'_>,
        found: &RouteMatch<'_>,
        forward: &Forward,
    ) -> Result<(), Failure> {
        let too_large = |_| Failure::HeadTooLargeAfterEdits;
        self.announce_timeout(exchange).map_err(too_large)?;
        if self.counts_attempts {
            exchange.request.fields_mut().set("x-envoy-attempt-count", b"1").map_err(too_large)?;
        }
        for levels in found.header_edits() {
            if !levels.request.is_empty() {
                let context = values::Context::of(&exchange.facts, exchange.trail);
                edits::apply(&levels.request, exchange.request, |head, use_values| {
                    use_values(&context.with_request(head));
                })
                .map_err(too_large)?;
            }
        }
        rewrite_host(exchange, found, forward, None).map_err(too_large)?;
        rewrite_path(exchange, found, forward, self.suppress_envoy_headers).map_err(too_large)
    }
}

impl Plan {
    /// Tells the upstream how long its answer is waited for. Source: Envoy's `FilterUtility::setTimeoutHeaders`.
    pub(super) fn announce_timeout(
        &self,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), ringsail_http::EditError> {
        let limits = *exchange.deadlines.limits_mut();
        let Some(mut expected) = limits.per_try.or(limits.route) else { return Ok(()) };
        if let Some(whole) = limits.route {
            let complete = exchange.facts.progress.request_complete.get();
            let elapsed = complete.map_or(Duration::ZERO, |at| ringsail_runtime::time::now() - at);
            // Zero would mean no limit.
            expected = expected.min(whole.saturating_sub(elapsed)).max(Duration::from_millis(1));
        }
        let millis = expected.as_millis() as u64;
        let fields = exchange.request.fields_mut();
        if !self.suppress_envoy_headers {
            fields.set("x-envoy-expected-rq-timeout-ms", Decimal::new(millis).text())?;
        }
        if self.rewrites_grpc_timeout {
            let (number, unit) = grpc_timeout_of(millis);
            let mut value = Decimal::new(number).text().to_vec();
            value.push(unit);
            fields.set("grpc-timeout", &value)?;
        }
        Ok(())
    }
}

/// Rewrites the authority; `endpoint` is the chosen endpoint's name, once there is one.
pub(super) fn rewrite_host(
    exchange: &mut Exchange<'_>,
    found: &RouteMatch<'_>,
    forward: &Forward,
    endpoint: Option<&str>,
) -> Result<(), ringsail_http::EditError> {
    let mut host = String::new();
    let by_cluster = found.weighted_cluster.and_then(|cluster| cluster.host_rewrite.as_ref());
    let rewritten = match by_cluster {
        Some(literal) => {
            host.push_str(literal);
            true
        }
        None => forward.host_rewrite.apply(&RequestView(exchange.request), endpoint, &mut host),
    };
    if !rewritten {
        return Ok(());
    }
    let old = exchange.request.authority().unwrap_or_default().to_vec();
    exchange.request.fields_mut().set("x-envoy-original-host", &old)?;
    if forward.append_x_forwarded_host {
        let mut value = Vec::new();
        if exchange.request.fields().get_joined("x-forwarded-host", &mut value) {
            value.push(b',');
        }
        value.extend_from_slice(&old);
        exchange.request.fields_mut().set("x-forwarded-host", &value)?;
    }
    exchange.request.set_authority(host.as_bytes())
}

fn rewrite_path(
    exchange: &mut Exchange<'_>,
    found: &RouteMatch<'_>,
    forward: &Forward,
    suppress_envoy_headers: bool,
) -> Result<(), ringsail_http::EditError> {
    let mut path = String::new();
    let target = std::str::from_utf8(exchange.request.path()).unwrap_or_default();
    if !forward.path_rewrite.apply(&found.route.matcher.path, target, &mut path) {
        return Ok(());
    }
    if !suppress_envoy_headers {
        let original = exchange.request.path().to_vec();
        exchange.request.fields_mut().set("x-envoy-original-path", &original)?;
    }
    exchange.request.set_path(path.as_bytes())
}

/// The request's hash, where its cluster asks for it; then also the cookie that a client gets for it.
fn hash(exchange: &mut Exchange<'_>, forward: &Forward, cluster: &ClusterRef<'_>) -> Option<u64> {
    if forward.hash.is_empty() || !cluster.cluster.balancing.policy.hashes() {
        return None;
    }
    let ends = exchange.ends();
    let cookies = &mut exchange.left.cookies;
    hash::of_request(&forward.hash, exchange.request, ends, |cookie| cookies.push(cookie))
}

/// Where a cluster that forwards to the original destination sends the request.
fn destination(exchange: &Exchange<'_>, cluster: &ClusterRef<'_>) -> Option<SocketAddr> {
    let Discovery::OriginalDst { port_override, http_header } = &cluster.cluster.discovery else {
        return None;
    };
    let named = http_header.as_ref().and_then(|name| {
        std::str::from_utf8(exchange.request.fields().get(name)?).ok()?.parse::<SocketAddr>().ok()
    });
    let mut destination = named.or(exchange.facts.connection.restored())?;
    if let Some(port) = port_override {
        destination.set_port(*port);
    }
    Some(destination)
}

/// The time limits of a route for one request.
struct Timeouts {
    route: Option<Duration>,
    per_try: Option<Duration>,
    /// Replaces the connection manager's; zero means none.
    duration: Option<Duration>,
}

impl Timeouts {
    fn of(exchange: &mut Exchange<'_>, found: &RouteMatch<'_>, forward: &Forward) -> Timeouts {
        let fields = exchange.request.fields();
        let respects_expected =
            exchange.facts.manager.filters.iter().any(
                |filter| matches!(filter, HttpFilter::Router(router) if router.respect_expected_rq_timeout),
            );
        let asked = exchange.facts.grpc.then(|| fields.get("grpc-timeout").and_then(grpc_timeout)).flatten();
        let mut route = forward.timeout;
        if let (Some(max), true) = (forward.grpc_timeout_max, exchange.facts.grpc) {
            route = match asked {
                Some(asked) if max.is_zero() => Some(asked),
                Some(asked) => Some(asked.min(max)),
                None => some_unless_zero(max),
            };
        }
        let mut per_try = found.retry().and_then(|policy| policy.per_try_timeout);
        // Whose clients may not say these, has them removed by now.
        let fields = exchange.request.fields();
        let millis = |name| {
            std::str::from_utf8(fields.get(name)?).ok()?.parse::<u64>().ok().map(Duration::from_millis)
        };
        let expected = respects_expected.then(|| millis(EXPECTED)).flatten();
        let asked_whole = expected.or_else(|| millis(WHOLE));
        let asked_try = millis(PER_TRY);
        route = asked_whole.map_or(route, some_unless_zero);
        per_try = asked_try.map_or(per_try, some_unless_zero);
        // Compat: the next proxy gets the expected timeout instead.
        if fields.contains(WHOLE) || fields.contains(PER_TRY) {
            let fields = exchange.request.fields_mut();
            if expected.is_none() {
                fields.remove(WHOLE);
            }
            fields.remove(PER_TRY);
        }
        // Compat: a try may not last longer than the whole.
        if let (Some(try_limit), Some(whole)) = (per_try, route)
            && try_limit >= whole
        {
            per_try = None;
        }
        let duration =
            forward.max_stream_duration.and_then(|limit| match (asked, limit.grpc_timeout_header_max) {
                (Some(asked), Some(max)) => {
                    let capped = if max.is_zero() { asked } else { asked.min(max) };
                    Some(
                        capped.saturating_sub(limit.grpc_timeout_header_offset).max(Duration::from_millis(1)),
                    )
                }
                _ => limit.max,
            });
        Timeouts { route, per_try, duration }
    }
}

/// The whole request, asked for by the client.
const WHOLE: &str = "x-envoy-upstream-rq-timeout-ms";
/// Asks for 204 instead of 504.
const ALT_RESPONSE: &str = "x-envoy-upstream-rq-timeout-alt-response";
/// One try, asked for by the client.
const PER_TRY: &str = "x-envoy-upstream-rq-per-try-timeout-ms";
/// What an earlier proxy waits for.
const EXPECTED: &str = "x-envoy-expected-rq-timeout-ms";

/// A number of at most eight digits and a unit. Source: Envoy's `Grpc::Common::toGrpcTimeout`.
fn grpc_timeout_of(millis: u64) -> (u64, u8) {
    const DIGITS_MAX: u64 = 99_999_999;
    let mut number = millis;
    for (unit, next) in [(b'm', 1000), (b'S', 60), (b'M', 60)] {
        if number <= DIGITS_MAX {
            return (number, unit);
        }
        number /= next;
    }
    (number.min(DIGITS_MAX), b'H')
}

fn some_unless_zero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

/// Source: gRPC over HTTP/2, "Timeout": up to eight digits and a unit.
fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_written_in_the_smallest_unit_that_fits() {
        for (millis, text) in [
            (1, (1, b'm')),
            (99_999_999, (99_999_999, b'm')),
            (100_000_000, (100_000, b'S')),
            (100_000_000_000, (1_666_666, b'M')),
            (u64::MAX, (99_999_999, b'H')),
        ] {
            assert_eq!(grpc_timeout_of(millis), text, "{millis}");
        }
    }

    #[test]
    fn grpc_timeouts_have_digits_and_a_unit() {
        assert_eq!(grpc_timeout(b"200m"), Some(Duration::from_millis(200)));
        assert_eq!(grpc_timeout(b"1H"), Some(Duration::from_secs(3600)));
        for bad in [&b""[..], b"m", b"123456789S", b"1x", b"-1S"] {
            assert_eq!(grpc_timeout(bad), None);
        }
    }
}
