//! What a proxy is configured to do, whatever the peer.

use std::path::PathBuf;

/// A configuration that several peers can be given.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// What goes in and out.
    pub protocol: Protocol,
    /// Where the backend listens.
    pub upstream_port: u16,
    /// Further clusters with a virtual host each, that get no traffic.
    pub clusters: usize,
    /// Further virtual hosts that lead to the backend.
    pub hosts: usize,
    /// A full text access log in Istio's default format, written here.
    pub access_log: Option<PathBuf>,
    /// Istio's standard metrics. Stock Envoy has no such filter and runs without.
    pub metrics: bool,
    /// A second proxy of the same kind behind the first: the way between two sidecars.
    pub two_hops: bool,
}

/// What a proxy speaks downstream, and upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 on both sides.
    Http1,
    /// HTTP/2 downstream, HTTP/1.1 upstream.
    Http2ToHttp1,
    /// HTTP/2 on both sides.
    Http2,
    /// Bytes.
    Tcp,
}

impl Scenario {
    /// The plain case: `protocol` to a backend on `upstream_port`.
    pub fn new(protocol: Protocol, upstream_port: u16) -> Scenario {
        Scenario {
            protocol,
            upstream_port,
            clusters: 0,
            hosts: 0,
            access_log: None,
            metrics: false,
            two_hops: false,
        }
    }

    /// The name that virtual host number `index` of [`Scenario::hosts`] answers to.
    pub fn host(index: usize) -> String {
        format!("host-{index}.shop.svc.cluster.local")
    }
}

impl Protocol {
    /// HTTP/2 towards clients.
    pub fn is_http2(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::Http2ToHttp1)
    }
}
