//! Names of resources, as istiod gives them. Tools and metrics parse these.

use std::net::IpAddr;

/// Cluster without hosts: traffic sent there is refused.
pub(crate) const BLACK_HOLE: &str = "BlackHoleCluster";
/// Cluster of the address the client dialled.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";
/// Cluster of the address an inbound connection was for.
pub(crate) const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
/// Captured outbound listener.
pub(crate) const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// Captured inbound listener.
pub(crate) const VIRTUAL_INBOUND: &str = "virtualInbound";
/// Fall-back chain of a sniffing listener.
pub(crate) const PASSTHROUGH_CHAIN: &str = "PassthroughFilterChain";
/// Catch-all virtual host and route that forwards.
pub(crate) const ALLOW_ANY: &str = "allow_any";
/// Catch-all virtual host and route that refuses.
pub(crate) const BLOCK_ALL: &str = "block_all";
/// Route configuration of the explicit HTTP proxy listener.
pub(crate) const HTTP_PROXY_ROUTES: &str = "http_proxy";

/// `outbound|<port>|<subset>|<host>`.
pub(crate) fn outbound_cluster(port: u32, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// `inbound|<workload port>||`.
pub(crate) fn inbound_cluster(port: u32) -> String {
    format!("inbound|{port}||")
}

/// `<address>_<port>`.
pub(crate) fn listener(address: IpAddr, port: u32) -> String {
    format!("{address}_{port}")
}

/// Statistics names end with a delimiter that tag extraction relies on.
pub(crate) fn stat_prefix(name: &str) -> String {
    format!("{name};")
}

/// `<host>:<port>`, IPv6 addresses in brackets.
pub(crate) fn host_port(host: &str, port: u32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Path of a networking object, as metadata of what was built from it.
pub(crate) fn config_path(kind: &str, namespace: &str, name: &str) -> String {
    format!("/apis/networking.istio.io/v1/namespaces/{namespace}/{kind}/{name}")
}
