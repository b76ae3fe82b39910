//! Rate limits: rules of routes, the local filter, the filter that asks a service.

use std::sync::Arc;
use std::time::Duration;

use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::config::core::v3::grpc_service::TargetSpecifier;
use ringsail_xds::envoy::config::route::v3 as route;
use ringsail_xds::envoy::config::route::v3::rate_limit as wire;
use ringsail_xds::envoy::config::route::v3::rate_limit::action::ActionSpecifier;
use ringsail_xds::envoy::extensions::common::ratelimit::v3 as common;
use ringsail_xds::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit as WireLocal;
use ringsail_xds::envoy::extensions::filters::http::ratelimit::v3 as global;
use ringsail_xds::envoy::r#type::metadata::v3::metadata_key::path_segment::Segment;
use ringsail_xds::envoy::r#type::v3 as types;

use super::context::Context;
use super::headers::header_add;
use super::matcher::{header_match, query_match};
use super::value::{duration, runtime_fraction};
use crate::fraction::Fraction;
use crate::header_ops::HeaderOps;
use crate::limits::RATE_LIMITED_VALUES_MAX;
use crate::rate_limit::{
    Action, ByValue, Clients, DescriptorBucket, GlobalRateLimit, GlobalRateLimitOfRoute, LimitOverride,
    Limiter, LocalRateLimit, Rule, Service, Tokens, VirtualHostRules,
};
use crate::strings::Str;
use crate::token_bucket::TokenBucket;

/// Source: `RateLimit.stage` "between 0 and 10".
const STAGE_MAX: u32 = 10;
/// Source: Envoy refuses to refill more often.
const FILL_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Source: `LocalRateLimit.max_dynamic_descriptors`.
const VALUES_DEFAULT: u32 = 20;
/// Source: `RateLimit.timeout`.
const SERVICE_TIMEOUT_DEFAULT: Duration = Duration::from_millis(20);
const TOO_MANY_REQUESTS: u16 = 429;
const INTERNAL_SERVER_ERROR: u16 = 500;

/// The list at `rate_limits` of a route or virtual host.
///
/// Compat: how much a request counts is said in the settings of the filter only; Envoy passes it over here.
pub(super) fn rules(cx: &mut Context<'_>, list: &[route::RateLimit]) -> Box<[Rule]> {
    cx.each("rate_limits", list, |cx, value| Some(Rule { hits: None, ..rule(cx, value)? }))
}

/// The same list among the settings of a filter.
fn rules_of_filter(cx: &mut Context<'_>, list: &[route::RateLimit]) -> Box<[Rule]> {
    cx.each("rate_limits", list, rule)
}

fn rule(cx: &mut Context<'_>, value: &route::RateLimit) -> Option<Rule> {
    let stage = value.stage.unwrap_or(0);
    if stage > STAGE_MAX {
        return cx.refuse("stage", format_args!("{stage} is not in 0..={STAGE_MAX}"));
    }
    if value.actions.is_empty() {
        return cx.refuse("actions", "is empty");
    }
    let limit = match value.limit.as_ref().and_then(|limit| limit.override_specifier.as_ref()) {
        None => None,
        Some(wire::r#override::OverrideSpecifier::RateLimit(limit)) => {
            Some(LimitOverride { requests: limit.requests_per_unit, unit: limit.unit })
        }
        Some(wire::r#override::OverrideSpecifier::DynamicMetadata(_)) => {
            return cx.refuse(
                "limit.dynamic_metadata",
                "dynamic metadata comes from filters that are not supported",
            );
        }
    };
    Some(Rule {
        stage,
        actions: cx.each("actions", &value.actions, action),
        limit,
        hits: value.hits_addend.as_ref().and_then(|hits| hits.number),
    })
}

