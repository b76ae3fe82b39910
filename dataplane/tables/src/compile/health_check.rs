//! Active health checks.

use std::time::Duration;

use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::config::core::v3::health_check::{self, HealthChecker, payload};
use ringsail_xds::envoy::r#type::v3 as types;

use super::context::Context;
use super::value::{duration, port};
use crate::health_check::{HealthCheck, Probe};

/// The check of a cluster; Envoy takes one.
pub(super) fn health_check(
    cx: &mut Context<'_>,
    checks: &[core::HealthCheck],
) -> Option<Option<HealthCheck>> {
    match checks {
        [] => Some(None),
        [check] => cx.at("health_checks[0]", |cx| one(cx, check)).map(Some),
        _ => cx.refuse("health_checks", "more than one check is not supported"),
    }
}

fn one(cx: &mut Context<'_>, value: &core::HealthCheck) -> Option<HealthCheck> {
    let timeout = needed(cx, "timeout", &value.timeout)?;
    let interval = needed(cx, "interval", &value.interval)?;
    let unhealthy_threshold = threshold(cx, "unhealthy_threshold", value.unhealthy_threshold)?;
    let healthy_threshold = threshold(cx, "healthy_threshold", value.healthy_threshold)?;
    let no_traffic =
        positive(cx, "no_traffic_interval", &value.no_traffic_interval)?.unwrap_or(Duration::from_secs(60));
    let unhealthy = positive(cx, "unhealthy_interval", &value.unhealthy_interval)?.unwrap_or(interval);
    Some(HealthCheck {
        probe: probe(cx, value)?,
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

fn probe(cx: &mut Context<'_>, value: &core::HealthCheck) -> Option<Probe> {
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
        Some(HealthChecker::GrpcHealthCheck(_) | HealthChecker::CustomHealthCheck(_)) => {
            cx.refuse("", "only HTTP and TCP checks are supported")
        }
        None => cx.refuse("", "names no kind of check"),
    }
}

fn http_probe(cx: &mut Context<'_>, http: &health_check::HttpHealthCheck) -> Option<Probe> {
    if http.codec_client_type != types::CodecClientType::Http1 as i32 {
        return cx.refuse("codec_client_type", "checks are made over HTTP/1.1 only");
    }
    let clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if http.path.is_empty() || !clean(&http.path) {
        return cx.refuse("path", "is empty, or has bytes that no path has");
    }
    if !clean(&http.host) {
        return cx.refuse("host", "has bytes that no host has");
    }
    let method = match core::RequestMethod::try_from(http.method) {
        Ok(core::RequestMethod::MethodUnspecified) => "GET",
        Ok(core::RequestMethod::Connect) | Err(_) => return cx.refuse("method", "cannot check"),
        Ok(method) => method.as_str_name(),
    };
    let expected = ranges(cx, "expected_statuses", &http.expected_statuses)?;
    Some(Probe::Http {
        method: cx.intern(method),
        host: cx.intern_set(&http.host),
        path: cx.intern(&http.path),
        expected: if expected.is_empty() { [(200, 201)].into() } else { expected },
        retriable: ranges(cx, "retriable_statuses", &http.retriable_statuses)?,
    })
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
