//! An HTTP/2 connection of a client: one task moves its frames, one task each serves its streams.
//!
//! ```text
//!            drain, too old, enough requests, idle            last stream ends
//! serving ──────────────────────────────────────► draining ────────────────────► closed
//!    │ client leaves, breaks the protocol, floods     (GOAWAY with the largest id, then with the last one served)
//!    ▼
//! closed; streams that run see their client gone
//! ```

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::h2::{Reason, RecvStream, server};
use bytes::Bytes;
use http::Request;
use ringsail_runtime::local::Notify;
use ringsail_runtime::time::{Sleep, now, sleep_until};
use ringsail_runtime::{drain, task};
use ringsail_tables::hcm::HttpConnectionManager;
use ringsail_telemetry::{Http2Counter, HttpCounter};

use super::codec_stats::CodecStats;
use super::guard::{Guard, Mistake};
use super::heads;
use super::io::{Io, Socket};
use super::keepalive::Keepalive;
use super::stream::{Half, Receive, Send};
use crate::connection::{Connection, Entered};
use crate::exchange::{self, Client, exchange};
use crate::failure::Failure;
use crate::inflow::Inflow;
use crate::limits::{
    HTTP2_PENDING_RESETS_MAX, HTTP2_SHUTDOWN_PATIENCE, HTTP2_STREAM_ERRORS_MAX, HTTP2_STREAM_SEND_BYTES_MAX,
    PREMATURE_RESET_LIFETIME, PREMATURE_RESETS_STREAMS,
};
use crate::shard::Shard;

/// The client's end of one stream, for an exchange.
pub struct ServerStream {
    pub(crate) receive: Receive,
    half: Rc<Half>,
}

impl ServerStream {
    /// Its two directions.
    pub(crate) fn split(self, written: &Cell<bool>) -> (Receive, Send<'_>) {
        (self.receive, Send::new(self.half, written))
    }
}

/// What the streams of a connection tell it.
#[derive(Default)]
pub(super) struct Streams {
    active: Cell<u32>,
    /// Streams that have ended, and those of them that the client reset early.
    ended: Cell<u32>,
    reset_early: Cell<u32>,
    /// An answer was meant to be the connection's last.
    last_answer: Cell<bool>,
    changed: Notify,
}

/// A stream that runs.
struct Active {
    streams: Rc<Streams>,
    guard: Rc<Guard>,
    began: Instant,
    /// The client left before it had an answer.
    abandoned: Cell<bool>,
}

impl Active {
    fn begin(streams: &Rc<Streams>, guard: &Rc<Guard>) -> Active {
        streams.active.set(streams.active.get() + 1);
        guard.stats().stream_begins();
        Active { streams: streams.clone(), guard: guard.clone(), began: now(), abandoned: Cell::new(false) }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let streams = &self.streams;
        self.guard.stats().stream_ends();
        streams.active.set(streams.active.get() - 1);
        streams.ended.set(streams.ended.get().saturating_add(1));
        if self.abandoned.get() && now() - self.began < PREMATURE_RESET_LIFETIME {
            streams.reset_early.set(streams.reset_early.get().saturating_add(1));
        }
        streams.changed.notify_all();
    }
}

impl Streams {
    /// No stream should come any more.
    pub(super) fn end_soon(&self) {
        self.last_answer.set(true);
        self.changed.notify_all();
    }

    /// The client opens streams only to reset them. Source: Envoy's premature reset rule: more than half of all
    /// streams, once there were [`PREMATURE_RESETS_STREAMS`], or half that many before.
    fn are_reset_too_often(&self) -> bool {
        let (ended, early) = (self.ended.get(), self.reset_early.get());
        let suspicious = if ended < PREMATURE_RESETS_STREAMS { PREMATURE_RESETS_STREAMS } else { ended };
        early.saturating_mul(2) > suspicious
    }
}

