//! EnvoyFilters: changes to what is otherwise ready to be sent.
//!
//! Source: Istio API, `EnvoyFilter`; what each operation does where follows istiod's `envoyfilter` package. Patches run
//! last, over finished messages: whatever translation builds can be changed.

mod cluster;
mod listener;
mod merge;
mod place;
mod route;

use std::sync::Arc;

use ringsail_api::networking::envoy_filter::{ApplyTo, PatchContext};
use ringsail_model::envoy_filter::Patch;
use ringsail_model::{Mesh, Proxy, ProxyType};
use ringsail_xds::json::Schema;

pub(crate) use cluster::patch_clusters;
pub(crate) use listener::patch_listeners;
pub(crate) use route::{GatewayPorts, patch_routes};

/// The patches for one proxy.
pub(crate) struct Patches {
    list: Vec<Arc<Patch>>,
    schema: Arc<Schema>,
}

impl Patches {
    /// `None` when nothing is patched, so that nobody looks.
    pub(crate) fn of(mesh: &Mesh, proxy: &Proxy) -> Option<Patches> {
        let list = mesh.patches_for(proxy);
        (!list.is_empty()).then(|| Patches { list, schema: Schema::shared() })
    }

    /// Those of one kind for one part of the proxy, in order.
    fn of_kind(&self, apply_to: ApplyTo, context: PatchContext) -> impl Iterator<Item = &Patch> {
        let meant = move |patch: &&Patch| {
            patch.apply_to == apply_to && [PatchContext::Any, context].contains(&patch.context)
        };
        self.list.iter().map(|patch| &**patch).filter(meant)
    }

    fn has_any(&self, apply_to: ApplyTo) -> bool {
        self.list.iter().any(|patch| patch.apply_to == apply_to)
    }
}

/// Outbound things of a proxy: a gateway has only those.
pub(crate) fn outbound_context(proxy: &Proxy) -> PatchContext {
    match proxy.kind {
        ProxyType::Sidecar => PatchContext::SidecarOutbound,
        ProxyType::Router => PatchContext::Gateway,
    }
}
