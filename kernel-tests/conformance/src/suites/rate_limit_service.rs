//! Limits that a service keeps.

use serde_json::{Value, json};

use super::http2_upstream;
use crate::rate_limits::SERVICE;
use crate::scenario::{Scenario, cluster, merge};
use crate::suite::{Suite, filter, filter_config};

/// The route's rule: which run, what to answer, and further actions.
fn rule(actions: Value) -> Value {
    let mut all = vec![
        json!({"request_headers": {"header_name": "x-run", "descriptor_key": "run"}}),
        json!({"request_headers": {"header_name": "x-answer", "descriptor_key": "answer"}}),
    ];
    all.extend(actions.as_array().cloned().unwrap_or_default());
    json!({"actions": all})
}

/// A listener whose filter asks the service; `settings` of the filter.
fn asking(id: &'static str, settings: Value) -> Scenario {
    let service: &'static str = format!("{id}-service").leak();
    let mut config = json!({"domain": "shop", "timeout": "5s", "rate_limit_service": {"transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": service, "authority": "limits.example"}}}});
    merge(&mut config, settings);
    let mut limits = cluster(service, &[SERVICE]);
    merge(&mut limits, http2_upstream());
    Scenario::new(id)
        .and_cluster(limits)
        .manager(json!({"http_filters": [
            filter("ratelimit", "ratelimit.v3.RateLimit", config),
            filter("router", "router.v3.Router", json!({}))]}))
        .route(json!({"rate_limits": [rule(json!([]))]}))
}

/// The same with these actions in the route's rule.
fn described(id: &'static str, actions: Value, fields: &'static str) -> Scenario {
    asking(id, json!({})).route(json!({"rate_limits": [rule(actions)]})).sends(fields)
}

