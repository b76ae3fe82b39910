//! Clusters.

use std::sync::Arc;
use std::time::Duration;

use ringsail_xds::envoy::config::cluster::v3 as pb;
use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::extensions::upstreams::http::v3 as http;

use super::balancing::balancing;
use super::context::Context;
use super::dns::dns_settings;
use super::endpoint::{Assignment, assignment};
use super::hcm::{HEADERS_MAX_DEFAULT, IDLE_TIMEOUT_DEFAULT, preserve_case};
use super::health_check::health_check;
use super::http2::http2_settings;
use super::listener::BUFFER_BYTES_DEFAULT;
use super::metadata::metadata;
use super::outlier::outlier_detection;
use super::tls::transports;
use super::value::{holds, port, source_address, timeout, unpack};
use crate::cluster::{
    Breakers, Cluster, ConnectionSettings, Discovery, RetryBudget, TcpKeepalive, UpstreamProtocol,
};
use crate::http2::Http2Settings;

/// Source: `Cluster.connect_timeout`.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// A cluster with the assignment it brings along, if any.
pub(super) fn cluster(cx: &mut Context<'_>, value: &pb::Cluster) -> Option<(Cluster, Option<Assignment>)> {
    let transports = transports(cx, value.transport_socket.as_ref(), &value.transport_socket_matches)?;
    if transports.all().next().is_some() && !value.health_checks.is_empty() {
        return cx.refuse("health_checks", "checks over TLS are not supported");
    }
    let (discovery, assignment) = discovery(cx, value)?;
    let options = http_options(cx, value)?;
    let (breakers, breakers_high) = breakers(cx, value.circuit_breakers.as_ref());
    let connection =
        ConnectionSettings { transports: Arc::new(transports), ..connection(cx, value, &options)? };
    let cluster = Cluster {
        name: cx.intern(&value.name),
        alt_stat_name: cx.intern_set(&value.alt_stat_name),
        balancing: balancing(cx, value, &discovery)?,
        discovery,
        breakers,
        breakers_high,
        health_check: health_check(cx, &value.health_checks, connection.protocol)?.map(Arc::new),
        connection: Arc::new(connection),
        stream_duration_max: timeout(
            cx,
            "common_http_protocol_options.max_stream_duration",
            &options.common.max_stream_duration,
            None,
        ),
        outlier_detection: match &value.outlier_detection {
            Some(value) => Some(Arc::new(cx.at("outlier_detection", |cx| outlier_detection(cx, value))?)),
            None => None,
        },
        metadata: metadata(cx, value.metadata.as_ref()),
    };
    Some((cluster, assignment))
}

fn discovery(cx: &mut Context<'_>, value: &pb::Cluster) -> Option<(Discovery, Option<Assignment>)> {
    use pb::cluster::{ClusterDiscoveryType, DiscoveryType};
    let kind = match &value.cluster_discovery_type {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => match DiscoveryType::try_from(*kind) {
            Ok(kind) => kind,
            Err(_) => return cx.refuse("type", "is not known"),
        },
        Some(ClusterDiscoveryType::ClusterType(_)) => {
            return cx.refuse("cluster_type", "custom cluster types are not supported");
        }
    };
    let inline = value.load_assignment.as_ref();
    match kind {
        DiscoveryType::Static => {
            // Compat: without one the cluster has no hosts, which is how istiod writes `BlackHoleCluster`.
            let none = Default::default();
            let value = inline.unwrap_or(&none);
            Some((Discovery::Static, Some(cx.at("load_assignment", |cx| assignment(cx, value, false)))))
        }
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
            let Some(inline) = inline else { return cx.refuse("load_assignment", "is not set") };
            let hosts = cx.at("load_assignment", |cx| assignment(cx, inline, true));
            let settings = Arc::new(dns_settings(cx, value)?);
            if kind == DiscoveryType::StrictDns {
                return Some((Discovery::StrictDns(settings), Some(hosts)));
            }
            let count: usize = hosts.localities.iter().map(|locality| locality.hosts.len()).sum();
            if count != 1 && !cx.report.is_refused() {
                return cx.refuse("load_assignment", "LOGICAL_DNS needs exactly one endpoint");
            }
            Some((Discovery::LogicalDns(settings), Some(hosts)))
        }
        DiscoveryType::Eds => {
            if inline.is_some() {
                return cx.refuse("load_assignment", "excludes type EDS");
            }
            let Some(eds) = &value.eds_cluster_config else {
                return cx.refuse("eds_cluster_config", "is not set");
            };
            let name = if eds.service_name.is_empty() { &value.name } else { &eds.service_name };
            Some((Discovery::Eds { service_name: cx.intern(name) }, None))
        }
        DiscoveryType::OriginalDst => {
            if inline.is_some() {
                return cx.refuse("load_assignment", "excludes type ORIGINAL_DST");
            }
            let (port_override, http_header) =
                cx.at("original_dst_lb_config", |cx| original_dst(cx, value))?;
            Some((Discovery::OriginalDst { port_override, http_header }, None))
        }
    }
}

