//! Istio's standard metrics: who the peer is, which series a request or connection belongs to, and what is counted.
//!
//! A request knows its series by a small key of numbers: which settings, which peers, which service, how it ended. The
//! shard keeps handles by key, so labels become text only for a combination it has not met. What could grow without
//! end has a bound of its own in [`crate::limits`] and in the series themselves.
//!
//! Source: telemetry contract §1 and §2.

mod attributes;
mod chain;
mod labels;
mod live;
mod local;
mod peers;
mod report;

pub(crate) use attributes::{ConnectionAttributes, ExchangeAttributes};
pub use chain::{ChainTelemetry, PeerHeaders, Told};
pub use live::{GrpcCounts, Live};
pub use local::Local;
pub use peers::{Peer, Service};
pub use report::{GrpcCell, LiveCell, Seen, answer_begins, begin, begin_grpc, connected, exchange};

use std::cell::{Cell, RefCell};

use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use ringsail_telemetry::istio::Series;
use ringsail_telemetry::{ResponseFlags, ShardRegistry};

use crate::limits::{TELEMETRY_KEYS_MAX, TELEMETRY_WORDS_MAX};

/// See [`Telemetry::sweep_interval`].
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
const IDLE_SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// A shard's memory of peers, services and series.
#[derive(Default)]
pub struct Telemetry {
    peers: peers::Peers,
    services: peers::Services,
    stats: RefCell<Vec<Rc<chain::StatsChain>>>,
    words: RefCell<Words>,
    known: RefCell<HashMap<Key, Rc<[Series]>>>,
    live: live::LiveSet,
    /// Counts how often [`Telemetry::forget_keys`] voided all numbers of [`Words`].
    generation: Cell<u32>,
}

/// What a combination of label values is known by on this shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    /// Settings and family.
    stats: u32,
    family: ringsail_telemetry::istio::Family,
    downstream: u32,
    upstream: u32,
    service: u32,
    /// Of the authority, where that names the service; else 0.
    host: u32,
    /// Of what the route says about the service; see [`labels::RouteKind`].
    route: labels::RouteKind,
    grpc: bool,
    status: u16,
    /// One more than the status; 0 for none.
    grpc_status: u32,
    flags: u32,
    /// Of the values of expressions; 0 when there are none.
    values: u32,
    /// Of who proved to be whom; 0 without mutual TLS.
    principals: u32,
}

/// Numbers for texts and sets that have none of their own. Never given back until there are too many.
#[derive(Default)]
struct Words {
    texts: HashMap<Box<str>, u32>,
    flags: Vec<ResponseFlags>,
}

impl Words {
    /// The number of a text, from 1; `None` when there is no room.
    fn text(&mut self, text: &str) -> Option<u32> {
        if let Some(number) = self.texts.get(text) {
            return Some(*number);
        }
        if self.texts.len() >= TELEMETRY_WORDS_MAX {
            return None;
        }
        let number = self.texts.len() as u32 + 1;
        self.texts.insert(text.into(), number);
        Some(number)
    }

    /// The number of a set of flags; 0 for the empty one.
    fn flags(&mut self, flags: ResponseFlags) -> Option<u32> {
        if flags.is_empty() {
            return Some(0);
        }
        if let Some(index) = self.flags.iter().position(|known| *known == flags) {
            return Some(index as u32 + 1);
        }
        if self.flags.len() >= TELEMETRY_WORDS_MAX {
            return None;
        }
        self.flags.push(flags);
        Some(self.flags.len() as u32)
    }
}

impl Telemetry {
    /// How long until the next sweep: what lasts is reported to the second.
    pub fn sweep_interval(&self) -> Duration {
        if self.live.is_empty() { IDLE_SWEEP_INTERVAL } else { SWEEP_INTERVAL }
    }

    /// Reports on what lasts, and lets go of what is not used any more; to be called about once a second.
    pub fn sweep(&self, stats: &ShardRegistry, now: Instant) {
        self.live.report(now);
        if self.live.minute_passed(now) {
            // Keys hold handles, and a series with handles does not expire.
            self.forget_keys();
            stats.istio().sweep(now);
            self.services.sweep();
            self.stats.borrow_mut().retain(|stats| Rc::strong_count(stats) > 1);
        }
    }

    /// The series of a key; `make` when it is new.
    fn series(&self, key: Key, make: impl FnOnce() -> Rc<[Series]>) -> Rc<[Series]> {
        if let Some(series) = self.known.borrow().get(&key) {
            return series.clone();
        }
        let series = make();
        if self.known.borrow().len() >= TELEMETRY_KEYS_MAX {
            self.forget_keys();
        }
        self.known.borrow_mut().insert(key, series.clone());
        series
    }

    /// Forgets what keys and words stand for, both at once: a number may mean something else afterwards.
    fn forget_keys(&self) {
        self.generation.set(self.generation.get().wrapping_add(1));
        self.known.borrow_mut().clear();
        let mut words = self.words.borrow_mut();
        words.texts.clear();
        words.flags.clear();
    }
}
