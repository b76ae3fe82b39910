//! Request heads before routing: who the client is, what it may say, and what we add.
//!
//! Source: Envoy's `ConnectionManagerUtility::mutateRequestHeaders`, as documented under "HTTP header manipulation"
//! and "x-forwarded-for"; the order of added headers as observed on the wire.

use std::net::{IpAddr, SocketAddr};

use ringsail_http::{EditError, RequestHead, hop};
use ringsail_tables::hcm::{HttpConnectionManager, StripPort};
use ringsail_tables::request::without_port;

use super::client_cert;
use crate::request_id;
use crate::tls::Facts;

/// What is known of the connection a request came on.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Its TLS session, if it has one.
    pub tls: Option<&'a Facts>,
    /// The socket's other end; `None` for a Unix socket.
    pub address: Option<SocketAddr>,
    /// Our end: the original destination where it was restored. `None` for a Unix socket.
    pub local: Option<SocketAddr>,
    /// Written to `x-forwarded-for` in place of a loopback peer.
    pub own_address: IpAddr,
}

/// Who sent the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client's address, by `x-forwarded-for` or the peer's; port 0 when taken from the header.
    pub client: Option<SocketAddr>,
    /// The client is inside the mesh's own network (`internal_address_config`): its control headers count.
    pub internal: bool,
}

/// Cuts the authority as the connection manager asks: its port, a trailing dot.
pub fn settle_authority(
    head: &mut RequestHead,
    manager: &HttpConnectionManager,
    local_port: Option<u16>,
) -> Result<(), EditError> {
    let Some(authority) = head.authority() else { return Ok(()) };
    if manager.strip_port == StripPort::No && !manager.strip_trailing_host_dot {
        return Ok(());
    }
    let text = String::from_utf8_lossy(authority);
    let mut settled: &str = &text;
    let host = without_port(settled);
    let port = settled.get(host.len() + 1..).and_then(|port| port.parse::<u16>().ok());
    match manager.strip_port {
        StripPort::Any => settled = host,
        StripPort::Matching if port.is_some() && port == local_port => settled = host,
        StripPort::Matching | StripPort::No => {}
    }
    let mut settled = settled.to_owned();
    if manager.strip_trailing_host_dot {
        let host_len = without_port(&settled).len();
        if settled[..host_len].ends_with('.') {
            settled.remove(host_len - 1);
        }
    }
    if settled.as_bytes() != authority {
        head.set_authority(settled.as_bytes())?;
    }
    Ok(())
}

/// Removes what a client may not say, adds what the next hop is to know. `keep_upgrade` leaves an accepted upgrade in
/// place. `random` is used for a new request id.
pub fn settle_fields(
    head: &mut RequestHead,
    manager: &HttpConnectionManager,
    peer: Peer<'_>,
    keep_upgrade: bool,
    random: impl FnOnce() -> u128,
) -> Result<Origin, EditError> {
    hop::strip_request(head, keep_upgrade);
    hop::remove_bad_referer(head);

    let mut single_address = true;
    let mut client = None;
    if manager.use_remote_address {
        single_address = !head.fields().contains("x-forwarded-for");
        if manager.xff_trusted_hops > 0 {
            client = forwarded_address(head, manager.xff_trusted_hops - 1).map(|(address, _)| address);
        }
        client = client.or(peer.address);
        if let (false, Some(address)) = (manager.skip_xff_append, peer.address) {
            let ip = address.ip().to_canonical();
            append_forwarded_for(head, if ip.is_loopback() { peer.own_address } else { ip })?;
        }
    } else if let Some((address, single)) = forwarded_address(head, manager.xff_trusted_hops) {
        client = Some(address);
        single_address = single;
    }
    let trusted_proxy = !manager.use_remote_address || manager.xff_trusted_hops > 0;
    if !trusted_proxy || !head.fields().contains("x-forwarded-proto") {
        let scheme: &[u8] = if peer.tls.is_some() { b"https" } else { b"http" };
        head.fields_mut().set("x-forwarded-proto", scheme)?;
    }
    if manager.append_x_forwarded_port
        && let Some(local) = peer.local
    {
        let port = crate::decimal::Decimal::new(local.port().into());
        head.fields_mut().set("x-forwarded-port", port.text())?;
    }

    if !manager.via.is_empty() {
        let mut value = Vec::new();
        if head.fields().get_joined("via", &mut value) {
            value.extend_from_slice(b", ");
        }
        value.extend_from_slice(manager.via.as_bytes());
        head.fields_mut().set("via", &value)?;
    }
    let client = client.or(peer.address);
    let internal = single_address
        && match client {
            Some(address) => manager.internal_addresses.iter().any(|range| range.contains(address.ip())),
            None => manager.internal_unix_sockets,
        };
    let edge = manager.use_remote_address && !internal;
    remove_reserved(head, internal, edge);
    client_cert::settle(head, manager, peer.tls)?;
    if internal {
        head.fields_mut().set("x-envoy-internal", b"true")?;
    } else if edge && let Some(address) = client {
        let ip = address.ip().to_canonical().to_string();
        head.fields_mut().set("x-envoy-external-address", ip.as_bytes())?;
    }
    if manager.generate_request_id {
        let replace = edge && !manager.preserve_external_request_id;
        if replace || !head.fields().contains("x-request-id") {
            head.fields_mut().set("x-request-id", &request_id::uuid4(random()))?;
        }
    }
    Ok(Origin { client, internal })
}

/// The address `hops` places from the end of `x-forwarded-for`, and whether it is the only one.
fn forwarded_address(head: &RequestHead, hops: u32) -> Option<(SocketAddr, bool)> {
    let mut addresses = 0_u32;
    let mut found = None;
    let values: Vec<&[u8]> = head.fields().get_all("x-forwarded-for").collect();
    for value in values.iter().rev() {
        for element in value.split(|byte| *byte == b',').rev() {
            if addresses == hops {
                found = parse_address(element.trim_ascii());
            }
            addresses += 1;
        }
    }
    found.map(|ip| (SocketAddr::new(ip, 0), addresses == 1))
}

fn parse_address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Adds an address to the end of `x-forwarded-for`.
pub fn append_forwarded_for(head: &mut RequestHead, ip: IpAddr) -> Result<(), EditError> {
    let mut value = Vec::new();
    if head.fields().get_joined("x-forwarded-for", &mut value) {
        value.push(b',');
    }
    value.extend_from_slice(ip.to_string().as_bytes());
    head.fields_mut().set("x-forwarded-for", &value)
}

/// Control headers that only an internal client may send.
const INTERNAL_ONLY: [&str; 15] = [
    "x-envoy-internal",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-original-url",
    "x-envoy-hedge-on-per-try-timeout",
];

/// Control headers that additionally no client of an edge may send.
const NOT_AT_THE_EDGE: [&str; 4] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-path",
];

/// One pass over the fields; most requests have none of these.
fn remove_reserved(head: &mut RequestHead, internal: bool, edge: bool) {
    let is =
        |name: &[u8], list: &[&str]| list.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()));
    head.fields_mut().retain(|name, _| {
        if name.len() < 8 || !name[..2].eq_ignore_ascii_case(b"x-") {
            return true;
        }
        if name.get(..8).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"x-envoy-")) {
            return !(!internal && is(name, &INTERNAL_ONLY) || edge && is(name, &NOT_AT_THE_EDGE));
        }
        true
    });
}
