//! Whether and when a failed attempt is made again.
//!
//! Source: Envoy `config.route.v3.RetryPolicy` and the list of conditions in its router documentation; the
//! matching of resets and timeouts as observed on Envoy 1.40.

use std::time::Duration;

use ringsail_http::ResponseHead;
use ringsail_tables::policy::{RetryOn, RetryPolicy};

use crate::failure::{Failure, RetryClass};
use crate::view::nth_field;

/// Whether `policy` asks for another attempt after this failure. `request_written` says that a part of the
/// request had reached the upstream connection.
pub fn wanted_after_failure(policy: &RetryPolicy, failure: Failure, request_written: bool) -> bool {
    let no_answer = RetryOn::SERVER_ERROR.with(RetryOn::GATEWAY_ERROR).with(RetryOn::RESET);
    let untouched = if request_written { RetryOn::NONE } else { RetryOn::RESET_BEFORE_REQUEST };
    match failure.retry_class() {
        RetryClass::No => false,
        RetryClass::ConnectFailure => {
            policy.on.any_of(no_answer.with(RetryOn::CONNECT_FAILURE).with(untouched))
        }
        RetryClass::Reset => policy.on.any_of(no_answer.with(untouched)),
        RetryClass::PerTryTimeout => policy.on.any_of(no_answer),
    }
}

/// Whether `policy` asks for another attempt instead of this answer.
pub fn wanted_after_response(policy: &RetryPolicy, head: &ResponseHead) -> bool {
    let status = head.status();
    let on = |condition| policy.on.any_of(condition);
    (on(RetryOn::SERVER_ERROR) && (500..=599).contains(&status))
        || (on(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&status))
        || (on(RetryOn::RETRIABLE_4XX) && status == 409)
        || (on(RetryOn::STATUS_CODES) && policy.status_codes.contains(&status))
        || (on(RetryOn::RATE_LIMITED) && head.fields().contains("x-envoy-ratelimited"))
        || (on(grpc_conditions()) && grpc_condition(head).is_some_and(on))
        || (on(RetryOn::HEADERS) && policy.headers.iter().any(|header| header.matches(&Answer(head))))
}

/// Whether an answer, not only its absence, can lead to another attempt: then the request's body must be kept
/// until the answer's head is in.
pub fn may_follow_response(policy: &RetryPolicy, grpc: bool) -> bool {
    let answers = RetryOn::SERVER_ERROR
        .with(RetryOn::GATEWAY_ERROR)
        .with(RetryOn::RETRIABLE_4XX)
        .with(RetryOn::RATE_LIMITED)
        .with(RetryOn::HEADERS)
        .with(RetryOn::RESET);
    policy.on.any_of(answers)
        || (policy.on.any_of(RetryOn::STATUS_CODES) && !policy.status_codes.is_empty())
        || (grpc && policy.on.any_of(grpc_conditions()))
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
