//! What routes do.

use std::sync::Arc;
use std::time::Duration;

use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::config::route::v3 as pb;

use super::context::Context;
use super::hash_policy::hash_policy;
use super::headers::{Lists, header_edits};
use super::internal_redirect::internal_redirects;
use super::local_reply::{body_format, text};
use super::matcher::regex_rewrite;
use super::mirror::mirrors;
use super::policy::{filter_overrides, retry_policy};
use super::rate_limit;
use super::subset::criteria;
use super::value::{duration, port, timeout};
use crate::route::{
    Action, ClusterChoice, DirectResponse, Forward, HostRewrite, MaxStreamDuration, PathRewrite, Redirect,
    Upgrade, ValueFrom, WeightedCluster, WeightedClusters,
};
use crate::subset::Criteria;

/// Source: `RouteAction.timeout`.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);

pub(super) fn action(cx: &mut Context<'_>, value: &pb::Route, body_max: u32) -> Option<Action> {
    Some(match &value.action {
        Some(pb::route::Action::Route(value)) => {
            Action::Forward(Box::new(cx.at("route", |cx| forward(cx, value))?))
        }
        Some(pb::route::Action::Redirect(value)) => {
            Action::Redirect(Box::new(cx.at("redirect", |cx| redirect(cx, value))?))
        }
        Some(pb::route::Action::DirectResponse(value)) => Action::DirectResponse(Box::new(
            cx.at("direct_response", |cx| direct_response(cx, value, body_max))?,
        )),
        Some(pb::route::Action::FilterAction(_) | pb::route::Action::NonForwardingAction(_)) | None => {
            return cx.refuse("", "has no action (route, redirect or direct_response)");
        }
    })
}

fn forward(cx: &mut Context<'_>, value: &pb::RouteAction) -> Option<Forward> {
    use pb::route_action::ClusterNotFoundResponseCode;
    let cluster_not_found_status =
        match ClusterNotFoundResponseCode::try_from(value.cluster_not_found_response_code) {
            Ok(ClusterNotFoundResponseCode::ServiceUnavailable) => 503,
            Ok(ClusterNotFoundResponseCode::NotFound) => 404,
            Ok(ClusterNotFoundResponseCode::InternalServerError) => 500,
            Err(_) => return cx.refuse("cluster_not_found_response_code", "is not known"),
        };
    let retry = match &value.retry_policy {
        Some(policy) => Some(cx.at("retry_policy", |cx| retry_policy(cx, policy))?),
        None => None,
    };
    let max_stream_duration = value
        .max_stream_duration
        .as_ref()
        .map(|value| cx.at("max_stream_duration", |cx| max_stream_duration(cx, value)));
    let subset = cx.at("metadata_match", |cx| criteria(cx, value.metadata_match.as_ref(), None));
    Some(Forward {
        cluster: cluster_choice(cx, value, subset.as_ref())?,
        subset,
        cluster_not_found_status,
        timeout: timeout(cx, "timeout", &value.timeout, Some(TIMEOUT_DEFAULT)),
        idle_timeout: duration(cx, "idle_timeout", &value.idle_timeout),
        grpc_timeout_max: duration(cx, "max_grpc_timeout", &value.max_grpc_timeout),
        max_stream_duration,
        path_rewrite: path_rewrite(cx, &value.prefix_rewrite, value.regex_rewrite.as_ref())?,
        host_rewrite: host_rewrite(cx, value)?,
        append_x_forwarded_host: value.append_x_forwarded_host,
        retry,
        high_priority: value.priority == core::RoutingPriority::High as i32,
        upgrades: cx.each("upgrade_configs", &value.upgrade_configs, upgrade),
        mirrors: mirrors(cx, &value.request_mirror_policies),
        hash: cx.each("hash_policy", &value.hash_policy, hash_policy),
        rate_limits: rate_limit::rules(cx, &value.rate_limits),
        include_virtual_host_rate_limits: value.include_vh_rate_limits.unwrap_or(false),
        internal_redirects: match &value.internal_redirect_policy {
            Some(policy) => {
                Some(Box::new(cx.at("internal_redirect_policy", |cx| internal_redirects(cx, policy))?))
            }
            None => None,
        },
    })
}

