//! Every bound of this crate, with unit, reason and source.

/// Longest request head accepted, in bytes: request line, all fields and the empty line.
/// Source: Envoy `max_request_headers_kb`, default 60. Exceeding it answers 431 and closes.
pub const REQUEST_HEAD_BYTES_MAX: usize = 60 * 1024;

/// Longest response head accepted, in bytes. Source: Envoy's HTTP/1 upstream codec (80 KiB).
/// Exceeding it is an upstream protocol error (502).
pub const RESPONSE_HEAD_BYTES_MAX: usize = 80 * 1024;

/// Most fields in a head, and separately in a trailer section.
/// Source: Envoy `common_http_protocol_options.max_headers_count`, default 100.
pub const FIELDS_MAX: usize = 100;

/// Highest configurable number of fields: the index of a head being decoded is this long and lives
/// on the stack (32 bytes an entry, not initialised). Source: Envoy allows up to 8192; a head of
/// 60 KiB with more than 1024 fields has nothing but tiny fields.
pub const FIELDS_CEILING: usize = 1024;

/// Longest trailer section, in bytes. The same allowance as a request head: a trailer section is
/// one more list of fields from the same peer.
pub const TRAILER_BYTES_MAX: usize = REQUEST_HEAD_BYTES_MAX;

/// Longest chunk-size line, in bytes, extensions and line end included. Extensions carry no
/// meaning for a proxy; without a bound a peer could stream them for ever.
pub const CHUNK_LINE_BYTES_MAX: usize = 4 * 1024;

/// Chunk-extension bytes a whole body may carry before it is refused. Bounds the overhead of
/// one-byte chunks with long extensions (the shape of CVE-2023-39326).
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 16 * 1024;

/// Empty lines tolerated in front of a start line, in bytes (RFC 9112 §2.2 asks for at least one CRLF).
pub const LEADING_EMPTY_BYTES_MAX: usize = 64;

/// Most bytes written to a head after it was decoded: field edits never grow a head beyond
/// the decoded limit plus this. Larger edits are refused by [`Fields::set`](crate::Fields::set).
pub const HEAD_EDIT_BYTES_MAX: usize = 64 * 1024;

/// Partial heads up to this many bytes are checked on every read, so that a peer that does not
/// speak HTTP is refused at its first bytes; longer ones at each doubling, which keeps the total
/// work linear when a peer sends one byte at a time.
pub const EAGER_CHECK_BYTES: usize = 1024;
