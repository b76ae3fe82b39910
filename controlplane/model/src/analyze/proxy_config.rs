//! Settings of proxies that cannot be read, or that nothing follows.

use ringsail_api::{Object, ObjectMeta, ProxyConfig, Spec, decode_proxy_config};

use crate::proxy_config::ANNOTATION;

/// What is wrong with the annotations of a workload, as field path and message.
pub(super) fn of_workload(object: &Object) -> Vec<(String, String)> {
    let Some((path, meta)) = pod_metadata(object) else { return Vec::new() };
    let Some(text) = meta.annotations.get(ANNOTATION) else { return Vec::new() };
    let path = format!("{path}.annotations[{ANNOTATION}]");
    match decode_proxy_config(text, ANNOTATION) {
        Ok(config) => unfollowed(&config).map(|(field, text)| (format!("{path}: {field}"), text)).collect(),
        Err(found) => {
            let message = |field: &str, text: &str| match field {
                "" => format!("{text}, so the proxy runs without these settings"),
                field => format!("{field}: {text}, so the proxy runs without these settings"),
            };
            found.into_iter().map(|line| (path.clone(), message(&line.field_path, &line.message))).collect()
        }
    }
}

/// Settings that have no effect, with what they are about.
pub(super) fn unfollowed(config: &ProxyConfig) -> impl Iterator<Item = (&'static str, String)> {
    let connections = config.connection_settings.as_ref();
    [
        (config.private_key_provider.is_some(), "privateKeyProvider", "a provider of keys"),
        (
            connections.is_some_and(|settings| settings.listener_connection_limit.is_some()),
            "connectionSettings.listenerConnectionLimit",
            "a bound on connections of one listener",
        ),
    ]
    .into_iter()
    .filter(|(is_set, ..)| *is_set)
    .map(|(_, field, what)| (field, format!("{what} is not supported, so this has no effect")))
}

/// Metadata of the pods that an object declares, and where they are.
fn pod_metadata(object: &Object) -> Option<(&'static str, &ObjectMeta)> {
    let template = match &object.spec {
        Spec::Pod(_) => return Some(("metadata", &object.meta)),
        Spec::Deployment(deployment) => deployment.spec.as_ref()?.template.as_ref()?,
        Spec::StatefulSet(set) => set.spec.as_ref()?.template.as_ref()?,
        Spec::DaemonSet(set) => set.spec.as_ref()?.template.as_ref()?,
        _ => return None,
    };
    Some(("spec.template.metadata", template.metadata.as_ref()?))
}