fn original_dst(
    cx: &mut Context<'_>,
    value: &pb::Cluster,
) -> Option<(Option<u16>, Option<crate::strings::Str>)> {
    use pb::cluster::LbConfig;
    let Some(LbConfig::OriginalDstLbConfig(config)) = &value.lb_config else { return Some((None, None)) };
    let port_override = match config.upstream_port_override {
        Some(number) => Some(port(cx, "upstream_port_override", number)?),
        None => None,
    };
    let http_header = config.use_http_header.then(|| match config.http_header_name.as_str() {
        // Source: `OriginalDstLbConfig.http_header_name`.
        "" => cx.intern("x-envoy-original-dst-host"),
        name => cx.intern_lower(name),
    });
    Some((port_override, http_header))
}

/// HTTP settings from the extension, or from the older fields of the cluster itself.
#[derive(Default)]
struct HttpOptions {
    common: core::HttpProtocolOptions,
    http1: core::Http1ProtocolOptions,
    http2: Http2Settings,
    protocol: Option<UpstreamProtocol>,
}

fn http_options(cx: &mut Context<'_>, value: &pb::Cluster) -> Option<HttpOptions> {
    let extension = value
        .typed_extension_protocol_options
        .iter()
        .find(|(_, any)| holds::<http::HttpProtocolOptions>(any));
    let Some((name, any)) = extension else {
        let http2 = value
            .http2_protocol_options
            .as_ref()
            .map(|options| cx.at("http2_protocol_options", |cx| http2_settings(cx, options)));
        let old = http2.is_some().then_some(UpstreamProtocol::Http2);
        let by_downstream =
            value.protocol_selection == pb::cluster::ClusterProtocolSelection::UseDownstreamProtocol as i32;
        return Some(HttpOptions {
            common: value.common_http_protocol_options.unwrap_or_default(),
            http1: value.http_protocol_options.clone().unwrap_or_default(),
            http2: http2.unwrap_or_default(),
            protocol: if by_downstream { Some(UpstreamProtocol::FromDownstream) } else { old },
        });
    };
    let mark = cx.report.enter(format_args!("typed_extension_protocol_options[{name:?}]"));
    let options = unpack::<http::HttpProtocolOptions>(cx, any).and_then(|value| extension_options(cx, value));
    cx.report.leave(mark);
    options
}

fn extension_options(cx: &mut Context<'_>, value: http::HttpProtocolOptions) -> Option<HttpOptions> {
    use http::http_protocol_options::UpstreamProtocolOptions;
    use http::http_protocol_options::explicit_http_config::ProtocolConfig;
    let (protocol, http1, http2) = match value.upstream_protocol_options {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => match explicit.protocol_config {
            Some(ProtocolConfig::HttpProtocolOptions(http1)) => (UpstreamProtocol::Http1, Some(http1), None),
            Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
                let path = "explicit_http_config.http2_protocol_options";
                let http2 = cx.at(path, |cx| http2_settings(cx, &options));
                (UpstreamProtocol::Http2, None, Some(http2))
            }
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                return cx.refuse("explicit_http_config", "HTTP/3 is not supported");
            }
            None => return cx.refuse("explicit_http_config", "names no protocol"),
        },
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            let path = "use_downstream_protocol_config.http2_protocol_options";
            let http2 = config.http2_protocol_options.as_ref();
            let http2 = http2.map(|options| cx.at(path, |cx| http2_settings(cx, options)));
            (UpstreamProtocol::FromDownstream, config.http_protocol_options, http2)
        }
        Some(UpstreamProtocolOptions::AutoConfig(_)) => {
            return cx.refuse("auto_config", "the protocol is not chosen by ALPN");
        }
        None => {
            return cx
                .refuse("", "names no protocol (explicit_http_config or use_downstream_protocol_config)");
        }
    };
    Some(HttpOptions {
        common: value.common_http_protocol_options.unwrap_or_default(),
        http1: http1.unwrap_or_default(),
        http2: http2.unwrap_or_default(),
        protocol: Some(protocol),
    })
}

