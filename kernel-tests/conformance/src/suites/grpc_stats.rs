//! Statistics of gRPC calls.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{http2_call as call, http2_upstream};
use crate::http2::{Call, calls};
use crate::scenario::{Observed, Scenario};
use crate::suite::{Suite, filter};

/// How long counters may take to appear.
const SETTLE: Duration = Duration::from_secs(5);

/// Two messages, of three bytes and of one.
const MESSAGES: &[u8] = b"\0\0\0\0\x03abc\0\0\0\0\x01x";

/// A call of each script, and the statistics after them. `ends` says that they end with a status.
fn counting(
    id: &'static str,
    settings: Value,
    path: &'static str,
    scripts: &'static [&'static str],
    ends: bool,
) -> Scenario {
    let filters = json!([
        filter("grpc_stats", "grpc_stats.v3.FilterConfig", settings),
        filter("router", "router.v3.Router", json!({}))
    ]);
    // The path names the method, so the scenario is told by its listener.
    let anything = json!({"name": id, "match": {"prefix": "/"}, "route": {"cluster": id, "timeout": "0s"}});
    let scenario = Scenario::new(id).backends(&["ha"]).cluster(http2_upstream()).before(anything);
    scenario.manager(json!({"http_filters": filters})).does(move |run| {
        for script in scripts {
            let fields = [("content-type", "application/grpc"), ("te", "trailers"), ("x-script", *script)];
            // An answer at once may overtake the request's messages, and then they are not counted.
            let body = if script.starts_with("grpc=") { vec![] } else { vec![MESSAGES.to_vec()] };
            calls(run.address, vec![Call { path: path.to_string(), body, ..call(run, "POST", &fields) }])?;
        }
        let prefix = format!("cluster.{}.grpc.", run.id);
        let deadline = Instant::now() + SETTLE;
        let counted = loop {
            let page = run.peer.admin("/stats")?;
            let lines: Vec<String> = page
                .lines()
                .filter_map(|line| line.strip_prefix(&prefix))
                .filter(|line| !line.ends_with(": 0"))
                // Of a histogram that it is there.
                .map(|line| {
                    line.split_once(": P")
                        .or(line.split_once(": No"))
                        .map_or(line, |(name, _)| name)
                        .to_string()
                })
                .collect();
            let done = !ends || lines.iter().any(|line| line.contains(&format!("total: {}", scripts.len())));
            if done || Instant::now() > deadline {
                break lines.join("\n");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut observed = Observed::new();
        observed.exact("counted", counted);
        Ok(observed)
    })
}

/// The suite.
pub fn suite() -> Suite {
    let listed = json!({"individual_method_stats_allowlist": {"services": [{"name": "pack.Service", "method_names": ["Method"]}]}});
    let scenarios = vec![
        counting("stats-default", json!({}), "/pack.Service/Method", &["200", "grpc=5"], true),
        counting(
            "stats-of-no-method",
            json!({"stats_for_all_methods": false, "emit_filter_state": true}),
            "/pack.Service/Method",
            &["200"],
            true,
        ),
        counting(
            "stats-of-all-methods",
            json!({"stats_for_all_methods": true}),
            "/pack.Service/Method",
            &["200", "200", "grpc=14"],
            true,
        ),
        counting(
            "stats-without-dots",
            json!({"stats_for_all_methods": true, "replace_dots_in_grpc_service_name": true}),
            "/pack.Service/Method",
            &["200"],
            true,
        ),
        counting("stats-of-listed", listed.clone(), "/pack.Service/Method", &["200"], true),
        counting("stats-of-unlisted", listed, "/pack.Service/Other", &["grpc=7"], true),
        counting("stats-of-no-call", json!({"stats_for_all_methods": true}), "/Method", &["200"], false),
        counting(
            "stats-with-upstream",
            json!({"stats_for_all_methods": true, "enable_upstream_stats": true}),
            "/pack.Service/Method",
            &["200"],
            true,
        ),
        counting("stats-of-http-error", json!({}), "/pack.Service/Method", &["503"], true),
    ];
    Suite { name: "grpc-stats", scenarios, filters: json!([]) }
}
