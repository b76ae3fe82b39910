//! HTTP connection managers.

use std::sync::Arc;
use std::time::Duration;

use ringsail_tls::settings::Alpn;
use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::extensions::filters::http;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use ringsail_xds::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use ringsail_xds::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use ringsail_xds::io::istio::http::peer_metadata::Config;
use ringsail_xds::istio::envoy::config::filter::http::alpn::v2alpha1::FilterConfig;
use ringsail_xds::istio::envoy::config::filter::http::alpn::v2alpha1::filter_config::Protocol;
use ringsail_xds::stats::PluginConfig;

use super::access_log::access_logs;
use super::context::Context;
use super::http2::http2_settings;
use super::istio;
use super::local_reply::local_replies;
use super::policy::{buffering, fault_settings, header_mutations};
use super::rate_limit;
use super::rbac;
use super::route::route_config;
use super::tracing::tracing;
use super::value::{cidr, duration, holds, plain, timeout, unpack};
use crate::access_log::LogMoments;
use crate::hcm::{
    ClientCertDetails, Codec, EscapedSlashes, ForwardClientCert, GrpcMethods, GrpcStats,
    HttpConnectionManager, HttpFilter, PathNormalization, RequestIds, Router, ServerHeader, StripPort,
    UnderscoreHeaders, UpstreamAlpn,
};
use crate::header_ops::MutationFilter;
use crate::ids::RouteConfigId;
use crate::istio::IstioStats;
use crate::route::Upgrade;

/// Source: `HttpProtocolOptions.idle_timeout`.
pub(super) const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3600);
/// Source: `HttpConnectionManager.stream_idle_timeout`.
const STREAM_IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);
/// Source: `HttpConnectionManager.drain_timeout`.
const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Source: `HttpConnectionManager.delayed_close_timeout`.
const DELAYED_CLOSE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
/// Source: `HttpConnectionManager.max_request_headers_kb`; its largest value is 8192.
const REQUEST_HEAD_KIB_DEFAULT: u32 = 60;
const REQUEST_HEAD_KIB_MAX: u32 = 8192;
/// Source: `HttpProtocolOptions.max_headers_count`.
pub(super) const HEADERS_MAX_DEFAULT: u32 = 100;

