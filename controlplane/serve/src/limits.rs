//! Bounds and times of the discovery server.

use std::time::Duration;

/// Largest request a proxy may send, in bytes, as istiod has it (gRPC's default).
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Responses waiting for one proxy to read them. A proxy that does not read holds back only itself.
pub const RESPONSES_QUEUED_MAX: usize = 4;

/// Proxies connected at once; further streams are refused with `ResourceExhausted`.
pub const PROXIES_MAX: usize = 20_000;

/// Streams of one HTTP/2 connection. A proxy needs one; agents that share a connection a few.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 100;

/// Time a new stream has for its first request.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP/2 ping interval and patience, so that the stream of a vanished proxy ends. Source: istiod's
/// `--keepaliveInterval` and `--keepaliveTimeout`.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// See [`KEEPALIVE_INTERVAL`].
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP/2 window per stream and connection, 1 MiB as istiod has them.
pub const HTTP2_WINDOW_BYTES: u32 = 1024 * 1024;

/// Quiet time and longest wait before changes are pushed. Source: istiod's `PILOT_DEBOUNCE_AFTER` and
/// `PILOT_DEBOUNCE_MAX`.
pub const DEBOUNCE_QUIET: Duration = Duration::from_millis(100);
/// See [`DEBOUNCE_QUIET`].
pub const DEBOUNCE_MAX: Duration = Duration::from_secs(10);

/// Updates from sources waiting to be applied.
pub const UPDATES_QUEUED_MAX: usize = 16;

/// Time a debug request's head may take.
pub const DEBUG_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Debug connections open at once.
pub const DEBUG_CONNECTIONS_MAX: usize = 256;
