//! Changes on their way through the compiler, with what is needed to answer for them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use ringsail_tables::{Change, Diagnostic, ResourceType};
use ringsail_xds::protocol::client;

use crate::file::FileContent;
use crate::store::{Origin, Store, Version};

/// One response, file or answer.
pub(super) struct Update {
    /// For the compiler.
    pub(super) changes: Vec<Change>,
    /// For the store: every resource in it, also unchanged ones.
    pub(super) resources: Vec<(Arc<str>, Version)>,
    /// Names that go.
    pub(super) removed: Vec<Arc<str>>,
    /// Version of the whole.
    pub(super) version: String,
    pub(super) cause: Cause,
    /// Listeners among the resources whose addresses cannot be had.
    pub(super) refused_sockets: Vec<Diagnostic>,
    kind: Option<ResourceType>,
}

/// Whom to answer.
pub(super) enum Cause {
    /// The control plane.
    Ads(client::Update),
    /// Nobody, but it is counted.
    File {
        /// The file.
        path: PathBuf,
        /// Parts of it could not be read.
        problems: bool,
    },
    /// A service of secrets, by its cluster.
    Secrets(String, client::Update),
    /// Nobody: a resolved name, a secret made of files, or an end of waiting.
    Answer,
}

impl Update {
    /// The type of its resources, if it has any.
    pub(super) fn kind(&self) -> Option<ResourceType> {
        self.kind
    }

    pub(super) fn from_ads(kind: ResourceType, response: client::Update, store: &Store) -> Update {
        Update::from_stream(kind, response, store, Cause::Ads)
    }

    /// From a service of secrets.
    pub(super) fn from_secrets(cluster: String, response: client::Update, store: &Store) -> Update {
        Update::from_stream(ResourceType::Secret, response, store, |response| {
            Cause::Secrets(cluster, response)
        })
    }

    fn from_stream(
        kind: ResourceType,
        mut response: client::Update,
        store: &Store,
        cause: impl FnOnce(client::Update) -> Cause,
    ) -> Update {
        let resources = std::mem::take(&mut response.changed);
        // The names and versions stay with the response, which its answer needs; the bodies go to the compiler.
        response.changed = resources
            .iter()
            .map(|one| ringsail_xds::protocol::Resource {
                name: one.name.clone(),
                version: one.version.clone(),
                body: prost_types::Any::default(),
            })
            .collect();
        let removed = response.removed.iter().map(|name| name.as_str().into()).collect();
        let fallback: Arc<str> = response.version.as_str().into();
        let resources = resources.into_iter().map(|one| {
            let version = if one.version.is_empty() { fallback.clone() } else { one.version };
            (one.name, version, Bytes::from(one.body.value))
        });
        let version = response.version.clone();
        Update::new(kind, resources, removed, version, cause(response), store)
    }

    /// `complete`: what the file lacks is gone.
    pub(super) fn from_file(
        kind: ResourceType,
        path: PathBuf,
        content: FileContent,
        complete: bool,
        store: &Store,
    ) -> Update {
        let mut removed = Vec::new();
        // With an unreadable resource, what is missing may be just that one.
        if complete && content.problems.is_empty() {
            let names: BTreeSet<&str> = content.resources.iter().map(|(name, _)| &**name).collect();
            removed = store
                .of_type(kind)
                .filter(|(name, entry)| entry.origin == Origin::Dynamic && !names.contains(&***name))
                .map(|(name, _)| name.clone())
                .collect();
        }
        let problems = !content.problems.is_empty();
        let version = content.version.clone();
        let resources = content.resources.into_iter().map(|(name, body)| (name, version.clone(), body));
        Update::new(kind, resources, removed, version.to_string(), Cause::File { path, problems }, store)
    }

    /// A change that nobody waits to hear about.
    pub(super) fn answer(change: Change) -> Update {
        Update::answers(vec![change])
    }

    /// Several of them.
    pub(super) fn answers(changes: Vec<Change>) -> Update {
        Update {
            changes,
            resources: Vec::new(),
            removed: Vec::new(),
            version: String::new(),
            cause: Cause::Answer,
            refused_sockets: Vec::new(),
            kind: None,
        }
    }

    /// A listener that was refused because of its address, which can be had now.
    pub(super) fn late_listener(name: &str, version: Version) -> Update {
        let kind = ResourceType::Listener;
        let change = Change::Put { kind, name: name.to_owned(), resource: version.body.clone() };
        Update { resources: vec![(name.into(), version)], kind: Some(kind), ..Update::answers(vec![change]) }
    }

    fn new(
        kind: ResourceType,
        resources: impl Iterator<Item = (Arc<str>, Arc<str>, Bytes)>,
        removed: Vec<Arc<str>>,
        version: String,
        cause: Cause,
        store: &Store,
    ) -> Update {
        // Compat: Envoy leaves clusters and listeners of its bootstrap alone when the control plane names them too.
        let is_static = |name: &str| store.is_static(kind, name);
        let removed: Vec<_> = removed.into_iter().filter(|name| !is_static(name)).collect();
        let mut changes: Vec<Change> = Vec::new();
        for name in &removed {
            changes.push(Change::Remove { kind, name: name.to_string() });
            // Whoever waits for it need not.
            changes.push(Change::GiveUp { kind, name: name.to_string() });
        }
        let at = SystemTime::now();
        let mut kept = Vec::new();
        for (name, version, body) in resources.filter(|(name, ..)| !is_static(name)) {
            // Control planes repeat themselves; the compiler need not.
            if !store.holds(kind, &name, &body) {
                changes.push(Change::Put { kind, name: name.to_string(), resource: body.clone() });
            }
            kept.push((name, Version { version, body, at }));
        }
        let refused_sockets = Vec::new();
        Update { changes, resources: kept, removed, version, cause, refused_sockets, kind: Some(kind) }
    }
}
