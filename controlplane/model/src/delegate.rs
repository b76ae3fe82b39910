//! Delegation: routes of a VirtualService that another one supplies.
//!
//! A root route with `delegate` is replaced by the delegate's routes, each limited to what the root route matches.
//! Source: Istio API, `HTTPRoute.delegate`. One level only.

use std::collections::BTreeMap;

use ringsail_api::networking::string_match::MatchType;
use ringsail_api::networking::{HttpMatchRequest, HttpRoute, StringMatch};

use crate::virtual_service::VirtualService;

/// Replaces delegating routes and drops the delegates (objects without hosts) from the list.
pub(crate) fn resolve(list: Vec<VirtualService>) -> Vec<VirtualService> {
    let (delegates, mut roots): (Vec<_>, Vec<_>) = list.into_iter().partition(|vs| vs.spec.hosts.is_empty());
    let by_key: BTreeMap<String, &VirtualService> = delegates.iter().map(|vs| (vs.key(), vs)).collect();
    for root in &mut roots {
        if root.spec.http.iter().all(|route| route.delegate.is_none()) {
            continue;
        }
        let routes = std::mem::take(&mut root.spec.http);
        for route in routes {
            let Some(reference) = &route.delegate else {
                root.spec.http.push(route);
                continue;
            };
            let namespace =
                if reference.namespace.is_empty() { &root.namespace } else { &reference.namespace };
            let Some(delegate) = by_key.get(&format!("{namespace}/{}", reference.name)) else { continue };
            if delegate.visibility.includes(&root.namespace) {
                root.spec.http.extend(delegate.spec.http.iter().filter_map(|leaf| merge_route(&route, leaf)));
            }
        }
    }
    roots
}

/// The delegate's route inside the root's; `None` when no request can match both.
fn merge_route(root: &HttpRoute, leaf: &HttpRoute) -> Option<HttpRoute> {
    let mut merged = leaf.clone();
    merged.r#match = match (root.r#match.is_empty(), leaf.r#match.is_empty()) {
        (true, _) => leaf.r#match.clone(),
        (false, true) => root.r#match.clone(),
        (false, false) => {
            let pairs = leaf.r#match.iter().flat_map(|l| root.r#match.iter().map(move |r| (r, l)));
            let matches: Vec<HttpMatchRequest> = pairs.filter_map(|(r, l)| merge_match(r, l)).collect();
            if matches.is_empty() {
                return None;
            }
            matches
        }
    };
    merged.name = join_names(&root.name, &leaf.name);
    if merged.rewrite.is_none() {
        merged.rewrite.clone_from(&root.rewrite);
    }
    if merged.direct_response.is_none() {
        merged.direct_response.clone_from(&root.direct_response);
    }
    merged.timeout = merged.timeout.or(root.timeout);
    if merged.retries.is_none() {
        merged.retries.clone_from(&root.retries);
    }
    if merged.fault.is_none() {
        merged.fault.clone_from(&root.fault);
    }
    if merged.mirror.is_none() && merged.mirrors.is_empty() {
        merged.mirror.clone_from(&root.mirror);
        merged.mirrors.clone_from(&root.mirrors);
        merged.mirror_percent = root.mirror_percent;
        merged.mirror_percentage = root.mirror_percentage;
    }
    if merged.cors_policy.is_none() {
        merged.cors_policy.clone_from(&root.cors_policy);
    }
    if merged.headers.is_none() {
        merged.headers.clone_from(&root.headers);
    }
    Some(merged)
}

fn join_names(root: &str, leaf: &str) -> String {
    match (root.is_empty(), leaf.is_empty()) {
        (false, false) => format!("{root}-{leaf}"),
        (true, _) => leaf.to_owned(),
        (false, true) => root.to_owned(),
    }
}

