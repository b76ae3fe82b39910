//! What is refused in routes and HTTP filters, and that the finding names the field.

use prost::Message;
use ringsail_tables::{Change, Compiler, ResourceType, Severity};
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;
use ringsail_xds::json::Schema;
use serde_json::{Value, json};

/// Findings about a route configuration with one route to cluster `a` that has `more`.
fn findings(more: Value) -> Vec<String> {
    let mut route = json!({"cluster": "a"});
    route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = json!({"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": route}]}]});
    let config: RouteConfiguration = Schema::shared().from_json(&config).unwrap();
    let change = Change::Put {
        kind: ResourceType::RouteConfiguration,
        name: "r".to_owned(),
        resource: config.encode_to_vec().into(),
    };
    let (_, found) = Compiler::new().apply([change]);
    let refused = found.iter().filter(|found| found.severity == Severity::Refused);
    let path = |field: &str| field.replace("virtual_hosts[0].routes[0].route.", "");
    refused.map(|found| format!("{}: {}", path(&found.field), found.text)).collect()
}

#[track_caller]
fn check(more: Value, expected: &str) {
    assert_eq!(findings(more.clone()), [expected], "{more}");
}

#[test]
fn mirror_policies_name_one_cluster_and_sound_headers() {
    assert!(
        findings(json!({"request_mirror_policies": [{"cluster": "b", "trace_sampled": true}]})).is_empty()
    );
    check(json!({"request_mirror_policies": [{}]}), "request_mirror_policies[0].cluster: is empty");
    check(
        json!({"request_mirror_policies": [{"cluster": "b"}, {"cluster": "b", "cluster_header": "x"}]}),
        "request_mirror_policies[1].cluster_header: excludes cluster",
    );
    check(
        json!({"request_mirror_policies": [{"cluster": "b", "request_headers_mutations": [{"remove": ":path"}]}]}),
        "request_mirror_policies[0].request_headers_mutations[0].remove[0]: :path cannot be removed",
    );
    check(
        json!({"request_mirror_policies": [{"cluster": "b", "request_headers_mutations": [{}]}]}),
        "request_mirror_policies[0].request_headers_mutations[0]: names no action",
    );
}

#[test]
fn hash_policies_name_something_to_hash() {
    let good = json!({"hash_policy": [
        {"header": {"header_name": "X-User", "regex_rewrite": {"pattern": {"regex": "-.*"}, "substitution": ""}}},
        {"cookie": {"name": "c", "ttl": "0s", "path": "/", "attributes": [{"name": "SameSite", "value": "Lax"}]}},
        {"connection_properties": {"source_ip": true}, "terminal": true},
        {"query_parameter": {"name": "q"}},
    ]});
    assert!(findings(good).is_empty());
    for (policy, expected) in [
        (json!({}), "hash_policy[0]: names nothing to hash"),
        (json!({"header": {}}), "hash_policy[0].header.header_name: is empty"),
        (json!({"cookie": {"name": "a;b"}}), "hash_policy[0].cookie.name: is no cookie name"),
        (
            json!({"cookie": {"name": "a", "path": "/;x"}}),
            "hash_policy[0].cookie.path: holds a byte that a cookie cannot",
        ),
        (json!({"connection_properties": {}}), "hash_policy[0].connection_properties.source_ip: is not set"),
        (json!({"query_parameter": {}}), "hash_policy[0].query_parameter.name: is empty"),
        (
            json!({"filter_state": {"key": "k"}}),
            "hash_policy[0].filter_state: filter state comes from filters that are not supported",
        ),
    ] {
        check(json!({"hash_policy": [policy]}), expected);
    }
}

