//! Active health checks.

use std::time::Duration;

use prost::Message;
use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::config::core::v3::health_check::{self, HealthChecker, payload};
use ringsail_xds::envoy::r#type::v3 as types;

use super::context::Context;
use super::headers::{header_add, remove};
use super::value::{duration, port};
use crate::cluster::UpstreamProtocol;
use crate::header_ops::{HeaderAdd, HeaderOps};
use crate::health_check::{GrpcProbe, HealthCheck, HealthCheckRequest, HttpProbe, Probe};
use crate::limits::CHECK_ANSWER_BYTES_MAX;

/// Source: `HttpHealthCheck.response_buffer_size`.
const ANSWER_BYTES_DEFAULT: u64 = 1024;

/// The check of a cluster; Envoy takes one.
pub(super) fn health_check(
    cx: &mut Context<'_>,
    checks: &[core::HealthCheck],
    protocol: UpstreamProtocol,
) -> Option<Option<HealthCheck>> {
    match checks {
        [] => Some(None),
        [check] => cx.at("health_checks[0]", |cx| one(cx, check, protocol)).map(Some),
        _ => cx.refuse("health_checks", "more than one check is not supported"),
    }
}

fn one(cx: &mut Context<'_>, value: &core::HealthCheck, protocol: UpstreamProtocol) -> Option<HealthCheck> {
    let timeout = needed(cx, "timeout", &value.timeout)?;
    let interval = needed(cx, "interval", &value.interval)?;
    let unhealthy_threshold = threshold(cx, "unhealthy_threshold", value.unhealthy_threshold)?;
    let healthy_threshold = threshold(cx, "healthy_threshold", value.healthy_threshold)?;
    let no_traffic =
        positive(cx, "no_traffic_interval", &value.no_traffic_interval)?.unwrap_or(Duration::from_secs(60));
    let unhealthy = positive(cx, "unhealthy_interval", &value.unhealthy_interval)?.unwrap_or(interval);
    Some(HealthCheck {
        probe: probe(cx, value, protocol)?,
        timeout,
        interval,
        initial_jitter: duration(cx, "initial_jitter", &value.initial_jitter).unwrap_or_default(),
        interval_jitter: duration(cx, "interval_jitter", &value.interval_jitter).unwrap_or_default(),
        interval_jitter_percent: value.interval_jitter_percent,
        unhealthy_threshold,
        healthy_threshold,
        no_traffic_interval: no_traffic,
        no_traffic_healthy_interval: positive(
            cx,
            "no_traffic_healthy_interval",
            &value.no_traffic_healthy_interval,
        )?
        .unwrap_or(no_traffic),
        unhealthy_interval: unhealthy,
        unhealthy_edge_interval: positive(cx, "unhealthy_edge_interval", &value.unhealthy_edge_interval)?
            .unwrap_or(unhealthy),
        healthy_edge_interval: positive(cx, "healthy_edge_interval", &value.healthy_edge_interval)?
            .unwrap_or(interval),
        alt_port: match value.alt_port {
            Some(number) => Some(port(cx, "alt_port", number)?),
            None => None,
        },
    })
}

fn probe(cx: &mut Context<'_>, value: &core::HealthCheck, protocol: UpstreamProtocol) -> Option<Probe> {
    match &value.health_checker {
        Some(HealthChecker::HttpHealthCheck(http)) => cx.at("http_health_check", |cx| http_probe(cx, http)),
        Some(HealthChecker::TcpHealthCheck(tcp)) => cx.at("tcp_health_check", |cx| {
            let send = match &tcp.send {
                Some(send) => bytes(cx, "send", send)?,
                None => Box::default(),
            };
            let receive = cx.each("receive", &tcp.receive, |cx, payload| bytes(cx, "", payload));
            Some(Probe::Tcp { send, receive })
        }),
        Some(HealthChecker::GrpcHealthCheck(grpc)) => {
            if protocol != UpstreamProtocol::Http2 {
                return cx.refuse("grpc_health_check", "needs a cluster that speaks HTTP/2");
            }
            cx.at("grpc_health_check", |cx| grpc_probe(cx, grpc))
        }
        Some(HealthChecker::CustomHealthCheck(_)) => {
            cx.refuse("", "only HTTP, gRPC and TCP checks are supported")
        }
        None => cx.refuse("", "names no kind of check"),
    }
}

