//! Bounds on what one file may make us do.

/// Largest text [`crate::decode()`] reads, in bytes. etcd refuses objects over 1.5 MiB; a file holds many.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Deepest nesting of mappings and lists in one document. The deepest legal Istio object (an
/// EnvoyFilter with a free-form patch) stays under 40.
pub const NODE_DEPTH_MAX: usize = 100;

/// Most nodes of one document after its aliases are expanded, so that nested anchors cannot multiply
/// (the "billion laughs" document). The largest object etcd stores, written densely, has fewer.
pub const NODE_COUNT_MAX: usize = 500_000;

/// Most errors reported for one object; the rest is counted in a last line.
pub const ERRORS_PER_OBJECT_MAX: usize = 50;
