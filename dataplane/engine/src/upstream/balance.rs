//! Picks the endpoint of a cluster for one attempt.
//!
//! Three choices in order: the priority (by health, [`priority`]), the locality (by weight, when the cluster
//! asks for it), then the host by the cluster's policy. A [`Balancer`] is built from one set of endpoints and
//! thrown away with it; it belongs to one shard, so its rotations need no synchronisation.

mod edf;
pub mod priority;

use edf::Edf;
use priority::{HostCounts, Load, Spread};

/// How a host is chosen within its priority and locality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// In turn, by endpoint weight.
    RoundRobin,
    /// The one with fewer requests in flight out of `choices` drawn at random; with unequal weights a rotation
    /// by `weight / (requests in flight + 1)`. Envoy `LEAST_REQUEST`.
    LeastRequest {
        /// Hosts to draw; Envoy `choice_count`, default 2.
        choices: u32,
    },
    /// Any. Compat: Envoy's RANDOM ignores endpoint weights.
    Random,
}

/// Whether an endpoint may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It may.
    Healthy,
    /// Only when healthy ones are not enough.
    Degraded,
    /// Only in panic.
    Unhealthy,
}

/// What balancing knows of an endpoint. Its index in the list handed to [`Balancer::new`] names it.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// 0 is first.
    pub priority: u32,
    /// Number of its locality, unique over all priorities.
    pub locality: u32,
    /// Weight of that locality; `None` when not given (then it gets no traffic under locality weighting).
    pub locality_weight: Option<u32>,
    /// At least 1.
    pub weight: u32,
    /// From EDS.
    pub health: Health,
}

/// The settings of a cluster that balancing needs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The policy.
    pub policy: Policy,
    /// Spill-over between priorities, and panic.
    pub spread: Spread,
    /// Choose a locality by weight first. Envoy `locality_weighted_lb_config`.
    pub locality_weighted: bool,
}

/// Rotations of one cluster on one shard for one set of endpoints.
#[derive(Debug)]
pub struct Balancer {
    settings: Settings,
    loads: Vec<Load>,
    levels: Vec<Level>,
}

/// One priority.
#[derive(Debug, Default)]
struct Level {
    all: Hosts,
    healthy: Hosts,
    degraded: Hosts,
    healthy_localities: Localities,
    degraded_localities: Localities,
}

/// Hosts among which the policy chooses.
#[derive(Debug, Default)]
struct Hosts {
    members: Vec<u32>,
    /// Next position of an unweighted rotation.
    next: usize,
    /// Present when weights differ and the policy looks at them.
    weighted: Option<Edf>,
}

#[derive(Debug, Default)]
struct Localities {
    rotation: Edf,
    weights: Vec<f64>,
    hosts: Vec<Hosts>,
}

impl Balancer {
    /// Prepares the rotations. `random` chooses where they start, so that the shards and the proxies of a mesh
    /// do not all begin with the same host.
    pub fn new(members: &[Member], settings: Settings, mut random: impl FnMut() -> u64) -> Balancer {
        let level_count = members.iter().map(|m| m.priority as usize + 1).max().unwrap_or(0);
        let mut levels: Vec<Level> = Vec::with_capacity(level_count);
        let mut counts = vec![HostCounts::default(); level_count];
        for (priority, count) in counts.iter_mut().enumerate() {
            let here = |index: &u32| members[*index as usize].priority as usize == priority;
            let of = |health: Health| {
                (0..members.len() as u32)
                    .filter(here)
                    .filter(|i| members[*i as usize].health == health)
                    .collect::<Vec<_>>()
            };
            let all: Vec<u32> = (0..members.len() as u32).filter(here).collect();
            let (healthy, degraded) = (of(Health::Healthy), of(Health::Degraded));
            *count = HostCounts {
                healthy: healthy.len() as u32,
                degraded: degraded.len() as u32,
                total: all.len() as u32,
            };
            let mut level = Level::default();
            if settings.locality_weighted {
                level.healthy_localities = Localities::new(members, &all, &healthy, settings, &mut random);
                level.degraded_localities = Localities::new(members, &all, &degraded, settings, &mut random);
            }
            level.all = Hosts::new(members, all, settings.policy, &mut random);
            level.healthy = Hosts::new(members, healthy, settings.policy, &mut random);
            level.degraded = Hosts::new(members, degraded, settings.policy, &mut random);
            levels.push(level);
        }
        Balancer { settings, loads: priority::loads(&counts, settings.spread), levels }
    }

