//! `cargo xtask demo`: Bookinfo in a local mesh, and a story in eight edits of its YAML.
//!
//! Real pieces in their real places: `ringsail local` starts `ringsaild`, one proxy per workload and the application; we
//! only send traffic to the gateway, save files and compare what answers with what the files say.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::shell::Shell;
use crate::tools::{self, Package};
use client::Client;
use mesh::Mesh;
use story::{OUTSIDE, OUTSIDE_ADDRESS, STORY, Step, Verdict};
use traffic::Traffic;

mod binomial;
mod client;
mod mesh;
mod observe;
mod screen;
mod story;
mod traffic;

/// What the demo's programs need at run time that a machine with Rust may lack.
const PACKAGES: [Package; 1] = [Package { program: "setpriv", package: "util-linux" }];

/// The programs of a local mesh.
const PROGRAMS: [&str; 4] = ["ringsail", "ringsaild", "ringsail-proxy", "ringsail-upstream"];

/// Time from saving a file until its traffic is judged. The mesh needs a fraction of it; a debug build on two busy cores
/// needs more.
const SETTLE: Duration = Duration::from_secs(3);

/// Longest time to collect one step's pages.
const WATCH_MAX: Duration = Duration::from_secs(60);

/// Longest time until a proxy that a step adds serves its first request.
const START_MAX: Duration = Duration::from_secs(30);

/// How often the live table is redrawn.
const REDRAW_INTERVAL: Duration = Duration::from_millis(500);

/// How the mesh is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Optimised
    Release,
    /// Quick to build
    Dev,
}

/// Options of the demo.
#[derive(Debug, Args)]
pub struct Options {
    /// Play the story once without a terminal; fails if anything seen disagrees with the files
    #[arg(long)]
    once: bool,

    /// How the mesh is built
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,

    /// Event loop of the proxies: auto, io_uring or epoll
    #[arg(long, default_value = "auto", env = "RINGSAIL_ENGINE")]
    engine: String,

    /// Put a stock Envoy into every proxy's seat: a path, or fetched when none is given
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    envoy: Option<Option<PathBuf>>,
}

/// Builds, starts, plays, and ends everything it started.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    tools::require_packages(root, &tools::FOR_BUILDING)?;
    tools::require_packages(root, &PACKAGES)?;
    let programs = build(root, options.profile)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, play(root, &programs, options))
}

/// Builds the mesh's programs; gives the folder they are in.
fn build(root: &Path, profile: Profile) -> Result<PathBuf> {
    let mut words = vec!["build"];
    if profile == Profile::Release {
        words.push("--release");
    }
    for program in PROGRAMS {
        words.extend(["--bin", program]);
    }
    Shell::new(root, "cargo", words).run()?;
    // We were built into the same target folder: target/debug/xtask.
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).unwrap_or(root);
    Ok(target.join(if profile == Profile::Release { "release" } else { "debug" }))
}

