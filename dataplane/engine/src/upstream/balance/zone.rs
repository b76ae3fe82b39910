//! Which zone a request stays in: the proxy's own, as far as that one's hosts have room for what comes from there.
//!
//! A zone has room for the share of all requests that its share of the cluster's hosts is; the share of requests that
//! come from it is its share of the proxies. What the own zone has no room for goes to zones with more room than they
//! need themselves. Source: Envoy "Zone aware routing" and `ZoneAwareLoadBalancerBase`.

use super::hosts::Hosts;
use super::{Member, Moment, Settings};

/// Shares are counted in ten-thousandths, as in Envoy.
const WHOLE: u64 = 10_000;

/// How many healthy proxies there are where the hosts of a locality are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Number of the locality, as in [`Member::locality`].
    pub locality: u32,
    /// Healthy proxies there.
    pub proxies: u32,
    /// It is this proxy's own.
    pub own: bool,
}

/// What a pick by zones came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// The own zone takes all.
    AllDirectly,
    /// The own zone takes this one.
    Sampled,
    /// Another zone with room takes it.
    CrossZone,
    /// Another zone takes it though none has room.
    NoCapacityLeft,
}

/// The zones of one priority, the own one first.
#[derive(Debug)]
pub(super) struct Zones {
    hosts: Vec<Hosts>,
    shares: Shares,
}

#[derive(Debug, PartialEq)]
enum Shares {
    Direct,
    Residual {
        /// Of what comes from the own zone, the part that stays.
        stays: u64,
        /// Running sums of the room that each zone has left; the own has none.
        room: Vec<u64>,
    },
}

impl Zones {
    /// Divides the healthy hosts of the first priority; `None` where zones do not count: there are fewer than two, or the
    /// own is not among them.
    pub(super) fn new(
        members: &[Member],
        healthy: &[u32],
        zones: &[Zone],
        proxies_in_all: u32,
        settings: Settings,
        moment: &mut impl Moment,
    ) -> Option<Zones> {
        let inside = |zone: &Zone| -> Vec<u32> {
            let in_zone = |host: &&u32| members[**host as usize].locality == zone.locality;
            healthy.iter().filter(in_zone).copied().collect()
        };
        let own = zones.iter().filter(|zone| zone.own);
        let ordered = own.chain(zones.iter().filter(|zone| !zone.own));
        let divided: Vec<(Zone, Vec<u32>)> = ordered.map(|zone| (*zone, inside(zone))).collect();
        let first = divided.first()?;
        if !first.0.own || divided.len() < 2 {
            return None;
        }
        let of = |part: usize, all: usize| part as u64 * WHOLE / (all as u64).max(1);
        let shares: Vec<(u64, u64)> = divided
            .iter()
            .map(|(zone, hosts)| {
                (of(zone.proxies as usize, proxies_in_all as usize), of(hosts.len(), healthy.len()))
            })
            .collect();
        let hosts = divided.into_iter().map(|(_, hosts)| Hosts::new(members, hosts, settings, moment));
        Some(Zones { hosts: hosts.collect(), shares: Shares::of(&shares) })
    }

    pub(super) fn pick(&mut self, moment: &mut impl Moment) -> (&mut Hosts, Routed) {
        let (index, routed) = self.shares.pick(self.hosts.len(), moment);
        (&mut self.hosts[index], routed)
    }
}

impl Shares {
    /// Of the share of proxies and the share of hosts of each zone.
    fn of(zones: &[(u64, u64)]) -> Shares {
        let (proxies, hosts) = zones[0];
        if hosts >= proxies {
            return Shares::Direct;
        }
        let mut room = vec![0];
        for (proxies, hosts) in &zones[1..] {
            room.push(room[room.len() - 1] + hosts.saturating_sub(*proxies));
        }
        Shares::Residual { stays: hosts * WHOLE / proxies, room }
    }

    fn pick(&self, zones: usize, moment: &mut impl Moment) -> (usize, Routed) {
        let Shares::Residual { stays, room } = self else { return (0, Routed::AllDirectly) };
        if moment.random() % WHOLE < *stays {
            return (0, Routed::Sampled);
        }
        let all = room.last().copied().unwrap_or(0);
        if all == 0 {
            return ((moment.random() % zones as u64) as usize, Routed::NoCapacityLeft);
        }
        let point = moment.random() % all;
        (room.iter().position(|sum| point < *sum).unwrap_or(0), Routed::CrossZone)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixed;
    use super::*;

    /// How many of 10,000 picks each zone gets, and how the first was made.
    fn spread(zones: &[(u64, u64)]) -> Vec<u64> {
        let shares = Shares::of(zones);
        let mut moment = fixed(|_| 0);
        let mut counts = vec![0; zones.len()];
        (0..10_000).for_each(|_| counts[shares.pick(zones.len(), &mut moment).0] += 1);
        counts
    }

    #[test]
    fn a_zone_with_room_keeps_everything() {
        assert_eq!(Shares::of(&[(3000, 3000), (7000, 7000)]), Shares::Direct);
        assert_eq!(spread(&[(2500, 5000), (7500, 5000)]), [10_000, 0]);
    }

    #[test]
    fn what_has_no_room_goes_where_room_is_left() {
        // Half of the proxies and a quarter of the hosts are here: half of the requests stay.
        let counts = spread(&[(5000, 2500), (2500, 5000), (2500, 2500)]);
        assert!((4_800..5_200).contains(&counts[0]) && counts[2] == 0, "{counts:?}");
        // Two zones have room, one twice as much as the other.
        let counts = spread(&[(10_000, 1000), (0, 3000), (0, 6000)]);
        assert!((900..1_100).contains(&counts[0]), "{counts:?}");
        assert!((2_800..3_200).contains(&counts[1]), "{counts:?}");
    }
}
