//! Histograms with Envoy's bucket bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::BUCKETS_MAX;

/// Upper bounds of the buckets, inclusive, in the metric's unit; one more bucket has no bound.
/// Source: envoy-observed §9.
pub const BUCKET_BOUNDS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0,
    300000.0, 600000.0, 1800000.0, 3600000.0,
];

/// The upper bounds of a histogram's buckets: Envoy's, or those that configuration sets for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds(Option<Arc<[f64]>>);

impl Bounds {
    /// Other bounds than Envoy's: ascending, at most [`BUCKETS_MAX`](crate::limits::BUCKETS_MAX) of them.
    pub fn new(bounds: &[f64]) -> Option<Bounds> {
        let ascending = bounds.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        let usable = !bounds.is_empty() && bounds.len() <= BUCKETS_MAX && ascending;
        usable.then(|| Bounds(Some(bounds.into())))
    }

    /// The bounds.
    pub fn as_slice(&self) -> &[f64] {
        self.0.as_deref().unwrap_or(&BUCKET_BOUNDS)
    }
}

/// One shard's share of a histogram. Single writer, as all cells.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: Bounds,
    /// One more than bounds: the last has none.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(bounds: Bounds) -> Histogram {
        let buckets = (0..=bounds.as_slice().len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, buckets, sum: AtomicU64::new(0) }
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    pub(crate) fn record(&self, value: u64) {
        let bucket = self.bounds.as_slice().partition_point(|bound| *bound < value as f64);
        if let Some(cell) = self.buckets.get(bucket) {
            cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
        }
        self.sum.store(self.sum.load(Relaxed).wrapping_add(value), Relaxed);
    }

    /// Adds to a snapshot with the same bounds.
    pub(crate) fn add_to(&self, snapshot: &mut HistogramSnapshot) {
        if snapshot.bounds != self.bounds {
            // All histograms of a name get the same settings; a snapshot begins with Envoy's.
            *snapshot = HistogramSnapshot::new(&self.bounds);
        }
        for (total, cell) in snapshot.buckets.iter_mut().zip(&self.buckets) {
            *total += cell.load(Relaxed);
        }
        snapshot.sum += self.sum.load(Relaxed);
    }
}

/// A histogram summed over all shards.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSnapshot {
    bounds: Bounds,
    buckets: Box<[u64]>,
    sum: u64,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        HistogramSnapshot::new(&Bounds::default())
    }
}

impl HistogramSnapshot {
    /// An empty one.
    pub(crate) fn new(bounds: &Bounds) -> HistogramSnapshot {
        let buckets = vec![0; bounds.as_slice().len() + 1].into();
        HistogramSnapshot { bounds: bounds.clone(), buckets, sum: 0 }
    }

    /// Values recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Sum of the values recorded.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// (upper bound, values at or below it), the last bound being infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.bounds.as_slice().iter().copied().chain([f64::INFINITY]);
        let mut below = 0;
        bounds.zip(self.buckets.iter()).map(move |(bound, count)| {
            below += count;
            (bound, below)
        })
    }

    /// The value that a share `q` (0 to 1) of the recorded ones does not exceed, interpolated
    /// inside its bucket; `None` when nothing was recorded. Values above the last bound count as
    /// the last bound.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = q.clamp(0.0, 1.0) * count as f64;
        let mut below = 0u64;
        let mut lower = 0.0;
        for (bound, in_bucket) in self.bounds.as_slice().iter().zip(self.buckets.iter()) {
            let reached = below + in_bucket;
            if *in_bucket > 0 && reached as f64 >= wanted {
                let share = (wanted - below as f64) / *in_bucket as f64;
                return Some(lower + (bound - lower) * share.clamp(0.0, 1.0));
            }
            below = reached;
            lower = *bound;
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> HistogramSnapshot {
        let histogram = Histogram::new(Bounds::default());
        for value in values {
            histogram.record(*value);
        }
        let mut snapshot = HistogramSnapshot::default();
        histogram.add_to(&mut snapshot);
        snapshot
    }

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let below: Vec<u64> = of(&[0, 1, 5, 6, 3_600_000, 3_600_001]).cumulative().map(|(_, n)| n).collect();
        assert_eq!(below[..4], [1, 2, 3, 4]);
        assert_eq!(below[18..], [5, 6]);
    }

    #[test]
    fn count_and_sum_are_kept() {
        let h = of(&[3, 4, 100]);
        assert_eq!((h.count(), h.sum()), (3, 107));
    }

    #[test]
    fn quantiles_lie_in_their_bucket() {
        let h = of(&[2; 100]);
        assert_eq!(h.quantile(0.0), Some(1.0));
        assert_eq!(h.quantile(0.5), Some(3.0));
        assert_eq!(h.quantile(1.0), Some(5.0));
        assert_eq!(of(&[]).quantile(0.5), None);
        assert_eq!(of(&[u64::MAX / 2]).quantile(0.5), Some(3_600_000.0));
    }
}
