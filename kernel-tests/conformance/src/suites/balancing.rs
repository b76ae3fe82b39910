//! Which endpoint a request goes to.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::scenario::{Observed, Run, Scenario, cluster, endpoint};
use crate::suite::Suite;

/// How many requests a scenario about shares sends: one standard deviation of a share of one in ten is then 9.
const DRAWS: usize = 1_000;

/// Which backend answered each request.
fn backends(run: &Run<'_>, count: usize, fields: impl Fn(usize) -> String) -> anyhow::Result<Vec<String>> {
    let answers = run.many(count, fields)?;
    let name = |answer: &ringsail_harness::client::Answer| {
        let field = answer.fields.iter().find(|(name, _)| name == "x-backend");
        field.map_or_else(|| format!("{} {}", answer.status, answer.body), |(_, value)| value.clone())
    };
    Ok(answers.iter().map(name).collect())
}

/// Compares how many requests each backend gets, chosen at random.
fn drawn(scenario: Scenario) -> Scenario {
    scenario.by_chance().does(|run| {
        let mut observed = Observed::new();
        observed.drawn("spread", backends(run, DRAWS, |_| String::new())?);
        Ok(observed)
    })
}

/// Compares how many requests each backend gets, where that is no matter of chance.
fn counted(scenario: Scenario, requests: usize) -> Scenario {
    scenario.does(move |run| {
        let mut counts = std::collections::BTreeMap::new();
        for backend in backends(run, requests, |_| String::new())? {
            *counts.entry(backend).or_insert(0) += 1;
        }
        let mut observed = Observed::new();
        observed.exact("counts", format!("{counts:?}"));
        Ok(observed)
    })
}

/// As [`counted`], and what the statistics say about subsets.
fn picked(scenario: Scenario, requests: usize) -> Scenario {
    scenario.does(move |run| {
        let mut counts = std::collections::BTreeMap::new();
        for backend in backends(run, requests, |_| String::new())? {
            *counts.entry(backend).or_insert(0) += 1;
        }
        let filter =
            format!("/stats?filter=cluster.{}.lb_subsets_(selected|fallback|fallback_panic)$", run.id);
        let stats = run.peer.admin(&filter)?;
        let mut stats: Vec<&str> = stats.lines().filter(|line| !line.ends_with(": 0")).collect();
        stats.sort_unstable();
        let mut observed = Observed::new();
        observed.exact("counts", format!("{counts:?}")).exact("statistics", stats.join(", "));
        Ok(observed)
    })
}

/// Compares the backend of each of 60 different requests.
fn mapped(scenario: Scenario, fields: fn(usize) -> String) -> Scenario {
    scenario.does(move |run| {
        let mut observed = Observed::new();
        observed.exact("backends", backends(run, 60, fields)?.join(" "));
        Ok(observed)
    })
}

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];

fn hashed(id: &'static str, policy: &str, hash_policy: Value) -> Scenario {
    Scenario::new(id)
        .backends(&FIVE)
        .cluster(json!({"lb_policy": policy}))
        .route(json!({"hash_policy": hash_policy}))
}

fn by_user(index: usize) -> String {
    format!("x-user: user-{index}\r\n")
}

fn localities(scenario: Scenario, localities: Value) -> Scenario {
    let id = scenario.id;
    scenario.cluster(json!({"load_assignment": {"cluster_name": id, "endpoints": localities}}))
}

fn labelled(backend: &str, version: &str) -> Value {
    endpoint(backend, json!({"metadata": {"filter_metadata": {"envoy.lb": {"version": version}}}}))
}

/// Endpoints `a` of version 1, `b` and `c` of version 2, chosen by the route's metadata.
fn subset(id: &'static str, wanted: Value, fields: Value) -> Scenario {
    let scenario = Scenario::new(id)
        .cluster(json!({"lb_subset_config": {"fallback_policy": "NO_FALLBACK", "subset_selectors": [{"keys": ["version"]}]}}))
        .cluster(fields)
        .route(json!({"metadata_match": {"filter_metadata": {"envoy.lb": wanted}}}));
    localities(
        scenario,
        json!([{"lb_endpoints": [labelled("a", "1"), labelled("b", "2"), labelled("c", "2")]}]),
    )
}

