//! Filter chains before they become Envoy messages: what a listener is merged from.

use ringsail_xds::envoy::config::core::v3::CidrRange;
use ringsail_xds::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter,
};
use ringsail_xds::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use ringsail_xds::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use ringsail_xds::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use ringsail_xds::pack;

use crate::{names, xds};

/// ALPN values the HTTP inspector sets for plaintext requests that are routed. HTTP/1.0 is listed only where it is
/// served.
const PLAINTEXT_HTTP: [&str; 2] = ["http/1.1", "h2c"];
/// What the HTTP inspector calls HTTP/1.0.
const PLAINTEXT_HTTP10: &str = "http/1.0";
/// First bytes the TLS inspector reads. Source: istiod.
const TLS_INSPECTOR_BYTES: u32 = 512;
/// Time for a TLS handshake on an outbound chain. Source: `PILOT_GATEWAY_TRANSPORT_SOCKET_CONNECT_TIMEOUT`.
const TRANSPORT_CONNECT_TIMEOUT: prost_types::Duration = prost_types::Duration { seconds: 15, nanos: 0 };

/// A filter chain and what it matches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    pub(crate) server_names: Vec<String>,
    pub(crate) prefix_ranges: Vec<CidrRange>,
    /// Only plaintext HTTP, found by looking at the first bytes.
    pub(crate) sniffs_http: bool,
    pub(crate) filters: Vec<Filter>,
    pub(crate) metadata: Option<ringsail_xds::envoy::config::core::v3::Metadata>,
}

impl Chain {
    /// A chain that matches everything.
    pub(crate) fn of(filter: Filter) -> Chain {
        Chain { filters: vec![filter], ..Chain::default() }
    }

    /// Whether nothing is tested.
    pub(crate) fn matches_all(&self) -> bool {
        self.server_names.is_empty() && self.prefix_ranges.is_empty() && !self.sniffs_http
    }

    /// Whether two chains match the same connections, so that a listener can hold only one of them.
    pub(crate) fn same_match(&self, other: &Chain) -> bool {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        self.sniffs_http == other.sniffs_http
            && sorted(&self.server_names) == sorted(&other.server_names)
            && self.prefix_ranges == other.prefix_ranges
    }

    fn into_envoy(self, http10: bool) -> FilterChain {
        let mut alpn: Vec<String> = Vec::new();
        if self.sniffs_http {
            alpn.extend(PLAINTEXT_HTTP.map(str::to_owned));
            alpn.extend(http10.then(|| PLAINTEXT_HTTP10.to_owned()));
        }
        let matches_all = self.matches_all();
        let chain_match = FilterChainMatch {
            server_names: self.server_names,
            prefix_ranges: self.prefix_ranges,
            transport_protocol: if self.sniffs_http { "raw_buffer".to_owned() } else { String::new() },
            application_protocols: alpn,
            ..FilterChainMatch::default()
        };
        FilterChain {
            filter_chain_match: (!matches_all).then_some(chain_match),
            filters: self.filters,
            metadata: self.metadata,
            transport_socket_connect_timeout: Some(TRANSPORT_CONNECT_TIMEOUT),
            ..FilterChain::default()
        }
    }
}

/// Puts chains into a listener: inspectors as the chains need them, a match-all chain as the fall-back, and
/// `fall_back` when no chain matches everything.
pub(crate) fn fill(
    listener: &mut Listener,
    chains: Vec<Chain>,
    fall_back: Option<Filter>,
    http10: bool,
    detection_timeout: Option<prost_types::Duration>,
) {
    if chains.iter().any(|chain| !chain.server_names.is_empty()) {
        listener.listener_filters.push(tls_inspector());
    }
    if chains.iter().any(|chain| chain.sniffs_http) {
        listener.listener_filters.push(http_inspector());
        // Without a timeout a client that says nothing is waited for.
        listener.listener_filters_timeout = Some(detection_timeout.unwrap_or(xds::ZERO));
    } else {
        listener.listener_filters_timeout = Some(xds::ZERO);
    }
    for chain in chains {
        if chain.matches_all() {
            listener.default_filter_chain = Some(chain.into_envoy(http10));
        } else {
            listener.filter_chains.push(chain.into_envoy(http10));
        }
    }
    match (listener.default_filter_chain.take(), listener.filter_chains.is_empty(), fall_back) {
        (Some(only), true, _) => listener.filter_chains.push(only),
        (Some(default), false, _) => listener.default_filter_chain = Some(default),
        (None, _, Some(fall_back)) => {
            listener.default_filter_chain = Some(FilterChain {
                name: names::PASSTHROUGH_CHAIN.to_owned(),
                filter_chain_match: Some(FilterChainMatch::default()),
                filters: vec![fall_back],
                ..FilterChain::default()
            });
        }
        (None, _, None) => {}
    }
}

/// Finds server names and ALPN of TLS.
pub(crate) fn tls_inspector() -> ListenerFilter {
    let config =
        TlsInspector { initial_read_buffer_size: Some(TLS_INSPECTOR_BYTES), ..TlsInspector::default() };
    xds::listener_filter("envoy.filters.listener.tls_inspector", pack(&config))
}

/// Takes the client's address from what stands in front of the gateway. Comes before all that looks at the bytes.
pub(crate) fn proxy_protocol() -> ListenerFilter {
    xds::listener_filter("envoy.filters.listener.proxy_protocol", pack(&ProxyProtocol::default()))
}

/// Tells plaintext HTTP from other bytes.
pub(crate) fn http_inspector() -> ListenerFilter {
    xds::listener_filter("envoy.filters.listener.http_inspector", pack(&HttpInspector {}))
}
