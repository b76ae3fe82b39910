//! `/stats/prometheus`: the text exposition format, with the tags istio-proxy extracts.
//!
//! A scope's name becomes a label (`cluster_name`, `http_conn_manager_prefix`, …) without the `;`
//! that istiod ends it with; status codes and classes become `response_code` and
//! `response_code_class`, authorization results `authz_enforce_result`. Everything else about a
//! name is kept: `envoy_` in front, other bytes than letters, digits and `_` turned into `_`.

use std::fmt::Write as _;

use super::{Selection, Sparse, full_name, push_number, take};
use crate::block::Totals;
use crate::histogram::HistogramSnapshot;
use crate::istio::{IstioMetric, NAMESPACE, SeriesTotals};
use crate::registry::{Registry, Snapshot};
use crate::scope::{Kind, Metric, Scope};

/// Appends all statistics. Every family is contiguous and has one `# TYPE` line.
pub fn prometheus(registry: &Registry, selection: Selection<'_>, out: &mut String) {
    let (snapshot, idle) = take(registry, &selection);
    let mut page = Page { selection, name: String::new(), out };
    page.scopes(&snapshot.clusters, &idle);
    page.scopes(&snapshot.upstream_http2, &[]);
    page.scopes(&snapshot.grpc, &[]);
    page.single(&snapshot.cluster_manager);
    page.single(&snapshot.access_logs);
    page.single(&snapshot.spans);
    page.single(&snapshot.control_plane);
    page.istio(&snapshot);
    page.scopes(&snapshot.http, &[]);
    page.scopes(&snapshot.downstream_http2, &[]);
    page.scopes(&snapshot.rds, &[]);
    page.scopes(&snapshot.listeners, &[]);
    page.single(&snapshot.listener_manager);
    page.single(&snapshot.server);
    page.scopes(&snapshot.tcp, &[]);
    page.scopes(&snapshot.local_rate_limits, &[]);
    page.scopes(&snapshot.connection_limits, &[]);
    page.scopes(&snapshot.connection_rates, &[]);
}

struct Page<'a> {
    selection: Selection<'a>,
    /// Full dotted name of the current statistic, for the filter.
    name: String,
    out: &'a mut String,
}

/// A label with its value.
type Label<'a> = (&'a str, &'a str);

