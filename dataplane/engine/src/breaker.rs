//! Circuit breakers: how much of a cluster's limits is in use.
//!
//! A limit is one of the process. Its units lie in a [`ringsail_runtime::lease::Pool`]: a shard takes from its own part
//! of it and from the others' when that is used up, so the limit is reached exactly and never exceeded, on however many
//! shards the requests arrive. Without a limit, which is what istiod sets, nothing is shared at all.
//!
//! A retry budget is a share of what runs; each shard publishes its counts for it. As in Envoy, requests that begin at
//! the same moment on several shards may take it over its share by as many.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use ringsail_tables::cluster::{Breakers, Cluster};
use ringsail_tables::live::{Limits, Live, Resource};

/// The share of `limit` that belongs to shard `shard` of `shards`; `salt` decides which shards get one more when the
/// division leaves a remainder. `u32::MAX` is no limit.
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
        (self.used.get() < limit).then(|| {
            self.used.set(self.used.get() + 1);
            Permit { used: self.used.clone() }
        })
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

/// What a taker is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// None.
    None,
    /// The cluster's, of the priority.
    OfPriority {
        /// HIGH.
        high: bool,
    },
    /// So many in the whole process, as far as they are published.
    Running(u32),
}

/// The limits one attempt is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Connections.
    pub connections_max: Limit,
    /// Connections to one host.
    pub connections_per_host_max: u32,
    /// Requests waiting for a connection.
    pub pending_max: Limit,
    /// Requests being answered.
    pub requests_max: Limit,
    /// Retries being made.
    pub retries_max: Limit,
}

/// The resources of one cluster on one shard.
pub struct Resources {
    /// Connections open or being made.
    pub connections: Leased,
    /// Requests waiting for a connection.
    pub pending: Leased,
    /// Requests being answered.
    pub requests: Leased,
    /// Retries being made.
    pub retries: Leased,
    limits: BothHeld,
}

/// How many of one resource of a cluster are in use on this shard.
pub struct Leased {
    shared: Rc<Shared>,
}

struct Shared {
    resource: Resource,
    shard: u32,
    shards: u32,
    used: Cell<u32>,
    limits: BothHeld,
}

/// The shard's one handle on limits that all shards share, for one priority.
struct Held {
    limits: Arc<OnceLock<Box<Limits>>>,
    high: bool,
}

/// Those of both priorities, DEFAULT first.
type BothHeld = Rc<RefCell<Option<[Rc<Held>; 2]>>>;

/// A counted use of a cluster's resource; giving it back is dropping it.
pub struct LeasedPermit {
    shared: Rc<Shared>,
    /// The limits a unit was taken from.
    from: Option<Rc<Held>>,
}

impl Resources {
    /// Nothing in use, on shard `shard` of `shards`.
    pub fn new(shard: u32, shards: u32) -> Resources {
        let limits = Rc::new(RefCell::new(None));
        let leased = |resource| {
            let shared = Shared { resource, shard, shards, used: Cell::new(0), limits: limits.clone() };
            Leased { shared: Rc::new(shared) }
        };
        Resources {
            connections: leased(Resource::Connections),
            pending: leased(Resource::Pending),
            requests: leased(Resource::Requests),
            retries: leased(Resource::Retries),
            limits,
        }
    }

    /// The limits of `cluster` for an attempt.
    pub fn lease(&self, cluster: &Cluster, live: &Live, high: bool) -> Lease {
        let current =
            self.limits.borrow().as_ref().is_some_and(|held| Arc::ptr_eq(&held[0].limits, live.limits()));
        if !current {
            live.limits().get_or_init(|| Limits::new(cluster));
            let held = |high| Rc::new(Held { limits: live.limits().clone(), high });
            *self.limits.borrow_mut() = Some([held(false), held(true)]);
        }
        let breakers = if high { &cluster.breakers_high } else { &cluster.breakers };
        let of = |max: u32| if max == u32::MAX { Limit::None } else { Limit::OfPriority { high } };
        Lease {
            connections_max: of(breakers.connections_max),
            connections_per_host_max: breakers.connections_per_host_max,
            pending_max: of(breakers.pending_max),
            requests_max: of(breakers.requests_max),
            retries_max: match breakers.retry_budget {
                Some(_) => Limit::Running(self.budget(breakers)),
                None => of(breakers.retries_max),
            },
        }
    }

    /// Retries that a budget allows now. Source: Envoy `RetryBudget`: the share of requests in flight and waiting.
    fn budget(&self, breakers: &Breakers) -> u32 {
        let held = self.limits.borrow();
        let (Some(budget), Some(held)) = (breakers.retry_budget, held.as_ref()) else { return u32::MAX };
        let running = |resource| held[0].limits().map_or(0, |limits| limits.running(resource));
        let active = running(Resource::Requests).saturating_add(running(Resource::Pending));
        ((f64::from(active) * budget.percent / 100.0) as u32).max(budget.min_concurrency)
    }
}

impl Held {
    fn limits(&self) -> Option<&Limits> {
        self.limits.get().map(|limits| &**limits)
    }
}

impl Leased {
    /// Takes one unless the limit is reached.
    pub fn take(&self, limit: Limit) -> Option<LeasedPermit> {
        let from = match limit {
            Limit::None => None,
            Limit::OfPriority { high } => {
                let held = self.shared.held(high)?;
                let (shard, shards) = (self.shared.shard as usize, self.shared.shards as usize);
                match held.limits()?.pool(self.shared.resource, high) {
                    Some(pool) if pool.take(shard, shards) => Some(held),
                    Some(_) => return None,
                    None => None,
                }
            }
            Limit::Running(max) => {
                let held = self.shared.held(false)?;
                if held.limits()?.running(self.shared.resource) >= max {
                    return None;
                }
                None
            }
        };
        Some(self.permit(from))
    }

    /// Takes one even past the limit.
    pub fn take_anyway(&self) -> LeasedPermit {
        self.permit(None)
    }

    /// In use now on this shard.
    pub fn count(&self) -> u32 {
        self.shared.used.get()
    }

    fn permit(&self, from: Option<Rc<Held>>) -> LeasedPermit {
        self.shared.set(self.shared.used.get() + 1);
        LeasedPermit { shared: self.shared.clone(), from }
    }
}

impl Shared {
    fn held(&self, high: bool) -> Option<Rc<Held>> {
        self.limits.borrow().as_ref().map(|held| held[usize::from(high)].clone())
    }

    fn set(&self, used: u32) {
        self.used.set(used);
        if let Some(limits) = self.limits.borrow().as_ref().and_then(|held| held[0].limits())
            && limits.has_budget()
        {
            limits.publish(self.resource, self.shard, self.shards, used);
        }
    }
}

impl Drop for LeasedPermit {
    fn drop(&mut self) {
        self.shared.set(self.shared.used.get() - 1);
        if let Some(held) = &self.from
            && let Some(pool) = held.limits().and_then(|limits| limits.pool(self.shared.resource, held.high))
        {
            pool.give_back(self.shared.shard as usize);
        }
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
    fn a_dropped_permit_makes_room() {
        let usage = Usage::default();
        let permit = usage.take(1).unwrap();
        assert!(usage.take(1).is_none());
        drop(permit);
        assert!(usage.take(1).is_some());
    }
}
