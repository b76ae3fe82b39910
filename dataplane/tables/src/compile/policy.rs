//! Retry policies and per-route filter settings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost_types::Any;
use ringsail_runtime::lease::Pool;
use ringsail_xds::envoy::config::route::v3 as pb;
use ringsail_xds::envoy::extensions::filters::common::fault::v3 as fault_common;
use ringsail_xds::envoy::extensions::filters::http::buffer::v3::{Buffer, BufferPerRoute, buffer_per_route};
use ringsail_xds::envoy::extensions::filters::http::cors::v3 as cors;
use ringsail_xds::envoy::extensions::filters::http::fault::v3 as fault;
use ringsail_xds::envoy::extensions::filters::http::header_mutation::v3::{
    HeaderMutationPerRoute, Mutations,
};
use ringsail_xds::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use ringsail_xds::envoy::extensions::filters::http::ratelimit::v3::RateLimitPerRoute;
use ringsail_xds::envoy::extensions::filters::http::rbac::v3::RbacPerRoute;
use ringsail_xds::envoy::extensions::retry::host::omit_canary_hosts::v3::OmitCanaryHostsPredicate;
use ringsail_xds::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use ringsail_xds::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;

use super::context::Context;
use super::headers::mutations;
use super::matcher::{header_match, string_match};
use super::rate_limit;
use super::rbac;
use super::value::{duration, fraction, holds, runtime_fraction, timeout, unpack};
use crate::fraction::Fraction;
use crate::header_ops::HeaderMutations;
use crate::policy::{
    AbortStatus, BACK_OFF_BASE, BACK_OFF_MAX_FACTOR, Buffering, CorsPolicy, Fault, FaultAbort, FaultDelay,
    FaultRate, RateLimitedBackOff, ResetFormat, ResetHeader, RetryOn, RetryPolicy,
};
use crate::route::{FilterOverrides, Override};

/// Source: `RateLimitedRetryBackOff.max_interval`.
const RATE_LIMITED_INTERVAL_DEFAULT: Duration = Duration::from_secs(300);

