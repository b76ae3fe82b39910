//! DestinationRules: merging inside a namespace and lookup across namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringsail_api::networking;

use crate::host;
use crate::labels::{self, Labels};
use crate::service::{Age, ServiceKey};
use crate::settings::MeshSettings;
use crate::visibility::Visibility;

/// A DestinationRule, or several of one namespace for one host merged.
#[derive(Clone, Debug, PartialEq)]
pub struct DestinationRule {
    /// Name of the oldest object.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Creation order of the oldest object.
    pub age: Age,
    /// Host it applies to, complete and lower case; may be a wildcard.
    pub hostname: String,
    /// Namespaces that may use it.
    pub visibility: Visibility,
    /// Labels of the client workloads it is limited to; empty for all.
    pub selector: Labels,
    /// Policy of the destination and of its ports.
    pub traffic_policy: Option<networking::TrafficPolicy>,
    /// Subsets in order; names are unique.
    pub subsets: Vec<networking::Subset>,
}

impl DestinationRule {
    /// Resolves the host name of an object.
    pub fn build(
        name: &str,
        namespace: &str,
        age: Age,
        spec: &networking::DestinationRule,
        settings: &MeshSettings,
    ) -> DestinationRule {
        let selector =
            spec.workload_selector.as_ref().map(|selector| selector.match_labels.clone()).unwrap_or_default();
        // A rule for selected clients is private to its namespace whatever it declares.
        let visibility = if selector.is_empty() {
            Visibility::parse(&spec.export_to, namespace, &settings.destination_rule_visibility)
        } else {
            Visibility::Namespaces([namespace.to_owned()].into())
        };
        let mut rule = DestinationRule {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            age,
            hostname: host::resolve_short_name(&spec.host, namespace, &settings.cluster_domain),
            visibility,
            selector,
            traffic_policy: spec.traffic_policy.clone(),
            subsets: Vec::with_capacity(spec.subsets.len()),
        };
        rule.add_subsets(&spec.subsets);
        rule
    }

    /// The subset of this name.
    pub fn subset(&self, name: &str) -> Option<&networking::Subset> {
        self.subsets.iter().find(|subset| subset.name == name)
    }

    /// Adds what a younger rule for the same host declares: subsets of new names, and its policy when there is none.
    fn merge(&mut self, younger: &DestinationRule) {
        self.add_subsets(&younger.subsets);
        if self.traffic_policy.is_none() {
            self.traffic_policy.clone_from(&younger.traffic_policy);
        }
    }

    fn add_subsets(&mut self, subsets: &[networking::Subset]) {
        for subset in subsets {
            if self.subset(&subset.name).is_none() {
                self.subsets.push(subset.clone());
            }
        }
    }
}

/// All rules by namespace and host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DestinationRuleIndex {
    by_namespace: BTreeMap<String, BTreeMap<String, Vec<Arc<DestinationRule>>>>,
}

impl DestinationRuleIndex {
    /// Merges rules given in creation order. Rules of `previous` that come out equal are shared.
    pub fn build(
        rules: Vec<DestinationRule>,
        previous: Option<&DestinationRuleIndex>,
    ) -> DestinationRuleIndex {
        let mut merged: BTreeMap<String, BTreeMap<String, Vec<DestinationRule>>> = BTreeMap::new();
        for rule in rules {
            let same_host =
                merged.entry(rule.namespace.clone()).or_default().entry(rule.hostname.clone()).or_default();
            let twin = same_host
                .iter_mut()
                .find(|old| old.visibility == rule.visibility && old.selector == rule.selector);
            match twin {
                Some(older) => older.merge(&rule),
                None => same_host.push(rule),
            }
        }
        let share = |namespace: &str, rule: DestinationRule| {
            previous
                .and_then(|index| index.by_namespace.get(namespace)?.get(&rule.hostname))
                .and_then(|old| old.iter().find(|old| ***old == rule).cloned())
                .unwrap_or_else(|| Arc::new(rule))
        };
        let by_namespace = merged
            .into_iter()
            .map(|(namespace, hosts)| {
                let hosts = hosts
                    .into_iter()
                    .map(|(host, rules)| {
                        (host, rules.into_iter().map(|rule| share(&namespace, rule)).collect())
                    })
                    .collect();
                (namespace, hosts)
            })
            .collect();
        DestinationRuleIndex { by_namespace }
    }

