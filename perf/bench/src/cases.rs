//! What is measured: one function a case.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::Options;
use crate::bootstrap::Scenario;
use crate::load::{self, Backend, Held, free_port};
use crate::peer::{Peer, Running};
use crate::process::Folder;
use crate::results::Results;

/// A kind of measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// HTTP/1.1 keep-alive, as fast as it goes
    Http,
    /// HTTP/1.1 keep-alive on a fixed schedule of arrivals
    Latency,
    /// A new connection for every request
    NewConnections,
    /// TCP: 64 bytes there and back
    Tcp,
    /// Memory at the start and per idle connection
    Idle,
    /// Memory per configured cluster
    Clusters,
    /// From exec to the first answer
    Startup,
}

/// Connections of the request cases.
const CONNECTIONS: &str = "64";
/// Arrival rates of the latency case, requests per second: far below, at, and near what a sidecar sees at its busiest.
const RATES: [u32; 3] = [1_000, 4_000, 8_000];
/// Idle connections of the memory case: two descriptors each must stay under the usual limit of 20,000.
const IDLE_CONNECTIONS: usize = 5_000;
/// Configured clusters of the memory case.
const CLUSTER_COUNTS: [usize; 2] = [1_000, 5_000];
/// Clusters of the start-up case.
const STARTUP_CLUSTERS: [usize; 2] = [0, 1_000];
/// How long memory is left to settle before it is read: allocators give back after a delay.
const SETTLE: Duration = Duration::from_millis(1500);
/// Bytes of one TCP exchange.
const ECHO_BYTES: &str = "64";

impl Case {
    /// All cases, in report order.
    pub const ALL: [Case; 7] = [
        Case::Http,
        Case::Latency,
        Case::NewConnections,
        Case::Tcp,
        Case::Idle,
        Case::Clusters,
        Case::Startup,
    ];

    /// The name on the command line and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Case::Http => "http",
            Case::Latency => "latency",
            Case::NewConnections => "new-connections",
            Case::Tcp => "tcp",
            Case::Idle => "idle",
            Case::Clusters => "clusters",
            Case::Startup => "startup",
        }
    }

    /// The question it answers.
    pub fn question(self) -> &'static str {
        match self {
            Case::Http => "CPU per request when saturated, HTTP/1.1 keep-alive, 64 connections, 1 KiB",
            Case::Latency => "latency and CPU per request at fixed arrival rates",
            Case::NewConnections => "CPU per connection with one request",
            Case::Tcp => "CPU per 64-byte exchange over TCP",
            Case::Idle => "resident memory after start, and per idle connection",
            Case::Clusters => "resident memory per cluster with 5 endpoints",
            Case::Startup => "time from exec to the first answer",
        }
    }
}

/// Runs `case` for every peer that can do it.
pub fn run(
    case: Case,
    peers: &[Peer],
    options: &Options,
    folder: &Folder,
    results: &mut Results,
) -> Result<()> {
    let backend = Backend::start(folder)?;
    let bench = Bench { peers, options, folder, backend: &backend };
    match case {
        Case::Http => bench.requests(case, &[("saturated", &["--connections", CONNECTIONS])], results),
        Case::Latency => {
            let rates = RATES.map(|rate| (format!("{rate}/s"), rate.to_string()));
            let loads = rates
                .each_ref()
                .map(|(label, rate)| (label.as_str(), ["--connections", CONNECTIONS, "--rate", rate]));
            let loads: Vec<(&str, &[&str])> =
                loads.iter().map(|(label, load)| (*label, load.as_slice())).collect();
            bench.requests(case, &loads, results)
        }
        Case::NewConnections => {
            bench.requests(case, &[("saturated", &["--connections", "32", "--new-connections"])], results)
        }
        Case::Tcp => bench.requests(
            case,
            &[("saturated", &["--connections", CONNECTIONS, "--echo", ECHO_BYTES])],
            results,
        ),
        Case::Idle => bench.idle(results),
        Case::Clusters => bench.clusters(results),
        Case::Startup => bench.startup(results),
    }
}

struct Bench<'a> {
    peers: &'a [Peer],
    options: &'a Options,
    folder: &'a Folder,
    backend: &'a Backend,
}

