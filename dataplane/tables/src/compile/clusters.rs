//! The clusters, load assignments and resolved names the compiler holds.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use ringsail_xds::envoy::config::cluster::v3 as pb;
use ringsail_xds::envoy::config::endpoint::v3::ClusterLoadAssignment;

use super::cluster::cluster;
use super::context::Context;
use super::endpoint::{Assignment, NoNames, Resolved, assignment};
use super::fingerprint::Fingerprint;
use super::report::Report;
use super::slots::Slots;
use super::tls::check_client;
use super::{DnsQuery, FileSecret, Wanted, WantedName, decode};
use crate::cluster::{Cluster, ClusterEntry, ConnectionSettings, Discovery, DnsSettings, OutlierDetection};
use crate::diagnostic::{Diagnostic, ResourceType};
use crate::endpoint::Endpoints;
use crate::ids::{ClusterId, ClusterSlot};
use crate::live::Live;
use crate::strings::{Interner, Str};
use crate::tables::Tables;
use crate::tls::{ClientTls, Secrets};

#[derive(Default)]
pub(super) struct Clusters {
    /// Places of cluster names, those that only routes mention included.
    pub(super) names: Slots,
    states: HashMap<Str, State>,
    assignments: HashMap<Str, AssignmentState>,
    answers: HashMap<DnsQuery, Box<[IpAddr]>>,
    /// Clusters to look at when settling: changed ones, and those still warming.
    unsettled: HashSet<Str>,
    /// Inputs that changed since clusters were settled last.
    changed_assignments: HashSet<Str>,
    changed_names: bool,
    /// Generation of the endpoint added last; unique over all clusters.
    endpoint_generation: u32,
    /// Published entries by slot, and whether they differ from what the tables hold.
    entries: Vec<Option<ClusterEntry>>,
    entries_changed: bool,
    names_changed: bool,
    /// What the latest clusters have, and the next ones are likely to have as well.
    connections: Recent<ConnectionSettings>,
    detections: Recent<OutlierDetection>,
}

/// Values that were met lately, so that equal ones are one allocation.
struct Recent<T>(VecDeque<Arc<T>>);

impl<T> Default for Recent<T> {
    fn default() -> Recent<T> {
        Recent(VecDeque::new())
    }
}

impl<T: PartialEq> Recent<T> {
    /// The value that was met before, or the new one.
    fn share(&mut self, new: Arc<T>) -> Arc<T> {
        if let Some(known) = self.0.iter().find(|known| **known == new) {
            return known.clone();
        }
        if self.0.len() == RECENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(new.clone());
        new
    }
}

/// How many distinct values are kept: a mesh has a handful of connection settings, most of them of one kind.
const RECENT_MAX: usize = 16;

struct State {
    /// Of the latest accepted version, to recognise repetitions.
    fingerprint: Fingerprint,
    active: Option<Active>,
    /// Accepted, but its endpoints have not arrived.
    pending: Option<Draft>,
}

struct Draft {
    cluster: Arc<Cluster>,
    assignment: Option<Box<Assignment>>,
    /// Secrets it has in files.
    files: Box<[FileSecret]>,
}

struct Active {
    entry: ClusterEntry,
    /// Kept for DNS clusters, whose endpoints follow the resolver.
    assignment: Option<Box<Assignment>>,
    files: Box<[FileSecret]>,
}

struct AssignmentState {
    fingerprint: Fingerprint,
    endpoints: Arc<Endpoints>,
    /// Removed by the control plane; kept while clusters use it.
    removed: bool,
}

/// Answers for one address family.
struct Answers<'a> {
    answers: &'a HashMap<DnsQuery, Box<[IpAddr]>>,
    settings: &'a DnsSettings,
}

impl Resolved for Answers<'_> {
    fn addresses(&self, name: &Str) -> Option<&[IpAddr]> {
        self.answers.get(&query(name, self.settings)).map(|addresses| &addresses[..])
    }
}

fn query(host: &Str, settings: &DnsSettings) -> DnsQuery {
    DnsQuery { host: host.clone(), family: settings.family, resolver: settings.resolver.clone() }
}

