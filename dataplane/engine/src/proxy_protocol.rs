//! The PROXY protocol: a load balancer in front of us says whose connection it passes on.
//!
//! Source: "The PROXY protocol, versions 1 & 2" (HAProxy); where that leaves a choice, Envoy's listener filter.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ringsail_runtime::net::Stream;
use ringsail_runtime::time::timeout;
use ringsail_tables::listener::ProxyProtocol;
use ringsail_telemetry::{ListenerCounter, ListenerStats};

use crate::inflow::Inflow;

/// The two ends that a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// Where it meant to go.
    pub destination: SocketAddr,
}

/// The version of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Parsed {
    /// More are needed.
    Incomplete,
    /// No header.
    None,
    /// A header of this version that is broken.
    Invalid(Version),
    /// A header.
    Header {
        version: Version,
        /// Its length in bytes, with everything in it.
        length: usize,
        /// `None` for connections of the balancer's own.
        ends: Option<Ends>,
    },
}

/// Reads the header and takes it out of `inflow`. An error means that the connection is to be closed.
pub async fn read(
    stream: &Stream,
    inflow: &mut Inflow,
    settings: ProxyProtocol,
    stats: &ListenerStats,
    limit: Option<Duration>,
) -> io::Result<Option<Ends>> {
    let reading = look(stream, inflow, settings, stats);
    match limit {
        Some(limit) => timeout(limit, reading).await.unwrap_or_else(|_| {
            stats.add(ListenerCounter::DownstreamPreCxTimeout, 1);
            Err(io::ErrorKind::TimedOut.into())
        }),
        None => reading.await,
    }
}

async fn look(
    stream: &Stream,
    inflow: &mut Inflow,
    settings: ProxyProtocol,
    stats: &ListenerStats,
) -> io::Result<Option<Ends>> {
    loop {
        if !inflow.extend_raw(stream).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let counted = match parse(inflow.bytes()) {
            Parsed::Incomplete => continue,
            Parsed::None if settings.optional => {
                stats.add(ListenerCounter::ProxyProtoNotFoundAllowed, 1);
                return Ok(None);
            }
            Parsed::None => ListenerCounter::ProxyProtoNotFoundDisallowed,
            Parsed::Invalid(Version::V1) => ListenerCounter::ProxyProtoV1Error,
            Parsed::Invalid(Version::V2) => ListenerCounter::ProxyProtoV2Error,
            Parsed::Header { version, length, ends } => {
                let (allowed, found, disallowed) = match version {
                    Version::V1 => (
                        settings.v1,
                        ListenerCounter::ProxyProtoV1Found,
                        ListenerCounter::ProxyProtoV1Disallowed,
                    ),
                    Version::V2 => (
                        settings.v2,
                        ListenerCounter::ProxyProtoV2Found,
                        ListenerCounter::ProxyProtoV2Disallowed,
                    ),
                };
                if allowed {
                    stats.add(found, 1);
                    inflow.consume(length);
                    return Ok(ends);
                }
                disallowed
            }
        };
        stats.add(counted, 1);
        return Err(io::ErrorKind::InvalidData.into());
    }
}

const V1_START: &[u8] = b"PROXY ";
/// The longest header of version 1, with its line end.
const V1_BYTES_MAX: usize = 108;
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What a header of version 2 begins with: the signature, the version and command, the family, the length of the rest.
const V2_FIXED_BYTES: usize = 16;
/// Addresses and extensions that are waited for; the rest of a block is the sender's own.
const V2_REST_BYTES_MAX: usize = 4096;

fn parse(bytes: &[u8]) -> Parsed {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(byte, wanted)| byte == wanted);
    if begins(V2_START) {
        return if bytes.len() < V2_FIXED_BYTES { Parsed::Incomplete } else { parse_v2(bytes) };
    }
    if begins(V1_START) {
        return if bytes.len() < V1_START.len() { Parsed::Incomplete } else { parse_v1(bytes) };
    }
    Parsed::None
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    let invalid = Parsed::Invalid(Version::V1);
    let looked_at = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = looked_at.windows(2).position(|pair| pair == b"\r\n") else {
        return if looked_at.len() < V1_BYTES_MAX { Parsed::Incomplete } else { invalid };
    };
    let header = |ends| Parsed::Header { version: Version::V1, length: end + 2, ends };
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else { return invalid };
    let words: Vec<&str> = line.split(' ').collect();
    let (family_is_v4, words) = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => return header(None),
        ["PROXY", "TCP4", rest @ ..] => (true, rest),
        ["PROXY", "TCP6", rest @ ..] => (false, rest),
        _ => return invalid,
    };
    let [source, destination, source_port, destination_port] = words else { return invalid };
    let address = |ip: &str, port: &str| {
        let ip: IpAddr = ip.parse().ok().filter(|ip: &IpAddr| ip.is_ipv4() == family_is_v4)?;
        Some(SocketAddr::new(ip, port.parse().ok()?))
    };
    match (address(source, source_port), address(destination, destination_port)) {
        (Some(source), Some(destination)) => header(Some(Ends { source, destination })),
        _ => invalid,
    }
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let invalid = Parsed::Invalid(Version::V2);
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED_BYTES>() else { return Parsed::Incomplete };
    let [.., command, family, high, low] = *fixed;
    let rest_len = usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 || command & 0x0f > 1 || rest_len > V2_REST_BYTES_MAX {
        return invalid;
    }
    let Some(rest) = rest.get(..rest_len) else { return Parsed::Incomplete };
    let header = |ends| Parsed::Header { version: Version::V2, length: V2_FIXED_BYTES + rest_len, ends };
    if command & 0x0f == 0 {
        return header(None);
    }
    // Compat: streams and datagrams are one to Envoy, and it takes no other kinds of sockets, unspecified ones included.
    let ends = match family {
        0x11 | 0x12 => ends::<4>(rest, |ip| Ipv4Addr::from(ip).into()),
        0x21 | 0x22 => ends::<16>(rest, |ip| Ipv6Addr::from(ip).into()),
        _ => None,
    };
    ends.map_or(invalid, |ends| header(Some(ends)))
}

