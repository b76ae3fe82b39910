//! What a proxy counts, logs and traces, as settings of its filters.
//!
//! All connection managers and TCP proxies of one side of a proxy have the same settings, so they are worked out once.

mod access_log;
mod metrics;
mod provider;
mod tracing;

use access_log::Of;
use prost_types::Any;
use ringsail_api::ProxyConfig;
use ringsail_model::telemetry::Role;
use ringsail_model::{Mesh, Proxy, ProxyType, TelemetryScope};
use ringsail_xds::envoy::config::accesslog::v3::AccessLog;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;

/// Settings of both sides of a proxy.
#[derive(Debug)]
pub(crate) struct ProxyTelemetry {
    client: SideTelemetry,
    server: SideTelemetry,
}

/// Settings of one side.
#[derive(Debug)]
pub(crate) struct SideTelemetry {
    /// Settings of `istio.stats`, one for each provider.
    pub(crate) stats: Vec<Any>,
    /// Logs of requests.
    pub(crate) request_log: Vec<AccessLog>,
    /// Logs of connections that are carried without a look inside.
    pub(crate) connection_log: Vec<AccessLog>,
    /// Logs of connections that reach no filter chain.
    pub(crate) listener_log: Vec<AccessLog>,
    /// Traces; `None` for none.
    pub(crate) tracing: Option<Tracing>,
    /// Settings of `x-request-id`.
    pub(crate) request_id: Any,
}

impl ProxyTelemetry {
    pub(crate) fn of(mesh: &Mesh, proxy: &Proxy, config: &ProxyConfig) -> ProxyTelemetry {
        let scope = TelemetryScope::of(mesh, proxy);
        let side = |role| SideTelemetry::of(mesh, proxy, config, &scope, role);
        ProxyTelemetry { client: side(Role::Client), server: side(Role::Server) }
    }

    /// The settings of one side.
    pub(crate) fn side(&self, role: Role) -> &SideTelemetry {
        match role {
            Role::Client => &self.client,
            Role::Server => &self.server,
        }
    }
}

impl SideTelemetry {
    fn of(
        mesh: &Mesh,
        proxy: &Proxy,
        config: &ProxyConfig,
        scope: &TelemetryScope<'_>,
        role: Role,
    ) -> SideTelemetry {
        let settings = mesh.settings();
        // A name that a client made up does not become a label where anybody may be the client.
        let anybody = role == Role::Server || proxy.kind == ProxyType::Router;
        let stats = match proxy.istio_filters {
            true => metrics::stats(scope.metrics(role), &settings.config, anybody),
            // A stock Envoy does not know the filter.
            false => Vec::new(),
        };
        let rules = scope.logging(role);
        let logs = |of| access_log::build(mesh, rules.as_ref(), of);
        let listener_log = match settings.config.disable_envoy_listener_log {
            true => Vec::new(),
            false => logs(Of::Unrouted),
        };
        let (tracing, use_request_id) = tracing::build(mesh, proxy, config, scope.tracing(role));
        SideTelemetry {
            stats,
            request_log: logs(Of::Requests),
            connection_log: logs(Of::Connections),
            listener_log,
            tracing,
            request_id: tracing::request_id(use_request_id),
        }
    }
}
