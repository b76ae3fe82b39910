//! Where the two proxies' binaries are.

use std::env;
use std::path::{Path, PathBuf};

/// The stock Envoy: `ENVOY_BIN` if set, else `target/tools/envoy/envoy/_bin/envoy`. `None` is for the caller to report with
/// [`skip_notice`].
pub fn envoy() -> Option<PathBuf> {
    let candidate = match env::var_os("ENVOY_BIN") {
        Some(path) => PathBuf::from(path),
        None => repository_root().join("target/tools/envoy/envoy/_bin/envoy"),
    };
    candidate.is_file().then_some(candidate)
}

/// ringsail-proxy: `RINGSAIL_BIN` if set, else the binary beside the running program or its build folder.
pub fn ringsail_proxy() -> Option<PathBuf> {
    if let Some(path) = env::var_os("RINGSAIL_BIN") {
        return Some(PathBuf::from(path)).filter(|path| path.is_file());
    }
    let program = env::current_exe().ok()?;
    // A test lies one folder deeper than the programs.
    program
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("ringsail-proxy"))
        .find(|path| path.is_file())
}

/// [`ringsail_proxy`], or `None` after saying on standard error that it is missing.
pub fn ringsail_or_notice() -> Option<PathBuf> {
    let found = ringsail_proxy();
    if found.is_none() {
        skip_notice("no ringsail-proxy beside the tests: run `cargo build -p ringsail-proxy` first");
    }
    found
}

/// Both binaries, or `None` after saying on standard error what is missing and how to get it.
pub fn both() -> Option<(PathBuf, PathBuf)> {
    let envoy = envoy();
    if envoy.is_none() {
        skip_notice("no Envoy binary: set ENVOY_BIN, or run `cargo xtask test`, which installs one");
    }
    envoy.zip(ringsail_or_notice())
}

/// Says loudly that a test did not run.
pub fn skip_notice(reason: &str) {
    eprintln!("\n*** SKIPPED: {reason} ***\n");
}

fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."))
}
