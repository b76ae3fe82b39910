//! `ringsail-corpora NAME --dir DIR`: real cases from other projects, run through the real code.
//!
//! A runner reads a folder of the structure its corpus has, asks our code for a verdict on each case and compares it
//! with the verdict the corpus gives. Nothing in a runner knows a case by name: any folder of the same
//! structure works. The last line is `NAME: agree X of N, unsafe Y`; *unsafe* are cases that must be refused and
//! were accepted.
//!
//! To add a corpus: a module with `pub fn run(dir: &Path) -> Result<Report>`, a row in [`RUNNERS`], and a gate in
//! `deploy/xtask/src/corpora.rs`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use report::Report;

mod cel_vectors;
mod envoy_routes;
mod http1_vectors;
mod http2_vectors;
mod istio_simulation;
mod istio_unit_tables;
mod istio_validation;
mod path_normalization;
mod report;
mod telemetry;
mod textproto;

/// Runs one corpus folder.
type Runner = fn(&Path) -> Result<Report>;

/// Every corpus that can be run, by name.
const RUNNERS: &[(&str, Runner)] = &[
    ("cel-vectors", cel_vectors::run),
    ("envoy-routes", envoy_routes::run),
    ("http1-vectors", http1_vectors::run),
    ("http2-vectors", http2_vectors::run),
    ("istio-simulation", istio_simulation::run),
    ("istio-unit-tables", istio_unit_tables::run),
    ("istio-validation", istio_validation::run),
    ("path-normalization", path_normalization::run),
    ("telemetry", telemetry::run),
];

/// Runs one corpus of real cases through ringsail's code and lists every disagreement.
#[derive(Parser)]
#[command(name = "ringsail-corpora")]
struct Arguments {
    /// Corpus name, e.g. http1-vectors
    name: String,

    /// Folder of that structure
    #[arg(long)]
    dir: PathBuf,

    /// Fail when fewer than this share of cases agree, or any verdict is unsafe
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    agree_percent_min: Option<u32>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runner = RUNNERS.iter().find(|(name, _)| *name == arguments.name);
    let Some((_, run)) = runner else {
        let known: Vec<&str> = RUNNERS.iter().map(|(name, _)| *name).collect();
        bail!("no runner for `{}`; there are runners for: {}", arguments.name, known.join(", "));
    };
    if !arguments.dir.is_dir() {
        bail!("{} is no folder; name one with --dir", arguments.dir.display());
    }
    let report = run(&arguments.dir).with_context(|| format!("running {}", arguments.dir.display()))?;
    println!("{report}");
    Ok(match arguments.agree_percent_min {
        Some(percent_min) if !passes(&report, percent_min) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// Whether a report reaches its gate. An empty corpus does not: it proves nothing.
fn passes(report: &Report, percent_min: u32) -> bool {
    report.total > 0
        && report.unsafe_accepts == 0
        && report.agree * 100 >= report.total * percent_min as usize
}
