//! Istio's standard metrics: names, labels, and the series of one shard.
//!
//! Unlike the scopes of `metrics.rs`, whose names are known when a cluster or listener is, a series here is named by
//! twenty-five label values that become known during a request. A shard finds the series of a request by a small key
//! of its own and keeps the handle; only a combination it has not seen before costs text.
//!
//! Bounds: a shard keeps [`SERIES_PER_SHARD_MAX`](crate::limits::SERIES_PER_SHARD_MAX) series and the registry shows
//! [`SERIES_MAX`](crate::limits::SERIES_MAX); what comes beyond is counted in one series per family and reporter whose
//! other labels are `other`, so that totals stay exact. A series that was not written for its expiry time goes.

mod metric;
mod series;
mod shown;
#[cfg(test)]
mod tests;

pub use metric::{Family, IstioMetric, MetricSet, Tag};
pub(crate) use series::Made;
pub use series::{Label, Labels, Series, SeriesSet};
pub(crate) use shown::{SeriesTotals, Shown};

/// Name space of these metrics inside Envoy. `/stats` shows it, Prometheus does not. Histogram bucket settings match
/// names that begin with it.
pub const NAMESPACE: &str = "istiocustom";
