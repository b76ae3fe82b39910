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
    ];
    let filters = json!([filter(
        "local_ratelimit",
        "local_ratelimit.v3.LocalRateLimit",
        json!({"stat_prefix": "limits"})
    )]);
    Suite { name: "limits", scenarios, filters }
}
