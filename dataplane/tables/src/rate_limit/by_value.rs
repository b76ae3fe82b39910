//! Buckets for values that no configuration names: one for each value seen lately.
//!
//! All shards share them, without a lock: a value is known by a hash in a cell, and takes the cell of the value that
//! was not seen for longest when there is none left. What goes wrong in a race is small and said here: two shards that
//! see a new value in the same moment may each give it a full bucket, and a value that lost its cell and comes back has
//! a full one again, which is what the bound on their number means.

use std::hash::{DefaultHasher, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::token_bucket::TokenBucket;

/// The buckets of one descriptor. Source: `LocalRateLimitDescriptor` with an empty value, `max_dynamic_descriptors`.
#[derive(Debug)]
pub struct ByValue {
    settings: TokenBucket,
    values_max: usize,
    cells: OnceLock<Box<[Cell]>>,
}

#[derive(Debug)]
struct Cell {
    /// Hash of the value; 0 for none.
    value: AtomicU64,
    /// When it was seen last, in milliseconds.
    seen: AtomicU64,
    bucket: TokenBucket,
}

impl ByValue {
    /// For at most so many values, each with a bucket of these settings. Cells are made when the first is needed.
    pub fn new(settings: TokenBucket, values_max: u32) -> ByValue {
        ByValue { settings, values_max: values_max.max(1) as usize, cells: OnceLock::new() }
    }

    /// The same, with nothing seen.
    pub fn fresh(&self) -> ByValue {
        ByValue::new(self.settings.fresh(), u32::try_from(self.values_max).unwrap_or(u32::MAX))
    }

    /// How fast each bucket refills.
    pub fn tokens_per_second(&self) -> f64 {
        self.settings.tokens_per_second()
    }

    /// The bucket of the value that is made of these texts.
    pub fn bucket<'t>(&self, texts: impl Iterator<Item = &'t str>, now: Duration) -> &TokenBucket {
        let mut hasher = DefaultHasher::new();
        for text in texts {
            hasher.write(text.as_bytes());
            hasher.write_u8(0xff);
        }
        let value = hasher.finish().max(1);
        let cells = self.cells.get_or_init(|| {
            let cell =
                |_| Cell { value: AtomicU64::new(0), seen: AtomicU64::new(0), bucket: self.settings.fresh() };
            (0..self.values_max).map(cell).collect()
        });
        // One more than the time, so that a cell in use is younger than an empty one.
        let seen = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let mut oldest = &cells[0];
        for cell in cells {
            if cell.value.load(Relaxed) == value {
                // Not for every request: shards share the cell.
                if cell.seen.load(Relaxed) != seen {
                    cell.seen.store(seen, Relaxed);
                }
                return &cell.bucket;
            }
            if cell.seen.load(Relaxed) < oldest.seen.load(Relaxed) {
                oldest = cell;
            }
        }
        oldest.seen.store(seen, Relaxed);
        oldest.value.store(value, Relaxed);
        oldest.bucket.refill();
        &oldest.bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    fn take(buckets: &ByValue, value: &str, seconds: u64) -> bool {
        buckets.bucket(["key", value].into_iter(), at(seconds)).take(1, 0, at(seconds))
    }

    #[test]
    fn every_value_has_a_bucket_of_its_own() {
        let buckets = ByValue::new(TokenBucket::new(1, 1, Duration::from_secs(3600)), 20);
        for value in ["a", "b", "ab", ""] {
            assert!(take(&buckets, value, 0) && !take(&buckets, value, 0), "{value}");
        }
        assert!(!take(&buckets, "a", 1));
    }

    #[test]
    fn the_value_not_seen_for_longest_makes_room() {
        let buckets = ByValue::new(TokenBucket::new(1, 1, Duration::from_secs(3600)), 2);
        assert!(take(&buckets, "a", 0) && take(&buckets, "b", 1) && !take(&buckets, "a", 2));
        // `b` goes, not `a`.
        assert!(take(&buckets, "c", 3));
        assert!(!take(&buckets, "a", 4) && take(&buckets, "b", 5));
    }
}
