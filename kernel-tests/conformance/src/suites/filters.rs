//! HTTP filters: fault injection, mirroring, CORS.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http2_upstream;
use crate::scenario::{Observed, Scenario, cluster, merge};
use crate::suite::{Suite, filter, filter_config};

/// How many requests a scenario about shares sends.
const DRAWS: usize = 600;
/// A fault's delay, well above what a busy machine adds.
const DELAY: Duration = Duration::from_millis(400);

/// A field whose echo takes most of a second at 1 KiB a second.
const LONG: &str = concat!(
    "x-long: ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\r\n"
);
/// The same, and the rate.
const LONG_WITH_RATE: &str = concat!(
    "x-envoy-fault-throughput-response: 1\r\nx-long: ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\r\n"
);

fn fault(id: &'static str, fault: Value) -> Scenario {
    Scenario::new(id).entry(json!({"typed_per_filter_config": {"envoy.filters.http.fault": filter_config("fault.v3.HTTPFault", fault)}}))
}

fn delayed(id: &'static str, config: Value, fields: &'static str) -> Scenario {
    fault(id, config).does(move |run| {
        let start = Instant::now();
        let mut connection = run.connection()?;
        let answer = connection.send(&run.request(fields))?;
        let elapsed = start.elapsed();
        let mut observed = Observed::new();
        observed.answer("answer", run, &answer).timing(elapsed, DELAY);
        Ok(observed)
    })
}

fn statuses(scenario: Scenario) -> Scenario {
    scenario.by_chance().does(|run| {
        let answers = run.many(DRAWS, |_| String::new())?;
        let mut observed = Observed::new();
        observed.drawn("statuses", answers.iter().map(|answer| answer.status.to_string()));
        Ok(observed)
    })
}

fn cors(id: &'static str, policy: Value, method: &'static str, fields: &'static str) -> Scenario {
    Scenario::new(id)
        .entry(json!({"typed_per_filter_config": {"envoy.filters.http.cors": filter_config("cors.v3.CorsPolicy", policy)}}))
        .does(move |run| run.raw(run.request_of(method, &format!("/{}", run.id), fields)))
}

/// Mirrors to clusters `ID-1`, `ID-2`…; waits until `mirrored` more requests than one have reached a backend.
fn mirror(id: &'static str, policies: Value, mirrored: usize, fields: &'static str) -> Scenario {
    let name = |number: u8| format!("{id}-{number}");
    Scenario::new(id)
        .route(json!({"request_mirror_policies": policies}))
        .and_cluster(cluster(&name(1), &["b"]))
        .and_cluster(cluster(&name(2), &["c"]))
        .and_cluster(cluster(&name(3), &["refused"]))
        .does(move |run| {
            let mut connection = run.connection()?;
            let answer = connection.send(&run.request(fields))?;
            let mut seen: Vec<String> = run
                .wait_for_requests(1 + mirrored)?
                .iter()
                .map(|seen| format!("{} {} {} [{}]", seen.backend, seen.start, seen.host, seen.step))
                .collect();
            seen.sort();
            let mut observed = Observed::new();
            observed.answer("answer", run, &answer).exact("seen", seen.join("\n"));
            Ok(observed)
        })
}

/// Mirrors a request with a body, framed as `framing` says, to backend `backend`.
fn mirror_body(
    id: &'static str,
    backend: &'static str,
    framing: &'static str,
    body: &'static str,
) -> Scenario {
    let copies: &'static str = format!("{id}-copies").leak();
    let mut mirror = cluster(copies, &[backend]);
    if backend.starts_with('h') {
        merge(&mut mirror, http2_upstream());
    }
    Scenario::new(id)
        .route(json!({"request_mirror_policies": [{"cluster": copies}]}))
        .and_cluster(mirror)
        .does(move |run| {
            let observed = run.raw(run.request_of("POST", &format!("/{id}"), framing) + body)?;
            run.wait_for_requests(2)?;
            Ok(observed.without("attempts"))
        })
}

