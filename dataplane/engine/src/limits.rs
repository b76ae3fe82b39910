//! Every bound of the engine, with unit, reason and source.

use std::time::Duration;

/// Bytes asked of one receive: a whole block of the runtime.
pub const RECEIVE_BYTES_MAX: usize = ringsail_runtime::limits::BLOCK_BYTES;

/// Body pieces up to this size are copied behind the head or chunk line that precedes them, so that they leave in
/// one piece; larger ones are sent from where they were received. A copy of 4 KiB costs less than a second
/// element of a vectored send.
pub const COPIED_BODY_BYTES_MAX: usize = 4 * 1024;

/// Body bytes that one mirrored copy of a request may have waiting; a copy that is further behind is given up.
/// Source: as Envoy's buffer limit of a shadow, `per_connection_buffer_limit_bytes`, 1 MiB by default.
pub const MIRROR_WAITING_BYTES_MAX: usize = 1024 * 1024;

/// The same for all copies of a shard together: a dead mirror must not take the memory of a pod.
pub const MIRROR_WAITING_BYTES_OF_SHARD_MAX: usize = 16 * 1024 * 1024;

/// Copies of requests on their way at once, per shard. istiod sets circuit breakers without a limit, and a mirror that
/// never answers would otherwise collect tasks without end.
pub const MIRRORS_MAX: u32 = 1024;

/// Longest life of a copy where the route sets no shorter timeout; Istio's routes set none.
pub const MIRROR_DURATION_MAX: Duration = Duration::from_secs(300);

/// Longest answer to a gRPC call of our own. A rate limit service says a few hundred bytes.
pub const GRPC_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a request's body that are read and dropped after a failure, so that its connection can go on. As much as
/// Envoy's default window of a connection's socket holds at once; with more under way it is closed instead.
pub const UNREAD_BODY_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of an answer that is not gRPC's which a gRPC-Web client gets as `grpc-message`.
/// Source: Envoy's gRPC-Web filter.
pub const GRPC_WEB_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Interim (1xx) answers of one upstream exchange. Real servers send one or two; without a bound a server could keep
/// an exchange alive for ever.
pub const INTERIM_RESPONSES_MAX: u32 = 32;

/// Scratch memory (heads and output buffers) that a shard keeps for the next exchanges. Each is a few KiB; more
/// concurrent exchanges than this allocate and free.
pub const SCRATCH_KEPT_MAX: usize = 256;

/// A scratch buffer that grew past this is freed instead of kept, so that one large head does not stay.
pub const SCRATCH_BYTES_KEPT_MAX: usize = 16 * 1024;

/// Bytes the sniffer looks at before it gives up and calls the connection not HTTP.
/// Source: Envoy's HTTP inspector reads at most 64 KiB; a request line this long would be refused anyway.
pub const SNIFF_BYTES_MAX: usize = RECEIVE_BYTES_MAX;

/// How long a client on a port without a named protocol may be silent before its server is asked whether it speaks
/// first. A client that begins does so with its first packet behind the handshake; what it adds to a server-first
/// protocol is once per connection.
pub const SERVER_FIRST_GRACE: Duration = Duration::from_millis(5);

/// How often a shard looks at its idle upstream connections, and closes those that are closed or too old.
pub const POOL_SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The same while the shard drains: idle connections are closed as soon as their last request is over, and a process
/// that has been told to end waits for them.
pub const DRAIN_SWEEP_INTERVAL: Duration = Duration::from_millis(20);

/// Pause before a listener that could not be bound is tried again.
pub const BIND_RETRY: Duration = Duration::from_secs(1);

/// Pause before news that found the queue full is offered again.
pub const EVENT_RETRY: Duration = Duration::from_millis(5);

/// How long a local reply may wait for the client to take it. A few hundred bytes do not fit only when the client has
/// stopped reading.
pub const LOCAL_REPLY_SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that one HTTP/2 stream may have waiting to be written to its connection. Two of the largest frames a peer
/// asks for by default: one on its way, one ready.
pub const HTTP2_STREAM_SEND_BYTES_MAX: usize = 64 * 1024;

/// How long a process that ends waits for an idle HTTP/2 client to show that it knows, before it closes the connection.
/// A round trip to a client far away; requests of later streams, which the last GOAWAY tells of, may be sent again.
pub const HTTP2_SHUTDOWN_PATIENCE: Duration = Duration::from_millis(250);

/// Head of an HTTP/2 answer, in bytes as HTTP/2 counts them. Source: Envoy bounds response heads at 80 KiB.
pub const HTTP2_ANSWER_HEAD_BYTES_MAX: u32 = 80 * 1024;

/// HTTP/2 streams a client may reset before we have even looked at them; more end the connection.
/// Source: half of [`PREMATURE_RESETS_STREAMS`], as for resets that come a little later.
pub const HTTP2_PENDING_RESETS_MAX: usize = PREMATURE_RESETS_STREAMS as usize / 2;

/// Streams after which the share of those that the client reset early is judged.
/// Source: Envoy `overload.premature_reset_total_stream_count`.
pub const PREMATURE_RESETS_STREAMS: u32 = 500;

/// A stream that its client resets before this time, unanswered, was reset early.
/// Source: Envoy `overload.premature_reset_min_stream_lifetime_seconds`.
pub const PREMATURE_RESET_LIFETIME: Duration = Duration::from_secs(1);

/// Streams that break the protocol, each answered by a reset of its own, before the connection ends. The bound of the
/// `h2` crate, stated so that a new release does not move it.
pub const HTTP2_STREAM_ERRORS_MAX: usize = 1024;

/// Peers a shard remembers by the headers or endpoint metadata that told of them. Source: Envoy's peer metadata filter
/// remembers 500; beyond that all are looked into again.
pub const PEERS_MAX: usize = 500;

/// Combinations of label values a shard finds without making text. Twice the series it may have; beyond that all are
/// found by their text once more.
pub const TELEMETRY_KEYS_MAX: usize = 4096;

/// Texts and flag sets with a number of their own in such a combination; beyond that numbers are given anew.
pub const TELEMETRY_WORDS_MAX: usize = 4096;

/// How often the judge looks for clusters that it does not know yet.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Shortest pause between two sweeps, however short the intervals of clusters are.
pub const UPKEEP_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Bytes of a TCP or gRPC check's answer that are looked at. Those of HTTP checks are configured.
pub const CHECK_ANSWER_BYTES_MAX: usize = ringsail_tables::limits::CHECK_ANSWER_BYTES_MAX as usize;

/// How long a client may take for its TLS handshake where its filter chain does not say. Compat: Envoy has no bound then;
/// Istio sets this one on every chain.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// Reasons of failed handshakes with upstreams that a shard remembers, for the log lines of the requests that met them.
/// Each has some 200 bytes.
pub const TLS_FAILURES_KEPT: usize = 256;
