//! Redirects of the upstream that the proxy follows.

use serde_json::{Value, json};

use crate::scenario::{Scenario, merge};
use crate::suite::Suite;

/// A route that follows redirects by `policy`; the backend plays `script`, whose steps may name the route's path `ID`.
fn following(id: &'static str, policy: Value, script: &str) -> Scenario {
    let script: &'static str = format!("x-script: {}\r\n", script.replace("ID", id)).leak();
    Scenario::new(id).route(json!({"internal_redirect_policy": policy})).sends(script)
}

/// The same for a request with a body.
fn posting(id: &'static str, policy: Value, script: &str) -> Scenario {
    let fields: &'static str =
        format!("x-script: {}\r\ncontent-length: 5\r\n", script.replace("ID", id)).leak();
    Scenario::new(id)
        .route(json!({"internal_redirect_policy": policy}))
        .does(move |run| run.raw(run.request_of("POST", &format!("/{id}"), fields) + "hello"))
}

fn predicate(name: &str, message: &str, fields: Value) -> Value {
    let mut config =
        json!({"@type": format!("type.googleapis.com/envoy.extensions.internal_redirect.{message}")});
    merge(&mut config, fields);
    json!({"name": format!("envoy.internal_redirect_predicates.{name}"), "typed_config": config})
}

/// The suite.
pub fn suite() -> Suite {
    let elsewhere = "302 location=http://other.example/ID/next?a=b#part;200";
    let previous = || predicate("previous_routes", "previous_routes.v3.PreviousRoutesConfig", json!({}));
    let listed = |names: Value| {
        predicate(
            "allow_listed_routes",
            "allow_listed_routes.v3.AllowListedRoutesConfig",
            json!({"allowed_route_names": names}),
        )
    };
    let safe = || predicate("safe_cross_scheme", "safe_cross_scheme.v3.SafeCrossSchemeConfig", json!({}));
    let scenarios = vec![
        following("follow-one", json!({}), elsewhere),
        following("follow-without-path", json!({}), "302 location=http://other.example;200"),
        following("follow-not-relative", json!({}), "302 location=/ID/next;200"),
        following("follow-not-without-location", json!({}), "302;200"),
        following("follow-not-other-status", json!({}), "307 location=http://other.example/ID/next;200"),
        following(
            "follow-chosen-status",
            json!({"redirect_response_codes": [307, 308]}),
            "308 location=http://other.example/ID/next;200",
        ),
        following(
            "follow-one-of-two",
            json!({}),
            "302 location=http://other.example/ID/1;302 location=http://other.example/ID/2;200",
        ),
        following(
            "follow-two",
            json!({"max_internal_redirects": 3}),
            "302 location=http://other.example/ID/1;302 location=http://other.example/ID/2;200",
        ),
        following("follow-not-to-nowhere", json!({}), "302 location=http://other.example/nowhere;200"),
        following("follow-not-to-https", json!({}), "302 location=https://other.example/ID/next;200"),
        following(
            "follow-to-https",
            json!({"allow_cross_scheme_redirect": true}),
            "302 location=https://other.example/ID/next;200",
        ),
        following(
            "follow-not-to-unsafe",
            json!({"allow_cross_scheme_redirect": true, "predicates": [safe()]}),
            "302 location=https://other.example/ID/next;200",
        ),
        following(
            "follow-copying",
            json!({"response_headers_to_copy": ["x-told", "x-kept"]}),
            "302 location=http://other.example/ID/next x-told=1;200",
        ),
        following("follow-listed", json!({"predicates": [listed(json!(["follow-listed"]))]}), elsewhere),
        following("follow-not-listed", json!({"predicates": [listed(json!(["another"]))]}), elsewhere),
        following(
            "follow-not-again",
            json!({"max_internal_redirects": 5, "predicates": [previous()]}),
            "302 location=http://other.example/ID/1;302 location=http://other.example/ID/2;200",
        ),
        following("follow-after-retry", json!({}), "503;302 location=http://other.example/ID/next;200")
            .route(json!({"retry_policy": {"retry_on": "5xx", "num_retries": 1}})),
        following("follow-to-failure", json!({}), "302 location=http://other.example/ID/next;503"),
        following("follow-rewritten", json!({}), elsewhere)
            .route(json!({"prefix_rewrite": "/rewritten", "host_rewrite_literal": "rewritten.example"}))
            .entry(json!({"request_headers_to_add": [{"header": {"key": "x-added", "value": "1"}}]})),
        posting(
            "follow-with-body",
            json!({"redirect_response_codes": [307]}),
            "307 location=http://other.example/ID/next;200",
        ),
        posting(
            "follow-see-other",
            json!({"redirect_response_codes": [303]}),
            "303 location=http://other.example/ID/next;200",
        ),
        posting("follow-found-with-body", json!({}), elsewhere),
    ];
    Suite { name: "internal redirects", scenarios, filters: json!([]) }
}
