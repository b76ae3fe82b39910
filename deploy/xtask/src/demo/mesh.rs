//! `ringsail local` as a child: started, asked where its gateway is, ended.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};

use super::client::Client;

/// How long a mesh may take to serve its first page; a debug build on a busy machine takes a few seconds.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// A running local mesh with a copy of the sample folder as its configuration.
pub struct Mesh {
    child: Child,
    run_dir: PathBuf,
    /// The folder whose edits the mesh follows.
    pub folder: PathBuf,
}

impl Mesh {
    /// Copies `sample` below `work` and starts `ringsail local` on the copy.
    pub fn start(program: &Path, sample: &Path, work: &Path, arguments: &[String]) -> Result<Self> {
        fs::remove_dir_all(work).ok();
        let (folder, run_dir) = (work.join("bookinfo"), work.join("run"));
        copy_over(sample, &folder)?;
        let output = work.join("ringsail-local.log");
        let log = File::create(&output).with_context(|| format!("cannot write {}", output.display()))?;
        let child = Command::new(program)
            .arg("local")
            .arg(&folder)
            .arg("--run-dir")
            .arg(&run_dir)
            .arg("--quiet")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, run_dir, folder })
    }

    /// Waits until the gateway serves the page with all its parts; gives the gateway's address.
    pub async fn serve(&mut self) -> Result<SocketAddr> {
        let begun = Instant::now();
        let mut last = "its gateway is not known yet".to_owned();
        while begun.elapsed() < START_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                bail!("`ringsail local` ended ({status}):\n{}", self.output());
            }
            if let Some(address) = self.gateway() {
                match Client::new(address).get("/productpage", &[]).await {
                    Ok(page) if page.status == 200 && all_calls_succeeded(&page.answer) => {
                        return Ok(address);
                    }
                    Ok(page) => last = format!("the page answers {} {:?}", page.status, page.answer),
                    Err(error) => last = format!("the page cannot be had: {error:#}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("no page after {} s: {last}\n{}", START_TIMEOUT.as_secs(), self.output())
    }

    /// Saves a story step's files over those of the folder.
    pub fn save(&self, step: &Path) -> Result<()> {
        copy_over(step, &self.folder)
    }

    /// An address outside the mesh that no other mesh on this machine uses: local mesh N has 127.77.N.0/24.
    pub fn outside(&self) -> Result<Ipv4Addr> {
        let gateway = self.gateway().context("the mesh runs")?;
        match gateway.ip() {
            IpAddr::V4(address) => Ok(Ipv4Addr::new(127, 80, address.octets()[2], 1)),
            IpAddr::V6(address) => bail!("{address} is no local mesh's"),
        }
    }

    /// Writes an address into a file that was saved, as a user writes his own.
    pub fn edit(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let path = self.folder.join(file);
        let text = fs::read_to_string(&path)?.replace(from, to);
        let partial = path.with_extension("saving");
        fs::write(&partial, text)?;
        Ok(fs::rename(&partial, &path)?)
    }

    /// Log of one of the mesh's processes.
    pub fn log(&self, process: &str) -> String {
        fs::read_to_string(self.run_dir.join("logs").join(format!("{process}.log"))).unwrap_or_default()
    }

    /// Asks the mesh to end and waits for it.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            kill(Pid::from_raw(id), Signal::SIGTERM)?;
        }
        Ok(self.child.wait().await?)
    }

    fn gateway(&self) -> Option<SocketAddr> {
        let state: Value =
            serde_json::from_str(&fs::read_to_string(self.run_dir.join("mesh.json")).ok()?).ok()?;
        let pod = state["pods"].as_array()?.iter().find(|pod| pod["role"] == "gateway")?;
        let port = pod["ports"][0].as_u64().and_then(|port| u16::try_from(port).ok())?;
        Some((pod["mesh_address"].as_str()?.parse::<IpAddr>().ok()?, port).into())
    }

    fn output(&self) -> String {
        let path = self.run_dir.with_file_name("ringsail-local.log");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(30).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        format!("its output ({}) ends with:\n{tail}", path.display())
    }
}

fn all_calls_succeeded(answer: &Option<Value>) -> bool {
    let calls = answer.as_ref().and_then(|answer| answer["calls"].as_array());
    calls.is_some_and(|calls| calls.iter().all(|call| call["status"] == 200))
}

/// Copies the YAML files below `from` over those below `to`, each by rename, as an editor saves.
fn copy_over(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().context("an entry has a name")?.to_string_lossy().into_owned();
        let target = to.join(&name);
        if path.is_dir() {
            copy_over(&path, &target)?;
        } else if name.ends_with(".yaml") {
            let partial = to.join(format!(".{name}.saving"));
            fs::copy(&path, &partial)?;
            fs::rename(&partial, &target)?;
        }
    }
    Ok(())
}
