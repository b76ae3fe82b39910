//! Mirroring: copies of requests for other clusters, whose answers are read and thrown away.
//!
//! A copy is a task of its own. The exchange gives it the head and, through a [`tap`], the body as it passes; it never
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
    Progress as Decoded, RequestHead, ResponseDecoder, ResponseHead, ResponseTo, encode_request,
};
use ringsail_runtime::net::Stream;
use ringsail_runtime::publish::Current;
use ringsail_runtime::time::{now, timeout};
use ringsail_runtime::{Either, race, task};
use ringsail_tables::cluster::ClusterRef;
use ringsail_tables::route::{Mirror, RouteMatch};
use ringsail_tables::template::Values;
use ringsail_tables::{ClusterId, Tables};
use ringsail_telemetry::{ClusterCounter, ClusterGauge, ClusterHistogram};

pub use self::tap::Tap;
use self::tap::{Next, Taken, tap};
use crate::breaker::Usage;
use crate::connection::Connection;
use crate::headers::edits;
use crate::headers::request::append_forwarded_for;
use crate::inflow::Inflow;
use crate::limits::{MIRROR_DURATION_MAX, MIRRORS_MAX};
use crate::shard::Shard;
use crate::upstream::{self, Reuse, Wish};

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
            destination: original.connection.restored,
            high_priority: original.high_priority,
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
    head: RequestHead,
    body: Taken,
}

impl Copy {
    /// Sends the copy and reads its answer.
    async fn send(self, tables: Current<Tables>, limit: Duration) {
        let Some(cluster) = tables.cluster(self.cluster) else { return };
        let state = self.shard.cluster(&cluster);
        let lease = self.shard.lease(&cluster, &state, self.high_priority);
        let (options, reuse) = course(&cluster);
        let wish = Wish { destination: self.destination, ..Wish::default() };
        let Some(choice) = state.pick(&cluster, wish) else {
            state.stats.add(ClusterCounter::UpstreamCxNoneHealthy, 1);
            return;
        };
        drop(tables);
        let began = now();
        state.stats.add(ClusterCounter::UpstreamRqTotal, 1);
        let conversation = async {
            let acquired = upstream::acquire(&state, &choice, lease, &options, false).await;
            let mut connection = match acquired {
                Ok(acquired) => acquired.connection,
                Err(failure) => {
                    failure.row().counter.into_iter().for_each(|counter| state.stats.add(counter, 1));
                    return;
                }
            };
            let Some(_permit) = state.requests.take(lease.requests_max) else {
                state.stats.add(ClusterCounter::UpstreamRqPendingOverflow, 1);
                connection.give_back(reuse);
                return;
            };
            connection.begin_request();
            state.stats.raise(ClusterGauge::UpstreamRqActive, 1);
            let answer = converse(&connection.stream, &self.head, &self.body).await;
            state.stats.lower(ClusterGauge::UpstreamRqActive, 1);
            match answer {
                Some(Answer { status, reusable }) => {
                    state.stats.count_answer(status);
                    state.stats.record(ClusterHistogram::UpstreamRqTime, (now() - began).as_millis() as u64);
                    if reusable {
                        connection.give_back(reuse);
                    }
                }
                None => state.stats.add(ClusterCounter::UpstreamRqRxReset, 1),
            }
        };
        if timeout(limit, conversation).await.is_err() {
            state.stats.add(ClusterCounter::UpstreamRqTimeout, 1);
        }
    }
}

fn course(cluster: &ClusterRef<'_>) -> (ringsail_runtime::net::ConnectOptions, Reuse) {
    let connection = &cluster.cluster.connection;
    (upstream::options(connection), Reuse::of(connection))
}

/// A complete answer.
struct Answer {
    status: u16,
    /// The connection can carry another request.
    reusable: bool,
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
