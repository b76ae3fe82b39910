//! The cells of one scope on one shard.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::histogram::{Bounds, Histogram, HistogramSnapshot};
use crate::scope::{Metric, Scope};

/// Status codes counted one by one; others only show in their class.
pub(crate) const STATUS_CODES: [u16; 42] = [
    100, 101, 103, 200, 201, 202, 203, 204, 205, 206, 207, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402,
    403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 415, 422, 425, 426, 429, 431, 500, 501, 502, 503, 504,
];

/// Counters, gauges and histograms of one scope, written by one thread and read by any.
///
/// Writing is a relaxed load and store. Two writers would lose counts (never corrupt them), which
/// is why shards get [`Stats`], which cannot leave its thread; use a `Block` directly only where
/// one thread owns the writing, as the agent does.
pub struct Block<S: Scope> {
    /// Counters, then gauges.
    cells: Box<[AtomicU64]>,
    histograms: Box<[OnceLock<Box<Histogram>>]>,
    by_status: OnceLock<Box<[AtomicU64; STATUS_CODES.len()]>>,
    /// Of each histogram; `None` when all are Envoy's.
    bounds: Option<Box<[Bounds]>>,
    /// What the counters were when they were reset. The writer goes on counting, because nobody else may write its
    /// cells; readers subtract.
    reset: OnceLock<Box<Baseline>>,
    scope: PhantomData<fn() -> S>,
}

/// Written by the one thread that resets.
struct Baseline {
    counters: Box<[AtomicU64]>,
    by_status: [AtomicU64; STATUS_CODES.len()],
}

impl<S: Scope> Default for Block<S> {
    fn default() -> Self {
        Self::with_bounds(None)
    }
}

impl<S: Scope> Block<S> {
    /// A block whose histograms have these bounds, in their order.
    pub(crate) fn with_bounds(bounds: Option<Box<[Bounds]>>) -> Self {
        let cells = S::Counter::ALL.len() + S::Gauge::ALL.len();
        Self {
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            histograms: S::Histogram::ALL.iter().map(|_| OnceLock::new()).collect(),
            by_status: OnceLock::new(),
            bounds,
            reset: OnceLock::new(),
            scope: PhantomData,
        }
    }

    /// Adds to a counter.
    #[inline]
    pub fn add(&self, counter: S::Counter, n: u64) {
        self.change(counter.index(), |value| value.wrapping_add(n));
    }

    /// Sets a gauge. The value of a scope is the sum over its blocks.
    #[inline]
    pub fn set(&self, gauge: S::Gauge, n: u64) {
        self.change(S::Counter::ALL.len() + gauge.index(), |_| n);
    }

    /// Raises a gauge.
    #[inline]
    pub fn raise(&self, gauge: S::Gauge, n: u64) {
        self.change(S::Counter::ALL.len() + gauge.index(), |value| value.wrapping_add(n));
    }

    /// Lowers a gauge; the value stops at 0.
    #[inline]
    pub fn lower(&self, gauge: S::Gauge, n: u64) {
        self.change(S::Counter::ALL.len() + gauge.index(), |value| value.saturating_sub(n));
    }

    /// Records a value, in the histogram's unit. The first one allocates the buckets.
    #[inline]
    pub fn record(&self, histogram: S::Histogram, value: u64) {
        if let Some(slot) = self.histograms.get(histogram.index()) {
            let bounds = || self.bounds.as_ref()?.get(histogram.index()).cloned();
            slot.get_or_init(|| Box::new(Histogram::new(bounds().unwrap_or_default()))).record(value);
        }
    }

