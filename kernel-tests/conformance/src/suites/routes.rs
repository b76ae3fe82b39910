//! Which route a request takes, and what redirects and rewrites make of it.

use serde_json::{Value, json};

use crate::scenario::Scenario;
use crate::suite::Suite;

/// A GET of a path of the scenario's own, with field lines.
fn asks(scenario: Scenario, path: &'static str, fields: &'static str) -> Scenario {
    scenario.does(move |run| run.raw(run.request_of("GET", &format!("/{}{path}", run.id), fields)))
}

/// Two routes for one path: `condition` decides whether the first, which answers `matched`, is taken.
fn matching(id: &'static str, condition: Value, path: &'static str, fields: &'static str) -> Scenario {
    let mut entry = json!({"name": format!("{id}-matched"), "match": {"prefix": format!("/{id}")},
        "direct_response": {"status": 200, "body": {"inline_string": "matched"}}});
    crate::scenario::merge(&mut entry["match"], condition);
    asks(Scenario::new(id).before(entry), path, fields)
}

fn redirect(id: &'static str, redirect: Value) -> Scenario {
    asks(Scenario::new(id).entry(json!({"redirect": redirect})), "/a/b?x=1&y=2", "")
}

fn rewrite(id: &'static str, action: Value) -> Scenario {
    asks(Scenario::new(id).route(action), "/a/b?x=1&y=2", "")
}

