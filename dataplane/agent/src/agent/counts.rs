//! Statistics of what arrived: `cluster_manager.…`, `listener_manager.…` and `http.….rds.…`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringsail_tables::{ResourceType, Tables};
use ringsail_telemetry::{
    Block, ClusterManagerCounter, ClusterManagerGauge, ListenerManagerCounter, ListenerManagerGauge, Rds,
    RdsCounter, ServerGauge,
};

use super::main_loop::Loop;
use crate::bootstrap::Source;

/// What became of an update, for statistics.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    Attempt,
    Success,
    Failure,
    Rejected,
}

/// Statistics of one connection manager's route configuration.
pub(super) struct RouteCounts {
    block: Arc<Block<Rds>>,
    /// The file it comes from, if it does.
    path: Option<PathBuf>,
}

impl RouteCounts {
    fn add(&self, outcome: Outcome) {
        match outcome {
            Outcome::Attempt => self.block.add(RdsCounter::UpdateAttempt, 1),
            Outcome::Success => {
                self.block.add(RdsCounter::UpdateSuccess, 1);
                self.block.add(RdsCounter::ConfigReload, 1);
            }
            Outcome::Failure => self.block.add(RdsCounter::UpdateFailure, 1),
            Outcome::Rejected => self.block.add(RdsCounter::UpdateRejected, 1),
        }
    }
}

impl Loop {
    /// Keeps one set of statistics for each route configuration that a listener names.
    pub(super) fn follow_route_counts(&mut self) {
        let mut named = BTreeSet::new();
        for one in self.references.iter().filter(|one| one.kind == ResourceType::RouteConfiguration) {
            let key = (one.stat_prefix.clone(), one.name.clone());
            let path = match &one.source {
                Ok(Source::Path(path)) => Some(path.clone()),
                Ok(Source::Ads { .. } | Source::Stream { .. }) | Err(_) => None,
            };
            let stats = &self.stats;
            let counts = self
                .routes
                .entry(key.clone())
                .or_insert_with(|| RouteCounts { block: stats.rds_block(&key.0, &key.1), path: None });
            counts.path = path;
            named.insert(key);
        }
        self.routes.retain(|key, _| named.contains(key));
    }

    /// Something happened to a file of route configurations.
    pub(super) fn count_file(&self, kind: ResourceType, path: &Path, outcome: Outcome) {
        if kind == ResourceType::RouteConfiguration {
            self.routes
                .values()
                .filter(|counts| counts.path.as_deref() == Some(path))
                .for_each(|c| c.add(outcome));
        }
    }

    /// Something happened to a route configuration of the control plane.
    pub(super) fn count_name(&self, kind: ResourceType, name: &str, outcome: Outcome) {
        if kind == ResourceType::RouteConfiguration {
            self.routes
                .iter()
                .filter(|((_, other), _)| other == name)
                .for_each(|(_, counts)| counts.add(outcome));
        }
    }

    pub(super) fn count_update(&self, kind: ResourceType, outcome: Outcome, version: &str) {
        let clusters = self.stats.cluster_manager();
        let listeners = self.stats.listener_manager();
        match (kind, outcome) {
            (ResourceType::Cluster, Outcome::Attempt) => {
                clusters.add(ClusterManagerCounter::CdsUpdateAttempt, 1)
            }
            (ResourceType::Cluster, Outcome::Success) => {
                clusters.add(ClusterManagerCounter::CdsUpdateSuccess, 1);
                clusters.set(ClusterManagerGauge::CdsVersion, hash(version));
            }
            (ResourceType::Cluster, Outcome::Failure) => {
                clusters.add(ClusterManagerCounter::CdsUpdateFailure, 1)
            }
            (ResourceType::Cluster, Outcome::Rejected) => {
                clusters.add(ClusterManagerCounter::CdsUpdateRejected, 1)
            }
            (ResourceType::Listener, Outcome::Attempt) => {
                listeners.add(ListenerManagerCounter::LdsUpdateAttempt, 1)
            }
            (ResourceType::Listener, Outcome::Success) => {
                listeners.add(ListenerManagerCounter::LdsUpdateSuccess, 1);
                listeners.set(ListenerManagerGauge::LdsVersion, hash(version));
            }
            (ResourceType::Listener, Outcome::Failure) => {
                listeners.add(ListenerManagerCounter::LdsUpdateFailure, 1)
            }
            (ResourceType::Listener, Outcome::Rejected) => {
                listeners.add(ListenerManagerCounter::LdsUpdateRejected, 1)
            }
            (
                ResourceType::RouteConfiguration | ResourceType::ClusterLoadAssignment | ResourceType::Secret,
                _,
            ) => {}
        }
    }

    /// Counts what the bootstrap brings.
    pub(super) fn count_initial(&self, tables: &Tables) {
        self.stats
            .cluster_manager()
            .add(ClusterManagerCounter::ClusterAdded, tables.clusters().count() as u64);
        self.stats
            .listener_manager()
            .add(ListenerManagerCounter::ListenerAdded, tables.listeners().count() as u64);
        // Compat: without a certificate, as far away as can be said.
        self.stats.server().set(ServerGauge::DaysUntilFirstCertExpiring, u64::from(u32::MAX));
    }

    /// Counts how the published tables differ from `old` ones.
    pub(super) fn count_changes(&self, old: &Tables) {
        let state = self.state.borrow();
        let new = &state.tables;
        let clusters = self.stats.cluster_manager();
        for one in new.clusters() {
            match old.cluster_named(&one.cluster.name) {
                None => clusters.add(ClusterManagerCounter::ClusterAdded, 1),
                Some(before) if !Arc::ptr_eq(before.cluster, one.cluster) => {
                    clusters.add(ClusterManagerCounter::ClusterModified, 1);
                }
                Some(before) if !Arc::ptr_eq(before.endpoints, one.endpoints) => {
                    clusters.add(ClusterManagerCounter::ClusterUpdated, 1);
                }
                Some(_) => {}
            }
        }
        let gone = old.clusters().filter(|one| new.cluster_named(&one.cluster.name).is_none());
        clusters.add(ClusterManagerCounter::ClusterRemoved, gone.count() as u64);
        let listeners = self.stats.listener_manager();
        for one in new.listeners() {
            match old.listener_named(&one.name) {
                None => listeners.add(ListenerManagerCounter::ListenerAdded, 1),
                Some(before) if !Arc::ptr_eq(before, one) => {
                    listeners.add(ListenerManagerCounter::ListenerModified, 1);
                }
                Some(_) => {}
            }
        }
        let gone = old.listeners().filter(|one| new.listener_named(&one.name).is_none());
        listeners.add(ListenerManagerCounter::ListenerRemoved, gone.count() as u64);
    }

    pub(super) fn count_resources(&self) {
        let state = self.state.borrow();
        let warming = |kind| state.warming.iter().filter(|(other, _)| *other == kind).count() as u64;
        let clusters = self.stats.cluster_manager();
        clusters.set(ClusterManagerGauge::ActiveClusters, state.tables.clusters().count() as u64);
        clusters.set(ClusterManagerGauge::WarmingClusters, warming(ResourceType::Cluster));
        let listeners = self.stats.listener_manager();
        listeners.set(ListenerManagerGauge::TotalListenersActive, state.tables.listeners().count() as u64);
        listeners.set(ListenerManagerGauge::TotalListenersWarming, warming(ResourceType::Listener));
    }
}

/// FNV-1a: a number that changes with the version, for the `version` gauges.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
