//! From raw xDS resources to tables.
//!
//! [`Compiler::apply`] takes changes and gives the next version. Each changed resource goes through three steps, and
//! only changed ones do:
//!
//! 1. *walk*: its bytes are compared with the table of fields ([`support`]); what is not honoured refuses it;
//! 2. *compile*: the message becomes table parts, with names turned into slots;
//! 3. *settle*: it replaces its predecessor once everything it needs has arrived (a listener its route
//!    configurations, a cluster its endpoints or addresses). Until then it is warming and the predecessor serves.
//!
//! Compat: as in Envoy, a removed route configuration or load assignment serves on while something refers to it.

pub mod support;

mod access_log;
mod balancing;
mod cluster;
mod clusters;
mod collector;
mod context;
mod dns;
mod endpoint;
mod fingerprint;
mod gate;
mod hash_policy;
mod hcm;
mod headers;
mod health_check;
mod http2;
mod internal_redirect;
mod istio;
mod listener;
mod listeners;
mod local_reply;
mod matcher;
mod metadata;
mod mirror;
mod outlier;
mod policy;
mod rate_limit;
mod rbac;
mod report;
mod route;
mod route_action;
mod secrets;
mod slots;
mod subset;
mod tcp;
mod tls;
mod tracing;
mod value;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use ringsail_tls::TicketKeys;
use ringsail_xds::envoy::config::trace::v3::tracing::Http;

use crate::cluster::{DnsFamily, DnsResolver, DnsSettings};
use crate::diagnostic::{Diagnostic, ResourceType};
use crate::strings::{Interner, Str};
use crate::tables::{Own, Tables};
use clusters::Clusters;
pub use context::FormatCheck;
use listeners::Listeners;
use report::Report;
use secrets::{Held, Use};

/// One change of the compiler's input.
#[derive(Clone, Debug)]
pub enum Change {
    /// A resource is there, for the first time or in a new version.
    Put {
        /// Its type.
        kind: ResourceType,
        /// Its name.
        name: String,
        /// The serialized message, without the `Any` around it.
        resource: Bytes,
    },
    /// A resource is gone.
    Remove {
        /// Its type.
        kind: ResourceType,
        /// Its name.
        name: String,
    },
    /// A name was resolved, or (with no addresses) found not to resolve.
    Resolved {
        /// The question, as [`Wanted::names`] gave it.
        query: DnsQuery,
        /// The addresses, in order of preference.
        addresses: Vec<IpAddr>,
    },
    /// `initial_fetch_timeout` has passed without an answer: a wanted route configuration or load assignment counts as
    /// empty from now on, and what waited for it is used.
    GiveUp {
        /// [`ResourceType::RouteConfiguration`] or [`ResourceType::ClusterLoadAssignment`].
        kind: ResourceType,
        /// Its name.
        name: String,
    },
}

/// A name to resolve.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DnsQuery {
    /// The host name as configured.
    pub host: Str,
    /// The address families asked for.
    pub family: DnsFamily,
    /// Who is asked.
    pub resolver: DnsResolver,
}

/// A name to resolve, and for whom.
#[derive(Clone, PartialEq, Debug)]
pub struct WantedName {
    /// The name.
    pub query: DnsQuery,
    /// How often; of several clusters, those of the one that asks most often.
    pub settings: Arc<DnsSettings>,
    /// Names in statistics of the clusters that refer to it, sorted.
    pub clusters: Vec<Str>,
}

/// What the compiler needs from elsewhere: the agent subscribes to and resolves exactly this. Sorted.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Wanted {
    /// Route configurations that listeners refer to.
    pub route_configs: Vec<Str>,
    /// Load assignments that EDS clusters refer to.
    pub load_assignments: Vec<Str>,
    /// Secrets that TLS of listeners and clusters refers to, other than [`Self::file_secrets`].
    pub secrets: Vec<Str>,
    /// Secrets to be made of files and followed.
    pub file_secrets: Vec<FileSecret>,
    /// Names that DNS clusters refer to.
    pub names: Vec<WantedName>,
}