/// The suite.
pub fn suite() -> Suite {
    let unhealthy = |backend: &str| endpoint(backend, json!({"health_status": "UNHEALTHY"}));
    let healthy = |backend: &str| endpoint(backend, json!({}));
    let header = json!([{"header": {"header_name": "x-user"}}]);
    let split = |id: &'static str, weights: [u32; 2]| {
        let second: &'static str = Box::leak(format!("{id}-2").into_boxed_str());
        Scenario::new(id).and_cluster(cluster(second, &["b"])).entry(json!({"route": null})).entry(json!({"route": {
            "timeout": "0s", "weighted_clusters": {"clusters": [{"name": id, "weight": weights[0]}, {"name": second, "weight": weights[1]}]}}}))
    };
    let scenarios = vec![
        counted(Scenario::new("round-robin").backends(&FIVE), 50),
        counted(localities(Scenario::new("round-robin-weights"), json!([{"lb_endpoints": [
            endpoint("a", json!({"load_balancing_weight": 1})), endpoint("b", json!({"load_balancing_weight": 2})),
            endpoint("c", json!({"load_balancing_weight": 5}))]}])), 80),
        drawn(Scenario::new("random").backends(&FIVE).cluster(json!({"lb_policy": "RANDOM"}))),
        drawn(localities(Scenario::new("random-ignores-weights").cluster(json!({"lb_policy": "RANDOM"})), json!([{"lb_endpoints": [
            endpoint("a", json!({"load_balancing_weight": 1})), endpoint("b", json!({"load_balancing_weight": 9}))]}]))),
        drawn(Scenario::new("least-request").backends(&FIVE).cluster(json!({"lb_policy": "LEAST_REQUEST"}))),
        drawn(localities(Scenario::new("least-request-weights").cluster(json!({"lb_policy": "LEAST_REQUEST"})), json!([{"lb_endpoints": [
            endpoint("a", json!({"load_balancing_weight": 1})), endpoint("b", json!({"load_balancing_weight": 4}))]}]))),
        mapped(hashed("ring-by-header", "RING_HASH", header.clone()), by_user),
        mapped(hashed("maglev-by-header", "MAGLEV", header.clone()), by_user),
        mapped(hashed("ring-small", "RING_HASH", header.clone()).cluster(json!({"ring_hash_lb_config": {"minimum_ring_size": 16, "maximum_ring_size": 16}})), by_user),
        mapped(hashed("ring-murmur", "RING_HASH", header.clone()).cluster(json!({"ring_hash_lb_config": {"hash_function": "MURMUR_HASH_2"}})), by_user),
        mapped(hashed("maglev-small", "MAGLEV", header.clone()).cluster(json!({"maglev_lb_config": {"table_size": 31}})), by_user),
        mapped(hashed("ring-by-query", "RING_HASH", json!([{"query_parameter": {"name": "u"}}])).does(|_| Ok(Observed::new())), by_user).does(|run| {
            let mut connection = run.connection()?;
            let mut names = Vec::new();
            for index in 0..40 {
                let answer = connection.send(&run.request_of("GET", &format!("/{}?u={index}", run.id), ""))?;
                names.extend(answer.fields.into_iter().filter(|(name, _)| name == "x-backend").map(|(_, value)| value));
            }
            let mut observed = Observed::new();
            observed.exact("backends", names.join(" "));
            Ok(observed)
        }),
        mapped(hashed("ring-by-cookie", "RING_HASH", json!([{"cookie": {"name": "session"}}])), |index| format!("cookie: a=1; session={index}\r\n")),
        mapped(hashed("ring-by-source", "RING_HASH", json!([{"connection_properties": {"source_ip": true}}])), by_user),
        mapped(hashed("ring-by-two", "RING_HASH", json!([{"header": {"header_name": "x-user"}}, {"header": {"header_name": "x-absent"}}, {"connection_properties": {"source_ip": true}}])), by_user),
        mapped(hashed("ring-by-first-of-two", "RING_HASH", json!([{"header": {"header_name": "x-user"}, "terminal": true}, {"connection_properties": {"source_ip": true}}])), by_user),
        mapped(hashed("ring-by-rewritten-header", "RING_HASH", json!([{"header": {"header_name": "x-user", "regex_rewrite":
            {"pattern": {"regex": "user-([0-9]).*"}, "substitution": "\\1"}}}])), by_user),
        drawn(hashed("ring-without-value", "RING_HASH", header.clone())),
        mapped(localities(hashed("ring-hash-keys", "RING_HASH", header.clone()), json!([{"lb_endpoints": [
            endpoint("a", json!({"metadata": {"filter_metadata": {"envoy.lb": {"hash_key": "one"}}}})),
            endpoint("b", json!({"metadata": {"filter_metadata": {"envoy.lb": {"hash_key": "two"}}}})),
            endpoint("c", json!({"metadata": {"filter_metadata": {"envoy.lb": {"hash_key": "three"}}}}))]}])), by_user),
        hashed("cookie-is-given", "RING_HASH", json!([{"cookie": {"name": "session", "ttl": "3600s", "path": "/p"}}])).does(|run| {
            // Its value is random: what stays is the form, and that the same cookie leads to the same backend.
            let mut connection = run.connection()?;
            let first = connection.send(&run.request(""))?;
            let find = |answer: &ringsail_harness::client::Answer, name: &str| -> String {
                answer.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone()).unwrap_or_default()
            };
            let cookie = find(&first, "set-cookie");
            let value = cookie.split(['=', ';']).nth(1).unwrap_or_default().to_string();
            let mut observed = Observed::new();
            observed.exact("form", cookie.replace(&value, "*"));
            let mut same = BTreeSet::from([find(&first, "x-backend")]);
            for _ in 0..10 {
                let answer = connection.send(&run.request(&format!("cookie: session={}\r\n", value.trim_matches('"'))))?;
                same.insert(find(&answer, "x-backend"));
                observed.exact("given again", find(&answer, "set-cookie"));
            }
            observed.exact("backends", same.len().to_string());
            Ok(observed)
        }),
        // Weighted clusters.
        drawn(split("split-90-10", [90, 10])),
        drawn(split("split-half", [1, 1])),
        drawn(split("split-one-thousandth", [999, 1])),
        drawn(split("split-zero", [0, 5])),
        split("split-by-number", [30, 70]).route(json!({"weighted_clusters": {"header_name": "x-number"}})).does(|run| {
            let mut observed = Observed::new();
            observed.exact("backends", backends(run, 120, |index| format!("x-number: {index}\r\n"))?.join(" "));
            Ok(observed)
        }),
        mapped(split("split-by-hash", [50, 50]).route(json!({"hash_policy": header.clone(), "weighted_clusters": {"use_hash_policy": true}})), by_user),
        // Health, priorities, localities.
        counted(localities(Scenario::new("unhealthy-left-out"), json!([{"lb_endpoints": [healthy("a"), healthy("b"), unhealthy("c")]}])), 20),
        counted(localities(Scenario::new("panic-takes-all"), json!([{"lb_endpoints": [healthy("a"), unhealthy("b"), unhealthy("c")]}])), 30),
        counted(localities(Scenario::new("panic-off").cluster(json!({"common_lb_config": {"healthy_panic_threshold": {"value": 0}}})),
            json!([{"lb_endpoints": [healthy("a"), unhealthy("b"), unhealthy("c")]}])), 10),
        counted(localities(Scenario::new("all-unhealthy-panic-off").cluster(json!({"common_lb_config": {"healthy_panic_threshold": {"value": 0}}})),
            json!([{"lb_endpoints": [unhealthy("a")]}])), 2),
        counted(localities(Scenario::new("second-priority-waits"), json!([{"priority": 0, "lb_endpoints": [healthy("a")]}, {"priority": 1, "lb_endpoints": [healthy("b")]}])), 10),
        counted(localities(Scenario::new("second-priority-takes-over"), json!([{"priority": 0, "lb_endpoints": [unhealthy("a")]}, {"priority": 1, "lb_endpoints": [healthy("b")]}])), 10),
        drawn(localities(Scenario::new("priorities-share").cluster(json!({"lb_policy": "RANDOM"})), json!([
            {"priority": 0, "lb_endpoints": [healthy("a"), unhealthy("b")]}, {"priority": 1, "lb_endpoints": [healthy("c")]}]))),
        drawn(localities(Scenario::new("overprovisioning-100").cluster(json!({"lb_policy": "RANDOM"})), json!([
            {"priority": 0, "lb_endpoints": [healthy("a"), unhealthy("b")]}, {"priority": 1, "lb_endpoints": [healthy("c")]}]))
            .cluster(json!({"load_assignment": {"policy": {"overprovisioning_factor": 100}}}))),
        drawn(localities(Scenario::new("degraded-last"), json!([{"lb_endpoints": [healthy("a"), endpoint("b", json!({"health_status": "DEGRADED"}))]}]))),
        drawn(localities(Scenario::new("locality-weights").cluster(json!({"lb_policy": "RANDOM", "common_lb_config": {"locality_weighted_lb_config": {}}})), json!([
            {"locality": {"region": "one"}, "load_balancing_weight": 1, "lb_endpoints": [healthy("a"), healthy("b")]},
            {"locality": {"region": "two"}, "load_balancing_weight": 3, "lb_endpoints": [healthy("c")]}]))),
        counted(localities(Scenario::new("locality-weights-ignored"), json!([
            {"locality": {"region": "one"}, "load_balancing_weight": 1, "lb_endpoints": [healthy("a"), healthy("b")]},
            {"locality": {"region": "two"}, "load_balancing_weight": 3, "lb_endpoints": [healthy("c")]}])), 30),
        drawn(localities(Scenario::new("draining-and-spill-over").cluster(json!({"lb_policy": "RANDOM"})), json!([
            {"priority": 0, "lb_endpoints": [healthy("a"), endpoint("b", json!({"health_status": "DRAINING"}))]}, {"priority": 1, "lb_endpoints": [healthy("c")]}]))),
        // Subsets.
        picked(subset("subset-of-one", json!({"version": "1"}), json!({})), 10),
        picked(subset("subset-of-two", json!({"version": "2"}), json!({})), 10),
        picked(subset("subset-missing", json!({"version": "3"}), json!({})), 2),
        picked(subset("subset-missing-any", json!({"version": "3"}), json!({"lb_subset_config": {"fallback_policy": "ANY_ENDPOINT"}})), 9),
        picked(subset("subset-missing-default", json!({"version": "3"}), json!({"lb_subset_config": {"fallback_policy": "DEFAULT_SUBSET", "default_subset": {"version": "1"}}})), 3),
        picked(subset("subset-missing-default-missing", json!({"version": "3"}), json!({"lb_subset_config": {"fallback_policy": "DEFAULT_SUBSET", "default_subset": {"version": "7"}}})), 2),
        picked(subset("subset-panic-mode-any", json!({"version": "3"}), json!({"lb_subset_config": {"fallback_policy": "DEFAULT_SUBSET", "default_subset": {"version": "7"}, "panic_mode_any": true}})), 9),
        picked(subset("subset-with-more-keys", json!({"version": "1", "stage": "prod"}), json!({})), 2),
        picked(subset("subset-of-another-kind", json!({"version": 1}), json!({})), 2),
        picked(subset("subset-keys-fallback", json!({"version": "2", "stage": "prod"}), json!({"lb_subset_config": {"subset_selectors": [
            {"keys": ["version"]}, {"keys": ["stage", "version"], "fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["version"]}]}})), 4),
        picked(subset("subset-selector-refuses", json!({"version": "3"}), json!({"lb_subset_config": {"fallback_policy": "ANY_ENDPOINT", "subset_selectors": [
            {"keys": ["version"], "fallback_policy": "NO_FALLBACK"}]}})), 2),
        picked(subset("subset-selector-any", json!({"version": "3"}), json!({"lb_subset_config": {"subset_selectors": [
            {"keys": ["version"], "fallback_policy": "ANY_ENDPOINT"}]}})), 9),
        picked(subset("subset-fallback-list", json!({"fallback_list": [{"version": "3"}, {"version": "2"}, {"version": "1"}]}), json!({"lb_subset_config": {"metadata_fallback_policy": "FALLBACK_LIST"}})), 4),
        picked(subset("subset-fallback-list-off", json!({"fallback_list": [{"version": "2"}]}), json!({})), 2),
        picked(localities(subset("subset-list-as-any", json!({"version": "2"}), json!({"lb_subset_config": {"list_as_any": true}})), json!([{"lb_endpoints": [
            endpoint("a", json!({"metadata": {"filter_metadata": {"envoy.lb": {"version": ["1", "2"]}}}})), labelled("b", "2"), labelled("c", "3")]}])), 4),
        picked(localities(subset("subset-unhealthy", json!({"version": "1"}), json!({"lb_subset_config": {"fallback_policy": "ANY_ENDPOINT"}, "common_lb_config": {"healthy_panic_threshold": {"value": 0}}})),
            json!([{"lb_endpoints": [
            endpoint("a", json!({"health_status": "UNHEALTHY", "metadata": {"filter_metadata": {"envoy.lb": {"version": "1"}}}})), labelled("b", "2")]}])), 2),
        picked(subset("subset-of-weighted-cluster", json!({"version": "1"}), json!({"lb_subset_config": {"subset_selectors": [{"keys": ["version"]}]}})).route(json!({"cluster": null,
            "weighted_clusters": {"clusters": [{"name": "subset-of-weighted-cluster", "weight": 1, "metadata_match": {"filter_metadata": {"envoy.lb": {"version": "2"}}}}]}})), 4),
        mapped(subset("subset-by-hash", json!({"version": "2"}), json!({"lb_policy": "RING_HASH"})).route(json!({"hash_policy": header.clone()})), by_user),
        drawn(localities(subset("subset-locality-weights", json!({"version": "1"}), json!({"lb_policy": "RANDOM", "lb_subset_config": {"locality_weight_aware": true}, "common_lb_config": {"locality_weighted_lb_config": {}}})), json!([
            {"locality": {"region": "one"}, "load_balancing_weight": 1, "lb_endpoints": [labelled("a", "1"), labelled("b", "2")]},
            {"locality": {"region": "two"}, "load_balancing_weight": 3, "lb_endpoints": [labelled("c", "1")]}]))),
        drawn(localities(subset("subset-locality-weights-scaled", json!({"version": "1"}), json!({"lb_policy": "RANDOM", "lb_subset_config": {"locality_weight_aware": true, "scale_locality_weight": true}, "common_lb_config": {"locality_weighted_lb_config": {}}})), json!([
            {"locality": {"region": "one"}, "load_balancing_weight": 4, "lb_endpoints": [labelled("a", "1"), labelled("b", "2")]},
            {"locality": {"region": "two"}, "load_balancing_weight": 2, "lb_endpoints": [labelled("c", "1")]}]))),
        // Circuit breakers that are closed from the start.
        Scenario::new("no-requests-allowed").cluster(json!({"circuit_breakers": {"thresholds": [{"max_pending_requests": 0}]}})),
        Scenario::new("high-priority-has-its-own").cluster(json!({"circuit_breakers": {"thresholds": [{"priority": "DEFAULT", "max_pending_requests": 0}, {"priority": "HIGH"}]}}))
            .route(json!({"priority": "HIGH"})),
        Scenario::new("overflow-headers-tracked").cluster(json!({"circuit_breakers": {"thresholds": [{"max_pending_requests": 0, "track_remaining": true}]}})),
        // Where the request says where it goes.
        Scenario::new("original-destination-by-header")
            .cluster(json!({"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "original_dst_lb_config": {"use_http_header": true}, "load_assignment": null}))
            .does(|run| {
                let address = crate::backend::shared().address("d");
                run.exchange(&format!("x-envoy-original-dst-host: {address}\r\n"))
            }),
        Scenario::new("original-destination-unknown")
            .cluster(json!({"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "original_dst_lb_config": {"use_http_header": true}, "load_assignment": null}))
            .sends(""),
        // Outlier detection.
        outlier("ejected-after-three", json!({"consecutive_5xx": 3, "max_ejection_percent": 100}), "503"),
        outlier("not-ejected-by-ten-percent", json!({"consecutive_5xx": 3}), "503"),
        outlier("gateway-failures", json!({"consecutive_gateway_failure": 2, "enforcing_consecutive_gateway_failure": 100, "consecutive_5xx": 100, "max_ejection_percent": 100}), "502"),
        outlier("gateway-failures-not-500", json!({"consecutive_gateway_failure": 2, "enforcing_consecutive_gateway_failure": 100, "consecutive_5xx": 100, "max_ejection_percent": 100}), "500"),
        outlier("enforcing-none", json!({"consecutive_5xx": 3, "enforcing_consecutive_5xx": 0, "max_ejection_percent": 100}), "503"),
        outlier("closed-connections-are-failures", json!({"consecutive_5xx": 3, "max_ejection_percent": 100}), "close"),
        outlier("local-origin-split", json!({"consecutive_5xx": 3, "split_external_local_origin_errors": true, "consecutive_local_origin_failure": 3, "max_ejection_percent": 100}), "close"),
        outlier("always-eject-one", json!({"consecutive_5xx": 3, "max_ejection_percent": 10, "always_eject_one_host": true}), "503"),
    ];
    Suite { name: "balancing", scenarios, filters: json!([]) }
}

/// One endpoint that fails each time: the statuses, and what the admin page says about it then.
fn outlier(id: &'static str, detection: Value, step: &'static str) -> Scenario {
    let mut all = json!({"interval": "600s", "base_ejection_time": "600s"});
    crate::scenario::merge(&mut all, detection);
    Scenario::new(id)
        .cluster(
            json!({"outlier_detection": all, "common_lb_config": {"healthy_panic_threshold": {"value": 0}}}),
        )
        .does(move |run| {
            let mut connection = run.connection()?;
            let mut answers = Vec::new();
            for _ in 0..6 {
                let answer = connection.send(&run.request(&format!("x-script: {step}\r\n")))?;
                let reason = if answer.body.starts_with("GET ") { String::new() } else { answer.body };
                answers.push(format!("{} {reason}", answer.status));
                // Ejections are decided beside the request: the next one comes after what this one decided.
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            let page = run.peer.admin("/clusters")?;
            let flags = page.lines().filter(|line| {
                line.starts_with(&format!("{}::", run.id)) && line.contains("::health_flags::")
            });
            let flags: Vec<&str> = flags.filter_map(|line| line.rsplit("::").next()).collect();
            let stats = run.peer.admin(&format!(
                "/stats?filter=cluster.{}.outlier_detection.ejections_(enforced_total|active|overflow)",
                run.id
            ))?;
            let mut stats: Vec<&str> = stats.lines().filter(|line| !line.ends_with(": 0")).collect();
            stats.sort_unstable();
            let mut observed = Observed::new();
            observed
                .exact("answers", answers.join("\n"))
                .exact("health flags", flags.join(" "))
                .exact("ejections", stats.join(", "));
            Ok(observed)
        })
}