impl Page<'_> {
    fn single<S: Scope>(&mut self, totals: &Totals<S>) {
        self.families::<S>(&[("", totals)], &[]);
    }

    fn scopes<S: Scope>(&mut self, scopes: &[(Box<str>, Totals<S>)], idle: &[Sparse<S>]) {
        let scopes: Vec<_> = scopes.iter().map(|(name, totals)| (&**name, totals)).collect();
        self.families::<S>(&scopes, idle);
    }

    fn families<S: Scope>(&mut self, scopes: &[(&str, &Totals<S>)], idle: &[Sparse<S>]) {
        let counters = S::Counter::ALL;
        for (i, counter) in counters.iter().enumerate() {
            let (family, label) = family_of(counter.name());
            // Metrics that differ in a label only share a family: print it where it first occurs.
            if counters.iter().take(i).any(|earlier| family_of(earlier.name()).0 == family) {
                continue;
            }
            let mut header = Header::new(family, counter.help(), "counter");
            let members = counters.iter().skip(i).filter(|c| family_of(c.name()).0 == family);
            if label.is_none() {
                for (scope, totals) in scopes {
                    self.line::<S>(&mut header, scope, counter.name(), None, totals.counter(*counter));
                }
            } else {
                for member in members {
                    let label = family_of(member.name()).1;
                    for (scope, totals) in scopes {
                        self.line::<S>(&mut header, scope, member.name(), label, totals.counter(*member));
                    }
                }
            }
            if S::BY_STATUS == Some(family) {
                for (scope, totals) in scopes {
                    for (status, count) in totals.by_status() {
                        let (metric, status) = (format!("{family}_{status}"), status.to_string());
                        self.line::<S>(&mut header, scope, &metric, Some(("response_code", &status)), count);
                    }
                }
            }
        }
        for gauge in S::Gauge::ALL {
            let mut header = Header::new(gauge.name(), gauge.help(), "gauge");
            for (scope, totals) in scopes {
                self.line::<S>(&mut header, scope, gauge.name(), None, totals.gauge(*gauge));
            }
            for (scope, values) in idle {
                for (_, value) in values.iter().filter(|(known, _)| known.index() == gauge.index()) {
                    self.line::<S>(&mut header, scope, gauge.name(), None, *value);
                }
            }
        }
        for histogram in S::Histogram::ALL {
            let mut header = Header::new(histogram.name(), histogram.help(), "histogram");
            for (scope, totals) in scopes {
                self.histogram::<S>(&mut header, scope, histogram.name(), &totals.histogram(*histogram));
            }
        }
    }

    fn line<S: Scope>(
        &mut self,
        header: &mut Header<'_>,
        scope: &str,
        metric: &str,
        label: Option<Label<'_>>,
        value: u64,
    ) {
        full_name::<S>(&mut self.name, scope, metric);
        if !self.selection.shows_value(&self.name, value) || S::USED_ONLY && value == 0 {
            return;
        }
        header.write_once::<S>(self.out);
        self.series::<S>(header.family, "", scope, label);
        let _ = writeln!(self.out, " {value}");
    }

    fn histogram<S: Scope>(
        &mut self,
        header: &mut Header<'_>,
        scope: &str,
        metric: &str,
        values: &HistogramSnapshot,
    ) {
        full_name::<S>(&mut self.name, scope, metric);
        if values.count() == 0 || !self.selection.shows(&self.name) {
            return;
        }
        header.write_once::<S>(self.out);
        for (bound, count) in values.cumulative() {
            let le = bound_text(bound);
            self.series::<S>(metric, "_bucket", scope, Some(("le", &le)));
            let _ = writeln!(self.out, " {count}");
        }
        self.series::<S>(metric, "_sum", scope, None);
        let _ = writeln!(self.out, " {}", values.sum());
        self.series::<S>(metric, "_count", scope, None);
        let _ = writeln!(self.out, " {}", values.count());
    }

    /// `envoy_cluster_upstream_rq{cluster_name="a",response_code="200"}`
    fn series<S: Scope>(&mut self, family: &str, suffix: &str, scope: &str, label: Option<Label<'_>>) {
        push_family::<S>(family, self.out);
        self.out.push_str(suffix);
        let labels = S::labels(scope);
        let mut open = '{';
        for (name, value) in labels.into_iter().chain([label]).flatten() {
            self.out.push(open);
            open = ',';
            let _ = write!(self.out, "{name}=\"");
            push_label_value(value, self.out);
            self.out.push('"');
        }
        self.out.push_str(if open == ',' { "}" } else { "{}" });
    }
}

