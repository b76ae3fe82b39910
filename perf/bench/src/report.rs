//! The same results for a terminal, for Markdown, and as one self-contained HTML page.

use std::fmt::Write;

use comfy_table::{Cell, Table, presets};

use crate::results::{Figure, Results};

/// The peers a ratio is printed for.
const RATIOS: [&str; 2] = ["envoy", "nginx"];

/// A table for the terminal.
pub fn terminal(results: &Results) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header(header(results));
    for figure in &results.figures {
        table.add_row(row(results, figure).into_iter().map(Cell::new));
    }
    format!("{}\n{}\n{}\n{table}", results.machine, versions(results), results.method)
}

/// The same table in Markdown.
pub fn markdown(results: &Results) -> String {
    let mut text = format!("{}; {}; {}.\n\n", results.machine, versions(results), results.method);
    let header = header(results);
    let _ = writeln!(text, "| {} |", header.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(header.len()));
    for figure in &results.figures {
        let _ = writeln!(text, "| {} |", row(results, figure).join(" | "));
    }
    text
}

fn versions(results: &Results) -> String {
    let named: Vec<String> =
        results.versions.iter().map(|(peer, version)| format!("{peer}: {version}")).collect();
    named.join("; ")
}

fn header(results: &Results) -> Vec<String> {
    let mut header = vec!["case".to_string(), "figure".to_string()];
    header.extend(results.peers().iter().map(|peer| peer.to_string()));
    header.extend(RATIOS.iter().map(|peer| format!("ours ÷ {peer}")));
    header
}

fn row(results: &Results, figure: &Figure) -> Vec<String> {
    let mut row = vec![figure.case.clone(), format!("{} ({})", figure.name, figure.unit)];
    row.extend(results.peers().iter().map(|peer| figure.median(peer).map_or("–".to_string(), number)));
    row.extend(
        RATIOS
            .iter()
            .map(|peer| figure.ratio_to(peer).map_or("–".to_string(), |ratio| format!("{ratio:.2}"))),
    );
    row
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// Colours of the peers, in order; readable on white and by most colour-blind readers.
const COLOURS: [&str; 6] = ["#7f7f7f", "#0b6e4f", "#b5382a", "#2a5db0", "#8a5a00", "#6a3d9a"];

/// One page that needs nothing else: bars of every figure, latency curves, and the table.
pub fn html(results: &Results) -> String {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>ringsail benchmarks</title><style>\
         body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}\
         table{border-collapse:collapse;font-size:13px}td,th{border-bottom:1px solid #ddd;padding:.25rem .6rem;text-align:right}\
         td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}svg text{font:12px system-ui,sans-serif}\
         figure{margin:1rem 0 2rem}figcaption{color:#555}</style><h1>ringsail beside its peers</h1>",
    );
    let _ = write!(
        page,
        "<p>{}<br>{}. Less is better everywhere.</p>",
        escape(&results.machine),
        escape(&results.method)
    );
    page.push_str(&legend(results));
    for figure in &results.figures {
        page.push_str(&bars(results, figure));
    }
    let mut loads: Vec<&str> = results.curves.keys().map(|(load, _)| load.as_str()).collect();
    loads.dedup();
    for load in loads {
        page.push_str(&curves(results, load));
    }
    page.push_str("<h2>Table</h2><table><tr>");
    for name in header(results) {
        let _ = write!(page, "<th>{}</th>", escape(&name));
    }
    page.push_str("</tr>");
    for figure in &results.figures {
        page.push_str("<tr>");
        for cell in row(results, figure) {
            let _ = write!(page, "<td>{}</td>", escape(&cell));
        }
        page.push_str("</tr>");
    }
    page.push_str("</table></html>\n");
    page
}

fn legend(results: &Results) -> String {
    let entries: String = results
        .peers()
        .iter()
        .map(|peer| {
            format!(
                "<span style=\"color:{};margin-right:1.5em\">■ {}</span>",
                colour(results, peer),
                escape(peer)
            )
        })
        .collect();
    format!("<p>{entries}</p>")
}

fn bars(results: &Results, figure: &Figure) -> String {
    const WIDTH: f64 = 560.0;
    let most = figure
        .values
        .iter()
        .filter_map(|(peer, _)| figure.median(peer))
        .fold(0.0, f64::max)
        .max(f64::EPSILON);
    let mut svg = String::new();
    for (index, (peer, _)) in figure.values.iter().enumerate() {
        let value = figure.median(peer).unwrap_or(0.0).max(0.0);
        let (top, length) = (index * 22, value / most * WIDTH);
        let _ = write!(
            svg,
            "<text x=\"120\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"128\" y=\"{top}\" width=\"{length:.1}\" \
             height=\"18\" fill=\"{}\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
            top + 14,
            escape(peer),
            colour(results, peer),
            134.0 + length,
            top + 14,
            number(value)
        );
    }
    let height = figure.values.len() * 22;
    format!(
        "<figure><figcaption>{}: {} ({})</figcaption><svg width=\"780\" height=\"{height}\" role=\"img\">{svg}</svg></figure>",
        escape(&figure.case),
        escape(&figure.name),
        escape(&figure.unit)
    )
}

/// Latency over quantile, both logarithmic: each step to the right is a tenfold rarer request.
fn curves(results: &Results, load: &str) -> String {
    const WIDTH: f64 = 620.0;
    const HEIGHT: f64 = 240.0;
    const RAREST: f64 = 4.0;
    let of_load = || results.curves.iter().filter(|((name, _), _)| name == load);
    let most = of_load().flat_map(|(_, points)| points).map(|(_, us)| *us).fold(10.0, f64::max);
    let least = of_load().flat_map(|(_, points)| points).map(|(_, us)| *us).fold(most, f64::min).max(1.0);
    let x = |quantile: f64| 70.0 + (-(1.0 - quantile).max(1e-9).log10()).clamp(0.0, RAREST) / RAREST * WIDTH;
    let y =
        |us: f64| 10.0 + (1.0 - (us.max(1.0) / least).ln() / (most / least).ln().max(f64::EPSILON)) * HEIGHT;
    let mut svg = String::new();
    for (quantile, name) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")]
    {
        let _ = write!(
            svg,
            "<line x1=\"{0:.0}\" y1=\"10\" x2=\"{0:.0}\" y2=\"250\" stroke=\"#ddd\"/><text x=\"{0:.0}\" y=\"268\" text-anchor=\"middle\">{name}</text>",
            x(quantile)
        );
    }
    let mut tick = 10f64.powf(least.log10().ceil());
    while tick <= most {
        let _ = write!(
            svg,
            "<line x1=\"70\" y1=\"{0:.0}\" x2=\"690\" y2=\"{0:.0}\" stroke=\"#ddd\"/><text x=\"62\" y=\"{1:.0}\" text-anchor=\"end\">{tick} µs</text>",
            y(tick),
            y(tick) + 4.0
        );
        tick *= 10.0;
    }
    for ((_, peer), points) in of_load() {
        let line: Vec<String> =
            points.iter().map(|(quantile, us)| format!("{:.1},{:.1}", x(*quantile), y(*us))).collect();
        let _ = write!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
            line.join(" "),
            colour(results, peer)
        );
    }
    format!(
        "<figure><figcaption>Latency at {}, counted from when each request was due</figcaption>\
         <svg width=\"780\" height=\"280\" role=\"img\">{svg}</svg></figure>",
        escape(load)
    )
}

fn colour(results: &Results, peer: &str) -> &'static str {
    let index = results.peers().iter().position(|name| *name == peer).unwrap_or(0);
    COLOURS[index % COLOURS.len()]
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
