//! Requests that stay in the proxy's own zone. The proxies are of one cluster, half of them `here`, where this one is.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use crate::scenario::{Observed, Run, Scenario, endpoint};
use crate::suite::Suite;

const REQUESTS: usize = 1_000;

/// The suite.
pub fn suite() -> Suite {
    let small = json!({"zone_aware_lb_config": {"min_cluster_size": 2}});
    let here_and = |here: &[&str], there: &[&str]| json!([at("here", here), at("there", there)]);
    let sick = |zone: &str, backend: &str| json!({"locality": {"region": "r", "zone": zone}, "lb_endpoints": [endpoint(backend, json!({"health_status": "UNHEALTHY"}))]});
    let scenarios = vec![
        drawn("zone-with-room", here_and(&["a", "b", "c"], &["d"]), small.clone()).and_cluster(proxies()),
        drawn("zone-without-room", here_and(&["a"], &["b", "c", "d"]), small.clone()),
        drawn("zone-listed-last", json!([at("there", &["b", "c", "d"]), at("here", &["a"])]), small.clone()),
        drawn(
            "zone-with-weights",
            json!([at("here", &["a"]), {"locality": {"region": "r", "zone": "there"}, "lb_endpoints": [
            endpoint("b", json!({"load_balancing_weight": 1})), endpoint("c", json!({"load_balancing_weight": 3}))]}]),
            small.clone(),
        ),
        drawn(
            "zones-of-three",
            json!([at("here", &["a"]), at("there", &["b"]), at("elsewhere", &["c", "d", "e"])]),
            small.clone(),
        ),
        drawn("zone-in-too-small-a-cluster", here_and(&["a", "b", "c"], &["d"]), json!({})),
        drawn(
            "zone-switched-off",
            here_and(&["a", "b", "c"], &["d"]),
            json!({"zone_aware_lb_config": {"min_cluster_size": 2, "routing_enabled": {"value": 0}}}),
        ),
        drawn(
            "zone-for-a-part",
            here_and(&["a", "b"], &["c"]),
            json!({"zone_aware_lb_config": {"min_cluster_size": 2, "routing_enabled": {"value": 50}}}),
        ),
        drawn("zone-that-is-sick", json!([sick("here", "a"), at("there", &["b", "c"])]), small.clone()),
        drawn(
            "zone-without-hosts",
            json!([at("there", &["a", "b"]), at("elsewhere", &["c"])]),
            small.clone(),
        ),
        drawn("zone-alone", json!([at("here", &["a", "b"])]), small.clone()),
        drawn("zone-least-request", here_and(&["a", "b", "c"], &["d"]), small)
            .cluster(json!({"lb_policy": "LEAST_REQUEST"})),
    ];
    Suite { name: "zones", scenarios, filters: json!([]) }
}

fn at(zone: &str, backends: &[&str]) -> Value {
    let endpoints: Vec<Value> = backends.iter().map(|backend| endpoint(backend, json!({}))).collect();
    json!({"locality": {"region": "r", "zone": zone}, "lb_endpoints": endpoints})
}

/// Two proxies in each of two zones; nobody connects to them.
fn proxies() -> Value {
    let proxy = |host: u8| {
        json!({"endpoint": {"address": {"socket_address":
            {"address": format!("10.0.0.{host}"), "port_value": 15000}}}})
    };
    let zone = |zone: &str, first: u8| json!({"locality": {"region": "r", "zone": zone}, "lb_endpoints": [proxy(first), proxy(first + 1)]});
    json!({"name": "proxies", "type": "STATIC", "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "proxies", "endpoints": [zone("here", 1), zone("there", 3)]}})
}

/// Compares how many requests each backend gets, and what the statistics say about zones.
fn drawn(id: &'static str, localities: Value, balancing: Value) -> Scenario {
    let bootstrap = json!({"cluster_manager": {"local_cluster_name": "proxies"},
        "node": {"locality": {"region": "r", "zone": "here"}}});
    Scenario::new(id)
        .bootstrap(bootstrap)
        .cluster(json!({"lb_policy": "RANDOM", "common_lb_config": balancing,
            "load_assignment": {"cluster_name": id, "endpoints": localities}}))
        .by_chance()
        .does(|run| {
            let mut observed = Observed::new();
            observed.drawn("spread", backends(run)?);
            // How often which way was drawn is a matter of chance; whether at all is not.
            let counts = counts(run)?;
            observed.exact("ways", counts.into_keys().collect::<Vec<_>>().join(" "));
            Ok(observed)
        })
}

fn backends(run: &Run<'_>) -> Result<Vec<String>> {
    let answers = run.many(REQUESTS, |_| String::new())?;
    let name = |answer: &ringsail_harness::client::Answer| {
        let field = answer.fields.iter().find(|(name, _)| name == "x-backend");
        field.map_or_else(|| answer.status.to_string(), |(_, value)| value.clone())
    };
    Ok(answers.iter().map(name).collect())
}

fn counts(run: &Run<'_>) -> Result<BTreeMap<String, u64>> {
    let names = "routing_all_directly|routing_sampled|routing_cross_zone|no_capacity_left";
    let page = run.peer.admin(&format!("/stats?filter=cluster.{}.lb_zone_({names})$", run.id))?;
    let values = page.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(": ")?;
        let value: u64 = value.parse().ok().filter(|value| *value > 0)?;
        Some((name.rsplit('.').next()?.to_string(), value))
    });
    Ok(values.collect())
}
