//! Per-route settings of HTTP filters: fault injection and CORS.

use std::time::Duration;

use prost_types::Any;
use ringsail_api::networking::cors_policy::UnmatchedPreflights;
use ringsail_api::networking::http_fault_injection::{Abort, Delay, abort, delay};
use ringsail_api::networking::string_match::MatchType;
use ringsail_api::networking::{CorsPolicy, HttpFaultInjection, Percent, StringMatch};
use ringsail_xds::envoy::config::core::v3::RuntimeFractionalPercent;
use ringsail_xds::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay};
use ringsail_xds::envoy::extensions::filters::http::cors::v3::CorsPolicy as EnvoyCorsPolicy;
use ringsail_xds::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort};
use ringsail_xds::envoy::r#type::v3::FractionalPercent;
use ringsail_xds::pack;

use super::matching;
use crate::xds;

/// Key of the fault filter in a chain and in routes.
pub(crate) const FAULT: &str = "envoy.filters.http.fault";
/// Key of the CORS filter in a chain and in routes.
pub(crate) const CORS: &str = "envoy.filters.http.cors";

/// Fault injection of a route; `None` when it injects nothing.
pub(crate) fn fault(declared: &HttpFaultInjection) -> Option<Any> {
    let fault = HttpFault {
        delay: declared.delay.as_ref().and_then(fault_delay),
        abort: declared.abort.as_ref().and_then(fault_abort),
        ..HttpFault::default()
    };
    (fault.delay.is_some() || fault.abort.is_some()).then(|| pack(&fault))
}

#[allow(deprecated)]
fn fault_delay(declared: &Delay) -> Option<FaultDelay> {
    let Some(delay::HttpDelayType::FixedDelay(fixed)) = declared.http_delay_type else { return None };
    Some(FaultDelay {
        percentage: Some(share(declared.percentage, declared.percent)),
        fault_delay_secifier: Some(fault_delay::FaultDelaySecifier::FixedDelay(fixed)),
    })
}

fn fault_abort(declared: &Abort) -> Option<FaultAbort> {
    let kind = match declared.error_type.as_ref()? {
        abort::ErrorType::HttpStatus(status) => {
            fault_abort::ErrorType::HttpStatus(u32::try_from(*status).ok()?)
        }
        abort::ErrorType::GrpcStatus(name) => fault_abort::ErrorType::GrpcStatus(grpc_status(name)?),
        abort::ErrorType::Http2Error(_) => return None,
    };
    Some(FaultAbort {
        percentage: Some(share(declared.percentage, 0)),
        error_type: Some(kind),
        ..FaultAbort::default()
    })
}

/// `percentage`, or the deprecated whole number.
fn share(percentage: Option<Percent>, whole: i32) -> FractionalPercent {
    xds::percent(percentage.map_or(f64::from(whole), |percentage| percentage.value))
}

/// Number of a gRPC status by its name.
fn grpc_status(name: &str) -> Option<u32> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.iter().position(|known| *known == name).and_then(|index| u32::try_from(index).ok())
}

/// CORS settings of a route.
#[allow(deprecated)]
pub(crate) fn cors(declared: &CorsPolicy) -> Any {
    let exact = |origin: &String| StringMatch { match_type: Some(MatchType::Exact(origin.clone())) };
    let mut origins: Vec<StringMatch> = declared.allow_origins.clone();
    origins.extend(declared.allow_origin.iter().map(exact));
    pack(&EnvoyCorsPolicy {
        allow_origin_string_match: origins.iter().filter_map(matching::string_matcher).collect(),
        allow_methods: declared.allow_methods.join(","),
        allow_headers: declared.allow_headers.join(","),
        expose_headers: declared.expose_headers.join(","),
        max_age: declared
            .max_age
            .and_then(|age| Duration::try_from(age).ok())
            .map(|age| age.as_secs().to_string())
            .unwrap_or_default(),
        allow_credentials: declared.allow_credentials,
        filter_enabled: Some(RuntimeFractionalPercent {
            default_value: Some(FractionalPercent { numerator: 100, denominator: 0 }),
            ..RuntimeFractionalPercent::default()
        }),
        forward_not_matching_preflights: match declared.unmatched_preflights() {
            UnmatchedPreflights::Unspecified => None,
            UnmatchedPreflights::Forward => Some(true),
            UnmatchedPreflights::Ignore => Some(false),
        },
        ..EnvoyCorsPolicy::default()
    })
}
