//! Telemetry objects: which of them concern a proxy, and what they say together.
//!
//! The oldest object without selector of the root namespace comes first, then that of the proxy's namespace, then
//! every object there that selects the workload; a later one overrides an earlier one. Source: Istio, "Telemetry API",
//! scope, inheritance and overrides; the merging rules are those of istiod's `telemetry.go`.

mod logging;
mod metrics;
mod tracing;

use ringsail_api::istio::mesh::v1alpha1::mesh_config::ExtensionProvider;
use ringsail_api::istio::mesh::v1alpha1::mesh_config::extension_provider::{
    EnvoyFileAccessLogProvider, PrometheusMetricsProvider, Provider,
};
use ringsail_api::telemetry::WorkloadMode;
use ringsail_api::{MeshConfig, selector, telemetry};

pub use logging::LogRule;
pub use metrics::{MetricOverride, MetricsRule};
pub use tracing::TracingRule;

use crate::labels::Labels;
use crate::mesh::Mesh;
use crate::proxy::Proxy;
use crate::service::Age;
use crate::target;

/// Provider of metrics where MeshConfig names none. Source: Istio's charts.
const DEFAULT_METRICS_PROVIDER: &str = "prometheus";
/// Provider that is always there: the access log of MeshConfig, to standard output.
pub const FILE_LOG_PROVIDER: &str = "envoy";

/// A Telemetry object.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Object name.
    pub name: String,
    /// Object namespace.
    pub namespace: String,
    /// Creation order.
    pub age: Age,
    /// The object.
    pub spec: telemetry::Telemetry,
}

impl Telemetry {
    fn is_namespace_wide(&self) -> bool {
        self.selector().is_empty() && self.targets().is_empty()
    }

    fn selector(&self) -> &Labels {
        static NONE: Labels = Labels::new();
        self.spec.selector.as_ref().map_or(&NONE, |selector| &selector.match_labels)
    }

    fn targets(&self) -> Vec<&selector::PolicyTargetReference> {
        if self.spec.target_refs.is_empty() {
            return self.spec.target_ref.iter().collect();
        }
        self.spec.target_refs.iter().collect()
    }

    /// Whether an object with a selector or targets is about this workload.
    fn concerns(&self, proxy: &Proxy) -> bool {
        target::concerns(self.selector(), &self.targets(), proxy)
    }
}

/// Which side of a request a proxy observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Requests that leave the workload, and all of a gateway.
    Client,
    /// Requests to the workload.
    Server,
}

impl Role {
    fn is_meant_by(self, mode: WorkloadMode) -> bool {
        match mode {
            WorkloadMode::ClientAndServer => true,
            WorkloadMode::Client => self == Role::Client,
            WorkloadMode::Server => self == Role::Server,
        }
    }
}

/// The Telemetry objects that concern one proxy, the most general first.
#[derive(Clone, Debug)]
pub struct TelemetryScope<'a> {
    config: &'a MeshConfig,
    objects: Vec<&'a Telemetry>,
}

impl<'a> TelemetryScope<'a> {
    /// Collects what concerns `proxy`.
    pub fn of(mesh: &'a Mesh, proxy: &Proxy) -> TelemetryScope<'a> {
        let settings = mesh.settings();
        let of_namespace = |namespace: &str| {
            let list = mesh.telemetries().iter().map(|object| &**object);
            list.filter(move |object| object.namespace == namespace).collect::<Vec<_>>()
        };
        let own = of_namespace(&proxy.namespace);
        let mut objects = Vec::new();
        if proxy.namespace != settings.root_namespace {
            let root = of_namespace(&settings.root_namespace);
            objects.extend(root.into_iter().find(|object| object.is_namespace_wide()));
        }
        objects.extend(own.iter().copied().find(|object| object.is_namespace_wide()));
        objects
            .extend(own.into_iter().filter(|object| !object.is_namespace_wide() && object.concerns(proxy)));
        TelemetryScope { config: &settings.config, objects }
    }

    fn default_metrics(&self) -> Vec<&'a str> {
        match &self.config.default_providers {
            Some(providers) => providers.metrics.iter().map(String::as_str).collect(),
            None => vec![DEFAULT_METRICS_PROVIDER],
        }
    }

    fn default_logging(&self) -> Vec<&'a str> {
        let providers = self.config.default_providers.iter();
        providers.flat_map(|providers| &providers.access_logging).map(String::as_str).collect()
    }

    fn default_tracing(&self) -> Option<&'a str> {
        self.config.default_providers.as_ref()?.tracing.first().map(String::as_str)
    }
}

/// The extension provider of a name: one of MeshConfig, or one of the two that are always there. Names are compared
/// without case.
pub fn provider(config: &MeshConfig, name: &str) -> Option<ExtensionProvider> {
    let declared = config.extension_providers.iter().find(|known| known.name.eq_ignore_ascii_case(name));
    let built_in = || {
        let kind = match name.to_ascii_lowercase().as_str() {
            DEFAULT_METRICS_PROVIDER => Provider::Prometheus(PrometheusMetricsProvider {}),
            FILE_LOG_PROVIDER => Provider::EnvoyFileAccessLog(EnvoyFileAccessLogProvider {
                path: "/dev/stdout".to_owned(),
                ..EnvoyFileAccessLogProvider::default()
            }),
            _ => return None,
        };
        Some(ExtensionProvider { name: name.to_ascii_lowercase(), provider: Some(kind) })
    };
    declared.cloned().or_else(built_in)
}

fn names(providers: &[telemetry::ProviderRef]) -> Vec<&str> {
    providers.iter().map(|provider| provider.name.as_str()).collect()
}
