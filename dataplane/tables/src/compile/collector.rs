//! Services that spans and access logs are sent to.

use ringsail_xds::envoy::config::core::v3 as core;

use super::context::Context;
use super::value::duration;
use crate::collector::{Collector, CollectorProtocol};
use crate::strings::Str;

/// Source: `envoy.config.core.v3.GrpcService`.
pub(super) fn grpc_service(cx: &mut Context<'_>, value: &core::GrpcService) -> Option<Collector> {
    use core::grpc_service::TargetSpecifier;
    let Some(TargetSpecifier::EnvoyGrpc(grpc)) = &value.target_specifier else {
        return cx.refuse("envoy_grpc", "is not set; it is the only kind of gRPC service supported");
    };
    if grpc.cluster_name.is_empty() {
        return cx.refuse("envoy_grpc.cluster_name", "is empty");
    }
    let authority = if grpc.authority.is_empty() { &grpc.cluster_name } else { &grpc.authority };
    Some(Collector {
        cluster: cx.intern(&grpc.cluster_name),
        protocol: CollectorProtocol::Grpc { authority: cx.intern(authority) },
        headers: cx.each("initial_metadata", &value.initial_metadata, header),
        timeout: duration(cx, "timeout", &value.timeout).filter(|timeout| !timeout.is_zero()),
    })
}

/// Source: `envoy.config.core.v3.HttpService`.
pub(super) fn http_service(cx: &mut Context<'_>, value: &core::HttpService) -> Option<Collector> {
    use core::http_uri::HttpUpstreamType;
    let Some(uri) = &value.http_uri else { return cx.refuse("http_uri", "is not set") };
    let cluster = match &uri.http_upstream_type {
        Some(HttpUpstreamType::Cluster(name)) if !name.is_empty() => cx.intern(name),
        Some(HttpUpstreamType::Cluster(_)) | None => return cx.refuse("http_uri.cluster", "is not set"),
    };
    // Compat: the scheme is not looked at; the cluster decides how it is connected to.
    let rest = uri.uri.split_once("://").map_or(uri.uri.as_str(), |(_, rest)| rest);
    let path_at = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(path_at);
    if host.is_empty() {
        return cx.refuse("http_uri.uri", format_args!("{:?} names no host", uri.uri));
    }
    let headers =
        cx.each("request_headers_to_add", &value.request_headers_to_add, |cx, option| match &option.header {
            Some(pair) => cx.at("header", |cx| header(cx, pair)),
            None => cx.refuse("header", "is not set"),
        });
    Some(Collector {
        cluster,
        protocol: CollectorProtocol::Http {
            host: cx.intern(host),
            path: cx.intern(if path.is_empty() { "/" } else { path }),
        },
        headers,
        timeout: cx.at("http_uri", |cx| duration(cx, "timeout", &uri.timeout)).filter(|time| !time.is_zero()),
    })
}

fn header(cx: &mut Context<'_>, value: &core::HeaderValue) -> Option<(Str, Str)> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if value.key.is_empty() || !value.key.bytes().all(token) {
        return cx.refuse("key", format_args!("{:?} is no header name", value.key));
    }
    if value.value.contains('%') {
        return cx.refuse("value", "operators are not supported here");
    }
    if value.value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return cx.refuse("value", "is no header value");
    }
    Some((cx.intern_lower(&value.key), cx.intern(&value.value)))
}
