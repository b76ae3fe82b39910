//! What is measured: each case is a table of scenarios and loads, or a function of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::Options;
use crate::load::{self, Backend, Held};
use crate::peer::{Peer, Running};
use crate::process::Folder;
use crate::results::Results;
use crate::scenario::{Protocol, Scenario};

/// A kind of measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// HTTP/1.1 keep-alive, as fast as it goes
    Http,
    /// HTTP/1.1 keep-alive on a fixed schedule of arrivals
    Latency,
    /// HTTP/2 and gRPC, as fast as it goes
    Http2,
    /// HTTP/2 and gRPC on a fixed schedule of arrivals
    Http2Latency,
    /// Access log and metrics, on and off
    Telemetry,
    /// The way through two sidecars
    TwoHops,
    /// A virtual host among a thousand
    Routes,
    /// Bodies of 1 MiB, down and up
    Bodies,
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

/// Saturating load over HTTP/1.1.
const SATURATED: Load = Load { name: "saturated", arguments: &["--connections", "64"] };
/// Arrival rates: far below, at, and near what a sidecar sees at its busiest.
const RATES: [Load; 3] = [
    Load { name: "1000/s", arguments: &["--connections", "64", "--rate", "1000"] },
    Load { name: "4000/s", arguments: &["--connections", "64", "--rate", "4000"] },
    Load { name: "8000/s", arguments: &["--connections", "64", "--rate", "8000"] },
];
/// Few connections with many streams, as service-to-service HTTP/2 is.
const STREAMS: Load =
    Load { name: "saturated", arguments: &["--connections", "4", "--streams", "32", "--http2"] };
const GRPC: Load = Load {
    name: "gRPC, saturated",
    arguments: &[
        "--connections",
        "4",
        "--streams",
        "32",
        "--grpc",
        "--body",
        "128",
        "--path",
        "/shop.Cart/Add",
    ],
};
const STREAM_RATES: [Load; 2] = [
    Load {
        name: "1000/s",
        arguments: &["--connections", "4", "--streams", "32", "--http2", "--rate", "1000"],
    },
    Load {
        name: "4000/s",
        arguments: &["--connections", "4", "--streams", "32", "--http2", "--rate", "4000"],
    },
];
const GRPC_RATE: Load = Load {
    name: "gRPC, 4000/s",
    arguments: &[
        "--connections",
        "4",
        "--streams",
        "32",
        "--grpc",
        "--body",
        "128",
        "--path",
        "/shop.Cart/Add",
        "--rate",
        "4000",
    ],
};
/// A load for a virtual host in the middle of many; see [`Scenario::host`].
const OTHER_HOST: Load = Load {
    name: "saturated",
    arguments: &["--connections", "64", "--host", "host-500.shop.svc.cluster.local"],
};
const DOWNLOAD: Load =
    Load { name: "1 MiB down", arguments: &["--connections", "8", "--path", "/?size=1048576"] };
const UPLOAD: Load = Load { name: "1 MiB up", arguments: &["--connections", "8", "--body", "1048576"] };
const NEW_CONNECTIONS: Load =
    Load { name: "saturated", arguments: &["--connections", "32", "--new-connections"] };
const ECHO: Load = Load { name: "saturated", arguments: &["--connections", "64", "--echo", "64"] };

/// Virtual hosts of the routes case.
const HOSTS: usize = 1_000;
/// Idle connections of the memory case: two descriptors each must stay under the usual limit of 20,000.
const IDLE_CONNECTIONS: usize = 5_000;
/// Configured clusters of the memory case.
const CLUSTER_COUNTS: [usize; 2] = [1_000, 5_000];
/// Clusters of the start-up case.
const STARTUP_CLUSTERS: [usize; 2] = [0, 1_000];
/// How long memory is left to settle before it is read: allocators give back after a delay.
const SETTLE: Duration = Duration::from_millis(1500);

/// What the load generator is asked to do.
#[derive(Debug, Clone, Copy)]
struct Load {
    name: &'static str,
    arguments: &'static [&'static str],
}

impl Load {
    /// A schedule of arrivals, so that latency means something.
    fn is_open_loop(self) -> bool {
        self.arguments.contains(&"--rate")
    }
}

/// A scenario of a case with its loads; `name` goes into the figures' names unless it is empty.
struct Row {
    name: &'static str,
    scenario: Scenario,
    loads: Vec<Load>,
}

impl Row {
    fn new(name: &'static str, scenario: Scenario, loads: &[Load]) -> Row {
        Row { name, scenario, loads: loads.to_vec() }
    }

    fn label(&self, load: Load) -> String {
        if self.name.is_empty() { load.name.to_string() } else { format!("{}, {}", self.name, load.name) }
    }
}

