//! All paths in one table: what answers, and what `/help` says.

use std::fmt::Write as _;

use http::StatusCode;
use ringsail_tables::cluster::ClusterRef;
use ringsail_tables::endpoint::Health;
use ringsail_tables::live::{HealthFlags, Resource};
use ringsail_telemetry::render::{self, Breaker, Buckets, Kinds, Membership, Selection};
use serde_json::{Map, Value, json};

use super::{Admin, Page, Query, certs, clusters, config_dump, listeners, server_info};
use crate::options::LogLevel;
use crate::process::Drain;
use crate::state::Phase;

pub(super) struct Endpoint {
    pub(super) path: &'static str,
    /// Changes something: GET is refused.
    pub(super) post: bool,
    help: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    pub(super) page: fn(&Admin, &Query) -> Page,
}

const fn get(path: &'static str, help: &'static str, page: fn(&Admin, &Query) -> Page) -> Endpoint {
    Endpoint { path, post: false, help, parameters: &[], page }
}

const fn post(path: &'static str, help: &'static str, page: fn(&Admin, &Query) -> Page) -> Endpoint {
    Endpoint { path, post: true, help, parameters: &[], page }
}

const fn with(endpoint: Endpoint, parameters: &'static [(&'static str, &'static str)]) -> Endpoint {
    Endpoint { parameters, ..endpoint }
}

/// Sorted by path, as Envoy's help is.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/", "Admin home page", home),
    get("/certs", "print certs on machine", certs::page),
    with(
        get("/clusters", "upstream cluster status", clusters::page),
        &[
            ("filter", "Regular expression for filtering clusters by name"),
            ("format", "File format to use; One of (text, json)"),
        ],
    ),
    with(
        get("/config_dump", "dump current configuration", config_dump::page),
        &[
            ("resource", "The resource to dump"),
            ("mask", "Field paths to show, comma-separated; with resource they are of each element"),
            ("name_regex", "Dump only the configurations whose names match the specified regex"),
            ("include_eds", "Dump endpoints as well"),
        ],
    ),
    get("/contention", "mutex contention: there are no contended locks to measure", |_, _| {
        Page::ok(
            "Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing.",
        )
    }),
    with(
        post("/drain_listeners", "drain listeners", drain_listeners),
        &[
            ("graceful", "Ask connections to close and go on accepting for the drain time"),
            ("skip_exit", "Ask connections to close and never stop accepting"),
            ("inboundonly", "Only listeners of traffic direction INBOUND"),
        ],
    ),
    post("/healthcheck/fail", "cause the server to fail health checks", |admin, _| {
        fail_health_checks(admin, true)
    }),
    post("/healthcheck/ok", "cause the server to pass health checks", |admin, _| {
        fail_health_checks(admin, false)
    }),
    get("/help", "print out list of admin commands", |_, _| Page::ok(help())),
    get("/hot_restart_version", "print the hot restart compatibility version", |_, _| Page::ok("disabled")),
    get("/init_dump", "print what is waited for", init_dump),
    with(
        get("/listeners", "print listener info", listeners::page),
        &[("format", "File format to use; One of (text, json)")],
    ),
    with(
        post("/logging", "query/change logging levels", logging),
        &[
            ("paths", "Change several levels: <component>:<level>,<component>:<level>"),
            ("level", "Change all levels; One of (trace, debug, info, warning, error, critical, off)"),
        ],
    ),
    get("/memory", "print current allocation/heap usage", server_info::memory),
    post("/quitquitquit", "exit the server", |admin, _| {
        admin.process.quit();
        Page::ok("OK\n")
    }),
    get("/ready", "print server state, return 200 if LIVE, otherwise return 503", ready),
    post("/reopen_logs", "reopen access logs", |admin, _| {
        admin.process.reopen_logs();
        Page::ok("OK\n")
    }),
    post("/reset_counters", "reset all counters to zero", |admin, _| {
        admin.stats.reset_counters();
        Page::ok("OK\n")
    }),
    get("/runtime", "print runtime values", runtime),
    get("/server_info", "print server version/status information", server_info::page),
    with(
        get("/stats", "print server stats", stats),
        &[
            ("usedonly", "Only include stats that have been written since start"),
            ("filter", "Regular expression for filtering stats"),
            ("format", "Format to use; One of (text, json, prometheus)"),
            ("type", "Kinds to show; One of (All, Counters, Gauges, Histograms, TextReadouts)"),
            ("histogram_buckets", "How histograms are shown; One of (cumulative, disjoint, summary)"),
        ],
    ),
    get("/stats/recentlookups", "say that names of statistics are not looked up", |_, _| {
        // Statistics are found once, when their cluster or listener is made.
        Page::ok("Lookup tracking is not enabled. Names of statistics are not looked up here.\n\ntotal: 0\n")
    }),
    with(
        get("/stats/prometheus", "print server stats in prometheus format", |admin, query| {
            stats_as(admin, query, "prometheus")
        }),
        &[
            ("usedonly", "Only include stats that have been written since start"),
            ("filter", "Regular expression for filtering stats"),
        ],
    ),
];

