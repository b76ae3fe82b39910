//! `/stats?format=json`.

use std::fmt::Write as _;

use super::{Buckets, QUANTILES, Selection, for_each, push_number, take};
use crate::registry::Registry;

/// Appends Envoy's JSON form: a list of names and values, then one object with the histograms, if there are any.
pub fn json(registry: &Registry, selection: Selection<'_>, out: &mut String) {
    let (snapshot, idle) = take(registry, &selection);
    let mut stats = String::new();
    let mut histograms = String::new();
    for_each(
        &snapshot,
        &idle,
        selection,
        &mut |name, value| {
            stats.push_str("{\"name\":");
            push_json_string(name, &mut stats);
            let _ = write!(stats, ",\"value\":{value}}},");
        },
        &mut |name, values| {
            if !histograms.is_empty() {
                histograms.push(',');
            }
            histograms.push_str("{\"name\":");
            push_json_string(name, &mut histograms);
            if selection.buckets != Buckets::Summary {
                histograms.push_str(",\"buckets\":[");
                for (i, (bound, count)) in selection.buckets.of(values).into_iter().enumerate() {
                    histograms.push_str(if i == 0 { "{\"upper_bound\":" } else { ",{\"upper_bound\":" });
                    push_number(bound, &mut histograms);
                    let _ = write!(histograms, ",\"interval\":0,\"cumulative\":{count}}}");
                }
                histograms.push_str("]}");
                return;
            }
            histograms.push_str(",\"values\":[");
            for (i, q) in QUANTILES.into_iter().enumerate() {
                histograms.push_str(if i == 0 { "" } else { "," });
                histograms.push_str("{\"interval\":null,\"cumulative\":");
                push_number(values.quantile(q / 100.0).unwrap_or(0.0), &mut histograms);
                histograms.push('}');
            }
            histograms.push_str("]}");
        },
    );
    out.push_str("{\"stats\":[");
    if histograms.is_empty() {
        out.push_str(stats.trim_end_matches(','));
        out.push_str("]}\n");
        return;
    }
    out.push_str(&stats);
    if selection.buckets != Buckets::Summary {
        let _ = writeln!(out, "{{\"histograms\":[{histograms}]}}]}}");
        return;
    }
    out.push_str("{\"histograms\":{\"supported_quantiles\":[");
    for (i, q) in QUANTILES.into_iter().enumerate() {
        out.push_str(if i == 0 { "" } else { "," });
        push_number(q, out);
    }
    out.push_str("],\"computed_quantiles\":[");
    out.push_str(&histograms);
    out.push_str("]}}]}\n");
}

/// A JSON string (RFC 8259 §7).
pub fn push_json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
