//! `cargo xtask bench`: builds what is measured in release mode, brings the peers, and runs `ringsail-bench`.

use std::path::Path;

use anyhow::Result;

use crate::shell::Shell;
use crate::tools::{self, Package};

/// The peers that Debian packages, and what pins a process to a core.
const PACKAGES: [Package; 2] = [
    Package { program: "nginx", package: "nginx-light libnginx-mod-stream" },
    Package { program: "taskset", package: "util-linux" },
];

/// Runs the benchmark with `arguments`; a peer that cannot be had is left out loudly.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    tools::require_packages(root, &tools::FOR_BUILDING)?;
    if let Err(error) = tools::require_packages(root, &PACKAGES) {
        println!("going on without some peers: {error:#}");
    }
    let programs = "-p ringsail-proxy -p ringsail-upstream -p ringsail-loadgen -p ringsail-bench";
    Shell::cargo(root, &format!("build --release {programs}")).run()?;
    let bench = root.join("target/release/ringsail-bench");
    let mut shell = Shell::new(root, &bench.to_string_lossy(), arguments);
    if let Some(envoy) = tools::envoy(root) {
        shell = shell.env("ENVOY_BIN", envoy.to_string_lossy());
    }
    shell.run()
}