/// A secret whose parts are in files: the agent reads them, puts their bytes in place of their names, and delivers the
/// result as a [`ResourceType::Secret`] of this name, again after each change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileSecret {
    /// Its name.
    pub name: Str,
    /// The serialized `Secret`, with file names.
    pub message: Bytes,
}

/// Holds the resources and compiles their changes.
#[derive(Default)]
pub struct Compiler {
    strings: Interner,
    clusters: Clusters,
    listeners: Listeners,
    secrets: Held,
    tables: Arc<Tables>,
}

impl Compiler {
    /// A compiler without resources.
    pub fn new() -> Compiler {
        Compiler::default()
    }

    /// The same, and access-log formats that `check` finds wrong refuse their listener.
    pub fn with_format_check(check: FormatCheck) -> Compiler {
        let mut compiler = Compiler::default();
        compiler.listeners.format_check = Some(check);
        compiler
    }

    /// Sets the keys of session tickets for listeners that name none. Without them none are given out. Call it before
    /// [`Compiler::apply`].
    pub fn set_ticket_keys(&mut self, keys: TicketKeys) {
        self.listeners.ticket_keys = Some(keys);
    }

    /// Sets where this proxy is. Call it before [`Compiler::apply`].
    pub fn set_own(&mut self, own: Own) {
        Arc::make_mut(&mut self.tables).own = Some(Arc::new(own));
    }

    /// Sets where spans go when a connection manager does not say. Call it before [`Compiler::apply`].
    ///
    /// Source: `Bootstrap.tracing.http`.
    ///
    /// # Errors
    /// With what is wrong with it, under the name `bootstrap tracing`.
    pub fn set_trace_provider(&mut self, provider: &Http) -> Result<(), Vec<Diagnostic>> {
        let mut report = Report::new(ResourceType::Listener, "bootstrap tracing");
        support::walk(support::trace_provider(), &provider.encode_to_vec(), &mut report);
        if !report.is_refused() {
            let (mut clusters, mut routes) = Default::default();
            let mut cx = context::Context::new(report, &mut self.strings, &mut clusters, &mut routes);
            self.listeners.trace_provider = tracing::provider(&mut cx, provider).map(Arc::new);
            report = cx.report;
        }
        if report.is_refused() { Err(report.into_diagnostics()) } else { Ok(()) }
    }

