//! Shares of hosts under hashing policies, and the bound of their load.

use super::Member;

/// Each host's share of the traffic, adding up to 1. Under locality weighting a locality's share is divided among its
/// hosts, and a locality without weight has none; when no locality has weight, nobody has.
pub(super) fn shares(members: &[Member], hosts: &[u32], locality_weighted: bool) -> Vec<(u32, f64)> {
    let weight = |host: &u32| f64::from(members[*host as usize].weight);
    let has_weights = hosts.iter().any(|host| members[*host as usize].locality_weight.is_some());
    if !locality_weighted || !has_weights {
        let sum: f64 = hosts.iter().map(weight).sum();
        return hosts.iter().map(|host| (*host, weight(host) / sum)).collect();
    }
    let mut localities: Vec<(u32, f64, f64)> = Vec::new();
    for host in hosts {
        let member = &members[*host as usize];
        match localities.iter_mut().find(|(locality, ..)| *locality == member.locality) {
            Some((_, _, sum)) => *sum += weight(host),
            None => {
                let of_locality = f64::from(member.locality_weight.unwrap_or(0));
                localities.push((member.locality, of_locality, weight(host)));
            }
        }
    }
    let total: f64 = localities.iter().map(|(_, of_locality, _)| of_locality).sum();
    let share = |host: &u32| {
        let locality = members[*host as usize].locality;
        let (_, of_locality, sum) = localities.iter().find(|(other, ..)| *other == locality)?;
        (*of_locality > 0.0).then(|| (*host, weight(host) * (of_locality / total) / sum))
    };
    hosts.iter().filter_map(share).collect()
}

/// The host itself unless it carries more than `percent` of the average load, else one that does not, else the least
/// loaded. The others are looked at in an order that only `hash` decides, so that a key finds its way again.
/// Source: Envoy's `hash_balance_factor`; "Consistent Hashing with Bounded Loads", arXiv 1608.01350 and 1908.08762.
pub(super) fn bounded(
    shares: &[(u32, f64)],
    host: u32,
    hash: u64,
    percent: u32,
    in_flight: impl Fn(u32) -> u32,
) -> u32 {
    let all: u64 = shares.iter().map(|(host, _)| u64::from(in_flight(*host))).sum();
    let slots = ((all + 1) * u64::from(percent)).div_ceil(100) as f64;
    let overload = |host: u32, share: f64| f64::from(in_flight(host)) / (slots * share).ceil().max(1.0);
    let share_of = |host: u32| shares.iter().find(|(other, _)| *other == host).map_or(0.0, |found| found.1);
    let mut least = (host, overload(host, share_of(host)));
    if least.1 <= 1.0 {
        return host;
    }
    let mut order: Vec<usize> = (0..shares.len()).collect();
    let mut random = Twister::new(hash as u32);
    for position in 0..order.len() {
        let other = position + random.below((order.len() - position) as u32) as usize;
        order.swap(position, other);
        let (candidate, share) = shares[order[position]];
        if candidate == host {
            continue;
        }
        let load = overload(candidate, share);
        if load <= 1.0 {
            return candidate;
        }
        if load < least.1 {
            least = (candidate, load);
        }
    }
    least.0
}

/// The generator MT19937, whose sequence Envoy draws the order from.
struct Twister {
    state: [u32; 624],
    next: usize,
}

impl Twister {
    fn new(seed: u32) -> Twister {
        let mut state = [seed; 624];
        for i in 1..624 {
            let last = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Twister { state, next: 624 }
    }

    fn draw(&mut self) -> u32 {
        if self.next == 624 {
            for i in 0..624 {
                let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
                let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ (joined >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Evenly below `bound`, which is above 0.
    fn below(&mut self, bound: u32) -> u32 {
        let width = (1_u64 << 32) / u64::from(bound);
        loop {
            let drawn = u64::from(self.draw()) / width;
            if drawn < u64::from(bound) {
                return drawn as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The ten-thousandth number of seed 5489, which the C++ standard names.
    #[test]
    fn the_generator_is_mt19937() {
        let mut random = Twister::new(5489);
        let last = (0..10_000).map(|_| random.draw()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn an_idle_host_keeps_its_keys() {
        let shares = [(0, 0.5), (1, 0.5)];
        assert_eq!(bounded(&shares, 1, 7, 100, |_| 0), 1);
    }

    #[test]
    fn a_host_above_the_bound_passes_a_key_on_to_one_below() {
        let shares = [(0, 0.25), (1, 0.25), (2, 0.25), (3, 0.25)];
        let load = |host: u32| if host == 1 { 20 } else { 2 };
        let first = bounded(&shares, 1, 7, 150, load);
        assert_ne!(first, 1);
        assert_eq!(bounded(&shares, 1, 7, 150, load), first, "the same key goes the same way");
    }

    #[test]
    fn when_all_are_above_the_bound_the_least_loaded_is_taken() {
        let shares = [(0, 0.9), (1, 0.05), (2, 0.05)];
        // Slots by share at 100 percent of 61: 55, 4, 4.
        let load = |host: u32| [56, 5, 9][host as usize];
        assert_eq!(bounded(&shares, 2, 1, 100, |h| load(h) * 100), 0);
    }
}