/// Mirrors a share of many requests; which ones is drawn.
fn mirror_share(id: &'static str, numerator: u32) -> Scenario {
    let copies: &'static str = format!("{id}-copies").leak();
    let policy = json!({"cluster": copies, "runtime_fraction": {"default_value": {"numerator": numerator}}});
    Scenario::new(id)
        .route(json!({"request_mirror_policies": [policy]}))
        .and_cluster(cluster(copies, &["b"]))
        .by_chance()
        .does(|run| {
            run.many(DRAWS, |_| String::new())?;
            let mut seen = run.wait_for_requests(DRAWS)?;
            // Copies go their own way: they are all here when none has come for a while.
            loop {
                std::thread::sleep(DELAY);
                let now = run.seen();
                if now.len() == seen.len() {
                    break;
                }
                seen = now;
            }
            let mut observed = Observed::new();
            observed.drawn("backends", seen.iter().map(|seen| seen.backend));
            Ok(observed)
        })
}

/// The suite.
pub fn suite() -> Suite {
    let percent = |numerator: u32| json!({"numerator": numerator, "denominator": "HUNDRED"});
    let abort = |percentage: Value| json!({"abort": {"http_status": 503, "percentage": percentage}});
    let delay = |percentage: Value| json!({"delay": {"fixed_delay": "0.4s", "percentage": percentage}});
    let rate = |percentage: Value| json!({"response_rate_limit": {"fixed_limit": {"limit_kbps": 1}, "percentage": percentage}});
    let origin = |text: &str| json!([{"exact": text}]);
    let preflight = "origin: https://a.example\r\naccess-control-request-method: GET\r\n";
    let scenarios = vec![
        // Faults.
        fault("fault-abort-always", abort(percent(100))),
        fault("fault-abort-never", abort(percent(0))),
        statuses(fault("fault-abort-half", abort(percent(50)))),
        statuses(fault(
            "fault-abort-per-ten-thousand",
            abort(json!({"numerator": 1_000, "denominator": "TEN_THOUSAND"})),
        )),
        fault("fault-abort-grpc", json!({"abort": {"grpc_status": 14, "percentage": percent(100)}}))
            .sends("content-type: application/grpc\r\n"),
        fault("fault-abort-grpc-plain", json!({"abort": {"grpc_status": 14, "percentage": percent(100)}})),
        fault("fault-abort-to-grpc", abort(percent(100))).sends("content-type: application/grpc\r\n"),
        fault("fault-abort-by-header", json!({"abort": {"header_abort": {}, "percentage": percent(100)}}))
            .sends("x-envoy-fault-abort-request: 501\r\n"),
        fault(
            "fault-abort-by-header-absent",
            json!({"abort": {"header_abort": {}, "percentage": percent(100)}}),
        ),
        fault(
            "fault-abort-header-percentage",
            json!({"abort": {"header_abort": {}, "percentage": percent(100)}}),
        )
        .sends("x-envoy-fault-abort-request: 501\r\nx-envoy-fault-abort-request-percentage: 0\r\n"),
        fault(
            "fault-for-some-requests",
            json!({"abort": {"http_status": 503, "percentage": percent(100)},
            "headers": [{"name": "x-victim", "string_match": {"exact": "yes"}}]}),
        )
        .sends("x-victim: yes\r\n"),
        fault(
            "fault-for-other-requests",
            json!({"abort": {"http_status": 503, "percentage": percent(100)},
            "headers": [{"name": "x-victim", "string_match": {"exact": "yes"}}]}),
        ),
        fault(
            "fault-for-a-cluster",
            json!({"abort": {"http_status": 503, "percentage": percent(100)}, "upstream_cluster": "fault-for-a-cluster"}),
        ),
        fault(
            "fault-for-another-cluster",
            json!({"abort": {"http_status": 503, "percentage": percent(100)}, "upstream_cluster": "other"}),
        ),
        delayed("fault-delay", delay(percent(100)), ""),
        delayed("fault-delay-never", delay(percent(0)), ""),
        delayed(
            "fault-delay-by-header",
            json!({"delay": {"header_delay": {}, "percentage": percent(100)}}),
            "x-envoy-fault-delay-request: 400\r\n",
        ),
        delayed(
            "fault-delay-and-abort",
            json!({"delay": {"fixed_delay": "0.4s", "percentage": percent(100)}, "abort": {"http_status": 503, "percentage": percent(100)}}),
            "",
        ),
        delayed("fault-delay-is-not-in-the-timeout", delay(percent(100)), "")
            .route(json!({"timeout": "0.3s"})),
        delayed("fault-response-rate", rate(percent(100)), LONG),
        delayed("fault-response-rate-never", rate(percent(0)), LONG),
        delayed(
            "fault-response-rate-by-header",
            json!({"response_rate_limit": {"header_limit": {}, "percentage": percent(100)}}),
            LONG_WITH_RATE,
        ),
        // CORS.
        cors(
            "cors-preflight",
            json!({"allow_origin_string_match": origin("https://a.example"), "allow_methods": "GET,POST", "allow_headers": "x-a", "expose_headers": "x-b", "max_age": "600", "allow_credentials": true}),
            "OPTIONS",
            preflight,
        ),
        cors(
            "cors-preflight-bare",
            json!({"allow_origin_string_match": origin("https://a.example")}),
            "OPTIONS",
            preflight,
        ),
        cors(
            "cors-preflight-other-origin",
            json!({"allow_origin_string_match": origin("https://b.example"), "allow_methods": "GET"}),
            "OPTIONS",
            preflight,
        ),
        cors(
            "cors-preflight-without-method",
            json!({"allow_origin_string_match": origin("https://a.example"), "allow_methods": "GET"}),
            "OPTIONS",
            "origin: https://a.example\r\n",
        ),
        cors(
            "cors-simple",
            json!({"allow_origin_string_match": origin("https://a.example"), "expose_headers": "x-b", "allow_credentials": true}),
            "GET",
            "origin: https://a.example\r\n",
        ),
        cors(
            "cors-simple-other-origin",
            json!({"allow_origin_string_match": origin("https://b.example"), "expose_headers": "x-b"}),
            "GET",
            "origin: https://a.example\r\n",
        ),
        cors(
            "cors-without-origin",
            json!({"allow_origin_string_match": origin("https://a.example")}),
            "GET",
            "",
        ),
        cors(
            "cors-regex-origin",
            json!({"allow_origin_string_match": [{"safe_regex": {"regex": "https://.*\\.example"}}]}),
            "GET",
            "origin: https://sub.a.example\r\n",
        ),
        cors(
            "cors-prefix-origin",
            json!({"allow_origin_string_match": [{"prefix": "https://a"}]}),
            "GET",
            "origin: https://a.example\r\n",
        ),
        cors(
            "cors-star",
            json!({"allow_origin_string_match": origin("*")}),
            "GET",
            "origin: https://a.example\r\n",
        ),
        cors(
            "cors-off",
            json!({"allow_origin_string_match": origin("https://a.example"), "filter_enabled": {"default_value": {"numerator": 0}}}),
            "OPTIONS",
            preflight,
        ),
        cors(
            "cors-local-network",
            json!({"allow_origin_string_match": origin("https://a.example"), "allow_private_network_access": true}),
            "OPTIONS",
            "origin: https://a.example\r\naccess-control-request-method: GET\r\naccess-control-request-private-network: true\r\n",
        ),
        cors(
            "cors-unmatched-not-forwarded",
            json!({"allow_origin_string_match": origin("https://b.example"), "forward_not_matching_preflights": false}),
            "OPTIONS",
            preflight,
        ),
        // Mirrors.
        mirror("mirror-all", json!([{"cluster": "mirror-all-1"}]), 1, ""),
        mirror("mirror-two", json!([{"cluster": "mirror-two-1"}, {"cluster": "mirror-two-2"}]), 2, ""),
        mirror(
            "mirror-never",
            json!([{"cluster": "mirror-never-1", "runtime_fraction": {"default_value": {"numerator": 0}}}]),
            0,
            "",
        ),
        mirror(
            "mirror-always-by-fraction",
            json!([{"cluster": "mirror-always-by-fraction-1", "runtime_fraction": {"default_value": {"numerator": 100}}}]),
            1,
            "",
        ),
        mirror_body("mirror-body", "b", "content-length: 5\r\n", "hello"),
        mirror_body("mirror-chunks", "b", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        mirror_body("mirror-body-to-http2", "ha", "content-length: 5\r\n", "hello"),
        mirror_share("mirror-third", 33),
        mirror("mirror-to-nobody", json!([{"cluster": "mirror-to-nobody-3"}]), 0, ""),
        mirror(
            "mirror-host-as-it-is",
            json!([{"cluster": "mirror-host-as-it-is-1", "disable_shadow_host_suffix_append": true}]),
            1,
            "",
        ),
    ];
    let filters =
        json!([filter("fault", "fault.v3.HTTPFault", json!({})), filter("cors", "cors.v3.Cors", json!({})),]);
    Suite { name: "filters", scenarios, filters }
}
