//! An HTTP/1 connection: heads in, one exchange after the other, until either side ends it.
//!
//! ```text
//!         bytes                head complete             KeepAlive
//! idle ─────────► reading head ─────────────► exchange ─────────────► idle (or reading, when bytes are left)
//!  │ FIN, idle timeout, drain    │ bad head      │ Close, DelayedClose
//!  ▼                             ▼               ▼
//! closed ◄────────────────── delayed close ◄─────┘
//! ```
//!
//! A pipelined request waits, at most one block of it in memory, until the answer before it is sent: answers leave
//! in the order of their requests because there is one exchange at a time. While idle the task holds the socket, a
//! few words of state and no buffer; all of an exchange lives in one box made when the first byte comes.

use std::rc::Rc;
use std::time::Duration;

use ringsail_http::{Progress as Decoded, RequestDecoder, RequestOptions, UnderscoreNames};
use ringsail_runtime::time::{now, sleep, timeout};
use ringsail_runtime::{Either, drain, race};
use ringsail_tables::hcm::{HttpConnectionManager, UnderscoreHeaders};
use ringsail_telemetry::HttpCounter;

use super::{Spoken, spoken};
use crate::connection::Connection;
use crate::exchange::{Client, Ending, exchange, refuse};
use crate::failure::Failure;
use crate::http2;
use crate::inflow::Inflow;
use crate::limits::RECEIVE_BYTES_MAX;
use crate::shard::{Scratch, Shard};
use crate::stream::Stream;

/// Serves a connection to its end. One that turns out to speak HTTP/2 goes on there.
///
/// A block and no `async fn`: that keeps each of its arguments twice for as long as it lasts, idle or not.
#[allow(clippy::manual_async_fn)]
pub fn serve(shard: Rc<Shard>, connection: Rc<Connection>, mut waiting: Inflow) -> impl Future<Output = ()> {
    async move {
        let mut decided = false;
        loop {
            if waiting.is_empty() && !await_request(&shard, &connection).await {
                return;
            }
            // Boxed, here and below, so that an idle connection does not carry the room these need.
            if !decided {
                match Box::pin(spoken(&shard, &connection, &mut waiting)).await {
                    Spoken::Http1 => connection.count(HttpCounter::DownstreamCxHttp1Total),
                    Spoken::Http2 => {
                        return Box::pin(http2::downstream::serve(shard, connection, waiting)).await;
                    }
                    Spoken::Neither => return connection.count(HttpCounter::DownstreamCxProtocolError),
                }
            }
            decided = true;
            let mut burst = Box::pin(serve_burst(&shard, &connection, waiting));
            match connection.until_drained(&shard, burst.as_mut()).await {
                Ending::KeepAlive => waiting = Inflow::default(),
                Ending::Close => return,
                Ending::DelayedClose => {
                    let pause = connection
                        .enter(&shard)
                        .manager()
                        .map_or(Duration::ZERO, |m| m.delayed_close_timeout);
                    return Box::pin(linger(&connection.stream, pause)).await;
                }
            }
        }
    }
}

/// Waits for the first byte of a request. False when the connection is to be closed instead.
///
/// Compat: an idle connection whose listener drains is left open for its next request, whose answer says that it is the
/// last, until the drain time is over; only when the process ends it is closed at once.
async fn await_request(shard: &Shard, connection: &Connection) -> bool {
    let idle_timeout = match connection.enter(shard).manager() {
        Some(manager) => manager.idle_timeout,
        None => return false,
    };
    let ended = race(drain::drain_begun(), connection.drained(shard));
    let news = race(connection.stream.readable(), ended);
    let readable = match idle_timeout {
        Some(limit) => match timeout(limit, news).await {
            Ok(news) => news,
            Err(_) => {
                connection.count(HttpCounter::DownstreamCxIdleTimeout);
                return false;
            }
        },
        None => news.await,
    };
    match readable {
        Either::Left(ready) => ready.is_ok(),
        Either::Right(_) => {
            connection.count(HttpCounter::DownstreamCxDrainClose);
            false
        }
    }
}

