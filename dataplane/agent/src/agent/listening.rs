//! Listeners and their sockets: which cannot be bound, and how far the shards are.

use ringsail_tables::{Change, ResourceType, Severity};
use ringsail_telemetry::ListenerManagerCounter;

use super::main_loop::Loop;
use super::needs::Timer;
use super::update::Update;
use crate::limits::BIND_RETRY;
use crate::news::News;
use crate::sockets;

impl Loop {
    /// Takes out of an update what cannot be bound: it is refused, and tried again until there is another version.
    pub(super) fn check_sockets(&mut self, update: &mut Update) {
        if update.kind() != Some(ResourceType::Listener) {
            return;
        }
        let named =
            update.resources.iter().map(|(name, _)| &**name).chain(update.removed.iter().map(|name| &**name));
        named.for_each(|name| drop(self.unbound.remove(name)));
        let tables = self.state.borrow().tables.clone();
        let mut refused = Vec::new();
        update.changes.retain(|change| {
            let Change::Put { kind: ResourceType::Listener, name, resource } = change else { return true };
            let finding = sockets::refusal(name, resource, &tables);
            let fits = finding.is_none();
            refused.extend(finding);
            fits
        });
        for finding in &refused {
            let name = &finding.resource_name;
            if let Some((_, version)) = update.resources.iter().find(|(other, _)| **other == **name) {
                self.unbound.insert(name.clone(), version.clone());
                self.start_timer(Timer::Bind(name.clone()), Some(BIND_RETRY));
            }
        }
        update.refused_sockets = refused;
    }

    /// Tries a listener again whose address could not be had.
    pub(super) fn bind_again(&mut self, name: &str) {
        self.timed.remove(&Timer::Bind(name.to_owned()));
        let Some(version) = self.unbound.get(name).cloned() else { return };
        let tables = self.state.borrow().tables.clone();
        match sockets::refusal(name, &version.body, &tables) {
            Some(finding) if finding.severity == Severity::Refused => {
                self.start_timer(Timer::Bind(name.to_owned()), Some(BIND_RETRY));
            }
            Some(_) | None => {
                self.unbound.remove(name);
                tracing::info!(name, "the listener's address is free now");
                let update = Update::late_listener(name, version);
                self.push(update);
            }
        }
    }

    /// A shard told something; `None` when there are none to tell.
    pub(super) fn news(&mut self, news: Option<News>) {
        let counters = self.stats.listener_manager();
        match news {
            Some(News::Listening { .. }) => counters.add(ListenerManagerCounter::ListenerCreateSuccess, 1),
            Some(News::NotListening { .. }) => counters.add(ListenerManagerCounter::ListenerCreateFailure, 1),
            Some(News::Adopted { shard, version }) => {
                if let Some(adopted) = self.adopted.get_mut(shard as usize) {
                    *adopted = Some(version);
                }
                self.advance();
            }
            None => {
                self.adopted.clear();
                self.news_ended = true;
                self.advance();
            }
        }
    }

    /// Whether every shard has bound, or refused, the listeners of a version of the tables.
    pub(super) fn shards_have(&self, version: u64) -> bool {
        self.adopted.iter().all(|adopted| adopted.is_some_and(|adopted| adopted >= version))
    }
}
