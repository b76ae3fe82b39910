//! Metrics that dashboards and Kiali need, in a running mesh.
//!
//! A local mesh of real proxies gets HTTP, gRPC and TCP traffic; then everything is scraped. Scored are the metrics and
//! labels of `required.json`, and, where Debian's `prometheus` package is there, the PromQL expressions of
//! `dashboards.json` that return data from a real Prometheus. *Unsafe* are pages that Prometheus could not read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::report::Report;
use mesh::Mesh;
use prometheus::Prometheus;

mod mesh;
mod prometheus;

/// Labels the scrape configuration attaches, as Kubernetes' would.
const ATTACHED: [&str; 6] = ["app", "pod", "namespace", "container", "kubernetes_namespace", "job"];

/// How long data may take to reach Prometheus: a few scrapes, and rates need two with traffic between.
const COLLECT: Duration = Duration::from_secs(40);

/// Requests of one round of traffic.
const ROUND: usize = 10;

/// Problems that promtool sees in names that are Envoy's or Istio's, which are what tools look for.
const NAMES_OPINIONS: [&str; 4] = [
    "metric names should not contain abbreviated units",
    "use base unit",
    "should have \"_total\" suffix",
    "should not have \"_total\" suffix",
];

pub fn run(dir: &Path) -> Result<Report> {
    let mut report = Report::new("telemetry");
    let mesh = Mesh::start()?;
    traffic(&mesh)?;
    let pages = wait_for_tcp(&mesh)?;
    let required: BTreeMap<String, Value> = read(&dir.join("required.json"))?;
    let found = score_required(&required, &pages, &mut report);
    println!(
        "telemetry: required metrics {} of {}, label pairs {} of {}",
        found[0], found[1], found[2], found[3]
    );
    check_pages(&pages, &mut report)?;
    let dashboards: Vec<Value> = read(&dir.join("dashboards.json"))?;
    match Prometheus::start(&mesh)? {
        Some(prometheus) => {
            let begun = Instant::now();
            while begun.elapsed() < COLLECT {
                traffic(&mesh)?;
                sleep(Duration::from_secs(1));
            }
            let (data, all) = score_dashboards(&dashboards, &prometheus, &mut report)?;
            println!("telemetry: dashboard expressions with data {data} of {all}");
        }
        None => println!(
            "telemetry: SKIPPED the dashboards' expressions: no `prometheus` on this machine (apt-get install prometheus)"
        ),
    }
    Ok(report)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

/// Pages through the gateway, one in ten of them missing, a gRPC call, and a call over TCP.
fn traffic(mesh: &Mesh) -> Result<()> {
    for number in 0..ROUND {
        let path = if number == 0 { "/no-such-page" } else { "/productpage" };
        mesh.ask(&format!("GET {path} HTTP/1.1\r\nhost: bookinfo\r\nconnection: close\r\n\r\n"))?;
    }
    let message = "\0\0\0\0\u{2}hi";
    mesh.ask(&format!(
        "POST /productpage HTTP/1.1\r\nhost: bookinfo\r\ncontent-type: application/grpc\r\nte: trailers\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{message}",
        message.len()
    ))?;
    mesh.call_over_tcp()
}

/// All pages, once the TCP connections in them were reported.
fn wait_for_tcp(mesh: &Mesh) -> Result<BTreeMap<String, String>> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let pages = mesh.pages()?;
        if pages.values().any(|page| page.contains("istio_tcp_connections_closed_total")) {
            return Ok(pages);
        }
        if Instant::now() > deadline {
            bail!("no TCP connection is reported within 30 s");
        }
        sleep(Duration::from_millis(200));
    }
}

