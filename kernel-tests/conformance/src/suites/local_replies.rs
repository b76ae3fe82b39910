//! Answers of the proxy's own, and what configuration makes of them.

use serde_json::{Value, json};

use crate::scenario::{Scenario, merge};
use crate::suite::Suite;

/// A connection manager with `config` for local replies, whose route answers 503 `down`.
fn replies(id: &'static str, config: Value) -> Scenario {
    Scenario::new(id)
        .entry(json!({"direct_response": {"status": 503, "body": {"inline_string": "down"}}}))
        .manager(json!({"local_reply_config": config}))
}

/// A mapper for answers with this status.
fn on_status(status: u16, fields: Value) -> Value {
    let comparison = json!({"op": "EQ", "value": {"default_value": status, "runtime_key": "no_such_key"}});
    let mut mapper = json!({"filter": {"status_code_filter": {"comparison": comparison}}});
    merge(&mut mapper, fields);
    mapper
}

fn text(format: &str) -> Value {
    json!({"text_format_source": {"inline_string": format}})
}

/// A route that answers with a formatted body.
fn formatted(id: &'static str, format: Value, fields: &'static str) -> Scenario {
    Scenario::new(id)
        .entry(json!({"direct_response": {"status": 200, "body": {"inline_string": "plain"}, "body_format": format}}))
        .sends(fields)
}

/// The suite.
pub fn suite() -> Suite {
    let values = "%RESPONSE_CODE% %RESPONSE_FLAGS% %REQ(X-CASE)% %RESP(CONTENT-TYPE)% [%LOCAL_REPLY_BODY%]\n";
    let add = |name: &str, value: &str, action: &str| json!([{"header": {"key": name, "value": value}, "append_action": action}]);
    let scenarios = vec![
        replies("reply-other-status", json!({"mappers": [on_status(503, json!({"status_code": 418}))]})),
        replies("reply-other-body", json!({"mappers": [on_status(503, json!({"body": {"inline_string": "later"}}))]})),
        replies("reply-empty-body", json!({"mappers": [on_status(503, json!({"body": {"inline_string": ""}}))]})),
        replies("reply-not-concerned", json!({"mappers": [on_status(404, json!({"status_code": 418}))]})),
        replies(
            "reply-first-mapper",
            json!({"mappers": [on_status(404, json!({"status_code": 418})), on_status(503, json!({"status_code": 429})),
                on_status(429, json!({"status_code": 400}))]}),
        ),
        replies(
            "reply-with-fields",
            json!({"mappers": [on_status(503, json!({"headers_to_add": add("x-why", "%RESPONSE_CODE%", "APPEND_IF_EXISTS_OR_ADD")}))]}),
        ),
        replies(
            "reply-with-type",
            json!({"mappers": [on_status(503, json!({"body": {"inline_string": "<p>"},
                "headers_to_add": add("content-type", "text/html", "OVERWRITE_IF_EXISTS_OR_ADD")}))]}),
        ),
        replies(
            "reply-with-type-only",
            json!({"mappers": [on_status(503, json!({"headers_to_add": add("content-type", "text/html", "OVERWRITE_IF_EXISTS_OR_ADD")}))]}),
        ),
        replies("reply-text-format", json!({"body_format": text(values)})),
        replies(
            "reply-format-and-type",
            json!({"body_format": {"text_format_source": {"inline_string": "<b>%LOCAL_REPLY_BODY%</b>"}, "content_type": "text/html; charset=UTF-8"}}),
        ),
        replies(
            "reply-json-format",
            json!({"body_format": {"json_format": {"body": "%LOCAL_REPLY_BODY%", "code": "%RESPONSE_CODE%", "path": "%REQ(:PATH)%", "none": "%REQ(X-NONE)%"}}}),
        ),
        replies(
            "reply-format-override",
            json!({"mappers": [on_status(503, json!({"status_code": 500, "body": {"inline_string": "other"}, "body_format_override": text(values)}))],
                "body_format": text("general")}),
        ),
        replies(
            "reply-format-of-mapped-body",
            json!({"mappers": [on_status(503, json!({"body": {"inline_string": "other"}}))], "body_format": text("general [%LOCAL_REPLY_BODY%]")}),
        ),
        replies(
            "reply-to-grpc",
            json!({"mappers": [on_status(503, json!({"status_code": 404, "body": {"inline_string": "mapped"}}))]}),
        )
        .sends("content-type: application/grpc\r\n"),
        replies("reply-to-head", json!({"body_format": text(values)}))
            .does(|run| run.raw(run.request_of("HEAD", "/reply-to-head", ""))),
        replies("reply-without-route", json!({"body_format": text(values)}))
            .does(|run| run.raw(run.request_of("GET", "/elsewhere", ""))),
        replies(
            "reply-by-flag",
            json!({"mappers": [{"filter": {"response_flag_filter": {"flags": ["NR"]}}, "status_code": 410}]}),
        )
        .does(|run| run.raw(run.request_of("GET", "/elsewhere", ""))),
        replies(
            "reply-by-field",
            json!({"mappers": [{"filter": {"header_filter": {"header": {"name": "x-a", "string_match": {"exact": "1"}}}}, "status_code": 410}]}),
        )
        .sends("x-a: 1\r\n"),
        replies(
            "reply-by-several",
            json!({"mappers": [{"filter": {"and_filter": {"filters": [
                on_status(503, json!({}))["filter"],
                {"header_filter": {"header": {"name": "x-a", "present_match": true}}}]}}, "status_code": 410}]}),
        )
        .sends("x-a: 1\r\n"),
        Scenario::new("reply-of-upstream-stays")
            .manager(json!({"local_reply_config": {"mappers": [on_status(503, json!({"status_code": 418}))], "body_format": text(values)}}))
            .sends("x-script: 503\r\n"),
        Scenario::new("reply-without-upstream")
            .backends(&["refused"])
            .manager(json!({"local_reply_config": {"mappers": [on_status(503, json!({"status_code": 418}))], "body_format": text("%RESPONSE_FLAGS% %RESPONSE_CODE%")}})),
        Scenario::new("reply-redirect")
            .entry(json!({"redirect": {"path_redirect": "/p"}}))
            .manager(json!({"local_reply_config": {"mappers": [on_status(301, json!({"status_code": 302, "body": {"inline_string": "moved"}}))]}})),
        Scenario::new("reply-to-bad-request")
            .manager(json!({"local_reply_config": {"body_format": text(values)}}))
            .does(|run| run.raw(format!("GET /reply-to-bad-request HTTP/1.1\r\n{}\r\n", run.names()))),
        Scenario::new("direct-response-without-content")
            .entry(json!({"direct_response": {"status": 204}})),
        formatted("direct-response-text-format", text("%REQ(X-CASE)% %PROTOCOL% [%LOCAL_REPLY_BODY%]"), ""),
        formatted(
            "direct-response-json-format",
            json!({"json_format": {"case": "%REQ(X-CASE)%", "nothing": "%REQ(X-NONE)%"}}),
            "",
        ),
        formatted(
            "direct-response-type",
            json!({"text_format_source": {"inline_string": "<p>%ROUTE_NAME%"}, "content_type": "text/html"}),
            "",
        ),
        formatted("direct-response-format-grpc", text("%REQ(X-CASE)%"), "content-type: application/grpc\r\n"),
    ];
    Suite { name: "local replies", scenarios, filters: json!([]) }
}
