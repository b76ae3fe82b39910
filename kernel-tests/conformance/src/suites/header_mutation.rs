//! The header mutation filter.

use serde_json::{Value, json};

use crate::scenario::Scenario;
use crate::suite::{Suite, filter, filter_config};

const FILTER: &str = "envoy.filters.http.header_mutation";

/// A listener whose filter has `settings`, and a route with settings of its own, where it has some.
fn mutating(id: &'static str, settings: Value, of_route: Option<Value>) -> Scenario {
    let scenario = Scenario::new(id).manager(json!({"http_filters": [
        filter("header_mutation", "header_mutation.v3.HeaderMutation", settings),
        filter("router", "router.v3.Router", json!({}))]}));
    let scenario = match of_route {
        Some(fields) => scenario.entry(json!({"typed_per_filter_config": {FILTER: per_route(fields)}})),
        None => scenario,
    };
    scenario.sends("x-a: 1\r\nx-a: 2\r\nx-drop-me: 1\r\nx-drop-you: 2\r\n")
}

fn per_route(mutations: Value) -> Value {
    filter_config("header_mutation.v3.HeaderMutationPerRoute", json!({"mutations": mutations}))
}

fn append(name: &str, value: &str, action: &str) -> Value {
    json!({"append": {"header": {"key": name, "value": value}, "append_action": action}})
}

/// The suite.
pub fn suite() -> Suite {
    let request = |list: Value| json!({"mutations": {"request_mutations": list}});
    let response = |list: Value| json!({"mutations": {"response_mutations": list}});
    let level = |name: &str| append("x-level", name, "APPEND_IF_EXISTS_OR_ADD");
    let both = |name: &str| json!({"request_mutations": [level(name)], "response_mutations": [level(name)]});
    let every_level = |id: &'static str, most_specific_wins: bool| {
        mutating(
            id,
            json!({"mutations": both("filter"), "most_specific_header_mutations_wins": most_specific_wins}),
            Some(both("route")),
        )
        .virtual_host(json!({"typed_per_filter_config": {FILTER: per_route(both("host"))}}))
    };
    let scenarios = vec![
        mutating("mutate-append", request(json!([append("x-a", "3", "APPEND_IF_EXISTS_OR_ADD")])), None),
        mutating(
            "mutate-overwrite",
            request(json!([append("x-a", "3", "OVERWRITE_IF_EXISTS_OR_ADD")])),
            None,
        ),
        mutating(
            "mutate-add-absent",
            request(json!([append("x-a", "3", "ADD_IF_ABSENT"), append("x-b", "3", "ADD_IF_ABSENT")])),
            None,
        ),
        mutating(
            "mutate-overwrite-existing",
            request(json!([
                append("x-a", "3", "OVERWRITE_IF_EXISTS"),
                append("x-b", "3", "OVERWRITE_IF_EXISTS")
            ])),
            None,
        ),
        mutating("mutate-remove", request(json!([{"remove": "x-a"}])), None),
        mutating(
            "mutate-remove-matching",
            request(json!([{"remove_on_match": {"key_matcher": {"prefix": "x-drop"}}}])),
            None,
        ),
        mutating(
            "mutate-in-order",
            request(
                json!([{"remove": "x-a"}, append("x-a", "3", "ADD_IF_ABSENT"), append("x-c", "%REQ(X-A)%", "ADD_IF_ABSENT"), {"remove": "x-drop-me"}]),
            ),
            None,
        ),
        mutating(
            "mutate-answer",
            response(json!([
                append("x-backend", "filter", "APPEND_IF_EXISTS_OR_ADD"),
                append("x-code", "%RESPONSE_CODE%", "ADD_IF_ABSENT")
            ])),
            None,
        ),
        mutating("mutate-answer-remove", response(json!([{"remove": "x-backend"}])), None),
        mutating("mutate-by-route", json!({}), Some(both("route"))),
        every_level("mutate-on-every-level", false),
        every_level("mutate-most-specific-last", true),
        mutating(
            "mutate-local-reply",
            response(json!([append("x-why", "%RESPONSE_CODE%", "ADD_IF_ABSENT")])),
            None,
        )
        .entry(json!({"direct_response": {"status": 403, "body": {"inline_string": "no"}}})),
        mutating("mutate-without-route", response(json!([append("x-why", "none", "ADD_IF_ABSENT")])), None)
            .does(|run| run.raw(run.request_of("GET", "/elsewhere", ""))),
    ];
    Suite { name: "header mutation", scenarios, filters: json!([]) }
}
