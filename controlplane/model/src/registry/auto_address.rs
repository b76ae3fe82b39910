//! Made-up addresses for ServiceEntries that declare none.
//!
//! Proxies that answer DNS hand these out so that TCP services without an address can be told apart. The position of
//! a service depends only on its namespace and host, so every control plane gives the same address.
//! Compat: same positions as Istio's allocation inside 240.240.0.0/16 and 2001:2::/48.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::service::ServiceKey;

/// Number of positions: 256 blocks of 254 hosts.
const SLOT_COUNT: u32 = 256 * 254;
/// Largest prime below [`SLOT_COUNT`]; step of the second hash.
const STEP_PRIME: u32 = 65011;

/// Gives each service an IPv4 and an IPv6 address. The same key may occur several times (one host declared by several
/// entries) and gets one address; services beyond the capacity get none.
pub(crate) fn allocate<'a>(
    keys: impl IntoIterator<Item = &'a ServiceKey>,
) -> HashMap<&'a ServiceKey, [IpAddr; 2]> {
    let mut slots: HashMap<u32, &ServiceKey> = HashMap::new();
    for key in keys {
        if slots.len() as u32 >= SLOT_COUNT - 1 {
            break;
        }
        let hash = fnv1a(&key.to_string());
        let mut slot = hash % SLOT_COUNT;
        let step = STEP_PRIME - hash % STEP_PRIME;
        let mut round: u32 = 1;
        while slots.contains_key(&slot) {
            slot = hash.wrapping_add(round.wrapping_mul(step)) % (SLOT_COUNT - 1);
            round += 1;
            if round > SLOT_COUNT {
                break;
            }
        }
        slots.entry(slot).or_insert(key);
    }
    let mut positions: Vec<(u32, &ServiceKey)> = slots.into_iter().collect();
    positions.sort_unstable();
    let mut addresses = HashMap::with_capacity(positions.len());
    // A position whose host part would be 0 moves up by one, and so do all behind it.
    let mut shift = 1;
    for (slot, key) in positions {
        if (slot + shift) % 255 == 0 {
            shift += 1;
        }
        addresses.entry(key).or_insert_with(|| address_pair(slot + shift));
    }
    addresses
}

fn address_pair(position: u32) -> [IpAddr; 2] {
    let (third, fourth) = ((position / 255) as u8, (position % 255) as u8);
    let v4 = Ipv4Addr::new(240, 240, third, fourth);
    // Compat: the two bytes are written in hexadecimal without padding.
    let tail = if third == 0 { format!("{fourth:x}") } else { format!("{third:x}{fourth:x}") };
    let tail = u16::from_str_radix(&tail, 16).expect("at most four hexadecimal digits");
    let v6 = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0xf0f0, tail);
    [v4.into(), v6.into()]
}

/// FNV-1a, 32 bits.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(hostname: &str) -> ServiceKey {
        ServiceKey { namespace: "default".into(), hostname: hostname.into() }
    }

    #[test]
    fn address_depends_only_on_namespace_and_host() {
        let (a, b) = (key("a.example.com"), key("b.example.com"));
        let forward = allocate([&a, &b]);
        let backward = allocate([&b, &a]);
        assert_eq!(forward[&a], backward[&a]);
        assert_ne!(forward[&a], forward[&b]);
    }

    #[test]
    fn one_host_in_two_entries_gets_one_address() {
        let host = key("istio.io");
        // Recorded from istiod.
        assert_eq!(allocate([&host, &host])[&host][0].to_string(), "240.240.91.120");
    }
}