/// Serves requests as long as bytes are at hand; then the connection is idle again.
async fn serve_burst(shard: &Rc<Shard>, connection: &Connection, mut inflow: Inflow) -> Ending {
    let mut scratch = shard.take_scratch();
    let ending = loop {
        let entered = connection.enter(shard);
        let Some(manager) = entered.manager() else { break Ending::Close };
        match receive_head(connection, manager, &mut scratch, &mut inflow).await {
            Ok(true) => {}
            // The client ended its side between requests, or never began one.
            Ok(false) => break Ending::Close,
            Err(failure) => {
                let client = Client::H1(&mut inflow);
                break refuse(shard, connection, &entered, &mut scratch, client, failure).await;
            }
        }
        connection.requests.set(connection.requests.get().saturating_add(1));
        // Again, because the head may have taken a while to come.
        let entered = connection.enter(shard);
        match exchange(shard, connection, &entered, &mut scratch, Client::H1(&mut inflow)).await {
            Ending::KeepAlive if inflow.is_empty() => break Ending::KeepAlive,
            Ending::KeepAlive => {}
            ending => break ending,
        }
    };
    shard.give_back_scratch(scratch);
    ending
}

/// Receives a head into the scratch. False when the client closed before a head began.
async fn receive_head(
    connection: &Connection,
    manager: &HttpConnectionManager,
    scratch: &mut Scratch,
    inflow: &mut Inflow,
) -> Result<bool, Failure> {
    let mut decoder = RequestDecoder::new(options(manager));
    scratch.request_head_bytes = 0;
    let began = now();
    loop {
        let limit = match (decoder.in_head(), manager.request_headers_timeout, manager.stream_idle_timeout) {
            (true, Some(headers), _) => Some((began + headers, Failure::RequestHeadersTimeout)),
            (true, None, Some(idle)) => Some((now() + idle, Failure::StreamIdle)),
            _ => None,
        };
        let filled = match limit {
            Some((deadline, failure)) => {
                match ringsail_runtime::time::timeout_at(deadline, inflow.fill(&connection.stream)).await {
                    Ok(filled) => filled,
                    Err(_) => return Err(failure),
                }
            }
            None => inflow.fill(&connection.stream).await,
        };
        match filled {
            Ok(true) => {}
            // Between requests a reset ends the connection as a close does: nothing was asked.
            Ok(false) | Err(_) if !decoder.in_head() => return Ok(false),
            // Compat: a client that leaves inside a head is a disconnect, not an error to answer.
            Ok(false) | Err(_) => return Err(Failure::ClientGone),
        }
        match decoder.decode(inflow.bytes(), &mut scratch.request).map_err(Failure::Codec)? {
            Decoded::NeedMore => {
                scratch.request_head_bytes += inflow.bytes().len() as u32;
                inflow.consume(inflow.bytes().len());
            }
            Decoded::Complete { consumed } => {
                scratch.request_head_bytes += consumed as u32;
                inflow.consume(consumed);
                return Ok(true);
            }
        }
    }
}

fn options(manager: &HttpConnectionManager) -> RequestOptions {
    RequestOptions {
        head_bytes_max: manager.request_head_bytes_max as usize,
        fields_max: manager.request_headers_max as usize,
        custom_methods: manager.allow_custom_methods,
        underscores: match manager.underscores {
            UnderscoreHeaders::Allow => UnderscoreNames::Allow,
            UnderscoreHeaders::Reject => UnderscoreNames::Reject,
            UnderscoreHeaders::Drop => UnderscoreNames::Drop,
        },
    }
}

/// Keeps the socket open for `pause`, or until the client closes, and drops what still comes: closing with unread bytes
/// would make the kernel send a reset, and the client might lose our last answer to it.
async fn linger(stream: &Stream, pause: Duration) {
    let drained =
        async { while matches!(stream.recv(RECEIVE_BYTES_MAX).await, Ok(bytes) if !bytes.is_empty()) {} };
    race(drained, sleep(pause)).await;
}