/// The text of `/help`.
pub(super) fn help() -> String {
    let mut text = String::from("admin commands are:\n");
    for endpoint in ENDPOINTS {
        let method = if endpoint.post { " (POST)" } else { "" };
        let _ = writeln!(text, "  {}{method}: {}", endpoint.path, endpoint.help);
        for (name, help) in endpoint.parameters {
            let _ = writeln!(text, "      {name}: {help}");
        }
    }
    text
}

fn home(admin: &Admin, _: &Query) -> Page {
    let engine = admin.process.engine();
    let mut rows = String::new();
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.path != "/") {
        let name = &endpoint.path[1..];
        let action = if endpoint.post {
            format!("<form action='{name}' method='post'><button>{name}</button></form>")
        } else {
            format!("<a href='{name}'>{name}</a>")
        };
        let _ = writeln!(rows, "<tr><td>{action}</td><td>{}</td></tr>", endpoint.help);
    }
    Page::html(format!(
        "<!DOCTYPE html>\n<html lang='en'>\n<head><title>ringsail-proxy admin</title></head>\n<body>\n\
         <p>ringsail-proxy {}, engine {} ({})</p>\n<table>\n{rows}</table>\n</body>\n</html>\n",
        crate::VERSION,
        escape(&engine.name),
        escape(&engine.reason),
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn ready(admin: &Admin, _: &Query) -> Page {
    let state = admin.state.borrow();
    let (status, name) = match state.phase {
        _ if state.draining => (StatusCode::SERVICE_UNAVAILABLE, "DRAINING"),
        Phase::Live => (StatusCode::OK, "LIVE"),
        phase => (StatusCode::SERVICE_UNAVAILABLE, phase.name()),
    };
    Page::text(status, format!("{name}\n"))
}

fn fail_health_checks(admin: &Admin, fail: bool) -> Page {
    admin.state.borrow_mut().draining = fail;
    admin.process.fail_health_checks(fail);
    Page::ok("OK\n")
}

/// Source: behavior by query in Envoy's `/drain_listeners`; the proxy does the draining.
fn drain_listeners(admin: &Admin, query: &Query) -> Page {
    let drain = Drain {
        inbound_only: query.has("inboundonly"),
        graceful: query.has("graceful"),
        skip_exit: query.has("skip_exit"),
    };
    if drain.skip_exit && !drain.graceful {
        return Page::text(StatusCode::BAD_REQUEST, "skip_exit requires graceful\n".to_string());
    }
    admin.process.drain_listeners(drain);
    Page::ok("OK\n")
}

fn logging(admin: &Admin, query: &Query) -> Page {
    let refused = |text: String| Page::text(StatusCode::BAD_REQUEST, text);
    let mut wanted: Vec<(Option<String>, String)> = Vec::new();
    for (key, value) in query.pairs() {
        match key {
            "level" => wanted.push((None, value.to_string())),
            "paths" => {
                for pair in value.split(',').filter(|pair| !pair.is_empty()) {
                    let Some((name, level)) = pair.split_once(':') else {
                        return refused("error: empty logger name or empty logger level\n".to_string());
                    };
                    wanted.push((Some(name.to_string()), level.to_string()));
                }
            }
            name => wanted.push((Some(name.to_string()), value.to_string())),
        }
    }
    for (name, level) in wanted {
        let Some(level) = LogLevel::from_name(&level) else {
            return refused("error: unknown logger level\n".to_string());
        };
        if !admin.process.set_log_level(name.as_deref(), level) {
            return refused("error: unknown logger name\n".to_string());
        }
    }
    let mut text = String::from("active loggers:\n");
    for (name, level) in admin.process.log_levels() {
        let _ = writeln!(text, "  {name}: {}", level.name());
    }
    text.push('\n');
    Page::ok(text)
}

fn runtime(admin: &Admin, _: &Query) -> Page {
    let layers = &admin.bootstrap.runtime_layers;
    let mut entries = Map::new();
    for (key, value) in &admin.bootstrap.runtime {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        // All values are of static layers; which of them had the last word is not kept.
        let mut by_layer = vec![json!(""); layers.len()];
        if let Some(last) = by_layer.last_mut() {
            *last = json!(text);
        }
        entries.insert(key.clone(), json!({"final_value": text, "layer_values": by_layer}));
    }
    Page::json(&json!({"entries": entries, "layers": layers}))
}

fn init_dump(admin: &Admin, _: &Query) -> Page {
    let state = admin.state.borrow();
    let dumps: Vec<Value> = state
        .warming
        .iter()
        .map(
            |(kind, name)| json!({"name": format!("{} {name}", kind.message_name()), "target_names": [name]}),
        )
        .collect();
    Page::json(&json!({"unready_targets_dumps": dumps}))
}

fn stats(admin: &Admin, query: &Query) -> Page {
    match query.get("format") {
        None | Some("" | "text" | "html" | "active-html") => stats_as(admin, query, "text"),
        Some("json") => stats_as(admin, query, "json"),
        Some("prometheus") => stats_as(admin, query, "prometheus"),
        Some(_) => Page::text(
            StatusCode::BAD_REQUEST,
            "usage: /stats?format=(html|active-html|text|json|prometheus)\n\n".to_string(),
        ),
    }
}

/// What is left of a cluster's limits, for its circuit-breaker gauges.
fn breakers(one: &ClusterRef<'_>) -> [Breaker; 4] {
    let limits = one.live.limits().get();
    [Resource::Connections, Resource::Pending, Resource::Requests, Resource::Retries].map(|resource| {
        let Some(pool) = limits.and_then(|limits| limits.pool(resource, false)) else {
            return Breaker::default();
        };
        let left = pool.left();
        let shown = one.cluster.breakers.track_remaining;
        Breaker { open: left == 0, remaining: if shown { left.into() } else { 0 } }
    })
}

/// Endpoints of a cluster, for its membership gauges.
fn membership<'t>(one: &ClusterRef<'t>) -> Membership<'t> {
    let mut membership = Membership {
        cluster: one.cluster.stat_name(),
        total: one.live.destinations().into(),
        healthy: one.live.destinations().into(),
        degraded: 0,
        limits: breakers(one),
    };
    for (_, _, endpoint) in one.endpoints.iter() {
        let flags = one.live.used_host(endpoint.id).map(|live| live.flags()).unwrap_or_default();
        membership.total += 1;
        match endpoint.health {
            Health::Healthy | Health::Degraded if flags.is_unhealthy() => {}
            Health::Degraded => membership.degraded += 1,
            Health::Healthy if flags.any(HealthFlags::DEGRADED_ACTIVE_CHECK) => membership.degraded += 1,
            Health::Healthy => membership.healthy += 1,
            Health::Unhealthy | Health::Draining => {}
        }
    }
    membership
}

