//! Subsets of a cluster, and the criteria that choose among them.

use std::sync::Arc;

use ringsail_xds::envoy::config::cluster::v3::cluster::{LbSubsetConfig, lb_subset_config as pb};
use ringsail_xds::envoy::config::core::v3 as core;

use super::context::Context;
use super::metadata::{metadata, object};
use crate::limits::NESTING_MAX;
use crate::metadata::Value;
use crate::strings::Str;
use crate::subset::{Criteria, Fallback, Selector, Subsets};

/// How a cluster is divided; `Some(None)` when it is not.
pub(super) fn subsets(cx: &mut Context<'_>, value: Option<&LbSubsetConfig>) -> Option<Option<Arc<Subsets>>> {
    // Compat: without selectors the cluster is not divided, whatever else is said.
    let Some(value) = value.filter(|value| !value.subset_selectors.is_empty()) else { return Some(None) };
    let selectors = cx.each("subset_selectors", &value.subset_selectors, selector);
    let fallback = match pb::LbSubsetFallbackPolicy::try_from(value.fallback_policy) {
        Ok(pb::LbSubsetFallbackPolicy::NoFallback) => Fallback::Nobody,
        Ok(pb::LbSubsetFallbackPolicy::AnyEndpoint) => Fallback::Any,
        Ok(pb::LbSubsetFallbackPolicy::DefaultSubset) => Fallback::Default,
        Err(_) => return cx.refuse("fallback_policy", "is not known"),
    };
    let fallback_list = match pb::LbSubsetMetadataFallbackPolicy::try_from(value.metadata_fallback_policy) {
        Ok(pb::LbSubsetMetadataFallbackPolicy::MetadataNoFallback) => false,
        Ok(pb::LbSubsetMetadataFallbackPolicy::FallbackList) => true,
        Err(_) => return cx.refuse("metadata_fallback_policy", "is not known"),
    };
    let default_subset = match &value.default_subset {
        Some(fields) => match object(cx, fields, NESTING_MAX) {
            Value::Struct(fields) => fields,
            _ => Box::default(),
        },
        None => Box::default(),
    };
    Some(Some(Arc::new(Subsets {
        selectors,
        fallback,
        default_subset,
        locality_weight_aware: value.locality_weight_aware,
        scale_locality_weight: value.scale_locality_weight,
        panic_mode_any: value.panic_mode_any,
        list_as_any: value.list_as_any,
        fallback_list,
    })))
}

fn selector(cx: &mut Context<'_>, value: &pb::LbSubsetSelector) -> Option<Selector> {
    use pb::lb_subset_selector::LbSubsetSelectorFallbackPolicy as Policy;
    let keys = sorted(cx, &value.keys);
    if keys.is_empty() {
        return cx.refuse("keys", "is empty");
    }
    let fallback = match Policy::try_from(value.fallback_policy) {
        Ok(Policy::NotDefined) => None,
        Ok(Policy::NoFallback) => Some(Fallback::Nobody),
        Ok(Policy::AnyEndpoint) => Some(Fallback::Any),
        Ok(Policy::DefaultSubset) => Some(Fallback::Default),
        Ok(Policy::KeysSubset) => {
            let fewer = sorted(cx, &value.fallback_keys_subset);
            if fewer.is_empty() || fewer.len() == keys.len() || !fewer.iter().all(|key| keys.contains(key)) {
                return cx.refuse("fallback_keys_subset", "is not a smaller, non-empty part of keys");
            }
            Some(Fallback::Keys(fewer))
        }
        Err(_) => return cx.refuse("fallback_policy", "is not known"),
    };
    Some(Selector { keys, fallback })
}

fn sorted(cx: &mut Context<'_>, keys: &[String]) -> Box<[Str]> {
    let mut keys: Vec<Str> = keys.iter().map(|key| cx.intern(key)).collect();
    keys.sort();
    keys.dedup();
    keys.into()
}

/// The criteria of a `metadata_match`, those of the level above included.
pub(super) fn criteria(
    cx: &mut Context<'_>,
    value: Option<&core::Metadata>,
    above: Option<&Arc<Criteria>>,
) -> Option<Arc<Criteria>> {
    let own = metadata(cx, value).and_then(|metadata| Criteria::of(&metadata));
    match (own, above) {
        (Some(own), Some(above)) => Some(Arc::new(above.with(&own))),
        (Some(own), None) => Some(Arc::new(own)),
        (None, above) => above.cloned(),
    }
}
