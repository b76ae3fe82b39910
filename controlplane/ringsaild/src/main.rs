//! `ringsaild`: the control plane. Reads configuration from folders and serves it to proxies as xDS.
//!
//! Where to start: `options.rs` is the command line, [`run`] puts the pieces together: sources give
//! updates, the updater publishes snapshots, the servers hand them out.

mod options;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use ringsail_serve::{Debounce, Plane, Update, Updater, limits, serve_debug, serve_discovery};
use ringsail_sources::{Batch, FolderSource};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::options::Options;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    options.log.start();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(options));
    // Readers of debug pages and blocked translations are not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until a signal asks for the end or a server fails.
async fn run(options: Options) -> Result<()> {
    let mut signals = Signals::install().context("cannot listen for signals")?;
    let folders = options.folders()?;
    let source = FolderSource::open(folders.clone())?;
    let plane = Arc::new(Plane::default());
    let (stop, stopped) = watch::channel(false);
    let mut servers: JoinSet<Result<()>> = JoinSet::new();
    for listening in options.discovery_sockets().await? {
        let mut stopped = stopped.clone();
        // Fails only when the sender is gone, which is the end as well.
        let shutdown = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let served = serve_discovery(Arc::clone(&plane), listening, shutdown);
        servers.spawn(async move { served.await.context("discovery server") });
    }
    if let Some(address) = options.debug_address()? {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} (--http-address)"))?;
        tracing::info!(address = %listener.local_addr()?, "debug pages, /ready and /metrics over HTTP");
        let served = serve_debug(Arc::clone(&plane), listener);
        servers.spawn(async move {
            served.await;
            Ok(())
        });
    }
    let debounce = Debounce::new(options.debounce_quiet(), options.debounce_max());
    let updater = Updater::new(Arc::clone(&plane), debounce, &options.cluster_domain);
    let (updates, received) = mpsc::channel(limits::UPDATES_QUEUED_MAX);
    tokio::spawn(updater.run(received));
    tokio::spawn(follow(source, updates));
    tracing::info!(folders = ?folders, version = env!("CARGO_PKG_VERSION"), "ringsaild started");
    let result = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping");
            Ok(())
        }
        Some(ended) = servers.join_next() => ended.context("a server panicked").flatten(),
    };
    stop.send_replace(true);
    let drained = async { while servers.join_next().await.is_some() {} };
    // The debug server never ends by itself, and no proxy is worth a long wait: they keep serving without us.
    let _ = tokio::time::timeout(options::STOP_TIMEOUT, drained).await;
    result
}

/// Hands every batch of the source to the updater.
async fn follow(mut source: FolderSource, updates: mpsc::Sender<Update>) {
    loop {
        let Batch { changes, diagnostics } = source.next().await;
        if updates.send(Update { changes, diagnostics }).await.is_err() {
            return;
        }
    }
}

/// The signals that ask for the end.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
