//! Filter chains and the choice among them.
//!
//! The choice goes stage by stage: destination port, destination range, server name, transport protocol, application
//! protocol, direct source range, source type, source range, source port. Each stage takes the most specific value
//! that fits the connection among the chains left over, and never comes back: a connection whose most specific chain
//! fails at a later stage gets the default chain. Source: `envoy.config.listener.v3.FilterChainMatch`.
//!
//! The rules are one array sorted by the stages in order, so that every stage is a binary search that narrows a slice.

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::address::Cidr;
use crate::gate::Gate;
use crate::hcm::HttpConnectionManager;
use crate::istio::IstioStats;
use crate::metadata::Metadata;
use crate::rbac::RbacFilter;
use crate::strings::Str;
use crate::tcp_proxy::TcpProxy;
use crate::tls::ServerTls;

/// A filter chain. Source: `envoy.config.listener.v3.FilterChain`.
#[derive(Debug)]
pub struct FilterChain {
    /// Its name; may be empty.
    pub name: Str,
    /// What makes it the same chain in another version of the listener.
    pub key: ChainKey,
    /// Limits that a new connection has to pass, in order.
    pub gates: Box<[Arc<Gate>]>,
    /// Its terminal network filter.
    pub terminal: Terminal,
    /// TLS that the client has to speak; `None` is plain TCP.
    pub tls: Option<Arc<ServerTls>>,
    /// Who may use a connection, asked in order at its first byte; of chains that end in a TCP proxy.
    pub access: Box<[Arc<RbacFilter>]>,
    /// Istio's metrics of connections (`istio.stats` as a network filter); those of requests are the connection
    /// manager's.
    pub stats: Option<Arc<IstioStats>>,
    /// Bound of the transport handshake.
    pub transport_connect_timeout: Option<Duration>,
    /// Metadata.
    pub metadata: Option<Arc<Metadata>>,
}

/// Stands for a filter chain's name, its match and whether it serves HTTP or bytes. Chains of two versions of a listener
/// with equal keys are one chain whose settings changed: connections of the one may go on under the other.
///
/// What a chain asks of its peer before the first byte is in here (its TLS context): connections that met the old demands
/// must not go on under new ones. A rotated secret is not a new demand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ChainKey(pub(crate) [u64; 2]);

/// The filter that serves a connection.
#[derive(Debug)]
pub enum Terminal {
    /// HTTP.
    Http(Arc<HttpConnectionManager>),
    /// Bytes.
    Tcp(Arc<TcpProxy>),
}

/// What is known of a connection when its filter chain is chosen.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts<'a> {
    /// Local address: the original destination where it was restored. `None` for Unix sockets.
    pub destination: Option<SocketAddr>,
    /// Server name from the TLS handshake, lower case; empty when there is none.
    pub server_name: &'a str,
    /// `tls` or `raw_buffer`; `raw_buffer` when nothing was detected.
    pub transport_protocol: &'a str,
    /// Application protocols, offered by ALPN or detected by the HTTP inspector, in order.
    pub application_protocols: &'a [&'a str],
    /// Peer of the socket. `None` for Unix sockets.
    pub direct_source: Option<IpAddr>,
    /// Client's address, which a PROXY header may have replaced. `None` for Unix sockets.
    pub source: Option<SocketAddr>,
}

/// The choice, compiled.
#[derive(Debug, Default)]
pub(crate) struct FilterChainMatcher {
    rules: Box<[Rule]>,
    default: Option<u32>,
}

/// One combination of values of one chain. Empty and `None` stand for "not asked".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Rule {
    pub(crate) port: Option<u16>,
    pub(crate) destination: Option<Cidr>,
    /// Exact name; with a leading dot the suffix of a wildcard.
    pub(crate) server_name: Str,
    pub(crate) transport_protocol: Str,
    pub(crate) application_protocol: Str,
    pub(crate) direct_source: Option<Cidr>,
    pub(crate) source_type: SourceType,
    pub(crate) source: Option<Cidr>,
    pub(crate) source_port: Option<u16>,
    pub(crate) chain: u32,
}

/// Source: `FilterChainMatch.ConnectionSourceType`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum SourceType {
    Any,
    SameIpOrLoopback,
    External,
}

impl FilterChainMatcher {
    /// Compiles rules. The error names two chains with an equal combination of values.
    pub(crate) fn new(mut rules: Vec<Rule>, default: Option<u32>) -> Result<FilterChainMatcher, (u32, u32)> {
        rules.sort();
        for pair in rules.windows(2) {
            if (Rule { chain: 0, ..pair[0].clone() }) == (Rule { chain: 0, ..pair[1].clone() })
                && pair[0].chain != pair[1].chain
            {
                return Err((pair[0].chain, pair[1].chain));
            }
        }
        rules.dedup();
        Ok(FilterChainMatcher { rules: rules.into(), default })
    }

