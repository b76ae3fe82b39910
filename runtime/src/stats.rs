//! What a shard counts about itself. Each value has one writer, its shard, which uses plain loads and stores;
//! any thread may read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number with one writer. Reading from another thread gives a recent value.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    // Not a read-modify-write: only the owning shard writes.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}

/// Counters and gauges of one shard.
#[derive(Debug, Default)]
pub struct ShardStats {
    /// Connections accepted and handed out.
    pub connections_accepted: Counter,
    /// Connections dialed with success.
    pub connections_dialed: Counter,
    /// Gauge: accepted and dialed connections open.
    pub connections_open: Counter,
    /// Connections closed at once (accepted) or not dialed because `connections_max` was reached.
    pub connections_refused: Counter,
    /// Times `accept` rested because descriptors or memory ran out.
    pub accept_rests: Counter,
    /// Gauge: blocks lent out.
    pub blocks_lent: Counter,
    /// Receives refused because `blocks_max` was reached.
    pub blocks_refused: Counter,
    /// Gauge: tasks alive.
    pub tasks: Counter,
    /// Tasks not started because `tasks_max` was reached.
    pub tasks_refused: Counter,
    /// Tasks that ended by a panic. Each is a bug.
    pub task_panics: Counter,
    /// Gauge: timers armed.
    pub timers: Counter,
    /// Turns of the event loop.
    pub turns: Counter,
}