impl Clusters {
    pub(super) fn put(
        &mut self,
        strings: &mut Interner,
        mut report: Report,
        name: &str,
        resource: Bytes,
    ) -> Vec<Diagnostic> {
        let fingerprint = Fingerprint::of(&resource);
        if self.states.get(name).is_some_and(|state| state.fingerprint == fingerprint) {
            return Vec::new();
        }
        let Some(mut message) = decode::<pb::Cluster>(&mut report, &resource, name, |message| &message.name)
        else {
            return report.into_diagnostics();
        };
        message.name = name.to_owned();
        let mut route_names = Slots::default();
        let mut cx = Context::new(report, strings, &mut self.names, &mut route_names);
        let compiled = cluster(&mut cx, &message);
        let (report, uses) = (cx.report, cx.uses);
        if let Some((mut cluster, assignment)) = compiled
            && !report.is_refused()
        {
            cluster.connection = self.connections.share(cluster.connection);
            cluster.outlier_detection =
                cluster.outlier_detection.map(|detection| self.detections.share(detection));
            let name = strings.intern(name);
            let files = uses.files.into();
            let draft = Draft { cluster: Arc::new(cluster), assignment: assignment.map(Box::new), files };
            if !self.states.contains_key(&name) {
                self.names.acquire(&name);
            }
            let state = self.states.entry(name.clone()).or_insert_with(|| State {
                fingerprint: Fingerprint::NONE,
                active: None,
                pending: None,
            });
            state.fingerprint = fingerprint;
            state.pending = Some(draft);
            self.unsettled.insert(name);
        }
        report.into_diagnostics()
    }

    pub(super) fn remove(&mut self, name: &str) {
        let Some((name, state)) = self.states.remove_entry(name) else { return };
        self.unsettled.remove(&name);
        if let Some(active) = state.active {
            self.entries[active.entry.id.slot as usize] = None;
            self.entries_changed = true;
            self.names_changed = true;
        }
        self.names.release(&name);
        self.drop_unused_inputs();
    }

    pub(super) fn put_assignment(
        &mut self,
        strings: &mut Interner,
        mut report: Report,
        name: &str,
        resource: Bytes,
    ) -> Vec<Diagnostic> {
        let fingerprint = Fingerprint::of(&resource);
        if let Some(state) = self.assignments.get_mut(name)
            && state.fingerprint == fingerprint
        {
            state.removed = false;
            return Vec::new();
        }
        let Some(message) =
            decode::<ClusterLoadAssignment>(&mut report, &resource, name, |message| &message.cluster_name)
        else {
            return report.into_diagnostics();
        };
        let mut route_names = Slots::default();
        let mut cx = Context::new(report, strings, &mut self.names, &mut route_names);
        let compiled = assignment(&mut cx, &message, false);
        let report = cx.report;
        if !report.is_refused() {
            let name = strings.intern(name);
            let previous = self.assignments.get(&name).map(|state| &*state.endpoints);
            let endpoints = compiled
                .endpoints(&NoNames, false, previous, &mut self.endpoint_generation)
                .unwrap_or_default();
            self.set_assignment(name, fingerprint, endpoints);
        }
        report.into_diagnostics()
    }

    fn set_assignment(&mut self, name: Str, fingerprint: Fingerprint, endpoints: Endpoints) {
        self.changed_assignments.insert(name.clone());
        let state = AssignmentState { fingerprint, endpoints: Arc::new(endpoints), removed: false };
        self.assignments.insert(name, state);
    }

    pub(super) fn remove_assignment(&mut self, name: &str) {
        if let Some(state) = self.assignments.get_mut(name) {
            state.removed = true;
            self.drop_unused_inputs();
        }
    }

    pub(super) fn give_up(&mut self, name: Str) {
        if !self.assignments.contains_key(&name) {
            self.set_assignment(name, Fingerprint::NONE, Endpoints::default());
        }
    }

    pub(super) fn resolved(&mut self, query: DnsQuery, addresses: Vec<IpAddr>) {
        let addresses: Box<[IpAddr]> = addresses.into();
        if self.answers.get(&query) != Some(&addresses) {
            self.answers.insert(query, addresses);
            self.changed_names = true;
        }
    }

    /// Brings into service what is complete, and new endpoints to what serves already.
    pub(super) fn settle(&mut self, secrets: &Secrets, diagnostics: &mut Vec<Diagnostic>) {
        let changed_assignments = std::mem::take(&mut self.changed_assignments);
        let changed_names = std::mem::take(&mut self.changed_names);
        let mut names = std::mem::take(&mut self.unsettled);
        if !changed_assignments.is_empty() || changed_names {
            let touched = self.states.iter().filter(|(_, state)| {
                state.clusters().any(|cluster| match &cluster.discovery {
                    Discovery::Eds { service_name } => changed_assignments.contains(service_name),
                    Discovery::StrictDns(_) | Discovery::LogicalDns(_) => changed_names,
                    Discovery::Static | Discovery::OriginalDst { .. } => false,
                })
            });
            names.extend(touched.map(|(name, _)| name.clone()));
        }
        if names.is_empty() {
            return;
        }
        for name in names {
            if let Some(problem) = self.problem(&name, secrets) {
                let mut report = Report::new(ResourceType::Cluster, &name);
                report.refuse(problem);
                diagnostics.extend(report.into_diagnostics());
                self.refuse_pending(&name);
            } else if !self.settle_one(&name, secrets) {
                self.unsettled.insert(name);
            }
        }
        self.drop_unused_inputs();
    }

