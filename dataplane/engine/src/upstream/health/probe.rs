//! Asks an endpoint how it is: over HTTP, by gRPC's health service, or over plain TCP.
//!
//! Every check makes a connection of its own; Envoy keeps one if `reuse_connection` is not switched off.

use std::cell::Cell;
use std::net::SocketAddr;

use ringsail_http::{
    BodyLength, EditError, Fields, Framing, Method, RequestHead, ResponseDecoder, ResponseHead, ResponseTo,
    encode_request,
};
use ringsail_runtime::net::{self, Address};
use ringsail_runtime::time::{now, timeout};
use ringsail_tables::cluster::ConnectionSettings;
use ringsail_tables::health_check::{GrpcProbe, HealthCheck, HttpProbe, Probe, is_serving};
use ringsail_tables::http2::Http2Settings;
use ringsail_tables::metadata::Metadata;
use ringsail_tables::template::{Property, Values};

use super::Finding;
use crate::headers::edits;
use crate::http2::upstream as http2;
use crate::inflow::Inflow;
use crate::limits::CHECK_ANSWER_BYTES_MAX;
use crate::message::{Answer, Lost, Outgoing};
use crate::progress::Progress;
use crate::stream::Stream;
use crate::upstream::connect;

/// Who is asked.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Where.
    pub address: &'a Address,
    /// Name of its cluster: the authority when the check gives none.
    pub cluster: &'a str,
    /// How connections to it are made.
    pub connection: &'a ConnectionSettings,
}

/// The header by which an endpoint asks to be left out.
pub const UNWELL_AT_ONCE: &str = "x-envoy-immediate-health-check-fail";

/// Asks an endpoint once.
pub async fn probe(check: &HealthCheck, asked: Asked<'_>) -> Finding {
    let address = match (asked.address.as_inet(), check.alt_port) {
        (Some(inet), Some(port)) => Address::from(SocketAddr::new(inet.ip(), port)),
        _ => asked.address.clone(),
    };
    let finding = async {
        let connected = net::Stream::connect(&address, &connect::options(asked.connection)).await;
        let stream = Stream::from(connected.ok()?);
        match &check.probe {
            Probe::Http(probe) => http(probe, stream, asked).await,
            Probe::Grpc(probe) => grpc(probe, stream, asked).await,
            Probe::Tcp { send, receive } => {
                if !send.is_empty() {
                    stream.send_all(send).await.ok()?;
                }
                wait_for(&stream, receive).await.then_some(Finding::Passed)
            }
        }
    };
    match timeout(check.timeout, finding).await {
        Ok(finding) => finding.unwrap_or(Finding::NoAnswer),
        Err(_) => Finding::TimedOut,
    }
}

async fn http(probe: &HttpProbe, stream: Stream, asked: Asked<'_>) -> Option<Finding> {
    let head = http_head(probe, asked).ok()?;
    let http2 = probe.http2.then_some(&asked.connection.http2);
    let reply = ask(stream, http2, head, &probe.send, probe.answer_bytes_max as usize).await?;
    let status = reply.head.status();
    let is_in = |ranges: &[(u16, u16)]| ranges.iter().any(|(from, to)| (*from..*to).contains(&status));
    let says = |name: &str| reply.head.fields().contains(name);
    if !is_in(&probe.expected) {
        return Some(match is_in(&probe.retriable) {
            true => Finding::Retriable,
            false if says(UNWELL_AT_ONCE) => Finding::FailedAtOnce,
            false => Finding::Failed,
        });
    }
    if !holds_in_order(&reply.body, &probe.receive) {
        return Some(Finding::Failed);
    }
    Some(if says("x-envoy-degraded") { Finding::Degraded } else { Finding::Passed })
}

fn http_head(probe: &HttpProbe, asked: Asked<'_>) -> Result<RequestHead, EditError> {
    let host = probe.host.as_deref().unwrap_or(asked.cluster);
    let method = Method::from_bytes(probe.method.as_bytes()).unwrap_or(Method::Get);
    let mut head = RequestHead::build(method, host.as_bytes(), probe.path.as_bytes())?;
    head.fields_mut().append("user-agent", b"Envoy/HC")?;
    edits::apply(&probe.headers, &mut head, |_, with| with(&Nothing))?;
    Ok(head)
}

/// Source: gRPC Health Checking Protocol, `grpc.health.v1.Health/Check`.
async fn grpc(probe: &GrpcProbe, stream: Stream, asked: Asked<'_>) -> Option<Finding> {
    let head = grpc_head(probe, asked).ok()?;
    // Not compressed, and its length.
    let mut framed = vec![0];
    framed.extend_from_slice(&(probe.question.len() as u32).to_be_bytes());
    framed.extend_from_slice(&probe.question);
    let reply = ask(stream, Some(&asked.connection.http2), head, &framed, CHECK_ANSWER_BYTES_MAX).await?;
    let in_trailers = reply.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    let code = in_trailers.or(reply.head.fields().get("grpc-status"));
    let serving = crate::grpc::message(&reply.body).is_some_and(is_serving);
    let passed = reply.head.status() == 200 && code == Some(b"0") && serving;
    Some(if passed { Finding::Passed } else { Finding::Failed })
}