fn cluster_choice(
    cx: &mut Context<'_>,
    value: &pb::RouteAction,
    subset: Option<&Arc<Criteria>>,
) -> Option<ClusterChoice> {
    use pb::route_action::ClusterSpecifier;
    match &value.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => named(cx, "cluster", name),
        Some(ClusterSpecifier::ClusterHeader(name)) => header_named(cx, name),
        Some(ClusterSpecifier::WeightedClusters(value)) => {
            let clusters = cx.at("weighted_clusters", |cx| weighted_clusters(cx, value, subset))?;
            Some(ClusterChoice::Weighted(clusters))
        }
        Some(
            ClusterSpecifier::ClusterSpecifierPlugin(_) | ClusterSpecifier::InlineClusterSpecifierPlugin(_),
        ) => cx.refuse("", "cluster specifier plugins are not supported"),
        None => cx.refuse("", "names no cluster"),
    }
}

pub(super) fn named(cx: &mut Context<'_>, field: &str, name: &str) -> Option<ClusterChoice> {
    if name.is_empty() {
        return cx.refuse(field, "is empty");
    }
    let (name, slot) = cx.cluster(name);
    Some(ClusterChoice::Named { name, slot })
}

pub(super) fn header_named(cx: &mut Context<'_>, name: &str) -> Option<ClusterChoice> {
    if name.is_empty() {
        return cx.refuse("cluster_header", "is empty");
    }
    Some(ClusterChoice::Header(cx.intern_lower(name)))
}

fn weighted_clusters(
    cx: &mut Context<'_>,
    value: &pb::WeightedCluster,
    subset: Option<&Arc<Criteria>>,
) -> Option<WeightedClusters> {
    use pb::weighted_cluster::RandomValueSpecifier;
    let clusters = cx.each("clusters", &value.clusters, |cx, value| weighted_cluster(cx, value, subset));
    if clusters.is_empty() {
        return cx.refuse("clusters", "is empty");
    }
    let sum: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    let Some(total_weight) = u32::try_from(sum).ok().filter(|sum| *sum > 0) else {
        return cx
            .refuse("clusters", format_args!("weights add up to {sum}, which is not in 1..=4294967295"));
    };
    if value.total_weight.is_some_and(|wanted| wanted > 0 && wanted != total_weight) {
        return cx.refuse("total_weight", format_args!("weights add up to {total_weight}"));
    }
    let value_from = match &value.random_value_specifier {
        Some(RandomValueSpecifier::HeaderName(name)) => ValueFrom::Header(cx.intern_lower(name)),
        Some(RandomValueSpecifier::UseHashPolicy(true)) => ValueFrom::HashPolicy,
        Some(RandomValueSpecifier::UseHashPolicy(false)) | None => ValueFrom::Chance,
    };
    Some(WeightedClusters { clusters, total_weight, value_from })
}

fn weighted_cluster(
    cx: &mut Context<'_>,
    value: &pb::weighted_cluster::ClusterWeight,
    subset: Option<&Arc<Criteria>>,
) -> Option<WeightedCluster> {
    use pb::weighted_cluster::cluster_weight::HostRewriteSpecifier;
    let cluster = match (value.name.as_str(), value.cluster_header.as_str()) {
        ("", "") => return cx.refuse("name", "is empty"),
        (name, "") => named(cx, "name", name)?,
        ("", header) => header_named(cx, header)?,
        (_, _) => return cx.refuse("cluster_header", "excludes name"),
    };
    let Some(weight) = value.weight else { return cx.refuse("weight", "is not set") };
    let headers = header_edits(
        cx,
        &Lists {
            request_add: &value.request_headers_to_add,
            request_remove: &value.request_headers_to_remove,
            response_add: &value.response_headers_to_add,
            response_remove: &value.response_headers_to_remove,
        },
    );
    let host_rewrite = value
        .host_rewrite_specifier
        .as_ref()
        .and_then(|HostRewriteSpecifier::HostRewriteLiteral(host)| cx.intern_set(host));
    let filters = filter_overrides(cx, &value.typed_per_filter_config);
    let subset = cx.at("metadata_match", |cx| criteria(cx, value.metadata_match.as_ref(), subset));
    Some(WeightedCluster { cluster, weight, headers, host_rewrite, filters, subset })
}

fn path_rewrite(
    cx: &mut Context<'_>,
    prefix: &str,
    regex: Option<&ringsail_xds::envoy::r#type::matcher::v3::RegexMatchAndSubstitute>,
) -> Option<PathRewrite> {
    match (prefix, regex) {
        ("", None) => Some(PathRewrite::Keep),
        (prefix, None) => Some(PathRewrite::Prefix(cx.intern(prefix))),
        ("", Some(value)) => Some(PathRewrite::Regex(cx.at("regex_rewrite", |cx| regex_rewrite(cx, value))?)),
        (_, Some(_)) => cx.refuse("regex_rewrite", "excludes prefix_rewrite"),
    }
}

