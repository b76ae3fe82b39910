//! Every resource as it was received, and what became of it.
//!
//! The compiler works from the same bytes; this is what `/config_dump` shows and what an unchanged push is compared
//! with. JSON is made when somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use ringsail_tables::ResourceType;

/// Where a resource came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The bootstrap. Nothing replaces it.
    Static,
    /// The control plane or a file.
    Dynamic,
}

/// A version of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Version of the response or file that brought it.
    pub version: Arc<str>,
    /// The message, without the `Any` around it.
    pub body: Bytes,
    /// When it was accepted or refused.
    pub at: SystemTime,
}

/// A refused version.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// What was refused.
    pub refused: Version,
    /// Why, in the words of the NACK.
    pub details: String,
}

/// One resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where it came from.
    pub origin: Origin,
    /// The version in use; `None` while every version was refused.
    pub accepted: Option<Version>,
    /// The version refused after that, if the last one was.
    pub refusal: Option<Refusal>,
}

/// All resources by type and name.
#[derive(Debug, Default)]
pub struct Store {
    resources: BTreeMap<ResourceType, BTreeMap<Arc<str>, Entry>>,
    /// Version of the last accepted response or file, by type.
    versions: BTreeMap<ResourceType, String>,
}

impl Store {
    /// Resources of a type, sorted by name.
    pub fn of_type(&self, kind: ResourceType) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.resources.get(&kind).into_iter().flatten()
    }

    /// One resource.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<&Entry> {
        self.resources.get(&kind)?.get(name)
    }

    /// Whether the bootstrap holds a resource of this name.
    pub fn is_static(&self, kind: ResourceType, name: &str) -> bool {
        self.get(kind, name).is_some_and(|entry| entry.origin == Origin::Static)
    }

    /// Whether this very body is in use: then there is nothing to compile.
    pub fn holds(&self, kind: ResourceType, name: &str, body: &[u8]) -> bool {
        self.get(kind, name).is_some_and(|entry| {
            entry.refusal.is_none() && entry.accepted.as_ref().is_some_and(|version| version.body == body)
        })
    }

    /// A version is in use.
    pub fn accept(&mut self, kind: ResourceType, name: Arc<str>, origin: Origin, version: Version) {
        let entry = Entry { origin, accepted: Some(version), refusal: None };
        self.resources.entry(kind).or_default().insert(name, entry);
    }

    /// A version is refused; the one in use stays.
    pub fn refuse(&mut self, kind: ResourceType, name: Arc<str>, refused: Version, details: String) {
        let entries = self.resources.entry(kind).or_default();
        let entry =
            entries.entry(name).or_insert(Entry { origin: Origin::Dynamic, accepted: None, refusal: None });
        entry.refusal = Some(Refusal { refused, details });
    }

    /// A resource is gone.
    pub fn remove(&mut self, kind: ResourceType, name: &str) {
        if let Some(entries) = self.resources.get_mut(&kind) {
            entries.remove(name);
        }
    }

    /// Version of the last accepted response or file of a type.
    pub fn version(&self, kind: ResourceType) -> &str {
        self.versions.get(&kind).map_or("", String::as_str)
    }

    /// Sets [`Store::version`].
    pub fn set_version(&mut self, kind: ResourceType, version: &str) {
        self.versions.insert(kind, version.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &'static str) -> Version {
        Version {
            version: text.into(),
            body: Bytes::from_static(text.as_bytes()),
            at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_refused_version_stands_beside_the_good_one() {
        let mut store = Store::default();
        let kind = ResourceType::Cluster;
        store.accept(kind, "a".into(), Origin::Dynamic, version("1"));
        assert!(store.holds(kind, "a", b"1"));
        store.refuse(kind, "a".into(), version("2"), "bad".to_string());
        let entry = store.get(kind, "a").expect("there");
        assert_eq!(entry.accepted, Some(version("1")));
        assert_eq!(entry.refusal.as_ref().map(|refusal| refusal.details.as_str()), Some("bad"));
        assert!(!store.holds(kind, "a", b"1"), "sent again it clears the refusal");
        store.accept(kind, "a".into(), Origin::Dynamic, version("1"));
        assert_eq!(store.get(kind, "a").expect("there").refusal, None);
    }

    #[test]
    fn a_resource_that_was_never_good_is_shown_with_its_refusal() {
        let mut store = Store::default();
        store.refuse(ResourceType::Listener, "l".into(), version("1"), "bad".to_string());
        let entry = store.get(ResourceType::Listener, "l").expect("there");
        assert_eq!((entry.accepted.clone(), entry.origin), (None, Origin::Dynamic));
        store.remove(ResourceType::Listener, "l");
        assert_eq!(store.of_type(ResourceType::Listener).count(), 0);
    }
}
