//! What connections use of a listener, over the versions it has.
//!
//! A configuration change replaces settings under the connections that use them; it does not replace the connections.
//! A [`ServingListener`] lives from the first version of a listener to the last, a [`ServingChain`] as long as the
//! listener has a filter chain of that [`ChainKey`]. Requests ask for the version of the moment they begin in.
//!
//! ```text
//!            other version, same key            no chain of that key
//! serving ──────────────────────────▶ serving ──────────────────────▶ gone: connections move to the chain that would
//!                                                                     serve them now, or drain, until drain time ends
//! ```
//!
//! Compat: Envoy drains the connections of every chain whose configuration changed. Here a connection drains only when
//! no chain of the listener would serve it any more.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringsail_runtime::local::{Notified, Notify};
use ringsail_runtime::publish::Current;
use ringsail_runtime::time::now;
use ringsail_tables::Tables;
use ringsail_tables::filter_chain::{ChainKey, FilterChain, Terminal};
use ringsail_tables::hcm::HttpConnectionManager;
use ringsail_tables::listener::{Direction, Listener};
use ringsail_tables::tcp_proxy::TcpProxy;
use ringsail_telemetry::{HttpStats, ListenerStats, ShardRegistry, TcpStats};

use crate::record::{Declared, Log, Needs};
use crate::telemetry::{ChainTelemetry, Local, Telemetry};
use crate::tls::ServerCache;
use crate::trace::Tracer;

/// How connections are asked to end. Source: `--drain-time-s` and `--drain-strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPolicy {
    /// How long a drain takes. Connections of a filter chain that is gone are closed when it is over.
    pub time: Duration,
    /// Whether each answer ends its connection with a probability that grows from 0 to 1 over the drain time, instead
    /// of every one from the start.
    pub gradual: bool,
}

impl Default for DrainPolicy {
    /// Source: Envoy's defaults for both flags.
    fn default() -> DrainPolicy {
        DrainPolicy { time: Duration::from_secs(600), gradual: true }
    }
}

/// Whether and since when something drains.
#[derive(Debug, Default)]
pub struct Drain {
    since: Cell<Option<Instant>>,
    begun: Notify,
}

impl Drain {
    /// Begins, unless it has begun.
    pub fn begin(&self) {
        if self.since.get().is_none() {
            self.since.set(Some(now()));
            self.begun.notify_all();
        }
    }

    /// When it began.
    pub fn since(&self) -> Option<Instant> {
        self.since.get()
    }

    /// Ready when it begins after this was asked.
    pub fn begins(&self) -> Notified<'_> {
        self.begun.notified()
    }

    /// Whether an answer that starts now should end its connection. Source: Envoy's `DrainManagerImpl::drainClose`.
    pub fn closes(&self, policy: DrainPolicy, random: u64) -> bool {
        let Some(since) = self.since.get() else { return false };
        let elapsed = (now() - since).as_millis() as u64;
        let whole = policy.time.as_millis().max(1) as u64;
        !policy.gradual || elapsed >= whole || random % whole < elapsed
    }
}

/// A listener on this shard.
pub struct ServingListener {
    version: RefCell<Rc<ListenerVersion>>,
    /// An operator said so; see [`crate::control::Command::Drain`].
    pub drain: Drain,
    removed: Cell<bool>,
}

/// One version of a listener, as its connections see it.
pub struct ListenerVersion {
    /// Its settings.
    pub listener: Arc<Listener>,
    /// Its counters.
    pub stats: ListenerStats,
    /// Access logs of connections that found no chain.
    pub logs: Vec<Rc<Declared>>,
    /// Chains that connections have asked for, by index.
    chains: RefCell<HashMap<usize, Rc<ServingChain>>>,
}

/// A filter chain on this shard.
pub struct ServingChain {
    version: RefCell<Rc<ChainVersion>>,
    /// The listener has it no more.
    pub gone: Drain,
    /// The last tables it was in: routes and clusters of the requests it still serves. Its own inline routes are in no
    /// later ones.
    last_tables: RefCell<Option<Current<Tables>>>,
}

/// One version of a filter chain.
pub struct ChainVersion {
    listener: Arc<Listener>,
    index: usize,
    /// Counters of its terminal filter.
    pub stats: ChainStats,
    /// Its access logs.
    pub logs: Vec<Rc<Declared>>,
    /// What they need of an exchange.
    pub needs: Needs,
    /// Its Istio metrics.
    pub telemetry: ChainTelemetry,
    /// Its tracing.
    pub tracer: Option<Tracer>,
    /// Its TLS made ready.
    pub tls: ServerCache,
}

/// Counters of a filter chain's terminal filter.
#[derive(Clone)]
pub enum ChainStats {
    /// By the connection manager's `stat_prefix`.
    Http(HttpStats),
    /// By the TCP proxy's `stat_prefix`.
    Tcp(TcpStats),
}

/// What a shard makes counters and logs with.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    /// Counters by name.
    pub stats: &'a ShardRegistry,
    /// Access logs.
    pub log: &'a Log,
    /// Istio's metrics.
    pub telemetry: &'a Telemetry,
    /// Who we work for.
    pub local: &'a Local,
}

impl ServingListener {
    /// At the first connection or socket of a listener.
    pub fn new(making: Making<'_>, listener: &Arc<Listener>) -> ServingListener {
        ServingListener {
            version: RefCell::new(Rc::new(ListenerVersion::new(making, listener))),
            drain: Drain::default(),
            removed: Cell::new(false),
        }
    }

