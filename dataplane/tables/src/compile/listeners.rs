//! The listeners and route configurations the compiler holds.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use ringsail_tls::TicketKeys;
use ringsail_xds::envoy::config::listener::v3 as listener_pb;
use ringsail_xds::envoy::config::route::v3 as route_pb;

use super::Wanted;
use super::context::{Context, FormatCheck, Uses};
use super::decode;
use super::fingerprint::Fingerprint;
use super::listener::listener;
use super::report::Report;
use super::route::route_config;
use super::slots::Slots;
use super::tls::check_server;
use crate::address::Address;
use crate::diagnostic::{Diagnostic, ResourceType};
use crate::ids::{ListenerId, RouteConfigId};
use crate::listener::Listener;
use crate::route::RouteConfig;
use crate::strings::{Interner, Str};
use crate::tables::{Destinations, Tables};
use crate::tls::{Secrets, ServerTls};
use crate::tracing::TraceProvider;

#[derive(Default)]
pub(super) struct Listeners {
    places: Slots,
    /// Places of route configurations: RDS names, and keys of inline ones.
    route_places: Slots,
    states: HashMap<Str, State>,
    route_configs: HashMap<Str, RouteState>,
    /// Listeners left out because an earlier name has their address.
    displaced: HashSet<Str>,
    listeners_changed: bool,
    routes_changed: bool,
    /// See [`FormatCheck`].
    pub(super) format_check: Option<FormatCheck>,
    /// Where spans go when a connection manager does not say.
    pub(super) trace_provider: Option<Arc<TraceProvider>>,
    /// See [`super::Compiler::set_ticket_keys`].
    pub(super) ticket_keys: Option<TicketKeys>,
}

struct State {
    /// Of the latest accepted version, to recognise repetitions.
    fingerprint: Fingerprint,
    active: Option<Compiled<Listener>>,
    /// Accepted, but its route configurations have not arrived.
    pending: Option<Compiled<Listener>>,
}

struct RouteState {
    fingerprint: Fingerprint,
    active: Compiled<RouteConfig>,
    /// Removed by the control plane; kept while listeners use it.
    removed: bool,
}

struct Compiled<T> {
    value: Arc<T>,
    uses: Uses,
}

impl Listeners {
    pub(super) fn put(
        &mut self,
        strings: &mut Interner,
        cluster_names: &mut Slots,
        mut report: Report,
        name: &str,
        resource: Bytes,
    ) -> Vec<Diagnostic> {
        let fingerprint = Fingerprint::of(&resource);
        if self.states.get(name).is_some_and(|state| state.fingerprint == fingerprint) {
            return Vec::new();
        }
        let Some(mut message) =
            decode::<listener_pb::Listener>(&mut report, &resource, name, |message| &message.name)
        else {
            return report.into_diagnostics();
        };
        message.name = name.to_owned();
        let name = strings.intern(name);
        let place = self.places.acquire(&name);
        let id = ListenerId { slot: place.slot, generation: place.generation };
        let mut cx = Context::new(report, strings, cluster_names, &mut self.route_places);
        cx.format_check = self.format_check;
        cx.trace_provider.clone_from(&self.trace_provider);
        if let Some(keys) = &self.ticket_keys {
            cx.ticket_keys = keys.clone();
        }
        let compiled = listener(&mut cx, id, &message);
        let (report, uses) = (cx.report, cx.uses);
        match compiled {
            Some(listener) if !report.is_refused() => {
                let pending = Compiled { value: Arc::new(listener), uses };
                if let Some(state) = self.states.get_mut(&name) {
                    state.fingerprint = fingerprint;
                    if let Some(old) = state.pending.replace(pending) {
                        release(&old.uses, cluster_names, &mut self.route_places);
                    }
                    self.places.release(&name);
                } else {
                    self.states.insert(name, State { fingerprint, active: None, pending: Some(pending) });
                }
            }
            Some(_) | None => {
                release(&uses, cluster_names, &mut self.route_places);
                self.places.release(&name);
            }
        }
        report.into_diagnostics()
    }

