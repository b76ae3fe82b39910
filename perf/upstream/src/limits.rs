//! Every bound of this program, with its reason.

use std::time::Duration;

/// Longest request or response head, in bytes. Twice what Envoy lets through by default (60 KiB), so that a
/// proxy under test is always the one that refuses.
pub const HEAD_BYTES_MAX: usize = 120 * 1024;

/// Most header fields of one head.
pub const HEADER_COUNT_MAX: usize = 128;

/// Longest answer of another service that is read and passed on, in bytes.
pub const CALL_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Longest body that can be asked for with `size`, in bytes: 16 GiB, enough to watch a proxy's memory stay flat.
pub const ANSWER_BYTES_MAX: u64 = 16 << 30;

/// Longest delay that can be asked for.
pub const DELAY_MAX: Duration = Duration::from_secs(300);

/// How long a call to another service may take. The mesh's own timeouts are meant to end it earlier.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Idle connections kept per called service.
pub const IDLE_CALL_CONNECTIONS_MAX: usize = 256;

/// Streams of one HTTP/2 connection that may be open at once: more than any benchmark uses.
pub const HTTP2_STREAMS_MAX: u32 = 1024;

/// HTTP/2 receive windows in bytes, per stream and per connection: 1 MiB, so that a proxy's own windows are the limit.
pub const HTTP2_WINDOW_BYTES: u32 = 1 << 20;
