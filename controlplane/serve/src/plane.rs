//! What the control plane has published, shared by all streams and the debug pages.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ringsail_api::{Diagnostic, Object};
use ringsail_model::{Mesh, Proxy};
use ringsail_translate::{ProxyResources, Translator};
use tokio::sync::{Mutex, watch};

use crate::connections::Connections;
use crate::metrics::Metrics;
use crate::wire::WireCache;

/// One published state. Immutable; a stream works on the one it took until it looks again.
#[derive(Debug)]
pub struct Published {
    /// The mesh.
    pub mesh: Arc<Mesh>,
    /// Names this state towards proxies: `START/NUMBER`, where START tells one process from the next.
    pub version: String,
    /// When the first change that led to it arrived.
    pub changed_at: Instant,
    /// The accepted objects, for `/debug/configz`.
    pub objects: Vec<Arc<Object>>,
    /// Everything known to be wrong, for `/debug/diagnostics`.
    pub diagnostics: Arc<[Diagnostic]>,
}

/// The state shared by everything that serves.
#[derive(Debug)]
pub struct Plane {
    published: watch::Sender<Option<Arc<Published>>>,
    closing: watch::Sender<bool>,
    translator: Arc<Mutex<Translator>>,
    pub(crate) wire: WireCache,
    pub(crate) connections: Connections,
    pub(crate) metrics: Metrics,
    started_unix_seconds: u64,
}

impl Default for Plane {
    fn default() -> Self {
        Self {
            published: watch::Sender::new(None),
            closing: watch::Sender::new(false),
            translator: Arc::default(),
            wire: WireCache::default(),
            connections: Connections::default(),
            metrics: Metrics::default(),
            started_unix_seconds: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        }
    }
}

impl Plane {
    /// Publishes a state; every stream will look at it.
    pub fn publish(
        &self,
        mesh: Arc<Mesh>,
        changed_at: Instant,
        objects: Vec<Arc<Object>>,
        diagnostics: Arc<[Diagnostic]>,
    ) {
        self.metrics.published(&mesh, &objects, &diagnostics);
        let version = format!("{}/{}", self.started_unix_seconds, mesh.version);
        let next = Published { mesh, version, changed_at, objects, diagnostics };
        self.published.send_replace(Some(Arc::new(next)));
    }

    /// Whether a first state was published: before, proxies are kept waiting and `/ready` says no.
    pub fn is_ready(&self) -> bool {
        self.published.borrow().is_some()
    }

    /// The newest state.
    pub fn newest(&self) -> Option<Arc<Published>> {
        self.published.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.published.subscribe()
    }

    /// Ends every stream, so that servers can stop; proxies connect elsewhere.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Ends when [`Self::close`] was called.
    pub(crate) async fn closed(&self) {
        // Cannot fail: the sender lives as long as `self`.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Everything that proxy is to be sent, computed on a blocking thread, one proxy at a time: the
    /// translator's memory of shared resources is worth more than a second core.
    ///
    /// # Errors
    /// When translation panicked, which ends the stream and not the process.
    pub(crate) async fn translate(
        &self,
        mesh: &Arc<Mesh>,
        proxy: &Proxy,
    ) -> Result<ProxyResources, tokio::task::JoinError> {
        let mut translator = Arc::clone(&self.translator).lock_owned().await;
        let (mesh, proxy) = (Arc::clone(mesh), proxy.clone());
        tokio::task::spawn_blocking(move || translator.translate(&mesh, &proxy)).await
    }
}
