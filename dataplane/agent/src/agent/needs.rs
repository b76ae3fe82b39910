//! What is waited for, and for how long: subscriptions, followed files and timers, and the order at start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringsail_tables::{Change, ResourceType, Str};
use ringsail_xds::protocol::Interest;

use super::main_loop::Loop;
use super::update::Update;
use crate::bootstrap::Source;
use crate::file::Files;
use crate::state::Phase;

/// Something has taken too long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The first clusters or listeners of a source.
    First(ResourceType),
    /// A route configuration or load assignment.
    Fetch(ResourceType, String),
    /// It is time to try a listener's address again.
    Bind(String),
}

impl Loop {
    /// Subscribes to, follows and times exactly what is wanted.
    pub(super) fn follow_references(&mut self) {
        self.follow_route_counts();
        let all = self.references.all();
        let mut interests = [
            (ResourceType::ClusterLoadAssignment, BTreeSet::new()),
            (ResourceType::RouteConfiguration, BTreeSet::new()),
            (ResourceType::Secret, BTreeSet::new()),
        ];
        let mut files: BTreeSet<(Option<ResourceType>, PathBuf)> = BTreeSet::new();
        let mut streams: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut timers = Vec::new();
        for (kind, names) in &mut interests {
            let wanted = match kind {
                ResourceType::ClusterLoadAssignment => &self.wanted.load_assignments,
                ResourceType::Secret => &self.wanted.secrets,
                _ => &self.wanted.route_configs,
            };
            for name in wanted {
                let Some(reference) = all.get(&(*kind, &**name)) else { continue };
                match &reference.source {
                    Ok(Source::Ads { .. }) => drop(names.insert(name.to_string())),
                    Ok(Source::Path(path)) => drop(files.insert((Some(*kind), path.clone()))),
                    Ok(Source::Stream { cluster, .. }) => {
                        streams.entry(cluster.clone()).or_default().insert(name.to_string());
                    }
                    Err(_) if *kind == ResourceType::Secret && self.secrets.is_static(name) => {}
                    Err(reason) => tracing::warn!("{} {name:?}: config_source {reason}", kind.message_name()),
                }
                let waits =
                    self.state.borrow().store.get(*kind, name).is_none_or(|entry| entry.accepted.is_none());
                if let Some(after) = reference.fetch_timeout().filter(|_| waits) {
                    timers.push((Timer::Fetch(*kind, name.to_string()), after));
                }
            }
        }
        let from_files = [
            (ResourceType::Cluster, &self.bootstrap.clusters),
            (ResourceType::Listener, &self.bootstrap.listeners),
        ];
        for (kind, source) in from_files {
            if let Some(Source::Path(path)) = source
                && (kind == ResourceType::Cluster || self.clusters_ready)
            {
                files.insert((Some(kind), path.clone()));
            }
        }
        files.extend(self.secrets.files(&self.wanted.file_secrets).into_iter().map(|path| (None, path)));
        self.secrets.follow(streams.clone());
        for (kind, names) in interests {
            // What a file holds beyond that may be wanted later, and the file is read only when it changes.
            if !files.iter().any(|(other, _)| *other == Some(kind)) {
                let elsewhere = streams.values().flatten().filter(|_| kind == ResourceType::Secret);
                let wanted: BTreeSet<String> = names.iter().chain(elsewhere).cloned().collect();
                self.forget_unwanted(kind, &wanted);
            }
            self.subscribe(kind, Interest { wildcard: false, names });
        }
        for (timer, after) in timers {
            self.start_timer(timer, Some(after));
        }
        self.follow_files(files);
    }