impl Page<'_> {
    /// Istio's metrics have no prefix.
    fn istio(&mut self, snapshot: &Snapshot) {
        if let Some(version) = &snapshot.istio_build {
            let name = format!("{NAMESPACE}.istio_build");
            if self.selection.shows(&name) {
                self.out.push_str("# HELP istio_build The proxy's version.\n# TYPE istio_build gauge\nistio_build{component=\"proxy\",tag=\"");
                push_label_value(version, self.out);
                self.out.push_str("\"} 1\n");
            }
        }
        for metric in IstioMetric::ALL {
            let mut typed = false;
            for series in &snapshot.istio {
                if self.selects(metric, series) {
                    if !std::mem::replace(&mut typed, true) {
                        let kind = if metric.kind() == Kind::Histogram { "histogram" } else { "counter" };
                        let (name, help) = (metric.name(), metric.help());
                        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
                    }
                    self.istio_series(metric, series);
                }
            }
        }
    }

    /// Compat: filters see the internal name, labels and all.
    fn selects(&mut self, metric: IstioMetric, series: &SeriesTotals) -> bool {
        let value = series.counter(metric);
        if value.is_none() && series.histogram(metric).is_none() {
            return false;
        }
        if self.selection.filter.is_none() {
            return value != Some(0) || !self.selection.used_only;
        }
        self.name.clear();
        let _ = write!(self.name, "{NAMESPACE}.{}", metric.name());
        for (label, value) in &**series.labels {
            let _ = write!(self.name, ".{label}.{value}");
        }
        self.selection.shows_value(&self.name, value.unwrap_or(1))
    }

    fn istio_series(&mut self, metric: IstioMetric, series: &SeriesTotals) {
        if let Some(value) = series.counter(metric) {
            self.istio_line(metric, "", series, None, value);
        }
        if let Some(values) = series.histogram(metric) {
            for (bound, count) in values.cumulative() {
                self.istio_line(metric, "_bucket", series, Some(&bound_text(bound)), count);
            }
            self.istio_line(metric, "_sum", series, None, values.sum());
            self.istio_line(metric, "_count", series, None, values.count());
        }
    }

    fn istio_line(
        &mut self,
        metric: IstioMetric,
        suffix: &str,
        series: &SeriesTotals,
        le: Option<&str>,
        value: u64,
    ) {
        let _ = write!(self.out, "{}{suffix}", metric.name());
        let mut open = '{';
        let labels = series.labels.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in labels.chain(le.map(|le| ("le", le))) {
            self.out.push(open);
            open = ',';
            let _ = write!(self.out, "{name}=\"");
            push_label_value(value, self.out);
            self.out.push('"');
        }
        let _ = writeln!(self.out, "{}}} {value}", if open == '{' { "{" } else { "" });
    }
}

/// A bucket's bound as `le` says it.
fn bound_text(bound: f64) -> String {
    let mut text = String::new();
    if bound.is_finite() {
        push_number(bound, &mut text);
    } else {
        text.push_str("+Inf");
    }
    text
}

/// The `# HELP` and `# TYPE` lines of a family, written before its first series.
struct Header<'a> {
    family: &'a str,
    help: &'static str,
    kind: &'static str,
    written: bool,
}

impl<'a> Header<'a> {
    fn new(family: &'a str, help: &'static str, kind: &'static str) -> Self {
        Self { family, help, kind, written: false }
    }

    fn write_once<S: Scope>(&mut self, out: &mut String) {
        if !self.written {
            self.written = true;
            if !self.help.is_empty() {
                out.push_str("# HELP ");
                push_family::<S>(self.family, out);
                let _ = writeln!(out, " {}", self.help);
            }
            out.push_str("# TYPE ");
            push_family::<S>(self.family, out);
            let _ = writeln!(out, " {}", self.kind);
        }
    }
}

/// The family of a metric, and the label its name carries.
fn family_of(metric: &str) -> (&str, Option<Label<'_>>) {
    if let Some((base, class)) = metric.rsplit_once('_')
        && base.ends_with("_rq")
        && matches!(class, "1xx" | "2xx" | "3xx" | "4xx" | "5xx")
    {
        return (base, Some(("response_code_class", class)));
    }
    match metric.split_once('.') {
        Some((base @ "rbac", result @ ("allowed" | "denied"))) => {
            (base, Some(("authz_enforce_result", result)))
        }
        _ => (metric, None),
    }
}

fn push_family<S: Scope>(metric: &str, out: &mut String) {
    out.push_str("envoy_");
    if !S::FAMILY.is_empty() {
        out.push_str(S::FAMILY);
        out.push('_');
    }
    out.extend(metric.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
}

/// Escapes a label value (Prometheus text format 0.0.4).
fn push_label_value(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}
