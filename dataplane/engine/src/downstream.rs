//! The downstream half of the engine: client connections that speak HTTP.

pub mod h1;

use std::pin::pin;
use std::time::Duration;

use ringsail_runtime::time::timeout;
use ringsail_tables::hcm::Codec;

use crate::connection::Connection;
use crate::http2::downstream::PREFACE;
use crate::inflow::Inflow;
use crate::shard::Shard;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
    /// Something else than it has to.
    Neither,
}

/// What the connection begins with. What was received stays in `inflow`.
async fn spoken(shard: &Shard, connection: &Connection, inflow: &mut Inflow) -> Spoken {
    let (limit, otherwise) = match connection.enter(shard).manager() {
        None => return Spoken::Neither,
        Some(manager) => {
            let limit = manager.request_headers_timeout.or(manager.idle_timeout);
            match manager.codec {
                Codec::Http1 => return Spoken::Http1,
                // Compat: nothing is said to a client that begins otherwise.
                Codec::Http2 => (limit, Spoken::Neither),
                Codec::Auto => match connection.stream.tls().map(|facts| &*facts.alpn) {
                    // Agreed on in the handshake; who then speaks otherwise has to be refused.
                    Some(b"h2") => (limit, Spoken::Neither),
                    Some(b"http/1.1" | b"http/1.0") => return Spoken::Http1,
                    Some(_) | None => (limit, Spoken::Http1),
                },
            }
        }
    };
    let looking = async {
        loop {
            let shared = inflow.bytes().len().min(PREFACE.len());
            if inflow.bytes()[..shared] != PREFACE[..shared] {
                return false;
            }
            if shared == PREFACE.len() {
                return true;
            }
            if !inflow.extend(&connection.stream).await.unwrap_or(false) {
                return false;
            }
        }
    };
    // What is no preface in time is for HTTP/1 to refuse.
    let looking = pin!(timeout(limit.unwrap_or(Duration::MAX), looking));
    let found = connection.until_drained(shard, looking).await.unwrap_or(false);
    if found { Spoken::Http2 } else { otherwise }
}
