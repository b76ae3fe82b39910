//! Addresses of listeners and endpoints.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::strings::Str;

/// Where a listener binds or an endpoint is reached. Source: `envoy.config.core.v3.Address`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Socket(SocketAddr),
    /// A Unix domain socket; a leading `@` means the abstract name space.
    Pipe(Str),
}

impl Address {
    /// The socket address, when it is one.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Address::Socket(at) => Some(*at),
            Address::Pipe(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(at) => at.fmt(f),
            Address::Pipe(path) => f.write_str(path),
        }
    }
}

/// A range of addresses. Source: `envoy.config.core.v3.CidrRange`; host bits are cleared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Cidr {
    network: u128,
    len: u8,
    v6: bool,
}

impl Cidr {
    /// A range of the `len` leading bits of `address`. `None` when `len` exceeds the address family's width.
    pub fn new(address: IpAddr, len: u8) -> Option<Cidr> {
        let (bits, width, v6) = bits_of(address);
        if len > width {
            return None;
        }
        Some(Cidr { network: bits & mask(len, width), len, v6 })
    }

    /// Whether `address` is inside. A v4 range holds no v6 address, and the reverse; v4-mapped v6 addresses count
    /// as v4, as the kernel reports them on dual-stack sockets.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (bits, width, v6) = bits_of(address);
        v6 == self.v6 && bits & mask(self.len, width) == self.network
    }

    /// Number of leading bits that must agree: the longer, the more specific.
    pub fn prefix_len(&self) -> u8 {
        self.len
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.v6 {
            write!(f, "{}/{}", Ipv6Addr::from_bits(self.network), self.len)
        } else {
            write!(f, "{}/{}", Ipv4Addr::from_bits(self.network as u32), self.len)
        }
    }
}

fn bits_of(address: IpAddr) -> (u128, u8, bool) {
    match address.to_canonical() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32, false),
        IpAddr::V6(v6) => (v6.to_bits(), 128, true),
    }
}

fn mask(len: u8, width: u8) -> u128 {
    let ones = if width == 128 { u128::MAX } else { u128::from(u32::MAX) };
    match width - len {
        0 => ones,
        128 => 0,
        host => ones & (ones << host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(range: &str, len: u8, address: &str) -> bool {
        Cidr::new(range.parse().unwrap(), len).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn host_bits_of_a_range_do_not_matter() {
        assert!(inside("10.1.2.3", 8, "10.9.9.9"));
        assert!(!inside("10.1.2.3", 8, "11.1.2.3"));
        assert!(inside("10.1.2.3", 32, "10.1.2.3"));
        assert!(!inside("10.1.2.3", 32, "10.1.2.4"));
    }

    #[test]
    fn a_zero_length_range_holds_its_whole_family_only() {
        assert!(inside("0.0.0.0", 0, "1.2.3.4"));
        assert!(!inside("0.0.0.0", 0, "::1"));
        assert!(inside("::", 0, "::1"));
        assert!(!inside("::", 0, "1.2.3.4"));
    }

    #[test]
    fn mapped_v4_addresses_count_as_v4() {
        assert!(inside("10.0.0.0", 8, "::ffff:10.1.1.1"));
    }

    #[test]
    fn too_long_a_prefix_is_no_range() {
        assert_eq!(Cidr::new("10.0.0.0".parse().unwrap(), 33), None);
        assert_eq!(Cidr::new("::".parse().unwrap(), 129), None);
    }
}
