//! The settings of one workload's proxy: ProxyConfig objects and the pod's annotation, over MeshConfig's default.

use ringsail_api::{MeshConfig, Object, ProxyConfig, Spec, decode_proxy_config};
use ringsail_xds::prost::Message;

use crate::labels::{self, Labels};

/// Annotation of a pod with settings of its proxy. Source: Istio, resource annotations.
pub(crate) const ANNOTATION: &str = "proxy.istio.io/config";

/// What the objects and a workload's annotation say of its proxy; `None` when they say nothing. Later overrides earlier:
/// the ProxyConfig without selector of the root namespace, that of the workload's namespace, the annotation, the
/// ProxyConfig that selects the workload. Of several on one level the oldest counts. Source: istiod, `proxy_config.go`.
///
/// An annotation that cannot be read counts as none.
pub fn of_workload<'a>(
    config: &MeshConfig,
    objects: impl Iterator<Item = &'a Object> + Clone,
    namespace: &str,
    labels: &Labels,
    annotations: &Labels,
) -> Option<ProxyConfig> {
    let root = match config.root_namespace.as_str() {
        "" => "istio-system",
        declared => declared,
    };
    let find = |namespace: &str, selecting: bool| {
        let mut found: Vec<_> = objects
            .clone()
            .filter(|object| object.meta.namespace == namespace)
            .filter_map(|object| match &object.spec {
                Spec::ProxyConfig(spec) => Some((object, &**spec)),
                _ => None,
            })
            .filter(|(_, spec)| {
                let selector = spec.selector.as_ref().map(|selector| &selector.match_labels);
                match selector.filter(|selector| !selector.is_empty()) {
                    Some(selector) => selecting && labels::selects(selector, labels),
                    None => !selecting,
                }
            })
            .collect();
        found.sort_by_key(|(object, _)| (object.created_unix_seconds(), object.meta.name.clone()));
        found.first().map(|(_, spec)| ProxyConfig {
            concurrency: spec.concurrency,
            proxy_metadata: spec.environment_variables.clone(),
            ..ProxyConfig::default()
        })
    };
    let annotation = annotations.get(ANNOTATION).and_then(|text| decode_proxy_config(text, ANNOTATION).ok());
    let own = (namespace != root).then(|| find(namespace, false)).flatten();
    let levels = [find(root, false), own, annotation, find(namespace, true)];
    levels.into_iter().flatten().reduce(|lower, higher| merge(lower, &higher))
}

/// Settings with others over them.
pub fn merge(mut lower: ProxyConfig, higher: &ProxyConfig) -> ProxyConfig {
    // Merging of messages is what decoding one after the other does.
    lower.merge(higher.encode_to_vec().as_slice()).expect("encoded from the same type");
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(objects: &str, annotation: &str) -> ProxyConfig {
        let decoded = ringsail_api::decode(objects, "f.yaml");
        assert!(decoded.refused.is_empty() && !decoded.unreadable, "{:?}", decoded.diagnostics);
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let annotations = match annotation {
            "" => Labels::new(),
            text => [(ANNOTATION.to_owned(), text.to_owned())].into(),
        };
        let config = MeshConfig::default();
        of_workload(&config, decoded.objects.iter(), "shop", &labels, &annotations).unwrap_or_default()
    }

    fn object(place: &str, spec: &str) -> String {
        let (name, namespace) = place.split_once('@').expect("name@namespace");
        format!(
            "---\napiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\n\
             metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
        )
    }

    #[test]
    fn workload_overrides_annotation_overrides_namespace_overrides_mesh() {
        let mesh = object("a@istio-system", "{concurrency: 1, environmentVariables: {A: mesh, B: mesh}}");
        let namespace = object("b@shop", "{concurrency: 2, environmentVariables: {B: namespace}}");
        let workload = object("c@shop", "{selector: {matchLabels: {app: web}}, concurrency: 4}");
        let other = object("d@shop", "{selector: {matchLabels: {app: api}}, concurrency: 9}");
        assert_eq!(settings(&mesh, "").concurrency, Some(1));
        let both = settings(&format!("{mesh}{namespace}"), "");
        assert_eq!(both.concurrency, Some(2));
        assert_eq!([&both.proxy_metadata["A"], &both.proxy_metadata["B"]], ["mesh", "namespace"]);
        assert_eq!(settings(&format!("{mesh}{namespace}"), "concurrency: 3").concurrency, Some(3));
        let all = format!("{mesh}{namespace}{workload}{other}");
        assert_eq!(settings(&all, "concurrency: 3\ndrainDuration: 7s").concurrency, Some(4));
        let drain = settings(&all, "concurrency: 3\ndrainDuration: 7s").drain_duration;
        assert_eq!(drain.map(|time| time.seconds), Some(7));
    }
}
