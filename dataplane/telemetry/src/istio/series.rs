//! The series of one shard.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use hashbrown::HashMap;

use super::metric::{Family, IstioMetric, MetricSet, Tag};
use crate::histogram::{Bounds, Histogram};
use crate::limits::SERIES_PER_SHARD_MAX;
use crate::registry::Created;

/// One label: name and value.
pub type Label = (Cow<'static, str>, Box<str>);

/// The labels of a series, in the order they are written.
pub type Labels = Box<[Label]>;

/// Values of one series on one shard, written by that shard and read by any thread.
#[derive(Debug)]
pub(crate) struct SeriesBlock {
    pub(super) counters: [AtomicU64; 4],
    pub(super) histograms: [OnceLock<Box<Histogram>>; 3],
}

impl SeriesBlock {
    fn new() -> SeriesBlock {
        SeriesBlock { counters: [const { AtomicU64::new(0) }; 4], histograms: [const { OnceLock::new() }; 3] }
    }
}

/// A new series, on its way to the registry.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) family: Family,
    pub(crate) metrics: MetricSet,
    pub(crate) labels: Labels,
    pub(crate) block: Arc<SeriesBlock>,
}

/// A handle on a series: keep it as long as the combination of labels it was found for.
#[derive(Clone, Debug)]
pub struct Series(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    block: Arc<SeriesBlock>,
    metrics: MetricSet,
    bounds: Rc<[Bounds; 3]>,
    expiry: Duration,
    used: Cell<bool>,
    /// When a sweep first found it unused.
    unused_since: Cell<Option<Instant>>,
}

impl Series {
    /// Adds to a counter, unless it is switched off.
    pub fn add(&self, metric: IstioMetric, n: u64) {
        if !self.0.metrics.contains(metric) {
            return;
        }
        self.0.used.set(true);
        if let Some(cell) = self.0.block.counters.get(metric.cell()) {
            cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
        }
    }

    /// Records a value, unless the histogram is switched off.
    pub fn record(&self, metric: IstioMetric, value: u64) {
        if !self.0.metrics.contains(metric) {
            return;
        }
        self.0.used.set(true);
        let cell = metric.cell();
        if let (Some(slot), Some(bounds)) = (self.0.block.histograms.get(cell), self.0.bounds.get(cell)) {
            slot.get_or_init(|| Box::new(Histogram::new(bounds.clone()))).record(value);
        }
    }
}

/// The series of one shard, by what they are named.
#[derive(Debug)]
pub struct SeriesSet {
    creations: Sender<Created>,
    /// By a 128-bit hash of family and labels: the text is the registry's to keep.
    known: RefCell<HashMap<u128, Series>>,
    /// Buckets of the histograms, in the order of their cells.
    bounds: Rc<[Bounds; 3]>,
}

impl SeriesSet {
    pub(crate) fn new(creations: Sender<Created>, bounds: [Bounds; 3]) -> SeriesSet {
        SeriesSet { creations, known: RefCell::default(), bounds: Rc::new(bounds) }
    }

    /// The series with these labels; made when there is none. Beyond the bound, the one for all that came too late.
    ///
    /// `expiry` is how long a new one is kept without being written.
    pub fn series(&self, family: Family, metrics: MetricSet, labels: Labels, expiry: Duration) -> Series {
        let name = hash(family, metrics, &labels);
        let mut known = self.known.borrow_mut();
        if let Some(series) = known.get(&name) {
            return series.clone();
        }
        if known.len() < SERIES_PER_SHARD_MAX {
            return self.make(&mut known, name, family, metrics, labels, expiry);
        }
        let labels = overflow(&labels);
        let name = hash(family, metrics, &labels);
        if let Some(series) = known.get(&name) {
            return series.clone();
        }
        self.make(&mut known, name, family, metrics, labels, expiry)
    }

    /// Says that Istio's metrics are produced, by a proxy of this version (`istio_build`).
    pub fn announce(&self, version: &str) {
        let _ = self.creations.send(Created::IstioBuild(version.into()));
    }

    /// Drops the series that were not written for their expiry time and that no handle is kept on. To be called every
    /// now and then; `true` when something went, so that handles elsewhere had better be looked up again.
    pub fn sweep(&self, now: Instant) {
        self.known.borrow_mut().retain(|_, series| {
            let inner = &series.0;
            if inner.used.take() || Rc::strong_count(inner) > 1 {
                inner.unused_since.set(None);
                return true;
            }
            match inner.unused_since.get() {
                None => {
                    inner.unused_since.set(Some(now));
                    true
                }
                Some(since) => now.saturating_duration_since(since) < inner.expiry,
            }
        });
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.known.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn make(
        &self,
        known: &mut HashMap<u128, Series>,
        name: u128,
        family: Family,
        metrics: MetricSet,
        labels: Labels,
        expiry: Duration,
    ) -> Series {
        let block = Arc::new(SeriesBlock::new());
        let made = Made { family, metrics, labels, block: Arc::clone(&block) };
        // Fails only when the registry is gone, that is at shutdown: then nobody reads.
        let _ = self.creations.send(Created::Series(made));
        let series = Series(Rc::new(Inner {
            block,
            metrics,
            bounds: Rc::clone(&self.bounds),
            expiry,
            used: Cell::new(true),
            unused_since: Cell::new(None),
        }));
        known.insert(name, series.clone());
        series
    }
}

/// The labels that stand for those beyond a bound: the same names, so that sums over any of them still add up.
pub(super) fn overflow(labels: &[Label]) -> Labels {
    let keeps = |name: &str| name == Tag::Reporter.name() || name == Tag::RequestProtocol.name();
    let value = |name: &str, value: &str| if keeps(name) { value.into() } else { "other".into() };
    labels.iter().map(|(name, old)| (name.clone(), value(name, old))).collect()
}

/// 128 bits, so that two names do not meet in a lifetime.
fn hash(family: Family, metrics: MetricSet, labels: &[Label]) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, family).hash(&mut hasher);
        metrics.bits().hash(&mut hasher);
        labels.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}
