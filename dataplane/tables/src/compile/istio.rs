//! Istio's own filters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringsail_xds::io::istio::http::peer_metadata::{Config, config};
use ringsail_xds::stats::{MetricConfig, PluginConfig, Reporter};

use super::context::Context;
use super::value::duration;
use crate::cel::Expression;
use crate::istio::{IstioStats, MetricOverride, MetricOverrides, PeerMetadata, SendHeaders, TagRule};
use crate::limits::{ADDED_LABELS_MAX, METRIC_OVERRIDES_MAX, REPORT_INTERVAL_MAX};

/// Source: `PluginConfig.tcp_reporting_duration`.
const REPORT_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
/// Source: `PluginConfig.graceful_deletion_interval`.
const GRACEFUL_DELETION_DEFAULT: Duration = Duration::from_secs(300);

/// The standard metrics by their names in configuration. Source: telemetry contract §1.1.
const METRICS: [&str; 10] = [
    "requests_total",
    "request_duration_milliseconds",
    "request_bytes",
    "response_bytes",
    "request_messages_total",
    "response_messages_total",
    "tcp_connections_opened_total",
    "tcp_connections_closed_total",
    "tcp_sent_bytes_total",
    "tcp_received_bytes_total",
];

/// The standard labels. Source: telemetry contract §1.2.
const TAGS: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

pub(super) fn stats(cx: &mut Context<'_>, value: &PluginConfig) -> Option<Arc<IstioStats>> {
    let waypoint = match Reporter::try_from(value.reporter) {
        Ok(Reporter::Unspecified) => false,
        Ok(Reporter::ServerGateway) => true,
        Err(_) => return cx.refuse("reporter", "is not known"),
    };
    let interval = duration(cx, "tcp_reporting_duration", &value.tcp_reporting_duration)
        .unwrap_or(REPORT_INTERVAL_DEFAULT);
    let rotation = duration(cx, "rotation_interval", &value.rotation_interval).unwrap_or_default();
    let grace = duration(cx, "graceful_deletion_interval", &value.graceful_deletion_interval);
    Some(Arc::new(IstioStats {
        waypoint,
        host_header_fallback: !value.disable_host_header_fallback,
        report_interval: (!interval.is_zero()).then_some(interval.min(REPORT_INTERVAL_MAX)),
        expiry: (!rotation.is_zero())
            .then(|| rotation.saturating_add(grace.unwrap_or(GRACEFUL_DELETION_DEFAULT))),
        overrides: overrides(cx, &value.metrics)?,
    }))
}

/// What configuration says of one metric, in the making.
#[derive(Default)]
struct Draft {
    dropped: bool,
    tags: BTreeMap<&'static str, TagRule>,
    added: BTreeMap<String, u32>,
}

/// Compat: later entries win; a label that is no standard one is added; an entry without a name is for all metrics,
/// except that it cannot drop them.
fn overrides(cx: &mut Context<'_>, list: &[MetricConfig]) -> Option<Option<Box<MetricOverrides>>> {
    if list.len() > METRIC_OVERRIDES_MAX {
        return cx.refuse("metrics", format_args!("more than {METRIC_OVERRIDES_MAX} entries"));
    }
    let mut expressions: Vec<Expression> = Vec::new();
    let mut drafts: BTreeMap<&'static str, Draft> = BTreeMap::new();
    for (index, entry) in list.iter().enumerate() {
        let mark = cx.report.enter(format_args!("metrics[{index}]"));
        let found = override_entry(cx, entry, &mut expressions, &mut drafts);
        cx.report.leave(mark);
        found?;
    }
    drafts.retain(|_, draft| draft.dropped || !draft.tags.is_empty() || !draft.added.is_empty());
    if drafts.is_empty() {
        return Some(None);
    }
    let metrics = drafts
        .into_iter()
        .map(|(metric, draft)| MetricOverride {
            metric: cx.intern(metric),
            dropped: draft.dropped,
            tags: draft.tags.into_iter().map(|(tag, rule)| (cx.intern(tag), rule)).collect(),
            added: draft.added.iter().map(|(label, index)| (cx.intern(label), *index)).collect(),
        })
        .collect();
    Some(Some(Box::new(MetricOverrides { expressions: expressions.into(), metrics })))
}