/// `inline_key` is the name an inline route configuration keeps its id under.
pub(super) fn connection_manager(
    cx: &mut Context<'_>,
    value: &pb::HttpConnectionManager,
    inline_key: &str,
) -> Option<HttpConnectionManager> {
    if value.stat_prefix.is_empty() {
        return cx.refuse("stat_prefix", "is empty");
    }
    let common = value.common_http_protocol_options.unwrap_or_default();
    let http1 = value.http_protocol_options.clone().unwrap_or_default();
    let request_head_kib = value.max_request_headers_kb.unwrap_or(REQUEST_HEAD_KIB_DEFAULT);
    if !(1..=REQUEST_HEAD_KIB_MAX).contains(&request_head_kib) {
        return cx.refuse("max_request_headers_kb", format_args!("is not in 1..={REQUEST_HEAD_KIB_MAX}"));
    }
    if http1.allow_absolute_url == Some(false) {
        return cx.refuse("http_protocol_options.allow_absolute_url", "cannot be switched off");
    }
    let (internal_addresses, internal_unix_sockets) = match &value.internal_address_config {
        Some(config) => cx.at("internal_address_config", |cx| {
            (cx.each("cidr_ranges", &config.cidr_ranges, cidr), config.unix_sockets)
        }),
        None => (Box::default(), false),
    };
    let (filters, stats, upstream_alpn) = http_filters(cx, &value.http_filters)?;
    let path = "common_http_protocol_options";
    let (idle_timeout, connection_duration_max, stream_duration_max, underscores) = cx.at(path, |cx| {
        (
            timeout(cx, "idle_timeout", &common.idle_timeout, Some(IDLE_TIMEOUT_DEFAULT)),
            timeout(cx, "max_connection_duration", &common.max_connection_duration, None),
            timeout(cx, "max_stream_duration", &common.max_stream_duration, None),
            underscore_headers(cx, common.headers_with_underscores_action),
        )
    });
    Some(HttpConnectionManager {
        stat_prefix: cx.intern(&value.stat_prefix),
        codec: codec(cx, value.codec_type)?,
        http2: value.http2_protocol_options.as_ref().map_or_else(Default::default, |options| {
            cx.at("http2_protocol_options", |cx| http2_settings(cx, options))
        }),
        routes: routes(cx, value, inline_key)?,
        filters,
        stats,
        upstream_alpn,
        server_name: cx.intern(if value.server_name.is_empty() { "envoy" } else { &value.server_name }),
        server_header: server_header(cx, value.server_header_transformation)?,
        via: cx.intern(&value.via),
        path: PathNormalization {
            normalize: value.normalize_path.unwrap_or(false),
            merge_slashes: value.merge_slashes,
            escaped_slashes: escaped_slashes(cx, value.path_with_escaped_slashes_action)?,
        },
        strip_port: strip_port(cx, value)?,
        strip_trailing_host_dot: value.strip_trailing_host_dot,
        use_remote_address: value.use_remote_address.unwrap_or(false),
        xff_trusted_hops: value.xff_num_trusted_hops,
        skip_xff_append: value.skip_xff_append,
        append_x_forwarded_port: value.append_x_forwarded_port,
        internal_addresses,
        internal_unix_sockets,
        forward_client_cert: forward_client_cert(cx, value.forward_client_cert_details)?,
        client_cert_details: value.set_current_client_cert_details.as_ref().map_or_else(
            ClientCertDetails::default,
            |value| ClientCertDetails {
                subject: value.subject.unwrap_or(false),
                uri: value.uri,
                dns: value.dns,
            },
        ),
        generate_request_id: value.generate_request_id.unwrap_or(true),
        preserve_external_request_id: value.preserve_external_request_id,
        always_set_request_id_in_response: value.always_set_request_id_in_response,
        idle_timeout,
        stream_idle_timeout: timeout(
            cx,
            "stream_idle_timeout",
            &value.stream_idle_timeout,
            Some(STREAM_IDLE_TIMEOUT_DEFAULT),
        ),
        request_timeout: timeout(cx, "request_timeout", &value.request_timeout, None),
        request_headers_timeout: timeout(cx, "request_headers_timeout", &value.request_headers_timeout, None),
        connection_duration_max,
        stream_duration_max,
        drain_timeout: duration(cx, "drain_timeout", &value.drain_timeout).unwrap_or(DRAIN_TIMEOUT_DEFAULT),
        delayed_close_timeout: duration(cx, "delayed_close_timeout", &value.delayed_close_timeout)
            .unwrap_or(DELAYED_CLOSE_TIMEOUT_DEFAULT),
        requests_per_connection_max: common.max_requests_per_connection.unwrap_or(0),
        request_head_bytes_max: request_head_kib * 1024,
        request_headers_max: common.max_headers_count.unwrap_or(HEADERS_MAX_DEFAULT),
        underscores: underscores?,
        accept_http_10: http1.accept_http_10,
        default_host_for_http_10: cx.intern_set(&http1.default_host_for_http_10),
        preserve_case: cx.at("http_protocol_options", |cx| preserve_case(cx, &http1)),
        enable_trailers: http1.enable_trailers,
        allow_custom_methods: http1.allow_custom_methods,
        proxy_100_continue: value.proxy_100_continue,
        upgrades: cx.each("upgrade_configs", &value.upgrade_configs, |cx, upgrade| {
            Some(Upgrade {
                kind: cx.intern_lower(&upgrade.upgrade_type),
                enabled: upgrade.enabled.unwrap_or(true),
                terminate_connect: false,
            })
        }),
        access_logs: access_logs(cx, &value.access_log),
        log_moments: log_moments(cx, value),
        tracing: value
            .tracing
            .as_ref()
            .and_then(|settings| cx.at("tracing", |cx| tracing(cx, settings)))
            .map(Arc::new),
        request_id: request_id(cx, value)?,
        local_replies: match &value.local_reply_config {
            Some(config) => Some(Box::new(cx.at("local_reply_config", |cx| local_replies(cx, config))?)),
            None => None,
        },
    })
}

/// When lines are written besides the end. The fields outside of the options are their predecessors.
fn log_moments(cx: &mut Context<'_>, value: &pb::HttpConnectionManager) -> LogMoments {
    let options = value.access_log_options.unwrap_or_default();
    let interval = match options.access_log_flush_interval {
        Some(_) => cx.at("access_log_options", |cx| {
            duration(cx, "access_log_flush_interval", &options.access_log_flush_interval)
        }),
        None => duration(cx, "access_log_flush_interval", &value.access_log_flush_interval),
    };
    LogMoments {
        at_start: value.flush_access_log_on_new_request || options.flush_access_log_on_new_request,
        on_connected: options.flush_log_on_tunnel_successfully_established,
        interval: interval.filter(|interval| !interval.is_zero()),
    }
}