fn stats_as(admin: &Admin, query: &Query, format: &str) -> Page {
    let filter = match query.regex("filter") {
        Ok(filter) => filter,
        Err(page) => return page,
    };
    server_info::refresh(admin);
    let shown = &admin.bootstrap.shown;
    let matches =
        |name: &str| filter.as_ref().is_none_or(|filter| filter.is_match(name)) && shown.contains(name);
    let tables = admin.state.borrow().tables.clone();
    let memberships: Vec<Membership<'_>> = tables.clusters().map(|one| membership(&one)).collect();
    let selection = Selection {
        used_only: query.has("usedonly"),
        kinds: match query.get("type") {
            None | Some("All") => Kinds::All,
            Some("Counters") => Kinds::Counters,
            Some("Gauges") => Kinds::Gauges,
            Some("Histograms") => Kinds::Histograms,
            // There are none here.
            Some("TextReadouts") => Kinds::Nothing,
            Some(_) => {
                return Page::text(StatusCode::BAD_REQUEST, "invalid &type= param".to_owned());
            }
        },
        buckets: match query.get("histogram_buckets") {
            None | Some("summary") => Buckets::Summary,
            Some("cumulative") => Buckets::Cumulative,
            Some("disjoint") => Buckets::Disjoint,
            Some(_) => {
                let usage = "usage: /stats?histogram_buckets=(cumulative|disjoint|summary)\n\n";
                return Page::text(StatusCode::BAD_REQUEST, usage.to_owned());
            }
        },
        filter: (filter.is_some() || !shown.is_all()).then_some(&matches),
        memberships: &memberships,
    };
    let mut out = String::new();
    match format {
        "json" => render::json(&admin.stats, selection, &mut out),
        "prometheus" => {
            render::prometheus(&admin.stats, selection, &mut out);
            engine_info(admin, &matches, &mut out);
        }
        _ => render::text(&admin.stats, selection, &mut out),
    }
    if format == "json" {
        return Page { content_type: "application/json", ..Page::ok(out) };
    }
    Page::ok(out)
}

/// The engine's name as a label, which a number cannot say.
fn engine_info(admin: &Admin, matches: &dyn Fn(&str) -> bool, out: &mut String) {
    const NAME: &str = "ringsail_engine_info";
    if matches(NAME) {
        let engine = admin.process.engine();
        let _ = writeln!(
            out,
            "# HELP {NAME} What carries the shards.\n# TYPE {NAME} gauge\n{NAME}{{engine=\"{}\"}} 1",
            engine.name
        );
    }
}