    /// Applies changes in order and publishes the outcome. Gives the previous `Arc` when nothing visible changed.
    ///
    /// A refused resource yields diagnostics of [`crate::Severity::Refused`]; its last good version serves on.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> (Arc<Tables>, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        for change in changes {
            match change {
                Change::Put { kind, name, resource } => self.put(kind, &name, resource, &mut diagnostics),
                Change::Remove { kind, name } => self.remove(kind, &name),
                Change::Resolved { query, addresses } => self.clusters.resolved(query, addresses),
                Change::GiveUp { kind, name } => self.give_up(kind, &name),
            }
        }
        self.clusters.settle(self.secrets.secrets(), &mut diagnostics);
        self.listeners.settle(&mut self.clusters.names, self.secrets.secrets(), &mut diagnostics);
        let (clusters, listeners) = (&self.clusters, &self.listeners);
        self.secrets.settle(|| Box::new(users(clusters, listeners)));
        self.publish(&mut diagnostics);
        self.strings.sweep();
        (self.tables.clone(), diagnostics)
    }

    /// The tables as last published.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// What is needed from elsewhere.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted { route_configs: self.listeners.wanted(), ..Wanted::default() };
        self.clusters.wanted(&mut wanted);
        self.listeners.wanted_secrets(&mut wanted);
        wanted.file_secrets.sort();
        wanted.file_secrets.dedup();
        wanted.secrets.sort();
        wanted.secrets.dedup();
        let from_files = &wanted.file_secrets;
        wanted.secrets.retain(|name| !from_files.iter().any(|one| one.name == *name));
        wanted
    }

    /// Names of listeners and clusters that are warming, sorted: not published in their latest version because
    /// something they need has not arrived.
    pub fn warming(&self) -> Vec<(ResourceType, Str)> {
        let clusters = self.clusters.warming().map(|name| (ResourceType::Cluster, name));
        let listeners = self.listeners.warming().map(|name| (ResourceType::Listener, name));
        let mut all: Vec<_> = clusters.chain(listeners).collect();
        all.sort();
        all
    }

    fn put(&mut self, kind: ResourceType, name: &str, resource: Bytes, diagnostics: &mut Vec<Diagnostic>) {
        let mut report = Report::new(kind, name);
        support::walk(support::resource(kind), &resource, &mut report);
        if report.is_refused() {
            diagnostics.extend(report.into_diagnostics());
            return;
        }
        let strings = &mut self.strings;
        let found = match kind {
            ResourceType::Cluster => self.clusters.put(strings, report, name, resource),
            ResourceType::ClusterLoadAssignment => {
                self.clusters.put_assignment(strings, report, name, resource)
            }
            ResourceType::Listener => {
                self.listeners.put(strings, &mut self.clusters.names, report, name, resource)
            }
            ResourceType::RouteConfiguration => {
                self.listeners.put_route_config(strings, &mut self.clusters.names, report, name, resource)
            }
            ResourceType::Secret => {
                let users = users(&self.clusters, &self.listeners);
                self.secrets.put(strings, report, name, resource, users)
            }
        };
        diagnostics.extend(found);
    }

    fn remove(&mut self, kind: ResourceType, name: &str) {
        match kind {
            ResourceType::Cluster => self.clusters.remove(name),
            ResourceType::ClusterLoadAssignment => self.clusters.remove_assignment(name),
            ResourceType::Listener => self.listeners.remove(&mut self.clusters.names, name),
            ResourceType::RouteConfiguration => self.listeners.remove_route_config(name),
            ResourceType::Secret => self.secrets.remove(name),
        }
    }

    fn give_up(&mut self, kind: ResourceType, name: &str) {
        match kind {
            ResourceType::ClusterLoadAssignment => self.clusters.give_up(self.strings.intern(name)),
            ResourceType::RouteConfiguration => self.listeners.give_up(self.strings.intern(name)),
            // What needs a secret waits for it however long that takes.
            ResourceType::Cluster | ResourceType::Listener | ResourceType::Secret => {}
        }
    }

    fn publish(&mut self, diagnostics: &mut Vec<Diagnostic>) {
        let mut next = Tables::clone(&self.tables);
        let clusters_changed = self.clusters.publish(&mut next);
        let listeners_changed = self.listeners.publish(&mut next, diagnostics);
        let secrets_changed = self.secrets.publish(&mut next);
        if clusters_changed || listeners_changed || secrets_changed {
            next.version += 1;
            self.tables = Arc::new(next);
        }
    }
}

/// All that handshakes are made with.
fn users<'a>(clusters: &'a Clusters, listeners: &'a Listeners) -> impl Iterator<Item = Use<'a>> + 'a {
    let servers = listeners.tls().map(Use::Server);
    servers.chain(clusters.tls().map(Use::Client))
}

/// Decodes a resource the walk has passed. The name inside must be the one it was delivered under.
fn decode<M: Message + Default>(
    report: &mut Report,
    resource: &Bytes,
    name: &str,
    name_inside: impl Fn(&M) -> &str,
) -> Option<M> {
    match M::decode(&resource[..]) {
        Ok(message) => {
            let inside = name_inside(&message);
            if !inside.is_empty() && inside != name {
                report.refuse(format_args!("is named {inside:?} inside"));
                return None;
            }
            Some(message)
        }
        Err(error) => {
            report.refuse(format_args!("not valid: {error}"));
            None
        }
    }
}
