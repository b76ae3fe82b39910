//! The loop in which files, control plane, names and the compiler meet.
//!
//! ```text
//!   files ──┐                       ┌──▶ ACK / NACK, subscriptions
//!   ADS ────┼─▶ update ─▶ compile ──┼──▶ names to resolve, files to follow
//!   DNS ────┘    thread, publishes  └──▶ store, statistics, state
//! ```
//!
//! Order at start, as in Envoy: clusters, then their endpoints and names, then listeners, then their routes. The proxy
//! is LIVE when all of that has arrived or timed out.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ringsail_tables::{Change, Diagnostic, DnsQuery, ResourceType, Severity, Wanted};
use ringsail_telemetry::{
    Block, Cluster, ClusterCounter, ControlPlaneGauge, ListenerManagerGauge, Registry, ServerGauge,
    ServerHistogram,
};
use ringsail_xds::protocol::client::Client;
use ringsail_xds::protocol::{Interest, Request};
use ringsail_xds::type_url;
use tokio::sync::{mpsc, watch};

use super::counts::{Outcome, RouteCounts};
use super::needs::Timer;
use super::update::{Cause, Update};
use super::{Prepared, Seam};
use crate::admin::{self, Admin};
use crate::ads::{self, AdsEvent};
use crate::bootstrap::{Bootstrap, Source};
use crate::compile::{self, Compiled, Job};
use crate::export;
use crate::file::{FileEvent, Files, Read};
use crate::limits::{STATS_COLLECT_INTERVAL, TICKET_KEY_LIFETIME};
use crate::references::References;
use crate::resolver::{Resolved, Resolver};
use crate::state::{Phase, State};
use crate::store::{Origin, Version};

/// The agent thread: until told to stop.
pub(super) async fn run(
    prepared: Prepared,
    seam: Seam,
    listener: Option<admin::Socket>,
    phase: watch::Sender<Phase>,
    mut stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let Prepared { options, bootstrap, store, references, compiler, first, ticket_keys } = prepared;
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(TICKET_KEY_LIFETIME).await;
            ticket_keys.rotate(1);
        }
    });
    let (updates_max, batches_max) = (options.queues.updates, options.queues.export_batches);
    let (outcome_sender, mut outcomes) = mpsc::unbounded_channel();
    let (file_sender, mut file_events) = mpsc::channel(updates_max);
    let (answer_sender, mut answers) = mpsc::channel(updates_max);
    let (ads_sender, mut ads_events) = mpsc::channel(1);
    let (timer_sender, mut timers) = mpsc::unbounded_channel();
    let state = Rc::new(RefCell::new(State {
        tables: first.tables.clone(),
        warming: first.warming.clone(),
        store,
        phase: Phase::PreInitializing,
        started: Instant::now(),
        draining: false,
    }));
    if let Some(listener) = listener {
        let admin = Admin {
            options: options.clone(),
            bootstrap: bootstrap.clone(),
            state: state.clone(),
            stats: seam.stats.clone(),
            process: seam.process.clone(),
        };
        tokio::task::spawn_local(admin::serve(listener, Rc::new(admin)));
    }
    let stats = seam.stats.clone();
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(STATS_COLLECT_INTERVAL).await;
            stats.collect();
        }
    });
    let node = bootstrap.node.clone();
    tokio::task::spawn_local(export::run(seam.batches, batches_max, state.clone(), seam.stats.clone(), node));
    let client = bootstrap.ads.as_ref().map(|ads| Client::new(ads.variant, bootstrap.node.clone()));
    if let Some(ads) = bootstrap.ads.clone() {
        tokio::task::spawn_local(ads::run(ads, ads_sender));
    } else {
        drop(ads_sender);
    }
    let resolver = Resolver::new(answer_sender, seam.stats.clone());
    let bootstrap_has_no_clusters = bootstrap.clusters.is_none();
    let (secret_sender, mut secret_events) = mpsc::channel(updates_max);
    let mut agent = Loop {
        secrets: super::secrets::Secrets::new(&bootstrap, secret_sender),
        control_plane: bootstrap.ads.as_ref().map(|ads| seam.stats.cluster_block(&ads.cluster)),
        bootstrap,
        state,
        references,
        stats: seam.stats,
        jobs: compile::start(compiler, seam.publisher, outcome_sender)?,
        in_work: None,
        waiting: VecDeque::new(),
        client,
        requests: None,
        connected_once: false,
        files: None,
        file_sender,
        resolver,
        resolved: BTreeSet::new(),
        given_up: BTreeSet::new(),
        timed: BTreeSet::new(),
        timers: timer_sender,
        wanted: Wanted::default(),
        clusters_ready: false,
        first_clusters: bootstrap_has_no_clusters,
        first_listeners: false,
        phase,
        routes: BTreeMap::new(),
        unbound: BTreeMap::new(),
        adopted: vec![None; seam.process.concurrency() as usize],
        news_ended: false,
        live_with: None,
    };
    let mut news = seam.news;
    agent.stats.server().set(ServerGauge::Concurrency, u64::from(seam.process.concurrency()));
    agent.count_initial(&first.tables);
    agent.begin(first);
    loop {
        tokio::select! {
            Some(compiled) = outcomes.recv() => agent.compiled(compiled),
            // One response at a time: the control plane is slowed down while the compiler is behind.
            Some(event) = ads_events.recv(), if agent.waiting.len() < updates_max => agent.ads(event),
            Some(event) = file_events.recv(), if agent.waiting.len() < updates_max => match event {
                Read::Resources(event) => agent.file(event),
                Read::Bytes(path, bytes) => agent.secret_file(path, bytes),
            },
            Some(event) = secret_events.recv(), if agent.waiting.len() < updates_max => agent.secrets_event(event),
            Some(answer) = answers.recv(), if agent.waiting.len() < updates_max => agent.resolved(answer),
            Some(timer) = timers.recv() => agent.timer(timer),
            news = news.recv(), if !agent.news_ended => agent.news(news),
            _ = stopped.changed() => return Ok(()),
        }
    }
}