fn action(cx: &mut Context<'_>, value: &wire::Action) -> Option<Action> {
    let Some(specifier) = &value.action_specifier else { return cx.refuse("", "names no action") };
    Some(match specifier {
        ActionSpecifier::SourceCluster(_) => Action::SourceCluster,
        ActionSpecifier::DestinationCluster(_) => Action::DestinationCluster,
        ActionSpecifier::RemoteAddress(_) => Action::RemoteAddress,
        ActionSpecifier::RequestHeaders(header) => cx.at("request_headers", |cx| {
            Some(Action::Header {
                name: not_empty(cx, "header_name", &header.header_name.to_ascii_lowercase())?,
                key: not_empty(cx, "descriptor_key", &header.descriptor_key)?,
                skip_if_absent: header.skip_if_absent,
            })
        })?,
        ActionSpecifier::QueryParameters(parameter) => cx.at("query_parameters", |cx| {
            Some(Action::Query {
                name: not_empty(cx, "query_parameter_name", &parameter.query_parameter_name)?,
                key: not_empty(cx, "descriptor_key", &parameter.descriptor_key)?,
                skip_if_absent: parameter.skip_if_absent,
            })
        })?,
        ActionSpecifier::MaskedRemoteAddress(masked) => cx.at("masked_remote_address", |cx| {
            Some(Action::MaskedRemoteAddress {
                v4_len: prefix_len(cx, "v4_prefix_mask_len", masked.v4_prefix_mask_len, 32)?,
                v6_len: prefix_len(cx, "v6_prefix_mask_len", masked.v6_prefix_mask_len, 128)?,
            })
        })?,
        ActionSpecifier::GenericKey(generic) => cx.at("generic_key", |cx| {
            Some(Action::Generic {
                key: key_or(cx, &generic.descriptor_key, "generic_key"),
                value: not_empty(cx, "descriptor_value", &generic.descriptor_value)?,
            })
        })?,
        ActionSpecifier::HeaderValueMatch(matched) => cx.at("header_value_match", |cx| {
            Some(Action::HeadersMatch {
                key: key_or(cx, &matched.descriptor_key, "header_match"),
                value: not_empty(cx, "descriptor_value", &matched.descriptor_value)?,
                expect: matched.expect_match.unwrap_or(true),
                headers: cx.each("headers", &matched.headers, header_match),
            })
        })?,
        ActionSpecifier::QueryParameterValueMatch(matched) => cx.at("query_parameter_value_match", |cx| {
            Some(Action::QueryMatches {
                key: key_or(cx, &matched.descriptor_key, "query_match"),
                value: not_empty(cx, "descriptor_value", &matched.descriptor_value)?,
                expect: matched.expect_match.unwrap_or(true),
                parameters: cx.each("query_parameters", &matched.query_parameters, query_match),
            })
        })?,
        ActionSpecifier::Metadata(metadata) => cx.at("metadata", |cx| of_metadata(cx, metadata))?,
        ActionSpecifier::DynamicMetadata(_) => {
            return cx
                .refuse("dynamic_metadata", "dynamic metadata comes from filters that are not supported");
        }
        ActionSpecifier::Extension(_) => {
            return cx.refuse("extension", "descriptor extensions are not supported");
        }
        ActionSpecifier::RemoteAddressMatch(_) => {
            return cx.refuse("remote_address_match", "matching of client addresses is not supported");
        }
    })
}

fn of_metadata(cx: &mut Context<'_>, value: &wire::action::MetaData) -> Option<Action> {
    if value.source != wire::action::meta_data::Source::RouteEntry as i32 {
        return cx.refuse("source", "only metadata of the route (ROUTE_ENTRY) is supported");
    }
    let Some(place) = &value.metadata_key else { return cx.refuse("metadata_key", "is not set") };
    let path = cx.at("metadata_key", |cx| {
        cx.each("path", &place.path, |cx, segment| match &segment.segment {
            Some(Segment::Key(key)) => Some(cx.intern(key)),
            Some(Segment::Index(_)) | None => cx.refuse("", "is no key"),
        })
    });
    Some(Action::RouteMetadata {
        key: not_empty(cx, "descriptor_key", &value.descriptor_key)?,
        namespace: cx.intern(&place.key),
        path,
        default: cx.intern_set(&value.default_value),
        skip_if_absent: value.skip_if_absent,
    })
}

fn not_empty(cx: &mut Context<'_>, field: &str, text: &str) -> Option<Str> {
    if text.is_empty() {
        return cx.refuse(field, "is empty");
    }
    Some(cx.intern(text))
}

fn key_or(cx: &mut Context<'_>, key: &str, default: &str) -> Str {
    cx.intern(if key.is_empty() { default } else { key })
}

fn prefix_len(cx: &mut Context<'_>, field: &str, value: Option<u32>, max: u8) -> Option<u8> {
    match value.map_or(Ok(max), u8::try_from) {
        Ok(len) if len <= max => Some(len),
        Ok(_) | Err(_) => cx.refuse(field, format_args!("is not in 0..={max}")),
    }
}

