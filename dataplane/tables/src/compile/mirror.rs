//! Mirror policies of routes.

use ringsail_xds::envoy::config::route::v3::route_action::RequestMirrorPolicy;

use super::context::Context;
use super::headers::mutations;
use super::route_action::{header_named, named};
use super::value::runtime_fraction;
use crate::fraction::Fraction;
use crate::route::{Mirror, MirrorHost};

/// The list at `request_mirror_policies` of any level.
pub(super) fn mirrors(cx: &mut Context<'_>, list: &[RequestMirrorPolicy]) -> Box<[Mirror]> {
    cx.each("request_mirror_policies", list, mirror)
}

fn mirror(cx: &mut Context<'_>, value: &RequestMirrorPolicy) -> Option<Mirror> {
    let cluster = match (value.cluster.as_str(), value.cluster_header.as_str()) {
        ("", "") => return cx.refuse("cluster", "is empty"),
        (name, "") => named(cx, "cluster", name)?,
        ("", header) => header_named(cx, header)?,
        (_, _) => return cx.refuse("cluster_header", "excludes cluster"),
    };
    let share = match &value.runtime_fraction {
        Some(share) => runtime_fraction(cx, "runtime_fraction", share)?,
        None => Fraction::ALL,
    };
    // Compat: a literal host gets no suffix.
    let host = match (cx.intern_set(&value.host_rewrite_literal), value.disable_shadow_host_suffix_append) {
        (Some(host), _) => MirrorHost::Literal(host),
        (None, true) => MirrorHost::Same,
        (None, false) => MirrorHost::Shadow,
    };
    let mutations = mutations(cx, "request_headers_mutations", &value.request_headers_mutations);
    Some(Mirror { cluster, share, host, mutations })
}