/// Serves a connection to its end; `first_bytes` begin with the preface.
pub async fn serve(shard: Rc<Shard>, connection: Rc<Connection>, first_bytes: Inflow) {
    let (settings, (limits, keepalive), guard) = match connection.enter(&shard).manager() {
        Some(manager) => (
            settings(manager),
            (Limits::of(manager), manager.http2.keepalive),
            Rc::new(Guard::new(
                &manager.http2,
                PREFACE.len() as u32,
                0,
                CodecStats::Downstream(shard.stats.downstream_http2()),
            )),
        ),
        None => return,
    };
    connection.count(HttpCounter::DownstreamCxHttp2Total);
    let Ok(io) = Io::new(Socket::Downstream(connection.clone()), first_bytes, guard.clone()) else { return };
    let handshake = settings.handshake::<_, Bytes>(io);
    let limit = limits.head.or(limits.idle).unwrap_or(Duration::MAX);
    let handshake = pin!(ringsail_runtime::time::timeout(limit, handshake));
    let served = connection.until_drained(&shard, handshake).await.ok();
    let Some(Ok(served)) = served else {
        connection.count(HttpCounter::DownstreamCxProtocolError);
        return;
    };
    let mut served = served;
    let keepalive = Keepalive::new(keepalive, served.ping_pong());
    let mut session = Session {
        keepalive,
        news_at: now(),
        shard: shard.clone(),
        limits,
        connection: connection.clone(),
        guard,
        streams: Rc::default(),
        served,
        draining: None,
        ended: None,
        timer: None,
        idle_since: now(),
        head_since: None,
    };
    connection.until_drained(&shard, pin!(session.run())).await;
}

/// The settings that matter to a connection as a whole, as its latest stream found them.
#[derive(Clone, Copy)]
struct Limits {
    idle: Option<Duration>,
    duration: Option<Duration>,
    /// Of a head from its first frame to its last.
    head: Option<Duration>,
    /// From the GOAWAY that announces the end to the one that is the end, without streams.
    drain: Duration,
    /// From that one to the end of the connection.
    delayed_close: Duration,
    requests: u32,
}

impl Limits {
    fn of(manager: &HttpConnectionManager) -> Limits {
        Limits {
            idle: manager.idle_timeout,
            duration: manager.connection_duration_max,
            head: manager.request_headers_timeout.or(manager.stream_idle_timeout),
            drain: manager.drain_timeout,
            delayed_close: manager.delayed_close_timeout,
            requests: manager.requests_per_connection_max,
        }
    }
}

/// The first bytes of a client that speaks HTTP/2. Source: RFC 9113 §3.4.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn settings(manager: &HttpConnectionManager) -> server::Builder {
    let http2 = &manager.http2;
    let mut builder = server::Builder::new();
    builder
        .header_table_size(http2.header_table_bytes)
        .max_concurrent_streams(http2.concurrent_streams_max)
        .initial_window_size(http2.stream_window_bytes)
        .initial_connection_window_size(http2.connection_window_bytes)
        // Ours is exact; this one bounds what `h2` gathers before we can count it.
        .max_header_list_size(manager.request_head_bytes_max.saturating_mul(2))
        .max_send_buffer_size(HTTP2_STREAM_SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(HTTP2_STREAM_ERRORS_MAX));
    if http2.allow_connect {
        builder.enable_connect_protocol();
    }
    builder
}

struct Session {
    keepalive: Option<Keepalive>,
    news_at: Instant,
    shard: Rc<Shard>,
    limits: Limits,
    connection: Rc<Connection>,
    guard: Rc<Guard>,
    streams: Rc<Streams>,
    served: server::Connection<Io, Bytes>,
    /// Since when no new stream is wanted.
    draining: Option<Instant>,
    /// Since when it is over but for what is still to be written.
    ended: Option<Instant>,
    timer: Option<Sleep>,
    idle_since: Instant,
    head_since: Option<Instant>,
}

/// Why a connection that could go on is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Idle,
    TooOld,
    HeadTimeout,
    DrainedTooLong,
    Over,
}

