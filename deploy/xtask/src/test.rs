//! `cargo xtask test`: everything a contributor must pass, step by step, with the time each step took.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::shell::{Shell, output_of};
use crate::{codegen, corpora, fuzz, tidy, tools, tutorial};

/// What a step found.
#[derive(Default)]
struct Outcome {
    /// Tests or checks that passed.
    passed: u64,
    /// Tests or checks that failed.
    failed: u64,
    /// Why the step did not run, when it did not.
    skipped: Option<String>,
}

impl Outcome {
    /// A step that is one check.
    fn check(result: Result<()>) -> Result<Self> {
        result.map(|()| Self { passed: 1, ..Self::default() })
    }

    fn skip(reason: impl Into<String>) -> Result<Self> {
        Ok(Self { skipped: Some(reason.into()), ..Self::default() })
    }
}

/// One named step.
struct Step {
    name: &'static str,
    run: fn(&Path) -> Result<Outcome>,
}

/// Cheap steps first: a wrong comma should not cost a build.
const STEPS: [Step; 16] = [
    Step { name: "format", run: |root| Outcome::check(Shell::cargo(root, "fmt --all --check").run()) },
    Step { name: "codegen", run: |root| Outcome::check(codegen::run(root, true)) },
    Step { name: "tidy", run: |root| Outcome::check(tidy::run(root)) },
    Step { name: "deny", run: deny },
    Step { name: "advisories", run: advisories },
    Step { name: "clippy", run: |root| Outcome::check(clippy(root)) },
    Step { name: "docs", run: |root| Outcome::check(docs(root)) },
    Step { name: "build", run: |root| Outcome::check(Shell::cargo(root, "build --workspace --bins").run()) },
    Step { name: "tests", run: |root| cargo_test(root, "auto") },
    Step { name: "tests on epoll", run: |root| cargo_test(root, "epoll") },
    Step { name: "fuzz", run: fuzzing },
    Step { name: "corpora", run: corpora_gates },
    Step { name: "demo", run: |root| Outcome::check(demo(root, &["--engine=auto"])) },
    Step { name: "demo on epoll", run: |root| Outcome::check(demo(root, &["--engine=epoll"])) },
    Step { name: "demo on Envoy", run: demo_on_envoy },
    Step { name: "tutorial", run: |root| Outcome::check(tutorial(root)) },
];

/// Runs every step, or those whose name contains `only`; goes on after a failure so that one run shows all of them.
pub fn run(root: &Path, only: Option<&str>) -> Result<()> {
    tools::require_packages(root, &tools::FOR_BUILDING)?;
    let mut rows = Vec::new();
    let mut total = Outcome::default();
    for step in STEPS.iter().filter(|step| only.is_none_or(|only| step.name.contains(only))) {
        println!("\n=== {} ===", step.name);
        let start = Instant::now();
        let outcome = (step.run)(root).unwrap_or_else(|error| {
            println!("{} FAILED: {error:#}", step.name);
            Outcome { failed: 1, ..Outcome::default() }
        });
        if let Some(reason) = &outcome.skipped {
            println!("{} SKIPPED: {reason}", step.name);
        }
        total.passed += outcome.passed;
        total.failed += outcome.failed;
        rows.push((step.name, start.elapsed(), outcome));
    }
    if rows.is_empty() {
        bail!(
            "no step is called `{}`; steps: {}",
            only.unwrap_or_default(),
            STEPS.map(|step| step.name).join(", ")
        );
    }
    print_table(&rows);
    println!("\n{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 {
        bail!("not everything passed");
    }
    Ok(())
}

fn print_table(rows: &[(&str, Duration, Outcome)]) {
    println!("\n{:<16} {:>8}  {:>7} {:>7}", "step", "seconds", "passed", "failed");
    for (name, elapsed, outcome) in rows {
        let note = outcome.skipped.as_ref().map(|reason| format!("  skipped: {reason}")).unwrap_or_default();
        println!(
            "{name:<16} {:>8.1}  {:>7} {:>7}{note}",
            elapsed.as_secs_f64(),
            outcome.passed,
            outcome.failed
        );
    }
    let whole: Duration = rows.iter().map(|(_, elapsed, _)| *elapsed).sum();
    println!("{:<16} {:>8.1}", "all", whole.as_secs_f64());
}

fn clippy(root: &Path) -> Result<()> {
    Shell::cargo(root, "clippy --workspace --all-targets -- -D warnings").run()
}

fn docs(root: &Path) -> Result<()> {
    Shell::cargo(root, "doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings").run()
}

fn deny(root: &Path) -> Result<Outcome> {
    let program = tools::cargo_deny(root)?;
    let arguments = ["--log-level=error", "check", "licenses", "sources", "bans"];
    Outcome::check(Shell::new(root, &program.to_string_lossy(), arguments).run())
}

