//! Route configurations.

use ringsail_xds::envoy::config::route::v3 as pb;

use super::context::Context;
use super::headers::{Lists, header_edits};
use super::matcher::{header_match, metadata_match, query_match, whole_regex};
use super::metadata::metadata;
use super::mirror::mirrors;
use super::policy::{filter_overrides, retry_policy};
use super::rate_limit;
use super::route_action::action;
use super::tracing::route_tracing;
use super::value::runtime_fraction;
use crate::ids::RouteConfigId;
use crate::limits::{DIRECT_RESPONSE_BODY_BYTES_DEFAULT, ROUTES_INDEXED_FROM};
use crate::route::{
    Conditions, Decorator, Domains, PathIndex, PathMatch, RequireTls, Route, RouteConfig, RouteMatcher,
    VirtualCluster, VirtualHost,
};

/// Compiles a whole configuration under the id it is published with.
pub(super) fn route_config(
    cx: &mut Context<'_>,
    id: RouteConfigId,
    value: &pb::RouteConfiguration,
) -> RouteConfig {
    let body_max = value.max_direct_response_body_size_bytes.unwrap_or(DIRECT_RESPONSE_BODY_BYTES_DEFAULT);
    let headers = header_edits(
        cx,
        &Lists {
            request_add: &value.request_headers_to_add,
            request_remove: &value.request_headers_to_remove,
            response_add: &value.response_headers_to_add,
            response_remove: &value.response_headers_to_remove,
        },
    );
    let filters = filter_overrides(cx, &value.typed_per_filter_config);
    let virtual_hosts =
        cx.each("virtual_hosts", &value.virtual_hosts, |cx, host| virtual_host(cx, host, body_max));
    let domains = domains(cx, &value.virtual_hosts);
    RouteConfig {
        id,
        name: cx.intern(&value.name),
        virtual_hosts,
        internal_only_headers: value.internal_only_headers.iter().map(|name| cx.intern_lower(name)).collect(),
        headers,
        filters,
        most_specific_header_mutations_wins: value.most_specific_header_mutations_wins,
        mirrors: mirrors(cx, &value.request_mirror_policies),
        ignore_port_in_host_matching: value.ignore_port_in_host_matching,
        domains,
    }
}

/// Compat: a domain may be listed once in a route configuration, case ignored.
fn domains(cx: &mut Context<'_>, hosts: &[pb::VirtualHost]) -> Domains {
    let mut table = Domains::default();
    for (index, host) in (0_u32..).zip(hosts) {
        let mark = cx.report.enter(format_args!("virtual_hosts[{index}]"));
        if host.domains.is_empty() {
            cx.report.refuse_at("domains", "is empty");
        }
        cx.each("domains", &host.domains, |cx, domain| {
            let (whole, stripped) = (cx.intern(domain), cx.intern(Domains::strip(domain)));
            match table.insert(whole, stripped, index) {
                Ok(()) => Some(()),
                Err(_) => {
                    cx.refuse("", format_args!("domain {domain:?} is listed twice in this configuration"))
                }
            }
        });
        cx.report.leave(mark);
    }
    table
}

fn virtual_host(cx: &mut Context<'_>, value: &pb::VirtualHost, body_max: u32) -> Option<VirtualHost> {
    use pb::virtual_host::TlsRequirementType;
    if value.name.is_empty() {
        return cx.refuse("name", "is empty");
    }
    let require_tls = match TlsRequirementType::try_from(value.require_tls) {
        Ok(TlsRequirementType::None) => RequireTls::None,
        Ok(TlsRequirementType::ExternalOnly) => RequireTls::External,
        Ok(TlsRequirementType::All) => RequireTls::All,
        Err(_) => return cx.refuse("require_tls", "is not known"),
    };
    let retry = match &value.retry_policy {
        Some(policy) => cx.at("retry_policy", |cx| retry_policy(cx, policy)),
        None => None,
    };
    let headers = header_edits(
        cx,
        &Lists {
            request_add: &value.request_headers_to_add,
            request_remove: &value.request_headers_to_remove,
            response_add: &value.response_headers_to_add,
            response_remove: &value.response_headers_to_remove,
        },
    );
    let routes = cx.each("routes", &value.routes, |cx, value| route(cx, value, body_max));
    Some(VirtualHost {
        name: cx.intern(&value.name),
        domains: value.domains.iter().map(|domain| cx.intern(domain)).collect(),
        index: (routes.len() >= ROUTES_INDEXED_FROM).then(|| PathIndex::new(&routes)),
        routes,
        require_tls,
        headers,
        retry,
        body_kept_max: body_kept_max(value.request_body_buffer_limit, value.per_request_buffer_limit_bytes),
        include_request_attempt_count: value.include_request_attempt_count,
        include_attempt_count_in_response: value.include_attempt_count_in_response,
        filters: filter_overrides(cx, &value.typed_per_filter_config),
        metadata: metadata(cx, value.metadata.as_ref()),
        virtual_clusters: cx.each("virtual_clusters", &value.virtual_clusters, |cx, value| {
            let name = cx.intern(&value.name);
            Some(VirtualCluster { name, headers: cx.each("headers", &value.headers, header_match) })
        }),
        rate_limits: rate_limit::rules(cx, &value.rate_limits),
        mirrors: mirrors(cx, &value.request_mirror_policies),
    })
}