    /// Counts an answer under its own status code, where the scope does that
    /// ([`Scope::BY_STATUS`]). The first one allocates the cells.
    pub fn count_status(&self, status: u16) {
        if S::BY_STATUS.is_none() {
            return;
        }
        let Ok(index) = STATUS_CODES.binary_search(&status) else { return };
        let cells =
            self.by_status.get_or_init(|| Box::new([const { AtomicU64::new(0) }; STATUS_CODES.len()]));
        if let Some(cell) = cells.get(index) {
            cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// Lets the counters start at zero again; gauges and histograms stay. One thread may call it at a time.
    /// Source: Envoy's `/reset_counters`.
    pub(crate) fn reset_counters(&self) {
        let zero = || Baseline {
            counters: S::Counter::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            by_status: [const { AtomicU64::new(0) }; STATUS_CODES.len()],
        };
        let baseline = self.reset.get_or_init(|| Box::new(zero()));
        for (base, cell) in baseline.counters.iter().zip(&self.cells) {
            base.store(cell.load(Relaxed), Relaxed);
        }
        if let Some(cells) = self.by_status.get() {
            for (base, cell) in baseline.by_status.iter().zip(cells.iter()) {
                base.store(cell.load(Relaxed), Relaxed);
            }
        }
    }

    /// A counter's value in this block, resets not regarded.
    pub fn counter(&self, counter: S::Counter) -> u64 {
        self.load(counter.index())
    }

    /// A gauge's value in this block.
    pub fn gauge(&self, gauge: S::Gauge) -> u64 {
        self.load(S::Counter::ALL.len() + gauge.index())
    }

    #[inline]
    fn change(&self, index: usize, change: impl FnOnce(u64) -> u64) {
        if let Some(cell) = self.cells.get(index) {
            cell.store(change(cell.load(Relaxed)), Relaxed);
        }
    }

    fn load(&self, index: usize) -> u64 {
        self.cells.get(index).map_or(0, |cell| cell.load(Relaxed))
    }

    pub(crate) fn add_to(&self, totals: &mut Totals<S>) {
        for (total, cell) in totals.cells.iter_mut().zip(&self.cells) {
            *total = total.wrapping_add(cell.load(Relaxed));
        }
        for (total, slot) in totals.histograms.iter_mut().zip(&self.histograms) {
            if let Some(histogram) = slot.get() {
                histogram.add_to(total);
            }
        }
        if let Some(cells) = self.by_status.get() {
            for (total, cell) in totals.by_status.iter_mut().zip(cells.iter()) {
                *total += cell.load(Relaxed);
            }
        }
        if let Some(baseline) = self.reset.get() {
            for (total, base) in totals.cells.iter_mut().zip(&baseline.counters) {
                *total = total.wrapping_sub(base.load(Relaxed));
            }
            for (total, base) in totals.by_status.iter_mut().zip(&baseline.by_status) {
                *total = total.wrapping_sub(base.load(Relaxed));
            }
        }
    }
}

impl<S: Scope> fmt::Debug for Block<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block<{}>", S::PREFIX)
    }
}

/// The values of one scope summed over its blocks.
#[derive(Debug)]
pub(crate) struct Totals<S: Scope> {
    cells: Vec<u64>,
    histograms: Vec<HistogramSnapshot>,
    by_status: [u64; STATUS_CODES.len()],
    scope: PhantomData<fn() -> S>,
}

impl<S: Scope> Totals<S> {
    pub(crate) fn new() -> Self {
        Self {
            cells: vec![0; S::Counter::ALL.len() + S::Gauge::ALL.len()],
            histograms: vec![HistogramSnapshot::default(); S::Histogram::ALL.len()],
            by_status: [0; STATUS_CODES.len()],
            scope: PhantomData,
        }
    }

    pub(crate) fn counter(&self, counter: S::Counter) -> u64 {
        self.cells.get(counter.index()).copied().unwrap_or(0)
    }

    pub(crate) fn gauge(&self, gauge: S::Gauge) -> u64 {
        self.cells.get(S::Counter::ALL.len() + gauge.index()).copied().unwrap_or(0)
    }

    pub(crate) fn set_gauge(&mut self, gauge: S::Gauge, value: u64) {
        if let Some(cell) = self.cells.get_mut(S::Counter::ALL.len() + gauge.index()) {
            *cell = value;
        }
    }

    pub(crate) fn histogram(&self, histogram: S::Histogram) -> HistogramSnapshot {
        self.histograms.get(histogram.index()).cloned().unwrap_or_default()
    }

    /// Status codes that occurred.
    pub(crate) fn by_status(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        STATUS_CODES.iter().copied().zip(self.by_status.iter().copied()).filter(|(_, n)| *n > 0)
    }
}

/// A shard's handle on its own [`Block`]: cheap to clone, and bound to its thread.
pub struct Stats<S: Scope> {
    shared: Rc<Shared<S>>,
}

/// Cloning a handle counts up the `Rc` of its shard, not the `Arc` that the agent touches.
struct Shared<S: Scope> {
    block: Arc<Block<S>>,
}

impl<S: Scope> Stats<S> {
    pub(crate) fn new(block: Arc<Block<S>>) -> Self {
        Self { shared: Rc::new(Shared { block }) }
    }
}