/// Known vulnerabilities count only where their database can be reached: a build must not need the network.
fn advisories(root: &Path) -> Result<Outcome> {
    const DATABASE: &str = "https://github.com/rustsec/advisory-db";
    let arguments = ["20", "git", "-c", "credential.helper=", "ls-remote", "--quiet", DATABASE, "HEAD"];
    if output_of("timeout", &arguments).is_err() {
        return Outcome::skip(format!("{DATABASE} cannot be reached"));
    }
    let program = tools::cargo_deny(root)?;
    let arguments = ["--log-level=error", "check", "advisories"];
    Outcome::check(Shell::new(root, &program.to_string_lossy(), arguments).run())
}

/// All tests of the workspace with the shards on one event loop; counts from cargo's own summary lines.
fn cargo_test(root: &Path, engine: &str) -> Result<Outcome> {
    let mut shell = Shell::cargo(root, "test --workspace --no-fail-fast").env("RINGSAIL_ENGINE", engine);
    if let Some(envoy) = tools::envoy(root) {
        shell = shell.env("ENVOY_BIN", envoy.to_string_lossy());
    } else {
        println!("NO ENVOY: the tests that compare with it do not run");
    }
    if let Some(python) = tools::python(root) {
        shell = shell.env("RINGSAIL_TEST_PYTHON", python.to_string_lossy());
    }
    let (mut command, line) = shell.into_command();
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{line}`"))?;
    let mut outcome = Outcome::default();
    for text in BufReader::new(child.stdout.take().context("stdout is piped")?).lines() {
        let text = text?;
        if let Some((passed, failed)) = summary(&text) {
            outcome.passed += passed;
            outcome.failed += failed;
        }
        println!("{text}");
    }
    if !child.wait()?.success() && outcome.failed == 0 {
        bail!("`{line}` failed before its tests could run");
    }
    Ok(outcome)
}

/// Passed and failed of a line like `test result: ok. 3 passed; 0 failed; …`.
fn summary(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |word: &str| {
        let part = counts.split("; ").find(|part| part.ends_with(word))?;
        part.split(' ').next()?.parse().ok()
    };
    Some((count(" passed")?, count(" failed")?))
}

/// The targets under libFuzzer where it is asked for: their programs are a second build of almost everything. The tests
/// have mutated the same seeds blindly.
fn fuzzing(root: &Path) -> Result<Outcome> {
    const ASKED: &str = "RINGSAIL_FUZZ_SECONDS";
    let Some(seconds) = std::env::var(ASKED).ok().and_then(|text| text.parse().ok()) else {
        return Outcome::skip(format!("{ASKED} does not say how long each target is to run"));
    };
    match fuzz::missing() {
        None => Outcome::check(fuzz::run(root, &fuzz::Options::all(seconds))),
        Some(missing) => Outcome::skip(missing),
    }
}

fn corpora_gates(root: &Path) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut missing = Vec::new();
    for gate in &corpora::GATES {
        if !corpora::default_folder(root, gate.name).is_dir() {
            missing.push(gate.name);
            continue;
        }
        if gate.name == corpora::NEEDS_PYTHON && tools::python(root).is_none() {
            println!("{} SKIPPED: its Python peer cannot be had", gate.name);
            continue;
        }
        match corpora::run(root, gate.name, None, Some(gate)) {
            Ok(()) => outcome.passed += 1,
            Err(error) => {
                println!("{error:#}");
                outcome.failed += 1;
            }
        }
    }
    if !missing.is_empty() {
        outcome.skipped = Some(format!("no folder for {} beside the repository", missing.join(", ")));
    }
    Ok(outcome)
}

fn demo(root: &Path, arguments: &[&str]) -> Result<()> {
    // By cargo and not by our own path: building the workspace may have replaced the file we run from.
    let arguments = ["xtask", "demo", "--once", "--profile=dev"].iter().chain(arguments);
    Shell::new(root, "cargo", arguments).run()
}

/// The same story with a stock Envoy in every proxy's seat: what the control plane sends is Envoy's own language.
fn demo_on_envoy(root: &Path) -> Result<Outcome> {
    match tools::envoy(root) {
        Some(envoy) => Outcome::check(demo(root, &["--envoy", &envoy.to_string_lossy()])),
        None => Outcome::skip("no Envoy on this machine, and PyPI cannot be reached"),
    }
}

fn tutorial(root: &Path) -> Result<()> {
    // The programs lie beside us once the step `build` has run.
    let own = std::env::current_exe()?;
    let programs = own.parent().context("a program lies in a folder")?;
    tutorial::run(root, &root.join("deploy/docs/tutorial.md"), programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_summaries_are_counted() {
        let line = "test result: FAILED. 11 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(summary(line), Some((11, 2)));
        assert_eq!(summary("running 11 tests"), None);
    }
}
