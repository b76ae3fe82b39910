//! HTTP/2 settings.

use std::time::Duration;

use ringsail_xds::envoy::config::core::v3 as core;

use super::context::Context;
use super::value::duration;
use crate::http2::{Http2Keepalive, Http2Settings};

/// Reads the options; bounds are those of Envoy's field rules.
pub(super) fn http2_settings(cx: &mut Context<'_>, value: &core::Http2ProtocolOptions) -> Http2Settings {
    let default = Http2Settings::default();
    let mut bounded = |field: &str, given: Option<u32>, least: u32, most: u32, default: u32| match given {
        None => default,
        Some(number) if (least..=most).contains(&number) => number,
        Some(number) => {
            cx.report.refuse_at(field, format_args!("{number} is not between {least} and {most}"));
            default
        }
    };
    Http2Settings {
        header_table_bytes: value.hpack_table_size.unwrap_or(default.header_table_bytes),
        concurrent_streams_max: bounded(
            "max_concurrent_streams",
            value.max_concurrent_streams,
            1,
            WINDOW_MAX,
            default.concurrent_streams_max,
        ),
        stream_window_bytes: bounded(
            "initial_stream_window_size",
            value.initial_stream_window_size,
            WINDOW_MIN,
            WINDOW_MAX,
            default.stream_window_bytes,
        ),
        connection_window_bytes: bounded(
            "initial_connection_window_size",
            value.initial_connection_window_size,
            WINDOW_MIN,
            WINDOW_MAX,
            default.connection_window_bytes,
        ),
        control_frames_max: bounded(
            "max_outbound_control_frames",
            value.max_outbound_control_frames,
            1,
            u32::MAX,
            default.control_frames_max,
        ),
        window_updates_per_data_frame_max: bounded(
            "max_inbound_window_update_frames_per_data_frame_sent",
            value.max_inbound_window_update_frames_per_data_frame_sent,
            1,
            u32::MAX,
            default.window_updates_per_data_frame_max,
        ),
        allow_connect: value.allow_connect,
        empty_frames_max: value
            .max_consecutive_inbound_frames_with_empty_payload
            .unwrap_or(default.empty_frames_max),
        priority_frames_per_stream_max: value
            .max_inbound_priority_frames_per_stream
            .unwrap_or(default.priority_frames_per_stream_max),
        keepalive: value.connection_keepalive.as_ref().and_then(|value| keepalive(cx, value)),
    }
}

fn keepalive(cx: &mut Context<'_>, value: &core::KeepaliveSettings) -> Option<Http2Keepalive> {
    cx.at("connection_keepalive", |cx| {
        let interval = duration(cx, "interval", &value.interval);
        let idle_interval = duration(cx, "connection_idle_interval", &value.connection_idle_interval);
        let Some(timeout) = duration(cx, "timeout", &value.timeout) else {
            return cx.refuse("timeout", "is required");
        };
        for (field, given) in
            [("interval", interval), ("connection_idle_interval", idle_interval), ("timeout", Some(timeout))]
        {
            if given.is_some_and(|given| given < Duration::from_millis(1)) {
                return cx.refuse(field, "is shorter than 1 ms");
            }
        }
        let jitter_percent = value.interval_jitter.as_ref().map_or(JITTER_DEFAULT, |percent| percent.value);
        if !(0.0..=100.0).contains(&jitter_percent) {
            return cx.refuse("interval_jitter", "is no percentage");
        }
        Some(Http2Keepalive { interval, timeout, jitter_percent, idle_interval })
    })
}

/// RFC 9113 §6.9.2: the initial window, below which Envoy does not go either.
const WINDOW_MIN: u32 = 65_535;

/// RFC 9113 §6.9.1: 2³¹ − 1.
const WINDOW_MAX: u32 = 0x7fff_ffff;

/// Source: `KeepaliveSettings.interval_jitter`.
const JITTER_DEFAULT: f64 = 15.0;
