//! Bounds of what is compiled, with units and reasons.

/// Longest accepted regular expression, in bytes of pattern text. Istio refuses longer ones at 1,024; EnvoyFilter
/// users write longer alternations.
pub const REGEX_PATTERN_BYTES_MAX: usize = 16 * 1024;

/// Largest compiled program of one regular expression, in bytes. A pattern such as `(a{1000}){1000}` must fail to
/// compile instead of taking the memory of the pod.
pub const REGEX_PROGRAM_BYTES_MAX: usize = 1024 * 1024;

/// Most memory of one regular expression's lazily built automaton, in bytes per thread that matches with it.
pub const REGEX_CACHE_BYTES_MAX: usize = 256 * 1024;

/// Largest repetition count in a regular expression, as in RE2.
pub const REGEX_REPEAT_MAX: u32 = 1000;

/// Deepest nesting of messages, metadata values and access-log filters. Protobuf's own default bound is 100.
pub const NESTING_MAX: u32 = 64;

/// Longest direct-response body, in bytes, where `max_direct_response_body_size_bytes` is not set.
/// Source: Envoy's default of that field (4096).
pub const DIRECT_RESPONSE_BODY_BYTES_DEFAULT: u32 = 4096;

/// Most values with a rate-limit bucket of their own, for one descriptor: a bucket has about 600 bytes, and a request
/// with a new value looks at all of them.
pub const RATE_LIMITED_VALUES_MAX: u32 = 1024;

/// Longest body that a mapper of local replies gives, in bytes. Source: the same default; error pages are small.
pub const LOCAL_REPLY_BODY_BYTES_MAX: u32 = 64 * 1024;

/// Most diagnostics kept for one resource: enough to repair a file, small enough for a NACK's text.
pub const DIAGNOSTICS_PER_RESOURCE_MAX: usize = 16;

/// Routes in one virtual host from which on an index by path is built; below it a scan is faster and smaller.
pub const ROUTES_INDEXED_FROM: usize = 12;

/// Joined values of a repeated header up to this length, in bytes, are matched without a heap allocation.
pub const JOINED_HEADER_STACK_BYTES: usize = 512;

/// Most combinations of filter-chain match values in one listener. A gateway with 10,000 server names on four
/// application protocols needs 40,000.
pub const FILTER_CHAIN_RULES_MAX: usize = 65_536;

/// Highest priority of a locality. Source: `LocalityLbEndpoints.priority`.
pub const PRIORITY_MAX: u32 = 128;

/// Most entries of a hash ring. Source: the default and bound of `RingHashLbConfig.maximum_ring_size`.
pub const RING_SIZE_MAX: u64 = 8 * 1024 * 1024;

/// Most entries of a Maglev table. Source: the bound of `MaglevLbConfig.table_size`.
pub const MAGLEV_TABLE_MAX: u64 = 5_000_011;

/// Longest CEL expression, in bytes. Those of Istio's documentation have less than 200.
pub const CEL_BYTES_MAX: usize = 4096;

/// Most nodes (operators, members, calls, literals) of a CEL expression.
pub const CEL_NODES_MAX: usize = 256;

/// Deepest nesting of a CEL expression, and the longest row of operators of one kind in it: evaluation recurses.
pub const CEL_DEPTH_MAX: u16 = 32;

/// Metric overrides of one `istio.stats` filter. There are ten metrics, and one entry for all of them.
pub const METRIC_OVERRIDES_MAX: usize = 64;

/// Labels that overrides may add to one metric. Every one multiplies the number of series.
pub const ADDED_LABELS_MAX: usize = 32;

/// Longest interval of `istio.stats` timers. Source: a day is longer than any connection it would report on.
pub const REPORT_INTERVAL_MAX: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// Longest peer header that is looked into, in bytes. Istio's have about 600; labels of one's own make them longer.
pub const PEER_HEADER_BYTES_MAX: usize = 16 * 1024;

/// Longest value taken over from a peer header, in bytes: it becomes a label. Kubernetes names have 253 at most.
pub const PEER_VALUE_BYTES_MAX: usize = 256;

/// Longest access-log format, in bytes. The same bound as where formats are compiled.
pub const LOG_FORMAT_BYTES_MAX: usize = 64 * 1024;

/// Spans that are collected before they are sent, where `max_cache_size` is not set. Source: Envoy's
/// `tracing.opentelemetry.min_flush_spans` is 5; a batch of 512 (OTLP's usual size) costs the collector less.
pub const TRACE_BATCH_DEFAULT: usize = 512;

/// Bytes of an answer to a health check that are looked at.
pub const CHECK_ANSWER_BYTES_MAX: u32 = 64 * 1024;