fn host_rewrite(cx: &mut Context<'_>, value: &pb::RouteAction) -> Option<HostRewrite> {
    use pb::route_action::HostRewriteSpecifier;
    Some(match &value.host_rewrite_specifier {
        None | Some(HostRewriteSpecifier::AutoHostRewrite(false)) => HostRewrite::Keep,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => match cx.intern_set(host) {
            Some(host) => HostRewrite::Literal(host),
            None => HostRewrite::Keep,
        },
        Some(HostRewriteSpecifier::AutoHostRewrite(true)) => HostRewrite::Endpoint,
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => HostRewrite::Header(cx.intern_lower(name)),
        Some(HostRewriteSpecifier::HostRewritePathRegex(value)) => {
            HostRewrite::PathRegex(cx.at("host_rewrite_path_regex", |cx| regex_rewrite(cx, value))?)
        }
        Some(HostRewriteSpecifier::HostRewrite(_)) => {
            return cx.refuse("host_rewrite", "rewrite formats are not supported");
        }
    })
}

fn max_stream_duration(
    cx: &mut Context<'_>,
    value: &pb::route_action::MaxStreamDuration,
) -> MaxStreamDuration {
    MaxStreamDuration {
        max: duration(cx, "max_stream_duration", &value.max_stream_duration),
        grpc_timeout_header_max: duration(cx, "grpc_timeout_header_max", &value.grpc_timeout_header_max),
        grpc_timeout_header_offset: duration(
            cx,
            "grpc_timeout_header_offset",
            &value.grpc_timeout_header_offset,
        )
        .unwrap_or_default(),
    }
}

fn upgrade(cx: &mut Context<'_>, value: &pb::route_action::UpgradeConfig) -> Option<Upgrade> {
    let kind = cx.intern_lower(&value.upgrade_type);
    if value.connect_config.is_some() && kind != "connect" {
        return cx.refuse("connect_config", "needs upgrade_type CONNECT");
    }
    Some(Upgrade {
        kind,
        enabled: value.enabled.unwrap_or(true),
        terminate_connect: value.connect_config.is_some(),
    })
}

fn redirect(cx: &mut Context<'_>, value: &pb::RedirectAction) -> Option<Redirect> {
    use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let status = match RedirectResponseCode::try_from(value.response_code) {
        Ok(RedirectResponseCode::MovedPermanently) => 301,
        Ok(RedirectResponseCode::Found) => 302,
        Ok(RedirectResponseCode::SeeOther) => 303,
        Ok(RedirectResponseCode::TemporaryRedirect) => 307,
        Ok(RedirectResponseCode::PermanentRedirect) => 308,
        Err(_) => return cx.refuse("response_code", "is not known"),
    };
    let path = match &value.path_rewrite_specifier {
        None => PathRewrite::Keep,
        Some(PathRewriteSpecifier::PathRedirect(path)) if path.is_empty() => PathRewrite::Keep,
        Some(PathRewriteSpecifier::PathRedirect(path)) => PathRewrite::Whole(cx.intern(path)),
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => path_rewrite(cx, prefix, None)?,
        Some(PathRewriteSpecifier::RegexRewrite(regex)) => path_rewrite(cx, "", Some(regex))?,
        Some(PathRewriteSpecifier::PathRewrite(_)) => {
            return cx.refuse("path_rewrite", "rewrite formats are not supported");
        }
    };
    Some(Redirect {
        status,
        scheme: match &value.scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some(cx.intern("https")),
            Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => cx.intern_set(scheme),
        },
        host: cx.intern_set(&value.host_redirect),
        port: match value.port_redirect {
            0 => None,
            number => Some(port(cx, "port_redirect", number)?),
        },
        path,
        strip_query: value.strip_query,
    })
}

fn direct_response(
    cx: &mut Context<'_>,
    value: &pb::DirectResponseAction,
    body_max: u32,
) -> Option<DirectResponse> {
    let Some(status) = u16::try_from(value.status).ok().filter(|status| (200..600).contains(status)) else {
        return cx.refuse("status", format_args!("{} is not in 200..600", value.status));
    };
    let body = match &value.body {
        None => Box::default(),
        Some(source) => text(cx, "body", source, u32::MAX)?,
    };
    if body.len() > body_max as usize {
        return cx.refuse(
            "body",
            format_args!("{} bytes exceed max_direct_response_body_size_bytes ({body_max})", body.len()),
        );
    }
    let format = match &value.body_format {
        Some(format) => Some(cx.at("body_format", |cx| body_format(cx, format))?),
        None => None,
    };
    Some(DirectResponse { status, body, format })
}