    /// Why handshakes with what waits would fail, once its secrets are here.
    fn problem(&self, name: &Str, secrets: &Secrets) -> Option<String> {
        let pending = self.states.get(name)?.pending.as_ref()?;
        if !has_secrets(&pending.cluster, secrets) {
            return None;
        }
        pending.cluster.connection.transports.all().find_map(|tls| check_client(tls, secrets).err())
    }

    /// Forgets a version that waits; a repetition of it is judged again.
    fn refuse_pending(&mut self, name: &Str) {
        let Some(state) = self.states.get_mut(name) else { return };
        state.pending = None;
        state.fingerprint = Fingerprint::NONE;
        if state.active.is_none() {
            self.states.remove(name);
            self.names.release(name);
        }
    }

    /// Whether nothing is left waiting.
    fn settle_one(&mut self, name: &Str, secrets: &Secrets) -> bool {
        if self
            .states
            .get(name)
            .and_then(|state| state.pending.as_ref())
            .is_some_and(|draft| !has_secrets(&draft.cluster, secrets))
        {
            return false;
        }
        let Some(state) = self.states.get_mut(name) else { return true };
        let (cluster, assignment) = match (&state.pending, &state.active) {
            (Some(draft), _) => (draft.cluster.clone(), &draft.assignment),
            (None, Some(active)) => (active.entry.cluster.clone(), &active.assignment),
            (None, None) => return true,
        };
        let previous = state.active.as_ref().map(|active| &active.entry);
        let old_endpoints = previous.map(|entry| &*entry.endpoints);
        let generation = &mut self.endpoint_generation;
        let resolve = |settings: &DnsSettings, first_only: bool, generation: &mut u32| {
            let answers = Answers { answers: &self.answers, settings };
            assignment.as_ref()?.endpoints(&answers, first_only, old_endpoints, generation).map(Arc::new)
        };
        let endpoints = match &cluster.discovery {
            Discovery::Static => assignment
                .as_ref()
                .and_then(|assignment| assignment.endpoints(&NoNames, false, old_endpoints, generation))
                .map(Arc::new),
            Discovery::Eds { service_name } => {
                self.assignments.get(service_name).map(|state| state.endpoints.clone())
            }
            Discovery::StrictDns(settings) => resolve(settings, false, generation),
            Discovery::LogicalDns(settings) => resolve(settings, true, generation),
            Discovery::OriginalDst { .. } => Some(Arc::new(Endpoints::default())),
        };
        let Some(endpoints) = endpoints else { return false };
        let endpoints = match previous {
            Some(entry) if entry.endpoints == endpoints => entry.endpoints.clone(),
            Some(_) | None => endpoints,
        };

        let slot = self.names.place(name).expect("a held cluster has a place").slot;
        let id = match previous {
            Some(entry) if same_connections(&entry.cluster, &cluster) => entry.id,
            Some(_) | None => ClusterId { slot, generation: self.names.next_generation() },
        };
        let is_new = previous.is_none();
        let unchanged = previous.is_some_and(|entry| {
            entry.id == id && entry.cluster == cluster && Arc::ptr_eq(&entry.endpoints, &endpoints)
        });
        let live = match previous {
            Some(entry) if unchanged => entry.live.clone(),
            _ => {
                let known =
                    previous.filter(|entry| entry.id == id).map(|entry| (&*entry.cluster, &*entry.live));
                Arc::new(Live::new(&cluster, &endpoints, known))
            }
        };
        let entry = ClusterEntry { id, cluster, endpoints, live };
        let (assignment, files) = match (state.pending.take(), state.active.take()) {
            (Some(draft), _) => (draft.assignment, draft.files),
            (None, Some(active)) => (active.assignment, active.files),
            (None, None) => (None, Box::default()),
        };
        let follows_names =
            matches!(entry.cluster.discovery, Discovery::StrictDns(_) | Discovery::LogicalDns(_));
        state.active =
            Some(Active { entry: entry.clone(), assignment: assignment.filter(|_| follows_names), files });
        if !unchanged {
            if self.entries.len() <= slot as usize {
                self.entries.resize(slot as usize + 1, None);
            }
            self.entries[slot as usize] = Some(entry);
            self.entries_changed = true;
            self.names_changed |= is_new;
        }
        true
    }

