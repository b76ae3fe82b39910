//! The series of all shards, as the registry adds them up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::metric::{Family, IstioMetric, MetricSet};
use super::series::{Labels, Made, SeriesBlock, overflow};
use crate::histogram::HistogramSnapshot;
use crate::limits::SERIES_MAX;
use crate::scope::Kind;

/// All series the process shows.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    by_name: BTreeMap<(Family, Arc<Labels>), Entry>,
    /// Version of the proxy, once metrics are produced.
    build: Option<Box<str>>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Those that some shard produces.
    metrics: MetricSet,
    /// Of shards that write to it.
    blocks: Vec<Arc<SeriesBlock>>,
    /// What shards wrote that have let go of it since: while another shard still counts, a counter must not fall.
    past: Values,
}

#[derive(Clone, Debug, Default)]
struct Values {
    counters: [u64; 4],
    histograms: [Option<HistogramSnapshot>; 3],
}

/// Values of one series, summed over shards.
#[derive(Debug)]
pub(crate) struct SeriesTotals {
    pub(crate) family: Family,
    pub(crate) labels: Arc<Labels>,
    metrics: MetricSet,
    values: Values,
}

impl Shown {
    pub(crate) fn announce(&mut self, version: Box<str>) {
        self.build = Some(version);
    }

    pub(crate) fn build(&self) -> Option<&str> {
        self.build.as_deref()
    }

    pub(crate) fn add(&mut self, made: Made) {
        let mut name = (made.family, Arc::new(made.labels));
        if self.by_name.len() >= SERIES_MAX && !self.by_name.contains_key(&name) {
            name.1 = Arc::new(overflow(&name.1));
        }
        let entry = self.by_name.entry(name).or_default();
        entry.metrics.join(made.metrics);
        entry.blocks.push(made.block);
    }

    /// Lets go of blocks that no shard holds any more, and of series without any.
    pub(crate) fn release(&mut self) {
        self.by_name.retain(|_, entry| {
            let past = &mut entry.past;
            entry.blocks.retain(|block| {
                let kept = Arc::strong_count(block) > 1;
                if !kept {
                    past.add(block);
                }
                kept
            });
            !entry.blocks.is_empty()
        });
    }

    pub(crate) fn totals(&self) -> Vec<SeriesTotals> {
        self.by_name
            .iter()
            .map(|((family, labels), entry)| {
                let mut values = entry.past.clone();
                entry.blocks.iter().for_each(|block| values.add(block));
                SeriesTotals { family: *family, labels: Arc::clone(labels), metrics: entry.metrics, values }
            })
            .collect()
    }
}

impl Values {
    fn add(&mut self, block: &SeriesBlock) {
        for (total, cell) in self.counters.iter_mut().zip(&block.counters) {
            *total = total.wrapping_add(cell.load(Relaxed));
        }
        for (total, slot) in self.histograms.iter_mut().zip(&block.histograms) {
            if let Some(histogram) = slot.get() {
                histogram.add_to(total.get_or_insert_with(|| HistogramSnapshot::new(histogram.bounds())));
            }
        }
    }
}

impl SeriesTotals {
    /// A counter's value, when it is produced.
    pub(crate) fn counter(&self, metric: IstioMetric) -> Option<u64> {
        let shown =
            metric.family() == self.family && metric.kind() == Kind::Counter && self.metrics.contains(metric);
        if shown { self.values.counters.get(metric.cell()).copied() } else { None }
    }

    /// A histogram's values, when any were recorded.
    pub(crate) fn histogram(&self, metric: IstioMetric) -> Option<&HistogramSnapshot> {
        if metric.family() != self.family || metric.kind() != Kind::Histogram {
            return None;
        }
        self.values.histograms.get(metric.cell())?.as_ref()
    }
}