    /// Every merged rule.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<DestinationRule>> {
        self.by_namespace.values().flat_map(|hosts| hosts.values().flatten())
    }

    /// The rule that a client in `namespace` with these labels uses for a service.
    ///
    /// Levels are searched in order and the first with a match wins, without merging across: the client's namespace
    /// (in the root namespace only its private rules), the service's namespace, the root namespace. Source: Istio,
    /// destination rule lookup.
    pub fn find(
        &self,
        namespace: &str,
        workload: &Labels,
        service: &ServiceKey,
        root: &str,
    ) -> Option<&Arc<DestinationRule>> {
        let own = if namespace == root {
            self.best(root, &service.hostname, workload, |rule| rule.visibility.is_private_to(root))
        } else {
            self.best(namespace, &service.hostname, workload, |rule| rule.visibility.includes(namespace))
        };
        let exported = |rule: &DestinationRule| rule.visibility.includes(namespace);
        own.or_else(|| self.best(&service.namespace, &service.hostname, workload, exported))
            .or_else(|| self.best(root, &service.hostname, workload, exported))
    }

    fn best(
        &self,
        namespace: &str,
        hostname: &str,
        workload: &Labels,
        usable: impl Fn(&DestinationRule) -> bool,
    ) -> Option<&Arc<DestinationRule>> {
        let hosts = self.by_namespace.get(namespace)?;
        host::most_specific(hostname, |pattern| {
            let rules = hosts.get(pattern)?;
            let usable = || rules.iter().filter(|rule| usable(rule));
            usable()
                .find(|rule| !rule.selector.is_empty() && labels::selects(&rule.selector, workload))
                .or_else(|| usable().find(|rule| rule.selector.is_empty()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "istio-system";

    fn rule(
        namespace: &str,
        name: &str,
        host: &str,
        export_to: &[&str],
        subsets: &[&str],
    ) -> DestinationRule {
        let spec = networking::DestinationRule {
            host: host.into(),
            export_to: export_to.iter().map(|s| s.to_string()).collect(),
            subsets: subsets
                .iter()
                .map(|name| networking::Subset { name: name.to_string(), ..Default::default() })
                .collect(),
            ..Default::default()
        };
        let age = Age { created_seconds: 0, name: name.into(), namespace: namespace.into() };
        DestinationRule::build(name, namespace, age, &spec, &MeshSettings::default())
    }

    fn find(index: &DestinationRuleIndex, client: &str) -> Option<String> {
        let service = ServiceKey { namespace: "shop".into(), hostname: "web.shop.svc.cluster.local".into() };
        index.find(client, &Labels::new(), &service, ROOT).map(|rule| rule.name.clone())
    }

    #[test]
    fn client_namespace_wins_over_service_namespace_over_root() {
        let all = vec![
            rule("client", "mine", "web.shop.svc.cluster.local", &[], &[]),
            rule("shop", "theirs", "web", &[], &[]),
            rule(ROOT, "root", "*.local", &[], &[]),
        ];
        let index = DestinationRuleIndex::build(all.clone(), None);
        assert_eq!(find(&index, "client").as_deref(), Some("mine"));
        assert_eq!(find(&index, "other").as_deref(), Some("theirs"));
        let index = DestinationRuleIndex::build(vec![all[2].clone()], None);
        assert_eq!(find(&index, "other").as_deref(), Some("root"));
    }

    #[test]
    fn rule_that_is_not_exported_is_not_found() {
        let index = DestinationRuleIndex::build(vec![rule("shop", "private", "web", &["."], &[])], None);
        assert_eq!(find(&index, "client"), None);
        assert_eq!(find(&index, "shop").as_deref(), Some("private"));
    }

    #[test]
    fn rules_for_one_host_unite_their_subsets() {
        let index = DestinationRuleIndex::build(
            vec![rule("shop", "a", "web", &[], &["v1"]), rule("shop", "b", "web", &[], &["v2", "v1"])],
            None,
        );
        let rules: Vec<_> = index.iter().collect();
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].name, "a");
        let names: Vec<_> = rules[0].subsets.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["v1", "v2"]);
    }

    #[test]
    fn exact_host_wins_over_wildcard_and_equal_rules_are_shared() {
        let rules = vec![
            rule("shop", "wild", "*.shop.svc.cluster.local", &[], &[]),
            rule("shop", "x", "web", &[], &[]),
        ];
        let index = DestinationRuleIndex::build(rules.clone(), None);
        assert_eq!(find(&index, "client").as_deref(), Some("x"));
        let next = DestinationRuleIndex::build(rules, Some(&index));
        assert!(index.iter().zip(next.iter()).all(|(a, b)| Arc::ptr_eq(a, b)));
    }
}