/// `None` when the filter does nothing.
pub(super) fn local(cx: &mut Context<'_>, value: &WireLocal) -> Option<Arc<LocalRateLimit>> {
    if value.stat_prefix.is_empty() {
        return cx.refuse("stat_prefix", "is empty");
    }
    if value.stage > STAGE_MAX {
        return cx.refuse("stage", format_args!("{} is not in 0..={STAGE_MAX}", value.stage));
    }
    let enabled = share(cx, "filter_enabled", value.filter_enabled.as_ref())?;
    let enforced = share(cx, "filter_enforced", value.filter_enforced.as_ref())?;
    let bucket = match &value.token_bucket {
        Some(value) => Some(cx.at("token_bucket", |cx| token_bucket(cx, value))?),
        None => None,
    };
    let values_max = value.max_dynamic_descriptors.unwrap_or(VALUES_DEFAULT);
    if !(1..=RATE_LIMITED_VALUES_MAX).contains(&values_max) {
        return cx.refuse("max_dynamic_descriptors", format_args!("is not in 1..={RATE_LIMITED_VALUES_MAX}"));
    }
    let mut descriptors: Vec<_> =
        cx.each("descriptors", &value.descriptors, |cx, value| descriptor(cx, value, values_max)).into();
    descriptors.sort_by(|a, b| a.tokens.per_second().total_cmp(&b.tokens.per_second()));
    let always_general = value.always_consume_default_token_bucket.unwrap_or(true);
    if bucket.is_none() && !descriptors.is_empty() && always_general {
        return cx.refuse("token_bucket", "is not set");
    }
    let virtual_host_rules = match common::VhRateLimitsOptions::try_from(value.vh_rate_limits) {
        Ok(common::VhRateLimitsOptions::Override) => VirtualHostRules::Override,
        Ok(common::VhRateLimitsOptions::Include) => VirtualHostRules::Include,
        Ok(common::VhRateLimitsOptions::Ignore) => VirtualHostRules::Ignore,
        Err(_) => return cx.refuse("vh_rate_limits", "is not known"),
    };
    let limit = LocalRateLimit {
        stat_prefix: cx.intern(&value.stat_prefix),
        enabled,
        enforced,
        limiter: Limiter { bucket, descriptors: descriptors.into(), always_general },
        per_connection: value.local_rate_limit_per_downstream_connection,
        status: error_status(value.status.as_ref(), TOO_MANY_REQUESTS),
        response_headers: additions(cx, "response_headers_to_add", &value.response_headers_to_add),
        request_headers_when_not_enforced: additions(
            cx,
            "request_headers_to_add_when_not_enforced",
            &value.request_headers_to_add_when_not_enforced,
        ),
        ratelimit_headers: ratelimit_headers(cx, value.enable_x_ratelimit_headers)?,
        retry_after: value.enable_retry_after_header,
        resource_exhausted: value.rate_limited_as_resource_exhausted,
        stage: value.stage,
        virtual_host_rules,
        rules: rules_of_filter(cx, &value.rate_limits),
    };
    (limit.enabled.numerator > 0).then(|| Arc::new(limit))
}

/// Compat: without a fraction nothing is counted or refused.
fn share(
    cx: &mut Context<'_>,
    field: &str,
    value: Option<&core::RuntimeFractionalPercent>,
) -> Option<Fraction> {
    match value {
        Some(value) => runtime_fraction(cx, field, value),
        None => Some(Fraction { numerator: 0, denominator: 100 }),
    }
}

fn ratelimit_headers(cx: &mut Context<'_>, value: i32) -> Option<bool> {
    match common::XRateLimitHeadersRfcVersion::try_from(value) {
        Ok(common::XRateLimitHeadersRfcVersion::Off) => Some(false),
        Ok(common::XRateLimitHeadersRfcVersion::DraftVersion03) => Some(true),
        Err(_) => cx.refuse("enable_x_ratelimit_headers", "is not known"),
    }
}

pub(super) fn token_bucket(cx: &mut Context<'_>, value: &types::TokenBucket) -> Option<TokenBucket> {
    let Some(interval) = duration(cx, "fill_interval", &value.fill_interval) else {
        return match value.fill_interval {
            None => cx.refuse("fill_interval", "is not set"),
            Some(_) => None,
        };
    };
    if interval < FILL_INTERVAL_MIN {
        return cx.refuse("fill_interval", "is shorter than 50 ms");
    }
    let per_fill = value.tokens_per_fill.unwrap_or(1);
    if per_fill == 0 {
        return cx.refuse("tokens_per_fill", "is 0");
    }
    Some(TokenBucket::new(value.max_tokens, per_fill, interval))
}

fn descriptor(
    cx: &mut Context<'_>,
    value: &common::LocalRateLimitDescriptor,
    values_max: u32,
) -> Option<DescriptorBucket> {
    if value.entries.is_empty() {
        return cx.refuse("entries", "is empty");
    }
    let entries = cx.each("entries", &value.entries, |cx, entry| {
        Some((not_empty(cx, "key", &entry.key)?, cx.intern(&entry.value)))
    });
    let Some(bucket) = &value.token_bucket else { return cx.refuse("token_bucket", "is not set") };
    let bucket = cx.at("token_bucket", |cx| token_bucket(cx, bucket))?;
    let tokens = if entries.iter().any(|(_, value)| value.is_empty()) {
        Tokens::ByValue(ByValue::new(bucket, values_max))
    } else {
        Tokens::Shared(bucket)
    };
    Some(DescriptorBucket { entries, tokens })
}

