//! The measurement plan and its table.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::{backend, client, measure, rows::Row};

/// What to measure.
#[derive(Args)]
pub struct Plan {
    /// Rows, comma separated; all when not given
    #[arg(long, value_delimiter = ',')]
    rows: Vec<Row>,
    /// Rounds; each runs every row once, so that drift of the machine meets all alike
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of load per measurement
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Connections of the saturated measurement
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Idle connections, each of which has made one request before
    #[arg(long, default_value_t = 4000)]
    idle: usize,
    /// Bytes of a response body
    #[arg(long, default_value_t = 1024)]
    body: usize,
}

/// One row in one round.
#[derive(Clone, Copy)]
struct Sample {
    /// CPU µs per request with all connections busy.
    saturated: f64,
    /// Requests per second meanwhile.
    rate: f64,
    /// CPU µs per request with one connection: a wake-up per message.
    alone: f64,
    /// MiB resident before the idle connections.
    resident: f64,
    /// Bytes resident per idle connection.
    per_idle: f64,
}

/// Measures and prints.
pub fn run(plan: &Plan) -> anyhow::Result<()> {
    let rows = if plan.rows.is_empty() { Row::value_variants().to_vec() } else { plan.rows.clone() };
    // Before the backend's thread starts, so that it inherits it.
    measure::pin(1).or_else(|_| measure::pin(0))?;
    let upstream = backend::start(plan.body)?;
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); rows.len()];
    for round in 1..=plan.rounds {
        for (row, samples) in rows.iter().zip(&mut samples) {
            eprintln!("round {round}: {row}");
            match sample(*row, upstream, plan) {
                Ok(sample) => samples.push(sample),
                Err(error) => eprintln!("  {row} not measured: {error:#}"),
            }
        }
    }
    print_table(&rows, &samples);
    Ok(())
}

fn sample(row: Row, upstream: SocketAddr, plan: &Plan) -> anyhow::Result<Sample> {
    let proxy = Proxy::start(row, upstream)?;
    let process = proxy.child.id();
    let length = Duration::from_secs(plan.seconds);
    let load = |connections: &mut [TcpStream]| -> anyhow::Result<(f64, f64)> {
        let before = measure::cpu_time(process)?;
        let answers = client::drive(connections, length)?;
        let used = measure::cpu_time(process)? - before;
        Ok((used.as_secs_f64() * 1e6 / answers as f64, answers as f64 / length.as_secs_f64()))
    };
    let (alone, _) = load(&mut client::open(proxy.address, 1)?)?;
    let (saturated, rate) = load(&mut client::open(proxy.address, plan.connections)?)?;
    // A fresh process, so that memory freed after the load does not hide what idle connections take.
    drop(proxy);
    let proxy = Proxy::start(row, upstream)?;
    let process = proxy.child.id();
    let _warm = client::open(proxy.address, 16)?;
    let before = measure::resident_bytes(process)?;
    let _idle = client::open(proxy.address, plan.idle)?;
    let after = measure::resident_bytes(process)?;
    Ok(Sample {
        saturated,
        rate,
        alone,
        resident: before as f64 / f64::from(1 << 20),
        per_idle: after.saturating_sub(before) as f64 / plan.idle as f64,
    })
}

/// A row's proxy as a child process; killed when dropped.
struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Proxy {
    fn start(row: Row, upstream: SocketAddr) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["proxy", &row.to_string(), &upstream.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        match line.trim().parse() {
            Ok(address) => Ok(Proxy { child, address }),
            Err(_) => {
                let status = child.wait()?;
                Err(anyhow::anyhow!("{status}")).context("the proxy did not say where it listens")
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn print_table(rows: &[Row], samples: &[Vec<Sample>]) {
    let medians = |of: fn(&Sample) -> f64| -> Vec<f64> {
        samples.iter().map(|samples| measure::median(samples.iter().map(of).collect())).collect()
    };
    let saturated = medians(|sample| sample.saturated);
    let (rate, alone) = (medians(|sample| sample.rate), medians(|sample| sample.alone));
    let (resident, per_idle) = (medians(|sample| sample.resident), medians(|sample| sample.per_idle));
    // Ratios are to the bare loop, or to the first row measured where it is left out.
    let base = rows.iter().position(|row| *row == Row::BareEpoll).unwrap_or(0);
    println!(
        "| row | µs/request, saturated | ratio | requests/s | µs/request, 1 connection | ratio | RSS MiB | bytes per idle connection |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (index, row) in rows.iter().enumerate() {
        println!(
            "| {row} | {:.1} | {:.2} | {:.0} | {:.1} | {:.2} | {:.1} | {:.0} |",
            saturated[index],
            saturated[index] / saturated[base],
            rate[index],
            alone[index],
            alone[index] / alone[base],
            resident[index],
            per_idle[index],
        );
    }
}
