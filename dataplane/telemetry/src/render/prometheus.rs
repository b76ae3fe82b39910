//! `/stats/prometheus`: the text exposition format, with the tags istio-proxy extracts.
//!
//! A scope's name becomes a label (`cluster_name`, `http_conn_manager_prefix`, …) without the `;`
//! that istiod ends it with; status codes and classes become `response_code` and
//! `response_code_class`, authorization results `authz_enforce_result`. Everything else about a
//! name is kept: `envoy_` in front, other bytes than letters, digits and `_` turned into `_`.

use std::fmt::Write as _;

use super::{Selection, Sparse, full_name, push_number, take};
use crate::block::Totals;
use crate::registry::Registry;
use crate::scope::{Metric, Scope};

/// Appends all statistics. Every family is contiguous and has one `# TYPE` line.
pub fn prometheus(registry: &Registry, selection: Selection<'_>, out: &mut String) {
    let (snapshot, idle) = take(registry, &selection);
    let mut page = Page { selection, name: String::new(), out };
    page.scopes(&snapshot.clusters, &idle);
    page.single(&snapshot.cluster_manager);
    page.single(&snapshot.control_plane);
    page.scopes(&snapshot.http, &[]);
    page.scopes(&snapshot.rds, &[]);
    page.scopes(&snapshot.listeners, &[]);
    page.single(&snapshot.listener_manager);
    page.single(&snapshot.server);
    page.scopes(&snapshot.tcp, &[]);
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
            let mut header = Header::new(family, "counter");
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
            let mut header = Header::new(gauge.name(), "gauge");
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
            let mut header = Header::new(histogram.name(), "histogram");
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
        if !self.selection.shows_value(&self.name, value) {
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
        values: &crate::histogram::HistogramSnapshot,
    ) {
        full_name::<S>(&mut self.name, scope, metric);
        if values.count() == 0 || !self.selection.shows(&self.name) {
            return;
        }
        header.write_once::<S>(self.out);
        for (bound, count) in values.cumulative() {
            let mut le = String::new();
            if bound.is_finite() {
                push_number(bound, &mut le);
            } else {
                le.push_str("+Inf");
            }
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
        let [first, second] = S::labels(scope);
        let mut open = '{';
        for (name, value) in [first, second, label].into_iter().flatten() {
            self.out.push(open);
            open = ',';
            let _ = write!(self.out, "{name}=\"");
            push_label_value(value, self.out);
            self.out.push('"');
        }
        self.out.push_str(if open == ',' { "}" } else { "{}" });
    }
}

/// The `# TYPE` line of a family, written before its first series.
struct Header<'a> {
    family: &'a str,
    kind: &'static str,
    written: bool,
}

impl<'a> Header<'a> {
    fn new(family: &'a str, kind: &'static str) -> Self {
        Self { family, kind, written: false }
    }

    fn write_once<S: Scope>(&mut self, out: &mut String) {
        if !self.written {
            self.written = true;
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
    out.push_str(S::FAMILY);
    out.push('_');
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