/// Both conditions in one; `None` when they conflict.
fn merge_match(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> Option<HttpMatchRequest> {
    if root.ignore_uri_case != leaf.ignore_uri_case
        || (root.port != 0 && leaf.port != 0 && root.port != leaf.port)
        || differ(&root.source_namespace, &leaf.source_namespace)
        || (!root.gateways.is_empty() && !leaf.gateways.iter().all(|gateway| root.gateways.contains(gateway)))
    {
        return None;
    }
    let mut merged = leaf.clone();
    merged.name = join_names(&root.name, &leaf.name);
    merged.uri = merge_string(root.uri.as_ref(), leaf.uri.as_ref())?;
    merged.scheme = merge_string(root.scheme.as_ref(), leaf.scheme.as_ref())?;
    merged.method = merge_string(root.method.as_ref(), leaf.method.as_ref())?;
    merged.authority = merge_string(root.authority.as_ref(), leaf.authority.as_ref())?;
    merged.headers = merge_strings(&root.headers, &leaf.headers)?;
    merged.without_headers = merge_strings(&root.without_headers, &leaf.without_headers)?;
    merged.query_params = merge_strings(&root.query_params, &leaf.query_params)?;
    for (key, value) in &root.source_labels {
        if merged.source_labels.insert(key.clone(), value.clone()).is_some_and(|old| old != *value) {
            return None;
        }
    }
    if merged.port == 0 {
        merged.port = root.port;
    }
    if merged.source_namespace.is_empty() {
        merged.source_namespace.clone_from(&root.source_namespace);
    }
    if merged.gateways.is_empty() {
        merged.gateways.clone_from(&root.gateways);
    }
    if merged.stat_prefix.is_empty() {
        merged.stat_prefix.clone_from(&root.stat_prefix);
    }
    Some(merged)
}

fn differ(root: &str, leaf: &str) -> bool {
    !root.is_empty() && !leaf.is_empty() && root != leaf
}

/// The leaf's test when it lies inside the root's. The outer `None` is a conflict.
#[allow(clippy::option_option)]
fn merge_string(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> Option<Option<StringMatch>> {
    let (Some(root), Some(leaf)) = (root, leaf) else { return Some(leaf.or(root).cloned()) };
    let inside = match (&root.match_type, &leaf.match_type) {
        (None, _) => true,
        (Some(_), None) => return Some(Some(root.clone())),
        (Some(MatchType::Exact(root)), Some(MatchType::Exact(leaf))) => root == leaf,
        (Some(MatchType::Prefix(root)), Some(MatchType::Exact(leaf) | MatchType::Prefix(leaf))) => {
            leaf.starts_with(root.as_str())
        }
        (Some(MatchType::Exact(_)), Some(MatchType::Prefix(_))) => false,
        (Some(MatchType::Regex(_)), Some(_)) | (Some(_), Some(MatchType::Regex(_))) => false,
    };
    inside.then(|| Some(leaf.clone()))
}

fn merge_strings(
    root: &BTreeMap<String, StringMatch>,
    leaf: &BTreeMap<String, StringMatch>,
) -> Option<BTreeMap<String, StringMatch>> {
    let mut merged = leaf.clone();
    for (key, value) in root {
        let both = merge_string(Some(value), leaf.get(key))??;
        merged.insert(key.clone(), both);
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(kind: fn(String) -> MatchType, text: &str) -> HttpMatchRequest {
        let uri = Some(StringMatch { match_type: Some(kind(text.to_owned())) });
        HttpMatchRequest { uri, ..HttpMatchRequest::default() }
    }

    #[test]
    fn delegate_route_is_limited_to_the_root_match() {
        let root = uri(MatchType::Prefix, "/shop");
        assert!(merge_match(&root, &uri(MatchType::Prefix, "/shop/cart")).is_some());
        assert!(merge_match(&root, &uri(MatchType::Exact, "/shop")).is_some());
        assert!(merge_match(&root, &uri(MatchType::Prefix, "/other")).is_none());
        assert!(merge_match(&root, &uri(MatchType::Regex, "/shop.*")).is_none());
    }

    #[test]
    fn conflicting_ports_or_labels_drop_the_combination() {
        let root = HttpMatchRequest { port: 80, ..HttpMatchRequest::default() };
        let leaf = HttpMatchRequest { port: 81, ..HttpMatchRequest::default() };
        assert!(merge_match(&root, &leaf).is_none());
        let label = |value: &str| HttpMatchRequest {
            source_labels: [("app".to_owned(), value.to_owned())].into(),
            ..HttpMatchRequest::default()
        };
        assert!(merge_match(&label("a"), &label("b")).is_none());
        assert!(merge_match(&label("a"), &label("a")).is_some());
    }

    #[test]
    fn delegate_fields_win_and_names_are_joined() {
        let root = HttpRoute {
            name: "root".into(),
            timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            ..HttpRoute::default()
        };
        let leaf = HttpRoute { name: "leaf".into(), ..HttpRoute::default() };
        let merged = merge_route(&root, &leaf).expect("no conflict");
        assert_eq!(merged.name, "root-leaf");
        assert_eq!(merged.timeout.map(|t| t.seconds), Some(5));
    }
}
