//! The agent's handle: prepared from a bootstrap, started with what connects it to the process.

mod counts;
mod listening;
mod main_loop;
mod needs;
mod secrets;
mod update;

use std::sync::Arc;
use std::time::SystemTime;

use ringsail_runtime::publish::Publisher;
use ringsail_tables::endpoint::Locality;
use ringsail_tables::{Change, Compiler, Diagnostic, Own, ResourceType, Severity, Str, Tables};
use ringsail_telemetry::Registry;
use ringsail_telemetry::export::Batches;
use ringsail_tls::TicketKeys;
use ringsail_xds::prost::Message as _;
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::admin;
use crate::bootstrap::Bootstrap;
use crate::compile::{self, Compiled};
use crate::news::NewsReceiver;
use crate::options::Options;
use crate::process::Process;
use crate::references::References;
use crate::sockets;
use crate::state::Phase;
use crate::store::{Origin, Store, Version};

/// What connects the agent to the rest of the process.
pub struct Seam {
    /// Where new tables go.
    pub publisher: Publisher<Tables>,
    /// Statistics of the process and of its shards.
    pub stats: Arc<Registry>,
    /// The process.
    pub process: Arc<dyn Process>,
    /// What the shards tell.
    pub news: NewsReceiver,
    /// What is for collectors.
    pub batches: Batches,
}

/// A bootstrap whose resources are compiled: what `--mode validate` stops at.
pub struct Prepared {
    options: Options,
    bootstrap: Bootstrap,
    store: Store,
    references: References,
    compiler: Compiler,
    first: Compiled,
    ticket_keys: TicketKeys,
}

impl Prepared {
    /// Compiles the bootstrap's own resources.
    ///
    /// # Errors
    /// With one diagnostic per refused resource: a proxy does not start on half of what it was given.
    pub fn new(options: Options, bootstrap: Bootstrap) -> Result<Prepared, Vec<Diagnostic>> {
        let ticket_keys = TicketKeys::random();
        let mut store = Store::default();
        let mut references = References::default();
        let mut changes = Vec::new();
        let message = bootstrap.message();
        let resources = message.static_resources.iter();
        for (kind, name, body) in resources.flat_map(|resources| {
            let clusters =
                resources.clusters.iter().map(|one| (ResourceType::Cluster, &one.name, one.encode_to_vec()));
            let listeners = resources
                .listeners
                .iter()
                .map(|one| (ResourceType::Listener, &one.name, one.encode_to_vec()));
            clusters.chain(listeners).collect::<Vec<_>>()
        }) {
            let body = bytes::Bytes::from(body);
            references.set(kind, name, &body);
            let version = Version { version: "".into(), body: body.clone(), at: SystemTime::now() };
            store.accept(kind, name.as_str().into(), Origin::Static, version);
            changes.push(Change::Put { kind, name: name.clone(), resource: body });
        }
        for secret in message.static_resources.iter().flat_map(|resources| &resources.secrets) {
            // What is in files comes when they are read.
            if secrets::files_of(secret).is_empty() {
                let body = bytes::Bytes::from(secret.encode_to_vec());
                let version = Version { version: "".into(), body: body.clone(), at: SystemTime::now() };
                store.accept(ResourceType::Secret, secret.name.as_str().into(), Origin::Static, version);
                changes.insert(
                    0,
                    Change::Put { kind: ResourceType::Secret, name: secret.name.clone(), resource: body },
                );
            }
        }
        let mut compiler = Compiler::with_format_check(ringsail_telemetry::access_log::check);
        compiler.set_ticket_keys(ticket_keys.clone());
        let manager = message.cluster_manager.as_ref();
        if let Some(name) = manager.map(|manager| &manager.local_cluster_name).filter(|name| !name.is_empty())
        {
            let locality = bootstrap.node.locality.clone().unwrap_or_default();
            compiler.set_own(Own {
                cluster: Str::new(name),
                locality: Locality {
                    region: Str::new(&locality.region),
                    zone: Str::new(&locality.zone),
                    sub_zone: Str::new(&locality.sub_zone),
                },
            });
        }
        if let Some(provider) = message.tracing.as_ref().and_then(|tracing| tracing.http.as_ref()) {
            compiler.set_trace_provider(provider)?;
        }
        let first = compile::apply(&mut compiler, changes);
        let refused: Vec<_> =
            first.diagnostics.iter().filter(|one| one.severity == Severity::Refused).cloned().collect();
        if !refused.is_empty() {
            return Err(refused);
        }
        first.diagnostics.iter().for_each(|warning| tracing::warn!("{warning}"));
        Ok(Prepared { options, bootstrap, store, references, compiler, first, ticket_keys })
    }

    /// The tables to start the shards with.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.first.tables
    }

    /// Whether the addresses of the bootstrap's listeners can be had.
    ///
    /// # Errors
    /// With one diagnostic for each that cannot. Compat: Envoy does not start then.
    pub fn check_addresses(&self) -> Result<(), Vec<Diagnostic>> {
        let refused = sockets::refusals(&self.first.tables);
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }

    /// Starts the agent's threads.
    ///
    /// # Errors
    /// When the admin address cannot be bound or a thread cannot be started.
    pub fn start(self, seam: Seam) -> std::io::Result<Agent> {
        let listener = self.bootstrap.admin.as_ref().map(admin::bind).transpose()?;
        let admin_address = listener.as_ref().and_then(admin::Socket::address);
        if let (Some(path), Some(address)) = (&self.options.admin_address_path, admin_address) {
            std::fs::write(path, address.to_string())?;
        }
        let (phase_sender, phase) = watch::channel(Phase::PreInitializing);
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("agent".to_string()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, main_loop::run(self, seam, listener, phase_sender, stopped))
        })?;
        Ok(Agent { thread: Some(thread), phase, stop, admin_address })
    }
}

/// Handle of the running agent. Dropping it stops the agent.
pub struct Agent {
    thread: Option<std::thread::JoinHandle<std::io::Result<()>>>,
    phase: watch::Receiver<Phase>,
    stop: watch::Sender<bool>,
    admin_address: Option<std::net::SocketAddr>,
}

impl Agent {
    /// How far the proxy has come.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The admin address that was bound, if it is TCP.
    pub fn admin_address(&self) -> Option<std::net::SocketAddr> {
        self.admin_address
    }

    /// Stops the agent and waits for its thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the agent failed"),
                Err(_) => tracing::error!("the agent panicked"),
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}
