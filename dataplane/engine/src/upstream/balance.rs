//! Picks the endpoint of a cluster for one attempt.
//!
//! Three choices in order: the priority (by health, [`priority`]), the locality (by weight, when the cluster
//! asks for it), then the host by the cluster's policy. A [`Balancer`] is built from one set of endpoints and
//! thrown away with it; it belongs to one shard, so its rotations need no synchronisation.

mod edf;
mod hosts;
mod maglev;
pub mod priority;
mod ring;
mod slow_start;
mod subsets;
mod weights;
mod zone;

use std::time::Duration;

use ringsail_tables::balancing::{LbPolicy, SlowStart};

use hosts::{Hosts, Localities};
use maglev::Maglev;
use priority::{HostCounts, Load, Spread};
use ring::Ring;
pub use subsets::{Part, Served, Subsets};
use zone::Zones;
pub use zone::{Routed, Zone};

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
    /// From EDS, active checks and outlier detection together.
    pub health: Health,
    /// Left out of the counts that decide about spill-over and panic: its first check is not over.
    /// Source: Envoy's `excluded` hosts.
    pub excluded: bool,
}

/// The settings of a cluster that balancing needs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The policy.
    pub policy: LbPolicy,
    /// Spill-over between priorities, and panic.
    pub spread: Spread,
    /// Choose a locality by weight first. Envoy `locality_weighted_lb_config`.
    pub locality_weighted: bool,
    /// A locality weighs what its share of hosts among those picked from says. Envoy `scale_locality_weight`.
    pub locality_scaled: bool,
    /// Pick nobody in panic. Envoy `fail_traffic_on_panic`.
    pub fail_on_panic: bool,
    /// How new hosts get their share.
    pub slow_start: Option<SlowStart>,
    /// Bound of a host's load under hashing policies, percent of the average.
    pub hash_balance_percent: Option<u32>,
}

/// What a pick asks of the moment it is made in.
pub trait Moment {
    /// Evenly drawn bits.
    fn random(&mut self) -> u64;
    /// Requests a host is answering.
    fn in_flight(&self, member: u32) -> u32;
    /// How long it has been there and healthy; asked only with slow start.
    fn healthy_for(&self, member: u32) -> Duration;
}

/// What one pick is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// The request's hash for hashing policies; without one they draw at random, as Envoy does.
    pub hash: Option<u64>,
    /// Counts picks for one attempt whose host was not wanted: hashing policies look elsewhere each time.
    pub pick: u32,
    /// Priorities to leave out if there are others. Envoy `previous_priorities`.
    pub avoid_priorities: &'a [u32],
}

/// A picked host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Its index; `None` when none may be picked.
    pub member: Option<u32>,
    /// Health was disregarded, or would have been.
    pub panic: bool,
    /// Zones were looked at, and what that came to.
    pub routed: Option<Routed>,
}

/// Rotations of one cluster on one shard for one set of endpoints.
#[derive(Debug)]
pub struct Balancer {
    settings: Settings,
    counts: Vec<HostCounts>,
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
    hashing: Option<Hashing>,
    zones: Option<(Zones, u8)>,
}

/// The table of a hashing policy for one priority.
#[derive(Debug)]
struct Hashing {
    table: Table,
    /// Hosts with their share of the priority's traffic, in the order the table was filled from.
    shares: Vec<(u32, f64)>,
}

#[derive(Debug)]
enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

impl Balancer {
    /// Prepares the rotations of all members. `moment` chooses where they start, so that the shards and the proxies of a mesh
    /// do not all begin with the same host. `key` gives what hashing policies know a host by.
    pub fn new(
        members: &[Member],
        settings: Settings,
        key: impl Fn(u32) -> String,
        moment: &mut impl Moment,
    ) -> Balancer {
        Balancer::among(0..members.len() as u32, members, settings, key, moment)
    }