fn request_id(cx: &mut Context<'_>, value: &pb::HttpConnectionManager) -> Option<RequestIds> {
    let Some(any) = value.request_id_extension.as_ref().and_then(|one| one.typed_config.as_ref()) else {
        return Some(RequestIds { pack_trace_reason: true, decide_sampling: true });
    };
    let config: UuidRequestIdConfig = cx.at("request_id_extension.typed_config", |cx| unpack(cx, any))?;
    Some(RequestIds {
        pack_trace_reason: config.pack_trace_reason.unwrap_or(true),
        decide_sampling: config.use_request_id_for_trace_sampling.unwrap_or(true),
    })
}

fn routes(
    cx: &mut Context<'_>,
    value: &pb::HttpConnectionManager,
    inline_key: &str,
) -> Option<RouteConfigId> {
    use pb::http_connection_manager::RouteSpecifier;
    match &value.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => {
            if rds.route_config_name.is_empty() {
                return cx.refuse("rds.route_config_name", "is empty");
            }
            let name = cx.intern(&rds.route_config_name);
            cx.uses.rds.push(name.clone());
            Some(cx.route_config(&name))
        }
        Some(RouteSpecifier::RouteConfig(inline)) => {
            let key = cx.intern(inline_key);
            let id = cx.route_config(&key);
            let config = cx.at("route_config", |cx| route_config(cx, id, inline));
            cx.uses.inline_routes.push(Arc::new(config));
            Some(id)
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => {
            cx.refuse("scoped_routes", "scoped routes are not supported")
        }
        None => cx.refuse("", "names no routes (rds or route_config)"),
    }
}

/// The filters of a connection manager: those that run, and the one that observes.
type Filters = (Box<[HttpFilter]>, Option<Arc<IstioStats>>, Option<Arc<UpstreamAlpn>>);

/// The filters that run. The types that are left out here are those the table of fields ignores.
fn http_filters(cx: &mut Context<'_>, list: &[pb::HttpFilter]) -> Option<Filters> {
    use pb::http_filter::ConfigType;
    let mut filters = Vec::new();
    let mut stats = None;
    let mut upstream_alpn = None;
    for (index, filter) in list.iter().enumerate() {
        let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
            return cx.refuse(&format!("http_filters[{index}].typed_config"), "is not set");
        };
        let mark = cx.report.enter(format_args!("http_filters[{index}].typed_config"));
        let any = &*plain(any);
        if holds::<http::router::v3::Router>(any) {
            if let Some(router) = unpack::<http::router::v3::Router>(cx, any) {
                filters.push(HttpFilter::Router(Router {
                    suppress_envoy_headers: router.suppress_envoy_headers,
                    respect_expected_rq_timeout: router.respect_expected_rq_timeout,
                    start_child_span: router.start_child_span,
                }));
            }
            if index + 1 != list.len() {
                cx.report.refuse("the router must be the last filter");
            }
        } else if holds::<http::fault::v3::HttpFault>(any) {
            if let Some(fault) = unpack(cx, any) {
                filters.push(HttpFilter::Fault(fault_settings(cx, &fault)));
            }
        } else if holds::<http::cors::v3::Cors>(any) {
            filters.push(HttpFilter::Cors);
        } else if holds::<Config>(any) {
            let settings = unpack(cx, any).and_then(|value| istio::peer_metadata(cx, &value));
            filters.extend(settings.map(HttpFilter::PeerMetadata));
        } else if holds::<PluginConfig>(any) {
            stats = unpack(cx, any).and_then(|value| istio::stats(cx, &value));
        } else if holds::<FilterConfig>(any) {
            upstream_alpn = unpack(cx, any).and_then(|value| istio_alpn(cx, &value));
        } else if holds::<http::local_ratelimit::v3::LocalRateLimit>(any) {
            if let Some(limit) = unpack(cx, any) {
                filters.push(HttpFilter::LocalRateLimit(rate_limit::local(cx, &limit)));
            }
        } else if holds::<http::ratelimit::v3::RateLimit>(any) {
            let limit = unpack(cx, any).and_then(|value| rate_limit::global(cx, &value));
            filters.extend(limit.map(HttpFilter::RateLimit));
        } else if holds::<http::grpc_stats::v3::FilterConfig>(any) {
            let value: Option<http::grpc_stats::v3::FilterConfig> = unpack(cx, any);
            filters.extend(value.map(|value| HttpFilter::GrpcStats(Arc::new(grpc_stats(cx, &value)))));
        } else if holds::<http::grpc_web::v3::GrpcWeb>(any) {
            filters.push(HttpFilter::GrpcWeb);
        } else if holds::<http::buffer::v3::Buffer>(any) {
            let settings = unpack(cx, any).and_then(|value| buffering(cx, &value));
            filters.extend(settings.map(HttpFilter::Buffer));
        } else if holds::<http::rbac::v3::Rbac>(any) {
            let settings = unpack(cx, any).and_then(|value| rbac::http_filter(cx, &value));
            let name = cx.intern(&filter.name);
            filters.extend(settings.map(|settings| HttpFilter::Rbac { name, settings }));
        } else if holds::<http::header_mutation::v3::HeaderMutation>(any) {
            let value: Option<http::header_mutation::v3::HeaderMutation> = unpack(cx, any);
            filters.extend(value.map(|value| {
                let mutations = header_mutations(cx, value.mutations.as_ref());
                let most_specific_wins = value.most_specific_header_mutations_wins;
                HttpFilter::HeaderMutation(Arc::new(MutationFilter { mutations, most_specific_wins }))
            }));
        }
        cx.report.leave(mark);
    }
    let place = |wanted: fn(&HttpFilter) -> bool| filters.iter().position(wanted);
    let buffer = place(|filter| matches!(filter, HttpFilter::Buffer(_)));
    let web = place(|filter| matches!(filter, HttpFilter::GrpcWeb));
    if buffer.zip(web).is_some_and(|(buffer, web)| buffer < web) {
        return cx
            .refuse("http_filters", "the buffer must come behind the gRPC-Web filter, which changes bodies");
    }
    if !matches!(filters.last(), Some(HttpFilter::Router(_))) {
        return cx.refuse("http_filters", "the last filter must be the router");
    }
    Some((filters.into(), stats, upstream_alpn))
}