impl Case {
    /// All cases, in report order.
    pub const ALL: [Case; 13] = [
        Case::Http,
        Case::Latency,
        Case::Http2,
        Case::Http2Latency,
        Case::Telemetry,
        Case::TwoHops,
        Case::Routes,
        Case::Bodies,
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
            Case::Http2 => "http2",
            Case::Http2Latency => "http2-latency",
            Case::Telemetry => "telemetry",
            Case::TwoHops => "two-hops",
            Case::Routes => "routes",
            Case::Bodies => "bodies",
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
            Case::Http2 => "CPU per request when saturated, HTTP/2 and gRPC, 4 connections of 32 streams",
            Case::Http2Latency => "latency and CPU per request at fixed arrival rates, HTTP/2 and gRPC",
            Case::Telemetry => "what a full text access log and Istio's metrics cost per request",
            Case::TwoHops => "CPU and latency of the way through two sidecars",
            Case::Routes => "CPU per request for one of 1,000 virtual hosts",
            Case::Bodies => "CPU per body of 1 MiB",
            Case::NewConnections => "CPU per connection with one request",
            Case::Tcp => "CPU per 64-byte exchange over TCP",
            Case::Idle => "resident memory after start, and per idle connection",
            Case::Clusters => "resident memory per cluster with 5 endpoints",
            Case::Startup => "time from exec to the first answer",
        }
    }

    /// The scenarios and loads of a case that measures requests.
    fn rows(self, backend: &Backend, folder: &Folder) -> Vec<Row> {
        let scenario = |protocol| {
            let port = if protocol == Protocol::Tcp { backend.echo_port } else { backend.http_port };
            Scenario::new(protocol, port)
        };
        let http1 = || scenario(Protocol::Http1);
        // The peer puts its own name into the path.
        let log = || Some(folder.file("access.log"));
        match self {
            Case::Http => vec![Row::new("", http1(), &[SATURATED])],
            Case::Latency => vec![Row::new("", http1(), &RATES)],
            Case::Http2 => vec![
                Row::new("to HTTP/1.1", scenario(Protocol::Http2ToHttp1), &[STREAMS]),
                Row::new("to HTTP/2", scenario(Protocol::Http2), &[STREAMS, GRPC]),
            ],
            Case::Http2Latency => {
                vec![Row::new("", scenario(Protocol::Http2), &[STREAM_RATES[0], STREAM_RATES[1], GRPC_RATE])]
            }
            Case::Telemetry => vec![
                Row::new("neither", http1(), &[SATURATED]),
                Row::new("text log", Scenario { access_log: log(), ..http1() }, &[SATURATED]),
                Row::new("metrics", Scenario { metrics: true, ..http1() }, &[SATURATED]),
                Row::new(
                    "log and metrics",
                    Scenario { access_log: log(), metrics: true, ..http1() },
                    &[SATURATED, RATES[1]],
                ),
            ],
            Case::TwoHops => {
                let loads = [SATURATED, RATES[0], RATES[1]];
                vec![Row::new("", Scenario { two_hops: true, ..http1() }, &loads)]
            }
            Case::Routes => vec![
                Row::new("10 virtual hosts", Scenario { hosts: 10, ..http1() }, &[SATURATED]),
                Row::new("1,000 virtual hosts", Scenario { hosts: HOSTS, ..http1() }, &[OTHER_HOST]),
            ],
            Case::Bodies => vec![Row::new("", http1(), &[DOWNLOAD, UPLOAD])],
            Case::NewConnections => vec![Row::new("", http1(), &[NEW_CONNECTIONS])],
            Case::Tcp => vec![Row::new("", scenario(Protocol::Tcp), &[ECHO])],
            Case::Idle | Case::Clusters | Case::Startup => Vec::new(),
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
        Case::Idle => bench.idle(results),
        Case::Clusters => bench.clusters(results),
        Case::Startup => bench.startup(results),
        _ => case.rows(&backend, folder).iter().try_for_each(|row| bench.requests(case, row, results)),
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
    fn requests(&self, case: Case, row: &Row, results: &mut Results) -> Result<()> {
        let running: Vec<(&Peer, Running)> = self
            .able(&row.scenario)
            .map(|peer| Ok((peer, peer.start(&row.scenario, self.folder)?)))
            .collect::<Result<_>>()?;
        let seconds = self.options.seconds.to_string();
        for (peer, running) in &running {
            load::run(running.port, &[row.loads[0].arguments, &["--duration", "0.5"]].concat())
                .with_context(|| format!("warming {} up", peer.name))?;
        }
        for round in 0..self.options.rounds {
            for (peer, running) in &running {
                for load in &row.loads {
                    let label = row.label(*load);
                    let before = running.cpu();
                    let arguments = [load.arguments, &["--duration", seconds.as_str()]].concat();
                    let outcome = load::run(running.port, &arguments)
                        .with_context(|| format!("{} at {label}", peer.name))?;
                    let cpu = running.cpu().zip(before).map(|(after, before)| after - before);
                    record(case, *load, &label, peer, &outcome, cpu, results);
                }
                progress(case, peer, round, self.options.rounds);
            }
        }
        Ok(())
    }

    fn idle(&self, results: &mut Results) -> Result<()> {
        for round in 0..self.options.rounds.min(3) {
            for (name, protocol, extra) in
                [("", Protocol::Http1, None), ("HTTP/2 ", Protocol::Http2ToHttp1, Some("--http2"))]
            {
                let scenario = Scenario::new(protocol, self.backend.http_port);
                for peer in self.able(&scenario).filter(|peer| !peer.is_direct()) {
                    let running = peer.start(&scenario, self.folder)?;
                    thread::sleep(SETTLE);
                    if name.is_empty() {
                        let start = mebibytes(resident(&running));
                        results.add("idle", "resident after start", "MiB", &peer.name, start);
                    }
                    let mut warm_up = vec!["--connections", "1", "--duration", "0.2"];
                    warm_up.extend(extra);
                    load::run(running.port, &warm_up)?;
                    thread::sleep(SETTLE);
                    let before = resident(&running);
                    let held = Held::open(running.port, IDLE_CONNECTIONS, extra)?;
                    thread::sleep(SETTLE);
                    let growth = resident(&running) - before;
                    let figure = format!("per idle {name}connection");
                    results.add("idle", &figure, "B", &peer.name, growth / IDLE_CONNECTIONS as f64);
                    drop(held);
                    progress(Case::Idle, peer, round, self.options.rounds.min(3));
                }
            }
        }
        Ok(())
    }

    fn clusters(&self, results: &mut Results) -> Result<()> {
        let empty = self.with_clusters(0);
        for peer in self.able(&empty).filter(|peer| !peer.is_direct()) {
            let floor = self.resident_with(peer, &empty)?;
            for count in CLUSTER_COUNTS {
                let bytes = self.resident_with(peer, &self.with_clusters(count))? - floor;
                let figure = format!("per cluster at {count}");
                results.add("clusters", &figure, "B", &peer.name, bytes / count as f64);
            }
            progress(Case::Clusters, peer, 0, 1);
        }
        Ok(())
    }

    fn resident_with(&self, peer: &Peer, scenario: &Scenario) -> Result<f64> {
        let running = peer.start(scenario, self.folder)?;
        load::run(running.port, &["--connections", "1", "--duration", "0.2"])?;
        thread::sleep(SETTLE);
        Ok(resident(&running))
    }

    fn startup(&self, results: &mut Results) -> Result<()> {
        for round in 0..self.options.rounds {
            for peer in self.peers.iter().filter(|peer| !peer.is_direct()) {
                for count in STARTUP_CLUSTERS {
                    let scenario = self.with_clusters(count);
                    let started = Instant::now();
                    let running = peer.launch(&scenario, self.folder)?;
                    first_answer(running.port).with_context(|| peer.name.clone())?;
                    let milliseconds = started.elapsed().as_secs_f64() * 1e3;
                    let figure = format!("first answer, {count} clusters");
                    results.add("startup", &figure, "ms", &peer.name, milliseconds);
                }
                progress(Case::Startup, peer, round, self.options.rounds);
            }
        }
        Ok(())
    }

    fn with_clusters(&self, clusters: usize) -> Scenario {
        Scenario { clusters, ..Scenario::new(Protocol::Http1, self.backend.http_port) }
    }

    fn able<'a>(&'a self, scenario: &'a Scenario) -> impl Iterator<Item = &'a Peer> {
        self.peers.iter().filter(|peer| {
            let able = peer.supports(scenario);
            if !able && !peer.is_direct() {
                eprintln!("*** {} cannot do this here: {}", peer.name, peer.why_not(scenario));
            }
            able
        })
    }
}

fn record(
    case: Case,
    load: Load,
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
    if load.is_open_loop() {
        for quantile in ["p50", "p99", "p99.9"] {
            let value = outcome["latency_us"][quantile].as_f64().unwrap_or(0.0);
            results.add(case.name(), &format!("{quantile}, {label}"), "µs", &peer.name, value);
        }
        results.add_curve(&format!("{}: {label}", case.name()), &peer.name, &outcome["curve"]);
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
    running.resident_bytes() as f64
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

fn progress(case: Case, peer: &Peer, round: usize, rounds: usize) {
    eprintln!("   {}: {} round {} of {rounds}", case.name(), peer.name, round + 1);
}
