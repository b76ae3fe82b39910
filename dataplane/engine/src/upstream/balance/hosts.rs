//! Rotations among hosts, and among localities.

use ringsail_tables::balancing::LbPolicy;

use super::edf::Edf;
use super::slow_start::share_of_weight;
use super::{Member, Moment, Settings};

/// Hosts among which the policy chooses.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    members: Vec<u32>,
    /// Next position of an unweighted rotation.
    next: usize,
    /// Present when weights differ, or grow, and the policy looks at them.
    weighted: Option<Edf>,
}

/// The localities of a priority that have weight and hosts.
#[derive(Debug, Default)]
pub(super) struct Localities {
    rotation: Edf,
    weights: Vec<f64>,
    hosts: Vec<Hosts>,
}

impl Localities {
    /// `all` and `usable` are the hosts of one priority; a locality keeps its weight while enough of its hosts
    /// are usable, as a priority keeps its load.
    pub(super) fn new(
        members: &[Member],
        all: &[u32],
        usable: &[u32],
        settings: Settings,
        moment: &mut impl Moment,
    ) -> Localities {
        let mut localities = Localities::default();
        let mut seen: Vec<u32> = Vec::new();
        for member in usable.iter().map(|i| members[*i as usize]) {
            let mut weight = f64::from(member.locality_weight.unwrap_or(0));
            if weight == 0.0 || seen.contains(&member.locality) {
                continue;
            }
            seen.push(member.locality);
            let inside = |i: &&u32| members[**i as usize].locality == member.locality;
            let hosts: Vec<u32> = usable.iter().filter(inside).copied().collect();
            if settings.locality_scaled {
                let here = all.iter().filter(inside).count() as f64;
                let in_cluster = members.iter().filter(|other| other.locality == member.locality).count();
                // Compat: a locality with any host in the subset keeps a weight of 1.
                weight = (weight * here / in_cluster as f64).round().max(1.0);
            }
            let eligible = |i: &&u32| inside(i) && !members[**i as usize].excluded;
            let total = all.iter().filter(eligible).count().max(1);
            let overprovisioning = f64::from(settings.spread.overprovisioning_percent) / 100.0;
            let availability = (overprovisioning * hosts.len() as f64 / total as f64).min(1.0);
            localities.rotation.add(localities.hosts.len() as u32, weight * availability);
            localities.weights.push(weight * availability);
            localities.hosts.push(Hosts::new(members, hosts, settings, moment));
        }
        localities.skip(moment);
        localities
    }

    pub(super) fn next(&mut self) -> Option<&mut Hosts> {
        let weights = &self.weights;
        let index = self.rotation.next(|i| weights[i as usize])?;
        self.hosts.get_mut(index as usize)
    }

    fn skip(&mut self, moment: &mut impl Moment) {
        if self.hosts.len() > 1 {
            for _ in 0..moment.random() % self.hosts.len() as u64 {
                self.next();
            }
        }
    }
}

impl Hosts {
    pub(super) fn members(&self) -> &[u32] {
        &self.members
    }

    pub(super) fn new(
        members: &[Member],
        hosts: Vec<u32>,
        settings: Settings,
        moment: &mut impl Moment,
    ) -> Hosts {
        let weight = |i: u32| members[i as usize].weight;
        let unequal = hosts.windows(2).any(|pair| weight(pair[0]) != weight(pair[1]));
        let growing = settings
            .slow_start
            .is_some_and(|slow| hosts.iter().any(|host| moment.healthy_for(*host) <= slow.window));
        let start = if hosts.is_empty() { 0 } else { moment.random() % hosts.len() as u64 };
        let by_weight = (unequal || growing) && hosts.len() > 1 && settings.policy != LbPolicy::Random;
        let weighted = by_weight.then(|| {
            let now = |position: u32| weight_now(members, hosts[position as usize], settings, moment);
            let mut rotation = Edf::default();
            for position in 0..hosts.len() as u32 {
                rotation.add(position, now(position));
            }
            for _ in 0..start {
                rotation.next(now);
            }
            rotation
        });
        Hosts { members: hosts, next: start as usize, weighted }
    }

    pub(super) fn pick(
        &mut self,
        members: &[Member],
        settings: Settings,
        moment: &mut impl Moment,
    ) -> Option<u32> {
        let hosts = self.members.as_slice();
        match hosts {
            [] => return None,
            [only] => return Some(*only),
            _ => {}
        }
        if let Some(rotation) = &mut self.weighted {
            let position =
                rotation.next(|position| weight_now(members, hosts[position as usize], settings, moment));
            return position.map(|position| hosts[position as usize]);
        }
        match settings.policy {
            LbPolicy::LeastRequest { choices: Some(choices), .. } => {
                let mut best = hosts[(moment.random() % hosts.len() as u64) as usize];
                for _ in 1..choices {
                    let other = hosts[(moment.random() % hosts.len() as u64) as usize];
                    if moment.in_flight(other) < moment.in_flight(best) {
                        best = other;
                    }
                }
                Some(best)
            }
            LbPolicy::LeastRequest { choices: None, .. } => Some(least_of_all(hosts, moment)),
            LbPolicy::Random => Some(hosts[(moment.random() % hosts.len() as u64) as usize]),
            LbPolicy::RoundRobin
            | LbPolicy::RingHash { .. }
            | LbPolicy::Maglev { .. }
            | LbPolicy::ClusterProvided => {
                let host = hosts[self.next % hosts.len()];
                self.next = (self.next + 1) % hosts.len();
                Some(host)
            }
        }
    }
}

/// The host with the fewest requests in flight; among several of them each is as likely.
fn least_of_all(hosts: &[u32], moment: &mut impl Moment) -> u32 {
    let mut best = hosts[0];
    let mut ties = 1;
    for other in &hosts[1..] {
        match moment.in_flight(*other).cmp(&moment.in_flight(best)) {
            std::cmp::Ordering::Less => {
                best = *other;
                ties = 1;
            }
            std::cmp::Ordering::Equal => {
                ties += 1;
                if moment.random().is_multiple_of(ties) {
                    best = *other;
                }
            }
            std::cmp::Ordering::Greater => {}
        }
    }
    best
}

/// What a host weighs in a weighted rotation at this moment.
fn weight_now(members: &[Member], host: u32, settings: Settings, moment: &impl Moment) -> f64 {
    let mut weight = f64::from(members[host as usize].weight);
    if let LbPolicy::LeastRequest { active_request_bias: bias, .. } = settings.policy {
        let requests = f64::from(moment.in_flight(host)) + 1.0;
        weight /= if bias == 1.0 { requests } else { requests.powf(bias) };
    }
    if let Some(slow) = &settings.slow_start {
        weight *= share_of_weight(slow, moment.healthy_for(host));
    }
    weight
}