fn grpc_head(probe: &GrpcProbe, asked: Asked<'_>) -> Result<RequestHead, EditError> {
    let authority = probe.authority.as_deref().unwrap_or(asked.cluster);
    let mut head = RequestHead::build(Method::Post, authority.as_bytes(), b"/grpc.health.v1.Health/Check")?;
    let fields = head.fields_mut();
    fields.append("te", b"trailers")?;
    fields.append("content-type", b"application/grpc")?;
    fields.append("user-agent", b"Envoy/HC")?;
    edits::apply(&probe.headers, &mut head, |_, with| with(&Nothing))?;
    Ok(head)
}

struct Reply {
    head: ResponseHead,
    /// The begin of the body.
    body: Vec<u8>,
    trailers: Option<Fields>,
}

/// Sends a request and receives the whole answer; of its body, `body_max` bytes are kept.
async fn ask(
    stream: Stream,
    http2: Option<&Http2Settings>,
    mut head: RequestHead,
    body: &[u8],
    body_max: usize,
) -> Option<Reply> {
    let length = if body.is_empty() { BodyLength::None } else { BodyLength::Length(body.len() as u64) };
    head.set_framing(Framing { body: length, persistent: true });
    let (written, progress) = (Cell::new(false), Progress::begin(now()));
    let (mut out, mut inflow) = (Vec::new(), Inflow::default());
    let alone;
    let (mut outgoing, mut answer) = match http2 {
        None => {
            encode_request(&head, &mut out);
            let decoder = ResponseDecoder::new(ResponseTo { method: head.method(), upgrade: false });
            let answer = Answer::H1 { stream: &stream, inflow: &mut inflow, decoder };
            (Outgoing::h1(&stream, &mut out, &written), answer)
        }
        Some(settings) => {
            alone = http2::alone(stream, settings).await.ok()?;
            let (send, answer) = alone.request(&head, body.is_empty(), &written).ok()?;
            (Outgoing::H2(send), Answer::H2(answer, None))
        }
    };
    if http2.is_none() || !body.is_empty() {
        // Who does not want the question may still answer.
        let _ = outgoing.data(body).await;
        let _ = outgoing.finish(None).await;
    }
    let mut response = ResponseHead::new();
    answer.head(&mut response, None, &progress).await.ok()?;
    let mut incoming = answer.body(response.framing().body)?;
    let mut kept = Vec::new();
    while !incoming.is_end() {
        if incoming.is_empty() {
            match incoming.fill().await {
                Ok(()) => {}
                Err(Lost::Ended) => incoming.finish().ok()?,
                Err(_) => return None,
            }
            continue;
        }
        let piece = incoming.piece().ok()?;
        let data = incoming.bytes().get(piece.data).unwrap_or_default();
        let room = body_max - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        incoming.consume(piece.consumed);
    }
    let trailers = incoming.trailers().cloned();
    Some(Reply { head: response, body: kept, trailers })
}

/// Whether all of `parts` arrive, in this order.
async fn wait_for(stream: &Stream, parts: &[Box<[u8]>]) -> bool {
    let mut arrived: Vec<u8> = Vec::new();
    loop {
        let all = holds_in_order(&arrived, parts);
        if all || arrived.len() > CHECK_ANSWER_BYTES_MAX {
            return all;
        }
        let mut inflow = Inflow::default();
        if !inflow.fill(stream).await.unwrap_or(false) {
            return false;
        }
        arrived.extend_from_slice(inflow.bytes());
    }
}

/// Whether `bytes` hold all of `parts` in this order, with anything in between.
fn holds_in_order(bytes: &[u8], parts: &[Box<[u8]>]) -> bool {
    let mut rest = bytes;
    parts.iter().all(|part| match rest.windows(part.len()).position(|window| *window == **part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// There is no exchange whose values could stand in a check's headers; the tables have literal ones only.
struct Nothing;

impl Values for Nothing {
    fn request_header(&self, _: &str) -> Option<&[u8]> {
        None
    }
    fn response_header(&self, _: &str) -> Option<&[u8]> {
        None
    }
    fn property(&self, _: Property, _: &mut Vec<u8>) {}
    fn start_time(&self, _: &str, _: &mut Vec<u8>) {}
    fn upstream_metadata(&self) -> Option<&Metadata> {
        None
    }
    fn cluster_metadata(&self) -> Option<&Metadata> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_to_be_there_in_order_and_apart() {
        let holds = |text: &str, parts: &[&str]| {
            let parts: Vec<Box<[u8]>> = parts.iter().map(|part| part.as_bytes().into()).collect();
            holds_in_order(text.as_bytes(), &parts)
        };
        assert!(holds("all is well", &["all", "well"]) && holds("anything", &[]));
        assert!(!holds("all is well", &["well", "all"]));
        assert!(!holds("aba", &["ab", "ba"]), "no byte serves two parts");
    }
}