#[test]
fn rate_limit_rules_make_descriptors_of_what_is_known() {
    let rule = |action: Value| json!({"rate_limits": [{"actions": [action]}]});
    for action in [
        json!({"source_cluster": {}}),
        json!({"destination_cluster": {}}),
        json!({"remote_address": {}}),
        json!({"masked_remote_address": {"v4_prefix_mask_len": 24}}),
        json!({"query_parameters": {"query_parameter_name": "q", "descriptor_key": "k"}}),
        json!({"metadata": {"descriptor_key": "k", "source": "ROUTE_ENTRY",
            "metadata_key": {"key": "n", "path": [{"key": "p"}]}}}),
    ] {
        assert!(findings(rule(action.clone())).is_empty(), "{action}");
    }
    for (action, expected) in [
        (json!({}), "rate_limits[0].actions[0]: names no action"),
        (json!({"generic_key": {}}), "rate_limits[0].actions[0].generic_key.descriptor_value: is empty"),
        (
            json!({"request_headers": {"header_name": "x"}}),
            "rate_limits[0].actions[0].request_headers.descriptor_key: is empty",
        ),
        (
            json!({"masked_remote_address": {"v4_prefix_mask_len": 33}}),
            "rate_limits[0].actions[0].masked_remote_address.v4_prefix_mask_len: is not in 0..=32",
        ),
        (
            json!({"metadata": {"descriptor_key": "k", "metadata_key": {"key": "n"}}}),
            "rate_limits[0].actions[0].metadata.source: only metadata of the route (ROUTE_ENTRY) is supported",
        ),
        (
            json!({"remote_address_match": {}}),
            "rate_limits[0].actions[0].remote_address_match: matching of client addresses is not supported",
        ),
    ] {
        check(rule(action), expected);
    }
    check(
        json!({"rate_limits": [{"actions": [{"remote_address": {}}], "apply_on_stream_done": true}]}),
        "rate_limits[0].apply_on_stream_done: requests are counted when they begin",
    );
    check(
        json!({"rate_limits": [{"stage": 11, "actions": [{"remote_address": {}}]}]}),
        "rate_limits[0].stage: 11 is not in 0..=10",
    );
    check(json!({"rate_limits": [{}]}), "rate_limits[0].actions: is empty");
}

/// The one finding about settings of a filter on a route.
#[track_caller]
fn check_filter(settings: Value, expected: &str) {
    let config = json!({"name": "r", "typed_per_filter_config": {"f": settings}, "virtual_hosts": []});
    let config: RouteConfiguration = Schema::shared().from_json(&config).unwrap();
    let change = Change::Put {
        kind: ResourceType::RouteConfiguration,
        name: "r".to_owned(),
        resource: config.encode_to_vec().into(),
    };
    let (_, found) = Compiler::new().apply([change]);
    let found: Vec<String> = found
        .iter()
        .map(|found| {
            format!("{}: {}", found.field.replace("typed_per_filter_config[\"f\"].", ""), found.text)
        })
        .collect();
    if expected.is_empty() {
        assert!(found.is_empty(), "{found:?}");
    } else {
        assert_eq!(found, [expected]);
    }
}

#[test]
fn local_limits_have_sound_buckets() {
    let limit = |more: Value| {
        let mut limit = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "l"});
        limit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        limit
    };
    check_filter(limit(json!({"token_bucket": {"max_tokens": 0, "fill_interval": "0.05s"}})), "");
    for (more, expected) in [
        (json!({"stat_prefix": ""}), "stat_prefix: is empty"),
        (json!({"token_bucket": {"max_tokens": 1}}), "token_bucket.fill_interval: is not set"),
        (
            json!({"token_bucket": {"max_tokens": 1, "fill_interval": "0.049s"}}),
            "token_bucket.fill_interval: is shorter than 50 ms",
        ),
        (
            json!({"token_bucket": {"max_tokens": 1, "fill_interval": "1s", "tokens_per_fill": 0}}),
            "token_bucket.tokens_per_fill: is 0",
        ),
        (
            json!({"local_cluster_rate_limit": {}}),
            "local_cluster_rate_limit: limits shared by a cluster of proxies are not supported",
        ),
        (
            json!({"token_bucket": {"max_tokens": 1, "fill_interval": "1s"}, "max_dynamic_descriptors": 0}),
            "max_dynamic_descriptors: is not in 1..=1024",
        ),
        (
            json!({"descriptors": [{"entries": [{"key": "k", "value": "v"}], "token_bucket": {"fill_interval": "1s"}}]}),
            "token_bucket: is not set",
        ),
    ] {
        check_filter(limit(more), expected);
    }
}

#[test]
fn faults_and_mutations_say_what_they_do() {
    let fault = |more: Value| {
        let mut fault =
            json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"});
        fault.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fault
    };
    check_filter(fault(json!({"abort": {"header_abort": {}}, "delay": {"header_delay": {}}})), "");
    check_filter(fault(json!({"abort": {"http_status": 600}})), "abort.http_status: 600 is not in 200..600");
    check_filter(fault(json!({"delay": {}})), "delay.fixed_delay: is not set");
    check_filter(
        fault(json!({"response_rate_limit": {"fixed_limit": {"limit_kbps": 0}}})),
        "response_rate_limit.fixed_limit.limit_kbps: is 0",
    );
    check_filter(fault(json!({"response_rate_limit": {"header_limit": {}}})), "");
    let mutation = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
        "mutations": {"response_trailers_mutations": [{"remove": "x"}]}});
    check_filter(mutation, "mutations.response_trailers_mutations: trailers cannot be edited");
}
