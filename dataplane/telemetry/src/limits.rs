//! Every bound of this crate, with unit and reason.

/// Most scopes (clusters, listeners, …) one shard keeps statistics for, per kind. Ten times the
/// largest mesh we measure; scopes beyond it share one nameless scope.
pub const SCOPES_PER_SHARD_MAX: usize = 50_000;

/// Access-log records that may wait for the writer thread. At 10,000 requests/s this is 0.4 s of
/// a stalled disk; a record is about 1.5 KiB, so 6 MiB.
pub const LOG_QUEUE_MAX: usize = 4096;

/// Bytes of text a record has room for from the start: Istio's default format takes 300 to 400 for a usual request.
pub const RECORD_TEXT_BYTES: usize = 512;

/// Header fields a record has room for from the start; Istio's default format shows seven.
pub const RECORD_HEADERS: usize = 8;

/// Bytes an access log collects before it writes. Source: Envoy `--file-flush-min-size-kb`, 64.
pub const LOG_FLUSH_BYTES: usize = 64 * 1024;

/// Longest time a collected line waits, in milliseconds. Istio sets Envoy's flush interval to 1 s.
pub const LOG_FLUSH_INTERVAL_MILLIS: u64 = 1000;

/// How long the writer thread lets records gather once some have come, in milliseconds: at 4,000 requests/s it is woken
/// a hundred times a second instead of for each record. Well inside the flush interval.
pub const LOG_GATHER_MILLIS: u64 = 10;

/// Records at which the writer thread is woken while it lets them gather: few enough to be in the processor's cache
/// still (64 × 1.5 KiB), and for a short queue half of it.
pub const LOG_GATHER_MAX: usize = 64;

/// Access logs (sink and format) that shards have declared at a time; the same bound for tracers. Each shard declares its
/// own, and those of the version before stay for a moment. Configuration names a handful.
pub const LOGS_MAX: usize = 1024;

/// Longest access-log format, in bytes.
pub const LOG_FORMAT_BYTES_MAX: usize = 64 * 1024;

/// Deepest nesting of a JSON access-log format.
pub const LOG_JSON_DEPTH_MAX: usize = 16;

/// Istio series one shard keeps: label combinations it counts apart. A workload with 20 peers, 10 services and 5
/// answers a service uses 1,000; two megabytes at most, histograms included.
pub const SERIES_PER_SHARD_MAX: usize = 2000;

/// Istio series the process shows. As many as one shard may keep: shards see the same combinations.
pub const SERIES_MAX: usize = 2000;

/// How long an Istio series that is not written stays.
pub const SERIES_EXPIRY_DEFAULT: std::time::Duration = std::time::Duration::from_secs(30 * 60);

/// Bounds a histogram may have: a scrape has as many lines for each series.
pub const BUCKETS_MAX: usize = 128;

/// Entries of the bootstrap's statistics configuration, per kind. Istio sends about twenty.
pub const STATS_SETTINGS_MAX: usize = 256;

/// Encoded entries and spans that wait to be sent, in bytes. At 1 KiB a span it holds 16,000 of them, some seconds of
/// a busy proxy while its collector is gone.
pub const EXPORT_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest time a span waits for others, in milliseconds. Source: Envoy `tracing.zipkin.flush_interval_ms`.
pub const SPAN_FLUSH_INTERVAL_MILLIS: u64 = 5000;

/// Spans that Zipkin gets at once. Envoy's `tracing.zipkin.min_flush_spans` is 5; a larger batch costs both sides less.
pub const ZIPKIN_BATCH_MAX: usize = 100;
