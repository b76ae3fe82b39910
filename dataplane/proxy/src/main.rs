//! `ringsail-proxy`: starts the threads of a proxy and connects them.
//!
//! ```text
//! main ──▶ shards (engine)  ◀──tables── agent (xDS, DNS, admin)
//!   ▲          │   ▲                        │
//!   │ signals  │   └──── commands ──────────┘
//!              └─ records ─▶ access-log writer
//! ```
//!
//! The command line and the bootstrap are Envoy's. The process ends with status 0 after SIGTERM or SIGINT, and with 1
//! when it cannot start.

mod host;
mod logging;
mod process;
mod signals;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringsail_agent::bootstrap::Bootstrap;
use ringsail_agent::options::{Command, DrainStrategy, Mode, Options};
use ringsail_agent::{Prepared, Seam};
use ringsail_engine::record::Log;
use ringsail_engine::serving::DrainPolicy;
use ringsail_engine::shard::{Identity, Node, Settings, Shard};
use ringsail_runtime::engine::EngineChoice;
use ringsail_runtime::mailbox::{mailbox, outbox};
use ringsail_runtime::publish::publication;
use ringsail_runtime::shard::{ShardId, Shards, ShardsConfig};
use ringsail_runtime::{limits, memory};
use ringsail_tables::Diagnostic;
use ringsail_telemetry::Registry;
use ringsail_telemetry::access_log::LogWriter;

use process::{Queues, RunningProcess};
use signals::{Signal, Signals};

/// Small and quick to give memory back; its start-up commit is set in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longest wait after SIGTERM for running requests; a shorter `--drain-time-s` shortens it. Whoever sent the signal
/// follows it with SIGKILL after a while.
const TERMINATION_GRACE: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Command::Run(options)) => *options,
        Ok(Command::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("ringsail-proxy: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringsail-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What keeps a proxy from starting, in words.
type StartError = Box<dyn std::error::Error>;

fn run(options: Options) -> Result<(), StartError> {
    // Before any thread is started: they inherit the mask, and only this thread looks at signals.
    let signals = Signals::block()?;
    let log_levels = logging::start(&options)?;
    for flag in &options.without_effect {
        tracing::warn!("{flag} has no effect here");
    }
    let engine: EngineChoice = options.engine.parse()?;
    let bootstrap = Bootstrap::load(&options)?;
    for part in &bootstrap.without_effect {
        tracing::warn!("bootstrap: {part}");
    }
    let mode = options.mode;
    let (limits, queues) = (options.shard_limits, options.queues);
    let drain_time = options.drain_time;
    let settings = Settings {
        downstream_max: bootstrap.downstream_connections_max(),
        drain: DrainPolicy { time: drain_time, gradual: options.drain_strategy == DrainStrategy::Gradual },
    };
    let shard_count = host::shard_count(options.concurrency);
    let local = Arc::new(host::workload(&bootstrap));
    let buckets = bootstrap.histogram_buckets();
    let node = Node {
        id: bootstrap.node.id.clone(),
        cluster: bootstrap.node.cluster.clone(),
        zone: bootstrap.node.locality.as_ref().map(|locality| locality.zone.clone()).unwrap_or_default(),
    };
    let prepared = Prepared::new(options, bootstrap).map_err(in_words)?;
    if mode == Mode::Validate {
        println!("configuration OK");
        return Ok(());
    }

    prepared.check_addresses().map_err(in_words)?;

    let registry = Registry::with_buckets(buckets);
    let (writer, batches) = LogWriter::start_with(queues.access_log)?;
    let access_logs = Arc::new(writer);
    let (publisher, seats) = publication(prepared.tables().clone(), shard_count.get())?;
    let mut seats = seats.into_iter();
    let identity = Identity { address: host::own_address(), hostname: host::name(), local, node };
    let (events, news) = outbox(queues.events);
    let mut commands = Vec::new();
    let (judge, reports) = mailbox(queues.reports);
    let mut reports = Some(reports);
    let config = ShardsConfig { count: shard_count, engine, limits, ..ShardsConfig::default() };
    let shards = Shards::start(config, |ShardId(number)| {
        let (sender, orders) = mailbox(queues.commands);
        commands.push(sender);
        let seat = seats.next();
        let stats = registry.seat();
        let (identity, events, access_logs) = (identity.clone(), events.clone(), access_logs.clone());
        let count = shard_count.get() as u32;
        // The first shard judges for all.
        let (judge, reports) = (judge.clone(), reports.take());
        move || async move {
            // One seat was made for each shard.
            let Some(seat) = seat else { return };
            let log = Log::new(access_logs, identity.clone());
            let tables = seat.subscribe();
            let number = number.into();
            let shard = Shard::new(number, count, identity, tables, stats.open(), log, settings);
            shard.report_to(judge, reports);
            ringsail_engine::run(shard, orders, events).await;
        }
    })?;
    let report = shards.reports().first().cloned();
    if let Some(report) = &report {
        tracing::info!(engine = %report.engine, reason = %report.reason, shards = shard_count, "serving");
    }

    let (tell_agent, listening) = ringsail_agent::news::channel();
    process::pass_on(news, tell_agent)?;
    let process = Arc::new(RunningProcess::new(
        report,
        shards.stats().to_vec(),
        Queues { commands: commands.into(), events, reports: judge },
        access_logs.clone(),
        log_levels,
        drain_time,
    ));
    let agent = prepared.start(Seam {
        publisher,
        stats: registry,
        process: process.clone(),
        news: listening,
        batches,
    })?;
    if mode == Mode::InitOnly {
        return Ok(());
    }
    // This thread read the bootstrap and only waits from here on.
    memory::give_back();
    memory::keep_freed_for(limits::PURGE_DELAY);

    loop {
        match signals.wait()? {
            Signal::ReopenLogs => access_logs.reopen(),
            Signal::Terminate(name) => {
                tracing::info!("{name}: finishing what runs, then ending");
                break;
            }
        }
    }
    process.stop_listening();
    shards.control().drain();
    wait_until_quiet(&shards, drain_time.min(TERMINATION_GRACE));
    agent.stop();
    drop(shards);
    // The last handle on the writer: it writes what is queued and ends.
    drop(process);
    drop(access_logs);
    Ok(())
}

fn in_words(refused: Vec<Diagnostic>) -> String {
    refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Waits until no request runs any more, or the time is over.
fn wait_until_quiet(shards: &Shards, limit: Duration) {
    let deadline = Instant::now() + limit;
    let open = || shards.stats().iter().map(|stats| stats.connections_open.get()).sum::<u64>();
    while open() > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// At least one.
pub(crate) const ONE: NonZeroUsize = NonZeroUsize::MIN;