pub(super) fn retry_policy(cx: &mut Context<'_>, value: &pb::RetryPolicy) -> Option<Arc<RetryPolicy>> {
    let mut on = RetryOn::NONE;
    for word in value.retry_on.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match RetryOn::from_word(word) {
            Some(condition) => on = on.with(condition),
            // Compat: Envoy disregards words it does not know; here somebody is told.
            None => cx.report.warn_at("retry_on", format_args!("{word:?} is not known and has no effect")),
        }
    }
    let back_off = value.retry_back_off.as_ref();
    let (base, max) = cx.at("retry_back_off", |cx| {
        let base = back_off.and_then(|value| timeout(cx, "base_interval", &value.base_interval, None));
        (base, back_off.and_then(|value| duration(cx, "max_interval", &value.max_interval)))
    });
    let back_off_base = base.unwrap_or(BACK_OFF_BASE);
    let back_off_max = max.unwrap_or(back_off_base * BACK_OFF_MAX_FACTOR);
    if back_off_max < back_off_base {
        return cx.refuse("retry_back_off.max_interval", "is shorter than base_interval");
    }
    let predicates = cx.each("retry_host_predicate", &value.retry_host_predicate, host_predicate);
    let rate_limited = match &value.rate_limited_retry_back_off {
        Some(value) => Some(cx.at("rate_limited_retry_back_off", |cx| rate_limited(cx, value))?),
        None => None,
    };
    let avoid_previous_priorities = match &value.retry_priority {
        Some(value) => Some(cx.at("retry_priority", |cx| retry_priority(cx, value))?),
        None => None,
    };
    Some(Arc::new(RetryPolicy {
        on,
        retries_max: value.num_retries.unwrap_or(1),
        per_try_timeout: timeout(cx, "per_try_timeout", &value.per_try_timeout, None),
        per_try_idle_timeout: timeout(cx, "per_try_idle_timeout", &value.per_try_idle_timeout, None),
        status_codes: cx.each("retriable_status_codes", &value.retriable_status_codes, |cx, code| {
            match u16::try_from(*code) {
                Ok(code) => Some(code),
                Err(_) => cx.refuse("", format_args!("{code} is no status code")),
            }
        }),
        headers: cx.each("retriable_headers", &value.retriable_headers, header_match),
        request_headers: cx.each("retriable_request_headers", &value.retriable_request_headers, header_match),
        back_off_base,
        back_off_max,
        rate_limited,
        avoid_previous_hosts: predicates.contains(&HostPredicate::PreviousHosts),
        avoid_canary_hosts: predicates.contains(&HostPredicate::OmitCanaryHosts),
        avoid_previous_priorities,
        host_selection_attempts_max: u32::try_from(value.host_selection_retry_max_attempts)
            .ok()
            .filter(|attempts| *attempts > 0)
            .unwrap_or(1),
    }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HostPredicate {
    PreviousHosts,
    OmitCanaryHosts,
}

fn host_predicate(
    cx: &mut Context<'_>,
    value: &pb::retry_policy::RetryHostPredicate,
) -> Option<HostPredicate> {
    use pb::retry_policy::retry_host_predicate::ConfigType;
    match &value.config_type {
        Some(ConfigType::TypedConfig(any)) if holds::<PreviousHostsPredicate>(any) => {
            Some(HostPredicate::PreviousHosts)
        }
        Some(ConfigType::TypedConfig(any)) if holds::<OmitCanaryHostsPredicate>(any) => {
            Some(HostPredicate::OmitCanaryHosts)
        }
        None if value.name == "envoy.retry_host_predicates.previous_hosts" => {
            Some(HostPredicate::PreviousHosts)
        }
        Some(_) | None => cx.refuse("", format_args!("host predicate {:?} is not supported", value.name)),
    }
}

/// After how many attempts their priorities are left out.
fn retry_priority(cx: &mut Context<'_>, value: &pb::retry_policy::RetryPriority) -> Option<u32> {
    use pb::retry_policy::retry_priority::ConfigType;
    let Some(ConfigType::TypedConfig(any)) = &value.config_type else {
        return cx.refuse("typed_config", "is not set");
    };
    let config = unpack::<PreviousPrioritiesConfig>(cx, any)?;
    match u32::try_from(config.update_frequency) {
        Ok(frequency) if frequency > 0 => Some(frequency),
        Ok(_) | Err(_) => cx.refuse("typed_config.update_frequency", "is not positive"),
    }
}

fn rate_limited(
    cx: &mut Context<'_>,
    value: &pb::retry_policy::RateLimitedRetryBackOff,
) -> Option<RateLimitedBackOff> {
    use pb::retry_policy::ResetHeaderFormat;
    if value.reset_headers.is_empty() {
        return cx.refuse("reset_headers", "is empty");
    }
    let headers = cx.each("reset_headers", &value.reset_headers, |cx, header| {
        if header.name.is_empty() {
            return cx.refuse("name", "is empty");
        }
        let format = match ResetHeaderFormat::try_from(header.format) {
            Ok(ResetHeaderFormat::Seconds) => ResetFormat::Seconds,
            Ok(ResetHeaderFormat::UnixTimestamp) => ResetFormat::UnixTimestamp,
            Err(_) => return cx.refuse("format", "is not known"),
        };
        Some(ResetHeader { name: cx.intern_lower(&header.name), format })
    });
    let interval_max = duration(cx, "max_interval", &value.max_interval);
    Some(RateLimitedBackOff { headers, interval_max: interval_max.unwrap_or(RATE_LIMITED_INTERVAL_DEFAULT) })
}

/// Settings of filters on a virtual host, route or weighted cluster.
pub(super) fn filter_overrides(
    cx: &mut Context<'_>,
    configs: &BTreeMap<String, Any>,
) -> Option<Box<FilterOverrides>> {
    let mut overrides = FilterOverrides::default();
    let mut access = Vec::new();
    for (name, any) in configs {
        let mark = cx.report.enter(format_args!("typed_per_filter_config[{name:?}]"));
        if holds::<fault::HttpFault>(any) {
            let settings = unpack(cx, any).and_then(|value| fault_settings(cx, &value));
            overrides.fault = settings.map_or(Override::Disabled, Override::Set);
        } else if holds::<cors::CorsPolicy>(any) {
            let settings = unpack(cx, any).and_then(|value| cors_policy(cx, &value));
            overrides.cors = settings.map_or(Override::Disabled, Override::Set);
        } else if holds::<LocalRateLimit>(any) {
            let settings = unpack(cx, any).and_then(|value| rate_limit::local(cx, &value));
            overrides.local_rate_limit = settings.map_or(Override::Disabled, Override::Set);
        } else if holds::<RateLimitPerRoute>(any) {
            let settings = unpack(cx, any).and_then(|value| rate_limit::global_of_route(cx, &value));
            overrides.rate_limit = settings.map_or(Override::Inherit, Override::Set);
        } else if holds::<BufferPerRoute>(any) {
            let value: Option<BufferPerRoute> = unpack(cx, any);
            overrides.buffer = match value.and_then(|value| value.r#override) {
                Some(buffer_per_route::Override::Disabled(true)) => Override::Disabled,
                Some(buffer_per_route::Override::Buffer(value)) => {
                    cx.at("buffer", |cx| buffering(cx, &value)).map_or(Override::Inherit, Override::Set)
                }
                Some(buffer_per_route::Override::Disabled(false)) | None => {
                    cx.report.refuse("neither switches the filter off nor sets it");
                    Override::Inherit
                }
            };
        } else if holds::<HeaderMutationPerRoute>(any) {
            let value: Option<HeaderMutationPerRoute> = unpack(cx, any);
            let mutations = value.map(|value| header_mutations(cx, value.mutations.as_ref()));
            overrides.mutations = mutations.map_or(Override::Inherit, |all| Override::Set(Arc::new(all)));
        } else if holds::<RbacPerRoute>(any) {
            let value: Option<RbacPerRoute> = unpack(cx, any);
            let settings = value.and_then(|value| rbac::of_route(cx, &value));
            let settings = settings.map_or(Override::Disabled, Override::Set);
            access.push((cx.intern(name), settings));
        }
        cx.report.leave(mark);
    }
    overrides.rbac = access.into();
    (!configs.is_empty()).then(|| Box::new(overrides))
}

/// The buffer filter.
pub(super) fn buffering(cx: &mut Context<'_>, value: &Buffer) -> Option<Arc<Buffering>> {
    match value.max_request_bytes {
        Some(bytes_max) if bytes_max > 0 => Some(Arc::new(Buffering { bytes_max })),
        Some(_) | None => cx.refuse("max_request_bytes", "is not set"),
    }
}

/// Both directions of the header mutation filter.
pub(super) fn header_mutations(cx: &mut Context<'_>, value: Option<&Mutations>) -> HeaderMutations {
    let Some(value) = value else { return HeaderMutations::default() };
    cx.at("mutations", |cx| HeaderMutations {
        request: mutations(cx, "request_mutations", &value.request_mutations),
        response: mutations(cx, "response_mutations", &value.response_mutations),
    })
}

/// `None` when the settings inject nothing.
pub(super) fn fault_settings(cx: &mut Context<'_>, value: &fault::HttpFault) -> Option<Arc<Fault>> {
    let delay = match &value.delay {
        Some(value) => cx.at("delay", |cx| fault_delay(cx, value)),
        None => None,
    };
    let abort = match &value.abort {
        Some(value) => cx.at("abort", |cx| fault_abort(cx, value)),
        None => None,
    };
    let response_rate = match &value.response_rate_limit {
        Some(value) => cx.at("response_rate_limit", |cx| fault_rate(cx, value)),
        None => None,
    };
    if delay.is_none() && abort.is_none() && response_rate.is_none() {
        return None;
    }
    Some(Arc::new(Fault {
        delay,
        abort,
        headers: cx.each("headers", &value.headers, header_match),
        upstream_cluster: cx.intern(&value.upstream_cluster),
        downstream_nodes: value.downstream_nodes.iter().map(|node| cx.intern(node)).collect(),
        response_rate,
        active_faults: value.max_active_faults.map(|max| Arc::new(Pool::new(max))),
    }))
}

fn fault_delay(cx: &mut Context<'_>, value: &fault_common::FaultDelay) -> Option<FaultDelay> {
    use fault_common::fault_delay::FaultDelaySecifier;
    let delay = match &value.fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(delay)) => Some(duration(cx, "fixed_delay", &Some(*delay))?),
        Some(FaultDelaySecifier::HeaderDelay(_)) => None,
        None => return cx.refuse("fixed_delay", "is not set"),
    };
    Some(FaultDelay { duration: delay, share: share(cx, value.percentage.as_ref())? })
}