    pub(super) fn remove(&mut self, cluster_names: &mut Slots, name: &str) {
        let Some((name, state)) = self.states.remove_entry(name) else { return };
        for compiled in state.active.iter().chain(&state.pending) {
            release(&compiled.uses, cluster_names, &mut self.route_places);
        }
        self.places.release(&name);
        self.listeners_changed |= state.active.is_some();
    }

    pub(super) fn put_route_config(
        &mut self,
        strings: &mut Interner,
        cluster_names: &mut Slots,
        mut report: Report,
        name: &str,
        resource: Bytes,
    ) -> Vec<Diagnostic> {
        let fingerprint = Fingerprint::of(&resource);
        if let Some(state) = self.route_configs.get_mut(name)
            && state.fingerprint == fingerprint
        {
            state.removed = false;
            return Vec::new();
        }
        let Some(mut message) =
            decode::<route_pb::RouteConfiguration>(&mut report, &resource, name, |message| &message.name)
        else {
            return report.into_diagnostics();
        };
        message.name = name.to_owned();
        let name = strings.intern(name);
        let place = self.route_places.acquire(&name);
        let id = RouteConfigId { slot: place.slot, generation: place.generation };
        let mut cx = Context::new(report, strings, cluster_names, &mut self.route_places);
        cx.format_check = self.format_check;
        cx.trace_provider.clone_from(&self.trace_provider);
        let config = route_config(&mut cx, id, &message);
        let (report, uses) = (cx.report, cx.uses);
        if report.is_refused() {
            release(&uses, cluster_names, &mut self.route_places);
            self.route_places.release(&name);
        } else {
            let active = Compiled { value: Arc::new(config), uses };
            let new = RouteState { fingerprint, active, removed: false };
            if let Some(old) = self.route_configs.insert(name.clone(), new) {
                release(&old.active.uses, cluster_names, &mut self.route_places);
                self.route_places.release(&name);
            }
            self.routes_changed = true;
        }
        report.into_diagnostics()
    }

    pub(super) fn remove_route_config(&mut self, name: &str) {
        if let Some(state) = self.route_configs.get_mut(name) {
            state.removed = true;
        }
    }

    pub(super) fn give_up(&mut self, name: Str) {
        if self.route_configs.contains_key(&name) {
            return;
        }
        let place = self.route_places.acquire(&name);
        let id = RouteConfigId { slot: place.slot, generation: place.generation };
        let active =
            Compiled { value: Arc::new(RouteConfig::empty(id, name.clone())), uses: Uses::default() };
        self.route_configs
            .insert(name, RouteState { fingerprint: Fingerprint::NONE, active, removed: false });
        self.routes_changed = true;
    }

    /// Brings into service what is complete, and forgets removed route configurations nobody uses.
    pub(super) fn settle(
        &mut self,
        cluster_names: &mut Slots,
        secrets: &Secrets,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        for (name, state) in &mut self.states {
            let ready = |pending: &mut Compiled<Listener>| {
                pending.uses.rds.iter().all(|name| self.route_configs.contains_key(name))
                    && pending.uses.secrets.iter().all(|name| secrets.secret(name).is_some())
            };
            let Some(pending) = state.pending.take_if(ready) else { continue };
            let mut chains = pending.value.filter_chains.iter().filter_map(|chain| chain.tls.as_deref());
            if let Some(problem) = chains.find_map(|tls| check_server(tls, secrets).err()) {
                let mut report = Report::new(ResourceType::Listener, name);
                report.refuse(problem);
                diagnostics.extend(report.into_diagnostics());
                // A repetition is judged again.
                state.fingerprint = Fingerprint::NONE;
                release(&pending.uses, cluster_names, &mut self.route_places);
                continue;
            }
            if let Some(old) = state.active.replace(pending) {
                release(&old.uses, cluster_names, &mut self.route_places);
            }
            self.listeners_changed = true;
        }
        if self.route_configs.values().any(|state| state.removed) {
            let used: HashSet<Str> = self.wanted().into_iter().collect();
            let unused = self.route_configs.extract_if(|name, state| state.removed && !used.contains(name));
            for (name, state) in unused {
                release(&state.active.uses, cluster_names, &mut self.route_places);
                self.route_places.release(&name);
                self.routes_changed = true;
            }
        }
    }

