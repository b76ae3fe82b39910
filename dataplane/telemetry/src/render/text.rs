//! `/stats`: one line per statistic, sorted by name, histograms last.

use std::fmt::Write as _;

use super::{Buckets, QUANTILES, Selection, for_each, push_number, take};
use crate::registry::Registry;

/// Appends `name: value` lines as Envoy writes them.
///
/// Compat: Envoy shows two values per quantile, of the last flush interval and since start. There
/// is no flush interval here, so the first is always `nan`.
pub fn text(registry: &Registry, selection: Selection<'_>, out: &mut String) {
    let (snapshot, idle) = take(registry, &selection);
    let mut numbers = Vec::new();
    let mut histograms = Vec::new();
    for_each(
        &snapshot,
        &idle,
        selection,
        &mut |name, value| numbers.push(format!("{name}: {value}\n")),
        &mut |name, values| {
            let mut line = format!("{name}:");
            if selection.buckets != Buckets::Summary {
                for (bound, count) in selection.buckets.of(values) {
                    line.push_str(" B");
                    push_number(bound, &mut line);
                    let _ = write!(line, "(0,{count})");
                }
            }
            for q in QUANTILES.into_iter().filter(|_| selection.buckets == Buckets::Summary) {
                line.push_str(" P");
                push_number(q, &mut line);
                line.push_str("(nan,");
                push_number(values.quantile(q / 100.0).unwrap_or(0.0), &mut line);
                line.push(')');
            }
            let _ = writeln!(line);
            histograms.push(line);
        },
    );
    numbers.sort_unstable();
    histograms.sort_unstable();
    out.extend(numbers);
    out.extend(histograms);
}
