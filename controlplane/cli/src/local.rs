//! `ringsail local`: the processes of a mesh, from a folder of YAML.
//!
//! - `workload`: which pods the folder declares;
//! - `address`, `pod`, `bootstrap`: what each of them is told about itself;
//! - `process`, `output`: keeping a process running and its output readable;
//! - `mesh`: all of it together, following the folder;
//! - `ready`: waiting until every proxy has its configuration.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::folder;
use crate::limits::{FOLDER_POLL_INTERVAL, READY_TIMEOUT, SOCKET_PATH_BYTES_MAX};
use mesh::Mesh;
use output::say;

pub use options::Options;

mod address;
mod bootstrap;
mod expand;
mod mesh;
mod options;
mod output;
mod pod;
mod process;
mod programs;
mod ready;
#[cfg(test)]
mod tests;
mod workload;

/// The folders of one run. The lock lives as long as this value.
pub struct RunDir {
    root: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes an empty run directory of our own; logs of earlier runs are replaced.
    fn claim(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        let root = path.canonicalize()?;
        let lock = File::create(root.join("lock"))?;
        if lock.try_lock().is_err() {
            bail!("another `ringsail local` uses {}; give this one its own --run-dir", root.display());
        }
        let this = Self { root, _lock: lock };
        if this.xds_socket().as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            bail!(
                "{} is too long a path for a Unix socket; give a shorter --run-dir",
                this.xds_socket().display()
            );
        }
        this.clear();
        for folder in [this.workloads(), this.bootstraps(), this.logs()] {
            fs::remove_dir_all(&folder).ok();
            fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(this)
    }

    /// The control plane's xDS socket.
    pub fn xds_socket(&self) -> PathBuf {
        self.root.join("xds.sock")
    }

    /// Generated Pod objects: the control plane's second source.
    pub fn workloads(&self) -> PathBuf {
        self.root.join("workloads")
    }

    /// One bootstrap per proxy.
    pub fn bootstraps(&self) -> PathBuf {
        self.root.join("bootstrap")
    }

    /// One log per process.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// What runs, as JSON, for other programs.
    pub fn state(&self) -> PathBuf {
        self.root.join("mesh.json")
    }

    /// Where the first gateway takes requests, as `ADDRESS:PORT`, for shell scripts.
    pub fn gateway(&self) -> PathBuf {
        self.root.join("gateway")
    }

    /// Removes what makes sense only while the mesh runs.
    fn clear(&self) {
        fs::remove_file(self.xds_socket()).ok();
        fs::remove_file(self.state()).ok();
        fs::remove_file(self.gateway()).ok();
        fs::remove_dir_all(self.workloads()).ok();
        fs::remove_dir_all(self.bootstraps()).ok();
    }
}

/// Runs the mesh until it is asked to end.
pub fn run(options: Options) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run_mesh(options))
}

async fn run_mesh(options: Options) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // The folder first: a wrong name should not cost a run directory.
    let signature = folder::signature(&options.dir)?;
    let run_dir = RunDir::claim(&options.run_dir)?;
    let mut mesh = Mesh::new(options, run_dir)?;
    let ended = tokio::select! {
        ended = follow(&mut mesh, signature) => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = hang_up.recv() => Ok(()),
    };
    say("ending everything");
    tokio::select! {
        () = mesh.stop() => {}
        // Asked twice: children die with us by kill-on-drop.
        _ = interrupt.recv() => say("not waiting any longer"),
    }
    mesh.run_dir().clear();
    say(&format!("all processes ended; logs stay in {}", mesh.run_dir().logs().display()));
    ended.map(|()| ExitCode::SUCCESS)
}

/// Starts the mesh and follows its folder; ends only with an error.
async fn follow(mesh: &mut Mesh, mut signature: folder::Signature) -> Result<()> {
    let begun = Instant::now();
    mesh.reload().await?;
    if mesh.is_empty() {
        bail!(
            "{} declares nothing to run: local mode needs a Deployment, StatefulSet, DaemonSet or Pod with a `command`; \
             see deploy/samples/bookinfo for an example",
            mesh.dir().display()
        );
    }
    let mut greeted = false;
    loop {
        mesh.write_state()?;
        if !greeted {
            greeted = greet(mesh, begun).await;
        }
        tokio::time::sleep(FOLDER_POLL_INTERVAL).await;
        let current = folder::signature(mesh.dir()).unwrap_or_default();
        if current != signature && !current.is_empty() {
            signature = current;
            // What runs goes on running; the next save is another chance.
            if let Err(error) = mesh.reload().await {
                say(&format!("the folder cannot be followed: {error:#}"));
            }
        }
    }
}

/// Reports once that the mesh is ready, or who is not although it had its time; `false` to ask again.
async fn greet(mesh: &Mesh, begun: Instant) -> bool {
    let waiting = ready::not_ready(&mesh.admin_addresses()).await;
    let elapsed = begun.elapsed();
    if waiting.is_empty() {
        say(&format!("the mesh is ready after {:.1} s", elapsed.as_secs_f64()));
        for line in mesh.describe() {
            say(&line);
        }
        return true;
    }
    if elapsed > READY_TIMEOUT {
        say(&format!(
            "not ready after {} s: {}; look at their logs in {}",
            elapsed.as_secs(),
            waiting.join(", "),
            mesh.run_dir().logs().display()
        ));
        return true;
    }
    false
}