    /// Index of the host for the next attempt; `None` when no host may be picked.
    /// `in_flight` tells how many requests a host is answering now.
    pub fn pick(
        &mut self,
        members: &[Member],
        mut random: impl FnMut() -> u64,
        in_flight: impl Fn(u32) -> u32,
    ) -> Option<u32> {
        let (priority, degraded) = priority::choose(&self.loads, (random() % 100) as u32)?;
        let level = self.levels.get_mut(priority)?;
        let policy = self.settings.policy;
        if self.loads[priority].panic {
            return level.all.pick(members, policy, random, in_flight);
        }
        let (localities, hosts) = if degraded {
            (&mut level.degraded_localities, &mut level.degraded)
        } else {
            (&mut level.healthy_localities, &mut level.healthy)
        };
        match localities.next() {
            Some(locality) => locality.pick(members, policy, random, in_flight),
            None => hosts.pick(members, policy, random, in_flight),
        }
    }
}

impl Localities {
    /// `all` and `usable` are the hosts of one priority; a locality keeps its weight while enough of its hosts
    /// are usable, as a priority keeps its load.
    fn new(
        members: &[Member],
        all: &[u32],
        usable: &[u32],
        settings: Settings,
        random: &mut impl FnMut() -> u64,
    ) -> Localities {
        let mut localities = Localities::default();
        let mut seen: Vec<u32> = Vec::new();
        for member in usable.iter().map(|i| members[*i as usize]) {
            let weight = f64::from(member.locality_weight.unwrap_or(0));
            if weight == 0.0 || seen.contains(&member.locality) {
                continue;
            }
            seen.push(member.locality);
            let inside = |i: &&u32| members[**i as usize].locality == member.locality;
            let hosts: Vec<u32> = usable.iter().filter(inside).copied().collect();
            let total = all.iter().filter(inside).count();
            let overprovisioning = f64::from(settings.spread.overprovisioning_percent) / 100.0;
            let availability = (overprovisioning * hosts.len() as f64 / total as f64).min(1.0);
            localities.rotation.add(localities.hosts.len() as u32, weight * availability);
            localities.weights.push(weight * availability);
            localities.hosts.push(Hosts::new(members, hosts, settings.policy, random));
        }
        localities.skip(random);
        localities
    }

    fn next(&mut self) -> Option<&mut Hosts> {
        let weights = &self.weights;
        let index = self.rotation.next(|i| weights[i as usize])?;
        self.hosts.get_mut(index as usize)
    }

    fn skip(&mut self, random: &mut impl FnMut() -> u64) {
        if self.hosts.len() > 1 {
            for _ in 0..random() % self.hosts.len() as u64 {
                self.next();
            }
        }
    }
}

impl Hosts {
    fn new(members: &[Member], hosts: Vec<u32>, policy: Policy, random: &mut impl FnMut() -> u64) -> Hosts {
        let weight = |i: u32| members[i as usize].weight;
        let unequal = hosts.windows(2).any(|pair| weight(pair[0]) != weight(pair[1]));
        let start = if hosts.is_empty() { 0 } else { random() % hosts.len() as u64 };
        let weighted = (unequal && policy != Policy::Random).then(|| {
            let mut rotation = Edf::default();
            for (position, host) in hosts.iter().enumerate() {
                rotation.add(position as u32, f64::from(weight(*host)));
            }
            for _ in 0..start {
                rotation.next(|position| f64::from(weight(hosts[position as usize])));
            }
            rotation
        });
        Hosts { members: hosts, next: start as usize, weighted }
    }

    fn pick(
        &mut self,
        members: &[Member],
        policy: Policy,
        mut random: impl FnMut() -> u64,
        in_flight: impl Fn(u32) -> u32,
    ) -> Option<u32> {
        let hosts = &self.members;
        match hosts.as_slice() {
            [] => return None,
            [only] => return Some(*only),
            _ => {}
        }
        let weight = |position: u32| f64::from(members[hosts[position as usize] as usize].weight);
        match (policy, &mut self.weighted) {
            (Policy::RoundRobin, Some(rotation)) => rotation.next(weight).map(|p| hosts[p as usize]),
            (Policy::RoundRobin, None) => {
                let host = hosts[self.next % hosts.len()];
                self.next = (self.next + 1) % hosts.len();
                Some(host)
            }
            (Policy::LeastRequest { .. }, Some(rotation)) => rotation
                .next(|p| weight(p) / (f64::from(in_flight(hosts[p as usize])) + 1.0))
                .map(|p| hosts[p as usize]),
            (Policy::LeastRequest { choices }, None) => {
                let mut draw = || hosts[(random() % hosts.len() as u64) as usize];
                let mut best = draw();
                for _ in 1..choices.max(1) {
                    let other = draw();
                    if in_flight(other) < in_flight(best) {
                        best = other;
                    }
                }
                Some(best)
            }
            (Policy::Random, _) => Some(hosts[(random() % hosts.len() as u64) as usize]),
        }
    }
}

#[cfg(test)]
mod tests;