    /// Drops route configurations and load assignments that nothing refers to any more.
    fn forget_unwanted(&mut self, kind: ResourceType, wanted: &BTreeSet<String>) {
        let mut state = self.state.borrow_mut();
        let unwanted: Vec<Arc<str>> = state
            .store
            .of_type(kind)
            .map(|(name, _)| name.clone())
            .filter(|name| !wanted.contains(&**name))
            .filter(|name| kind != ResourceType::Secret || !self.secrets.is_static(name))
            .collect();
        let mut changes = Vec::new();
        for name in unwanted {
            state.store.remove(kind, &name);
            self.given_up.remove(&(kind, name.to_string()));
            changes.push(Change::Remove { kind, name: name.to_string() });
        }
        if !changes.is_empty() {
            self.waiting.push_back(Update::answers(changes));
        }
    }

    fn follow_files(&mut self, files: BTreeSet<(Option<ResourceType>, PathBuf)>) {
        if self.files.is_none() {
            if files.is_empty() {
                return;
            }
            let sender = self.file_sender.clone();
            match Files::start(move |event| sender.blocking_send(event).is_ok()) {
                Ok(started) => self.files = Some(started),
                Err(error) => {
                    tracing::error!(%error, "files cannot be followed");
                    return;
                }
            }
        }
        if let Some(followed) = &mut self.files {
            followed.follow(files);
        }
    }

    /// Goes from clusters to listeners to serving when what is needed is there.
    pub(super) fn advance(&mut self) {
        if !self.clusters_ready {
            let endpoints = self.arrived(ResourceType::ClusterLoadAssignment, &self.wanted.load_assignments);
            let names = self.wanted.names.iter().all(|name| self.resolved.contains(&name.query));
            if self.first_clusters && endpoints && names {
                self.clusters_ready = true;
                self.set_phase(Phase::Initializing);
                match self.bootstrap.listeners {
                    Some(Source::Ads { initial_fetch_timeout }) => {
                        self.subscribe(ResourceType::Listener, Interest::everything());
                        self.start_timer(Timer::First(ResourceType::Listener), initial_fetch_timeout);
                    }
                    Some(Source::Path(_)) => self.follow_references(),
                    Some(Source::Stream { .. }) | None => self.first_listeners = true,
                }
            }
        }
        let routes = self.arrived(ResourceType::RouteConfiguration, &self.wanted.route_configs)
            && self.arrived(ResourceType::Secret, &self.wanted.secrets);
        if self.clusters_ready && self.first_listeners && *self.phase.borrow() != Phase::Live && routes {
            // A later version must not move the goal: endpoints may change all the time.
            let version = *self.live_with.get_or_insert(self.state.borrow().tables.version);
            if self.shards_have(version) {
                self.set_phase(Phase::Live);
            }
        }
    }

    /// Whether all of these are there, or no longer waited for.
    fn arrived(&self, kind: ResourceType, names: &[Str]) -> bool {
        let state = self.state.borrow();
        names.iter().all(|name| {
            self.given_up.contains(&(kind, name.to_string()))
                || state.store.get(kind, name).is_some_and(|entry| entry.accepted.is_some())
        })
    }

    pub(super) fn start_timer(&mut self, timer: Timer, after: Option<Duration>) {
        let Some(after) = after else { return };
        if self.timed.insert(timer.clone()) {
            let timers = self.timers.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(after).await;
                let _ = timers.send(timer);
            });
        }
    }

    pub(super) fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::First(kind) => self.give_up_first(kind),
            Timer::Bind(name) => self.bind_again(&name),
            Timer::Fetch(kind, name) => {
                let there =
                    self.state.borrow().store.get(kind, &name).is_some_and(|entry| entry.accepted.is_some());
                if !there && self.given_up.insert((kind, name.clone())) {
                    tracing::warn!("{} {name:?} did not arrive in time", kind.message_name());
                    self.push(Update::answer(Change::GiveUp { kind, name }));
                }
            }
        }
    }

    /// The first resources of a type are no longer waited for.
    pub(super) fn give_up_first(&mut self, kind: ResourceType) {
        match kind {
            ResourceType::Cluster => self.first_clusters = true,
            ResourceType::Listener => self.first_listeners = true,
            ResourceType::RouteConfiguration | ResourceType::ClusterLoadAssignment | ResourceType::Secret => {
                return;
            }
        }
        self.advance();
        self.send_requests();
    }
}
