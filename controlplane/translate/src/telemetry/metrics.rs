//! Settings of the filter `istio.stats`.

use prost_types::Any;
use ringsail_api::MeshConfig;
use ringsail_api::istio::mesh::v1alpha1::mesh_config::extension_provider::Provider;
use ringsail_model::telemetry::{MetricsRule, provider};
use ringsail_xds::pack;
use ringsail_xds::stats::{MetricConfig, PluginConfig};

/// One filter for each provider that counts in the proxy. `anybody` may be the client.
pub(crate) fn stats(rules: Vec<MetricsRule>, config: &MeshConfig, anybody: bool) -> Vec<Any> {
    let counts_here = |rule: &MetricsRule| {
        let found = provider(config, &rule.provider);
        matches!(found.and_then(|found| found.provider), Some(Provider::Prometheus(_)))
    };
    rules
        .into_iter()
        .filter(counts_here)
        .map(|rule| {
            let metrics = rule.overrides.into_iter().map(|change| MetricConfig {
                name: change.metric,
                drop: change.disabled,
                dimensions: change.set,
                tags_to_remove: change.remove,
                ..MetricConfig::default()
            });
            pack(&PluginConfig {
                disable_host_header_fallback: anybody,
                tcp_reporting_duration: rule.reporting_interval,
                metrics: metrics.collect(),
                ..PluginConfig::default()
            })
        })
        .collect()
}
