//! What is said to a rate limit service and what it answers.
//!
//! Source: `envoy.service.ratelimit.v3.RateLimitService`.

use std::fmt::Write as _;

use prost::Message;
use ringsail_xds::envoy::extensions::common::ratelimit::v3 as common;
use ringsail_xds::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use ringsail_xds::envoy::service::ratelimit::v3 as wire;
use ringsail_xds::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use ringsail_xds::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};

use super::Descriptor;

/// The path of the only call.
pub const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// What the service says of a request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// The request is past a limit.
    pub over_limit: bool,
    /// Headers for the answer, whichever it is.
    pub response_headers: Vec<(String, String)>,
    /// Headers for the request, if it goes on.
    pub request_headers: Vec<(String, String)>,
    /// Body of a refusal.
    pub body: Vec<u8>,
    /// Values of `x-ratelimit-limit`, `-remaining` and `-reset`, of the limit that is nearest.
    pub told: Option<(String, u32, i64)>,
}

/// The message that asks about a request with these descriptors.
pub fn question(domain: &str, descriptors: &[Descriptor]) -> Vec<u8> {
    let descriptor = |descriptor: &Descriptor| common::RateLimitDescriptor {
        entries: descriptor
            .entries
            .iter()
            .map(|(key, value)| Entry { key: key.clone(), value: value.clone() })
            .collect(),
        limit: descriptor
            .limit
            .map(|limit| RateLimitOverride { requests_per_unit: limit.requests, unit: limit.unit }),
        hits_addend: descriptor.hits,
        is_negative_hits: false,
    };
    let request = wire::RateLimitRequest {
        domain: domain.to_owned(),
        descriptors: descriptors.iter().map(descriptor).collect(),
        // Compat: 0 leaves the number of hits to the service, which takes 1.
        hits_addend: 0,
    };
    request.encode_to_vec()
}

/// Reads the service's message; `None` when it is none or says nothing.
pub fn verdict(message: &[u8]) -> Option<Verdict> {
    let answer = wire::RateLimitResponse::decode(message).ok()?;
    let over_limit = match Code::try_from(answer.overall_code) {
        Ok(Code::Ok) => false,
        Ok(Code::OverLimit) => true,
        Ok(Code::Unknown) | Err(_) => return None,
    };
    let plain = |headers: Vec<ringsail_xds::envoy::config::core::v3::HeaderValue>| {
        headers.into_iter().map(|header| (header.key.to_ascii_lowercase(), header.value)).collect()
    };
    Some(Verdict {
        over_limit,
        told: told(&answer.statuses),
        response_headers: plain(answer.response_headers_to_add),
        request_headers: plain(answer.request_headers_to_add),
        body: answer.raw_body,
    })
}

/// Source: draft-polli-ratelimit-headers-03, as Envoy writes it.
fn told(statuses: &[DescriptorStatus]) -> Option<(String, u32, i64)> {
    let limited = || statuses.iter().filter_map(|status| Some((status, status.current_limit.as_ref()?)));
    let (nearest, limit) = limited().min_by_key(|(status, _)| status.limit_remaining)?;
    let mut text = limit.requests_per_unit.to_string();
    for (_, limit) in limited() {
        let Some(seconds) = seconds(limit.unit) else { continue };
        // Writing to a String cannot fail.
        let _ = write!(text, ", {};w={seconds}", limit.requests_per_unit);
        if !limit.name.is_empty() {
            let _ = write!(text, ";name=\"{}\"", limit.name);
        }
    }
    let reset = nearest.duration_until_reset.as_ref().map_or(0, |length| length.seconds);
    Some((text, nearest.limit_remaining, reset))
}

fn seconds(unit: i32) -> Option<u32> {
    match Unit::try_from(unit) {
        Ok(Unit::Second) => Some(1),
        Ok(Unit::Minute) => Some(60),
        Ok(Unit::Hour) => Some(3600),
        Ok(Unit::Day) => Some(86_400),
        Ok(Unit::Week) => Some(7 * 86_400),
        Ok(Unit::Month) => Some(30 * 86_400),
        Ok(Unit::Year) => Some(365 * 86_400),
        Ok(Unit::Unknown) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_limit_is_told_with_all_of_them() {
        let status = |requests: u32, unit: Unit, remaining: u32, name: &str| DescriptorStatus {
            current_limit: Some(wire::rate_limit_response::RateLimit {
                name: name.into(),
                requests_per_unit: requests,
                unit: unit as i32,
            }),
            limit_remaining: remaining,
            duration_until_reset: Some(prost_types::Duration { seconds: i64::from(remaining), nanos: 0 }),
            ..DescriptorStatus::default()
        };
        let statuses = [
            status(100, Unit::Hour, 50, ""),
            DescriptorStatus::default(),
            status(10, Unit::Minute, 3, "first"),
        ];
        assert_eq!(told(&statuses), Some(("10, 100;w=3600, 10;w=60;name=\"first\"".to_owned(), 3, 3)));
        assert_eq!(told(&[DescriptorStatus::default()]), None);
    }

    #[test]
    fn an_answer_without_a_verdict_is_none() {
        assert_eq!(verdict(&wire::RateLimitResponse::default().encode_to_vec()), None);
        assert_eq!(verdict(b"\xff"), None);
    }
}