impl<S: Scope> Clone for Stats<S> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared) }
    }
}

impl<S: Scope> std::ops::Deref for Stats<S> {
    type Target = Block<S>;

    fn deref(&self) -> &Block<S> {
        &self.shared.block
    }
}

impl<S: Scope> fmt::Debug for Stats<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stats<{}>", S::PREFIX)
    }
}

impl Block<crate::metrics::Cluster> {
    /// Counts an upstream's answer: completed, its class, and its code.
    pub fn count_answer(&self, status: u16) {
        use crate::metrics::ClusterCounter as C;
        self.add(C::UpstreamRqCompleted, 1);
        let class = match status {
            100..=199 => C::UpstreamRq1xx,
            200..=299 => C::UpstreamRq2xx,
            300..=399 => C::UpstreamRq3xx,
            400..=499 => C::UpstreamRq4xx,
            _ => C::UpstreamRq5xx,
        };
        self.add(class, 1);
        self.count_status(status);
    }
}

impl Block<crate::metrics::Http> {
    /// Counts an answer to a client: completed and its class.
    pub fn count_answer(&self, status: u16) {
        use crate::metrics::HttpCounter as C;
        self.add(C::DownstreamRqCompleted, 1);
        let class = match status {
            100..=199 => C::DownstreamRq1xx,
            200..=299 => C::DownstreamRq2xx,
            300..=399 => C::DownstreamRq3xx,
            400..=499 => C::DownstreamRq4xx,
            _ => C::DownstreamRq5xx,
        };
        self.add(class, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Cluster, ClusterCounter, ClusterGauge, ClusterHistogram};

    #[test]
    fn status_codes_are_sorted_for_their_search() {
        assert!(STATUS_CODES.is_sorted());
    }

    #[test]
    fn counters_gauges_and_histograms_do_not_share_cells() {
        let block = Block::<Cluster>::default();
        for counter in ClusterCounter::ALL {
            block.add(*counter, 1);
        }
        for gauge in ClusterGauge::ALL {
            block.raise(*gauge, 3);
            block.lower(*gauge, 1);
        }
        block.record(ClusterHistogram::UpstreamRqTime, 7);
        assert!(ClusterCounter::ALL.iter().all(|c| block.counter(*c) == 1));
        assert!(ClusterGauge::ALL.iter().all(|g| block.gauge(*g) == 2));
    }

    #[test]
    fn a_gauge_does_not_go_below_zero() {
        let block = Block::<Cluster>::default();
        block.lower(ClusterGauge::UpstreamCxActive, 1);
        assert_eq!(block.gauge(ClusterGauge::UpstreamCxActive), 0);
    }

    #[test]
    fn a_reset_sets_counters_back_and_nothing_else() {
        let block = Block::<Cluster>::default();
        let totals = || {
            let mut totals = Totals::new();
            block.add_to(&mut totals);
            totals
        };
        block.count_answer(503);
        block.raise(ClusterGauge::UpstreamCxActive, 3);
        block.reset_counters();
        assert_eq!(totals().counter(ClusterCounter::UpstreamRq5xx), 0);
        assert_eq!(totals().by_status().count(), 0);
        assert_eq!(totals().gauge(ClusterGauge::UpstreamCxActive), 3);
        block.count_answer(503);
        assert_eq!(totals().counter(ClusterCounter::UpstreamRq5xx), 1);
        block.reset_counters();
        block.count_answer(503);
        assert_eq!(totals().by_status().collect::<Vec<_>>(), [(503, 1)]);
    }

    #[test]
    fn answers_count_in_class_and_code() {
        let block = Block::<Cluster>::default();
        block.count_answer(503);
        block.count_answer(299);
        let mut totals = Totals::new();
        block.add_to(&mut totals);
        assert_eq!(totals.counter(ClusterCounter::UpstreamRqCompleted), 2);
        assert_eq!(totals.counter(ClusterCounter::UpstreamRq5xx), 1);
        assert_eq!(totals.by_status().collect::<Vec<_>>(), [(503, 1)]);
    }

    #[test]
    fn an_unused_cluster_block_is_small() {
        let cells = ClusterCounter::ALL.len() + ClusterGauge::ALL.len();
        let bytes = size_of::<Block<Cluster>>()
            + cells * size_of::<AtomicU64>()
            + ClusterHistogram::ALL.len() * size_of::<OnceLock<Box<Histogram>>>();
        assert!(bytes <= 1088, "{bytes} bytes");
    }
}
