//! `cargo xtask`: every chore of this repository as one command each.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod codegen;
mod conformance;
mod corpora;
mod demo;
mod envoy_schema;
mod fuzz;
mod shell;
mod test;
mod tidy;
mod tools;
mod tutorial;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the ringsail repository")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run Bookinfo in a local mesh, send traffic and play a story of seven YAML edits
    Demo(demo::Options),
    /// Run everything a contributor must pass; prints where the time goes
    Test {
        /// Run only the steps whose name contains this
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
    },
    /// Check the layering of crates and the bans on source text
    Tidy,
    /// Run one corpus of real cases through the real code
    Corpora {
        /// Corpus name, e.g. http1-vectors
        name: String,
        /// Another folder of the same structure
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// The same configuration and traffic through a stock Envoy and ringsail-proxy; prints what differs and a table
    Conformance(conformance::Options),
    /// Run the fuzz targets under libFuzzer, guided by coverage
    Fuzz(fuzz::Options),
    /// Measure ringsail-proxy beside Envoy and nginx; prints ratios and writes one HTML page
    Bench {
        /// What ringsail-bench takes, e.g. `http idle --rounds 3`; see `cargo xtask bench -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Regenerate the protobuf types from the committed .proto files
    Codegen {
        /// Change nothing; fail when the committed files are stale
        #[arg(long)]
        check: bool,
    },
    /// Renew the table of Envoy's fields that our subset of its types is compared with
    EnvoySchema {
        /// Roots of Envoy's .proto files and of what they import, e.g. the proto/* folders of the crate envoy-types
        #[arg(required = true)]
        roots: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let root = root();
    match task {
        Task::Demo(options) => demo::run(&root, &options),
        Task::Test { only } => test::run(&root, only.as_deref()),
        Task::Tidy => tidy::run(&root),
        Task::Corpora { name, dir } => corpora::run(&root, &name, dir.as_deref(), None),
        Task::Conformance(options) => conformance::run(&root, &options),
        Task::Fuzz(options) => fuzz::run(&root, &options),
        Task::Bench { arguments } => bench::run(&root, &arguments),
        Task::Codegen { check } => codegen::run(&root, check),
        Task::EnvoySchema { roots } => envoy_schema::run(&root, &roots),
    }
}

/// The repository's root, wherever inside it the command was started.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_path_buf()
}