fn fault_rate(cx: &mut Context<'_>, value: &fault_common::FaultRateLimit) -> Option<FaultRate> {
    use fault_common::fault_rate_limit::LimitType;
    let kib_per_second = match &value.limit_type {
        Some(LimitType::FixedLimit(limit)) if limit.limit_kbps > 0 => Some(limit.limit_kbps),
        Some(LimitType::FixedLimit(_)) => return cx.refuse("fixed_limit.limit_kbps", "is 0"),
        Some(LimitType::HeaderLimit(_)) => None,
        None => return cx.refuse("", "names no limit"),
    };
    Some(FaultRate { kib_per_second, share: share(cx, value.percentage.as_ref())? })
}

fn fault_abort(cx: &mut Context<'_>, value: &fault::FaultAbort) -> Option<FaultAbort> {
    use fault::fault_abort::ErrorType;
    let status = match &value.error_type {
        Some(ErrorType::HttpStatus(status)) => match u16::try_from(*status) {
            Ok(status) if (200..600).contains(&status) => Some(AbortStatus::Http(status)),
            Ok(_) | Err(_) => return cx.refuse("http_status", format_args!("{status} is not in 200..600")),
        },
        Some(ErrorType::GrpcStatus(status)) => Some(AbortStatus::Grpc(*status)),
        Some(ErrorType::HeaderAbort(_)) => None,
        None => return cx.refuse("", "names no status"),
    };
    Some(FaultAbort { status, share: share(cx, value.percentage.as_ref())? })
}

