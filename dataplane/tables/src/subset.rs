//! Parts of a cluster, chosen by the metadata that a route wants and endpoints have.
//!
//! Source: `Cluster.lb_subset_config`, or the extension `envoy.load_balancing_policies.subset` that says the same;
//! `metadata_match` of routes, weighted clusters and TCP proxies.

use crate::metadata::{Metadata, Value};
use crate::strings::Str;

/// The name space of metadata that balancing looks at.
pub const LB_NAMESPACE: &str = "envoy.lb";

/// What a route wants of an endpoint's metadata: keys with values, sorted by key. Never empty.
#[derive(Clone, PartialEq, Debug)]
pub struct Criteria(Box<[(Str, Value)]>);

impl Criteria {
    /// The criteria in route metadata; `None` when there are none.
    pub fn of(metadata: &Metadata) -> Option<Criteria> {
        match metadata.at(LB_NAMESPACE, &[])? {
            Value::Struct(fields) if !fields.is_empty() => Some(Criteria(fields.clone())),
            _ => None,
        }
    }

    /// These with `more` added; of a key in both, `more` decides.
    pub fn with(&self, more: &Criteria) -> Criteria {
        let kept = self.0.iter().filter(|(key, _)| more.0.iter().all(|(other, _)| other != key));
        let mut all: Vec<(Str, Value)> = kept.chain(&more.0).cloned().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Criteria(all.into())
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Str, &Value)> + Clone {
        self.0.iter().map(|(key, value)| (key, value))
    }
}

/// How a cluster is divided.
#[derive(Clone, PartialEq, Debug)]
pub struct Subsets {
    /// What divides it; never empty.
    pub selectors: Box<[Selector]>,
    /// Who serves requests that no subset takes.
    pub fallback: Fallback,
    /// What endpoints of the default subset have; empty means all endpoints are in it.
    pub default_subset: Box<[(Str, Value)]>,
    /// Whether locality weights count inside a subset.
    pub locality_weight_aware: bool,
    /// Whether they shrink with the share of a locality's endpoints that is in the subset.
    pub scale_locality_weight: bool,
    /// Any endpoint serves when the fallback's have nobody.
    pub panic_mode_any: bool,
    /// An endpoint whose value is a list has each of its elements.
    pub list_as_any: bool,
    /// The criterion `fallback_list` holds lists of criteria that are tried in order.
    pub fallback_list: bool,
}

/// Keys by whose values endpoints are put together.
#[derive(Clone, PartialEq, Debug)]
pub struct Selector {
    /// The keys, sorted, each once; never empty.
    pub keys: Box<[Str]>,
    /// What happens to criteria with exactly these keys that no endpoint has; `None` leaves it to
    /// [`Subsets::fallback`].
    pub fallback: Option<Fallback>,
}

/// Who serves requests that no subset takes.
#[derive(Clone, PartialEq, Debug)]
pub enum Fallback {
    /// Nobody.
    Nobody,
    /// All endpoints.
    Any,
    /// [`Subsets::default_subset`].
    Default,
    /// The subset of fewer keys, sorted. For selectors only.
    Keys(Box<[Str]>),
}

/// The criterion that holds further criteria. Source: Envoy's `LbSubsetMetadataFallbackPolicy.FALLBACK_LIST`.
pub const FALLBACK_LIST: &str = "fallback_list";

/// The values of `key` that an endpoint has.
pub fn values_of<'m>(metadata: Option<&'m Metadata>, key: &str, list_as_any: bool) -> &'m [Value] {
    let own =
        metadata.and_then(|metadata| metadata.at(LB_NAMESPACE, &[])).and_then(|fields| fields.field(key));
    match own {
        Some(Value::List(elements)) if list_as_any => elements,
        Some(value) => std::slice::from_ref(value),
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn criteria(pairs: &[(&str, &str)]) -> Criteria {
        let fields = pairs.iter().map(|(key, value)| (Str::new(key), Value::String(Str::new(value))));
        let fields = Value::object(fields);
        let metadata = Metadata { namespaces: [(Str::new(LB_NAMESPACE), fields)].into() };
        Criteria::of(&metadata).expect("there are some")
    }

    #[test]
    fn criteria_of_a_weighted_cluster_win_over_its_routes() {
        let route = criteria(&[("stage", "prod"), ("version", "1")]);
        let cluster = criteria(&[("version", "2"), ("arch", "arm")]);
        assert_eq!(route.with(&cluster), criteria(&[("arch", "arm"), ("stage", "prod"), ("version", "2")]));
    }

    #[test]
    fn a_list_has_its_elements_only_where_it_is_asked_for_them() {
        let list = Value::List([Value::Bool(true), Value::Null].into());
        let fields = Value::object([(Str::new("v"), list)]);
        let metadata = Metadata { namespaces: [(Str::new(LB_NAMESPACE), fields)].into() };
        assert_eq!(values_of(Some(&metadata), "v", true).len(), 2);
        assert_eq!(values_of(Some(&metadata), "v", false).len(), 1);
        assert!(values_of(Some(&metadata), "w", true).is_empty());
    }
}
