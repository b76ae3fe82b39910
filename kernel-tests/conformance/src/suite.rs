//! A suite: scenarios that share one pair of proxies, and the comparison of everything they left behind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ringsail_harness::config::{TYPE, bootstrap};
use ringsail_harness::peer::Peer;
use serde_json::{Value, json};

use crate::differences;
use crate::scenario::{Observed, Scenario, merge};

/// How many scenarios run at once: most of a scenario's time is waiting.
const CONCURRENT_SCENARIOS: usize = 8;
/// How long log lines and counters may take to settle; both proxies write their logs every 50 ms.
const SETTLE: Duration = Duration::from_secs(10);

/// What every scenario's log line says.
pub const LOG_FORMAT: &str = "%REQ(X-CASE)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %REQ(:METHOD)% \
    %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% %UPSTREAM_CLUSTER% %ROUTE_NAME% %BYTES_RECEIVED% \
    %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_TRANSPORT_FAILURE_REASON%\n";

/// The counters of each scenario's cluster that are compared. What depends on which connection was reused, or on when
/// a connection was closed, is not here.
pub(crate) const CLUSTER_STATS: &[&str] = &[
    "upstream_rq_total",
    "upstream_rq_completed",
    "upstream_rq_2xx",
    "upstream_rq_3xx",
    "upstream_rq_4xx",
    "upstream_rq_5xx",
    "upstream_rq_retry",
    "upstream_rq_retry_success",
    "upstream_rq_retry_limit_exceeded",
    "upstream_rq_retry_overflow",
    "upstream_rq_timeout",
    "upstream_rq_per_try_timeout",
    "upstream_rq_pending_overflow",
    "upstream_cx_connect_fail",
    "upstream_cx_none_healthy",
    "upstream_rq_max_duration_reached",
    "membership_total",
    "upstream_internal_redirect_succeeded_total",
    "upstream_internal_redirect_failed_total",
];

/// Scenarios about one area.
pub struct Suite {
    /// The area.
    pub name: &'static str,
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// HTTP filters before the router, for scenarios that name none themselves.
    pub filters: Value,
}

/// What became of one scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Both sides did the same.
    Agrees,
    /// They differ, as [`differences`] says they should.
    Differs,
    /// They differ and should not, or agree although listed; the text says how.
    Fails(String),
}

/// What became of a suite.
pub struct Outcome {
    /// Name of the suite.
    pub suite: &'static str,
    /// Verdict by scenario.
    pub verdicts: Vec<(String, Verdict)>,
    /// Scenarios that ringsail does not run yet.
    pub pending: Vec<(&'static str, &'static str)>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Outcome {
    /// The texts of the failures.
    pub fn failures(&self) -> Vec<String> {
        let failures = self.verdicts.iter().filter_map(|(id, verdict)| match verdict {
            Verdict::Fails(how) => Some(format!("{id}:\n  {how}")),
            Verdict::Agrees | Verdict::Differs => None,
        });
        failures.collect()
    }

    /// How many scenarios have this verdict.
    pub fn count(&self, verdict: &Verdict) -> usize {
        self.verdicts.iter().filter(|(_, of)| of == verdict).count()
    }
}

/// Which scenarios run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    /// Only those whose id, or whose suite's name, contains this.
    pub filter: Option<&'a str>,
    /// Also those that are pending.
    pub pending: bool,
}

impl Selection<'_> {
    /// Whether a scenario of `suite` runs.
    pub fn takes(&self, suite: &str, scenario: &Scenario) -> bool {
        self.names(suite, scenario.id) && (self.pending || differences::pending(scenario.id).is_none())
    }

    /// Whether the filter names a scenario.
    pub fn names(&self, suite: &str, id: &str) -> bool {
        self.filter.is_none_or(|filter| id.contains(filter) || suite.contains(filter))
    }
}

