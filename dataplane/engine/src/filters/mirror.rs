//! Mirroring: copies of requests for other clusters, whose answers are read and thrown away.
//!
//! A copy is a task of its own. The exchange gives it the head and, through a `tap`, the body as it passes; it never
//! waits for the copy. So a slow or dead mirror costs the request nothing: what waits for it is bounded, and past the
//! bound the copy is given up. It counts for its cluster as any request does, also against its circuit breakers.
//!
//! Source: `envoy.config.route.v3.RouteAction.RequestMirrorPolicy`; headers of the copy as observed.

mod tap;

use std::cell::Cell;
use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use ringsail_http::{
    BodyDecoder, BodyLength, CHUNK_END, ChunkHead, EditError, Framing, LAST_CHUNK, Method,
    Progress as Decoded, RequestHead, ResponseDecoder, ResponseHead, ResponseTo, Version, encode_request,
};
use ringsail_runtime::net::Stream;
use ringsail_runtime::publish::Current;
use ringsail_runtime::time::{now, timeout};
use ringsail_runtime::{Either, race, task};
use ringsail_tables::cluster::{ClusterRef, UpstreamProtocol};
use ringsail_tables::route::{Mirror, RouteMatch};
use ringsail_tables::template::Values;
use ringsail_tables::{ClusterId, Tables};
use ringsail_telemetry::{ClusterCounter, ClusterHistogram};

pub use self::tap::Tap;
use self::tap::{Next, Taken, tap};
use crate::breaker::Usage;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::grpc::Active;
use crate::headers::edits;
use crate::headers::request::append_forwarded_for;
use crate::http2::upstream::{self as http2, Settings};
use crate::inflow::Inflow;
use crate::limits::{MIRROR_DURATION_MAX, MIRRORS_MAX};
use crate::progress::Progress;
use crate::shard::Shard;
use crate::upstream::{self, Choice, ClusterState, Lease, Outcome, Reuse, Wish};

/// What all copies of a shard share.
#[derive(Debug, Default)]
pub struct Mirrors {
    running: Usage,
    waiting_bytes: Rc<Cell<usize>>,
}

/// What a copy takes from its request.
pub struct Original<'a> {
    /// The shard.
    pub shard: &'a Rc<Shard>,
    /// Where the request came from.
    pub connection: &'a Connection,
    /// Its route.
    pub found: &'a RouteMatch<'a>,
    /// Its head, with the route's edits.
    pub head: &'a RequestHead,
    /// How its body is framed.
    pub body: BodyLength,
    /// The route's time limit.
    pub timeout: Option<Duration>,
    /// The circuit breakers that apply.
    pub high_priority: bool,
    /// What the client speaks.
    pub downstream: Version,
}

/// Starts the copies that the route asks for, and calls `taps` with the way of the body to each.
pub fn begin(
    original: &Original<'_>,
    tables: &Current<Tables>,
    random: u64,
    with_values: impl Fn(&RequestHead, &mut dyn FnMut(&dyn Values)),
    mut taps: impl FnMut(Tap),
) {
    let shard = original.shard;
    for mirror in original.found.mirrors() {
        if !mirror.share.chooses(random) {
            continue;
        }
        let named = tables.named(&mirror.cluster, |name| original.head.fields().get(name));
        let Some(cluster) = named else { continue };
        let Some(running) = shard.mirrors.running.take(MIRRORS_MAX) else {
            shard.cluster(&cluster).stats.add(ClusterCounter::UpstreamRqPendingOverflow, 1);
            continue;
        };
        let mut head = original.head.clone();
        if edit(&mut head, mirror, shard, &with_values).is_err() {
            // No room for the additions: the request is served, its copy is not.
            continue;
        }
        head.set_framing(Framing { body: framing(head.method(), original.body), persistent: true });
        let (tap, body) = tap(shard.mirrors.waiting_bytes.clone());
        if matches!(original.body, BodyLength::None | BodyLength::Length(0)) {
            tap.complete();
        }
        let copy = Copy {
            shard: shard.clone(),
            cluster: cluster.id,
            destination: original.connection.restored(),
            high_priority: original.high_priority,
            downstream: original.downstream,
            head,
            body,
        };
        let tables = tables.clone();
        let limit = original.timeout.map_or(MIRROR_DURATION_MAX, |limit| limit.min(MIRROR_DURATION_MAX));
        task::spawn(async move {
            let _running = running;
            copy.send(tables, limit).await;
        });
        taps(tap);
    }
}

