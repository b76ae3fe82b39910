//! Whether and when a failed attempt is made again.
//!
//! Source: Envoy `config.route.v3.RetryPolicy` and the list of conditions in its router documentation; the
//! matching of resets and timeouts as observed on Envoy 1.40.

use std::time::Duration;

use ringsail_http::{Fields, RequestHead, ResponseHead};
use ringsail_tables::policy::{RateLimitedBackOff, ResetFormat, RetryOn, RetryPolicy};

use crate::failure::{Failure, RetryClass};
use crate::view::{RequestView, nth_field};

/// What one request may be tried again for: its route's policy, and what the request itself asks.
#[derive(Debug, Default)]
pub struct Conditions {
    /// The conditions.
    pub on: RetryOn,
    /// Most retries after the first try.
    pub retries_max: u32,
    /// Codes that `retriable-status-codes` means besides the policy's.
    status_codes: Vec<u16>,
    /// Headers whose presence `retriable-headers` means besides the policy's.
    header_names: Vec<Box<[u8]>>,
}

/// Control headers that are for us alone.
const CONSUMED: [&str; 6] = [
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
];

impl Conditions {
    /// Reads policy and request; control headers are taken out of the request. Those of clients that may not use them
    /// are gone by now. Source: Envoy's `RetryStateImpl`.
    pub fn of(policy: Option<&RetryPolicy>, request: &mut RequestHead) -> Conditions {
        let mut conditions = Conditions {
            on: policy.map_or(RetryOn::NONE, |policy| policy.on),
            retries_max: policy.map_or(1, |policy| policy.retries_max),
            ..Conditions::default()
        };
        let is_ours = |name: &[u8]| CONSUMED.iter().any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()));
        let asks = request.fields().iter().any(|(name, _)| name.len() >= 16 && is_ours(name));
        if asks {
            conditions.read(request.fields());
        }
        if let Some(policy) = policy.filter(|policy| !policy.request_headers.is_empty()) {
            let request = RequestView(request);
            if !policy.request_headers.iter().any(|header| header.matches(&request)) {
                conditions.on = RetryOn::NONE;
            }
        }
        if asks {
            request.fields_mut().retain(|name, _| !is_ours(name));
        }
        conditions
    }

    fn read(&mut self, fields: &Fields) {
        for list in ["x-envoy-retry-on", "x-envoy-retry-grpc-on"] {
            let words = words(fields, list).filter_map(RetryOn::from_word);
            self.on = words.fold(self.on, RetryOn::with);
        }
        if let Some(max) = words(fields, "x-envoy-max-retries").next().and_then(|word| word.parse().ok()) {
            self.retries_max = max;
        }
        self.status_codes =
            words(fields, "x-envoy-retriable-status-codes").filter_map(|word| word.parse().ok()).collect();
        self.header_names =
            words(fields, "x-envoy-retriable-header-names").map(|word| word.as_bytes().into()).collect();
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.on != RetryOn::NONE
    }

    /// Whether another attempt is wanted after this failure. `request_written` says that a part of the request had
    /// reached the upstream connection.
    pub fn want_after_failure(&self, failure: Failure, request_written: bool) -> bool {
        let no_answer = RetryOn::SERVER_ERROR.with(RetryOn::GATEWAY_ERROR).with(RetryOn::RESET);
        let untouched = if request_written { RetryOn::NONE } else { RetryOn::RESET_BEFORE_REQUEST };
        match failure.retry_class() {
            RetryClass::No => false,
            RetryClass::ConnectFailure => {
                self.on.any_of(no_answer.with(RetryOn::CONNECT_FAILURE).with(untouched))
            }
            RetryClass::Reset => self.on.any_of(no_answer.with(untouched)),
            RetryClass::RefusedStream => {
                self.on.any_of(no_answer.with(RetryOn::REFUSED_STREAM).with(untouched))
            }
            RetryClass::PerTryTimeout => self.on.any_of(no_answer),
        }
    }

    /// Whether another attempt is wanted instead of this answer.
    pub fn want_after_response(&self, policy: &RetryPolicy, head: &ResponseHead) -> bool {
        let status = head.status();
        let on = |condition| self.on.any_of(condition);
        // Compat: a rate-limited answer is retried for that reason or not at all.
        if head.fields().contains("x-envoy-ratelimited") {
            return on(RetryOn::RATE_LIMITED);
        }
        (on(RetryOn::SERVER_ERROR) && (500..=599).contains(&status))
            || (on(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&status))
            || (on(RetryOn::RETRIABLE_4XX) && status == 409)
            || (on(RetryOn::STATUS_CODES)
                && (policy.status_codes.contains(&status) || self.status_codes.contains(&status)))
            || (on(grpc_conditions()) && grpc_condition(head).is_some_and(on))
            || (on(RetryOn::HEADERS) && self.has_retriable_header(policy, head))
    }

    fn has_retriable_header(&self, policy: &RetryPolicy, head: &ResponseHead) -> bool {
        let named = |wanted: &[u8]| head.fields().iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        policy.headers.iter().any(|header| header.matches(&Answer(head)))
            || self.header_names.iter().any(|name| named(name))
    }

    /// Whether an answer, not only its absence, can lead to another attempt: then the request's body must be kept
    /// until the answer's head is in. `refusable` says that the upstream can refuse a stream that was sent (HTTP/2).
    pub fn may_follow_response(&self, policy: &RetryPolicy, grpc: bool, refusable: bool) -> bool {
        let answers = RetryOn::SERVER_ERROR
            .with(RetryOn::GATEWAY_ERROR)
            .with(RetryOn::RETRIABLE_4XX)
            .with(RetryOn::RATE_LIMITED)
            .with(RetryOn::HEADERS)
            .with(RetryOn::RESET);
        let codes = !policy.status_codes.is_empty() || !self.status_codes.is_empty();
        self.on.any_of(answers)
            || (self.on.any_of(RetryOn::STATUS_CODES) && codes)
            || (grpc && self.on.any_of(grpc_conditions()))
            || (refusable && self.on.any_of(RetryOn::REFUSED_STREAM))
    }
}

