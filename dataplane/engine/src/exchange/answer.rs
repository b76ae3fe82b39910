//! The upstream's answer on its way to the client.

use std::pin::pin;

use ringsail_http::{BodyLength, EditError, Framing, Method, Version, hop};
use ringsail_runtime::time::now;

use super::admit::Switch;
use super::plan::Plan;
use super::{Ending, Exchange, Source, filter, values};
use crate::decimal::Decimal;
use crate::failure::Failure;
use crate::forward::{self, together};
use crate::headers::{edits, response};
use crate::inflow::Inflow;
use crate::limits::GRPC_WEB_MESSAGE_BYTES_MAX;
use crate::message::{Incoming, Outgoing};
use crate::upstream::{Choice, Connection};

/// How the answer goes out. Its head is on its way already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prepared {
    /// How the body comes.
    pub(super) inward: BodyLength,
    /// The client was told that it may go on.
    pub(super) persistent: bool,
    /// A protocol switch was asked for and not granted: the head is all the client gets.
    pub(super) refused: bool,
}

/// Settles the head in `x.response` and puts it in front of what goes to the client. `is_whole` says that the upstream's
/// message is over with it.
pub(super) fn prepare(
    x: &mut Exchange<'_>,
    plan: &Plan,
    choice: &Choice,
    is_whole: bool,
) -> Result<Prepared, Failure> {
    let facts = x.facts;
    let status = x.response.status();
    let switched = match facts.switch {
        Switch::Upgrade => status == 101,
        Switch::Connect => (200..300).contains(&status),
        Switch::None | Switch::ConnectHere => false,
    };
    let refused = facts.switch != Switch::None && !switched;
    let inward = if switched { BodyLength::Tunnel } else { x.response.framing().body };
    let outward = match (switched, refused) {
        (true, _) => BodyLength::Tunnel,
        (false, true) => BodyLength::Length(0),
        // What follows shows whether this is an answer without body: if there is data after all, the stream is reset.
        (false, false) if !is_whole && inward == BodyLength::None && facts.version == Version::Http2 => {
            BodyLength::Chunked
        }
        (false, false) if x.left.grpc_web.is_some() && !is_bodiless(inward) => {
            facts.outward_length(BodyLength::Chunked, x.request.version())
        }
        (false, false) => facts.outward_length(inward, x.request.version()),
    };
    let persistent = facts.may_persist() && !refused && outward != BodyLength::UntilClose;

    hop::strip_response(x.response, switched && facts.switch == Switch::Upgrade);
    x.trail.status = status;
    x.trail.details = if refused { "websocket_handshake_unsuccessful" } else { "via_upstream" }.into();
    // The upstream's own fields fit; what configuration adds may not.
    settle(x, plan, choice).map_err(|_| Failure::UpstreamProtocol)?;
    if x.trail.upstream_version == Some(Version::Http2) && lacks_length(x) {
        // Compat: how an answer to GET would be framed.
        let fields = x.response.fields_mut();
        fields.append("transfer-encoding", b"chunked").map_err(|_| Failure::UpstreamProtocol)?;
    }
    x.response.set_framing(Framing { body: outward, persistent });
    facts.progress.response_begun.set(Some(now()));
    x.outgoing.head(x.response, facts.answer_version(x.request.version()));
    x.outgoing.set_framing(outward == BodyLength::Chunked, facts.manager.enable_trailers);
    if switched {
        facts.progress.upgraded.set(true);
        crate::record::upgraded(&facts);
        crate::record::tunnel_established(x);
    }
    Ok(Prepared { inward, persistent, refused })
}

/// The begin of a body that is not gRPC's, as much as a gRPC-Web client gets of it.
pub(super) async fn begin_of_text(incoming: Option<Incoming<'_>>) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let Some(mut incoming) = incoming else { return Ok(text) };
    while !incoming.is_end() && text.len() < GRPC_WEB_MESSAGE_BYTES_MAX {
        if incoming.is_empty() && incoming.fill().await.is_err() {
            break;
        }
        let piece = incoming.piece().map_err(|_| Failure::UpstreamProtocol)?;
        text.extend_from_slice(incoming.bytes().get(piece.data).unwrap_or_default());
        incoming.consume(piece.consumed);
    }
    text.truncate(GRPC_WEB_MESSAGE_BYTES_MAX);
    Ok(text)
}