    /// Index of the chain for a connection.
    pub(crate) fn find(&self, facts: &ConnectionFacts<'_>) -> Option<u32> {
        self.find_rule(facts).map(|rule| rule.chain).or(self.default)
    }

    fn find_rule(&self, facts: &ConnectionFacts<'_>) -> Option<&Rule> {
        let rules = &self.rules[..];
        let port = facts.destination.map(|destination| destination.port());
        let rules = value_or_any(rules, port, |rule| rule.port)?;
        let rules = longest_range(rules, facts.destination.map(|d| d.ip()), |rule| rule.destination)?;
        let rules = by_server_name(rules, facts.server_name)?;
        let rules = text_or_any(rules, [facts.transport_protocol], |rule| &rule.transport_protocol)?;
        let protocols = facts.application_protocols.iter().copied();
        let rules = text_or_any(rules, protocols, |rule| &rule.application_protocol)?;
        let rules = longest_range(rules, facts.direct_source, |rule| rule.direct_source)?;
        let rules = by_source_type(rules, facts)?;
        let rules = longest_range(rules, facts.source.map(|source| source.ip()), |rule| rule.source)?;
        let rules = value_or_any(rules, facts.source.map(|source| source.port()), |rule| rule.source_port)?;
        rules.first()
    }
}

/// The rules whose key equals the wanted one; `key` must be the slice's leading unequal key.
fn equal(rules: &[Rule], compare: impl Fn(&Rule) -> Ordering) -> Option<&[Rule]> {
    let start = rules.partition_point(|rule| compare(rule) == Ordering::Less);
    let len = rules[start..].partition_point(|rule| compare(rule) == Ordering::Equal);
    (len > 0).then(|| &rules[start..start + len])
}

fn value_or_any(rules: &[Rule], value: Option<u16>, key: impl Fn(&Rule) -> Option<u16>) -> Option<&[Rule]> {
    let exact = value.and_then(|value| equal(rules, |rule| key(rule).cmp(&Some(value))));
    exact.or_else(|| equal(rules, |rule| key(rule).cmp(&None)))
}

fn text_or_any<'a, 'k>(
    rules: &'a [Rule],
    values: impl IntoIterator<Item = &'k str>,
    key: impl Fn(&Rule) -> &Str,
) -> Option<&'a [Rule]> {
    let with = |value: &str| equal(rules, |rule| key(rule).as_str().cmp(value));
    values.into_iter().filter(|value| !value.is_empty()).find_map(with).or_else(|| with(""))
}

/// Exact name, then the wildcard of each parent domain from the longest, then no name.
fn by_server_name<'a>(rules: &'a [Rule], name: &str) -> Option<&'a [Rule]> {
    let with = |value: &str| equal(rules, |rule| rule.server_name.as_str().cmp(value));
    let parents = name.char_indices().skip(1).filter(|(_, c)| *c == '.').map(|(at, _)| &name[at..]);
    let named = (!name.is_empty()).then(|| with(name)).flatten();
    named.or_else(|| parents.filter(|parent| parent.len() > 1).find_map(with)).or_else(|| with(""))
}

/// The most specific range that holds the address, else the rules without a range.
fn longest_range(
    rules: &[Rule],
    address: Option<IpAddr>,
    key: impl Fn(&Rule) -> Option<Cidr>,
) -> Option<&[Rule]> {
    let mut best: Option<(u8, &[Rule])> = None;
    let mut rest = rules;
    while let Some(first) = rest.first() {
        let range = key(first);
        let len = rest.partition_point(|rule| key(rule) == range);
        let (group, after) = rest.split_at(len);
        rest = after;
        // Any range, also one of length zero, is more specific than none.
        let rank = match (range, address) {
            (None, _) => 0,
            (Some(range), Some(address)) if range.contains(address) => range.prefix_len() + 1,
            (Some(_), _) => continue,
        };
        if best.is_none_or(|(best_rank, _)| rank > best_rank) {
            best = Some((rank, group));
        }
    }
    best.map(|(_, group)| group)
}