/// The elements of a header's first field, without blanks around them.
fn words<'a>(fields: &'a Fields, name: &str) -> impl Iterator<Item = &'a str> {
    let value = std::str::from_utf8(nth_field(fields, name, 0).unwrap_or_default()).unwrap_or_default();
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// How long an answer asks to wait, where the policy listens to it; `unix_now` are seconds since 1970.
/// Source: Envoy's `ResetHeaderParserImpl`.
pub fn reset_interval(policy: &RateLimitedBackOff, head: &ResponseHead, unix_now: u64) -> Option<Duration> {
    policy.headers.iter().find_map(|header| {
        let value = nth_field(head.fields(), &header.name, 0)?;
        let number: u64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
        let seconds = match header.format {
            ResetFormat::Seconds => number,
            ResetFormat::UnixTimestamp => number.checked_sub(unix_now).filter(|left| *left > 0)?,
        };
        let interval = Duration::from_secs(seconds);
        (interval <= policy.interval_max).then_some(interval)
    })
}

/// The wait an answer asked for, drawn a little longer: clients that were sent away together shall not come back
/// together. Source: Envoy's `JitteredLowerBoundBackOffStrategy`.
pub fn lower_bound_back_off(interval: Duration, random: u64) -> Duration {
    let millis = interval.as_millis() as u64;
    Duration::from_millis(millis + random % (millis / 2).max(1))
}

/// Pause before retry number `retry` (from 0): evenly drawn below `base × 2^retry`, at most the policy's
/// maximum. Source: Envoy's jittered exponential back-off.
pub fn back_off(policy: &RetryPolicy, retry: u32, random: u64) -> Duration {
    let base = policy.back_off_base.as_millis().clamp(1, u128::from(u32::MAX)) as u64;
    let max = policy.back_off_max.as_millis().clamp(1, u128::from(u32::MAX)) as u64;
    let bound = base.saturating_mul(1 << retry.min(31)).min(max);
    Duration::from_millis(random % bound)
}

/// The conditions that a gRPC status meets.
fn grpc_conditions() -> RetryOn {
    RetryOn::GRPC_CANCELLED
        .with(RetryOn::GRPC_DEADLINE_EXCEEDED)
        .with(RetryOn::GRPC_INTERNAL)
        .with(RetryOn::GRPC_RESOURCE_EXHAUSTED)
        .with(RetryOn::GRPC_UNAVAILABLE)
}

/// The condition a trailers-only gRPC answer meets.
fn grpc_condition(head: &ResponseHead) -> Option<RetryOn> {
    match head.fields().get("grpc-status")? {
        b"1" => Some(RetryOn::GRPC_CANCELLED),
        b"4" => Some(RetryOn::GRPC_DEADLINE_EXCEEDED),
        b"8" => Some(RetryOn::GRPC_RESOURCE_EXHAUSTED),
        b"13" => Some(RetryOn::GRPC_INTERNAL),
        b"14" => Some(RetryOn::GRPC_UNAVAILABLE),
        _ => None,
    }
}

/// A response as header matchers see it.
struct Answer<'a>(&'a ResponseHead);

impl ringsail_tables::request::Request for Answer<'_> {
    fn method(&self) -> &str {
        ""
    }
    fn authority(&self) -> &str {
        ""
    }
    fn path(&self) -> &str {
        ""
    }
    fn scheme(&self) -> &str {
        ""
    }
    fn header(&self, name: &str, nth: usize) -> Option<&[u8]> {
        nth_field(self.0.fields(), name, nth)
    }
}

#[cfg(test)]
mod tests;