pub(super) struct Loop {
    pub(super) bootstrap: Bootstrap,
    pub(super) state: Rc<RefCell<State>>,
    pub(super) references: References,
    pub(super) stats: Arc<Registry>,
    pub(super) jobs: crossbeam_channel::Sender<Job>,
    /// Updates whose changes the compiler works on.
    pub(super) in_work: Option<Vec<Update>>,
    pub(super) waiting: VecDeque<Update>,
    pub(super) client: Option<Client>,
    /// Requests of the current stream go here.
    pub(super) requests: Option<mpsc::UnboundedSender<Request>>,
    pub(super) connected_once: bool,
    pub(super) files: Option<Files>,
    pub(super) file_sender: mpsc::Sender<Read>,
    /// Secrets that come neither by ADS nor in files of resources.
    pub(super) secrets: super::secrets::Secrets,
    pub(super) resolver: Resolver,
    /// Names with an answer, good or bad.
    pub(super) resolved: BTreeSet<DnsQuery>,
    /// Resources that are no longer waited for.
    pub(super) given_up: BTreeSet<(ResourceType, String)>,
    /// Resources whose timer runs or ran.
    pub(super) timed: BTreeSet<Timer>,
    pub(super) timers: mpsc::UnboundedSender<Timer>,
    pub(super) wanted: Wanted,
    /// The first clusters, with their endpoints and names, are there.
    pub(super) clusters_ready: bool,
    /// The first clusters were worked on, or are no longer waited for.
    pub(super) first_clusters: bool,
    /// The same of listeners.
    pub(super) first_listeners: bool,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) control_plane: Option<Arc<Block<Cluster>>>,
    /// Statistics of route configurations, by connection manager and name.
    pub(super) routes: BTreeMap<(String, String), RouteCounts>,
    /// Listeners whose addresses cannot be had at the moment.
    pub(super) unbound: BTreeMap<String, Version>,
    /// By shard, the version of the tables whose listeners it has opened.
    pub(super) adopted: Vec<Option<u64>>,
    /// Nobody is left to tell more.
    pub(super) news_ended: bool,
    /// The version of the tables that all shards must have before the proxy is LIVE.
    pub(super) live_with: Option<u64>,
}

impl Loop {
    fn begin(&mut self, first: Compiled) {
        if matches!(self.bootstrap.clusters, Some(Source::Ads { .. })) {
            self.subscribe(ResourceType::Cluster, Interest::everything());
        }
        if let Some(Source::Ads { initial_fetch_timeout }) = self.bootstrap.clusters {
            self.start_timer(Timer::First(ResourceType::Cluster), initial_fetch_timeout);
        }
        self.in_work = Some(Vec::new());
        self.compiled(first);
    }

    /// Another response, file or answer is to be compiled.
    pub(super) fn push(&mut self, mut update: Update) {
        self.check_sockets(&mut update);
        self.waiting.push_back(update);
        self.compile_next();
    }

