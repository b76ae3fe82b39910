//! Google's Maglev: a table in which each host fills as many places as its share, so that few move when hosts come
//! and go.
//!
//! Compat: the table is filled as Envoy fills it, so that a key stays with its host while proxies are replaced one by
//! one. Source: "Maglev: A Fast and Reliable Software Network Load Balancer", listing 1, with weights.

use twox_hash::XxHash64;

/// Hosts by the remainder of a hash.
#[derive(Debug)]
pub(super) struct Maglev {
    hosts: Vec<u32>,
    /// Positions in `hosts`; as narrow as they can be, for the table is large.
    table: Places,
}

#[derive(Debug)]
enum Places {
    Byte(Vec<u8>),
    Word(Vec<u16>),
    Long(Vec<u32>),
}

impl Maglev {
    /// `hosts` are key, index and share of each. `size` is a prime number.
    pub(super) fn new(mut hosts: Vec<(String, u32, f64)>, size: u32) -> Maglev {
        // The same hosts in another order give the same table.
        hosts.sort_by(|one, other| one.0.cmp(&other.0));
        let positions = fill(&hosts, u64::from(size));
        let table = match hosts.len() {
            0..=0x100 => Places::Byte(positions.iter().map(|place| *place as u8).collect()),
            0x101..=0x1_0000 => Places::Word(positions.iter().map(|place| *place as u16).collect()),
            _ => Places::Long(positions),
        };
        Maglev { hosts: hosts.into_iter().map(|(_, host, _)| host).collect(), table }
    }

    /// The host of a key. Later picks for one request change its hash.
    pub(super) fn pick(&self, hash: u64, pick: u32) -> Option<u32> {
        let hash = if pick == 0 { hash } else { hash ^ (u64::MAX - u64::from(pick) + 1) };
        let at = |size: usize| (hash % size.max(1) as u64) as usize;
        let position = match &self.table {
            Places::Byte(table) => usize::from(*table.get(at(table.len()))?),
            Places::Word(table) => usize::from(*table.get(at(table.len()))?),
            Places::Long(table) => *table.get(at(table.len()))? as usize,
        };
        self.hosts.get(position).copied()
    }
}

/// The place in `hosts` for every entry of the table; empty without hosts.
fn fill(hosts: &[(String, u32, f64)], size: u64) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    struct Filler {
        /// Where it looks for its next free place.
        at: u64,
        skip: u64,
        share: f64,
        target: f64,
    }
    if hosts.is_empty() {
        return Vec::new();
    }
    let largest = hosts.iter().map(|(.., share)| *share).fold(0.0, f64::max);
    let mut fillers: Vec<Filler> = hosts
        .iter()
        .map(|(key, _, share)| Filler {
            at: XxHash64::oneshot(0, key.as_bytes()) % size,
            skip: XxHash64::oneshot(1, key.as_bytes()) % (size - 1) + 1,
            share: *share,
            target: 0.0,
        })
        .collect();
    let mut table = vec![FREE; size as usize];
    let mut filled = 0;
    for round in 1_u64.. {
        for (position, filler) in (0..).zip(&mut fillers) {
            if filled == size {
                return table;
            }
            // A host of the largest share takes a place in every round, one of a third of it in every third.
            if (round as f64) * filler.share < filler.target {
                continue;
            }
            filler.target += largest;
            while table[filler.at as usize] != FREE {
                filler.at = (filler.at + filler.skip) % size;
            }
            table[filler.at as usize] = position;
            filler.at = (filler.at + filler.skip) % size;
            filled += 1;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maglev(shares: &[f64], size: u32) -> Maglev {
        let hosts = (0..).zip(shares).map(|(i, share)| (format!("127.0.0.1:{}", 90 + i), i, *share));
        Maglev::new(hosts.collect(), size)
    }

    fn ports(maglev: &Maglev, size: u64) -> Vec<u32> {
        (0..size).filter_map(|hash| maglev.pick(hash, 0)).map(|host| 90 + host).collect()
    }

    // The table of six hosts that Envoy's own tests write out.
    #[test]
    fn the_table_is_envoys() {
        let table = maglev(&[1.0 / 6.0; 6], 7);
        assert_eq!(ports(&table, 7), [92, 94, 90, 91, 95, 90, 93]);
        // Hashes beyond the table begin it again.
        assert_eq!(table.pick(8, 0), table.pick(1, 0));
    }

    #[test]
    fn places_follow_shares() {
        let table = maglev(&[0.1, 0.2, 0.7], 65_537);
        let mut counts = [0_u32; 3];
        (0..65_537).filter_map(|hash| table.pick(hash, 0)).for_each(|host| counts[host as usize] += 1);
        let share = |count| f64::from(count) / 65_537.0;
        assert!((share(counts[0]) - 0.1).abs() < 0.001, "{counts:?}");
        assert!((share(counts[1]) - 0.2).abs() < 0.001, "{counts:?}");
    }

    #[test]
    fn few_keys_move_when_a_host_leaves() {
        let before = maglev(&[0.1; 10], 65_537);
        let after = maglev(&[1.0 / 9.0; 9], 65_537);
        let moved = (0..65_537_u64)
            .filter(|hash| before.pick(*hash, 0) != Some(9) && before.pick(*hash, 0) != after.pick(*hash, 0))
            .count();
        assert!(moved < 65_537 / 20, "{moved} keys of hosts that stayed moved");
    }

    #[test]
    fn without_hosts_there_is_nobody() {
        assert_eq!(maglev(&[], 7).pick(5, 0), None);
    }
}
