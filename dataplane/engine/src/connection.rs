//! What is known of a downstream connection for as long as it lasts.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use ringsail_runtime::publish::Current;
use ringsail_runtime::time::sleep_until;
use ringsail_tables::Tables;
use ringsail_tables::filter_chain::{ConnectionFacts, Terminal};
use ringsail_tables::hcm::HttpConnectionManager;
use ringsail_telemetry::{HttpCounter, HttpStats};

use crate::filters::local_rate_limit;
use crate::serving::{ChainVersion, ServingChain, ServingListener};
use crate::shard::Shard;
use crate::sniff::Sniffed;
use crate::stream::Stream;

/// A downstream connection.
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// What accepted it.
    pub serving: Rc<ServingListener>,
    /// The filter chain that serves it.
    pub(crate) chain: RefCell<Rc<ServingChain>>,
    /// The client, as a PROXY header names it, else the other end; `None` for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The other end.
    pub direct_peer: Option<SocketAddr>,
    /// Where the client meant to go: the original destination where it was restored, else our end.
    pub local: Option<SocketAddr>,
    /// Whether [`Self::local`] is a restored original destination.
    pub is_restored: bool,
    /// What its first bytes say.
    pub sniffed: Sniffed,
    /// Its number.
    pub id: u64,
    /// When it was accepted.
    pub opened: Instant,
    /// Requests so far.
    pub requests: Cell<u32>,
    /// Bytes received and sent that are in the connection manager's counters.
    pub counted: Cell<(u64, u64)>,
    /// Rate limits that count by connection.
    pub limits: local_rate_limit::OfConnection,
}

/// The configuration that a request is served with, of one moment.
pub struct Entered {
    /// The filter chain's settings.
    pub chain: Rc<ChainVersion>,
    /// Routes and clusters.
    pub tables: Current<Tables>,
}

impl Entered {
    /// The HTTP settings.
    pub fn manager(&self) -> Option<&HttpConnectionManager> {
        self.chain.manager()
    }
}

impl Connection {
    /// The original destination, where it was restored.
    pub fn restored(&self) -> Option<SocketAddr> {
        self.local.filter(|_| self.is_restored)
    }

    /// The server name that the client asked for; empty when none is known.
    pub fn server_name(&self) -> &str {
        match self.stream.tls() {
            Some(facts) if !facts.server_name.is_empty() => &facts.server_name,
            _ => self.sniffed.server_name(),
        }
    }

    /// The configuration of this moment, for one request. Keep it no longer than that: a change takes effect on the
    /// next request of the same connection.
    pub fn enter(&self, shard: &Shard) -> Entered {
        // First, because it brings the chains in step with the tables.
        let tables = shard.current_tables();
        let chain = self.follow(shard);
        Entered { chain: chain.version(), tables: chain.last_tables().unwrap_or(tables) }
    }

    /// Its filter chain; when that is gone, the one that would serve it if it came now and is of the same kind.
    pub fn follow(&self, shard: &Shard) -> Rc<ServingChain> {
        let chain = self.chain.borrow().clone();
        if chain.gone.since().is_none() || self.serving.is_removed() {
            return chain;
        }
        let version = self.serving.version();
        let choose = |facts: &ConnectionFacts<'_>| version.listener.filter_chain_index(facts);
        let Some(index) = self.sniffed.facts(self.direct_peer, self.peer, self.local, choose) else {
            return chain;
        };
        let is_http = |terminal: &Terminal| matches!(terminal, Terminal::Http(_));
        let (before, after) = (chain.version(), &version.listener.filter_chains[index]);
        if is_http(&after.terminal) != is_http(&before.chain().terminal) {
            return chain;
        }
        // One that met other demands, or none, does not go on under these.
        if after.tls != before.chain().tls {
            return chain;
        }
        let next = version.chain(shard.making(), index);
        *self.chain.borrow_mut() = next.clone();
        next
    }

    /// Counts for its HTTP connection manager.
    pub fn count(&self, counter: HttpCounter) {
        if let Some(stats) = self.chain.borrow().version().http_stats() {
            stats.add(counter, 1);
        }
    }

    /// Puts what was received and sent since into the counters of its HTTP connection manager.
    pub fn count_bytes(&self, stats: &HttpStats) {
        let (received, sent) = self.counted.get();
        let now = (self.stream.bytes_received(), self.stream.bytes_sent());
        stats.add(HttpCounter::DownstreamCxRxBytesTotal, now.0 - received);
        stats.add(HttpCounter::DownstreamCxTxBytesTotal, now.1 - sent);
        self.counted.set(now);
    }

    /// Whether an answer that starts now should end the connection, because its listener or filter chain drains.
    pub fn drain_closes(&self, shard: &Shard) -> bool {
        let policy = shard.drain_policy;
        self.serving.drain.closes(policy, fastrand::u64(..)) || {
            let chain = self.follow(shard);
            // A chain that is gone comes back for nobody: every answer is the last.
            chain.gone.since().is_some()
        }
    }

    /// Ready when no filter chain serves the connection any more and the drain time is over.
    pub async fn drained(&self, shard: &Shard) {
        loop {
            {
                let chain = self.chain.borrow().clone();
                while chain.gone.since().is_none() {
                    chain.gone.begins().await;
                }
            }
            // Boxed, because every idle connection waits here and hardly one comes to this.
            if Box::pin(self.drain_passed(shard)).await {
                return;
            }
        }
    }

    /// Waits for the end of the drain time. False when another chain serves the connection.
    async fn drain_passed(&self, shard: &Shard) -> bool {
        let Some(since) = self.follow(shard).gone.since() else { return false };
        sleep_until(since + shard.drain_policy.time).await;
        self.follow(shard).gone.since().is_some()
    }

    /// Runs `serving`. When the connection is drained, its socket is shut under it, so that `serving` ends as it does
    /// when a client leaves.
    ///
    /// Takes it pinned: by value it would be in memory twice, as the argument and as what is polled.
    pub async fn until_drained<T>(&self, shard: &Shard, mut serving: Pin<&mut impl Future<Output = T>>) -> T {
        let mut drained = pin!(self.drained(shard));
        let mut shut = false;
        poll_fn(|cx| {
            if let Poll::Ready(output) = serving.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            if !shut && drained.as_mut().poll(cx).is_ready() {
                shut = true;
                self.stream.shutdown();
            }
            Poll::Pending
        })
        .await
    }
}