/// The suite.
pub fn suite() -> Suite {
    let draft = json!({"enable_x_ratelimit_headers": "DRAFT_VERSION_03"});
    let string = |condition: Value| json!({"name": "x-a", "string_match": condition});
    let scenarios = vec![
        asking("rls-ok", json!({})).sends("x-answer: ok\r\n"),
        asking("rls-over", json!({})).sends("x-answer: over\r\n"),
        asking("rls-unknown", json!({})).sends("x-answer: unknown\r\n"),
        asking("rls-ok-told", draft.clone()).sends("x-answer: ok told\r\n"),
        asking("rls-over-told", draft.clone()).sends("x-answer: over told\r\n"),
        asking("rls-told-unasked", json!({})).sends("x-answer: over told\r\n"),
        asking("rls-ok-fields", json!({})).sends("x-answer: ok fields\r\n"),
        asking("rls-over-fields", json!({})).sends("x-answer: over fields\r\n"),
        asking("rls-over-body", json!({})).sends("x-answer: over body\r\n"),
        asking("rls-ok-everything", draft.clone()).sends("x-answer: ok told fields\r\n"),
        asking(
            "rls-over-everything",
            json!({"enable_x_ratelimit_headers": "DRAFT_VERSION_03",
                "response_headers_to_add": [{"header": {"key": "x-own", "value": "own"}}]}),
        )
        .sends("x-answer: over told fields body\r\n"),
        asking("rls-hits-of-filter", json!({}))
            .route(json!({"rate_limits": null}))
            .entry(json!({"typed_per_filter_config": {"envoy.filters.http.ratelimit": filter_config(
                "ratelimit.v3.RateLimitPerRoute",
                json!({"rate_limits": [{"actions": rule(json!([]))["actions"], "hits_addend": {"number": 3}}]}))}}))
            .sends("x-answer: ok\r\n"),
        asking("rls-over-grpc", json!({})).sends("x-answer: over\r\ncontent-type: application/grpc\r\n"),
        asking("rls-over-grpc-exhausted", json!({"rate_limited_as_resource_exhausted": true}))
            .sends("x-answer: over\r\ncontent-type: application/grpc\r\n"),
        asking("rls-over-status", json!({"rate_limited_status": {"code": "ServiceUnavailable"}}))
            .sends("x-answer: over\r\n"),
        asking("rls-over-without-mark", json!({"disable_x_envoy_ratelimited_header": true}))
            .sends("x-answer: over\r\n"),
        asking(
            "rls-over-own-fields",
            json!({"response_headers_to_add": [{"header": {"key": "x-own", "value": "%RESPONSE_CODE%"}}]}),
        )
        .sends("x-answer: over\r\n"),
        asking("rls-broken-allowed", json!({})).sends("x-answer: broken\r\n"),
        asking("rls-broken-denied", json!({"failure_mode_deny": true})).sends("x-answer: broken\r\n"),
        asking(
            "rls-broken-status",
            json!({"failure_mode_deny": true, "status_on_error": {"code": "ServiceUnavailable"}}),
        )
        .sends("x-answer: broken\r\n"),
        asking("rls-silent-allowed", json!({"timeout": "0.2s"})).sends("x-answer: silent\r\n"),
        asking("rls-silent-denied", json!({"timeout": "0.2s", "failure_mode_deny": true}))
            .sends("x-answer: silent\r\n"),
        asking("rls-not-asked", json!({})).sends(""),
        asking("rls-other-stage", json!({"stage": 1})).sends("x-answer: over\r\n"),
        asking("rls-internal-only", json!({"request_type": "internal"})).sends("x-answer: over\r\n"),
        asking("rls-external-only", json!({"request_type": "external"})).sends("x-answer: over\r\n"),
        asking("rls-limit-of-route", json!({}))
            .route(json!({"rate_limits": [{"actions": rule(json!([]))["actions"],
                "limit": {"rate_limit": {"requests_per_unit": 7, "unit": "HOUR"}}}]}))
            .sends("x-answer: ok\r\n"),
        asking("rls-hits", json!({}))
            .route(json!({"rate_limits": [{"actions": rule(json!([]))["actions"], "hits_addend": {"number": 3}}]}))
            .sends("x-answer: ok\r\n"),
        asking("rls-of-virtual-host", json!({}))
            .route(json!({"rate_limits": null}))
            .virtual_host(json!({"rate_limits": [rule(json!([]))]}))
            .sends("x-answer: over\r\n"),
        asking("rls-route-before-virtual-host", json!({}))
            .virtual_host(json!({"rate_limits": [rule(json!([{"generic_key": {"descriptor_value": "host"}}]))]}))
            .sends("x-answer: ok\r\n"),
        asking("rls-route-and-virtual-host", json!({}))
            .route(json!({"include_vh_rate_limits": true}))
            .virtual_host(json!({"rate_limits": [rule(json!([{"generic_key": {"descriptor_value": "host"}}]))]}))
            .sends("x-answer: ok\r\n"),
        // Descriptors.
        described("rls-clusters", json!([{"source_cluster": {}}, {"destination_cluster": {}}]), "x-answer: ok\r\n"),
        described("rls-remote-address", json!([{"remote_address": {}}]), "x-answer: ok\r\n"),
        described(
            "rls-masked-address",
            json!([{"masked_remote_address": {"v4_prefix_mask_len": 8}}]),
            "x-answer: ok\r\n",
        ),
        described(
            "rls-generic-key",
            json!([{"generic_key": {"descriptor_value": "v"}}, {"generic_key": {"descriptor_key": "k", "descriptor_value": "w"}}]),
            "x-answer: ok\r\n",
        ),
        described(
            "rls-header",
            json!([{"request_headers": {"header_name": ":path", "descriptor_key": "path"}},
                {"request_headers": {"header_name": "x-a", "descriptor_key": "a"}}]),
            "x-answer: ok\r\nx-a: 1\r\nx-a: 2\r\n",
        ),
        described(
            "rls-header-absent",
            json!([{"request_headers": {"header_name": "x-a", "descriptor_key": "a"}}]),
            "x-answer: over\r\n",
        ),
        described(
            "rls-header-skipped",
            json!([{"request_headers": {"header_name": "x-a", "descriptor_key": "a", "skip_if_absent": true}}]),
            "x-answer: ok\r\n",
        ),
        described(
            "rls-header-matches",
            json!([{"header_value_match": {"descriptor_value": "v", "headers": [string(json!({"exact": "1"}))]}}]),
            "x-answer: ok\r\nx-a: 1\r\n",
        ),
        described(
            "rls-header-matches-not",
            json!([{"header_value_match": {"descriptor_value": "v", "headers": [string(json!({"exact": "1"}))]}}]),
            "x-answer: over\r\nx-a: 2\r\n",
        ),
        described(
            "rls-header-expected-not-to-match",
            json!([{"header_value_match": {"descriptor_key": "k", "descriptor_value": "v", "expect_match": false,
                "headers": [string(json!({"exact": "1"}))]}}]),
            "x-answer: ok\r\nx-a: 2\r\n",
        ),
        described(
            "rls-metadata-of-route",
            json!([{"metadata": {"descriptor_key": "m", "source": "ROUTE_ENTRY",
                "metadata_key": {"key": "shop", "path": [{"key": "tier"}, {"key": "name"}]}}}]),
            "x-answer: ok\r\n",
        )
        .entry(json!({"metadata": {"filter_metadata": {"shop": {"tier": {"name": "gold"}}}}})),
        described(
            "rls-metadata-by-default",
            json!([{"metadata": {"descriptor_key": "m", "source": "ROUTE_ENTRY", "default_value": "none",
                "metadata_key": {"key": "shop", "path": [{"key": "tier"}]}}}]),
            "x-answer: ok\r\n",
        ),
        described(
            "rls-metadata-absent",
            json!([{"metadata": {"descriptor_key": "m", "source": "ROUTE_ENTRY",
                "metadata_key": {"key": "shop", "path": [{"key": "tier"}]}}}]),
            "x-answer: over\r\n",
        ),
        described(
            "rls-query",
            json!([{"query_parameters": {"query_parameter_name": "q", "descriptor_key": "q"}}]),
            "",
        )
        .does(|run| run.raw(run.request_of("GET", "/rls-query?q=a%20b&q=c", "x-answer: ok\r\n"))),
        described(
            "rls-query-matches",
            json!([{"query_parameter_value_match": {"descriptor_value": "v",
                "query_parameters": [{"name": "q", "string_match": {"prefix": "a"}}]}}]),
            "",
        )
        .does(|run| run.raw(run.request_of("GET", "/rls-query-matches?q=abc", "x-answer: ok\r\n"))),
    ];
    Suite { name: "rate limit service", scenarios, filters: json!([]) }
}
