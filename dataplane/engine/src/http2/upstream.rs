//! HTTP/2 connections to upstreams: shared by the exchanges of a shard, a stream for each.
//!
//! A connection is a task of its own that moves frames; its host's [`Pool`] holds the handle by which streams are
//! opened. Taking the handle out of the pool retires the connection: it ends when its last stream does. So a GOAWAY,
//! too many requests, age, idleness and a host that left the cluster are all one thing.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::h2::client::{self, ResponseFuture, SendRequest};
use ::h2::{Reason, RecvStream};
use bytes::Bytes;
use ringsail_http::{Method, RequestHead, ResponseHead};
use ringsail_runtime::local::Notify;
use ringsail_runtime::task;
use ringsail_runtime::time::now;
use ringsail_tables::http2::Http2Settings;
use ringsail_telemetry::{ClusterCounter, Http2Counter};

use super::codec_stats::CodecStats;
use super::downstream::PREFACE;
use super::guard::{Flood, Guard};
use super::heads;
use super::io::{Io, Socket};
use super::keepalive::Keepalive;
use super::stream::{Half, Receive, Send};
use crate::breaker::LeasedPermit;
use crate::failure::{ConnectError, Failure};
use crate::inflow::Inflow;
use crate::limits::{
    HTTP2_ANSWER_HEAD_BYTES_MAX, HTTP2_STREAM_ERRORS_MAX, HTTP2_STREAM_SEND_BYTES_MAX, INTERIM_RESPONSES_MAX,
};
use crate::message::Outgoing;
use crate::progress::Progress;
use crate::tls::Facts;
use crate::upstream::{
    Choice, ClusterState, Dial, Ended, Host, Lease, Pending, Reuse, Slot, TransportKey, UpstreamConnection,
};

/// A host's HTTP/2 connections that take streams.
#[derive(Default)]
pub struct Pool {
    open: RefCell<Vec<Rc<Shared>>>,
    dialing: Cell<bool>,
    /// How many connections were begun.
    dials: Cell<u64>,
    /// The latest of them that was not made, and why.
    failed: Cell<Option<(u64, Failure)>>,
    changed: Notify,
}

/// A connection that streams are opened on.
struct Shared {
    send: RefCell<SendRequest<Bytes>>,
    guard: Rc<Guard>,
    local_address: Option<SocketAddr>,
    transport: TransportKey,
    tls: Option<Rc<Facts>>,
    facts: UpstreamConnection,
    opened: Instant,
    streams: Cell<u32>,
    requests: Cell<u32>,
    idle_since: Cell<Instant>,
    /// A stream begins: the connection's task looks whether the peer should be asked first.
    woken: Notify,
}

/// What is needed to reach a host.
#[derive(Clone)]
pub struct Settings {
    /// Of the connection.
    pub dial: Dial,
    /// Of the protocol.
    pub http2: Http2Settings,
    /// Of the connection's life.
    pub reuse: Reuse,
}

/// A place for one stream on a connection.
pub struct Lane {
    shared: Rc<Shared>,
    host: Rc<Host>,
    /// The connection has served requests before.
    pub reused: bool,
}

impl Drop for Lane {
    fn drop(&mut self) {
        let left = self.shared.streams.get() - 1;
        self.shared.guard.stats().stream_ends();
        self.shared.streams.set(left);
        if left == 0 {
            self.shared.idle_since.set(now());
        }
        self.host.http2.changed.notify_all();
    }
}

/// Gets a place on a connection to `choice`, made if there is none. Requests that wait for the same connection share
/// its failure. Dropping the future gives up the place in the queue; a connection being made is kept for others.
pub async fn acquire(
    cluster: &Rc<ClusterState>,
    choice: &Choice,
    lease: Lease,
    settings: &Settings,
) -> Result<Lane, Failure> {
    let host = &choice.host;
    if let Some(lane) = lane(host, settings) {
        return Ok(lane);
    }
    let _pending = Pending::begin(cluster, lease.pending_max).ok_or(Failure::Overflow)?;
    loop {
        if let Some(lane) = lane(host, settings) {
            return Ok(lane);
        }
        if !host.http2.dialing.get() {
            // Compat: a host without any connection gets one even past the limit, or requests queued for it would
            // never be served.
            let allowed = host.may_connect(lease.connections_per_host_max);
            let permit =
                allowed.then(|| cluster.connections.take(lease.connections_max)).flatten().or_else(|| {
                    cluster.stats.add(ClusterCounter::UpstreamCxOverflow, 1);
                    (host.connections.get() == 0).then(|| cluster.connections.take_anyway())
                });
            if let Some(permit) = permit {
                begin_dial(cluster, choice, settings, permit);
            }
        }
        let dial = host.http2.dials.get();
        host.http2.changed.notified().await;
        if let Some((number, failure)) = host.http2.failed.get()
            && number == dial
        {
            return Err(failure);
        }
    }
}