fn is_bodiless(length: BodyLength) -> bool {
    matches!(length, BodyLength::None | BodyLength::Length(0))
}

/// An answer to HEAD, on its way to HTTP/1, that does not tell how long the body would be.
fn lacks_length(x: &Exchange<'_>) -> bool {
    x.facts.version == Version::Http11
        && x.request.method() == Some(Method::Head)
        && !matches!(x.response.status(), 204 | 304)
        && !x.response.fields().contains("content-length")
}

/// Adds the router's, the route's, the filters' and the connection manager's fields, in this order.
fn settle(x: &mut Exchange<'_>, plan: &Plan, choice: &Choice) -> Result<(), EditError> {
    let facts = x.facts;
    if let Some(complete) = facts.progress.request_complete.get().filter(|_| !plan.suppress_envoy_headers) {
        let millis = Decimal::new((now() - complete).as_millis() as u64);
        x.response.fields_mut().set("x-envoy-upstream-service-time", millis.text())?;
    }
    if let Some(tables) = &x.tables
        && let Some(found) = tables.route(plan.route)
    {
        let cluster = tables.cluster(plan.cluster);
        let endpoint = cluster.as_ref().and_then(|cluster| choice.endpoint(cluster.endpoints));
        let context = values::Context::of(&facts, x.trail);
        let context = context.with_metadata(
            endpoint.and_then(|endpoint| endpoint.metadata.as_deref()),
            cluster.as_ref().and_then(|cluster| cluster.cluster.metadata.as_deref()),
        );
        let context = context.with_request(x.request);
        for levels in found.header_edits().filter(|levels| !levels.response.is_empty()) {
            edits::apply(&levels.response, x.response, |head, use_values| {
                use_values(&context.with_response(head));
            })?;
        }
        if found.virtual_host.include_attempt_count_in_response {
            let count = Decimal::new(x.trail.attempts.into());
            x.response.fields_mut().set("x-envoy-attempt-count", count.text())?;
        }
    }
    for cookie in &x.left.cookies {
        x.response.fields_mut().append("set-cookie", cookie.as_bytes())?;
    }
    filter::response(x)?;
    crate::telemetry::answer_begins(x);
    let request_id = x.request.fields().get("x-request-id");
    response::settle_fields(x.response, facts.manager, &facts.shard.date(), request_id)?;
    x.tell_operation()
}

/// CONNECT answered here: `200 OK`, then the bytes of both sides as they are.
pub(super) async fn tunnel_from_here(
    x: &mut Exchange<'_>,
    source: &mut Source<'_>,
    connection: Connection,
) -> Result<Ending, Failure> {
    let facts = x.facts;
    x.response.reset(200);
    response::settle_fields(x.response, facts.manager, &facts.shard.date(), None)
        .map_err(|_| Failure::HeadTooLargeAfterEdits)?;
    x.response.set_framing(Framing { body: BodyLength::Tunnel, persistent: true });
    x.trail.status = 200;
    x.trail.details = "via_upstream".into();
    x.tables = None;
    x.outgoing.head(x.response, facts.answer_version(x.request.version()));
    facts.progress.upgraded.set(true);
    crate::record::upgraded(&facts);
    source.upstream_out.clear();
    let upstream =
        Outgoing::h1(&connection.stream, &mut source.upstream_out, &facts.progress.request_written);
    let client = pin!(forward::request(&mut source.body, upstream, facts.progress));
    let mut arrived = Inflow::default();
    let mut incoming = Incoming::h1(&connection.stream, &mut arrived, BodyLength::Tunnel);
    let (outgoing, tunnel) = (&mut x.outgoing, BodyLength::Tunnel);
    let pace = x.left.pace.as_ref();
    let body = forward::response_body(&mut incoming, tunnel, outgoing, None, pace, facts.progress);
    together(client, &mut x.deadlines, facts.progress, body).await?;
    Ok(Ending::Close)
}