/// Metrics found, metrics, pairs found, pairs.
fn score_required(
    required: &BTreeMap<String, Value>,
    pages: &BTreeMap<String, String>,
    report: &mut Report,
) -> [usize; 4] {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in pages.values().flat_map(|page| page.lines()).filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let known = labels.entry(name).or_default();
        known.extend(label_names(rest));
    }
    let mut found = [0; 4];
    for (metric, needs) in required {
        let known = labels.get(metric.as_str());
        found[0] += usize::from(known.is_some());
        found[1] += 1;
        match known {
            Some(_) => report.agreed(),
            None => report.disagreed(metric.clone(), "no such metric", "a metric"),
        }
        for label in needs["labels"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let there = known.is_some_and(|known| known.contains(label) || ATTACHED.contains(&label));
            found[2] += usize::from(there);
            found[3] += 1;
            if there {
                report.agreed();
            } else {
                report.disagreed(format!("{metric}{{{label}}}"), "no such label", "a label");
            }
        }
    }
    found
}

/// Names of the labels in `{a="…",b="…"} 1`.
fn label_names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text.strip_prefix('{').unwrap_or_default();
    while let Some((name, after)) = rest.split_once("=\"") {
        names.push(name.trim_start_matches(','));
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some(end) = end else { break };
        rest = after.get(end + 1..).unwrap_or_default();
    }
    names
}

/// `promtool check metrics` reads every page; it may only have opinions on names.
fn check_pages(pages: &BTreeMap<String, String>, report: &mut Report) -> Result<()> {
    for (origin, page) in pages {
        let spawned = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else {
            println!("telemetry: SKIPPED promtool: not on this machine (apt-get install prometheus)");
            return Ok(());
        };
        child.stdin.take().context("stdin is piped")?.write_all(page.as_bytes())?;
        let output = child.wait_with_output()?;
        let problems = String::from_utf8_lossy(&output.stderr).into_owned();
        let serious: Vec<&str> = problems
            .lines()
            .filter(|line| !NAMES_OPINIONS.iter().any(|known| line.contains(known)))
            .collect();
        if serious.is_empty() {
            report.agreed();
        } else {
            let text = serious.iter().take(3).copied().collect::<Vec<_>>().join("; ");
            report.unsafe_accept(
                format!("promtool check metrics: {origin}"),
                text,
                "nothing but opinions on names",
            );
        }
    }
    Ok(())
}

/// Expressions with data, expressions.
fn score_dashboards(
    dashboards: &[Value],
    prometheus: &Prometheus,
    report: &mut Report,
) -> Result<(usize, usize)> {
    let (mut data, mut all) = (0, 0);
    for dashboard in dashboards {
        let name = dashboard["dashboard"].as_str().unwrap_or_default();
        for expression in dashboard["expressions"].as_array().into_iter().flatten() {
            let expr = filled_in(expression["expr"].as_str().unwrap_or_default());
            all += 1;
            let results = prometheus.query(&expr)?;
            if results > 0 {
                data += 1;
                report.agreed();
            } else {
                report.disagreed(format!("{name}: {expr}"), "no data", "data");
            }
        }
    }
    Ok((data, all))
}

/// The dashboards' variables, each with a value that means all.
fn filled_in(expr: &str) -> String {
    let values = [
        ("$__rate_interval", "30s"),
        ("$qrep", "source|destination"),
        ("$service", "productpage.default.svc.cluster.local"),
        ("$srcwl", ".*"),
        ("$srcns", ".*"),
        ("$dstwl", ".*"),
        ("$dstns", ".*"),
        ("$dstcluster", ".*"),
        ("$namespace", "default"),
        ("$target", "reviews"),
        ("$interval", "30s"),
    ];
    let mut filled = expr.to_owned();
    for (name, value) in values {
        filled = filled.replace(name, value);
    }
    // What Grafana fills its variables with is a function of Grafana's around an expression.
    if let Some(inner) = filled.strip_prefix("query_result(").and_then(|rest| rest.strip_suffix(')')) {
        filled = inner.to_owned();
    }
    if let Some((inner, _)) =
        filled.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')?.rsplit_once(','))
    {
        filled = inner.to_owned();
    }
    // TCP panels ask for the service that speaks it.
    if filled.contains("istio_tcp_") {
        filled = filled.replace("productpage.default.svc", "ledger.default.svc");
    }
    filled
}

/// The text of an answer.
fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_whatever_their_values_hold() {
        assert_eq!(label_names(r#"{a="x,y=\"z\"",b=""} 1"#), ["a", "b"]);
        assert!(label_names(" 1").is_empty());
    }
}