/// A place on an open connection, the one with most streams first, so that what a quieter time does not need gets idle.
fn lane(host: &Rc<Host>, settings: &Settings) -> Option<Lane> {
    let mut open = host.http2.open.borrow_mut();
    let transport = settings.dial.key();
    open.retain(|shared| shared.transport == transport && shared.may_go_on(settings.reuse));
    let free = open.iter().filter(|shared| shared.has_room(settings.http2.concurrent_streams_max));
    let shared = free.max_by_key(|shared| shared.streams.get())?.clone();
    drop(open);
    let requests = shared.requests.get();
    shared.streams.set(shared.streams.get() + 1);
    shared.guard.stats().stream_begins();
    shared.requests.set(requests.saturating_add(1));
    shared.woken.notify_one();
    Some(Lane { shared, host: host.clone(), reused: requests > 0 })
}

impl Shared {
    fn may_go_on(&self, reuse: Reuse) -> bool {
        let served_all = reuse.requests_max > 0 && self.requests.get() >= reuse.requests_max;
        let too_old = reuse.duration_max.is_some_and(|max| now() - self.opened >= max);
        !served_all && !too_old && !self.guard.go_away_received()
    }

    fn has_room(&self, ours_max: u32) -> bool {
        let theirs_max = self.send.borrow().current_max_send_streams();
        (self.streams.get() as usize) < theirs_max.min(ours_max as usize)
    }
}

impl Pool {
    /// Retires connections that were idle too long or are too old.
    pub fn close_stale(&self, idle_timeout: Option<Duration>, duration_max: Option<Duration>) {
        let now = now();
        self.retire(|shared| {
            let idle = shared.streams.get() == 0
                && idle_timeout.is_some_and(|max| now - shared.idle_since.get() >= max);
            idle || duration_max.is_some_and(|max| now - shared.opened >= max)
        });
    }

    /// Retires connections without streams.
    pub fn close_idle(&self) {
        self.retire(|shared| shared.streams.get() == 0);
    }

    /// Retires all connections: none takes another stream.
    pub fn close(&self) {
        self.retire(|_| true);
    }

    fn retire(&self, which: impl Fn(&Shared) -> bool) {
        let (retired, kept): (Vec<_>, Vec<_>) =
            self.open.take().into_iter().partition(|shared| which(shared));
        *self.open.borrow_mut() = kept;
        drop(retired);
    }
}

/// A connection being made. However that ends, those who wait are told.
struct Dialing {
    host: Weak<Host>,
    number: u64,
    failure: Option<Failure>,
}

impl Drop for Dialing {
    fn drop(&mut self) {
        let Some(host) = self.host.upgrade() else { return };
        let pool = &host.http2;
        pool.dialing.set(false);
        if let Some(failure) = self.failure {
            pool.failed.set(Some((self.number, failure)));
        }
        pool.changed.notify_all();
    }
}

fn begin_dial(cluster: &Rc<ClusterState>, choice: &Choice, settings: &Settings, permit: LeasedPermit) {
    let host = &choice.host;
    let number = host.http2.dials.get() + 1;
    host.http2.dials.set(number);
    host.http2.dialing.set(true);
    let slot = Slot::new(cluster, host, permit);
    let dialing = Dialing {
        host: Rc::downgrade(host),
        number,
        // What stays when the task is not even started.
        failure: Some(Failure::ConnectFailure(ConnectError::Local)),
    };
    let (address, settings) = (choice.address.clone(), settings.clone());
    cluster.stats.add(ClusterCounter::UpstreamCxHttp2Total, 1);
    let stats = cluster.http2_stats.get().cloned().map_or(CodecStats::None, CodecStats::Upstream);
    let id = cluster.next_connection_id();
    task::spawn(connection(slot, address, settings, stats, dialing, id));
}