    /// Prepares the rotations of some members.
    pub fn among(
        hosts: impl IntoIterator<Item = u32>,
        members: &[Member],
        settings: Settings,
        key: impl Fn(u32) -> String,
        moment: &mut impl Moment,
    ) -> Balancer {
        let level_count = members.iter().map(|m| m.priority as usize + 1).max().unwrap_or(0);
        let mut by_level: Vec<Vec<u32>> = vec![Vec::new(); level_count];
        for index in hosts {
            by_level[members[index as usize].priority as usize].push(index);
        }
        let with = |all: &[u32], health| -> Vec<u32> {
            all.iter().copied().filter(|i| members[*i as usize].health == health).collect()
        };
        let counts: Vec<HostCounts> = by_level
            .iter()
            .map(|all| {
                let eligible = |i: &&u32| !members[**i as usize].excluded;
                HostCounts {
                    healthy: with(all, Health::Healthy).len() as u32,
                    degraded: with(all, Health::Degraded).len() as u32,
                    total: all.iter().filter(eligible).count() as u32,
                }
            })
            .collect();
        let loads = priority::loads(&counts, settings.spread);
        let mut levels = Vec::with_capacity(level_count);
        for (all, load) in by_level.into_iter().zip(&loads) {
            let (healthy, degraded) = (with(&all, Health::Healthy), with(&all, Health::Degraded));
            let mut level = Level::default();
            if matches!(settings.policy, LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. }) {
                // Compat: Envoy leaves degraded hosts out of its tables even when they are all there is, and answers
                // 503. Here they are used then.
                let hosts = match (load.panic, healthy.is_empty()) {
                    (true, _) => &all,
                    (false, false) => &healthy,
                    (false, true) => &degraded,
                };
                level.hashing = Hashing::new(members, hosts, settings, &key);
            } else {
                if settings.locality_weighted {
                    level.healthy_localities = Localities::new(members, &all, &healthy, settings, moment);
                    level.degraded_localities = Localities::new(members, &all, &degraded, settings, moment);
                }
                level.all = Hosts::new(members, all, settings, moment);
                level.healthy = Hosts::new(members, healthy, settings, moment);
                level.degraded = Hosts::new(members, degraded, settings, moment);
            }
            levels.push(level);
        }
        Balancer { settings, counts, loads, levels }
    }

    /// Healthy hosts of the first priority.
    pub fn healthy_first(&self) -> u32 {
        self.counts.first().map_or(0, |counts| counts.healthy)
    }

    /// Keeps `percent` of the requests in the own zone, as far as it has room. `zones` are the localities of the first
    /// priority, `proxies` all healthy proxies. Hashing policies do not look at zones.
    pub fn stay_in_zone(
        &mut self,
        members: &[Member],
        zones: &[Zone],
        proxies: u32,
        percent: u8,
        moment: &mut impl Moment,
    ) {
        let Some(level) = self.levels.first_mut().filter(|level| level.hashing.is_none()) else { return };
        let zones = Zones::new(members, level.healthy.members(), zones, proxies, self.settings, moment);
        level.zones = zones.map(|zones| (zones, percent));
    }

    /// Picks the host for the next attempt.
    pub fn pick(&mut self, members: &[Member], wanted: Wanted<'_>, moment: &mut impl Moment) -> Picked {
        const NOBODY: Picked = Picked { member: None, panic: false, routed: None };
        let hashing = matches!(self.settings.policy, LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. });
        // Compat: hashing policies use the request's hash for the priority too, so that a key stays in one.
        let hash = wanted.hash.filter(|_| hashing).unwrap_or_else(|| moment.random());
        let percent = (hash % 100) as u32;
        let chosen = if wanted.avoid_priorities.is_empty() {
            priority::choose(&self.loads, percent)
        } else {
            let loads =
                priority::without(&self.counts, &self.loads, self.settings.spread, wanted.avoid_priorities);
            priority::choose(&loads, percent)
        };
        let Some((priority, degraded)) = chosen else { return NOBODY };
        let Some(level) = self.levels.get_mut(priority) else { return NOBODY };
        let panic = self.loads[priority].panic;
        if let Some(hashing) = &level.hashing {
            let member = hashing.pick(hash, wanted.pick, self.settings.hash_balance_percent, moment);
            return Picked { member, panic, routed: None };
        }
        if panic {
            if self.settings.fail_on_panic {
                return Picked { member: None, panic, routed: None };
            }
            return Picked { member: level.all.pick(members, self.settings, moment), panic, routed: None };
        }
        if !degraded
            && let Some((zones, percent)) = &mut level.zones
            && moment.random() % 100 < u64::from(*percent)
        {
            let (hosts, routed) = zones.pick(moment);
            // Nobody may be healthy in a zone without proxies.
            let member = hosts.pick(members, self.settings, moment);
            let member = member.or_else(|| level.healthy.pick(members, self.settings, moment));
            return Picked { member, panic, routed: Some(routed) };
        }
        let (localities, hosts) = if degraded {
            (&mut level.degraded_localities, &mut level.degraded)
        } else {
            (&mut level.healthy_localities, &mut level.healthy)
        };
        let hosts = localities.next().unwrap_or(hosts);
        Picked { member: hosts.pick(members, self.settings, moment), panic, routed: None }
    }
}

impl Hashing {
    fn new(
        members: &[Member],
        hosts: &[u32],
        settings: Settings,
        key: &impl Fn(u32) -> String,
    ) -> Option<Hashing> {
        let shares = weights::shares(members, hosts, settings.locality_weighted);
        let keyed: Vec<(String, u32, f64)> =
            shares.iter().map(|(host, share)| (key(*host), *host, *share)).collect();
        let table = match settings.policy {
            LbPolicy::RingHash { size_min, size_max, function } => {
                Table::Ring(Ring::new(&keyed, size_min, size_max, function))
            }
            LbPolicy::Maglev { table_size } => Table::Maglev(Maglev::new(keyed, table_size)),
            LbPolicy::RoundRobin
            | LbPolicy::LeastRequest { .. }
            | LbPolicy::Random
            | LbPolicy::ClusterProvided => return None,
        };
        Some(Hashing { table, shares })
    }

    fn pick(&self, hash: u64, pick: u32, balance: Option<u32>, moment: &impl Moment) -> Option<u32> {
        let host = match &self.table {
            Table::Ring(ring) => ring.pick(hash, pick)?,
            Table::Maglev(maglev) => maglev.pick(hash, pick)?,
        };
        match balance {
            Some(percent) => {
                Some(weights::bounded(&self.shares, host, hash, percent, |host| moment.in_flight(host)))
            }
            None => Some(host),
        }
    }
}

#[cfg(test)]
mod tests;