    /// The version of this moment.
    pub fn version(&self) -> Rc<ListenerVersion> {
        self.version.borrow().clone()
    }

    /// Its direction.
    pub fn direction(&self) -> Direction {
        self.version.borrow().listener.direction
    }

    /// Whether no version of it is in the tables.
    pub fn is_removed(&self) -> bool {
        self.removed.get()
    }

    /// Takes another version into service. `previous` are the tables of the version before.
    pub(crate) fn update(&self, making: Making<'_>, next: &Arc<Listener>, previous: &Current<Tables>) {
        let old = self.version();
        if Arc::ptr_eq(&old.listener, next) {
            return;
        }
        let new = ListenerVersion::new(making, next);
        // Only chains with connections are worth finding again.
        let used: Vec<(usize, Rc<ServingChain>)> =
            old.chains.take().into_iter().filter(|(_, chain)| Rc::strong_count(chain) > 1).collect();
        if !used.is_empty() {
            let indexes: HashMap<ChainKey, usize> =
                next.filter_chains.iter().enumerate().map(|(index, chain)| (chain.key, index)).collect();
            for (old_index, chain) in used {
                let key = old.listener.filter_chains[old_index].key;
                match indexes.get(&key) {
                    Some(&index) => {
                        *chain.version.borrow_mut() = Rc::new(ChainVersion::new(making, next, index));
                        new.chains.borrow_mut().insert(index, chain);
                    }
                    None => chain.end(previous),
                }
            }
        }
        *self.version.borrow_mut() = Rc::new(new);
    }

    /// The listener is in the tables no more; `previous` are the last ones it was in.
    pub(crate) fn remove(&self, previous: &Current<Tables>) {
        self.removed.set(true);
        let chains = self.version().chains.take();
        chains.values().for_each(|chain| chain.end(previous));
    }
}

impl ListenerVersion {
    fn new(making: Making<'_>, listener: &Arc<Listener>) -> ListenerVersion {
        let name = match listener.addresses.first() {
            _ if !listener.stat_prefix.is_empty() => listener.stat_prefix.to_string(),
            // Compat: Envoy names listeners in statistics by address, colons and slashes replaced.
            Some(address) => address.to_string().replace([':', '/'], "_"),
            None => listener.name.to_string(),
        };
        ListenerVersion {
            stats: making.stats.listener(&name),
            logs: making.log.declare(&listener.access_logs),
            chains: RefCell::default(),
            listener: listener.clone(),
        }
    }

    /// Its filter chain number `index`.
    pub fn chain(&self, making: Making<'_>, index: usize) -> Rc<ServingChain> {
        if let Some(chain) = self.chains.borrow().get(&index) {
            return chain.clone();
        }
        let chain = Rc::new(ServingChain {
            version: RefCell::new(Rc::new(ChainVersion::new(making, &self.listener, index))),
            gone: Drain::default(),
            last_tables: RefCell::default(),
        });
        self.chains.borrow_mut().insert(index, chain.clone());
        chain
    }
}

impl ServingChain {
    /// The version of this moment.
    pub fn version(&self) -> Rc<ChainVersion> {
        self.version.borrow().clone()
    }

    /// The last tables it was in, when it is gone.
    pub fn last_tables(&self) -> Option<Current<Tables>> {
        self.last_tables.borrow().clone()
    }

    fn end(&self, previous: &Current<Tables>) {
        *self.last_tables.borrow_mut() = Some(previous.clone());
        self.gone.begin();
    }
}

impl ChainVersion {
    fn new(making: Making<'_>, listener: &Arc<Listener>, index: usize) -> ChainVersion {
        let mut tracer = None;
        let (stats, logs) = match &listener.filter_chains[index].terminal {
            Terminal::Http(manager) => {
                if let Some(settings) = &manager.tracing {
                    tracer = Some(Tracer::new(making.log, settings, &manager.filters, listener.direction));
                }
                (ChainStats::Http(making.stats.http(&manager.stat_prefix)), &manager.access_logs)
            }
            Terminal::Tcp(proxy) => {
                (ChainStats::Tcp(making.stats.tcp(&proxy.stat_prefix)), &proxy.access_logs)
            }
        };
        let chain = &listener.filter_chains[index];
        let telemetry =
            ChainTelemetry::new(making.telemetry, making.stats, making.local, listener.direction, chain);
        let logs = making.log.declare(logs);
        let needs = Needs::of(&logs);
        ChainVersion {
            stats,
            logs,
            needs,
            telemetry,
            tracer,
            tls: ServerCache::default(),
            listener: listener.clone(),
            index,
        }
    }

    /// Its settings.
    pub fn chain(&self) -> &FilterChain {
        &self.listener.filter_chains[self.index]
    }

    /// The listener it is of.
    pub fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// The HTTP settings, when the chain serves HTTP.
    pub fn manager(&self) -> Option<&HttpConnectionManager> {
        match &self.chain().terminal {
            Terminal::Http(manager) => Some(manager),
            Terminal::Tcp(_) => None,
        }
    }

    /// The TCP settings, when the chain relays bytes.
    pub fn tcp_proxy(&self) -> Option<&TcpProxy> {
        match &self.chain().terminal {
            Terminal::Tcp(proxy) => Some(proxy),
            Terminal::Http(_) => None,
        }
    }

    /// Counters of its connection manager, when it serves HTTP.
    pub fn http_stats(&self) -> Option<&HttpStats> {
        match &self.stats {
            ChainStats::Http(stats) => Some(stats),
            ChainStats::Tcp(_) => None,
        }
    }
}
