//! What a new connection speaks, by its first bytes: for listeners whose filter chains depend on it.
//!
//! Compat: Envoy's TLS and HTTP inspectors, as observed: an HTTP/1.1 request line (any method) gives `http/1.1`, one of
//! HTTP/1.0 `http/1.0`, the HTTP/2 preface `h2c`; bytes that cannot become one of these give nothing at once; a part
//! that still can is waited for.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ringsail_runtime::net::Stream;
use ringsail_runtime::time::timeout;
use ringsail_tables::filter_chain::ConnectionFacts;

use crate::client_hello::{self, ClientHello, Parsed};
use crate::inflow::Inflow;
use crate::limits::SNIFF_BYTES_MAX;

/// Which inspectors a listener runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspectors {
    /// The TLS inspector.
    pub tls: bool,
    /// The HTTP inspector.
    pub http: bool,
}

/// What the bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// No inspector runs.
    NotLooked,
    /// A TLS client hello.
    Tls,
    /// HTTP/1.0 or 0.9.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Something else, or not enough to tell.
    Unknown,
}

/// The result of looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sniffed {
    /// What it is.
    pub protocol: Protocol,
    /// What a TLS client asks for.
    pub hello: Option<Box<ClientHello>>,
    /// The time ran out before that was clear.
    pub timed_out: bool,
}

impl Sniffed {
    /// The outcome without looking, or without an end of it.
    pub fn as_is(protocol: Protocol) -> Sniffed {
        Sniffed { protocol, hello: None, timed_out: false }
    }

    /// The server name a TLS client asked for, lower case; empty when none is known.
    pub fn server_name(&self) -> &str {
        self.hello.as_ref().map_or("", |hello| &hello.server_name)
    }

