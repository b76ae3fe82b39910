//! `cargo xtask corpora NAME`: one corpus of real cases through the real code.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell::Shell;
use crate::tools;

/// What a corpus must reach for `cargo xtask test` to pass.
pub struct Gate {
    /// Name of the corpus.
    pub name: &'static str,
    /// Least share of cases that agree, in percent.
    pub agree_percent_min: u32,
}

/// The corpora that have a runner. No corpus may have an unsafe verdict.
pub const GATES: [Gate; 8] = [
    Gate { name: "cel-vectors", agree_percent_min: 75 },
    Gate { name: "http1-vectors", agree_percent_min: 90 },
    Gate { name: "http2-vectors", agree_percent_min: 88 },
    Gate { name: "path-normalization", agree_percent_min: 100 },
    Gate { name: "envoy-routes", agree_percent_min: 100 },
    Gate { name: "istio-simulation", agree_percent_min: 70 },
    Gate { name: "istio-unit-tables", agree_percent_min: 95 },
    // The rest are metrics of containers, of Go and of the control plane, and mutual TLS.
    Gate { name: "telemetry", agree_percent_min: 50 },
];

/// The corpus whose cases are asked of running programs.
const NEEDS_PROGRAMS: &str = "telemetry";

/// The corpus whose cases a Python peer plays.
pub const NEEDS_PYTHON: &str = "http2-vectors";

/// The folder that holds a corpus unless `--dir` names another.
pub fn default_folder(root: &Path, name: &str) -> PathBuf {
    root.join("../shared/corpora").join(name)
}

/// Runs one corpus; with a gate, its figures must reach it.
pub fn run(root: &Path, name: &str, dir: Option<&Path>, gate: Option<&Gate>) -> Result<()> {
    if name == NEEDS_PYTHON {
        tools::python(root).context("this corpus is run by a Python peer")?;
        Shell::cargo(root, "build --quiet --package ringsail-proxy").run()?;
    }
    if name == NEEDS_PROGRAMS {
        let packages =
            "--package ringsail-cli --package ringsaild --package ringsail-proxy --package ringsail-upstream";
        Shell::cargo(root, &format!("build --quiet {packages}")).run()?;
    }
    let dir = dir.map_or_else(|| default_folder(root, name), Path::to_path_buf);
    let mut arguments: Vec<String> =
        ["run", "--quiet", "--package", "ringsail-corpora", "--", name, "--dir"].map(str::to_owned).to_vec();
    arguments.push(dir.to_string_lossy().into_owned());
    if let Some(gate) = gate {
        arguments.push(format!("--agree-percent-min={}", gate.agree_percent_min));
    }
    Shell::new(root, "cargo", arguments).run()
}
