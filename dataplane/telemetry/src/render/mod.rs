//! Statistics as text: what the admin endpoints `/stats` and `/stats/prometheus` answer.

mod json;
mod prometheus;
#[cfg(test)]
mod tests;
mod text;

use std::fmt::Write as _;

pub use json::json;
pub use json::push_json_string;
pub use prometheus::prometheus;
pub use text::text;

use crate::block::Totals;
use crate::histogram::HistogramSnapshot;
use crate::istio::{IstioMetric, NAMESPACE};
use crate::metrics::{Cluster, ClusterGauge};
use crate::registry::{Registry, Snapshot};
use crate::scope::{Metric, Scope};

/// Which statistics to show.
#[derive(Clone, Copy, Default)]
pub struct Selection<'a> {
    /// Leave out counters and gauges that are 0 (`?usedonly`).
    pub used_only: bool,
    /// Show only names for which this is true (`?filter=`, or the bootstrap's stats matcher). It
    /// sees the full dotted name.
    pub filter: Option<&'a dyn Fn(&str) -> bool>,
    /// Which kinds (`?type=`).
    pub kinds: Kinds,
    /// How histograms are shown (`?histogram_buckets=`).
    pub buckets: Buckets,
    /// How many endpoints clusters have. The agent knows it from the tables; keeping it here for
    /// clusters without traffic would cost each of them a block.
    pub memberships: &'a [Membership<'a>],
}

/// Kinds of statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kinds {
    /// All of them.
    #[default]
    All,
    /// Counters.
    Counters,
    /// Gauges.
    Gauges,
    /// Histograms.
    Histograms,
    /// None of the kinds there are here.
    Nothing,
}

/// How histograms are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buckets {
    /// By quantiles.
    #[default]
    Summary,
    /// Each bucket with all below it.
    Cumulative,
    /// Each bucket by itself.
    Disjoint,
}

impl Buckets {
    /// Upper bounds and values of buckets, where buckets are shown.
    fn of(self, values: &HistogramSnapshot) -> Vec<(f64, u64)> {
        let bounded = values.cumulative().filter(|(bound, _)| bound.is_finite());
        let mut below = 0;
        bounded
            .map(|(bound, count)| match self {
                Self::Summary | Self::Cumulative => (bound, count),
                Self::Disjoint => (bound, count - std::mem::replace(&mut below, count)),
            })
            .collect()
    }
}

/// Endpoints of one cluster.
#[derive(Clone, Copy, Debug)]
pub struct Membership<'a> {
    /// The cluster's statistics name.
    pub cluster: &'a str,
    /// All endpoints.
    pub total: u64,
    /// Healthy ones.
    pub healthy: u64,
    /// Degraded ones.
    pub degraded: u64,
    /// Limits of priority DEFAULT, for clusters in use: connections, waiting requests, requests, retries.
    pub limits: [Breaker; 4],
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    /// Nothing.
    pub open: bool,
    /// So much; 0 where it is not to be shown.
    pub remaining: u64,
}

impl Membership<'_> {
    fn gauges(&self) -> [(ClusterGauge, u64); 3] {
        [
            (ClusterGauge::MembershipTotal, self.total),
            (ClusterGauge::MembershipHealthy, self.healthy),
            (ClusterGauge::MembershipDegraded, self.degraded),
        ]
    }

    fn breaker_gauges(&self) -> impl Iterator<Item = (ClusterGauge, u64)> {
        use ClusterGauge as G;
        let open = [G::CxOpen, G::RqPendingOpen, G::RqOpen, G::RqRetryOpen];
        let remaining = [G::RemainingCx, G::RemainingPending, G::RemainingRq, G::RemainingRetries];
        let gauges = open.into_iter().zip(remaining).zip(self.limits);
        gauges.flat_map(|((open, remaining), breaker)| {
            [(open, breaker.open.into()), (remaining, breaker.remaining)]
        })
    }
}

/// Gauges of a scope that has no block.
type Sparse<S> = (Box<str>, [(<S as Scope>::Gauge, u64); 3]);

/// Takes the values of now, memberships included: those of clusters without a block are given
/// apart.
fn take(registry: &Registry, selection: &Selection<'_>) -> (Snapshot, Vec<Sparse<Cluster>>) {
    let mut snapshot = registry.snapshot();
    let mut idle = Vec::new();
    for membership in selection.memberships {
        let clusters = &mut snapshot.clusters;
        match clusters.binary_search_by(|(name, _)| (**name).cmp(membership.cluster)) {
            Ok(at) => {
                if let Some((_, totals)) = clusters.get_mut(at) {
                    let gauges = membership.gauges().into_iter().chain(membership.breaker_gauges());
                    gauges.for_each(|(gauge, value)| totals.set_gauge(gauge, value));
                }
            }
            Err(_) => idle.push((membership.cluster.into(), membership.gauges())),
        }
    }
    (snapshot, idle)
}

impl Selection<'_> {
    fn shows(&self, name: &str) -> bool {
        self.filter.is_none_or(|filter| filter(name))
    }

    fn shows_value(&self, name: &str, value: u64) -> bool {
        (value != 0 || !self.used_only) && self.shows(name)
    }
}

/// The quantiles Envoy shows, in percent.
const QUANTILES: [f64; 10] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0];

