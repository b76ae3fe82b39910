//! Patches of clusters.

use std::sync::Arc;

use prost_types::value::Kind;
use ringsail_api::networking::envoy_filter::patch::Operation;
use ringsail_api::networking::envoy_filter::{ApplyTo, ClusterMatch, PatchContext};
use ringsail_model::envoy_filter::{Patch, PatchValue};
use ringsail_model::{Proxy, ProxyType};
use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::prost::Message;

use super::merge::merge;
use super::{Patches, outbound_context};
use crate::names;
use crate::resource::Resource;

/// Patches the clusters of a proxy. Those that no patch is about stay what they are, shared with other proxies.
pub(crate) fn patch_clusters(clusters: &mut Vec<Arc<Resource>>, proxy: &Proxy, patches: &Patches) {
    if !patches.has_any(ApplyTo::Cluster) {
        return;
    }
    clusters.retain_mut(|resource| {
        let context = context(&resource.name, proxy);
        let Ok(mut cluster) = Cluster::decode(resource.body.as_slice()) else { return true };
        let mut changed = false;
        for patch in patches.of_kind(ApplyTo::Cluster, context) {
            if !concerns(patch, &cluster) {
                continue;
            }
            match (patch.operation, &patch.value) {
                (Operation::Remove, _) => return false,
                (Operation::Merge | Operation::MergeAndReplaceList, Some(PatchValue::Cluster(value))) => {
                    merge(&mut cluster, value, patch.operation, &patches.schema);
                    changed = true;
                }
                _ => {}
            }
        }
        if changed {
            *resource = Arc::new(Resource::encode(&cluster.name, &cluster));
        }
        true
    });
    // Compat: an addition for any context is made once.
    let mut contexts = vec![outbound_context(proxy)];
    if proxy.kind == ProxyType::Sidecar {
        contexts.push(PatchContext::SidecarInbound);
    }
    for context in contexts {
        for patch in patches.of_kind(ApplyTo::Cluster, context) {
            let inbound_by_chance =
                context == PatchContext::SidecarInbound && patch.context == PatchContext::Any;
            if let (Operation::Add, Some(PatchValue::Cluster(cluster)), false) =
                (patch.operation, &patch.value, inbound_by_chance)
            {
                clusters.push(Arc::new(Resource::encode(&cluster.name, &**cluster)));
            }
        }
    }
}

fn context(name: &str, proxy: &Proxy) -> PatchContext {
    let inbound = name.starts_with("inbound|") || name == names::INBOUND_PASSTHROUGH;
    if inbound { PatchContext::SidecarInbound } else { outbound_context(proxy) }
}

fn concerns(patch: &Patch, cluster: &Cluster) -> bool {
    let Some(ClusterMatch { port_number, service, subset, name }) = &patch.cluster else { return true };
    if !name.is_empty() {
        return *name == cluster.name;
    }
    let mut parts = cluster.name.split('|');
    let (direction, port) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (own_subset, hostname) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let serves = match direction {
        // The name of an inbound cluster does not tell the service.
        "inbound" => hosts(cluster).any(|host| host == service),
        _ => service == hostname,
    };
    (subset.is_empty() || subset == own_subset)
        && (service.is_empty() || serves)
        && (*port_number == 0 || port.parse() == Ok(*port_number))
}

/// Hosts of the services that a cluster belongs to, from its metadata.
fn hosts(cluster: &Cluster) -> impl Iterator<Item = &str> {
    let istio = cluster.metadata.as_ref().and_then(|metadata| metadata.filter_metadata.get("istio"));
    let services = istio.and_then(|istio| istio.fields.get("services"));
    let list = match services.and_then(|services| services.kind.as_ref()) {
        Some(Kind::ListValue(list)) => &list.values[..],
        _ => &[],
    };
    list.iter().filter_map(|service| {
        let Some(Kind::StructValue(fields)) = &service.kind else { return None };
        match &fields.fields.get("host")?.kind {
            Some(Kind::StringValue(host)) => Some(host.as_str()),
            _ => None,
        }
    })
}