/// The copy's own headers. Compat: it counts as a request of ours: internal, and forwarded by us.
fn edit(
    head: &mut RequestHead,
    mirror: &Mirror,
    shard: &Shard,
    with_values: &impl Fn(&RequestHead, &mut dyn FnMut(&dyn Values)),
) -> Result<(), EditError> {
    let mut host = String::new();
    let authority = std::str::from_utf8(head.authority().unwrap_or_default()).unwrap_or_default();
    if mirror.host.apply(authority, &mut host) {
        head.set_authority(host.as_bytes())?;
    }
    edits::mutate(&mirror.mutations, head, with_values)?;
    head.fields_mut().set("x-envoy-internal", b"true")?;
    append_forwarded_for(head, shard.identity.address)
}

fn framing(method: Option<Method>, body: BodyLength) -> BodyLength {
    let bodiless = matches!(method, Some(Method::Get | Method::Head | Method::Delete | Method::Trace));
    if body == BodyLength::None && !bodiless { BodyLength::Length(0) } else { body }
}

/// A copy on its way.
struct Copy {
    shard: Rc<Shard>,
    cluster: ClusterId,
    destination: Option<std::net::SocketAddr>,
    high_priority: bool,
    /// What the client speaks, for clusters that go by it.
    downstream: Version,
    head: RequestHead,
    body: Taken,
}

impl Copy {
    /// Sends the copy and reads its answer.
    async fn send(self, tables: Current<Tables>, limit: Duration) {
        let Some(cluster) = tables.cluster(self.cluster) else { return };
        let state = self.shard.cluster(&cluster);
        let lease = self.shard.lease(&cluster, &state, self.high_priority);
        let course = Course::to(&cluster, self.downstream);
        let wish = Wish { destination: self.destination, ..Wish::default() };
        let Some(choice) = state.pick(&cluster, wish) else {
            state.stats.add(ClusterCounter::UpstreamCxNoneHealthy, 1);
            return;
        };
        drop(tables);
        let began = now();
        match timeout(limit, self.converse(&state, &choice, lease, &course)).await {
            Ok(Ok(status)) => {
                choice.host.tell(Outcome::Answered(status));
                state.stats.count_answer(status);
                state.stats.record(ClusterHistogram::UpstreamRqTime, (now() - began).as_millis() as u64);
            }
            Ok(Err(failure)) => {
                Outcome::of(failure).into_iter().for_each(|outcome| choice.host.tell(outcome));
                failure.row().counter.into_iter().for_each(|counter| state.stats.add(counter, 1));
                state.stats.add(ClusterCounter::UpstreamRqRxReset, failure.is_reset().into());
            }
            Err(_) => state.stats.add(ClusterCounter::UpstreamRqTimeout, 1),
        }
    }

    /// Gets a connection, and the status of a complete answer on it.
    async fn converse(
        &self,
        state: &Rc<ClusterState>,
        choice: &Choice,
        lease: Lease,
        course: &Course,
    ) -> Result<u16, Failure> {
        let stats = &state.stats;
        if course.speaks_http2 {
            let lane = http2::acquire(state, choice, lease, &course.reach).await?;
            choice.host.tell(Outcome::Connected);
            let _permit = state.requests.take(lease.requests_max).ok_or(Failure::Overflow)?;
            stats.add(ClusterCounter::UpstreamRqTotal, 1);
            let _active = Active::begin(stats, &choice.host);
            return converse_http2(&lane, &self.head, &self.body).await;
        }
        let mut connection =
            upstream::acquire(state, choice, lease, &course.reach.options, false).await?.connection;
        choice.host.tell(Outcome::Connected);
        let Some(_permit) = state.requests.take(lease.requests_max) else {
            connection.give_back(course.reach.reuse);
            return Err(Failure::Overflow);
        };
        stats.add(ClusterCounter::UpstreamRqTotal, 1);
        connection.begin_request();
        let active = Active::begin(stats, &choice.host);
        let answer = converse(&connection.stream, &self.head, &self.body).await;
        drop(active);
        let Answer { status, reusable } = answer.ok_or(Failure::ConnectionTermination)?;
        if reusable {
            connection.give_back(course.reach.reuse);
        }
        Ok(status)
    }
}

/// How a cluster is reached.
struct Course {
    reach: Settings,
    speaks_http2: bool,
}

impl Course {
    fn to(cluster: &ClusterRef<'_>, downstream: Version) -> Course {
        let connection = &cluster.cluster.connection;
        let reach = Settings {
            options: upstream::options(connection),
            http2: connection.http2,
            reuse: Reuse::of(connection),
        };
        let speaks_http2 = match connection.protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::FromDownstream => downstream == Version::Http2,
        };
        Course { reach, speaks_http2 }
    }
}

