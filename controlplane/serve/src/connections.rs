//! Who is connected, and where each stands: the rows of `/debug/syncz`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ringsail_model::{Proxy, ProxyType};
use ringsail_xds::protocol::Resource;
use ringsail_xds::protocol::server::Progress;

use crate::limits::PROXIES_MAX;

/// Every open stream that has introduced itself.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    next_id: AtomicU64,
}

/// One stream of one proxy.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) proxy: Proxy,
    /// `ISTIO_VERSION` of the node's metadata.
    pub(crate) istio_version: String,
    pub(crate) connected_at: SystemTime,
    status: Mutex<Status>,
}

/// What a stream has come to.
#[derive(Debug, Default, Clone)]
pub(crate) struct Status {
    /// By type URL.
    pub(crate) progress: BTreeMap<String, Progress>,
    /// What the proxy was last meant to have, by type URL.
    pub(crate) resources: BTreeMap<&'static str, Arc<[Arc<Resource>]>>,
    /// The version of those.
    pub(crate) version: String,
}

/// Removes its connection when the stream ends, however it ends.
#[derive(Debug)]
pub(crate) struct Registration<'a> {
    connections: &'a Connections,
    id: u64,
    pub(crate) connection: Arc<Connection>,
}

impl Connections {
    /// Numbers streams; also what makes nonces of different streams different.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a stream; `None` when there are [`PROXIES_MAX`] already.
    pub(crate) fn register(&self, id: u64, proxy: Proxy, istio_version: String) -> Option<Registration<'_>> {
        let connection = Arc::new(Connection {
            proxy,
            istio_version,
            connected_at: SystemTime::now(),
            status: Mutex::default(),
        });
        let mut open = self.lock();
        if open.len() >= PROXIES_MAX {
            return None;
        }
        open.insert(id, Arc::clone(&connection));
        Some(Registration { connections: self, id, connection })
    }

    /// The open streams, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        self.lock().values().cloned().collect()
    }

    /// The newest stream of the proxy with that id (`sidecar~…`), or whose `pod.namespace` part it is.
    pub(crate) fn find(&self, proxy_id: &str) -> Option<Arc<Connection>> {
        let open = self.lock();
        let is_meant = |connection: &&Arc<Connection>| {
            let id = connection.proxy.id.as_str();
            id == proxy_id || id.split('~').nth(2) == Some(proxy_id)
        };
        open.values().rev().find(is_meant).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    pub(crate) fn status(&self) -> Status {
        self.lock().clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock());
    }

    /// `sidecar` or `router`, as Istio names them.
    pub(crate) fn type_name(&self) -> &'static str {
        match self.proxy.kind {
            ProxyType::Sidecar => "sidecar",
            ProxyType::Router => "router",
        }
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.id);
    }
}
