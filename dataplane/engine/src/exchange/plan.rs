//! What a request's route means for its attempts, settled once before the first.

use std::net::SocketAddr;
use std::time::Duration;

use ringsail_tables::cluster::{ClusterRef, Discovery};
use ringsail_tables::ids::{ClusterId, RouteId};
use ringsail_tables::route::{Forward, HostRewrite, RouteMatch};

use super::{Exchange, values};
use crate::decimal::Decimal;
use crate::failure::Failure;
use crate::filters::hash;
use crate::headers::edits;
use crate::view::RequestView;

/// Ids and plain numbers only: a plan outlives no table reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) cluster: ClusterId,
    pub(super) route: RouteId,
    /// Where an ORIGINAL_DST cluster sends it.
    pub(super) destination: Option<SocketAddr>,
    /// The route has a retry policy and the request fits it.
    pub(super) retries: bool,
    pub(super) high_priority: bool,
    pub(super) counts_attempts: bool,
    pub(super) suppress_envoy_headers: bool,
    /// The request's hash, for clusters that balance by it.
    pub(super) hash: Option<u64>,
    /// An answer may lead to another attempt, which then needs the body again.
    pub(super) keeps_body: bool,
    pub(super) host_from_endpoint: bool,
}

impl Plan {
    /// Reads the route. Time limits go to the exchange's deadlines.
    pub(super) fn new(
        exchange: &mut Exchange<'_>,
        found: &RouteMatch<'_>,
        forward: &Forward,
        cluster: &ClusterRef<'_>,
    ) -> Plan {
        let retry = found.retry();
        let request = RequestView(exchange.request);
        let retries = retry.is_some_and(|policy| {
            policy.request_headers.is_empty()
                || policy.request_headers.iter().any(|header| header.matches(&request))
        });
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
        let keeps_body =
            retries && retry.is_some_and(|policy| crate::retry::may_follow_response(policy, grpc));
        Plan {
            cluster: cluster.id,
            route: found.id(),
            destination: destination(exchange, cluster),
            retries,
            high_priority: forward.high_priority,
            counts_attempts: found.virtual_host.include_request_attempt_count,
            suppress_envoy_headers: false,
            hash: hash(exchange, forward, cluster),
            keeps_body,
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
        let limits = *exchange.deadlines.limits_mut();
        if !self.suppress_envoy_headers {
            let expected = match (limits.per_try, limits.route) {
                (Some(per_try), Some(route)) => Some(per_try.min(route)),
                (per_try, route) => per_try.or(route),
            };
            if let Some(expected) = expected {
                let millis = Decimal::new(expected.as_millis() as u64);
                let fields = exchange.request.fields_mut();
                fields.set("x-envoy-expected-rq-timeout-ms", millis.text()).map_err(too_large)?;
            }
        }
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
    let connection = exchange.facts.connection;
    let ends = hash::Ends {
        client: exchange.facts.origin.client.or(connection.peer),
        peer: connection.peer,
        local: connection.local,
    };
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
    let mut destination = named.or(exchange.facts.connection.restored)?;
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
    fn of(exchange: &Exchange<'_>, found: &RouteMatch<'_>, forward: &Forward) -> Timeouts {
        let fields = exchange.request.fields();
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
        if exchange.facts.origin.internal {
            let millis = |name| {
                std::str::from_utf8(fields.get(name)?).ok()?.parse::<u64>().ok().map(Duration::from_millis)
            };
            route = millis("x-envoy-upstream-rq-timeout-ms").map_or(route, some_unless_zero);
            per_try = millis("x-envoy-upstream-rq-per-try-timeout-ms").map_or(per_try, some_unless_zero);
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
    fn grpc_timeouts_have_digits_and_a_unit() {
        assert_eq!(grpc_timeout(b"200m"), Some(Duration::from_millis(200)));
        assert_eq!(grpc_timeout(b"1H"), Some(Duration::from_secs(3600)));
        for bad in [&b""[..], b"m", b"123456789S", b"1x", b"-1S"] {
            assert_eq!(grpc_timeout(bad), None);
        }
    }
}
