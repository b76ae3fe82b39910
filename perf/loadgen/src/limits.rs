//! Bounds of one run.

/// Most connections of one run. The usual hard limit for open files is 20,000; each connection is one.
pub const CONNECTIONS_MAX: usize = 19_000;

/// Highest arrival rate, requests per second: above it one core cannot keep the schedule.
pub const RATE_MAX: u64 = 1_000_000;

/// Longest response head in bytes; longer ones count as an error.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Longest latency the histogram tells apart, in microseconds: one minute. Longer ones count as one minute.
pub const LATENCY_US_MAX: u64 = 60_000_000;

/// Most streams at a time on one HTTP/2 connection; servers rarely allow more.
pub const STREAMS_MAX: u64 = 1024;

/// HTTP/2 receive windows in bytes, per stream and per connection: 1 MiB, so that the server's windows are the limit.
pub const HTTP2_WINDOW_BYTES: u32 = 1 << 20;