fn route(cx: &mut Context<'_>, value: &pb::Route, body_max: u32) -> Option<Route> {
    let Some(conditions) = &value.r#match else { return cx.refuse("match", "is not set") };
    let matcher = cx.at("match", |cx| route_matcher(cx, conditions))?;
    let headers = header_edits(
        cx,
        &Lists {
            request_add: &value.request_headers_to_add,
            request_remove: &value.request_headers_to_remove,
            response_add: &value.response_headers_to_add,
            response_remove: &value.response_headers_to_remove,
        },
    );
    let decorator = value.decorator.as_ref().map(|decorator| {
        Box::new(Decorator {
            operation: cx.intern(&decorator.operation),
            propagate: decorator.propagate.unwrap_or(true),
        })
    });
    Some(Route {
        name: cx.intern(&value.name),
        action: action(cx, value, body_max)?,
        matcher,
        body_kept_max: body_kept_max(value.request_body_buffer_limit, value.per_request_buffer_limit_bytes),
        headers,
        decorator,
        tracing: match &value.tracing {
            Some(settings) => Some(Box::new(cx.at("tracing", |cx| route_tracing(cx, settings))?)),
            None => None,
        },
        filters: filter_overrides(cx, &value.typed_per_filter_config),
        metadata: metadata(cx, value.metadata.as_ref()),
    })
}

/// The newer field counts. Bodies of more than 4 GiB are not kept, whatever the limit says.
fn body_kept_max(body_limit: Option<u64>, buffer_limit: Option<u32>) -> Option<u32> {
    body_limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)).or(buffer_limit)
}

fn route_matcher(cx: &mut Context<'_>, value: &pb::RouteMatch) -> Option<RouteMatcher> {
    use pb::route_match::PathSpecifier;
    let ignore_case = value.case_sensitive == Some(false);
    let path = match &value.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => PathMatch::Prefix { prefix: cx.intern(prefix), ignore_case },
        Some(PathSpecifier::Path(path)) => PathMatch::Exact { path: cx.intern(path), ignore_case },
        Some(PathSpecifier::SafeRegex(regex)) => {
            PathMatch::Regex(cx.at("safe_regex", |cx| whole_regex(cx, regex))?)
        }
        Some(PathSpecifier::ConnectMatcher(_)) => PathMatch::Connect,
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            if prefix.len() < 2 || prefix.ends_with('/') || prefix.contains(['?', '#']) {
                return cx.refuse(
                    "path_separated_prefix",
                    format_args!(
                        "{prefix:?} must be longer than one character, without `?`, `#` or a slash at its end"
                    ),
                );
            }
            PathMatch::PathSeparatedPrefix { prefix: cx.intern(prefix), ignore_case }
        }
        Some(PathSpecifier::PathMatchPolicy(_)) => {
            return cx.refuse("path_match_policy", "path-match extensions are not supported");
        }
        None => return cx.refuse("", "has no path condition"),
    };
    Some(RouteMatcher { path, conditions: conditions(cx, value) })
}

fn conditions(cx: &mut Context<'_>, value: &pb::RouteMatch) -> Option<Box<Conditions>> {
    let fraction = match &value.runtime_fraction {
        Some(fraction) => runtime_fraction(cx, "runtime_fraction", fraction),
        None => None,
    };
    let conditions = Conditions {
        headers: cx.each("headers", &value.headers, header_match),
        query: cx.each("query_parameters", &value.query_parameters, query_match),
        fraction,
        grpc: value.grpc.is_some(),
        metadata: cx.each("dynamic_metadata", &value.dynamic_metadata, metadata_match),
    };
    let none = conditions.headers.is_empty()
        && conditions.query.is_empty()
        && conditions.metadata.is_empty()
        && conditions.fraction.is_none()
        && !conditions.grpc;
    (!none).then(|| Box::new(conditions))
}