impl Bench<'_> {
    /// Peers run together and take turns inside every round, so that a noisy moment hits them alike.
    fn requests(&self, case: Case, loads: &[(&str, &[&str])], results: &mut Results) -> Result<()> {
        let scenario = self.scenario(case == Case::Tcp, 0);
        let running: Vec<(&Peer, Running)> = self
            .able(&scenario)
            .map(|peer| Ok((peer, peer.start(&scenario, free_port()?, self.folder)?)))
            .collect::<Result<_>>()?;
        let seconds = self.options.seconds.to_string();
        for (peer, running) in &running {
            load::run(running.port, &[loads[0].1, &["--duration", "0.5"]].concat())
                .with_context(|| format!("warming {} up", peer.name))?;
        }
        for round in 0..self.options.rounds {
            for (peer, running) in &running {
                for (label, arguments) in loads {
                    let before = running.process.as_ref().map(|process| process.cpu());
                    let outcome =
                        load::run(running.port, &[*arguments, &["--duration", seconds.as_str()]].concat())
                            .with_context(|| format!("{} at {label}", peer.name))?;
                    let cpu =
                        running.process.as_ref().zip(before).map(|(process, before)| process.cpu() - before);
                    self.record(case, label, peer, &outcome, cpu, results);
                }
                progress(case, peer, round, self.options.rounds);
            }
        }
        Ok(())
    }

    fn record(
        &self,
        case: Case,
        label: &str,
        peer: &Peer,
        outcome: &Value,
        cpu: Option<Duration>,
        results: &mut Results,
    ) {
        let exchanges = outcome["successes"].as_f64().unwrap_or(0.0).max(1.0);
        if let Some(cpu) = cpu {
            let figure = format!("CPU per request, {label}");
            results.add(case.name(), &figure, "µs", &peer.name, cpu.as_secs_f64() * 1e6 / exchanges);
        }
        if case == Case::Latency {
            for quantile in ["p50", "p99", "p99.9"] {
                let value = outcome["latency_us"][quantile].as_f64().unwrap_or(0.0);
                results.add(case.name(), &format!("{quantile}, {label}"), "µs", &peer.name, value);
            }
            results.add_curve(label, &peer.name, &outcome["curve"]);
        }
    }

    fn idle(&self, results: &mut Results) -> Result<()> {
        let scenario = self.scenario(false, 0);
        for round in 0..self.options.rounds.min(3) {
            for peer in self.able(&scenario).filter(|peer| !peer.is_direct()) {
                let running = peer.start(&scenario, free_port()?, self.folder)?;
                thread::sleep(SETTLE);
                results.add("idle", "resident after start", "MiB", &peer.name, mebibytes(resident(&running)));
                load::run(running.port, &["--connections", "1", "--duration", "0.2"])?;
                thread::sleep(SETTLE);
                let before = resident(&running);
                let held = Held::open(running.port, IDLE_CONNECTIONS)?;
                thread::sleep(SETTLE);
                let growth = resident(&running) - before;
                results.add("idle", "per idle connection", "B", &peer.name, growth / IDLE_CONNECTIONS as f64);
                drop(held);
                progress(Case::Idle, peer, round, self.options.rounds.min(3));
            }
        }
        Ok(())
    }

    fn clusters(&self, results: &mut Results) -> Result<()> {
        let empty = self.scenario(false, 0);
        for peer in self.able(&empty).filter(|peer| !peer.is_direct()) {
            let floor = self.resident_with(peer, &empty)?;
            for count in CLUSTER_COUNTS {
                let bytes = self.resident_with(peer, &self.scenario(false, count))? - floor;
                results.add(
                    "clusters",
                    &format!("per cluster at {count}"),
                    "B",
                    &peer.name,
                    bytes / count as f64,
                );
            }
            progress(Case::Clusters, peer, 0, 1);
        }
        Ok(())
    }

    fn resident_with(&self, peer: &Peer, scenario: &Scenario) -> Result<f64> {
        let running = peer.start(scenario, free_port()?, self.folder)?;
        load::run(running.port, &["--connections", "1", "--duration", "0.2"])?;
        thread::sleep(SETTLE);
        Ok(resident(&running))
    }

    fn startup(&self, results: &mut Results) -> Result<()> {
        for round in 0..self.options.rounds {
            for peer in self.peers.iter().filter(|peer| !peer.is_direct()) {
                for count in STARTUP_CLUSTERS {
                    let scenario = self.scenario(false, count);
                    let port = free_port()?;
                    let started = Instant::now();
                    let _running = peer.launch(&scenario, port, self.folder)?;
                    first_answer(port).with_context(|| peer.name.clone())?;
                    let milliseconds = started.elapsed().as_secs_f64() * 1e3;
                    results.add(
                        "startup",
                        &format!("first answer, {count} clusters"),
                        "ms",
                        &peer.name,
                        milliseconds,
                    );
                }
                progress(Case::Startup, peer, round, self.options.rounds);
            }
        }
        Ok(())
    }

    fn able<'a>(&'a self, scenario: &'a Scenario) -> impl Iterator<Item = &'a Peer> {
        self.peers.iter().filter(|peer| {
            let able = peer.supports(scenario);
            if !able {
                eprintln!(
                    "*** {} cannot do this case here (nginx needs libnginx-mod-stream for TCP)",
                    peer.name
                );
            }
            able
        })
    }

    fn scenario(&self, tcp: bool, clusters: usize) -> Scenario {
        let upstream_port = if tcp { self.backend.echo_port } else { self.backend.http_port };
        Scenario { tcp, upstream_port, clusters }
    }
}

/// Asks until the answer is 200.
fn first_answer(port: u16) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if matches!(try_once(port), Ok(true)) {
            return Ok(());
        }
        thread::sleep(Duration::from_micros(500));
    }
    bail!("no 200 within a minute of its start")
}

fn try_once(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: bench.local\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}

fn resident(running: &Running) -> f64 {
    running.process.as_ref().map_or(0.0, |process| process.resident_bytes() as f64)
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

fn progress(case: Case, peer: &Peer, round: usize, rounds: usize) {
    eprintln!("   {}: {} round {} of {rounds}", case.name(), peer.name, round + 1);
}
