//! `ringsail`: the command users type.
//!
//! `ringsail local DIR` runs a mesh from a folder of YAML on this machine, without Kubernetes and without root: it starts
//! `ringsaild`, one proxy per workload and the workloads' own programs, and nothing of the mesh itself happens in this
//! process. `ringsail analyze DIR` says what would be refused.
//!
//! Start with [`local`]. Invariant: whatever this program started is gone when it ends.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod analyze;
mod folder;
mod limits;
mod local;

#[derive(Parser)]
#[command(
    name = "ringsail",
    version,
    about = "An Istio-compatible service mesh",
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    // Described where its options are.
    Local(local::Options),
    /// Report what is wrong with a folder of YAML, with file, line, field and fix
    Analyze {
        /// The folder; its subfolders count too
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    run(Arguments::parse().command).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Task) -> Result<ExitCode> {
    match command {
        Task::Local(options) => local::run(options),
        Task::Analyze { dir } => analyze::run(&dir),
    }
}