    /// What a filter chain is chosen by, for a connection between these addresses.
    pub fn facts<R>(
        &self,
        direct_peer: Option<SocketAddr>,
        peer: Option<SocketAddr>,
        local: Option<SocketAddr>,
        choose: impl FnOnce(&ConnectionFacts<'_>) -> R,
    ) -> R {
        let offered: Vec<&str>;
        let application_protocols = match (self.protocol, &self.hello) {
            (Protocol::Http10, _) => &["http/1.0"][..],
            (Protocol::Http11, _) => &["http/1.1"],
            (Protocol::Http2, _) => &["h2c"],
            (Protocol::Tls, Some(hello)) => {
                offered = hello.application_protocols.iter().map(String::as_str).collect();
                &offered
            }
            (Protocol::Tls, None) | (Protocol::NotLooked | Protocol::Unknown, _) => &[],
        };
        choose(&ConnectionFacts {
            destination: local,
            server_name: self.server_name(),
            transport_protocol: if self.protocol == Protocol::Tls { "tls" } else { "raw_buffer" },
            application_protocols,
            direct_source: direct_peer.map(|peer| peer.ip()),
            source: peer,
        })
    }
}

/// Looks at the first bytes; they stay in `inflow`. The error means that the connection is gone.
pub async fn sniff(
    stream: &Stream,
    inflow: &mut Inflow,
    inspectors: Inspectors,
    limit: Option<Duration>,
) -> io::Result<Sniffed> {
    let looking = look(stream, inflow, inspectors);
    match limit {
        Some(limit) => match timeout(limit, looking).await {
            Ok(result) => result,
            Err(_) => Ok(Sniffed { timed_out: true, ..Sniffed::as_is(Protocol::Unknown) }),
        },
        None => looking.await,
    }
}

async fn look(stream: &Stream, inflow: &mut Inflow, inspectors: Inspectors) -> io::Result<Sniffed> {
    // What came behind a PROXY header is here already.
    let mut fresh = !inflow.is_empty();
    loop {
        if !std::mem::take(&mut fresh) && !inflow.extend_raw(stream).await? {
            // The client sends no more: what is here has to do. A part of a client hello does not.
            let is_hello = recognize(inflow.bytes(), inspectors) == Some(Protocol::Tls);
            return if inflow.is_empty() || is_hello {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(Sniffed::as_is(Protocol::Unknown))
            };
        }
        let full = inflow.bytes().len() >= SNIFF_BYTES_MAX;
        match recognize(inflow.bytes(), inspectors) {
            Some(Protocol::Tls) => match client_hello::parse(inflow.bytes()) {
                Parsed::Complete(hello) => {
                    return Ok(Sniffed { hello: Some(Box::new(hello)), ..Sniffed::as_is(Protocol::Tls) });
                }
                // Compat: Envoy closes a connection whose client hello is too large, and takes bytes that only look
                // like one for plain ones.
                Parsed::Incomplete if full => return Err(io::ErrorKind::InvalidData.into()),
                Parsed::Incomplete => {}
                Parsed::Invalid => return Ok(Sniffed::as_is(Protocol::Unknown)),
            },
            Some(protocol) => return Ok(Sniffed::as_is(protocol)),
            None if full => return Ok(Sniffed::as_is(Protocol::Unknown)),
            None => {}
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What these first bytes of a connection are; `None` when more are needed. More of them never change an answer.
pub fn recognize(bytes: &[u8], inspectors: Inspectors) -> Option<Protocol> {
    if inspectors.tls {
        // A TLS record of type handshake, version 3.x, that begins with a client hello.
        let hello: [&[u8]; 6] = [&[0x16], &[0x03], &[0, 1, 2, 3, 4], &[], &[], &[0x01]];
        let fits =
            bytes.iter().zip(hello).all(|(byte, allowed)| allowed.is_empty() || allowed.contains(byte));
        match (fits, bytes.len() >= hello.len()) {
            (true, true) => return Some(Protocol::Tls),
            (true, false) => return None,
            (false, _) => {}
        }
    }
    if inspectors.http { recognize_http(bytes) } else { Some(Protocol::Unknown) }
}

fn recognize_http(bytes: &[u8]) -> Option<Protocol> {
    let shared = bytes.len().min(PREFACE.len());
    if bytes[..shared] == PREFACE[..shared] {
        return (shared == PREFACE.len()).then_some(Protocol::Http2);
    }
    let line_end = bytes.iter().position(|byte| *byte == b'\n');
    let line = &bytes[..line_end.unwrap_or(bytes.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    let token = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'-' || *byte == b'_';
    if method.is_empty() || method.len() > METHOD_BYTES_MAX || !method.iter().all(token) {
        return Some(Protocol::Unknown);
    }
    let rest: Vec<&[u8]> = words.collect();
    let visible = |word: &&[u8]| word.iter().all(|byte| (0x21..=0x7e).contains(byte) || *byte >= 0x80);
    if !rest.iter().all(visible) {
        return Some(Protocol::Unknown);
    }
    match (rest.as_slice(), line_end) {
        // As it was before the version came.
        ([b"", _], Some(_)) => Some(Protocol::Unknown),
        ([_, b"HTTP/1.1"], Some(_)) => Some(Protocol::Http11),
        ([_, b"HTTP/1.0"] | [_], Some(_)) => Some(Protocol::Http10),
        (_, Some(_)) => Some(Protocol::Unknown),
        // Nothing that comes after can make a request line of it.
        ([target, version], None) if target.is_empty() || !is_part_of_version(version) => {
            Some(Protocol::Unknown)
        }
        ([_, _, _, ..], None) => Some(Protocol::Unknown),
        (_, None) => None,
    }
}

fn is_part_of_version(word: &[u8]) -> bool {
    let full = b"HTTP/1.";
    let shared = word.len().min(full.len());
    word[..shared] == full[..shared]
}

/// No registered method is longer.
const METHOD_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Inspectors = Inspectors { tls: true, http: true };

    fn verdict(bytes: &[u8]) -> Option<Protocol> {
        recognize(bytes, BOTH)
    }

    #[test]
    fn first_bytes_tell_the_protocol_as_envoy_does() {
        for (bytes, protocol) in [
            (&b"GET /x HTTP/1.1\r\n"[..], Protocol::Http11),
            (b"PURGE /x HTTP/1.1\r\n", Protocol::Http11),
            (b"FOO /x HTTP/1.1\r\n", Protocol::Http11),
            (b"GET /x HTTP/1.0\r\n", Protocol::Http10),
            (b"GET /x\r\n", Protocol::Http10),
            (PREFACE, Protocol::Http2),
            (b"\x16\x03\x01\x02\x00\x01", Protocol::Tls),
            (b"\x16\x03\x01\x02\x00\x02", Protocol::Unknown),
            (b"*1\r\n$4\r\nPING\r\n", Protocol::Unknown),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Protocol::Unknown),
            (b"hello world\r\n", Protocol::Http10),
            (b"\x00\x01\x02", Protocol::Unknown),
            (b"GET  HTTP/1.1\r\n", Protocol::Unknown),
            (b"GET  HTTP/1.0\r\n", Protocol::Unknown),
        ] {
            assert_eq!(verdict(bytes), Some(protocol), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_may_still_become_a_request_line_is_waited_for() {
        for bytes in [&b""[..], b"GE", b"GET /x", b"GET /x HTT", b"PRI * HTTP/2", b"\x16\x03"] {
            assert_eq!(verdict(bytes), None, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn without_the_inspector_nothing_is_recognized() {
        let none = Inspectors { tls: false, http: false };
        assert_eq!(recognize(b"GET / HTTP/1.1\r\n", none), Some(Protocol::Unknown));
    }
}