impl Suite {
    /// Runs the selected scenarios on both proxies; `None` when nothing is selected.
    pub fn run(&self, envoy: &Path, ringsail: &Path, selection: Selection<'_>) -> Result<Option<Outcome>> {
        let start = Instant::now();
        let mut chosen: Vec<&Scenario> =
            self.scenarios.iter().filter(|scenario| selection.takes(self.name, scenario)).collect();
        if chosen.is_empty() {
            return Ok(None);
        }
        let mut verdicts = Vec::new();
        let (mut template, mut listeners) = self.template(&chosen);
        let started = Peer::start("ringsail", ringsail, &template);
        let ringsail = match started {
            Ok(peer) => peer,
            Err(error) => {
                // One refused scenario must not hide the others.
                let refused = self.refused(ringsail, &chosen)?;
                if refused.is_empty() {
                    return Err(error.context(self.name));
                }
                chosen.retain(|scenario| !refused.iter().any(|(id, _)| *id == scenario.id));
                verdicts.extend(refused.into_iter().map(|(id, text)| (id.to_string(), Verdict::Fails(text))));
                (template, listeners) = self.template(&chosen);
                Peer::start("ringsail", ringsail, &template).with_context(|| self.name)?
            }
        };
        let envoy = Peer::start("envoy", envoy, &template).with_context(|| self.name)?;
        let (expected, found) = thread::scope(|scope| {
            let expected = scope.spawn(|| run_all(&envoy, &chosen, &listeners));
            let found = scope.spawn(|| run_all(&ringsail, &chosen, &listeners));
            (expected.join(), found.join())
        });
        let panicked = |_| anyhow::anyhow!("a scenario of {} panicked", self.name);
        let (mut expected, mut found) = (expected.map_err(panicked)?, found.map_err(panicked)?);
        settle(&envoy, &ringsail, &chosen, &mut expected, &mut found);
        let judged =
            chosen.iter().map(|scenario| (scenario.id.to_string(), judge(scenario.id, &expected, &found)));
        verdicts.extend(judged);
        let pending = self
            .scenarios
            .iter()
            .filter(|scenario| !selection.pending && selection.names(self.name, scenario.id))
            .filter_map(|scenario| Some((scenario.id, differences::pending(scenario.id)?)))
            .collect();
        Ok(Some(Outcome { suite: self.name, verdicts, pending, elapsed: start.elapsed() }))
    }

    /// Which of `chosen` ringsail refuses when it is configured alone, and what it says.
    fn refused(&self, ringsail: &Path, chosen: &[&Scenario]) -> Result<Vec<(&'static str, String)>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("bootstrap.json");
        let mut refused = Vec::new();
        for scenario in chosen {
            let (mut template, _) = self.template(&[scenario]);
            template["admin"]["address"]["socket_address"]["port_value"] = json!(0);
            std::fs::write(&path, template.to_string())?;
            let output = Command::new(ringsail).args(["--mode", "validate", "-c"]).arg(&path).output()?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                refused.push((scenario.id, format!("refused: {}", said.trim())));
            }
        }
        Ok(refused)
    }

    /// One bootstrap for `chosen`, and which of its listeners each scenario talks to.
    fn template(&self, chosen: &[&Scenario]) -> (Value, BTreeMap<&'static str, usize>) {
        let mut shared_routes: Vec<&Scenario> = Vec::new();
        let mut shared_hosts = Vec::new();
        let mut clusters = Vec::new();
        let mut listeners = vec![Value::Null];
        let mut of = BTreeMap::new();
        for scenario in chosen {
            clusters.extend(scenario.clusters.iter().cloned());
            let own_host = |fields: &Value| {
                let mut host = json!({"name": scenario.id, "domains": [format!("{}.example", scenario.id)],
                    "include_request_attempt_count": true, "routes": scenario.routes});
                merge(&mut host, fields.clone());
                host
            };
            match &scenario.manager {
                Some(fields) => {
                    let hosts = own_host(scenario.host.as_ref().unwrap_or(&json!({})));
                    let mut manager = self.manager(scenario.id, json!([hosts]));
                    merge(&mut manager, fields.clone());
                    of.insert(scenario.id, listeners.len());
                    let mut own = listener(scenario.id, manager);
                    merge(&mut own, scenario.listener.clone());
                    if let Some(filters) = own["filter_chains"][0]["filters"].as_array_mut() {
                        filters.splice(0..0, scenario.network_filters.iter().cloned());
                    }
                    listeners.push(own);
                }
                None => {
                    of.insert(scenario.id, 0);
                    match &scenario.host {
                        Some(fields) => shared_hosts.push(own_host(fields)),
                        None => shared_routes.push(scenario),
                    }
                }
            }
        }
        // One id may begin with another, and the first prefix that matches wins.
        shared_routes.sort_by_key(|scenario| std::cmp::Reverse(scenario.id.len()));
        let shared_routes: Vec<Value> =
            shared_routes.iter().flat_map(|scenario| scenario.routes.iter().cloned()).collect();
        shared_hosts.push(json!({"name": "any", "domains": ["*"], "include_request_attempt_count": true,
            "routes": shared_routes}));
        listeners[0] = listener("shared", self.manager("shared", Value::Array(shared_hosts)));
        let mut template = bootstrap(Value::Array(listeners), Value::Array(clusters));
        for fields in chosen.iter().filter_map(|scenario| scenario.bootstrap.as_ref()) {
            merge(&mut template, fields.clone());
        }
        (template, of)
    }

    fn manager(&self, name: &str, hosts: Value) -> Value {
        let mut filters = self.filters.as_array().cloned().unwrap_or_default();
        filters.push(filter("router", "router.v3.Router", json!({})));
        json!({
            "@type": format!("{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": name, "codec_type": "AUTO", "normalize_path": true, "stream_idle_timeout": "0s",
            "use_remote_address": false,
            "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
                "@type": format!("{TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog"), "path": "ACCESS_LOG",
                "log_format": {"text_format_source": {"inline_string": LOG_FORMAT}}}}],
            "http_filters": filters,
            "route_config": {"name": name, "validate_clusters": false, "virtual_hosts": hosts}
        })
    }
}

