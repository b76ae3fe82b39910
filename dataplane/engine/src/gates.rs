//! Limits on connections: whether a new one is served.

use std::sync::Arc;
use std::time::Duration;

use ringsail_tables::gate::{ConnectionLimit, Gate};
use ringsail_telemetry::{
    ConnectionLimitCounter, ConnectionLimitGauge, ConnectionLimitStats, ConnectionRateCounter,
};

use crate::filters::local_rate_limit::moment;
use crate::serving::ChainVersion;
use crate::shard::Shard;

/// A connection's places under its limits; giving them back is dropping it.
#[derive(Default)]
pub struct Held(Vec<Place>);

struct Place {
    /// Of a [`Gate::Connections`].
    gate: Arc<Gate>,
    shard: usize,
    /// It took one; a connection past the limit is counted as well while it is kept.
    taken: bool,
    stats: ConnectionLimitStats,
}

/// Whether a connection is served.
pub enum Verdict {
    /// It is, and holds these places.
    Served(Held),
    /// It is not: it is kept for so long, and closed.
    Refused(Held, Duration),
}

/// Asks the limits of a chain, one after the other, as Envoy asks its filters.
pub fn enter(shard: &Shard, chain: &ChainVersion) -> Verdict {
    let mut held = Held::default();
    for gate in &chain.chain().gates {
        match &**gate {
            Gate::Connections(limit) => {
                if !held.enter(shard, gate, limit) {
                    return Verdict::Refused(held, limit.delay);
                }
            }
            Gate::Rate(rate) => {
                if !rate.bucket.take(1, shard.number, moment()) {
                    let stats = shard.stats.connection_rate(&rate.stat_prefix);
                    stats.add(ConnectionRateCounter::RateLimited, 1);
                    return Verdict::Refused(held, Duration::ZERO);
                }
            }
        }
    }
    Verdict::Served(held)
}

impl Held {
    fn enter(&mut self, shard: &Shard, gate: &Arc<Gate>, limit: &ConnectionLimit) -> bool {
        let stats = shard.stats.connection_limit(&limit.stat_prefix);
        stats.raise(ConnectionLimitGauge::ActiveConnections, 1);
        let number = shard.number as usize;
        let taken = limit.room.take(number, shard.count as usize);
        if !taken {
            stats.add(ConnectionLimitCounter::LimitedConnections, 1);
        }
        self.0.push(Place { gate: gate.clone(), shard: number, taken, stats });
        taken
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stats.lower(ConnectionLimitGauge::ActiveConnections, 1);
        if self.taken
            && let Gate::Connections(limit) = &*self.gate
        {
            limit.room.give_back(self.shard);
        }
    }
}
