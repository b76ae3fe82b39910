//! Active checks of endpoints. The backends do what a check's own `x-script` says, and answer with the request, so that
//! an expected answer also shows what was asked.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::http2_upstream;
use crate::scenario::{Observed, Run, Scenario, merge};
use crate::suite::Suite;

/// How long a proxy may take to find out.
const PATIENCE: Duration = Duration::from_secs(20);

/// The suite.
pub fn suite() -> Suite {
    let scripted = |script: &str| json!([{"header": {"key": "x-script", "value": script}}]);
    let with = |script: &str| json!({"path": "/check", "request_headers_to_add": scripted(script)});
    let answers = |id, script| http(id, with(script));
    let silent = |id, script| checked(id, json!({"timeout": "0.2s", "http_health_check": with(script)}));
    let says = |id, text: &str, fields: Value| {
        let mut check =
            json!({"path": "/check", "receive": [{"text": hex(text)}], "response_buffer_size": 4096});
        merge(&mut check, fields);
        http(id, check)
    };
    let http2 = |id, check: Value| {
        let mut all = json!({"path": "/check", "codec_client_type": "HTTP2"});
        merge(&mut all, check);
        http(id, all).backends(&["ha"]).cluster(http2_upstream())
    };
    let grpc = |id, check: Value| {
        checked(id, json!({"grpc_health_check": check})).backends(&["ha"]).cluster(http2_upstream())
    };
    let metadata =
        |name: &str, value: &str| json!({"initial_metadata": [{"header": {"key": name, "value": value}}]});
    let tcp = |id, check: Value| checked(id, json!({"tcp_health_check": check}));
    let scenarios = vec![
        answers("checked-200", "200"),
        answers("checked-503", "503"),
        answers("checked-204", "204"),
        answers("checked-closed", "close"),
        http(
            "checked-expected",
            merged(with("418"), json!({"expected_statuses": [{"start": 418, "end": 419}]})),
        ),
        http(
            "checked-200-not-expected",
            merged(with("200"), json!({"expected_statuses": [{"start": 418, "end": 419}]})),
        ),
        http(
            "checked-retriable",
            merged(with("500"), json!({"retriable_statuses": [{"start": 500, "end": 501}]})),
        ),
        answers("checked-degraded", "200 x-envoy-degraded=1"),
        answers("checked-degraded-503", "503 x-envoy-degraded=1"),
        answers("checked-fail-at-once", "503 x-envoy-immediate-health-check-fail=true"),
        answers("checked-fail-at-once-200", "200 x-envoy-immediate-health-check-fail=true"),
        silent("checked-silent", "hang"),
        silent("checked-half-answer", "head-only"),
        // What is asked.
        says("checked-authority", "host: checked-authority\r\n", json!({})),
        says("checked-host", "host: h.example\r\n", json!({"host": "h.example"})),
        says("checked-user-agent", "user-agent: Envoy/HC\r\n", json!({})),
        says("checked-method", "HEAD /check HTTP/1.1", json!({"method": "HEAD"})),
        says("checked-options", "OPTIONS /check HTTP/1.1", json!({"method": "OPTIONS"})),
        says(
            "checked-header-added",
            "x-a: 1\r\n",
            json!({"request_headers_to_add": [{"header": {"key": "x-a", "value": "1"}}]}),
        ),
        says("checked-header-removed", "user-agent", json!({"request_headers_to_remove": ["user-agent"]})),
        says(
            "checked-header-replaced",
            "user-agent: me\r\n",
            json!({"request_headers_to_add":
            [{"header": {"key": "user-agent", "value": "me"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}),
        ),
        says(
            "checked-with-body",
            "content-length: 4\r\n\r\nping",
            json!({"method": "POST", "send": {"text": hex("ping")}}),
        ),
        // What is in the answer.
        says("checked-text-missing", "nowhere", json!({})),
        http(
            "checked-texts-in-order",
            json!({"path": "/check", "receive": [{"text": hex("GET")}, {"text": hex("HTTP/1.1")}]}),
        ),
        http(
            "checked-texts-out-of-order",
            json!({"path": "/check", "receive": [{"text": hex("HTTP/1.1")}, {"text": hex("GET")}]}),
        ),
        says("checked-beyond-the-buffer", "/che", json!({"response_buffer_size": 6})),
        // Over HTTP/2.
        http2("checked-http2", json!({})),
        http2("checked-http2-503", with("503")),
        http2("checked-http2-reset", with("reset=2")),
        http2(
            "checked-http2-authority",
            json!({"receive": [{"text": hex("authority checked-http2-authority\n")}]}),
        ),
        http2("checked-http2-on-http1", json!({})).backends(&["a"]),
        // gRPC.
        grpc("checked-grpc", json!({})),
        grpc("checked-grpc-not-serving", metadata("x-serving", "2")),
        grpc("checked-grpc-unimplemented", metadata("x-script", "grpc=12")),
        grpc("checked-grpc-reset", metadata("x-script", "reset=2")),
        grpc("checked-grpc-service", json!({"service_name": "app"})),
        grpc("checked-grpc-unknown-service", json!({"service_name": "other"})),
        grpc("checked-grpc-on-http1", json!({})).backends(&["a"]),
        // TCP.
        tcp("checked-tcp", json!({})),
        tcp("checked-tcp-refused", json!({})).backends(&["refused"]),
        tcp("checked-tcp-echo", json!({"send": {"text": hex("ping")}, "receive": [{"text": hex("ng")}]}))
            .backends(&["echo"]),
        // An endpoint that says in an answer that it is unwell.
        passing("unwell-in-passing", "200 x-envoy-immediate-health-check-fail=true"),
        passing("well-in-passing", "503"),
    ];
    Suite { name: "health", scenarios, filters: json!([]) }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn merged(mut into: Value, more: Value) -> Value {
    merge(&mut into, more);
    into
}

fn http(id: &'static str, check: Value) -> Scenario {
    checked(id, json!({"http_health_check": check}))
}

/// A cluster whose endpoint is checked; what the proxy makes of it, and of a request then.
fn checked(id: &'static str, check: Value) -> Scenario {
    configured(id, check, "0.1s").does(|run| {
        known(run)?;
        let mut observed = Observed::new();
        found(run, &mut observed)?;
        if run.id.starts_with("checked-tcp") {
            return Ok(observed);
        }
        let answer = run.connection()?.send(&run.request(""))?;
        observed.exact("status", answer.status.to_string());
        Ok(observed)
    })
}

/// An endpoint that passes its only check, and answers a request by `step`; what comes of that.
fn passing(id: &'static str, step: &'static str) -> Scenario {
    configured(id, json!({"http_health_check": {"path": "/check"}}), "600s").does(move |run| {
        known(run)?;
        let mut connection = run.connection()?;
        let mut observed = Observed::new();
        let answer = connection.send(&run.request(&format!("x-script: {step}\r\n")))?;
        observed.answer("answer", run, &answer);
        if step.contains("immediate") {
            wait_until(run, "the endpoint is left out", || Ok(flags(run)? != "healthy"))?;
        }
        found(run, &mut observed)?;
        let answer = connection.send(&run.request("x-script: 200\r\n"))?;
        observed.exact("next", answer.status.to_string());
        Ok(observed)
    })
}

fn configured(id: &'static str, check: Value, interval: &str) -> Scenario {
    let mut all = json!({"timeout": "5s", "interval": interval, "no_traffic_interval": interval,
        "unhealthy_threshold": 1, "healthy_threshold": 1});
    merge(&mut all, check);
    Scenario::new(id).cluster(
        json!({"health_checks": [all], "common_lb_config": {"healthy_panic_threshold": {"value": 0}}}),
    )
}

/// Waits until the first check is over.
fn known(run: &Run<'_>) -> Result<()> {
    wait_until(run, "the first check is over", || {
        let flags = flags(run)?;
        Ok(!flags.is_empty() && !flags.contains("pending_active_hc"))
    })
}

fn wait_until(run: &Run<'_>, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        if Instant::now() > deadline {
            bail!("{}: {what}: not in time: {}", run.peer.name, flags(run)?);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn flags(run: &Run<'_>) -> Result<String> {
    let page = run.peer.admin("/clusters")?;
    let mut lines = page.lines();
    let line =
        lines.find(|line| line.starts_with(&format!("{}::", run.id)) && line.contains("::health_flags::"));
    Ok(line.and_then(|line| line.rsplit("::").next()).unwrap_or_default().to_string())
}

/// Flags, gauges, and which counters are not zero: how often was checked is a matter of time.
fn found(run: &Run<'_>, observed: &mut Observed) -> Result<()> {
    let filter = |names: &str| format!("/stats?filter=cluster.{}.health_check.({names})$", run.id);
    let gauges = run.peer.admin(&filter("healthy|degraded"))?;
    let counters = run.peer.admin(&filter("success|failure|network_failure|passive_failure"))?;
    let mut gauges: Vec<&str> = gauges.lines().filter(|line| !line.ends_with(": 0")).collect();
    gauges.sort_unstable();
    let mut counters: Vec<&str> = counters
        .lines()
        .filter(|line| !line.ends_with(": 0"))
        .filter_map(|line| line.rsplit_once(": ").map(|(name, _)| name))
        .collect();
    counters.sort_unstable();
    observed
        .exact("flags", flags(run)?)
        .exact("gauges", gauges.join(", "))
        .exact("counters", counters.join(", "));
    Ok(())
}
