//! Which metrics are made, and with which labels.

use std::collections::{BTreeMap, BTreeSet};

use ringsail_api::telemetry::metric_selector::{IstioMetric, MetricMatch};
use ringsail_api::telemetry::metrics_overrides::tag_override::Operation;
use ringsail_api::telemetry::{MetricSelector, Metrics, WorkloadMode};

use super::{Role, TelemetryScope, names};

/// What a provider of metrics is to count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsRule {
    /// Name of the provider.
    pub provider: String,
    /// How often connections that go on are counted; unset for the proxy's default.
    pub reporting_interval: Option<prost_types::Duration>,
    /// Changes to metrics, in order of Istio's names of them.
    pub overrides: Vec<MetricOverride>,
}

/// Changes to one metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricOverride {
    /// Name without the prefix `istio_`, as the filter knows it.
    pub metric: String,
    /// The metric is not made.
    pub disabled: bool,
    /// Labels with the expression that gives their value.
    pub set: BTreeMap<String, String>,
    /// Labels that are left out.
    pub remove: Vec<String>,
}

/// What is known of one metric while objects are merged.
#[derive(Default)]
struct Change {
    disabled: Option<bool>,
    /// `None` removes the label.
    tags: BTreeMap<String, Option<String>>,
}

/// What is known of one provider while objects are merged.
#[derive(Default)]
struct Merged {
    reporting_interval: Option<prost_types::Duration>,
    /// Everything is off, unless a later override says something of a metric.
    off: bool,
    changes: BTreeMap<String, Change>,
}

impl TelemetryScope<'_> {
    /// What each provider is to count on one side of requests; providers without anything to count are left out.
    pub fn metrics(&self, role: Role) -> Vec<MetricsRule> {
        let list: Vec<&Metrics> = self.objects.iter().flat_map(|object| &object.spec.metrics).collect();
        let defaults = self.default_metrics();
        // A list of providers replaces the one it inherits; nothing is made for providers that were replaced.
        let named = list.iter().map(|metrics| names(&metrics.providers)).rfind(|names| !names.is_empty());
        let in_scope: BTreeSet<&str> = named.unwrap_or_else(|| defaults.clone()).into_iter().collect();
        let mut merged: BTreeMap<&str, Merged> = BTreeMap::new();
        if list.is_empty() {
            merged.extend(in_scope.iter().map(|name| (*name, Merged::default())));
        }
        let mut inherited = defaults;
        for metrics in list {
            let own = names(&metrics.providers);
            if !own.is_empty() {
                inherited = own;
            }
            for provider in inherited.iter().filter(|name| in_scope.contains(*name)) {
                merged.entry(provider).or_default().apply(metrics, role);
            }
        }
        merged.into_iter().filter(|(_, merged)| !merged.off).map(|(name, merged)| merged.rule(name)).collect()
    }
}

impl Merged {
    fn apply(&mut self, metrics: &Metrics, role: Role) {
        if metrics.reporting_interval.is_some() {
            self.reporting_interval = metrics.reporting_interval;
        }
        for found in &metrics.overrides {
            let selector = found.r#match.as_ref();
            if !role.is_meant_by(selector.map_or(WorkloadMode::ClientAndServer, MetricSelector::mode)) {
                continue;
            }
            let metric = selector.and_then(|selector| selector.metric_match.as_ref());
            if is_every_metric(metric) && found.disabled == Some(true) {
                self.off = true;
                continue;
            }
            self.off = false;
            for name in matched(metric) {
                let change = self.changes.entry(name).or_default();
                change.disabled = found.disabled.or(change.disabled);
                for (tag, what) in &found.tag_overrides {
                    let value = match what.operation() {
                        Operation::Remove => None,
                        Operation::Upsert => Some(what.value.clone()),
                    };
                    change.tags.insert(tag.clone(), value);
                }
            }
        }
    }

    fn rule(self, provider: &str) -> MetricsRule {
        let overrides = self.changes.into_iter().map(|(name, change)| {
            let mut out = MetricOverride {
                metric: prometheus_name(&name).unwrap_or(&name).to_owned(),
                disabled: change.disabled == Some(true),
                ..MetricOverride::default()
            };
            for (tag, value) in change.tags {
                match value {
                    Some(value) => drop(out.set.insert(tag, value)),
                    None => out.remove.push(tag),
                }
            }
            out
        });
        MetricsRule {
            provider: provider.to_owned(),
            reporting_interval: self.reporting_interval,
            overrides: overrides.collect(),
        }
    }
}

fn is_every_metric(metric: Option<&MetricMatch>) -> bool {
    match metric {
        None => true,
        Some(MetricMatch::Metric(metric)) => *metric == IstioMetric::AllMetrics as i32,
        Some(MetricMatch::CustomMetric(_)) => false,
    }
}

/// Istio's names of the metrics that a selector means.
fn matched(metric: Option<&MetricMatch>) -> Vec<String> {
    match metric {
        Some(MetricMatch::CustomMetric(name)) => vec![name.clone()],
        Some(MetricMatch::Metric(metric)) if *metric != IstioMetric::AllMetrics as i32 => {
            IstioMetric::try_from(*metric).map(|metric| metric.as_str_name().to_owned()).into_iter().collect()
        }
        _ => METRICS.iter().map(|(name, _)| (*name).to_owned()).collect(),
    }
}

/// Istio's names of metrics and the filter's. Source: telemetry contract §2.
const METRICS: [(&str, &str); 10] = [
    ("GRPC_REQUEST_MESSAGES", "request_messages_total"),
    ("GRPC_RESPONSE_MESSAGES", "response_messages_total"),
    ("REQUEST_COUNT", "requests_total"),
    ("REQUEST_DURATION", "request_duration_milliseconds"),
    ("REQUEST_SIZE", "request_bytes"),
    ("RESPONSE_SIZE", "response_bytes"),
    ("TCP_CLOSED_CONNECTIONS", "tcp_connections_closed_total"),
    ("TCP_OPENED_CONNECTIONS", "tcp_connections_opened_total"),
    ("TCP_RECEIVED_BYTES", "tcp_received_bytes_total"),
    ("TCP_SENT_BYTES", "tcp_sent_bytes_total"),
];

fn prometheus_name(name: &str) -> Option<&'static str> {
    METRICS.iter().find(|(known, _)| *known == name).map(|(_, filter)| *filter)
}