/// Two addresses of `N` bytes and two ports. What follows them are extensions, which nobody reads here.
fn ends<const N: usize>(rest: &[u8], ip: impl Fn([u8; N]) -> IpAddr) -> Option<Ends> {
    let (source, rest) = rest.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    Some(Ends {
        source: SocketAddr::new(ip(*source), u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(ip(*destination), u16::from_be_bytes(*destination_port)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: Version, length: usize, ends: Option<(&str, &str)>) -> Parsed {
        let ends = ends.map(|(source, destination)| Ends {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        });
        Parsed::Header { version, length, ends }
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = V2_START.to_vec();
        bytes.extend_from_slice(&[command, family]);
        bytes.extend_from_slice(&(rest.len() as u16).to_be_bytes());
        bytes.extend_from_slice(rest);
        bytes
    }

    const V4: &[u8] = &[10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80];

    #[test]
    fn version_1_names_both_ends_or_none() {
        let line = b"PROXY TCP4 10.0.0.1 10.0.0.2 4660 80\r\nGET";
        assert_eq!(parse(line), header(Version::V1, 38, Some(("10.0.0.1:4660", "10.0.0.2:80"))));
        let line = b"PROXY TCP6 ::1 2001:db8::1 1 2\r\n";
        assert_eq!(parse(line), header(Version::V1, 32, Some(("[::1]:1", "[2001:db8::1]:2"))));
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), header(Version::V1, 15, None));
        for bad in [
            &b"PROXY TCP4 10.0.0.1 10.0.0.2 4660\r\n"[..],
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 70000 80\r\n",
            b"PROXY TCP5 10.0.0.1 10.0.0.2 1 2\r\n",
            &[b"PROXY TCP4 ", &[b'1'; 100][..]].concat(),
        ] {
            assert_eq!(parse(bad), Parsed::Invalid(Version::V1), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn version_2_names_both_ends_or_none() {
        let ends = Some(("10.0.0.1:4660", "10.0.0.2:80"));
        assert_eq!(parse(&v2(0x21, 0x11, V4)), header(Version::V2, 28, ends));
        let with_extension = [V4, &[4, 0, 1, 0]].concat();
        assert_eq!(parse(&v2(0x21, 0x11, &with_extension)), header(Version::V2, 32, ends));
        let v6 = [&[0; 15][..], &[1], &[0; 15], &[2], &[0, 1, 0, 2]].concat();
        assert_eq!(parse(&v2(0x21, 0x21, &v6)), header(Version::V2, 52, Some(("[::1]:1", "[::2]:2"))));
        assert_eq!(parse(&v2(0x21, 0x12, V4)), header(Version::V2, 28, ends));
        // Health checks of the balancer.
        for family in [0x11, 0, 0x31] {
            assert_eq!(parse(&v2(0x20, family, V4)), header(Version::V2, 28, None));
        }
        let families = [0, 0x10, 0x31].map(|family| v2(0x21, family, V4));
        let others = [v2(0x11, 0x11, V4), v2(0x22, 0x11, V4), v2(0x21, 0x11, &V4[..11]), v2(0x21, 0x21, V4)];
        for bad in families.iter().chain(&others) {
            assert_eq!(parse(bad), Parsed::Invalid(Version::V2));
        }
    }

    #[test]
    fn a_part_of_a_header_is_waited_for() {
        for whole in [&b"PROXY TCP4 10.0.0.1 10.0.0.2 4660 80\r\n"[..], &v2(0x21, 0x11, V4)] {
            for end in 0..whole.len() {
                assert_eq!(parse(&whole[..end]), Parsed::Incomplete, "{end}");
            }
        }
    }

    #[test]
    fn other_bytes_are_no_header_at_once() {
        for bytes in [&b"G"[..], b"PROXI", b"\r\n\r\nX", b"\x16\x03\x01"] {
            assert_eq!(parse(bytes), Parsed::None);
        }
    }
}
