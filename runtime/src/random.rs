//! Random numbers for choices that need no secrecy: balancing, sampling, jitter. One generator a thread, seeded by
//! the system; [`seed`] makes a shard repeatable.

/// A random number over the whole range.
pub fn next_u64() -> u64 {
    fastrand::u64(..)
}

/// A random number below `bound`; 0 when `bound` is 0.
pub fn below(bound: u32) -> u32 {
    if bound == 0 { 0 } else { fastrand::u32(..bound) }
}

/// Restarts this thread's generator.
pub fn seed(seed: u64) {
    fastrand::seed(seed);
}
