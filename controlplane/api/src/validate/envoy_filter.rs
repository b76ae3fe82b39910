//! EnvoyFilter: whether place, match and operation of a patch fit each other. What a value holds is checked against
//! Envoy's messages where they are known.

use crate::networking::EnvoyFilter;
use crate::networking::envoy_filter::envoy_config_object_match::ObjectTypes;
use crate::networking::envoy_filter::patch::Operation;
use crate::networking::envoy_filter::{
    ApplyTo, EnvoyConfigObjectPatch, ListenerMatch, PatchContext, listener_match,
};
use crate::validate::checker::Checker;
use crate::validate::policy;

const CONNECTION_MANAGERS: [&str; 2] =
    ["envoy.filters.network.http_connection_manager", "envoy.http_connection_manager"];
/// Longest `proxyVersion`, in bytes; longer ones match no proxy. Source: istiod.
const PROXY_VERSION_BYTES_MAX: usize = 1024;

pub(crate) fn check(checker: &mut Checker, spec: &EnvoyFilter) {
    policy::targets(checker, None, None, &spec.target_refs);
    if let Some(selector) = &spec.workload_selector {
        if !spec.target_refs.is_empty() {
            checker.error("only one of targetRefs or workloadSelector can be set");
        }
        if selector.labels.is_empty() {
            checker.field("workloadSelector", |checker| {
                checker.warning("a selector without labels applies to every workload of the namespace");
            });
        }
    }
    checker.each("configPatches", &spec.config_patches, patch);
}

fn patch(checker: &mut Checker, declared: &EnvoyConfigObjectPatch) {
    let condition = declared.r#match.clone().unwrap_or_default();
    // There are no waypoints that it could be about.
    if condition.context() == PatchContext::Waypoint {
        checker.warning("there are no waypoints, so the patch changes nothing");
        return;
    }
    let apply_to = declared.apply_to();
    if apply_to == ApplyTo::Invalid {
        checker.error("missing applyTo");
        return;
    }
    let Some(patch) = &declared.patch else {
        checker.error("missing patch");
        return;
    };
    let operation = patch.operation();
    if operation == Operation::Invalid {
        checker.field("patch", |checker| {
            checker.error("missing patch operation");
        });
        return;
    }
    if operation != Operation::Remove && patch.value.is_none() {
        checker.field("patch", |checker| {
            checker.error("missing patch value for non-remove operation");
        });
    }
    checker.field("match", |checker| {
        let proxy = condition.proxy.as_ref().map_or("", |proxy| proxy.proxy_version.as_str());
        if proxy.len() > PROXY_VERSION_BYTES_MAX {
            checker.warning(format!(
                "proxyVersion has more than {PROXY_VERSION_BYTES_MAX} bytes; no proxy has it"
            ));
        } else if let Err(error) = regex::Regex::new(proxy) {
            checker.error(format!("invalid regex for proxy version: {error}"));
        }
        match (class(apply_to), &condition.object_types) {
            (_, None) | (Class::Listener, Some(ObjectTypes::Listener(_))) => {}
            (Class::Routes, Some(ObjectTypes::RouteConfiguration(_))) => {}
            (Class::Cluster, Some(ObjectTypes::Cluster(_))) | (Class::Other, _) => {}
            (Class::Listener, Some(_)) => {
                checker.error("applyTo for listener class objects cannot have non listener match");
            }
            (Class::Routes, Some(_)) => {
                checker
                    .error("applyTo for http route class objects cannot have non route configuration match");
            }
            (Class::Cluster, Some(_)) => {
                checker.error("applyTo for cluster class objects cannot have non cluster match");
            }
        }
        if let Some(ObjectTypes::Listener(found)) = &condition.object_types {
            filter_match(checker, apply_to, found);
        }
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Listener,
    Routes,
    Cluster,
    Other,
}

fn class(apply_to: ApplyTo) -> Class {
    match apply_to {
        ApplyTo::Listener | ApplyTo::FilterChain | ApplyTo::NetworkFilter | ApplyTo::HttpFilter => {
            Class::Listener
        }
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute => Class::Routes,
        ApplyTo::Cluster => Class::Cluster,
        ApplyTo::ListenerFilter | ApplyTo::ExtensionConfig | ApplyTo::Bootstrap | ApplyTo::Invalid => {
            Class::Other
        }
    }
}

fn filter_match(checker: &mut Checker, apply_to: ApplyTo, found: &ListenerMatch) {
    let chain = found.filter_chain.as_ref();
    let Some(listener_match::FilterMatch { name, sub_filter }) =
        chain.and_then(|chain| chain.filter.as_ref())
    else {
        return;
    };
    if matches!(apply_to, ApplyTo::Listener | ApplyTo::FilterChain) {
        checker.warning(format!("filter match has no effect when used with {}", apply_to.as_str_name()));
    }
    if name.is_empty() {
        checker.error("filter match has no name to match on");
        return;
    }
    let Some(inner) = sub_filter else { return };
    if apply_to != ApplyTo::HttpFilter {
        checker.error("subfilter match can be used with applyTo HTTP_FILTER only");
    } else if !CONNECTION_MANAGERS.contains(&name.as_str()) {
        checker.error(format!("subfilter match requires filter match with {}", CONNECTION_MANAGERS[0]));
    } else if inner.name.is_empty() {
        checker.error("subfilter match has no name to match on");
    }
}