    pub(super) fn wanted(&self) -> Vec<Str> {
        let compiled = self.states.values().flat_map(|state| state.active.iter().chain(&state.pending));
        let mut names: Vec<Str> = compiled.flat_map(|compiled| compiled.uses.rds.iter().cloned()).collect();
        names.sort();
        names.dedup();
        names
    }

    pub(super) fn wanted_secrets(&self, wanted: &mut Wanted) {
        let compiled = self.states.values().flat_map(|state| state.active.iter().chain(&state.pending));
        for compiled in compiled {
            wanted.secrets.extend(compiled.uses.secrets.iter().cloned());
            wanted.file_secrets.extend(compiled.uses.files.iter().cloned());
        }
    }

    /// TLS of all filter chains, of versions that wait as well.
    pub(super) fn tls(&self) -> impl Iterator<Item = &ServerTls> {
        let compiled = self.states.values().flat_map(|state| state.active.iter().chain(&state.pending));
        let chains = compiled.flat_map(|compiled| compiled.value.filter_chains.iter());
        chains.filter_map(|chain| chain.tls.as_deref())
    }

    pub(super) fn warming(&self) -> impl Iterator<Item = Str> {
        self.states.iter().filter(|(_, state)| state.pending.is_some()).map(|(name, _)| name.clone())
    }

    /// Writes what changed into the next tables.
    pub(super) fn publish(&mut self, next: &mut Tables, diagnostics: &mut Vec<Diagnostic>) -> bool {
        let listeners_changed = std::mem::take(&mut self.listeners_changed);
        let routes_changed = std::mem::take(&mut self.routes_changed) || listeners_changed;
        if listeners_changed {
            self.publish_listeners(next, diagnostics);
        }
        if routes_changed {
            let mut slots = vec![None; self.route_places.end()];
            let inline = self.states.values().filter_map(|state| state.active.as_ref());
            let inline = inline.flat_map(|active| &active.uses.inline_routes);
            for config in self.route_configs.values().map(|state| &state.active.value).chain(inline) {
                slots[config.id.slot as usize] = Some(config.clone());
            }
            next.route_configs = slots.into();
        }
        listeners_changed || routes_changed
    }

    /// Of listeners with one address, the first by name is published: the outcome must not depend on arrival.
    fn publish_listeners(&mut self, next: &mut Tables, diagnostics: &mut Vec<Diagnostic>) {
        let mut active: Vec<(&Str, &Arc<Listener>)> = self
            .states
            .iter()
            .filter_map(|(name, state)| Some((name, &state.active.as_ref()?.value)))
            .collect();
        active.sort_by_key(|(name, _)| *name);
        let mut slots = vec![None; self.places.end()];
        let mut owners: HashMap<&Address, &Arc<Listener>> = HashMap::new();
        let mut displaced = HashSet::new();
        for (name, listener) in active {
            let owned = listener.addresses.iter().find_map(|address| Some((address, owners.get(address)?)));
            if let Some((address, owner)) = owned {
                if !self.displaced.contains(name) {
                    let mut report = Report::new(ResourceType::Listener, name);
                    report
                        .refuse_at("address", format_args!("{address} belongs to listener {:?}", owner.name));
                    diagnostics.extend(report.into_diagnostics());
                }
                displaced.insert(name.clone());
                continue;
            }
            let fixed = listener.addresses.iter().filter(|address| !is_ephemeral(address));
            owners.extend(fixed.map(|address| (address, listener)));
            slots[listener.id.slot as usize] = Some(listener.clone());
        }
        let by_address =
            owners.iter().filter_map(|(address, listener)| Some((address.socket()?, listener.id))).collect();
        next.destinations = Arc::new(Destinations { by_address });
        next.listeners = slots.into();
        self.displaced = displaced;
    }
}

/// Port 0 asks the kernel for a free one: such addresses never collide.
fn is_ephemeral(address: &Address) -> bool {
    address.socket().is_some_and(|address| address.port() == 0)
}

fn release(uses: &Uses, cluster_names: &mut Slots, route_places: &mut Slots) {
    for name in &uses.clusters {
        cluster_names.release(name);
    }
    for name in &uses.routes {
        route_places.release(name);
    }
}