/// Makes a connection and moves its frames until it ends.
async fn connection(
    slot: Slot,
    address: ringsail_runtime::net::Address,
    settings: Settings,
    stats: CodecStats,
    mut dialing: Dialing,
    id: u64,
) {
    let guard = Rc::new(Guard::new(&settings.http2, 0, PREFACE.len() as u32, stats));
    let dialed_at = now();
    let dialed = crate::upstream::dial(&address, &settings.dial).await;
    slot.count_tls(&dialed);
    let stream = match dialed {
        Ok(stream) => stream,
        Err(failure) => {
            dialing.failure = Some(failure);
            return;
        }
    };
    let local_address = stream.local_addr().ok().and_then(|address| address.as_inet());
    let tls = stream.tls().cloned();
    let io = Io::new(Socket::Upstream(stream), Inflow::default(), guard.clone());
    let Ok(io) = io else { return };
    let Ok((send, mut connection)) = builder(&settings.http2).handshake::<_, Bytes>(io).await else {
        dialing.failure = Some(Failure::ConnectionTermination);
        return;
    };
    let Some(host) = dialing.host.upgrade() else { return };
    let opened = now();
    slot.count_connect(opened - dialed_at);
    let facts = UpstreamConnection { id, dialed: dialed_at, connected: opened };
    let shared = Rc::new(Shared {
        facts,
        send: RefCell::new(send),
        guard: guard.clone(),
        local_address,
        transport: settings.dial.key(),
        tls,
        opened,
        streams: Cell::new(0),
        requests: Cell::new(0),
        idle_since: Cell::new(opened),
        woken: Notify::new(),
    });
    let handle = Rc::downgrade(&shared);
    host.http2.open.borrow_mut().push(shared);
    let host = Rc::downgrade(&host);
    dialing.failure = None;
    drop(dialing);
    let mut keepalive = Keepalive::new(settings.http2.keepalive, connection.ping_pong());

    let mut announced = false;
    let mut news_at = now();
    let mut counted = (0, 0);
    let result = poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        let bytes = guard.bytes();
        slot.count_bytes(bytes.0 - counted.0, bytes.1 - counted.1);
        counted = bytes;
        if let Poll::Ready(result) = polled {
            return Poll::Ready(result.map_err(|error| error.is_io()));
        }
        if guard.mistake().is_some() {
            return Poll::Ready(Err(false));
        }
        if guard.settings_received() && !announced {
            // The peer's bound on streams is known: requests that wait may go on, or make another connection.
            announced = true;
            host.upgrade().into_iter().for_each(|host| host.http2.changed.notify_all());
        }
        if guard.go_away_received() {
            forget(&host, &handle);
        }
        if let Some(keepalive) = &mut keepalive {
            keepalive.stream_begins_after(now() - news_at);
            news_at = now();
            if keepalive.poll_dead(cx).is_ready() {
                guard.stats().count(Http2Counter::KeepaliveTimeout);
                return Poll::Ready(Err(true));
            }
        }
        Poll::Pending
    })
    .await;
    forget(&host, &handle);
    let busy = handle.upgrade().is_some_and(|shared| shared.streams.get() > 0);
    let ended = if guard.peer_has_ended() { Ended::ByPeer } else { Ended::ByUs };
    slot.count_end(ended, busy, opened);
    slot.count_http2(&guard, matches!(result, Err(false)) || guard.flood().is_some());
    drop(connection);
    drop(slot);
    host.upgrade().into_iter().for_each(|host| host.http2.changed.notify_all());
}

/// Takes a connection out of its pool.
fn forget(host: &Weak<Host>, handle: &Weak<Shared>) {
    if let Some(host) = host.upgrade() {
        let gone = host.http2.open.borrow().iter().position(|open| Rc::as_ptr(open) == handle.as_ptr());
        let gone = gone.map(|index| host.http2.open.borrow_mut().swap_remove(index));
        drop(gone);
    }
}

fn builder(http2: &Http2Settings) -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .header_table_size(http2.header_table_bytes)
        .initial_window_size(http2.stream_window_bytes)
        .initial_connection_window_size(http2.connection_window_bytes)
        .max_header_list_size(HTTP2_ANSWER_HEAD_BYTES_MAX)
        .max_send_buffer_size(HTTP2_STREAM_SEND_BYTES_MAX)
        .max_local_error_reset_streams(Some(HTTP2_STREAM_ERRORS_MAX));
    builder
}

impl Lane {
    /// The connection's number, and when it was made.
    pub fn facts(&self) -> UpstreamConnection {
        self.shared.facts
    }

    /// Our end of the connection.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.shared.local_address
    }

    /// The connection's TLS session.
    pub fn tls(&self) -> Option<Rc<Facts>> {
        self.shared.tls.clone()
    }

    /// Sends a request's head; `ends` when no body follows.
    pub fn request<'a>(
        &self,
        head: &RequestHead,
        ends: bool,
        written: &'a Cell<bool>,
    ) -> Result<(Send<'a>, Answer), Failure> {
        let send = self.shared.send.borrow().clone();
        begin_stream(send, &self.shared.guard, head, ends, written)
    }
}

fn begin_stream<'a>(
    mut send: SendRequest<Bytes>,
    guard: &Rc<Guard>,
    head: &RequestHead,
    ends: bool,
    written: &'a Cell<bool>,
) -> Result<(Send<'a>, Answer), Failure> {
    let request = heads::write_request(head).ok_or(Failure::UpstreamProtocol)?;
    let upgrade = head.upgrade().map(Box::from);
    let (answer, stream) = send.send_request(request, ends).map_err(|error| failure(&error))?;
    let half = Half::request(stream, guard.clone());
    let answer = Answer { answer, half: half.clone(), method: head.method(), upgrade, guard: guard.clone() };
    let mut send = Send::new(half, written);
    send.head_is_sent(ends);
    Ok((send, answer))
}

