//! What the demo prints: tables of edges and verdicts, redrawn in place on a terminal.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use super::observe::{EdgeSeen, Window};
use super::story::Verdict;

/// Clears the terminal and moves to its corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Replaces what the terminal shows.
pub fn redraw(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A terminal that went away ends the demo by its hang-up signal, not here.
    write!(stdout, "{CLEAR}{text}").and_then(|()| stdout.flush()).ok();
}

/// One row per edge of the mesh.
pub fn edges(window: &Window) -> String {
    let elapsed = window.since.elapsed().as_secs_f64().max(0.001);
    let mut text = format!(
        "  {:<26} {:>7} {:>9} {:>9} {:>9}  {}\n",
        "edge", "req/s", "success", "p50 ms", "p99 ms", "share per version"
    );
    for ((from, to), seen) in &window.edges {
        let edge = format!("{from} → {to}");
        let success = 100.0 * seen.succeeded as f64 / seen.total.max(1) as f64;
        let rate = seen.total as f64 / elapsed;
        let (p50, p99) = (millis(seen.quantile(0.5)), millis(seen.quantile(0.99)));
        // Writing to a String cannot fail.
        writeln!(text, "  {edge:<26} {rate:>7.1} {success:>8.2}% {p50:>9.1} {p99:>9.1}  {}", versions(seen))
            .ok();
    }
    text
}

fn versions(seen: &EdgeSeen) -> String {
    let all: u64 = seen.versions.values().sum();
    let one = |(version, count): (&String, &u64)| {
        format!("{version} {:.1}%", 100.0 * *count as f64 / all.max(1) as f64)
    };
    seen.versions.iter().map(one).collect::<Vec<_>>().join("  ")
}

/// One line per claim: what was wanted, what was seen.
pub fn verdicts(verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for Verdict { wanted, seen, agrees } in verdicts {
        let word = if *agrees { "agrees" } else { "DISAGREES" };
        writeln!(text, "  {word:<10} wanted {wanted}; seen {seen}").ok();
    }
    text
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
