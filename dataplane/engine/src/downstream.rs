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

/// Whether the connection begins with HTTP/2's preface. What was received stays in `inflow`.
async fn speaks_http2(shard: &Shard, connection: &Connection, inflow: &mut Inflow) -> bool {
    let limit = match connection.enter(shard).manager() {
        None => return false,
        Some(manager) => match manager.codec {
            Codec::Http1 => return false,
            Codec::Http2 => return true,
            Codec::Auto => manager.request_headers_timeout.or(manager.idle_timeout),
        },
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
    connection.until_drained(shard, looking).await.unwrap_or(false)
}