/// A connection in no pool, for one who asks alone. It ends with this handle.
pub struct Alone {
    send: SendRequest<Bytes>,
    guard: Rc<Guard>,
    frames: task::JoinHandle<()>,
}

/// Speaks HTTP/2 on a connection in no pool.
pub async fn alone(stream: crate::stream::Stream, http2: &Http2Settings) -> Result<Alone, Failure> {
    let guard = Rc::new(Guard::new(http2, 0, PREFACE.len() as u32, CodecStats::None));
    let io = Io::new(Socket::Upstream(stream), Inflow::default(), guard.clone());
    let io = io.map_err(|_| Failure::ConnectionTermination)?;
    let made = builder(http2).handshake::<_, Bytes>(io).await;
    let (send, connection) = made.map_err(|_| Failure::ConnectionTermination)?;
    let frames = task::spawn(async move {
        // How it ends shows in its streams.
        let _ = connection.await;
    });
    Ok(Alone { send, guard, frames })
}

impl Alone {
    /// As [`Lane::request`].
    pub fn request<'a>(
        &self,
        head: &RequestHead,
        ends: bool,
        written: &'a Cell<bool>,
    ) -> Result<(Send<'a>, Answer), Failure> {
        begin_stream(self.send.clone(), &self.guard, head, ends, written)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.frames.abort();
    }
}

/// An answer that has not come yet.
pub struct Answer {
    answer: ResponseFuture,
    half: Rc<Half>,
    method: Option<Method>,
    /// The protocol that was asked for.
    upgrade: Option<Box<[u8]>>,
    guard: Rc<Guard>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("method", &self.method).finish_non_exhaustive()
    }
}

enum Came {
    Interim(u16),
    Final(http::Response<RecvStream>),
}

impl Answer {
    /// Receives the head of the final answer. A 100 goes to `interim`, where there is one.
    pub async fn head(
        &mut self,
        head: &mut ResponseHead,
        mut interim: Option<&mut Outgoing<'_>>,
        progress: &Progress,
    ) -> Result<Receive, Failure> {
        let mut interim_count = 0;
        loop {
            let came = poll_fn(|cx| self.poll_head(cx)).await.map_err(|failure| self.flooded_or(failure))?;
            progress.touch();
            match came {
                Came::Final(answer) => {
                    progress.answer_began.set(Some(now()));
                    let (parts, body) = answer.into_parts();
                    heads::read_response(
                        &parts,
                        body.is_end_stream(),
                        self.method,
                        self.upgrade.as_deref(),
                        head,
                    );
                    return Ok(Receive::new(body, self.half.clone()));
                }
                Came::Interim(status) => {
                    interim_count += 1;
                    if interim_count > INTERIM_RESPONSES_MAX {
                        return Err(Failure::UpstreamProtocol);
                    }
                    // Compat: other interim answers than 100 are swallowed.
                    if let Some(client) = interim.as_deref_mut().filter(|_| status == 100) {
                        client.send_continue().await.map_err(|_| Failure::ClientGone)?;
                    }
                }
            }
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Came, Failure>> {
        if let Poll::Ready(Some(Ok(interim))) = self.answer.poll_informational(cx) {
            return Poll::Ready(Ok(Came::Interim(interim.status().as_u16())));
        }
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(answer.map(Came::Final).map_err(|error| failure(&error)))
    }

    fn flooded_or(&self, failure: Failure) -> Failure {
        match self.guard.flood() {
            Some(Flood::Empty | Flood::Priority | Flood::WindowUpdate | Flood::Control) => {
                Failure::UpstreamProtocol
            }
            None => {
                match failure {
                    Failure::RemoteRefused => self.guard.stats().count(Http2Counter::StreamRefusedErrors),
                    Failure::UpstreamProtocol => self.guard.stats().count(Http2Counter::RxMessagingError),
                    _ => {}
                }
                failure
            }
        }
    }
}

/// What an error before the answer's head means.
fn failure(error: &::h2::Error) -> Failure {
    if error.is_go_away() && error.is_remote() {
        // The stream came after the last one the server means to serve.
        return Failure::RemoteRefused;
    }
    match error.reason() {
        Some(Reason::REFUSED_STREAM) if error.is_remote() => Failure::RemoteRefused,
        Some(Reason::PROTOCOL_ERROR) => Failure::UpstreamProtocol,
        Some(_) if error.is_reset() && error.is_remote() => Failure::RemoteReset,
        Some(_) => Failure::UpstreamProtocol,
        None => Failure::ConnectionTermination,
    }
}
