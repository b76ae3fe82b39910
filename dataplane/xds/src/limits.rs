//! Bounds of what a peer can make the protocol halves remember.

/// Names one subscription may hold, per type. A gateway that asks for every cluster of a 10,000-service mesh with
/// three subsets each needs 40,000; a peer that asks for more than this is refused.
pub const NAMES_MAX: usize = 200_000;

/// Resource types one stream may use. Istio's agent uses 10.
pub const TYPES_MAX: usize = 32;

/// Longest error text sent in a NACK, in bytes. Source: Envoy cuts its own at 4096.
pub const NACK_TEXT_BYTES_MAX: usize = 4096;

/// Answers a server waits for at once, per type. A client that never answers is sent nothing more.
pub const OUTSTANDING_MAX: usize = 16;