/// Source: Istio's filter `istio.alpn`. HTTP/1.0 is not spoken upstream.
fn istio_alpn(cx: &mut Context<'_>, value: &FilterConfig) -> Option<Arc<UpstreamAlpn>> {
    let mut alpn = UpstreamAlpn::default();
    for (index, one) in value.alpn_override.iter().enumerate() {
        let place = match Protocol::try_from(one.upstream_protocol) {
            Ok(Protocol::Http10) => continue,
            Ok(Protocol::Http11) => &mut alpn.http1,
            Ok(Protocol::Http2) => &mut alpn.http2,
            Err(_) => return cx.refuse(&format!("alpn_override[{index}].upstream_protocol"), "is not known"),
        };
        match Alpn::new(one.alpn_override.iter().map(String::as_str)) {
            Ok(names) => *place = names,
            Err(error) => return cx.refuse(&format!("alpn_override[{index}].alpn_override"), error),
        }
    }
    Some(Arc::new(alpn))
}

fn grpc_stats(cx: &mut Context<'_>, value: &http::grpc_stats::v3::FilterConfig) -> GrpcStats {
    use http::grpc_stats::v3::filter_config::PerMethodStatSpecifier;
    let methods = match &value.per_method_stat_specifier {
        Some(PerMethodStatSpecifier::StatsForAllMethods(true)) => GrpcMethods::All,
        // Compat: without the field Envoy counts as if it were false.
        Some(PerMethodStatSpecifier::StatsForAllMethods(false)) | None => GrpcMethods::Listed(Box::default()),
        Some(PerMethodStatSpecifier::IndividualMethodStatsAllowlist(list)) => {
            let services = list.services.iter().map(|service| {
                let methods = service.method_names.iter().map(|name| cx.intern(name)).collect();
                (cx.intern(&service.name), methods)
            });
            GrpcMethods::Listed(services.collect())
        }
    };
    let (upstream_time, replace_dots) =
        (value.enable_upstream_stats, value.replace_dots_in_grpc_service_name);
    GrpcStats { methods, upstream_time, replace_dots }
}

fn codec(cx: &mut Context<'_>, value: i32) -> Option<Codec> {
    use pb::http_connection_manager::CodecType;
    match CodecType::try_from(value) {
        Ok(CodecType::Auto) => Some(Codec::Auto),
        Ok(CodecType::Http1) => Some(Codec::Http1),
        Ok(CodecType::Http2) => Some(Codec::Http2),
        Ok(CodecType::Http3) => cx.refuse("codec_type", "HTTP/3 is not supported"),
        Err(_) => cx.refuse("codec_type", "is not known"),
    }
}