    /// Hands as many updates to the compiler as tell apart whom a finding is about.
    fn compile_next(&mut self) {
        if self.in_work.is_some() || self.waiting.is_empty() {
            return;
        }
        let mut batch: Vec<Update> = Vec::new();
        let mut changes = Vec::new();
        while let Some(next) = self.waiting.front() {
            if batch.iter().any(|update| update.kind() == next.kind()) {
                break;
            }
            let mut update = self.waiting.pop_front().expect("there is a front");
            changes.append(&mut update.changes);
            batch.push(update);
        }
        self.in_work = Some(batch);
        if self.jobs.send(Job::Apply(changes)).is_err() {
            tracing::error!("the compile thread is gone");
        }
    }

    fn compiled(&mut self, compiled: Compiled) {
        let batch = self.in_work.take().unwrap_or_default();
        let sockets = batch.iter().flat_map(|update| &update.refused_sockets);
        for finding in compiled.diagnostics.iter().chain(sockets) {
            tracing::warn!("{finding}");
        }
        tracing::debug!(took = ?compiled.took, updates = batch.len(), "compiled");
        self.stats.server().set(ServerGauge::TablesVersions, compiled.live_versions as u64);
        let old = {
            let mut state = self.state.borrow_mut();
            state.warming = compiled.warming;
            std::mem::replace(&mut state.tables, compiled.tables)
        };
        self.count_changes(&old);
        let _ = self.jobs.send(Job::Free(old));
        for update in batch {
            self.settle(update, &compiled.diagnostics);
        }
        if self.wanted != compiled.wanted {
            self.wanted = compiled.wanted;
            self.resolver.follow(&self.wanted);
        }
        self.follow_references();
        self.advance();
        self.count_resources();
        self.send_requests();
        self.compile_next();
    }

    /// Records what became of an update and answers it.
    fn settle(&mut self, update: Update, findings: &[Diagnostic]) {
        let Some(kind) = update.kind() else { return };
        let refused: Vec<&Diagnostic> = findings
            .iter()
            .chain(&update.refused_sockets)
            .filter(|one| {
                one.severity == Severity::Refused
                    && one.resource_type == kind
                    && update.resources.iter().any(|(name, _)| **name == *one.resource_name)
            })
            .collect();
        {
            let mut state = self.state.borrow_mut();
            for (name, version) in update.resources {
                let reasons: Vec<String> = refused
                    .iter()
                    .filter(|one| *one.resource_name == *name)
                    .map(|one| one.to_string())
                    .collect();
                if reasons.is_empty() {
                    self.given_up.remove(&(kind, name.to_string()));
                    self.references.set(kind, &name, &version.body);
                    state.store.accept(kind, name, Origin::Dynamic, version);
                } else {
                    state.store.refuse(kind, name, version, reasons.join("; "));
                }
            }
            for name in &update.removed {
                self.references.remove(kind, name);
                state.store.remove(kind, name);
                // The control plane says that there is none: nothing to wait for.
                self.given_up.insert((kind, name.to_string()));
            }
        }
        let problems = match update.cause {
            Cause::Answer => return,
            Cause::Secrets(cluster, response) => {
                let texts: Vec<String> = refused.iter().map(|one| one.to_string()).collect();
                let names: Vec<&str> = refused.iter().map(|one| &*one.resource_name).collect();
                self.secrets.answer(&cluster, &response, &names, &texts.join("; "));
                !refused.is_empty() || !response.problems.is_empty()
            }
            Cause::Ads(response) => {
                let problems = !refused.is_empty() || !response.problems.is_empty();
                for one in &response.changed {
                    let is_refused = refused.iter().any(|finding| *finding.resource_name == *one.name);
                    let outcome = if is_refused { Outcome::Rejected } else { Outcome::Success };
                    self.count_name(kind, &one.name, outcome);
                }
                if let Some(client) = &mut self.client {
                    if refused.is_empty() {
                        client.accept(&response);
                    } else {
                        let names: Vec<&str> = refused.iter().map(|one| &*one.resource_name).collect();
                        let text: Vec<String> = refused.iter().map(|one| one.to_string()).collect();
                        client.reject(&response, &names, &text.join("; "));
                    }
                }
                problems
            }
            Cause::File { path, problems } => {
                let problems = problems || !refused.is_empty();
                let outcome = if problems { Outcome::Rejected } else { Outcome::Success };
                self.count_file(kind, &path, outcome);
                problems
            }
        };
        if !problems {
            self.state.borrow_mut().store.set_version(kind, &update.version);
        }
        self.count_update(kind, if problems { Outcome::Rejected } else { Outcome::Success }, &update.version);
        self.first_clusters |= kind == ResourceType::Cluster;
        self.first_listeners |= kind == ResourceType::Listener;
    }