fn by_source_type<'a>(rules: &'a [Rule], facts: &ConnectionFacts<'_>) -> Option<&'a [Rule]> {
    let with = |wanted: SourceType| equal(rules, move |rule| rule.source_type.cmp(&wanted));
    let local = match (facts.source, facts.destination) {
        (Some(source), Some(destination)) => {
            source.ip().to_canonical().is_loopback()
                || source.ip().to_canonical() == destination.ip().to_canonical()
        }
        (Some(source), None) => source.ip().to_canonical().is_loopback(),
        (None, _) => true,
    };
    let kind = if local { SourceType::SameIpOrLoopback } else { SourceType::External };
    with(kind).or_else(|| with(SourceType::Any))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(chain: u32) -> Rule {
        Rule {
            port: None,
            destination: None,
            server_name: Str::new(""),
            transport_protocol: Str::new(""),
            application_protocol: Str::new(""),
            direct_source: None,
            source_type: SourceType::Any,
            source: None,
            source_port: None,
            chain,
        }
    }

    fn range(text: &str) -> Option<Cidr> {
        let (address, len) = text.split_once('/').unwrap();
        Cidr::new(address.parse().unwrap(), len.parse().unwrap())
    }

    const FACTS: ConnectionFacts<'static> = ConnectionFacts {
        destination: None,
        server_name: "",
        transport_protocol: "raw_buffer",
        application_protocols: &[],
        direct_source: None,
        source: None,
    };

    fn to(address: &str) -> ConnectionFacts<'static> {
        ConnectionFacts { destination: Some(address.parse().unwrap()), ..FACTS }
    }

    fn find(rules: &[Rule], facts: &ConnectionFacts<'_>) -> Option<u32> {
        FilterChainMatcher::new(rules.to_vec(), None).unwrap().find(facts)
    }

    #[test]
    fn there_is_no_way_back_from_a_more_specific_port() {
        let rules = [Rule { port: Some(80), transport_protocol: Str::new("tls"), ..any(1) }, any(2)];
        assert_eq!(find(&rules, &to("10.0.0.1:80")), None);
        assert_eq!(find(&rules, &to("10.0.0.1:81")), Some(2));
        let with_default = FilterChainMatcher::new(rules.to_vec(), Some(7)).unwrap();
        assert_eq!(with_default.find(&to("10.0.0.1:80")), Some(7));
    }

    #[test]
    fn the_longest_destination_range_wins() {
        let rules = [
            any(1),
            Rule { destination: range("10.0.0.0/8"), ..any(2) },
            Rule { destination: range("10.1.0.0/16"), ..any(3) },
            Rule { destination: range("fd00::/8"), ..any(4) },
        ];
        for (address, chain) in [("10.1.2.3:1", 3), ("10.2.2.3:1", 2), ("11.0.0.1:1", 1), ("[fd00::1]:1", 4)]
        {
            assert_eq!(find(&rules, &to(address)), Some(chain), "{address}");
        }
    }

    #[test]
    fn server_names_go_from_exact_to_wildcard_to_none() {
        let named = |name: &str, chain| Rule { server_name: Str::new(name), ..any(chain) };
        let rules = [named("a.b.com", 1), named(".b.com", 2), named(".com", 3), any(4)];
        for (name, chain) in
            [("a.b.com", 1), ("x.b.com", 2), ("x.y.b.com", 2), ("b.com", 3), ("com", 4), ("", 4)]
        {
            let facts = ConnectionFacts { server_name: name, ..FACTS };
            assert_eq!(find(&rules, &facts), Some(chain), "{name}");
        }
    }

    #[test]
    fn the_first_offered_protocol_that_a_chain_wants_decides() {
        let alpn = |name: &str, chain| Rule { application_protocol: Str::new(name), ..any(chain) };
        let rules = [alpn("h2c", 1), alpn("http/1.1", 2), any(3)];
        for (offered, chain) in
            [(&["http/1.1", "h2c"][..], 2), (&["x", "h2c"], 1), (&["http/1.0"], 3), (&[], 3)]
        {
            let facts = ConnectionFacts { application_protocols: offered, ..FACTS };
            assert_eq!(find(&rules, &facts), Some(chain), "{offered:?}");
        }
    }

    #[test]
    fn sources_are_told_apart_by_type_range_and_port() {
        let rules = [
            Rule { source_type: SourceType::SameIpOrLoopback, ..any(1) },
            Rule { source_type: SourceType::External, source: range("10.0.0.0/8"), ..any(2) },
            Rule { source_type: SourceType::External, source_port: Some(7), ..any(3) },
        ];
        for (source, chain) in [
            ("127.0.0.1:9", Some(1)),
            ("192.0.2.1:9", Some(1)),
            ("10.0.0.1:9", Some(2)),
            ("11.0.0.1:7", Some(3)),
            ("11.0.0.1:8", None),
        ] {
            let facts = ConnectionFacts { source: Some(source.parse().unwrap()), ..to("192.0.2.1:80") };
            assert_eq!(find(&rules, &facts), chain, "{source}");
        }
    }

    #[test]
    fn two_chains_with_the_same_match_are_refused() {
        assert_eq!(FilterChainMatcher::new(vec![any(0), any(1)], None).unwrap_err(), (0, 1));
        assert!(FilterChainMatcher::new(vec![any(0), any(0)], None).is_ok());
    }
}
