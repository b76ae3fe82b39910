//! `ringsail-bench`: ringsail-proxy beside Envoy and nginx in one run.
//!
//! The figure of merit is CPU time of all the proxy's threads per request: it hardly depends on what else the machine
//! does. Latency comes from an open-loop schedule and means something only beside the other peers of the same run.
//! Peers take turns inside every round, medians of the rounds are reported, and every figure stands as a ratio too.
//!
//! The proxy under test has one worker on the first core; load generator and backend share the second.
//!
//! Start with [`cases`]: what is measured, one function a case.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

use crate::cases::Case;
use crate::peer::Peer;
use crate::results::Results;

mod bootstrap;
mod cases;
mod load;
mod machine;
mod nginx;
mod peer;
mod process;
mod report;
mod results;
mod scenario;

/// Measures ringsail-proxy beside Envoy and nginx and writes a table, JSON and one HTML page.
#[derive(Debug, Parser)]
#[command(name = "ringsail-bench", version)]
pub struct Options {
    /// Cases to run; all of them unless named
    #[arg(value_enum)]
    pub cases: Vec<Case>,

    /// Rounds; medians are reported
    #[arg(long, default_value_t = 5, default_value_if("quick", "true", "3"))]
    pub rounds: usize,

    /// Seconds of load per measurement
    #[arg(long, default_value_t = 2.0, default_value_if("quick", "true", "1"))]
    pub seconds: f64,

    /// Three rounds of one second: all cases in about ten minutes instead of twenty
    #[arg(long)]
    pub quick: bool,

    /// Folder for results.json, results.md and report.html
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    pub out: PathBuf,

    /// The Envoy binary
    #[arg(long, env = "ENVOY_BIN", default_value = "target/tools/envoy", value_name = "FILE")]
    pub envoy: PathBuf,

    /// The ringsail-proxy binary; beside this program unless given
    #[arg(long, env = "RINGSAIL_BIN", value_name = "FILE")]
    pub ringsail: Option<PathBuf>,

    /// I/O engines of ringsail-proxy to measure as peers of their own
    #[arg(long, value_delimiter = ',', default_value = "auto")]
    pub engines: Vec<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let cases = if options.cases.is_empty() { Case::ALL.to_vec() } else { options.cases.clone() };
    let peers = Peer::available(&options)?;
    let folder = process::Folder::new()?;
    let mut results = Results::new(machine::describe(), &options, &peers);
    for case in cases {
        eprintln!("== {}: {}", case.name(), case.question());
        cases::run(case, &peers, &options, &folder, &mut results)
            .with_context(|| format!("case {}", case.name()))?;
    }
    fs::create_dir_all(&options.out).with_context(|| format!("creating {}", options.out.display()))?;
    let files: BTreeMap<&str, String> = BTreeMap::from([
        ("results.json", format!("{:#}\n", results.to_json())),
        ("results.md", report::markdown(&results)),
        ("report.html", report::html(&results)),
    ]);
    println!("{}", report::terminal(&results));
    for (name, text) in files {
        let path = options.out.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_is_shorter_unless_told_otherwise() {
        let parse = |arguments: &[&str]| {
            let options = Options::parse_from([&["ringsail-bench"], arguments].concat());
            (options.rounds, options.seconds)
        };
        assert_eq!(parse(&[]), (5, 2.0));
        assert_eq!(parse(&["--quick"]), (3, 1.0));
        assert_eq!(parse(&["--quick", "--rounds", "7"]), (7, 1.0));
    }
}
