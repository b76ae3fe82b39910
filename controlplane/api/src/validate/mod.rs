//! What Istio's validating webhook refuses, kind by kind, and what is not enforced yet.
//!
//! Rules concern one object by itself; what needs several objects (unknown hosts, conflicting rules) is
//! analysis of the whole mesh. Compat: the verdicts are those of Istio's webhook and schemas, except that
//! an object which asks for a security feature this version does not enforce is refused ([`UNENFORCED`]).
//!
//! Where to start: [`check`], then the file of the kind.

mod authentication;
mod authorization;
mod checker;
mod common;
mod connection;
mod destination_rule;
mod enforced;
mod envoy_filter;
mod extensions;
mod gateway;
mod http_route;
mod kubernetes;
mod load_balancer;
mod mesh_config;
mod names;
mod policy;
mod service_entry;
mod sidecar;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod virtual_service;
mod workload;

pub use enforced::UNENFORCED;
pub(crate) use mesh_config::check as check_mesh_config;
pub use names::{is_dns_label, is_dns_subdomain};

use crate::diagnostic::Severity;
use crate::kind::{Shape, Spec};
use crate::object::Object;
use crate::path::FieldPath;
use checker::Checker;

/// One finding about a decoded object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Istio's analyzer code, or [`UNENFORCED`].
    pub code: Option<&'static str>,
    /// The field concerned.
    pub path: FieldPath,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub fix: Option<String>,
}

/// Everything that is wrong with an object by itself.
pub fn check(object: &Object) -> Vec<Finding> {
    let mut checker = match object.kind.shape() {
        Shape::Spec => Checker::new(["spec"]),
        Shape::Whole => Checker::new([]),
    };
    match &object.spec {
        Spec::VirtualService(spec) => virtual_service::check(&mut checker, spec, object),
        Spec::DestinationRule(spec) => destination_rule::check(&mut checker, spec, object),
        Spec::Gateway(spec) => gateway::check(&mut checker, spec, object),
        Spec::ServiceEntry(spec) => service_entry::check(&mut checker, spec, object),
        Spec::WorkloadEntry(spec) => workload::check_entry(&mut checker, spec, None, true),
        Spec::WorkloadGroup(spec) => workload::check_group(&mut checker, spec),
        Spec::Sidecar(spec) => sidecar::check(&mut checker, spec, object),
        Spec::ProxyConfig(spec) => telemetry::check_proxy_config(&mut checker, spec),
        Spec::PeerAuthentication(spec) => authentication::check_peer(&mut checker, spec),
        Spec::RequestAuthentication(spec) => authentication::check_request(&mut checker, spec),
        Spec::AuthorizationPolicy(spec) => authorization::check(&mut checker, spec, object),
        Spec::Telemetry(spec) => telemetry::check(&mut checker, spec),
        Spec::WasmPlugin(spec) => extensions::check_wasm_plugin(&mut checker, spec),
        Spec::TrafficExtension(spec) => extensions::check_traffic_extension(&mut checker, spec),
        Spec::Service(object) => kubernetes::check_service(&mut checker, object),
        Spec::Endpoints(object) => kubernetes::check_endpoints(&mut checker, object),
        Spec::EndpointSlice(object) => kubernetes::check_endpoint_slice(&mut checker, object),
        Spec::Pod(object) => kubernetes::check_pod(&mut checker, object),
        Spec::EnvoyFilter(spec) => envoy_filter::check(&mut checker, spec),
        Spec::Namespace(_)
        | Spec::Node(_)
        | Spec::ConfigMap(_)
        | Spec::Secret(_)
        | Spec::ServiceAccount(_)
        | Spec::Deployment(_)
        | Spec::StatefulSet(_)
        | Spec::DaemonSet(_)
        | Spec::ReplicaSet(_) => {}
    }
    enforced::check(&mut checker, object);
    checker.into_findings()
}