impl Session {
    async fn run(&mut self) {
        let streams = self.streams.clone();
        let mut drained = pin!(drain::drain_begun());
        let mut changed = pin!(streams.changed.notified());
        loop {
            let event = poll_fn(|cx| {
                if self.draining.is_none() && drained.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Drain);
                }
                match self.served.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        return Poll::Ready(Event::Stream(Box::new((request, respond))));
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Event::Broken(error)),
                    Poll::Ready(None) => return Poll::Ready(Event::Closed),
                    Poll::Pending => {}
                }
                if let Some(mistake) = self.guard.mistake().filter(|_| self.ended.is_none()) {
                    return Poll::Ready(Event::Mistake(mistake));
                }
                if let Some(keepalive) = &mut self.keepalive {
                    keepalive.stream_begins_after(now() - self.news_at);
                    self.news_at = now();
                    if keepalive.poll_dead(cx).is_ready() {
                        return Poll::Ready(Event::Dead);
                    }
                }
                if changed.as_mut().poll(cx).is_ready() {
                    changed.set(streams.changed.notified());
                    // Waits again from here on.
                    let _ = changed.as_mut().poll(cx);
                    return Poll::Ready(Event::StreamEnded);
                }
                self.poll_deadline(cx)
            })
            .await;
            match event {
                Event::Stream(stream) => self.begin_stream(*stream),
                Event::StreamEnded => {
                    self.idle_since = now();
                    if self.streams.last_answer.get() && self.draining.is_none() {
                        self.connection.count(HttpCounter::DownstreamCxDrainClose);
                        self.begin_drain();
                    }
                    if self.streams.are_reset_too_often() {
                        self.end(Reason::ENHANCE_YOUR_CALM);
                        self.connection.count(HttpCounter::DownstreamRqTooManyPrematureResets);
                    }
                }
                Event::Drain => {
                    self.connection.count(HttpCounter::DownstreamCxDrainClose);
                    self.begin_drain();
                }
                Event::Late(why) => {
                    if self.is_over(why) {
                        return;
                    }
                }
                Event::Broken(error) => {
                    let connection = self.connection.id;
                    tracing::debug!(%error, connection, "an HTTP/2 connection ended");
                    if !error.is_io() || self.guard.flood().is_some() {
                        self.connection.count(HttpCounter::DownstreamCxProtocolError);
                    }
                    return;
                }
                Event::Mistake(mistake) => {
                    let connection = self.connection.id;
                    tracing::debug!(?mistake, connection, "an HTTP/2 connection breaks the protocol");
                    self.connection.count(HttpCounter::DownstreamCxProtocolError);
                    self.end(mistake.code().into());
                }
                Event::Dead => return self.guard.stats().count(Http2Counter::KeepaliveTimeout),
                Event::Closed => return,
            }
        }
    }

    fn begin_stream(&mut self, (request, respond): (Request<RecvStream>, server::SendResponse<Bytes>)) {
        let connection = &self.connection;
        connection.requests.set(connection.requests.get().saturating_add(1));
        let active = Active::begin(&self.streams, &self.guard);
        let entered = connection.enter(&self.shard);
        if let Some(manager) = entered.manager() {
            self.limits = Limits::of(manager);
        }
        task::spawn(stream(self.shard.clone(), connection.clone(), entered, request, respond, active));
        let enough = self.limits.requests;
        if enough > 0 && connection.requests.get() >= enough && self.draining.is_none() {
            connection.count(HttpCounter::DownstreamCxMaxRequestsReached);
            self.begin_drain();
        }
    }

    /// Announces the end: a GOAWAY with the largest id, and, when the client has seen that, one with the last id served.
    fn begin_drain(&mut self) {
        self.draining = Some(now());
        self.served.graceful_shutdown();
    }

    /// Ends the connection as soon as that is written.
    fn end(&mut self, reason: Reason) {
        self.ended = Some(now());
        self.served.abrupt_shutdown(reason);
    }

    /// Acts on a passed deadline; true when the connection is to be dropped.
    fn is_over(&mut self, why: Why) -> bool {
        match why {
            Why::Idle => {
                self.connection.count(HttpCounter::DownstreamCxIdleTimeout);
                self.begin_drain();
                false
            }
            Why::TooOld => {
                self.connection.count(HttpCounter::DownstreamCxMaxDurationReached);
                self.begin_drain();
                false
            }
            Why::HeadTimeout => {
                self.connection.count(HttpCounter::DownstreamRqHeaderTimeout);
                self.end(Reason::NO_ERROR);
                self.head_since = None;
                false
            }
            Why::DrainedTooLong => {
                self.end(Reason::NO_ERROR);
                false
            }
            Why::Over => true,
        }
    }

    /// Ready when a deadline has passed. One timer serves all; it is looked at again when it rings.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.head_since = match (self.guard.in_header_block(), self.head_since) {
            (true, None) => Some(now()),
            (true, since) => since,
            (false, _) => None,
        };
        loop {
            let Some((deadline, why)) = self.next_deadline() else { return Poll::Pending };
            if now() >= deadline {
                return Poll::Ready(Event::Late(why));
            }
            match &mut self.timer {
                Some(timer) if timer.deadline() <= deadline => {}
                Some(timer) => timer.reset(deadline),
                None => self.timer = Some(sleep_until(deadline)),
            }
            if let Some(timer) = &mut self.timer {
                match Pin::new(timer).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => self.timer = None,
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<(Instant, Why)> {
        let idle = self.streams.active.get() == 0;
        let open = self.draining.is_none();
        let limits = &self.limits;
        if let Some(ended) = self.ended {
            return Some((ended + limits.delayed_close, Why::Over));
        }
        // A process that ends waits for its clients, and some answer no ping once they know that the end is near.
        let drain = if drain::draining() { limits.drain.min(HTTP2_SHUTDOWN_PATIENCE) } else { limits.drain };
        let candidates = [
            limits.idle.filter(|_| idle && open).map(|limit| (self.idle_since + limit, Why::Idle)),
            limits.duration.filter(|_| open).map(|limit| (self.connection.opened + limit, Why::TooOld)),
            limits.head.zip(self.head_since).map(|(limit, since)| (since + limit, Why::HeadTimeout)),
            self.draining
                .filter(|_| idle)
                .map(|since| (since.max(self.idle_since) + drain, Why::DrainedTooLong)),
        ];
        candidates.into_iter().flatten().min_by_key(|(deadline, _)| *deadline)
    }
}

enum Event {
    Stream(Box<(Request<RecvStream>, server::SendResponse<Bytes>)>),
    StreamEnded,
    Drain,
    Late(Why),
    Broken(::h2::Error),
    Mistake(Mistake),
    Closed,
    /// It answers no ping.
    Dead,
}

/// Serves one stream.
async fn stream(
    shard: Rc<Shard>,
    connection: Rc<Connection>,
    entered: Entered,
    request: Request<RecvStream>,
    respond: server::SendResponse<Bytes>,
    active: Active,
) {
    let Some(manager) = entered.manager() else { return };
    let (parts, body) = request.into_parts();
    let mut scratch = shard.take_scratch();
    let stats = active.guard.stats();
    let read = heads::read_request(&parts, body.is_end_stream(), manager, stats, &mut scratch.request);
    drop(parts);
    let half = Half::answer(respond, active.guard.clone(), active.streams.clone());
    let client = ServerStream { receive: Receive::new(body, half.clone()), half: half.clone() };
    let client = Client::H2(client);
    match read {
        Ok(()) => exchange(&shard, &connection, &entered, &mut scratch, client).await,
        Err(refused) => {
            stats.count(refused.counter());
            let failure = Failure::StreamRefused { details: refused.details() };
            exchange::refuse(&shard, &connection, &entered, &mut scratch, client, failure).await
        }
    };
    active.abandoned.set(half.was_reset());
    shard.give_back_scratch(scratch);
}