fn connection(
    cx: &mut Context<'_>,
    value: &pb::Cluster,
    options: &HttpOptions,
) -> Option<ConnectionSettings> {
    let connect_timeout =
        timeout(cx, "connect_timeout", &value.connect_timeout, Some(CONNECT_TIMEOUT_DEFAULT));
    let Some(connect_timeout) = connect_timeout else { return cx.refuse("connect_timeout", "is zero") };
    let bind = match value.upstream_bind_config.as_ref().and_then(|bind| bind.source_address.as_ref()) {
        Some(source) => {
            Some(cx.at("upstream_bind_config", |cx| source_address(cx, "source_address", source))?)
        }
        None => None,
    };
    let common = &options.common;
    Some(ConnectionSettings {
        connect_timeout,
        protocol: options.protocol.unwrap_or(UpstreamProtocol::Http1),
        http2: options.http2,
        idle_timeout: timeout(
            cx,
            "common_http_protocol_options.idle_timeout",
            &common.idle_timeout,
            Some(IDLE_TIMEOUT_DEFAULT),
        ),
        connection_duration_max: timeout(
            cx,
            "common_http_protocol_options.max_connection_duration",
            &common.max_connection_duration,
            None,
        ),
        requests_per_connection_max: common
            .max_requests_per_connection
            .or(value.max_requests_per_connection)
            .unwrap_or(0),
        response_headers_max: common.max_headers_count.unwrap_or(HEADERS_MAX_DEFAULT),
        preserve_case: preserve_case(cx, &options.http1),
        bind,
        tcp_keepalive: value.upstream_connection_options.as_ref().and_then(|options| {
            options.tcp_keepalive.as_ref().map(|keepalive| TcpKeepalive {
                probes: keepalive.keepalive_probes,
                time_secs: keepalive.keepalive_time,
                interval_secs: keepalive.keepalive_interval,
            })
        }),
        transports: Arc::default(),
        buffer_bytes_max: value.per_connection_buffer_limit_bytes.unwrap_or(BUFFER_BYTES_DEFAULT),
    })
}

/// Breakers of the default and the high priority. Of several thresholds for one priority the first counts, as in Envoy.
fn breakers(cx: &mut Context<'_>, value: Option<&pb::CircuitBreakers>) -> (Breakers, Breakers) {
    let mut of = |priority: core::RoutingPriority| {
        let threshold = value.and_then(|value| {
            value.thresholds.iter().find(|threshold| threshold.priority == priority as i32)
        });
        let retry_budget = threshold.and_then(|threshold| threshold.retry_budget.as_ref()).map(|budget| {
            let percent = budget.budget_percent.as_ref().map_or(20.0, |percent| percent.value);
            if !(0.0..=100.0).contains(&percent) {
                cx.report.refuse_at(
                    "circuit_breakers.thresholds.retry_budget.budget_percent",
                    format_args!("{percent} is no percentage"),
                );
            }
            RetryBudget { percent, min_concurrency: budget.min_retry_concurrency.unwrap_or(3) }
        });
        Breakers {
            connections_max: threshold.and_then(|t| t.max_connections).unwrap_or(1024),
            connections_per_host_max: value
                .and_then(|value| value.per_host_thresholds.iter().find(|t| t.priority == priority as i32))
                .and_then(|threshold| threshold.max_connections)
                .unwrap_or(u32::MAX),
            pending_max: threshold.and_then(|t| t.max_pending_requests).unwrap_or(1024),
            requests_max: threshold.and_then(|t| t.max_requests).unwrap_or(1024),
            retries_max: threshold.and_then(|t| t.max_retries).unwrap_or(3),
            retry_budget,
            track_remaining: threshold.is_some_and(|t| t.track_remaining),
        }
    };
    (of(core::RoutingPriority::Default), of(core::RoutingPriority::High))
}
