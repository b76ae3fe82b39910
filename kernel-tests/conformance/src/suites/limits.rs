//! Local rate limits.

use serde_json::{Value, json};

use crate::scenario::{Observed, Scenario};
use crate::suite::{Suite, filter, filter_config};

/// A local rate limit on the route; the fill interval is longer than any run.
fn limited(id: &'static str, tokens: u32, fields: Value) -> Scenario {
    let mut config = json!({"stat_prefix": id, "token_bucket": {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "600s"},
        "filter_enabled": {"default_value": {"numerator": 100}}, "filter_enforced": {"default_value": {"numerator": 100}}});
    crate::scenario::merge(&mut config, fields);
    Scenario::new(id)
        .entry(json!({"typed_per_filter_config": {"envoy.filters.http.local_ratelimit": filter_config("local_ratelimit.v3.LocalRateLimit", config)}}))
        .does(|run| {
            let mut observed = Observed::new();
            for answer in run.many(4, |_| String::new())? {
                let mut text = format!("{} ", answer.status);
                for (name, value) in &answer.fields {
                    // The reset counts down while the test runs.
                    if name.contains("ratelimit") && !name.ends_with("reset") || name == "x-limited" {
                        text.push_str(&format!("{name}={value} "));
                    }
                }
                if answer.status == 429 {
                    text.push_str(&answer.body);
                }
                observed.exact("answer", text);
            }
            Ok(observed)
        })
}

/// A bucket for each value of a header, and one of its own for the value `own`; for at most so many values.
fn each_value(id: &'static str, values_max: u32) -> Scenario {
    let bucket =
        |tokens: u32| json!({"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "600s"});
    limited(id, 50, json!({"max_dynamic_descriptors": values_max, "descriptors": [
        {"entries": [{"key": "who"}], "token_bucket": bucket(1)},
        {"entries": [{"key": "who", "value": "own"}], "token_bucket": bucket(2)}]}))
        .route(json!({"rate_limits": [{"actions": [{"request_headers": {"header_name": "x-who", "descriptor_key": "who"}}]}]}))
        .does(|run| {
            let who = ["a", "a", "b", "own", "own", "own", "a", "b"];
            let answers = run.many(who.len(), |index| format!("x-who: {}\r\n", who[index]))?;
            let statuses: Vec<String> = answers.iter().map(|answer| answer.status.to_string()).collect();
            let mut observed = Observed::new();
            observed.exact("statuses", statuses.join(" "));
            Ok(observed)
        })
}

/// The suite.
pub fn suite() -> Suite {
    let scenarios = vec![
        limited("limit-two", 2, json!({})),
        limited("limit-answers-fields", 1, json!({"response_headers_to_add": [{"header": {"key": "x-limited", "value": "yes"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]})),
        limited("limit-status", 1, json!({"status": {"code": "ServiceUnavailable"}})),
        limited("limit-tells-how-much", 2, json!({"enable_x_ratelimit_headers": "DRAFT_VERSION_03"})),
        limited("limit-not-enforced", 1, json!({"filter_enforced": {"default_value": {"numerator": 0}}})),
        limited("limit-not-enabled", 1, json!({"filter_enabled": {"default_value": {"numerator": 0}}})),
        limited("limit-by-descriptor", 3, json!({"descriptors": [{"entries": [{"key": "path", "value": "own"}],
            "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "600s"}}]}))
            .route(json!({"rate_limits": [{"actions": [{"generic_key": {"descriptor_key": "path", "descriptor_value": "own"}}]}]})),
        limited("limit-by-header", 3, json!({"descriptors": [{"entries": [{"key": "who", "value": "b"}],
            "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "600s"}}]}))
            .route(json!({"rate_limits": [{"actions": [{"request_headers": {"header_name": "x-who", "descriptor_key": "who"}}]}]})),
        limited("limit-to-grpc", 1, json!({})).does(|run| {
            run.exchange("")?;
            run.exchange("content-type: application/grpc\r\n")
        }),
        limited("limit-to-grpc-exhausted", 1, json!({"rate_limited_as_resource_exhausted": true})).does(|run| {
            run.exchange("")?;
            run.exchange("content-type: application/grpc\r\n")
        }),
        limited("limit-of-connection", 1, json!({"local_rate_limit_per_downstream_connection": true})).does(|run| {
            let mut observed = Observed::new();
            for connection in ["first", "second"] {
                let statuses: Vec<String> =
                    run.many(2, |_| String::new())?.iter().map(|answer| answer.status.to_string()).collect();
                observed.exact(connection, statuses.join(" "));
            }
            Ok(observed)
        }),
        limited("limit-marks-what-it-spares", 1, json!({"filter_enforced": {"default_value": {"numerator": 0}},
            "request_headers_to_add_when_not_enforced": [{"header": {"key": "x-over", "value": "yes"}}]}))
        .does(|run| {
            run.exchange("")?;
            run.exchange("")
        }),
        limited("limit-of-descriptor-only", 1, json!({"always_consume_default_token_bucket": false,
            "descriptors": [{"entries": [{"key": "who", "value": "b"}],
                "token_bucket": {"max_tokens": 2, "tokens_per_fill": 2, "fill_interval": "600s"}}]}))
            .route(json!({"rate_limits": [{"actions": [{"request_headers": {"header_name": "x-who", "descriptor_key": "who"}}]}]}))
            .does(|run| {
                let mut observed = Observed::new();
                for who in ["b", "a"] {
                    let answers = run.many(3, |_| format!("x-who: {who}\r\n"))?;
                    let statuses: Vec<String> = answers.iter().map(|answer| answer.status.to_string()).collect();
                    observed.exact(who, statuses.join(" "));
                }
                Ok(observed)
            }),
        limited("limit-by-rules-of-the-filter", 5, json!({
            "rate_limits": [{"actions": [{"request_headers": {"header_name": "x-who", "descriptor_key": "who"}}]}],
            "descriptors": [{"entries": [{"key": "who", "value": "b"}],
                "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "600s"}}]}))
            .does(|run| {
                let answers = run.many(3, |_| "x-who: b\r\n".to_string())?;
                let statuses: Vec<String> = answers.iter().map(|answer| answer.status.to_string()).collect();
                let mut observed = Observed::new();
                observed.exact("statuses", statuses.join(" "));
                Ok(observed)
            }),
        each_value("limit-by-any-value", 20),
        each_value("limit-by-few-values", 1),
        limited("limit-of-two-entries", 5, json!({"descriptors": [{"entries": [{"key": "who", "value": "b"}, {"key": "path", "value": "own"}],
            "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "600s"}}]}))
            .route(json!({"rate_limits": [{"actions": [
                {"request_headers": {"header_name": "x-who", "descriptor_key": "who"}},
                {"generic_key": {"descriptor_key": "path", "descriptor_value": "own"}}]}]}))
            .does(|run| {
                let mut observed = Observed::new();
                for who in ["b", "a"] {
                    let answers = run.many(2, |_| format!("x-who: {who}\r\n"))?;
                    let statuses: Vec<String> = answers.iter().map(|answer| answer.status.to_string()).collect();
                    observed.exact(who, statuses.join(" "));
                }
                Ok(observed)
            }),
    ];
    let filters = json!([filter(
        "local_ratelimit",
        "local_ratelimit.v3.LocalRateLimit",
        json!({"stat_prefix": "limits"})
    )]);
    Suite { name: "limits", scenarios, filters }
}
