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
    BodyLength, EditError, Framing, Method, RequestHead, ResponseDecoder, ResponseHead, ResponseTo, Version,
    encode_request,
};
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
use crate::message::{Answer, Lost, Outgoing};
use crate::progress::Progress;
use crate::shard::Shard;
use crate::upstream::{self, Carries, Choice, ClusterState, Dial, Lease, Outcome, Reuse, Wish};

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
            tap.complete(None);
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
        let wish = Wish { destination: self.destination, ..Wish::default() };
        let Some(choice) = state.pick(&cluster, wish) else {
            state.stats.add(ClusterCounter::UpstreamCxNoneHealthy, 1);
            return;
        };
        let course = Course::to(&tables, &cluster, &state, &choice, self.downstream);
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
        let link = if course.speaks_http2 {
            Link::H2(http2::acquire(state, choice, lease, &course.reach).await?)
        } else {
            let acquired = upstream::acquire(state, choice, lease, &course.reach.dial, false).await?;
            Link::H1(acquired.connection)
        };
        choice.host.tell(Outcome::Connected);
        let permit = state.requests.take(lease.requests_max);
        if permit.is_some() {
            stats.add(ClusterCounter::UpstreamRqTotal, 1);
        }
        let result = match (&permit, &link) {
            (None, _) => Err(Failure::Overflow),
            (Some(_), link) => {
                let _active = Active::begin(stats, &choice.host);
                converse(link, &self.head, &self.body).await
            }
        };
        let unused = result == Err(Failure::Overflow);
        if let Link::H1(mut connection) = link {
            if result.is_ok_and(|answer| answer.reusable) {
                connection.begin_request();
                connection.give_back(course.reach.reuse);
            } else if unused {
                connection.give_back(course.reach.reuse);
            }
        }
        result.map(|answer| answer.status)
    }
}

/// What carries a copy.
enum Link {
    /// A connection of its own.
    H1(upstream::Connection),
    /// A stream of a shared one.
    H2(http2::Lane),
}

/// How a cluster is reached.
struct Course {
    reach: Settings,
    speaks_http2: bool,
}

impl Course {
    fn to(
        tables: &Tables,
        cluster: &ClusterRef<'_>,
        state: &ClusterState,
        choice: &Choice,
        downstream: Version,
    ) -> Course {
        let connection = &cluster.cluster.connection;
        let speaks_http2 = match connection.protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::FromDownstream => downstream == Version::Http2,
        };
        let carries = if speaks_http2 { Carries::Http2 } else { Carries::Http1 };
        let reach = Settings {
            dial: Dial::to(tables, cluster, state, choice, carries, None),
            http2: connection.http2,
            reuse: Reuse::of(connection),
        };
        Course { reach, speaks_http2 }
    }
}

/// A complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answered {
    status: u16,
    /// The connection can carry another request.
    reusable: bool,
}

/// Sends the request and reads its answer, both at once.
async fn converse(link: &Link, head: &RequestHead, body: &Taken) -> Result<Answered, Failure> {
    let written = Cell::new(false);
    let sent = Cell::new(false);
    let progress = Progress::begin(now());
    let (mut out, mut arrived) = (Vec::new(), Inflow::default());
    let ends = matches!(head.framing().body, BodyLength::None | BodyLength::Length(0));
    let (mut outgoing, mut answer) = match link {
        Link::H1(connection) => {
            encode_request(head, &mut out);
            let to = ResponseTo { method: head.method(), upgrade: false };
            let (stream, decoder) = (&connection.stream, ResponseDecoder::new(to));
            let outgoing = Outgoing::h1(stream, &mut out, &written);
            (outgoing, Answer::H1 { stream, inflow: &mut arrived, decoder })
        }
        Link::H2(lane) => {
            let (send, answer) = lane.request(head, ends, &written)?;
            (Outgoing::H2(send), Answer::H2(answer, None))
        }
    };
    outgoing.set_framing(head.framing().body == BodyLength::Chunked, false);
    let send = pin!(async {
        let is_sent = ends && matches!(link, Link::H2(_));
        if !is_sent && !send(&mut outgoing, body).await {
            return;
        }
        sent.set(true);
        // There is still the answer.
        pending::<()>().await;
    });
    let receive = async {
        let mut response = ResponseHead::new();
        answer.head(&mut response, None, &progress).await?;
        let length = response.framing().body;
        let mut incoming = answer.body(length).ok_or(Failure::UpstreamProtocol)?;
        while !incoming.is_end() {
            if incoming.is_empty() {
                match incoming.fill().await {
                    Ok(()) => {}
                    Err(Lost::Ended) => incoming.finish().map_err(|_| Failure::ConnectionTermination)?,
                    Err(_) => return Err(Failure::ConnectionTermination),
                }
                continue;
            }
            let piece = incoming.piece().map_err(|_| Failure::UpstreamProtocol)?;
            incoming.consume(piece.consumed);
        }
        let reusable =
            response.framing().persistent && length != BodyLength::UntilClose && incoming.is_empty();
        Ok(Answered { status: response.status(), reusable: reusable && sent.get() })
    };
    match race(receive, send).await {
        Either::Left(answered) => answered,
        Either::Right(()) => Err(Failure::ConnectionTermination),
    }
}

/// Sends what waits and the body as it comes; false when the body breaks off. A server that wants no more of it may
/// still answer.
async fn send(outgoing: &mut Outgoing<'_>, body: &Taken) -> bool {
    loop {
        if outgoing.flush().await.is_err() {
            return true;
        }
        match body.next().await {
            Next::Bytes(bytes) => {
                if outgoing.data(&bytes).await.is_err() {
                    return true;
                }
            }
            Next::End(trailers) => {
                let _ = outgoing.finish(trailers.as_deref()).await;
                return true;
            }
            Next::Broken => {
                // The server must not take a part for the whole: of HTTP/1, the connection is closed.
                outgoing.abort().await;
                return false;
            }
        }
    }
}
