//! What security, telemetry and extension policies share: selectors and target references.

use crate::selector::{PolicyTargetReference, WorkloadSelector};
use crate::validate::checker::Checker;
use crate::validate::common::selector;

/// Kinds a policy may refer to: group (`core` may be written as empty) and kind.
const TARGETS: [(&str, &str); 5] = [
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
];

/// `selector`, `targetRef` and `targetRefs`, of which one may be set.
pub(crate) fn targets(
    checker: &mut Checker,
    workloads: Option<&WorkloadSelector>,
    target: Option<&PolicyTargetReference>,
    targets: &[PolicyTargetReference],
) {
    let set = [workloads.is_some(), target.is_some(), !targets.is_empty()];
    if set.into_iter().filter(|is_set| *is_set).count() > 1 {
        let fix = "keep `targetRefs` for gateways and waypoints, `selector` for workloads";
        checker.error("only one of targetRefs or workloadSelector can be set").fix(fix);
    }
    checker.set("selector", workloads, |checker, workloads| {
        selector(checker, "matchLabels", &workloads.match_labels);
    });
    checker.set("targetRef", target, reference);
    checker.each("targetRefs", targets, reference);
}

fn reference(checker: &mut Checker, target: &PolicyTargetReference) {
    if target.name.is_empty() {
        checker.error("targetRef name must be set");
    }
    if !target.namespace.is_empty() {
        checker
            .error("targetRef namespace must not be set; cross namespace referencing is not supported")
            .fix("put the policy into the namespace of its target");
    }
    if !TARGETS.contains(&(target.group.as_str(), target.kind.as_str())) {
        let fix = "refer to a Gateway, GatewayClass, Service or ServiceEntry";
        checker.error(format!("a policy cannot refer to {}/{}", target.group, target.kind)).fix(fix);
    }
}
