//! What happens to header fields: edits by configuration, and what a connection manager adds, removes and checks.

use serde_json::{Value, json};

use crate::scenario::Scenario;
use crate::suite::Suite;

fn add(key: &str, value: &str, action: &str) -> Value {
    json!([{"header": {"key": key, "value": value}, "append_action": action}])
}

/// Edits the request; the backend's echo shows the result.
fn edits(id: &'static str, edits: Value) -> Scenario {
    Scenario::new(id).entry(edits).sends("x-there: 1\r\nx-there: 2\r\nx-empty:\r\n")
}

/// A connection manager with `fields`, asked with field lines.
fn manager(id: &'static str, fields: Value, lines: &'static str) -> Scenario {
    Scenario::new(id).manager(fields).sends(lines)
}

fn manager_path(id: &'static str, fields: Value, path: &'static str) -> Scenario {
    Scenario::new(id)
        .manager(fields)
        .does(move |run| run.raw(run.request_of("GET", &format!("/{}{path}", run.id), "")))
}

/// The suite.
pub fn suite() -> Suite {
    let request = "request_headers_to_add";
    let response = "response_headers_to_add";
    let scenarios = vec![
        edits("append-or-add", json!({request: add("x-there", "3", "APPEND_IF_EXISTS_OR_ADD")})),
        edits("append-to-nothing", json!({request: add("x-new", "3", "APPEND_IF_EXISTS_OR_ADD")})),
        edits("add-if-absent-there", json!({request: add("x-there", "3", "ADD_IF_ABSENT")})),
        edits("add-if-absent-new", json!({request: add("x-new", "3", "ADD_IF_ABSENT")})),
        edits("overwrite-there", json!({request: add("x-there", "3", "OVERWRITE_IF_EXISTS")})),
        edits("overwrite-nothing", json!({request: add("x-new", "3", "OVERWRITE_IF_EXISTS")})),
        edits("overwrite-or-add", json!({request: add("x-there", "3", "OVERWRITE_IF_EXISTS_OR_ADD")})),
        edits("empty-value-dropped", json!({request: add("x-new", "", "APPEND_IF_EXISTS_OR_ADD")})),
        edits("empty-value-kept", json!({request: [{"header": {"key": "x-new", "value": ""}, "keep_empty_value": true}]})),
        edits("remove-all-of-a-name", json!({"request_headers_to_remove": ["x-there"]})),
        edits("remove-and-add", json!({"request_headers_to_remove": ["x-there"], request: add("x-there", "3", "APPEND_IF_EXISTS_OR_ADD")})),
        edits("add-from-request", json!({request: add("x-new", "%REQ(X-THERE)%-%REQ(:PATH)%", "OVERWRITE_IF_EXISTS_OR_ADD")})),
        edits("add-percent", json!({request: add("x-new", "100%%", "OVERWRITE_IF_EXISTS_OR_ADD")})),
        edits("add-addresses", json!({request: add("x-new", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "OVERWRITE_IF_EXISTS_OR_ADD")})),
        edits("add-names", json!({request: add("x-new", "%ROUTE_NAME% %UPSTREAM_CLUSTER%", "OVERWRITE_IF_EXISTS_OR_ADD")})),
        edits("response-append", json!({response: add("x-backend", "also", "APPEND_IF_EXISTS_OR_ADD")})),
        edits("response-overwrite", json!({response: add("x-backend", "only", "OVERWRITE_IF_EXISTS_OR_ADD")})),
        edits("response-from-response", json!({response: add("x-copy", "%RESP(X-BACKEND)%", "OVERWRITE_IF_EXISTS_OR_ADD")})),
        edits("response-flags", json!({response: add("x-flags", "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%", "OVERWRITE_IF_EXISTS_OR_ADD")})),
        edits("response-remove", json!({"response_headers_to_remove": ["x-backend"]})),
        Scenario::new("edits-on-local-reply")
            .entry(json!({"direct_response": {"status": 400}, response: add("x-new", "1", "APPEND_IF_EXISTS_OR_ADD")})),
        Scenario::new("edits-of-every-level")
            .virtual_host(json!({request: add("x-level", "host", "APPEND_IF_EXISTS_OR_ADD"), response: add("x-level", "host", "APPEND_IF_EXISTS_OR_ADD")}))
            .entry(json!({request: add("x-level", "route", "APPEND_IF_EXISTS_OR_ADD"), response: add("x-level", "route", "APPEND_IF_EXISTS_OR_ADD")})),
        Scenario::new("edits-of-a-weighted-cluster")
            .entry(json!({"route": null}))
            .entry(json!({"route": {"weighted_clusters": {"clusters": [{"name": "edits-of-a-weighted-cluster", "weight": 1,
                request: add("x-level", "cluster", "APPEND_IF_EXISTS_OR_ADD"), "response_headers_to_remove": ["x-backend"]}]}}})),
        // The connection manager.
        manager("edge-sets-forwarded-for", json!({"use_remote_address": true}), "x-forwarded-for: 1.2.3.4\r\n"),
        manager("edge-skips-forwarded-for", json!({"use_remote_address": true, "skip_xff_append": true}), "x-forwarded-for: 1.2.3.4\r\n"),
        manager("edge-trusts-two-hops", json!({"use_remote_address": true, "xff_num_trusted_hops": 2}), "x-forwarded-for: 1.1.1.1,2.2.2.2,3.3.3.3\r\n"),
        manager("edge-drops-internal-fields", json!({"use_remote_address": true}), "x-envoy-decorator-operation: a\r\nx-envoy-original-path: /b\r\nx-request-id: mine\r\n"),
        manager("edge-keeps-request-id", json!({"use_remote_address": true, "preserve_external_request_id": true}), "x-request-id: mine\r\n"),
        manager("no-request-id", json!({"generate_request_id": false}), ""),
        manager("request-id-in-answer", json!({"always_set_request_id_in_response": true}), "x-request-id: mine\r\n"),
        manager("via", json!({"via": "ringsail"}), "via: 1.1 before\r\n"),
        manager("server-name", json!({"server_name": "istio-envoy"}), ""),
        manager("server-passed-through", json!({"server_header_transformation": "PASS_THROUGH"}), "x-script: 200 server=app\r\n"),
        manager("server-if-absent", json!({"server_header_transformation": "APPEND_IF_ABSENT"}), "x-script: 200 server=app\r\n"),
        manager("client-cert-sanitized", json!({"forward_client_cert_details": "SANITIZE"}), "x-forwarded-client-cert: By=a\r\n"),
        manager("client-cert-always-forwarded", json!({"forward_client_cert_details": "ALWAYS_FORWARD_ONLY"}), "x-forwarded-client-cert: By=a\r\n"),
        manager("underscores-allowed", json!({"common_http_protocol_options": {"headers_with_underscores_action": "ALLOW"}}), "x_a: 1\r\n"),
        manager("underscores-refused", json!({"common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"}}), "x_a: 1\r\n"),
        manager("underscores-dropped", json!({"common_http_protocol_options": {"headers_with_underscores_action": "DROP_HEADER"}}), "x_a: 1\r\n"),
        manager("few-fields-allowed", json!({"common_http_protocol_options": {"max_headers_count": 5}}), "x-1: 1\r\nx-2: 2\r\nx-3: 3\r\n"),
        manager("internal-by-address", json!({"internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}), "x-forwarded-for: 10.1.2.3\r\nx-envoy-retry-on: 5xx\r\nx-script: 503;200\r\n"),
        manager("alt-answer-for-timeout", json!({"internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}),
            "x-forwarded-for: 10.1.2.3\r\nx-envoy-upstream-rq-timeout-ms: 200\r\nx-envoy-upstream-rq-timeout-alt-response: 1\r\nx-script: hang\r\n"),
        manager_path("slashes-merged", json!({"merge_slashes": true}), "//a///b"),
        manager_path("encoded-slashes-kept", json!({"path_with_escaped_slashes_action": "KEEP_UNCHANGED"}), "/a%2Fb%5Cc"),
        manager_path("encoded-slashes-refused", json!({"path_with_escaped_slashes_action": "REJECT_REQUEST"}), "/a%2Fb"),
        manager_path("encoded-slashes-redirected", json!({"path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT"}), "/a%2Fb"),
        manager_path("encoded-slashes-decoded", json!({"path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD"}), "/a%2Fb"),
        manager_path("path-not-normalised", json!({"normalize_path": false}), "/a/../b"),
        Scenario::new("http10-accepted")
            .manager(json!({"http_protocol_options": {"accept_http_10": true, "default_host_for_http_10": "http10-accepted.example"}}))
            .does(|run| run.raw(format!("GET /http10-accepted HTTP/1.0\r\n{}\r\n", run.names()))),
        Scenario::new("port-stripped")
            .manager(json!({"strip_any_host_port": true}))
            .does(|run| run.raw(format!("GET /port-stripped HTTP/1.1\r\nhost: port-stripped.example:81\r\n{}\r\n", run.names()))),
        Scenario::new("dot-stripped")
            .manager(json!({"strip_trailing_host_dot": true}))
            .does(|run| run.raw(format!("GET /dot-stripped HTTP/1.1\r\nhost: dot-stripped.example.\r\n{}\r\n", run.names()))),
        Scenario::new("large-head-allowed")
            .manager(json!({"max_request_headers_kb": 90}))
            .does(|run| run.raw(run.request(&format!("x-large: {}\r\n", "a".repeat(70_000))))),
        Scenario::new("large-head-refused")
            .manager(json!({"max_request_headers_kb": 10}))
            .does(|run| run.raw(run.request(&format!("x-large: {}\r\n", "a".repeat(11_000))))),
        Scenario::new("continue-forwarded")
            .manager(json!({"proxy_100_continue": true}))
            .sends("expect: 100-continue\r\n"),
        Scenario::new("trailers-kept")
            .manager(json!({"http_protocol_options": {"enable_trailers": true}}))
            .does(|run| run.raw(run.request_of("POST", "/trailers-kept", "transfer-encoding: chunked\r\n") + "2\r\nhi\r\n0\r\nx-trailer: 1\r\n\r\n")),
    ];
    Suite { name: "headers", scenarios, filters: json!([]) }
}
