//! `cargo xtask fuzz`: the targets of `kernel-tests/fuzz` under libFuzzer, with coverage as the guide.
//!
//! Coverage needs no nightly compiler: the passes that count edges are options of the stable code generator.
//! AddressSanitizer does need one (`--address-sanitizer`); what it finds beyond panics are the mistakes that only
//! `unsafe` code and C libraries make.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell::{Shell, find_program, output_of};

/// What `cargo xtask fuzz` takes.
#[derive(clap::Args)]
pub struct Options {
    /// One target; without it all of them, one after the other
    target: Option<String>,

    /// How long each target runs
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    seconds: u32,

    /// With AddressSanitizer and its leak check; needs a nightly toolchain
    #[arg(long)]
    address_sanitizer: bool,
}

impl Options {
    /// All targets, for this long each.
    pub fn all(seconds: u32) -> Options {
        Options { target: None, seconds, address_sanitizer: false }
    }
}

/// The folder of libFuzzer's programs, seen from the root.
const PROGRAMS: &str = "kernel-tests/fuzz/libfuzzer";

/// The stable code generator's edge counters, as libFuzzer reads them. Source: what cargo-fuzz 0.13 passes.
const COVERAGE: [&str; 6] = [
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cdebug-assertions",
];

/// A single input may take so long, in seconds, and so much memory, in MiB, before it counts as a failure.
const INPUT_SECONDS_MAX: u32 = 20;
const MEMORY_MIB_MAX: u32 = 2048;
/// Longest input, in bytes.
const INPUT_BYTES_MAX: u32 = 16 * 1024;

/// Why the programs cannot be built here, if they cannot.
pub fn missing() -> Option<String> {
    let compilers = ["c++", "clang++", "g++"];
    let found = compilers.iter().any(|compiler| find_program(compiler).is_some());
    (!found).then(|| "no C++ compiler, which libFuzzer is built with (apt-get install g++)".to_string())
}

/// Builds the programs and runs them; fails when one finds something.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    if let Some(missing) = missing() {
        bail!("{missing}; without it `cargo test -p ringsail-fuzz` mutates inputs blindly");
    }
    let names = targets(root)?;
    let chosen: Vec<&String> =
        names.iter().filter(|name| options.target.as_ref().is_none_or(|target| target == *name)).collect();
    if chosen.is_empty() {
        bail!("no target is called {:?}; there are: {}", options.target, names.join(", "));
    }
    let programs = build(root, options.address_sanitizer, &chosen)?;
    let seeds = root.join("target/fuzz/seeds");
    let words =
        ["run", "--quiet", "--package", "ringsail-fuzz", "--", &seeds.to_string_lossy()].map(str::to_string);
    Shell::new(root, "cargo", words).run()?;
    let mut failed = Vec::new();
    for name in chosen {
        let corpus = root.join("target/fuzz/corpus").join(name);
        let findings = root.join("target/fuzz/findings").join(name);
        for folder in [&corpus, &findings] {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let arguments = vec![
            format!("-max_total_time={}", options.seconds),
            format!("-timeout={INPUT_SECONDS_MAX}"),
            format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
            format!("-max_len={INPUT_BYTES_MAX}"),
            "-print_final_stats=1".to_string(),
            "-verbosity=0".to_string(),
            format!("-artifact_prefix={}/", findings.display()),
            format!("-dict={}", seeds.join(format!("{name}.dict")).display()),
            corpus.to_string_lossy().into_owned(),
            seeds.join(name).to_string_lossy().into_owned(),
        ];
        let program = programs.join(name);
        if let Err(error) = Shell::new(root, &program.to_string_lossy(), arguments).run() {
            println!("{name}: {error:#}; the input is in {}", findings.display());
            failed.push(name.as_str());
        }
    }
    if !failed.is_empty() {
        bail!("these targets found something: {}", failed.join(", "));
    }
    Ok(())
}

/// Names of the targets: there is one program for each.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join(PROGRAMS).join("fuzz_targets");
    let files = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names: Vec<String> =
        files.filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_string())).collect();
    names.sort();
    Ok(names)
}

/// Builds the chosen programs; gives their folder.
fn build(root: &Path, address_sanitizer: bool, chosen: &[&String]) -> Result<PathBuf> {
    let machine = format!("{ARCH}-unknown-linux-gnu");
    let folder = root.join(if address_sanitizer { "target/fuzz/sanitized" } else { "target/fuzz/plain" });
    let manifest = root.join(PROGRAMS).join("Cargo.toml");
    let mut flags = COVERAGE.map(str::to_string).to_vec();
    let mut words = Vec::new();
    if address_sanitizer {
        let toolchains = output_of("rustup", &["toolchain", "list"]).unwrap_or_default();
        if !toolchains.contains("nightly") {
            bail!("AddressSanitizer needs a nightly compiler: rustup toolchain install nightly");
        }
        words.push("+nightly".to_string());
        flags.push("-Zsanitizer=address".to_string());
    }
    // The versions that everything else is tested with; cargo adds what only these programs need.
    fs::copy(root.join("Cargo.lock"), root.join(PROGRAMS).join("Cargo.lock"))
        .context("copying Cargo.lock")?;
    // A target is named so that build scripts and macros, which run here, are built without the counters.
    words.extend([
        "build".to_string(),
        "--manifest-path".to_string(),
        manifest.to_string_lossy().into_owned(),
    ]);
    words.extend(["--target".to_string(), machine.clone()]);
    for name in chosen {
        words.extend(["--bin".to_string(), name.to_string()]);
    }
    Shell::new(root, "cargo", words)
        .env("RUSTFLAGS", flags.join(" "))
        .env("CARGO_TARGET_DIR", folder.to_string_lossy())
        .run()?;
    Ok(folder.join(machine).join("debug"))
}
