//! What is known of a downstream connection for as long as it lasts.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ringsail_runtime::local::Notify;
use ringsail_runtime::net::Stream;
use ringsail_tables::filter_chain::{FilterChain, Terminal};
use ringsail_tables::hcm::HttpConnectionManager;
use ringsail_tables::listener::Listener;
use ringsail_tables::tcp_proxy::TcpProxy;
use ringsail_telemetry::{HttpCounter, HttpStats, ListenerStats, TcpStats};

use crate::record::Declared;

/// A version of a listener that connections were accepted by. They share it, and it outlives its removal from the
/// tables until the last of them is gone.
pub struct ServingListener {
    /// Its settings.
    pub listener: Arc<Listener>,
    /// Its counters.
    pub stats: ListenerStats,
    /// Counters of each chain's HTTP connection manager or TCP proxy.
    pub chain_stats: Vec<ChainStats>,
    /// Access logs of each chain.
    pub chain_logs: Vec<Vec<Rc<Declared>>>,
    /// Access logs of connections that found no chain.
    pub listener_logs: Vec<Rc<Declared>>,
    /// The listener was replaced, removed or told to drain: finish what runs, then close.
    pub draining: Cell<bool>,
    /// Tells idle connections of the drain.
    pub drain: Notify,
}

/// Counters of a filter chain's terminal filter.
#[derive(Clone)]
pub enum ChainStats {
    /// By the connection manager's `stat_prefix`.
    Http(HttpStats),
    /// By the TCP proxy's `stat_prefix`.
    Tcp(TcpStats),
}

impl ServingListener {
    /// Begins to drain.
    pub fn begin_drain(&self) {
        self.draining.set(true);
        self.drain.notify_all();
    }

    /// Ready once the listener drains.
    pub async fn drain_begun(&self) {
        while !self.draining.get() {
            self.drain.notified().await;
        }
    }
}

/// A downstream connection.
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// What accepted it.
    pub serving: Rc<ServingListener>,
    /// Which of its filter chains serves it.
    pub chain: usize,
    /// The other end; `None` for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Where the client meant to go: the original destination where it was restored, else our end.
    pub local: Option<SocketAddr>,
    /// The original destination, where it was restored; [`Self::local`] is the same then.
    pub restored: Option<SocketAddr>,
    /// Its number.
    pub id: u64,
    /// When it was accepted.
    pub opened: Instant,
    /// Requests so far.
    pub requests: Cell<u32>,
}

impl Connection {
    /// Its filter chain.
    pub fn chain(&self) -> &FilterChain {
        &self.serving.listener.filter_chains[self.chain]
    }

    /// The HTTP settings, when the chain serves HTTP.
    pub fn manager(&self) -> Option<&HttpConnectionManager> {
        match &self.chain().terminal {
            Terminal::Http(manager) => Some(manager),
            Terminal::Tcp(_) => None,
        }
    }

    /// Counts for its HTTP connection manager.
    pub fn count(&self, counter: HttpCounter) {
        if let Some(ChainStats::Http(stats)) = self.serving.chain_stats.get(self.chain) {
            stats.add(counter, 1);
        }
    }

    /// The TCP settings, when the chain relays bytes.
    pub fn tcp_proxy(&self) -> Option<&TcpProxy> {
        match &self.chain().terminal {
            Terminal::Tcp(proxy) => Some(proxy),
            Terminal::Http(_) => None,
        }
    }
}