fn server_header(cx: &mut Context<'_>, value: i32) -> Option<ServerHeader> {
    use pb::http_connection_manager::ServerHeaderTransformation;
    match ServerHeaderTransformation::try_from(value) {
        Ok(ServerHeaderTransformation::Overwrite) => Some(ServerHeader::Overwrite),
        Ok(ServerHeaderTransformation::AppendIfAbsent) => Some(ServerHeader::AppendIfAbsent),
        Ok(ServerHeaderTransformation::PassThrough) => Some(ServerHeader::PassThrough),
        Err(_) => cx.refuse("server_header_transformation", "is not known"),
    }
}

fn escaped_slashes(cx: &mut Context<'_>, value: i32) -> Option<EscapedSlashes> {
    use pb::http_connection_manager::PathWithEscapedSlashesAction;
    match PathWithEscapedSlashesAction::try_from(value) {
        Ok(
            PathWithEscapedSlashesAction::ImplementationSpecificDefault
            | PathWithEscapedSlashesAction::KeepUnchanged,
        ) => Some(EscapedSlashes::Keep),
        Ok(PathWithEscapedSlashesAction::RejectRequest) => Some(EscapedSlashes::Reject),
        Ok(PathWithEscapedSlashesAction::UnescapeAndRedirect) => Some(EscapedSlashes::UnescapeAndRedirect),
        Ok(PathWithEscapedSlashesAction::UnescapeAndForward) => Some(EscapedSlashes::UnescapeAndForward),
        Err(_) => cx.refuse("path_with_escaped_slashes_action", "is not known"),
    }
}

fn underscore_headers(cx: &mut Context<'_>, value: i32) -> Option<UnderscoreHeaders> {
    use core::http_protocol_options::HeadersWithUnderscoresAction;
    match HeadersWithUnderscoresAction::try_from(value) {
        Ok(HeadersWithUnderscoresAction::Allow) => Some(UnderscoreHeaders::Allow),
        Ok(HeadersWithUnderscoresAction::RejectRequest) => Some(UnderscoreHeaders::Reject),
        Ok(HeadersWithUnderscoresAction::DropHeader) => Some(UnderscoreHeaders::Drop),
        Err(_) => cx.refuse("headers_with_underscores_action", "is not known"),
    }
}

fn strip_port(cx: &mut Context<'_>, value: &pb::HttpConnectionManager) -> Option<StripPort> {
    use pb::http_connection_manager::StripPortMode;
    let any = matches!(value.strip_port_mode, Some(StripPortMode::StripAnyHostPort(true)));
    match (value.strip_matching_host_port, any) {
        (false, false) => Some(StripPort::No),
        (true, false) => Some(StripPort::Matching),
        (false, true) => Some(StripPort::Any),
        (true, true) => cx.refuse("strip_any_host_port", "excludes strip_matching_host_port"),
    }
}

fn forward_client_cert(cx: &mut Context<'_>, value: i32) -> Option<ForwardClientCert> {
    use pb::http_connection_manager::ForwardClientCertDetails;
    match ForwardClientCertDetails::try_from(value) {
        Ok(ForwardClientCertDetails::Sanitize) => Some(ForwardClientCert::Sanitize),
        Ok(ForwardClientCertDetails::ForwardOnly) => Some(ForwardClientCert::ForwardOnly),
        Ok(ForwardClientCertDetails::AppendForward) => Some(ForwardClientCert::AppendForward),
        Ok(ForwardClientCertDetails::SanitizeSet) => Some(ForwardClientCert::SanitizeSet),
        Ok(ForwardClientCertDetails::AlwaysForwardOnly) => Some(ForwardClientCert::AlwaysForwardOnly),
        Err(_) => cx.refuse("forward_client_cert_details", "is not known"),
    }
}

/// Whether header names keep their case.
pub(super) fn preserve_case(cx: &mut Context<'_>, value: &core::Http1ProtocolOptions) -> bool {
    use core::http1_protocol_options::header_key_format::HeaderFormat;
    let Some(format) = value.header_key_format.as_ref().and_then(|format| format.header_format.as_ref())
    else {
        return false;
    };
    let known = match format {
        HeaderFormat::StatefulFormatter(extension) => {
            extension.typed_config.as_ref().is_some_and(holds::<PreserveCaseFormatterConfig>)
        }
        HeaderFormat::ProperCaseWords(_) => false,
    };
    if !known {
        cx.report.refuse_at("header_key_format", "only preserve_case is supported");
    }
    known
}