fn share(
    cx: &mut Context<'_>,
    value: Option<&ringsail_xds::envoy::r#type::v3::FractionalPercent>,
) -> Option<Fraction> {
    match value {
        Some(value) => fraction(cx, "percentage", value),
        None => Some(Fraction { numerator: 0, denominator: 100 }),
    }
}

fn cors_policy(cx: &mut Context<'_>, value: &cors::CorsPolicy) -> Option<Arc<CorsPolicy>> {
    let enabled = match &value.filter_enabled {
        Some(value) => runtime_fraction(cx, "filter_enabled", value)?,
        None => Fraction::ALL,
    };
    let shadow = match &value.shadow_enabled {
        Some(value) => runtime_fraction(cx, "shadow_enabled", value)?,
        None => Fraction { numerator: 0, denominator: 100 },
    };
    Some(Arc::new(CorsPolicy {
        allow_origins: cx.each("allow_origin_string_match", &value.allow_origin_string_match, string_match),
        allow_methods: cx.intern(&value.allow_methods),
        allow_headers: cx.intern(&value.allow_headers),
        expose_headers: cx.intern(&value.expose_headers),
        max_age: cx.intern(&value.max_age),
        allow_credentials: value.allow_credentials.unwrap_or(false),
        allow_private_network_access: value.allow_private_network_access.unwrap_or(false),
        forward_not_matching_preflights: value.forward_not_matching_preflights.unwrap_or(true),
        enabled,
        shadow,
    }))
}
