//! Translated resources in the form the protocol half takes, shared between proxies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ringsail_translate::Resource as Translated;
use ringsail_xds::protocol::Resource;

/// Entries after which dead ones are looked for; doubled while they live.
const SWEEP_MIN: usize = 1024;

/// One packed copy of each resource that any stream still holds.
#[derive(Debug, Default)]
pub(crate) struct WireCache(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    // By type URL, name and content hash: equal keys mean equal bytes.
    packed: HashMap<(&'static str, String, u64), Weak<Resource>>,
    sweep_at: usize,
}

impl WireCache {
    /// The packed form of these resources of one type, in their order.
    pub(crate) fn pack(&self, type_url: &'static str, list: &[Arc<Translated>]) -> Vec<Arc<Resource>> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let packed = list.iter().map(|translated| inner.pack(type_url, translated)).collect();
        inner.sweep();
        packed
    }
}

impl Inner {
    fn pack(&mut self, type_url: &'static str, translated: &Translated) -> Arc<Resource> {
        let key = (type_url, translated.name.clone(), translated.version);
        if let Some(found) = self.packed.get(&key).and_then(Weak::upgrade) {
            return found;
        }
        let resource = Arc::new(Resource {
            name: Arc::from(translated.name.as_str()),
            version: Arc::from(format!("{:016x}", translated.version)),
            body: prost_types::Any { type_url: type_url.to_owned(), value: translated.body.clone() },
        });
        self.packed.insert(key, Arc::downgrade(&resource));
        resource
    }

    fn sweep(&mut self) {
        if self.packed.len() > self.sweep_at.max(SWEEP_MIN) {
            self.packed.retain(|_, held| held.strong_count() > 0);
            self.sweep_at = self.packed.len() * 2;
        }
    }
}
