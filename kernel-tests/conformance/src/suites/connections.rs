//! Limits on connections.

use serde_json::{Value, json};

use crate::scenario::{Observed, Run, Scenario, merge};
use crate::suite::{Suite, stats};

/// A network filter `envoy.filters.network.NAME` of type `envoy.extensions.filters.network.MESSAGE`.
fn network(name: &str, message: &str, fields: Value) -> Value {
    let mut config =
        json!({"@type": format!("type.googleapis.com/envoy.extensions.filters.network.{message}")});
    merge(&mut config, fields);
    json!({"name": format!("envoy.filters.network.{name}"), "typed_config": config})
}

/// Opens `count` connections, one after the other, and keeps them: what each one's request is answered.
fn several(run: &Run<'_>, count: usize) -> Vec<String> {
    let mut kept = Vec::new();
    let mut answers = Vec::new();
    for _ in 0..count {
        let Ok(mut connection) = run.connection() else { continue };
        answers.push(match connection.send(&run.request("")) {
            Ok(answer) => answer.status.to_string(),
            Err(_) => "closed".to_string(),
        });
        kept.push(connection);
    }
    answers
}

fn counted(run: &Run<'_>, names: &[&str]) -> String {
    let page = run.peer.admin("/stats").unwrap_or_default();
    let all = stats(&page);
    names.iter().map(|name| format!("{name}={} ", all.get(name).unwrap_or(&"none"))).collect()
}

fn limited(id: &'static str, filter: Value, names: &'static [&'static str]) -> Scenario {
    Scenario::new(id).network_filters(vec![filter]).by_chance().does(move |run| {
        let mut observed = Observed::new();
        observed.exact("answers", several(run, 4).join(" "));
        observed.exact("counters", counted(run, names));
        Ok(observed)
    })
}

/// The suite.
pub fn suite() -> Suite {
    let at_once = |fields: Value| {
        let mut all = json!({"stat_prefix": "c", "max_connections": 2});
        merge(&mut all, fields);
        network("connection_limit", "connection_limit.v3.ConnectionLimit", all)
    };
    let rate = |prefix: &str, fields: Value| {
        let mut all =
            json!({"stat_prefix": prefix, "token_bucket": {"max_tokens": 3, "fill_interval": "600s"}});
        merge(&mut all, fields);
        network("local_ratelimit", "local_ratelimit.v3.LocalRateLimit", all)
    };
    let off = || json!({"runtime_enabled": {"default_value": false, "runtime_key": "none"}});
    let scenarios = vec![
        limited(
            "connections-at-once",
            at_once(json!({"stat_prefix": "at_once"})),
            &["connection_limit.at_once.limited_connections"],
        ),
        limited(
            "connections-at-once-delayed",
            at_once(json!({"stat_prefix": "delayed", "delay": "0.3s"})),
            &["connection_limit.delayed.limited_connections"],
        ),
        limited("connections-at-once-off", at_once(off()), &[]),
        limited("connections-in-a-time", rate("rate", json!({})), &["local_rate_limit.rate.rate_limited"]),
        limited("connections-in-a-time-off", rate("rate_off", off()), &[]),
    ];
    Suite { name: "connections", scenarios, filters: json!([]) }
}