fn override_entry(
    cx: &mut Context<'_>,
    entry: &MetricConfig,
    expressions: &mut Vec<Expression>,
    drafts: &mut BTreeMap<&'static str, Draft>,
) -> Option<()> {
    let concerned: Vec<&'static str> =
        METRICS.into_iter().filter(|name| entry.name.is_empty() || entry.name == *name).collect();
    if concerned.is_empty() {
        // Compat: Envoy disregards metrics it does not know; here somebody is told.
        cx.report.warn_at("name", format_args!("{:?} is no standard metric; this has no effect", entry.name));
        return Some(());
    }
    if entry.drop {
        if entry.name.is_empty() {
            cx.report.warn_at("drop", "drops nothing without the name of a metric, as in Envoy");
            return Some(());
        }
        concerned.iter().for_each(|metric| drafts.entry(metric).or_default().dropped = true);
        return Some(());
    }
    for (index, tag) in entry.tags_to_remove.iter().enumerate() {
        let Some(tag) = TAGS.into_iter().find(|known| known == tag) else {
            let field = format!("tags_to_remove[{index}]");
            cx.report.warn_at(&field, format_args!("{tag:?} is no standard label; this has no effect"));
            continue;
        };
        for metric in &concerned {
            drafts.entry(metric).or_default().tags.insert(tag, TagRule::Remove);
        }
    }
    for (label, text) in &entry.dimensions {
        let field = format!("dimensions[{label:?}]");
        let expression = match Expression::parse(text) {
            Ok(expression) => expression,
            Err(error) => return cx.refuse(&field, format_args!("{text:?}: {error}")),
        };
        let number = expressions.iter().position(|known| *known == expression).unwrap_or_else(|| {
            expressions.push(expression);
            expressions.len() - 1
        }) as u32;
        let standard = TAGS.into_iter().find(|known| known == label);
        for metric in &concerned {
            let draft = drafts.entry(metric).or_default();
            match standard {
                Some(tag) => drop(draft.tags.insert(tag, TagRule::Expression(number))),
                None => drop(draft.added.insert(label_name(label), number)),
            }
            if draft.added.len() > ADDED_LABELS_MAX {
                return cx
                    .refuse("dimensions", format_args!("more than {ADDED_LABELS_MAX} labels are added"));
            }
        }
    }
    Some(())
}

/// A name Prometheus accepts. Compat: Envoy writes other bytes as `_` as well.
fn label_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

pub(super) fn peer_metadata(cx: &mut Context<'_>, value: &Config) -> Option<Arc<PeerMetadata>> {
    use config::discovery_method::MethodSpecifier as Discovery;
    use config::propagation_method::MethodSpecifier as Propagation;
    let mut settings = PeerMetadata {
        additional_labels: value.additional_labels.iter().map(|label| cx.intern(label)).collect(),
        ..PeerMetadata::default()
    };
    let discoveries = [
        ("downstream_discovery", &value.downstream_discovery),
        ("upstream_discovery", &value.upstream_discovery),
    ];
    for (field, methods) in discoveries {
        for method in methods {
            match &method.method_specifier {
                Some(Discovery::IstioHeaders(_)) if field == "downstream_discovery" => {
                    settings.downstream_headers = true;
                }
                Some(Discovery::IstioHeaders(_)) => settings.upstream_headers = true,
                // Who is not found by a method is asked of the next one; these find nobody here.
                Some(Discovery::WorkloadDiscovery(_) | Discovery::UpstreamFilterState(_)) => {}
                Some(Discovery::Baggage(_)) => {
                    cx.report.warn_at(
                        field,
                        "peers are not learned from baggage headers; their labels are unknown",
                    );
                }
                None => {}
            }
        }
    }
    for method in &value.downstream_propagation {
        match &method.method_specifier {
            Some(Propagation::IstioHeaders(_)) => settings.answer_headers = true,
            Some(Propagation::Baggage(_)) => {
                cx.report.warn_at("downstream_propagation", "baggage headers are not sent");
            }
            None => {}
        }
    }
    for method in &value.upstream_propagation {
        match &method.method_specifier {
            Some(Propagation::IstioHeaders(headers)) => {
                let skip_external_clusters = headers.skip_external_clusters;
                settings.send_headers = Some(SendHeaders { skip_external_clusters });
            }
            Some(Propagation::Baggage(_)) => {
                cx.report.warn_at("upstream_propagation", "baggage headers are not sent");
            }
            None => {}
        }
    }
    Some(Arc::new(settings))
}

#[cfg(test)]
mod tests;