    /// Forgets removed assignments and answers that no cluster refers to.
    fn drop_unused_inputs(&mut self) {
        if self.assignments.values().any(|state| state.removed) {
            let used: HashSet<Str> = self
                .states
                .values()
                .flat_map(State::clusters)
                .filter_map(|cluster| match &cluster.discovery {
                    Discovery::Eds { service_name } => Some(service_name.clone()),
                    _ => None,
                })
                .collect();
            self.assignments.retain(|name, state| !state.removed || used.contains(name));
        }
        if !self.answers.is_empty() {
            let used: HashSet<DnsQuery> = self.queries().map(|(query, ..)| query).collect();
            self.answers.retain(|query, _| used.contains(query));
        }
    }

    fn queries(&self) -> impl Iterator<Item = (DnsQuery, &Arc<DnsSettings>, &Cluster)> {
        let assignments = self.states.values().flat_map(|state| {
            let active = state.active.iter().map(|active| (&active.entry.cluster, &active.assignment));
            active.chain(state.pending.iter().map(|draft| (&draft.cluster, &draft.assignment)))
        });
        assignments.flat_map(|(cluster, assignment)| {
            let settings = match &cluster.discovery {
                Discovery::StrictDns(settings) | Discovery::LogicalDns(settings) => Some(settings),
                Discovery::Static | Discovery::Eds { .. } | Discovery::OriginalDst { .. } => None,
            };
            settings.into_iter().flat_map(move |settings| {
                let names = assignment.iter().flat_map(|assignment| assignment.names());
                names.map(move |host| (query(host, settings), settings, &**cluster))
            })
        })
    }

    pub(super) fn wanted(&self, wanted: &mut Wanted) {
        for cluster in self.states.values().flat_map(State::clusters) {
            if let Discovery::Eds { service_name } = &cluster.discovery {
                wanted.load_assignments.push(service_name.clone());
            }
        }
        wanted.secrets.extend(self.tls().flat_map(|tls| tls.secrets().cloned()));
        for state in self.states.values() {
            let active = state.active.iter().flat_map(|active| &active.files);
            let files = active.chain(state.pending.iter().flat_map(|draft| &draft.files));
            wanted.file_secrets.extend(files.cloned());
        }
        wanted.load_assignments.sort();
        wanted.load_assignments.dedup();
        let names = self.queries().map(|(query, settings, cluster)| WantedName {
            query,
            settings: settings.clone(),
            clusters: vec![Str::new(cluster.stat_name())],
        });
        wanted.names = names.collect();
        // Of several clusters with one name, the shortest interval serves all.
        wanted.names.sort_by(|a, b| {
            (&a.query, a.settings.refresh_rate, &a.clusters).cmp(&(
                &b.query,
                b.settings.refresh_rate,
                &b.clusters,
            ))
        });
        wanted.names.dedup_by(|later, first| {
            let same = later.query == first.query;
            if same {
                first.clusters.append(&mut later.clusters);
            }
            same
        });
        for name in &mut wanted.names {
            name.clusters.sort();
            name.clusters.dedup();
        }
    }

    /// TLS of all clusters, of versions that wait as well.
    pub(super) fn tls(&self) -> impl Iterator<Item = &ClientTls> {
        let clusters = self.states.values().flat_map(State::clusters);
        clusters.flat_map(|cluster| cluster.connection.transports.all().map(|tls| &**tls))
    }

    pub(super) fn warming(&self) -> impl Iterator<Item = Str> {
        self.states.iter().filter(|(_, state)| state.pending.is_some()).map(|(name, _)| name.clone())
    }

    /// Writes what changed into the next tables.
    pub(super) fn publish(&mut self, next: &mut Tables) -> bool {
        if std::mem::take(&mut self.names_changed) {
            let active = self.entries.iter().flatten();
            next.cluster_names = Arc::new(
                active.map(|entry| (entry.cluster.name.clone(), ClusterSlot(entry.id.slot))).collect(),
            );
        }
        if !std::mem::take(&mut self.entries_changed) {
            return false;
        }
        while self.entries.pop_if(|entry| entry.is_none()).is_some() {}
        next.clusters = self.entries.as_slice().into();
        true
    }
}

impl State {
    fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        let active = self.active.iter().map(|active| &active.entry.cluster);
        active.chain(self.pending.iter().map(|draft| &draft.cluster))
    }
}

fn has_secrets(cluster: &Cluster, secrets: &Secrets) -> bool {
    let mut names = cluster.connection.transports.all().flat_map(|tls| tls.secrets());
    names.all(|name| secrets.secret(name).is_some())
}

/// Whether connections made for one version of a cluster serve the other.
fn same_connections(a: &Cluster, b: &Cluster) -> bool {
    // Whether endpoints are checked decides how they begin.
    a.connection == b.connection
        && a.health_check.is_some() == b.health_check.is_some()
        && std::mem::discriminant(&a.discovery) == std::mem::discriminant(&b.discovery)
}
