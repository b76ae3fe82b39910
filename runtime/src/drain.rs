//! The order to drain: finish what runs, start nothing that lasts. Given once to all shards
//! ([`crate::shard::Control::drain`]); what it means is each task's own business.

use crate::core;

/// Whether this shard drains.
///
/// # Panics
/// Outside a shard.
pub fn draining() -> bool {
    core::with_current(|core| core.draining.get())
}

/// Waits until this shard drains; ready at once when it does. For idle connections: race it against the next
/// receive.
///
/// # Panics
/// Outside a shard.
pub async fn drain_begun() {
    let core = core::current();
    while !core.draining.get() {
        core.drain.notified().await;
    }
}