/// Calls `number` for every counter and gauge and `histogram` for every histogram that has values,
/// with full dotted names. Order is that of the declarations.
fn for_each(
    snapshot: &Snapshot,
    idle: &[Sparse<Cluster>],
    selection: Selection<'_>,
    number: &mut dyn FnMut(&str, u64),
    histogram: &mut dyn FnMut(&str, &HistogramSnapshot),
) {
    let mut visit = Visit { selection, number, histogram, name: String::new() };
    visit.scope("", &snapshot.cluster_manager);
    for (name, totals) in &snapshot.clusters {
        visit.scope(name, totals);
    }
    let gauges_shown = matches!(visit.selection.kinds, Kinds::All | Kinds::Gauges);
    for (name, gauges) in idle.iter().filter(|_| gauges_shown) {
        for (gauge, value) in gauges {
            visit.value::<Cluster>(name, gauge.name(), *value);
        }
    }
    for (name, totals) in &snapshot.grpc {
        visit.scope(name, totals);
    }
    for (name, totals) in &snapshot.upstream_http2 {
        visit.scope(name, totals);
    }
    visit.scope("", &snapshot.access_logs);
    visit.scope("", &snapshot.spans);
    visit.scope("", &snapshot.control_plane);
    visit.istio(snapshot);
    for (name, totals) in &snapshot.http {
        visit.scope(name, totals);
    }
    for (name, totals) in &snapshot.downstream_http2 {
        visit.scope(name, totals);
    }
    for (name, totals) in &snapshot.rds {
        visit.scope(name, totals);
    }
    for (name, totals) in &snapshot.listeners {
        visit.scope(name, totals);
    }
    visit.scope("", &snapshot.listener_manager);
    visit.scope("", &snapshot.server);
    for (name, totals) in &snapshot.tcp {
        visit.scope(name, totals);
    }
    for (name, totals) in &snapshot.local_rate_limits {
        visit.scope(name, totals);
    }
    for (name, totals) in &snapshot.connection_limits {
        visit.scope(name, totals);
    }
    for (name, totals) in &snapshot.connection_rates {
        visit.scope(name, totals);
    }
}

struct Visit<'a> {
    selection: Selection<'a>,
    number: &'a mut dyn FnMut(&str, u64),
    histogram: &'a mut dyn FnMut(&str, &HistogramSnapshot),
    /// Reused for every full name.
    name: String,
}

impl Visit<'_> {
    fn scope<S: Scope>(&mut self, scope: &str, totals: &Totals<S>) {
        let kinds = self.selection.kinds;
        let shows = |kind: Kinds| kinds == Kinds::All || kinds == kind;
        for counter in S::Counter::ALL.iter().filter(|_| shows(Kinds::Counters)) {
            self.value::<S>(scope, counter.name(), totals.counter(*counter));
        }
        if let Some(base) = S::BY_STATUS.filter(|_| shows(Kinds::Counters)) {
            for (status, count) in totals.by_status() {
                self.value::<S>(scope, &format!("{base}_{status}"), count);
            }
        }
        for gauge in S::Gauge::ALL.iter().filter(|_| shows(Kinds::Gauges)) {
            self.value::<S>(scope, gauge.name(), totals.gauge(*gauge));
        }
        for histogram in S::Histogram::ALL.iter().filter(|_| shows(Kinds::Histograms)) {
            let values = totals.histogram(*histogram);
            full_name::<S>(&mut self.name, scope, histogram.name());
            if values.count() > 0 && self.selection.shows(&self.name) {
                (self.histogram)(&self.name, &values);
            }
        }
    }

    /// Compat: labels and their values are parts of the name.
    fn istio(&mut self, snapshot: &Snapshot) {
        if let Some(version) = &snapshot.istio_build {
            self.name.clear();
            let _ = write!(self.name, "{NAMESPACE}.istio_build.component.proxy.tag.{version}");
            if matches!(self.selection.kinds, Kinds::All | Kinds::Gauges) && self.selection.shows(&self.name)
            {
                (self.number)(&self.name, 1);
            }
        }
        for metric in IstioMetric::ALL {
            for series in &snapshot.istio {
                let kinds = self.selection.kinds;
                let counter =
                    series.counter(metric).filter(|_| matches!(kinds, Kinds::All | Kinds::Counters));
                let histogram =
                    series.histogram(metric).filter(|_| matches!(kinds, Kinds::All | Kinds::Histograms));
                if counter.is_none() && histogram.is_none() {
                    continue;
                }
                self.name.clear();
                let _ = write!(self.name, "{NAMESPACE}.{}", metric.name());
                for (label, value) in &**series.labels {
                    let _ = write!(self.name, ".{label}.{value}");
                }
                if let Some(value) = counter
                    && self.selection.shows_value(&self.name, value)
                {
                    (self.number)(&self.name, value);
                }
                if let Some(values) = histogram
                    && self.selection.shows(&self.name)
                {
                    (self.histogram)(&self.name, values);
                }
            }
        }
    }

    fn value<S: Scope>(&mut self, scope: &str, metric: &str, value: u64) {
        full_name::<S>(&mut self.name, scope, metric);
        if self.selection.shows_value(&self.name, value) && (value != 0 || !S::USED_ONLY) {
            (self.number)(&self.name, value);
        }
    }
}

/// Writes `prefix.scope.metric` to `name`.
pub(crate) fn full_name<S: Scope>(name: &mut String, scope: &str, metric: &str) {
    name.clear();
    name.push_str(S::PREFIX);
    if !scope.is_empty() {
        if !S::PREFIX.is_empty() {
            name.push('.');
        }
        S::push_dotted(scope, name);
    }
    name.push('.');
    name.push_str(metric);
}

/// `0.5`, `1`, `2500`; three digits after the point at most.
fn push_number(value: f64, out: &mut String) {
    let text = format!("{value:.3}");
    out.push_str(text.trim_end_matches('0').trim_end_matches('.'));
}