/// An HTTP filter `envoy.filters.http.NAME` of type `envoy.extensions.filters.http.MESSAGE`.
pub fn filter(name: &str, message: &str, fields: Value) -> Value {
    json!({"name": format!("envoy.filters.http.{name}"), "typed_config": filter_config(message, fields)})
}

/// The `typed_config` of an HTTP filter, as a route's `typed_per_filter_config` also wants it.
pub fn filter_config(message: &str, fields: Value) -> Value {
    let mut config = json!({"@type": format!("{TYPE}envoy.extensions.filters.http.{message}")});
    merge(&mut config, fields);
    config
}

fn listener(name: &str, manager: Value) -> Value {
    json!({"name": name, "traffic_direction": "OUTBOUND",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]})
}

/// Results by scenario; a script that fails is a result too.
type Results = BTreeMap<&'static str, Observed>;

fn run_all(peer: &Peer, chosen: &[&Scenario], listeners: &BTreeMap<&'static str, usize>) -> Results {
    let mut results = Results::new();
    for group in chosen.chunks(CONCURRENT_SCENARIOS) {
        thread::scope(|scope| {
            let running: Vec<_> = group
                .iter()
                .map(|scenario| {
                    let address: SocketAddr = peer.address(listeners[scenario.id]);
                    (scenario.id, scope.spawn(move || scenario.run(peer, address)))
                })
                .collect();
            for (id, handle) in running {
                let observed = handle.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the script panicked")));
                let observed = observed.unwrap_or_else(|error| {
                    let mut observed = Observed::new();
                    observed.exact("script", format!("{error:#}"));
                    observed
                });
                results.insert(id, observed);
            }
        });
    }
    results
}

/// Adds log lines and counters to the results, once they agree or can be expected to be complete.
fn settle(envoy: &Peer, ringsail: &Peer, chosen: &[&Scenario], expected: &mut Results, found: &mut Results) {
    let deadline = Instant::now() + SETTLE;
    loop {
        let (theirs, ours) = (left_behind(envoy, chosen), left_behind(ringsail, chosen));
        let agree = |id: &&str| theirs.get(*id) == ours.get(*id) || differences::reason(id).is_some();
        if chosen.iter().all(|scenario| agree(&scenario.id)) || Instant::now() > deadline {
            for (results, traces) in [(expected, theirs), (found, ours)] {
                for (id, observed) in results.iter_mut() {
                    for (name, value) in traces.get(id).into_iter().flatten() {
                        observed.exact(name, value);
                    }
                }
            }
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The log lines and counters of each scenario.
fn left_behind(peer: &Peer, chosen: &[&Scenario]) -> BTreeMap<&'static str, Vec<(&'static str, String)>> {
    let log = peer.access_log();
    let page = peer.admin("/stats").unwrap_or_default();
    let stats = stats(&page);
    let traces = chosen.iter().filter(|scenario| !scenario.by_chance).map(|scenario| {
        let lines: Vec<&str> = log
            .iter()
            .filter_map(|line| line.split_once(' '))
            .filter(|(id, _)| *id == scenario.id)
            .map(|(_, rest)| rest)
            .collect();
        let counters: Vec<String> = CLUSTER_STATS
            .iter()
            .map(|name| (name, format!("cluster.{}.{name}", scenario.id)))
            .filter_map(|(name, key)| Some(format!("{name} {}", stats.get(key.as_str())?)))
            .filter(|line| !line.ends_with(" 0"))
            .collect();
        (scenario.id, vec![("log", lines.join("\n")), ("stats", counters.join(", "))])
    });
    traces.collect()
}

/// Names and values of the admin page `/stats`.
pub fn stats(page: &str) -> BTreeMap<&str, &str> {
    page.lines().filter_map(|line| line.split_once(": ")).collect()
}

fn judge(id: &'static str, expected: &Results, found: &Results) -> Verdict {
    let (Some(expected), Some(found)) = (expected.get(id), found.get(id)) else {
        return Verdict::Fails("did not run on both".to_string());
    };
    match (expected.difference(found), differences::reason(id)) {
        (None, None) => Verdict::Agrees,
        (Some(_), Some(_)) => Verdict::Differs,
        (None, Some(reason)) => Verdict::Fails(format!("agrees, yet listed as different ({reason})")),
        (Some(how), None) => Verdict::Fails(how),
    }
}