fn http_probe(cx: &mut Context<'_>, http: &health_check::HttpHealthCheck) -> Option<Probe> {
    let http2 = match types::CodecClientType::try_from(http.codec_client_type) {
        Ok(types::CodecClientType::Http1) => false,
        Ok(types::CodecClientType::Http2) => true,
        Ok(types::CodecClientType::Http3) | Err(_) => {
            return cx.refuse("codec_client_type", "checks are made over HTTP/1.1 and HTTP/2");
        }
    };
    if http.path.is_empty() || !is_clean(&http.path) {
        return cx.refuse("path", "is empty, or has bytes that no path has");
    }
    if !is_clean(&http.host) {
        return cx.refuse("host", "has bytes that no host has");
    }
    let (method, has_body) = match core::RequestMethod::try_from(http.method) {
        Ok(core::RequestMethod::MethodUnspecified) => ("GET", false),
        Ok(core::RequestMethod::Connect) | Err(_) => return cx.refuse("method", "cannot check"),
        Ok(method) => {
            use core::RequestMethod::{Options, Patch, Post, Put};
            (method.as_str_name(), matches!(method, Post | Put | Patch | Options))
        }
    };
    let send = match &http.send {
        Some(_) if !has_body => return cx.refuse("send", format_args!("{method} has no body")),
        Some(send) => bytes(cx, "send", send)?,
        None => Box::default(),
    };
    let expected = ranges(cx, "expected_statuses", &http.expected_statuses)?;
    let receive = cx.each("receive", &http.receive, |cx, payload| bytes(cx, "", payload));
    let answer_bytes_max = http.response_buffer_size.unwrap_or(ANSWER_BYTES_DEFAULT);
    let looked_for: u64 = receive.iter().map(|part| part.len() as u64).sum();
    if answer_bytes_max > 0 && looked_for > answer_bytes_max {
        return cx.refuse("response_buffer_size", format_args!("is below the {looked_for} bytes of receive"));
    }
    Some(Probe::Http(Box::new(HttpProbe {
        http2,
        method: cx.intern(method),
        host: cx.intern_set(&http.host),
        path: cx.intern(&http.path),
        headers: HeaderOps {
            remove: remove(cx, "request_headers_to_remove", &http.request_headers_to_remove),
            add: cx.each("request_headers_to_add", &http.request_headers_to_add, literal),
        },
        send,
        receive,
        // Compat: 0 keeps nothing back there; here it is the largest bound we have.
        answer_bytes_max: match u32::try_from(answer_bytes_max) {
            Ok(bytes @ 1..=CHECK_ANSWER_BYTES_MAX) => bytes,
            Ok(0) => CHECK_ANSWER_BYTES_MAX,
            Ok(_) | Err(_) => {
                let text = format_args!("{answer_bytes_max} is above {CHECK_ANSWER_BYTES_MAX}");
                return cx.refuse("response_buffer_size", text);
            }
        },
        expected: if expected.is_empty() { [(200, 201)].into() } else { expected },
        retriable: ranges(cx, "retriable_statuses", &http.retriable_statuses)?,
    })))
}

fn grpc_probe(cx: &mut Context<'_>, grpc: &health_check::GrpcHealthCheck) -> Option<Probe> {
    if !is_clean(&grpc.authority) {
        return cx.refuse("authority", "has bytes that no authority has");
    }
    Some(Probe::Grpc(Box::new(GrpcProbe {
        question: HealthCheckRequest { service: grpc.service_name.clone() }.encode_to_vec().into(),
        authority: cx.intern_set(&grpc.authority),
        headers: HeaderOps {
            remove: Box::default(),
            add: cx.each("initial_metadata", &grpc.initial_metadata, literal),
        },
    })))
}

fn is_clean(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A header whose value is the same for every check: there is no request that could give others.
fn literal(cx: &mut Context<'_>, value: &core::HeaderValueOption) -> Option<HeaderAdd> {
    let add = header_add(cx, value)?;
    if !add.value.is_literal() {
        return cx.refuse("header.value", "has operators, for which a check has no values");
    }
    Some(add)
}

fn ranges(cx: &mut Context<'_>, field: &str, list: &[types::Int64Range]) -> Option<Box<[(u16, u16)]>> {
    let ranges =
        cx.each(field, list, |cx, range| match (u16::try_from(range.start), u16::try_from(range.end)) {
            (Ok(start @ 100..), Ok(end @ ..=600)) if start < end => Some((start, end)),
            _ => cx.refuse("", "is no range of statuses from 100 up to 600"),
        });
    (!cx.report.is_refused()).then_some(ranges)
}

fn bytes(cx: &mut Context<'_>, field: &str, value: &health_check::Payload) -> Option<Box<[u8]>> {
    let bytes = match &value.payload {
        Some(payload::Payload::Binary(bytes)) => bytes.clone(),
        Some(payload::Payload::Text(text)) => {
            let digit = |byte: u8| (byte as char).to_digit(16);
            let pairs = text.as_bytes().chunks(2);
            let pairs = pairs.map(|pair| match pair {
                [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
                _ => None,
            });
            match pairs.collect::<Option<Vec<u8>>>() {
                Some(bytes) => bytes,
                None => return cx.refuse(field, "text is not in hexadecimal"),
            }
        }
        None => Vec::new(),
    };
    if bytes.is_empty() {
        return cx.refuse(field, "is empty");
    }
    Some(bytes.into())
}

fn threshold(cx: &mut Context<'_>, field: &str, value: Option<u32>) -> Option<u32> {
    match value {
        Some(value) => Some(value.max(1)),
        None => cx.refuse(field, "is not set"),
    }
}

fn needed(cx: &mut Context<'_>, field: &str, value: &Option<prost_types::Duration>) -> Option<Duration> {
    match positive(cx, field, value)? {
        Some(duration) => Some(duration),
        None => cx.refuse(field, "is not set"),
    }
}

fn positive(
    cx: &mut Context<'_>,
    field: &str,
    value: &Option<prost_types::Duration>,
) -> Option<Option<Duration>> {
    let found = duration(cx, field, value);
    match found {
        Some(duration) if duration.is_zero() => cx.refuse(field, "is zero"),
        None if value.is_some() => None,
        _ => Some(found),
    }
}
