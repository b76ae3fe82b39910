//! A ring of hashes: a key goes to the host whose hash follows its own.
//!
//! Compat: ring, hashes and search give the hosts that Envoy gives, so that a key stays with its host while proxies
//! are replaced one by one.

use ringsail_tables::balancing::HashFunction;
use twox_hash::XxHash64;

/// Hosts by the hashes they stand for.
#[derive(Debug)]
pub(super) struct Ring {
    /// Ascending.
    hashes: Vec<u64>,
    /// In the same order.
    hosts: Vec<u32>,
}

impl Ring {
    /// `hosts` are key, index and share of each; the shares add up to 1.
    pub(super) fn new(
        hosts: &[(String, u32, f64)],
        size_min: u64,
        size_max: u64,
        function: HashFunction,
    ) -> Ring {
        let least = hosts.iter().map(|(.., share)| *share).fold(1.0, f64::min);
        // The lightest host has a whole number of entries, as long as the ring is not too large for that.
        let scale = ((least * size_min as f64).ceil() / least).min(size_max as f64);
        let mut entries: Vec<(u64, u32)> = Vec::with_capacity(scale.ceil() as usize);
        let mut target = 0.0;
        let mut text = String::new();
        for (key, host, share) in hosts {
            target += scale * share;
            let mut number = 0_u64;
            while (entries.len() as f64) < target {
                text.clear();
                let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{key}_{number}"));
                let hash = match function {
                    HashFunction::XxHash => XxHash64::oneshot(0, text.as_bytes()),
                    HashFunction::MurmurHash2 => murmur2(text.as_bytes(), MURMUR_SEED),
                };
                entries.push((hash, *host));
                number += 1;
            }
        }
        entries.sort_by_key(|(hash, _)| *hash);
        Ring {
            hashes: entries.iter().map(|(hash, _)| *hash).collect(),
            hosts: entries.iter().map(|(_, host)| *host).collect(),
        }
    }

    /// The host of a key. Later picks for one request take the entries that follow.
    pub(super) fn pick(&self, hash: u64, pick: u32) -> Option<u32> {
        let at = self.hashes.partition_point(|entry| *entry < hash);
        let count = self.hosts.len();
        if count == 0 {
            return None;
        }
        // Behind the last entry the ring begins again.
        let at = if at == count { 0 } else { at };
        Some(self.hosts[(at + pick as usize) % count])
    }
}

/// The seed of `std::hash` in libstdc++, whose values Envoy's MURMUR_HASH_2 is compatible with.
const MURMUR_SEED: u64 = 0xc70f_6907;

/// MurmurHash2 of 64 bits by Austin Appleby ("MurmurHash64A").
fn murmur2(bytes: &[u8], seed: u64) -> u64 {
    const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
    let scramble = |word: u64| {
        let word = word.wrapping_mul(MULTIPLIER);
        (word ^ (word >> 47)).wrapping_mul(MULTIPLIER)
    };
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = word.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        hash = (hash ^ scramble(word)).wrapping_mul(MULTIPLIER);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ (hash >> 47)).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 47)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(shares: &[f64], size_min: u64, size_max: u64) -> Ring {
        let hosts: Vec<_> = (0..)
            .zip(shares)
            .map(|(index, share)| (format!("127.0.0.1:{}", 90 + index), index, *share))
            .collect();
        Ring::new(&hosts, size_min, size_max, HashFunction::XxHash)
    }

    // The hashes that Envoy's own tests write out for `127.0.0.1:80` to `:85`.
    #[test]
    fn murmur_hashes_are_envoys() {
        let hosts: Vec<_> = (0..6).map(|i| (format!("127.0.0.1:{}", 80 + i), i, 1.0 / 6.0)).collect();
        let ring = Ring::new(&hosts, 12, 8 << 20, HashFunction::MurmurHash2);
        assert_eq!(ring.hashes[0], 1_358_027_074_129_602_068);
        assert_eq!(ring.hashes[11], 17_613_279_263_364_193_813);
        assert_eq!(ring.hosts, [5, 3, 4, 1, 2, 4, 1, 2, 3, 0, 5, 0]);
    }

    // The ring of six hosts that Envoy's own tests write out: `127.0.0.1:90` to `:95`, twelve entries.
    #[test]
    fn the_ring_is_envoys() {
        let ring = ring(&[1.0 / 6.0; 6], 12, 8 << 20);
        let port = |hash| ring.pick(hash, 0).map(|host| 90 + host);
        assert_eq!(ring.hashes.len(), 12);
        assert_eq!(port(0), Some(94));
        assert_eq!(port(u64::MAX), Some(94));
        assert_eq!(port(3_551_244_743_356_806_947), Some(95));
        assert_eq!(port(3_551_244_743_356_806_948), Some(93));
    }

    #[test]
    fn entries_follow_shares() {
        let ring = ring(&[0.25, 0.75], 1024, 8 << 20);
        let of_first = ring.hosts.iter().filter(|host| **host == 0).count();
        assert_eq!((of_first, ring.hosts.len()), (256, 1024));
    }

    #[test]
    fn a_ring_is_no_larger_than_its_bound() {
        assert_eq!(ring(&[0.25; 4], 1024, 6).hosts.len(), 6);
    }

    #[test]
    fn without_hosts_there_is_nobody() {
        assert_eq!(ring(&[], 1024, 1024).pick(5, 0), None);
    }
}
