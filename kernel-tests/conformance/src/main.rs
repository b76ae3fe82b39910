//! `ringsail-conformance`: runs the scenarios and prints a table; `cargo xtask conformance` calls it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use ringsail_conformance::suite::{Outcome, Selection, Verdict};
use ringsail_conformance::suites;
use ringsail_conformance::{differences, random};
use ringsail_harness::binaries;

/// Runs the same configuration and traffic through Envoy and ringsail-proxy and compares everything observable.
#[derive(Parser)]
#[command(name = "ringsail-conformance")]
struct Arguments {
    /// Only scenarios whose id, or whose suite's name, contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// List the scenarios instead of running them
    #[arg(long)]
    list: bool,

    /// Also run scenarios that ringsail does not support yet
    #[arg(long)]
    pending: bool,

    /// Instead of the scenarios, about this many random requests under random configurations
    #[arg(long, value_name = "REQUESTS")]
    random: Option<usize>,

    /// Where the random numbers begin; printed, so that a run can be had again
    #[arg(long, value_name = "NUMBER", requires = "random")]
    seed: Option<u64>,

    /// Write the page of intended differences to this file and do nothing else
    #[arg(long, value_name = "FILE")]
    write_differences: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(path) = &arguments.write_differences {
        std::fs::write(path, differences::page()).with_context(|| format!("writing {}", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let selection = Selection { filter: arguments.filter.as_deref(), pending: arguments.pending };
    if arguments.list {
        list(selection);
        return Ok(ExitCode::SUCCESS);
    }
    let (envoy, ringsail) = binaries::both().context("both proxies are needed")?;
    if let Some(requests) = arguments.random {
        let seed = arguments.seed.unwrap_or_else(random::any_seed);
        println!("--random {requests} --seed {seed}");
        let report =
            random::run(&envoy, &ringsail, random::Plan { requests, seed }, |text| println!("{text}"))?;
        println!("\n{report}");
        return Ok(if report.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut outcomes = Vec::new();
    let mut broken = Vec::new();
    for area in suites::all() {
        match area.run(&envoy, &ringsail, selection) {
            Ok(Some(outcome)) => {
                println!("{}: {:.1} s", outcome.suite, outcome.elapsed.as_secs_f64());
                outcomes.push(outcome);
            }
            Ok(None) => {}
            Err(error) => {
                println!("{}: {error:#}", area.name());
                broken.push(area.name());
            }
        }
    }
    Ok(if report(&outcomes) && broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(selection: Selection<'_>) {
    let mut count = 0;
    for area in suites::all() {
        for (id, pending) in area.scenarios() {
            if selection.names(area.name(), id) {
                count += 1;
                let note = pending.map(|reason| format!("  (pending: {reason})")).unwrap_or_default();
                println!("{:<12} {id}{note}", area.name());
            }
        }
    }
    println!("{count} scenarios");
}

/// Prints the failures, then the table; `true` when nothing failed.
fn report(outcomes: &[Outcome]) -> bool {
    for failure in outcomes.iter().flat_map(Outcome::failures) {
        println!("\n{failure}");
    }
    println!("\n{:<12} {:>7} {:>10} {:>7} {:>8}", "suite", "agree", "different", "fail", "pending");
    let mut sums = [0; 4];
    for outcome in outcomes {
        let row = [
            outcome.count(&Verdict::Agrees),
            outcome.count(&Verdict::Differs),
            outcome.failures().len(),
            outcome.pending.len(),
        ];
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
        println!("{:<12} {:>7} {:>10} {:>7} {:>8}", outcome.suite, row[0], row[1], row[2], row[3]);
    }
    println!("{:<12} {:>7} {:>10} {:>7} {:>8}", "all", sums[0], sums[1], sums[2], sums[3]);
    sums[2] == 0
}