/// The suite.
pub fn suite() -> Suite {
    let header = |name: &str, condition: Value| {
        let mut matcher = json!({"name": name});
        crate::scenario::merge(&mut matcher, condition);
        json!({"headers": [matcher]})
    };
    let string = |condition: Value| json!({"string_match": condition});
    let query = |name: &str, condition: Value| {
        let mut matcher = json!({"name": name});
        crate::scenario::merge(&mut matcher, condition);
        json!({"query_parameters": [matcher]})
    };
    let scenarios = vec![
        // Header conditions.
        matching("header-present", header("x-a", json!({"present_match": true})), "", "x-a: 1\r\n"),
        matching("header-present-empty", header("x-a", json!({"present_match": true})), "", "x-a:\r\n"),
        matching("header-absent", header("x-a", json!({"present_match": false})), "", ""),
        matching("header-not-absent", header("x-a", json!({"present_match": false})), "", "x-a: 1\r\n"),
        matching("header-prefix", header("x-a", string(json!({"prefix": "ab"}))), "", "x-a: abc\r\n"),
        matching("header-suffix", header("x-a", string(json!({"suffix": "bc"}))), "", "x-a: abc\r\n"),
        matching("header-contains", header("x-a", string(json!({"contains": "b"}))), "", "x-a: abc\r\n"),
        matching("header-ignore-case", header("x-a", string(json!({"exact": "abc", "ignore_case": true}))), "", "x-a: ABC\r\n"),
        matching("header-regex-is-whole", header("x-a", string(json!({"safe_regex": {"regex": "b"}}))), "", "x-a: abc\r\n"),
        matching("header-range-inside", header("x-a", json!({"range_match": {"start": 1, "end": 10}})), "", "x-a: 9\r\n"),
        matching("header-range-end-excluded", header("x-a", json!({"range_match": {"start": 1, "end": 10}})), "", "x-a: 10\r\n"),
        matching("header-range-no-number", header("x-a", json!({"range_match": {"start": 1, "end": 10}})), "", "x-a: 9a\r\n"),
        matching("header-inverted", header("x-a", json!({"string_match": {"exact": "1"}, "invert_match": true})), "", "x-a: 2\r\n"),
        matching("header-inverted-absent", header("x-a", json!({"string_match": {"exact": "1"}, "invert_match": true})), "", ""),
        matching("header-missing-as-empty", header("x-a", json!({"string_match": {"exact": ""}, "treat_missing_header_as_empty": true})), "", ""),
        matching("header-repeated", header("x-a", string(json!({"exact": "1,2"}))), "", "x-a: 1\r\nx-a: 2\r\n"),
        matching("header-repeated-first", header("x-a", string(json!({"exact": "1"}))), "", "x-a: 1\r\nx-a: 2\r\n"),
        matching("header-repeated-last", header("x-a", string(json!({"exact": "2"}))), "", "x-a: 1\r\nx-a: 2\r\n"),
        matching("header-repeated-inverted", header("x-a", json!({"string_match": {"exact": "2"}, "invert_match": true})), "", "x-a: 1\r\nx-a: 2\r\n"),
        matching("header-repeated-inverted-other", header("x-a", json!({"string_match": {"exact": "3"}, "invert_match": true})), "", "x-a: 1\r\nx-a: 2\r\n"),
        matching("header-repeated-prefix", header("x-a", string(json!({"prefix": "1,"}))), "", "x-a: 1\r\nx-a: 2\r\n"),
        matching("header-repeated-contains", header("x-a", string(json!({"contains": ","}))), "", "x-a: 1\r\nx-a: 2\r\n"),
        matching("header-repeated-regex", header("x-a", string(json!({"safe_regex": {"regex": "1.2"}}))), "", "x-a: 1\r\nx-a: 2\r\n"),
        matching("header-repeated-range", header("x-a", json!({"range_match": {"start": 2, "end": 3}})), "", "x-a: 1\r\nx-a: 2\r\n"),
        matching("header-in-one-list", header("x-a", string(json!({"exact": "1,2"}))), "", "x-a: 1,2\r\n"),
        matching("header-repeated-empty", header("x-a", string(json!({"exact": ""}))), "", "x-a:\r\nx-a: 2\r\n"),
        matching("header-method", header(":method", string(json!({"exact": "GET"}))), "", ""),
        matching("header-authority", header(":authority", string(json!({"suffix": ".example"}))), "", ""),
        matching("header-scheme", header(":scheme", string(json!({"exact": "http"}))), "", ""),
        // Query conditions.
        matching("query-present", query("v", json!({"present_match": true})), "?v", ""),
        matching("query-exact", query("v", string(json!({"exact": "2"}))), "?u=1&v=2", ""),
        matching("query-first-of-two", query("v", string(json!({"exact": "2"}))), "?v=1&v=2", ""),
        matching("query-regex", query("v", string(json!({"safe_regex": {"regex": "[0-9]+"}}))), "?v=12", ""),
        matching("query-encoded", query("v", string(json!({"exact": "a b"}))), "?v=a%20b", ""),
        // Path conditions.
        matching("path-ignore-case", json!({"case_sensitive": false, "prefix": "/PATH-IGNORE-CASE"}), "/x", ""),
        matching("grpc-only", json!({"grpc": {}}), "", "content-type: application/grpc+proto\r\n"),
        matching("grpc-only-not", json!({"grpc": {}}), "", "content-type: application/json\r\n"),
        matching("never-by-fraction", json!({"runtime_fraction": {"default_value": {"numerator": 0}}}), "", ""),
        matching("always-by-fraction", json!({"runtime_fraction": {"default_value": {"numerator": 100}}}), "", ""),
        // Virtual hosts.
        Scenario::new("host-own").virtual_host(json!({})),
        Scenario::new("host-requires-tls").virtual_host(json!({"require_tls": "ALL"})),
        // Redirects.
        redirect("redirect-301", json!({"path_redirect": "/p"})),
        redirect("redirect-302", json!({"path_redirect": "/p", "response_code": "FOUND"})),
        redirect("redirect-303", json!({"path_redirect": "/p", "response_code": "SEE_OTHER"})),
        redirect("redirect-308", json!({"path_redirect": "/p", "response_code": "PERMANENT_REDIRECT"})),
        redirect("redirect-port", json!({"port_redirect": 8443})),
        redirect("redirect-scheme-and-port", json!({"scheme_redirect": "https", "port_redirect": 443})),
        redirect("redirect-host-with-query", json!({"host_redirect": "other.example:81"})),
        redirect("redirect-path-with-query", json!({"path_redirect": "/p?z=3"})),
        redirect("redirect-regex", json!({"regex_rewrite": {"pattern": {"regex": "/redirect-regex/(.)/(.)"}, "substitution": "/\\2/\\1"}})),
        // Rewrites.
        rewrite("rewrite-prefix-to-root", json!({"prefix_rewrite": "/"})),
        rewrite("rewrite-prefix-longer", json!({"prefix_rewrite": "/one/two/three"})),
        rewrite("rewrite-regex-all", json!({"regex_rewrite": {"pattern": {"regex": "[ab]"}, "substitution": "z"}})),
        rewrite("rewrite-regex-no-match", json!({"regex_rewrite": {"pattern": {"regex": "^/never$"}, "substitution": "/z"}})),
        rewrite("rewrite-host-header", json!({"host_rewrite_header": "x-host"})),
        asks(Scenario::new("rewrite-host-from-header").route(json!({"host_rewrite_header": "x-host"})), "", "x-host: from.example\r\n"),
        rewrite("rewrite-host-regex", json!({"host_rewrite_path_regex": {"pattern": {"regex": "^/[^/]+/(.)/.*$"}, "substitution": "\\1.example"}})),
        rewrite("rewrite-host-and-keep-it", json!({"host_rewrite_literal": "new.example", "append_x_forwarded_host": true})),
        // Direct answers.
        asks(Scenario::new("direct-with-fields").entry(json!({"direct_response": {"status": 203, "body": {"inline_string": "{\"a\":1}"}},
            "response_headers_to_add": [{"header": {"key": "content-type", "value": "application/json"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]})), "", ""),
        asks(Scenario::new("direct-to-grpc").entry(json!({"direct_response": {"status": 403, "body": {"inline_string": "no"}}})), "", "content-type: application/grpc\r\n"),
        // Which cluster.
        asks(Scenario::new("cluster-by-header").entry(json!({"route": null})).entry(json!({"route": {"cluster_header": "x-cluster"}})), "", "x-cluster: cluster-by-header\r\n"),
        asks(Scenario::new("cluster-by-header-absent").entry(json!({"route": null})).entry(json!({"route": {"cluster_header": "x-cluster"}})), "", ""),
        asks(Scenario::new("cluster-by-header-unknown").entry(json!({"route": null})).entry(json!({"route": {"cluster_header": "x-cluster"}})), "", "x-cluster: nobody\r\n"),
    ];
    Suite { name: "routes", scenarios, filters: json!([]) }
}