fn additions(cx: &mut Context<'_>, field: &str, list: &[core::HeaderValueOption]) -> HeaderOps {
    HeaderOps { remove: Box::default(), add: cx.each(field, list, header_add) }
}

/// Compat: a status below 400 counts as not set.
fn error_status(value: Option<&types::HttpStatus>, default: u16) -> u16 {
    let code = value.and_then(|status| u16::try_from(status.code).ok());
    code.filter(|code| (400..600).contains(code)).unwrap_or(default)
}

/// The filter that asks a service.
pub(super) fn global(cx: &mut Context<'_>, value: &global::RateLimit) -> Option<Arc<GlobalRateLimit>> {
    let domain = not_empty(cx, "domain", &value.domain)?;
    if value.stage > STAGE_MAX {
        return cx.refuse("stage", format_args!("{} is not in 0..={STAGE_MAX}", value.stage));
    }
    let clients = match value.request_type.as_str() {
        "" | "both" => Clients::Both,
        "internal" => Clients::Internal,
        "external" => Clients::External,
        _ => return cx.refuse("request_type", "is none of internal, external and both"),
    };
    let grpc = value.rate_limit_service.as_ref().and_then(|service| service.grpc_service.as_ref());
    let Some(grpc) = grpc else { return cx.refuse("rate_limit_service.grpc_service", "is not set") };
    let all = |cx: &mut Context<'_>, field: &str, value: Option<&core::RuntimeFractionalPercent>| match value
    {
        Some(value) => runtime_fraction(cx, field, value),
        None => Some(Fraction::ALL),
    };
    let limit = GlobalRateLimit {
        domain,
        stage: value.stage,
        clients,
        service: cx.at("rate_limit_service.grpc_service", |cx| service(cx, grpc))?,
        timeout: duration(cx, "timeout", &value.timeout).unwrap_or(SERVICE_TIMEOUT_DEFAULT),
        failure_mode_deny: value.failure_mode_deny,
        resource_exhausted: value.rate_limited_as_resource_exhausted,
        ratelimit_headers: ratelimit_headers(cx, value.enable_x_ratelimit_headers)?,
        no_envoy_header: value.disable_x_envoy_ratelimited_header,
        status: error_status(value.rate_limited_status.as_ref(), TOO_MANY_REQUESTS),
        status_on_error: error_status(value.status_on_error.as_ref(), INTERNAL_SERVER_ERROR),
        response_headers: additions(cx, "response_headers_to_add", &value.response_headers_to_add),
        enabled: all(cx, "filter_enabled", value.filter_enabled.as_ref())?,
        enforced: all(cx, "filter_enforced", value.filter_enforced.as_ref())?,
    };
    Some(Arc::new(limit))
}

fn service(cx: &mut Context<'_>, value: &core::GrpcService) -> Option<Service> {
    let Some(TargetSpecifier::EnvoyGrpc(grpc)) = &value.target_specifier else {
        return cx.refuse("envoy_grpc", "is not set");
    };
    if grpc.cluster_name.is_empty() {
        return cx.refuse("envoy_grpc.cluster_name", "is empty");
    }
    let (_, cluster) = cx.cluster(&grpc.cluster_name);
    // The cluster's name stands in for an authority. Istio's names hold bytes that none may have: their host does.
    let host = grpc.cluster_name.rsplit('|').next().unwrap_or_default();
    let authority = cx.intern_set(&grpc.authority).unwrap_or_else(|| cx.intern(host));
    let metadata = cx.each("initial_metadata", &value.initial_metadata, |cx, header| {
        if header.value.contains('%') {
            return cx.refuse("value", "operators are not supported");
        }
        Some((cx.intern_lower(&header.key), cx.intern(&header.value)))
    });
    Some(Service { cluster, authority, metadata })
}

/// What a route says about the filter that asks a service.
pub(super) fn global_of_route(
    cx: &mut Context<'_>,
    value: &global::RateLimitPerRoute,
) -> Option<Arc<GlobalRateLimitOfRoute>> {
    use global::rate_limit_per_route::VhRateLimitsOptions;
    let virtual_host_rules = match VhRateLimitsOptions::try_from(value.vh_rate_limits) {
        Ok(VhRateLimitsOptions::Override) => VirtualHostRules::Override,
        Ok(VhRateLimitsOptions::Include) => VirtualHostRules::Include,
        Ok(VhRateLimitsOptions::Ignore) => VirtualHostRules::Ignore,
        Err(_) => return cx.refuse("vh_rate_limits", "is not known"),
    };
    Some(Arc::new(GlobalRateLimitOfRoute {
        virtual_host_rules,
        rules: rules_of_filter(cx, &value.rate_limits),
        domain: cx.intern_set(&value.domain),
    }))
}
