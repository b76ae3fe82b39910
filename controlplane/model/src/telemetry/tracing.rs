//! Which requests are traced, and where spans go.

use std::collections::BTreeMap;

use ringsail_api::telemetry::WorkloadMode;
use ringsail_api::telemetry::tracing::CustomTag;

use super::{Role, TelemetryScope, names};

/// How one side of requests is traced.
#[derive(Clone, Debug, PartialEq)]
pub struct TracingRule {
    /// Name of the provider; without one nothing is traced.
    pub provider: Option<String>,
    /// No spans are reported.
    pub disabled: bool,
    /// Share of requests that begin a trace, in percent; unset for the mesh's default.
    pub sampling: Option<f64>,
    /// Tags by name.
    pub custom_tags: BTreeMap<String, CustomTag>,
    /// Whether `x-request-id` carries the decision.
    pub use_request_id: bool,
    /// Whether spans tell Istio's names of the workload.
    pub istio_tags: bool,
    /// The context of a trace is not handed on.
    pub no_context_propagation: bool,
}

impl Default for TracingRule {
    fn default() -> Self {
        TracingRule {
            provider: None,
            disabled: false,
            sampling: None,
            custom_tags: BTreeMap::new(),
            use_request_id: true,
            istio_tags: true,
            no_context_propagation: false,
        }
    }
}

impl TelemetryScope<'_> {
    /// How one side is traced. `None` when neither a Telemetry object nor `defaultProviders` says anything of traces,
    /// so that MeshConfig's `enableTracing` applies. Custom tags replace inherited ones as a whole.
    pub fn tracing(&self, role: Role) -> Option<TracingRule> {
        let list: Vec<_> = self.objects.iter().flat_map(|object| &object.spec.tracing).collect();
        let default = self.default_tracing();
        if list.is_empty() && default.is_none() {
            return None;
        }
        let mut rule = TracingRule { provider: default.map(str::to_owned), ..TracingRule::default() };
        for tracing in list {
            let mode = tracing.r#match.as_ref().map_or(WorkloadMode::ClientAndServer, |found| found.mode());
            if !role.is_meant_by(mode) {
                continue;
            }
            // One provider at a time: of several the first counts.
            if let Some(first) = names(&tracing.providers).first() {
                rule.provider = Some((*first).to_owned());
            }
            rule.disabled = tracing.disable_span_reporting.unwrap_or(rule.disabled);
            if !tracing.custom_tags.is_empty() {
                rule.custom_tags.clone_from(&tracing.custom_tags);
            }
            rule.sampling = tracing.random_sampling_percentage.or(rule.sampling);
            rule.use_request_id = tracing.use_request_id_for_trace_sampling.unwrap_or(rule.use_request_id);
            rule.istio_tags = tracing.enable_istio_tags.unwrap_or(rule.istio_tags);
            rule.no_context_propagation =
                tracing.disable_context_propagation.unwrap_or(rule.no_context_propagation);
        }
        Some(rule)
    }
}
