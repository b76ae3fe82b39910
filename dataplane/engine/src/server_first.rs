//! Protocols in which the server speaks first, on ports whose protocol nobody has named.
//!
//! The inspectors wait for the client's first bytes; a client of MySQL, SMTP or SSH waits for the server's. So while the
//! client is silent we connect to where its bytes would go if it stayed silent, and see who speaks first: a greeting
//! decides for that filter chain, bytes of the client decide as they always do.
//!
//! Compat: a deliberate difference. Envoy waits for `listener_filters_timeout`, or for ever when that is 0. The timeout
//! stays as the way out; `server_first: false` in the listener's metadata, name space `ringsail`, gives Envoy's way.

use std::cell::RefCell;
use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;

use ringsail_runtime::time::sleep;
use ringsail_tables::ClusterSlot;
use ringsail_tables::filter_chain::Terminal;
use ringsail_tables::listener::Listener;

use crate::inflow::Inflow;
use crate::limits::SERVER_FIRST_GRACE;
use crate::relay::{self, Early};
use crate::shard::Shard;
use crate::sniff::{Protocol, Sniffed};

/// Where a client's bytes would go if it stayed silent.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The cluster.
    pub cluster: ClusterSlot,
    /// The client, where the cluster is balanced by it.
    pub source: Option<SocketAddr>,
}

/// The cluster that a connection whose protocol is about to be detected would reach if its client stayed silent, if there
/// is exactly one.
///
/// Nothing is connected that configuration forbids: a listener that closes silent connections has no candidate, and
/// neither has a chain that asks for more than bytes (a filter before the TCP proxy could still refuse the client).
pub fn candidate(
    listener: &Listener,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
) -> Option<Candidate> {
    if !listener.server_first || !listener.continue_on_listener_filters_timeout {
        return None;
    }
    let silent = Sniffed::as_is(Protocol::Unknown);
    let index = silent.facts(peer, peer, local, |facts| listener.filter_chain_index(facts))?;
    let chain = &listener.filter_chains[index];
    if chain.tls.is_some() {
        return None;
    }
    match &chain.terminal {
        Terminal::Tcp(proxy) => Some(Candidate {
            cluster: proxy.only_cluster()?,
            source: peer.filter(|_| proxy.hash_by_source_ip),
        }),
        Terminal::Http(_) => None,
    }
}

/// Connects to the candidate, keeps the connection in `early`, and returns when the server has spoken first.
/// Where that cannot happen any more it never returns: the client, or the timeout, will decide.
pub async fn watch(
    shard: &Rc<Shard>,
    candidate: Candidate,
    restored: Option<SocketAddr>,
    early: &RefCell<Option<Box<Early>>>,
) {
    // A client that speaks first nearly always does so at once; it costs the server no needless connection.
    sleep(SERVER_FIRST_GRACE).await;
    let Some(connected) = relay::connect_early(shard, candidate, restored).await else {
        // The client may still turn out to want something else; if not, the relay reports the failure.
        return pending().await;
    };
    let upstream = connected.upstream.clone();
    *early.borrow_mut() = Some(Box::new(connected));
    let mut greeting = Inflow::default();
    loop {
        match greeting.extend(&upstream.stream).await {
            Ok(true) => {}
            // The server ends a connection on which nothing was said, as a server of HTTP does after a while.
            Ok(false) | Err(_) => break,
        }
        match is_greeting(greeting.bytes()) {
            None => {}
            Some(false) => break,
            Some(true) => {
                if let Some(early) = early.borrow_mut().as_mut() {
                    early.greeting = greeting;
                }
                return;
            }
        }
    }
    early.borrow_mut().take();
    pending().await
}

/// Whether a server's first bytes say that the protocol is none of HTTP; `None` when there are too few to tell.
///
/// Servers of HTTP/1 speak unasked only to say that they waited too long (408), those of HTTP/2 may send their SETTINGS
/// at once. Source: RFC 9110 §15.5.9, RFC 9113 §3.4.
fn is_greeting(bytes: &[u8]) -> Option<bool> {
    const STATUS_LINE: &[u8] = b"HTTP/";
    /// Length (3 bytes, any), type SETTINGS, no ACK, stream 0.
    const SETTINGS: [Option<u8>; 9] =
        [Some(0), None, None, Some(4), Some(0), Some(0), Some(0), Some(0), Some(0)];
    let is_part_of_status = bytes.iter().zip(STATUS_LINE).all(|(byte, wanted)| byte == wanted);
    let is_part_of_settings =
        bytes.iter().zip(SETTINGS).all(|(byte, wanted)| wanted.is_none_or(|wanted| *byte == wanted));
    match (is_part_of_status, is_part_of_settings) {
        (false, false) => Some(true),
        (true, _) if bytes.len() >= STATUS_LINE.len() => Some(false),
        (_, true) if bytes.len() >= SETTINGS.len() => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_of_other_protocols_decide_and_those_of_http_do_not() {
        for (bytes, verdict) in [
            (&b"220 mail.example ESMTP\r\n"[..], Some(true)),
            (b"SSH-2.0-dropbear_2022.83\r\n", Some(true)),
            (b"\x4a\x00\x00\x00\x0a10.11.19-MariaDB", Some(true)),
            (b"+OK ready\r\n", Some(true)),
            (b"HELLO", Some(true)),
            (b"HTTP/1.1 408 Request Timeout\r\n", Some(false)),
            (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03", Some(false)),
            (b"\x00\x00\x12\x04\x00\x00\x00\x00", None),
            (b"HTT", None),
            (b"H", None),
            (b"", None),
        ] {
            assert_eq!(is_greeting(bytes), verdict, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