async fn play(root: &Path, programs: &Path, options: &Options) -> Result<()> {
    let mut arguments = vec![format!("--engine={}", options.engine)];
    if let Some(envoy) = &options.envoy {
        let Some(envoy) = envoy.clone().or_else(|| tools::envoy(root)) else {
            bail!("no Envoy to be had; name one: --envoy PATH");
        };
        arguments.push(format!("--envoy={}", envoy.display()));
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let work = root.join("target/demo").join(std::process::id().to_string());
    let sample = root.join("deploy/samples/bookinfo");
    let mut mesh = Mesh::start(&programs.join("ringsail"), &sample, &work, &arguments)?;
    let live = !options.once && std::io::stdout().is_terminal();
    let played = tokio::select! {
        played = tell(root, programs, &mut mesh, live, options.once) => played,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    println!("ending the mesh");
    let ended = mesh.stop().await?;
    match &played {
        // Logs of a story that went wrong are worth keeping.
        Err(_) => println!("logs are in {}", work.join("run/logs").display()),
        Ok(()) => std::fs::remove_dir_all(&work)?,
    }
    played?;
    if !ended.success() {
        bail!("`ringsail local` failed ({ended})");
    }
    Ok(())
}

/// Plays the story; without `once`, goes on showing traffic until interrupted.
async fn tell(root: &Path, programs: &Path, mesh: &mut Mesh, live: bool, once: bool) -> Result<()> {
    let begun = Instant::now();
    println!("starting the mesh");
    let gateway = mesh.serve().await?;
    println!("first page after {:.1} s from http://{gateway}/productpage", begun.elapsed().as_secs_f64());
    let _outside = start_outside(programs, mesh)?;
    let traffic = Traffic::start(Client::new(gateway), STORY[0].rate);
    let mut told = Told::default();
    let mut disagreements = 0;
    for (index, step) in STORY.iter().enumerate() {
        let title = format!("step {} of {}: {} ({})\n", index + 1, STORY.len(), step.title, step.folder);
        let verdicts = play_step(root, mesh, &traffic, step, live.then_some((&told, &title))).await?;
        disagreements += verdicts.iter().filter(|verdict| !verdict.agrees).count();
        let table = traffic.look(screen::edges);
        let outcome = screen::verdicts(&verdicts);
        if !live {
            println!("{title}{table}{outcome}");
        }
        told.add(&title, outcome, verdicts.iter().all(|verdict| verdict.agrees));
    }
    if once {
        if disagreements > 0 {
            bail!("{disagreements} observation(s) disagree with the files");
        }
        println!("the story is told: everything seen agrees with the files");
        return Ok(());
    }
    traffic.open_window();
    loop {
        tokio::time::sleep(REDRAW_INTERVAL).await;
        if live {
            let folder = mesh.folder.display();
            let table = traffic.look(screen::edges);
            screen::redraw(&format!(
                "{}\n{table}\nedit the files in {folder}\npage: http://{gateway}/productpage; end with Ctrl-C\n",
                told.text()
            ));
        }
    }
}

/// Starts the ratings that the mesh does not start: it runs already when its WorkloadEntry is written.
fn start_outside(programs: &Path, mesh: &Mesh) -> Result<tokio::process::Child> {
    let program = programs.join("ringsail-upstream");
    tokio::process::Command::new(&program)
        .arg(format!("--listen={}:9080", mesh.outside()?))
        .args(["--service=ratings", &format!("--service-version={OUTSIDE}")])
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

/// What a terminal shows of the steps so far: a line for each, and all that was seen in the last one.
#[derive(Default)]
struct Told {
    steps: String,
    last: String,
}

impl Told {
    fn add(&mut self, title: &str, outcome: String, agrees: bool) {
        self.steps.push_str(if agrees { "agrees     " } else { "DISAGREES  " });
        self.steps.push_str(title);
        self.last = outcome;
    }

    fn text(&self) -> String {
        format!("{}{}", self.steps, self.last)
    }
}

/// Saves the step's files, waits, watches, judges.
async fn play_step(
    root: &Path,
    mesh: &Mesh,
    traffic: &Traffic,
    step: &Step,
    live: Option<(&Told, &String)>,
) -> Result<Vec<Verdict>> {
    let log_before = mesh.log("ringsaild").len();
    for file in step.restores {
        std::fs::copy(root.join("deploy/samples/bookinfo").join(file), mesh.folder.join(file))?;
    }
    mesh.save(&root.join("deploy/samples/bookinfo-story").join(step.folder))?;
    if step.awaits_ratings.is_some() {
        mesh.edit("apps/ratings.yaml", OUTSIDE_ADDRESS, &mesh.outside()?.to_string())?;
    }
    traffic.set_rate(step.rate);
    let show = |state: &str| {
        if let Some((told, title)) = live {
            let table = traffic.look(screen::edges);
            screen::redraw(&format!("{}{title}  {state}\n\n{table}", told.text()));
        }
    };
    wait(SETTLE, || false, || show("saved; the mesh takes it up")).await;
    if let Some(version) = step.awaits_ratings {
        let answered = || traffic.look(|window| window.ratings_versions().contains_key(version));
        wait(START_MAX, answered, || show("waiting for the new sidecar")).await;
    }
    traffic.open_window();
    let enough = || traffic.look(|window| window.pages >= step.pages);
    wait(WATCH_MAX, enough, || show("watching")).await;
    let log = mesh.log("ringsaild");
    let log = log.get(log_before..).unwrap_or(&log);
    Ok(traffic.look(|window| step.claims.iter().map(|claim| claim.judge(window, log)).collect()))
}

/// Waits until `done` or for `longest`, showing progress.
async fn wait(longest: Duration, done: impl Fn() -> bool, show: impl Fn()) {
    let until = Instant::now() + longest;
    while Instant::now() < until && !done() {
        show();
        tokio::time::sleep(REDRAW_INTERVAL.min(until.saturating_duration_since(Instant::now()))).await;
    }
}
