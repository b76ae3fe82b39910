//! Which workloads a policy names: by labels, or by the Kubernetes Gateway they serve.

use ringsail_api::selector::PolicyTargetReference;

use crate::labels::{self, Labels};
use crate::proxy::Proxy;

/// Label by which the workload of a Kubernetes Gateway names it.
const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";
/// API group of Kubernetes Gateways.
const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// Whether a policy is about a proxy's workload. With targets it is about the workloads of those Kubernetes Gateways and
/// no others, without them about those that `selector` selects. Source: istiod, `policyattachment.go`.
pub(crate) fn concerns(selector: &Labels, targets: &[&PolicyTargetReference], proxy: &Proxy) -> bool {
    if targets.is_empty() {
        return labels::selects(selector, &proxy.labels);
    }
    let Some(gateway) = proxy.labels.get(GATEWAY_NAME_LABEL) else { return false };
    targets.iter().any(|target| {
        target.group == GATEWAY_GROUP
            && target.kind == "Gateway"
            && target.name == *gateway
            && (target.namespace.is_empty() || target.namespace == proxy.namespace)
    })
}