    pub(super) fn set_phase(&mut self, phase: Phase) {
        let elapsed = self.state.borrow().started.elapsed();
        tracing::info!(phase = phase.name(), ?elapsed, "state");
        self.state.borrow_mut().phase = phase;
        self.stats.server().set(ServerGauge::State, phase.number());
        if phase == Phase::Live {
            self.stats.server().set(ServerGauge::Live, 1);
            self.stats.server().record(ServerHistogram::InitializationTimeMs, elapsed.as_millis() as u64);
            self.stats.listener_manager().set(ListenerManagerGauge::WorkersStarted, 1);
        }
        let _ = self.phase.send(phase);
    }

    fn ads(&mut self, event: AdsEvent) {
        let Some(client) = &mut self.client else { return };
        match event {
            AdsEvent::Connected(requests) => {
                tracing::info!("connected to the control plane");
                self.requests = Some(requests);
                self.connected_once = true;
                client.connected();
                self.stats.control_plane().set(ControlPlaneGauge::ConnectedState, 1);
                if let Some(block) = &self.control_plane {
                    block.add(ClusterCounter::UpstreamCxTotal, 1);
                }
                self.send_requests();
            }
            AdsEvent::Response(response) => match client.received(response) {
                Ok(update) => {
                    if let Some(kind) = ResourceType::from_type_url(&update.type_url) {
                        self.count_update(kind, Outcome::Attempt, "");
                        for one in &update.changed {
                            self.count_name(kind, &one.name, Outcome::Attempt);
                        }
                        let update = Update::from_ads(kind, update, &self.state.borrow().store);
                        self.push(update);
                    }
                }
                Err(reason) => tracing::warn!("ignored: {reason}"),
            },
            AdsEvent::Disconnected(reason) => {
                tracing::warn!(reason, "no control plane; what was received stays in use");
                client.disconnected();
                self.requests = None;
                self.stats.control_plane().set(ControlPlaneGauge::ConnectedState, 0);
                if !self.connected_once
                    && let Some(block) = &self.control_plane
                {
                    block.add(ClusterCounter::UpstreamCxConnectFail, 1);
                }
                for kind in [ResourceType::Cluster, ResourceType::Listener] {
                    self.count_update(kind, Outcome::Failure, "");
                }
            }
        }
    }

    fn file(&mut self, event: FileEvent) {
        self.count_update(event.kind, Outcome::Attempt, "");
        self.count_file(event.kind, &event.path, Outcome::Attempt);
        match event.outcome {
            Ok(content) => {
                content.problems.iter().for_each(|problem| tracing::warn!("{problem}"));
                let complete = matches!(event.kind, ResourceType::Cluster | ResourceType::Listener);
                let update =
                    Update::from_file(event.kind, event.path, content, complete, &self.state.borrow().store);
                self.push(update);
            }
            Err(error) => {
                tracing::warn!("{error}; what was read before stays in use");
                self.count_update(event.kind, Outcome::Failure, "");
                self.count_file(event.kind, &event.path, Outcome::Failure);
                // Compat: a file that is broken or missing at start does not keep the proxy from serving the rest.
                self.give_up_first(event.kind);
            }
        }
    }

    fn resolved(&mut self, answer: Resolved) {
        let first = self.resolved.insert(answer.query.clone());
        let addresses = match answer.outcome {
            Ok(addresses) => addresses,
            Err(error) => {
                tracing::warn!(host = &*answer.query.host, error, "name does not resolve");
                if !first {
                    return;
                }
                Vec::new()
            }
        };
        self.push(Update::answer(Change::Resolved { query: answer.query, addresses }));
    }

    pub(super) fn subscribe(&mut self, kind: ResourceType, wanted: Interest) {
        if let Some(client) = &mut self.client {
            client.subscribe(&type_url_of(kind), wanted);
        }
    }

    pub(super) fn send_requests(&mut self) {
        let (Some(client), Some(requests)) = (&mut self.client, &self.requests) else { return };
        while let Some(request) = client.poll() {
            // A stream that has ended says so by an event of its own.
            let _ = requests.send(request);
        }
    }
}

fn type_url_of(kind: ResourceType) -> String {
    format!("{}{}", type_url::PREFIX, kind.message_name())
}
