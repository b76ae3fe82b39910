//! Bounds of TLS.

/// Longest chain of certificates that is followed, without the leaf and the anchor. Source: Envoy's default of
/// `max_verify_depth`.
pub const VERIFY_DEPTH_MAX: u32 = 100;

/// Sessions that a client keeps for resumption, per cluster and shard. Source: Envoy's default of `max_session_keys`.
pub const SESSIONS_KEPT_DEFAULT: u32 = 1;

/// Most that `max_session_keys` may ask for; each takes about 3 KiB on each shard.
pub const SESSIONS_KEPT_MAX: u32 = 1024;

/// Plaintext bytes sealed in one record. Source: RFC 8446 §5.1.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// What a record adds to its plaintext at most: header, content type, nonce, padding, MAC of the CBC suites of TLS 1.2.
pub const RECORD_OVERHEAD_MAX: usize = 128;

/// Application protocols one side may offer, in bytes as sent. Source: RFC 7301 §3.1.
pub const ALPN_BYTES_MAX: usize = 65_535;

/// Names of a certificate that an error message lists.
pub const NAMES_SHOWN_MAX: usize = 8;

/// Session ticket keys: the first seals, all open. Source: a deployment rotates daily and keeps two days.
pub const TICKET_KEYS_MAX: usize = 16;

/// Smallest RSA key of our own certificates, in bits. Source: Envoy refuses smaller ones.
pub const RSA_BITS_MIN: u32 = 2048;
