//! Circuit breakers: how much of a cluster's limits one shard may use.
//!
//! Envoy keeps these limits per process. Here each shard holds a *lease*, a fixed share of the limit, so that
//! nothing is shared on the request path: the sum over all shards is exactly the limit, and a busy shard may
//! refuse a little early while another still has room, which `upstream_rq_pending_overflow` shows. The
//! remainder of the division moves with the cluster, so that small limits of many clusters do not all land on
//! the first shard.

use std::cell::Cell;
use std::rc::Rc;

/// The share of `limit` that belongs to shard `shard` of `shards`; `salt` (the cluster's number) decides which
/// shards get one more when the division leaves a remainder. An unlimited value (`u32::MAX`, what istiod sends
/// for "no limit") stays unlimited.
pub fn lease(limit: u32, shard: u32, shards: u32, salt: u32) -> u32 {
    if limit == u32::MAX || shards <= 1 {
        return limit;
    }
    let position = (u64::from(shard) + u64::from(salt)) % u64::from(shards);
    limit / shards + u32::from(position < u64::from(limit % shards))
}

/// A counted use of a limited resource; giving it back is dropping it.
#[derive(Debug)]
pub struct Permit {
    used: Rc<Cell<u32>>,
}

/// How many of a resource are in use on this shard.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    used: Rc<Cell<u32>>,
}

impl Usage {
    /// Takes one if fewer than `limit` are in use.
    pub fn take(&self, limit: u32) -> Option<Permit> {
        (self.used.get() < limit).then(|| self.take_anyway())
    }

    /// Takes one even past the limit.
    pub fn take_anyway(&self) -> Permit {
        self.used.set(self.used.get() + 1);
        Permit { used: self.used.clone() }
    }

    /// In use now.
    pub fn count(&self) -> u32 {
        self.used.get()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.used.set(self.used.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_add_up_to_the_limit() {
        for limit in [0, 1, 2, 3, 7, 100, 1024, u32::MAX - 1] {
            for shards in 1..=5 {
                for salt in 0..7 {
                    let sum: u64 = (0..shards).map(|s| u64::from(lease(limit, s, shards, salt))).sum();
                    assert_eq!(sum, u64::from(limit), "limit {limit} over {shards} shards");
                }
            }
        }
    }

    #[test]
    fn no_limit_stays_no_limit() {
        assert_eq!(lease(u32::MAX, 3, 4, 1), u32::MAX);
    }

    #[test]
    fn the_remainder_of_different_clusters_lands_on_different_shards() {
        let first: Vec<u32> = (0..4).map(|salt| lease(1, 0, 4, salt)).collect();
        assert_eq!(first.iter().sum::<u32>(), 1);
    }

    #[test]
    fn a_dropped_permit_makes_room() {
        let usage = Usage::default();
        let permit = usage.take(1).unwrap();
        assert!(usage.take(1).is_none());
        drop(permit);
        assert!(usage.take(1).is_some());
    }
}
