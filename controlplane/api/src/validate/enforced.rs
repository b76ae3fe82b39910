//! What this version does not enforce.
//!
//! An object that asks for security which nothing provides must not look accepted: it is refused, with
//! this reason. The list shrinks as features arrive; nothing else decides it.

use crate::kind::Spec;
use crate::networking::client_tls_settings::TlSmode as ClientMode;
use crate::networking::load_balancer_settings::LbPolicy;
use crate::networking::server_tls_settings::TlSmode as ServerMode;
use crate::networking::{
    ClientTlsSettings, DestinationRule, Gateway, LoadBalancerSettings, ServerTlsSettings, Sidecar,
    TrafficPolicy,
};
use crate::object::Object;
use crate::security::PeerAuthentication;
use crate::security::peer_authentication::mutual_tls::Mode as MutualTlsMode;
use crate::validate::checker::Checker;

/// Code of findings about features that are not enforced yet: the object is well-formed, and refused all
/// the same.
pub const UNENFORCED: &str = "RINGSAIL-UNENFORCED";

pub(crate) fn check(checker: &mut Checker, object: &Object) {
    match &object.spec {
        Spec::PeerAuthentication(spec) => peer_authentication(checker, spec),
        Spec::AuthorizationPolicy(_) => {
            refuse(checker, "AuthorizationPolicy", "every request would be allowed")
        }
        Spec::RequestAuthentication(_) => {
            refuse(checker, "RequestAuthentication", "every token would be accepted");
        }
        Spec::DestinationRule(spec) => destination_rule(checker, spec),
        Spec::Gateway(spec) => gateway(checker, spec),
        Spec::Sidecar(spec) => sidecar(checker, spec),
        Spec::WasmPlugin(_) => leave_aside(checker, "WasmPlugin"),
        Spec::TrafficExtension(_) => leave_aside(checker, "TrafficExtension"),
        Spec::Telemetry(_)
        | Spec::ProxyConfig(_)
        | Spec::EnvoyFilter(_)
        | Spec::VirtualService(_)
        | Spec::ServiceEntry(_)
        | Spec::WorkloadEntry(_)
        | Spec::WorkloadGroup(_)
        | Spec::Service(_)
        | Spec::Endpoints(_)
        | Spec::EndpointSlice(_)
        | Spec::Pod(_)
        | Spec::Namespace(_)
        | Spec::Node(_)
        | Spec::ConfigMap(_)
        | Spec::Secret(_)
        | Spec::ServiceAccount(_)
        | Spec::Deployment(_)
        | Spec::StatefulSet(_)
        | Spec::DaemonSet(_)
        | Spec::ReplicaSet(_) => {}
    }
}

fn refuse(checker: &mut Checker, feature: &str, consequence: &str) {
    checker
        .error(format!("{feature} is not enforced yet: {consequence}, so the object is refused"))
        .code(UNENFORCED)
        .fix("remove it, or keep this workload on a mesh that enforces it");
}

/// Extensions change proxies in ways that may matter for security; nobody can tell from outside.
fn leave_aside(checker: &mut Checker, kind: &str) {
    refuse(checker, kind, "proxies would run without it");
}

fn peer_authentication(checker: &mut Checker, spec: &PeerAuthentication) {
    let strict = |checker: &mut Checker| refuse(checker, "STRICT mutual TLS", "plain text would be accepted");
    checker.set("mtls", spec.mtls.as_ref(), |checker, mtls| {
        if mtls.mode() == MutualTlsMode::Strict {
            checker.field("mode", strict);
        }
    });
    checker.entries("portLevelMtls", &spec.port_level_mtls, |checker, _, mtls| {
        if mtls.mode() == MutualTlsMode::Strict {
            checker.field("mode", strict);
        }
    });
}

fn client_tls(checker: &mut Checker, tls: &ClientTlsSettings) {
    if tls.mode() != ClientMode::Disable {
        let feature = format!("TLS towards services ({})", tls.mode().as_str_name());
        checker.field("mode", |checker| refuse(checker, &feature, "traffic would leave in plain text"));
    }
}

/// Balancing by reported load would silently become something else.
fn load_balancer(checker: &mut Checker, settings: &LoadBalancerSettings) {
    if matches!(settings.lb_policy, Some(LbPolicy::BackendUtilization(_))) {
        checker.field("backendUtilization", |checker| {
            let message = "balancing by reported load is not supported yet, so the object is refused";
            checker.error(message).code(UNENFORCED).fix("use `simple: LEAST_REQUEST`");
        });
    }
}

fn destination_rule(checker: &mut Checker, spec: &DestinationRule) {
    let policy = |checker: &mut Checker, policy: &TrafficPolicy| {
        checker.set("loadBalancer", policy.load_balancer.as_ref(), load_balancer);
        checker.set("tls", policy.tls.as_ref(), client_tls);
        checker.each("portLevelSettings", &policy.port_level_settings, |checker, entry| {
            checker.set("loadBalancer", entry.load_balancer.as_ref(), load_balancer);
            checker.set("tls", entry.tls.as_ref(), client_tls);
        });
    };
    checker.set("trafficPolicy", spec.traffic_policy.as_ref(), policy);
    checker.each("subsets", &spec.subsets, |checker, subset| {
        checker.set("trafficPolicy", subset.traffic_policy.as_ref(), policy);
    });
}

fn server_tls(checker: &mut Checker, tls: &ServerTlsSettings) {
    let feature = match tls.mode() {
        // Routing by SNI without terminating needs no keys; `httpsRedirect` alone has this mode, too.
        ServerMode::Passthrough => return,
        mode => format!("terminating TLS ({})", mode.as_str_name()),
    };
    checker.field("mode", |checker| refuse(checker, &feature, "the port would not be encrypted"));
}

fn gateway(checker: &mut Checker, spec: &Gateway) {
    checker.each("servers", &spec.servers, |checker, server| {
        checker.set("tls", server.tls.as_ref(), server_tls);
    });
}

fn sidecar(checker: &mut Checker, spec: &Sidecar) {
    checker.each("ingress", &spec.ingress, |checker, listener| {
        checker.set("tls", listener.tls.as_ref(), server_tls);
    });
}
