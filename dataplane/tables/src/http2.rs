//! Settings of HTTP/2 connections, the same on both sides.

use std::time::Duration;

/// Source: `envoy.config.core.v3.Http2ProtocolOptions`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Http2Settings {
    /// Bytes of HPACK table the peer may use. Default 4096.
    pub header_table_bytes: u32,
    /// Streams at a time: those a client may open here, or those we open on one connection to a host. Default 1024.
    pub concurrent_streams_max: u32,
    /// Bytes the peer may send on a stream before we have passed them on.
    ///
    /// Compat: 1 MiB where Envoy has 16 MiB by default: a peer whose reader has stopped can make us hold that much.
    pub stream_window_bytes: u32,
    /// The same for all streams of a connection.
    ///
    /// Compat: 4 MiB where Envoy has 24 MiB by default.
    pub connection_window_bytes: u32,
    /// CONNECT, also the extended form that carries WebSockets. Default off.
    pub allow_connect: bool,
    /// Frames without payload in a row. Default 1.
    pub empty_frames_max: u32,
    /// PRIORITY frames for each stream opened. Default 100.
    pub priority_frames_per_stream_max: u32,
    /// WINDOW_UPDATE frames for each DATA frame we send. Default 10.
    pub window_updates_per_data_frame_max: u32,
    /// PING, SETTINGS and RST_STREAM frames that make us answer. Default 1000.
    pub control_frames_max: u32,
    /// Pings of ours that show whether the peer is alive.
    pub keepalive: Option<Http2Keepalive>,
}

impl Default for Http2Settings {
    fn default() -> Http2Settings {
        Http2Settings {
            header_table_bytes: 4096,
            concurrent_streams_max: 1024,
            stream_window_bytes: 1024 * 1024,
            connection_window_bytes: 4 * 1024 * 1024,
            allow_connect: false,
            empty_frames_max: 1,
            priority_frames_per_stream_max: 100,
            window_updates_per_data_frame_max: 10,
            control_frames_max: 1000,
            keepalive: None,
        }
    }
}

/// Source: `KeepaliveSettings`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Http2Keepalive {
    /// Time between pings; `None` sends none at intervals.
    pub interval: Option<Duration>,
    /// A ping that is not answered in this time ends the connection.
    pub timeout: Duration,
    /// Percent of the interval that is added at random, so that pings of many connections spread. Default 15.
    pub jitter_percent: f64,
    /// A connection without news for so long is pinged before its next stream.
    pub idle_interval: Option<Duration>,
}
