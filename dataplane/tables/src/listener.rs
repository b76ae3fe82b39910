//! Listeners: where connections arrive and what is done before a filter chain is chosen.

use std::sync::Arc;
use std::time::Duration;

use crate::access_log::AccessLog;
use crate::address::Address;
use crate::filter_chain::{FilterChain, FilterChainMatcher};
use crate::ids::ListenerId;
use crate::metadata::Metadata;
use crate::strings::Str;

/// A listener. Source: `envoy.config.listener.v3.Listener`.
#[derive(Debug)]
pub struct Listener {
    /// Its id.
    pub id: ListenerId,
    /// Its name.
    pub name: Str,
    /// Prefix in statistics; empty means the address.
    pub stat_prefix: Str,
    /// Addresses; the first is `address`, others are `additional_addresses`.
    pub addresses: Box<[Address]>,
    /// Whether a socket is bound. If not, connections arrive only by hand-over.
    pub bind_to_port: bool,
    /// Whether connections are handed over to the listener of their original destination.
    pub use_original_dst: bool,
    /// IP_TRANSPARENT on the socket.
    pub transparent: bool,
    /// IP_FREEBIND on the socket.
    pub freebind: bool,
    /// Direction of the traffic, for drains and telemetry.
    pub direction: Direction,
    /// Steps before a filter chain is chosen, in order.
    pub listener_filters: Box<[ListenerFilter]>,
    /// Bound of those steps; `None` means none. Default 15 s.
    pub listener_filters_timeout: Option<Duration>,
    /// Whether a connection goes on when the bound passes, instead of being closed.
    pub continue_on_listener_filters_timeout: bool,
    /// Whether servers may speak first while the protocol is being detected. An extension of ours: `server_first` in name
    /// space `ringsail` of the listener's metadata; true unless it is false there.
    pub server_first: bool,
    /// Bytes buffered per connection before reading stops. Default 1 MiB.
    pub buffer_bytes_max: u32,
    /// Length of the accept queue.
    pub backlog: Option<u32>,
    /// Access logs for connections that find no filter chain and of listener filters.
    pub access_logs: Box<[AccessLog]>,
    /// Metadata.
    pub metadata: Option<Arc<Metadata>>,
    /// Chains in configured order, the default chain last if there is one.
    pub filter_chains: Box<[FilterChain]>,
    pub(crate) matcher: FilterChainMatcher,
}

/// Source: `envoy.config.core.v3.TrafficDirection`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// Not said.
    Unspecified,
    /// Toward our workload.
    Inbound,
    /// From our workload.
    Outbound,
}

/// A step between accept and the choice of a filter chain.
#[derive(Clone, PartialEq, Debug)]
pub struct ListenerFilter {
    /// Which step.
    pub kind: ListenerFilterKind,
    /// Destination ports where the step is skipped (`filter_disabled`).
    pub disabled: Option<PortPredicate>,
}

/// The steps we know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerFilterKind {
    /// Take the original destination for the local address.
    OriginalDst,
    /// Detect TLS, read server name and ALPN.
    TlsInspector,
    /// Detect HTTP and its version.
    HttpInspector,
    /// Take the addresses of a PROXY header for the connection's.
    ProxyProtocol(ProxyProtocol),
}

/// Which PROXY headers are taken. Source: `envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyProtocol {
    /// Whether connections without a header are served.
    pub optional: bool,
    /// Whether headers of version 1 are taken.
    pub v1: bool,
    /// The same of version 2.
    pub v2: bool,
}

/// Source: `envoy.config.listener.v3.ListenerFilterChainMatchPredicate`.
#[derive(Clone, PartialEq, Debug)]
pub enum PortPredicate {
    /// Always.
    Any,
    /// Destination port in `start..end`.
    Range {
        /// First port.
        start: u32,
        /// First port beyond.
        end: u32,
    },
    /// All of these.
    And(Box<[PortPredicate]>),
    /// Any of these.
    Or(Box<[PortPredicate]>),
    /// Not this.
    Not(Box<PortPredicate>),
}

impl PortPredicate {
    /// Whether the predicate holds for a destination port.
    pub fn holds(&self, port: u16) -> bool {
        match self {
            PortPredicate::Any => true,
            PortPredicate::Range { start, end } => (*start..*end).contains(&u32::from(port)),
            PortPredicate::And(rules) => rules.iter().all(|rule| rule.holds(port)),
            PortPredicate::Or(rules) => rules.iter().any(|rule| rule.holds(port)),
            PortPredicate::Not(rule) => !rule.holds(port),
        }
    }
}

impl Listener {
    /// The filter chain for a connection; `None` closes it (`filter_chain_not_found`).
    pub fn filter_chain(
        &self,
        connection: &crate::filter_chain::ConnectionFacts<'_>,
    ) -> Option<&FilterChain> {
        self.filter_chain_index(connection).map(|index| &self.filter_chains[index])
    }

    /// The same as a position in [`Self::filter_chains`].
    pub fn filter_chain_index(&self, connection: &crate::filter_chain::ConnectionFacts<'_>) -> Option<usize> {
        self.matcher.find(connection).map(|index| index as usize)
    }

    /// Whether `filter` runs for a connection to this port.
    pub fn runs(filter: &ListenerFilter, destination_port: u16) -> bool {
        !filter.disabled.as_ref().is_some_and(|disabled| disabled.holds(destination_port))
    }
}