/// A complete answer.
struct Answer {
    status: u16,
    /// The connection can carry another request.
    reusable: bool,
}

/// Sends a body as it comes; false when it breaks off.
async fn send_body(send: &mut crate::http2::Send<'_>, body: &Taken) -> bool {
    loop {
        match body.next().await {
            Next::Bytes(bytes) if send.data(&bytes).await.is_ok() => {}
            // The server wants no more of it; it may still answer.
            Next::Bytes(_) => return true,
            Next::End => {
                let _ = send.finish(None).await;
                return true;
            }
            Next::Broken => {
                // The server must not take a part for the whole.
                send.reset(CANCEL);
                return false;
            }
        }
    }
}

/// Sends the request on a stream and reads its answer, both at once.
async fn converse_http2(lane: &http2::Lane, head: &RequestHead, body: &Taken) -> Result<u16, Failure> {
    let written = Cell::new(false);
    let progress = Progress::begin(now());
    let ends = matches!(head.framing().body, BodyLength::None | BodyLength::Length(0));
    let (mut send, mut answer) = lane.request(head, ends, &written)?;
    let send = pin!(async {
        if !ends && !send_body(&mut send, body).await {
            return;
        }
        pending::<()>().await;
    });
    let receive = async {
        let mut response = ResponseHead::new();
        let mut arrived = answer.head(&mut response, None, &progress).await?;
        while !arrived.is_end() {
            if arrived.is_empty() && arrived.fill().await.is_err() {
                return Err(Failure::ConnectionTermination);
            }
            let piece = arrived.piece();
            arrived.consume(piece.consumed);
        }
        Ok(response.status())
    };
    match race(receive, send).await {
        Either::Left(status) => status,
        Either::Right(()) => Err(Failure::ConnectionTermination),
    }
}

/// Sends the request and reads its answer, both at once. `None` when there is no complete answer.
async fn converse(stream: &Stream, head: &RequestHead, body: &Taken) -> Option<Answer> {
    let sent = Cell::new(false);
    let send = pin!(async {
        if send(stream, head, body).await.is_some() {
            sent.set(true);
        }
        // Without the whole request there may still be an answer.
        pending::<()>().await;
    });
    match race(receive(stream, head.method()), send).await {
        Either::Left(answer) => {
            answer.map(|answer| Answer { reusable: answer.reusable && sent.get(), ..answer })
        }
        Either::Right(()) => None,
    }
}

async fn send(stream: &Stream, head: &RequestHead, body: &Taken) -> Option<()> {
    let chunked = head.framing().body == BodyLength::Chunked;
    let mut out = Vec::new();
    encode_request(head, &mut out);
    loop {
        stream.send_all(&out).await.ok()?;
        out.clear();
        match body.next().await {
            Next::Bytes(bytes) if chunked => {
                out.extend_from_slice(ChunkHead::new(bytes.len()).as_bytes());
                out.extend_from_slice(&bytes);
                out.extend_from_slice(CHUNK_END);
            }
            Next::Bytes(bytes) => out = bytes,
            Next::End if chunked => return stream.send_all(LAST_CHUNK).await.ok(),
            Next::End => return Some(()),
            Next::Broken => {
                // The server must not take a part for the whole.
                let _ = stream.shutdown_write();
                return None;
            }
        }
    }
}

/// Reads an answer to its end.
async fn receive(stream: &Stream, method: Option<Method>) -> Option<Answer> {
    let mut inflow = Inflow::default();
    let mut decoder = ResponseDecoder::new(ResponseTo { method, upgrade: false });
    let mut head = ResponseHead::new();
    loop {
        if !inflow.fill(stream).await.ok()? {
            return None;
        }
        match decoder.decode(inflow.bytes(), &mut head).ok()? {
            Decoded::NeedMore => inflow.consume(inflow.bytes().len()),
            Decoded::Complete { consumed } => {
                inflow.consume(consumed);
                if head.status() >= 200 {
                    break;
                }
            }
        }
    }
    let length = head.framing().body;
    let mut body = BodyDecoder::new(length);
    loop {
        while !body.is_end() && !inflow.is_empty() {
            let step = body.decode(inflow.bytes()).ok()?;
            inflow.consume(step.consumed);
        }
        if body.is_end() {
            let reusable = head.framing().persistent && length != BodyLength::UntilClose && inflow.is_empty();
            return Some(Answer { status: head.status(), reusable });
        }
        if !inflow.fill(stream).await.ok()? {
            body.finish().ok()?;
        }
    }
}

/// HTTP/2's CANCEL (RFC 9113 §7).
const CANCEL: u32 = 8;
