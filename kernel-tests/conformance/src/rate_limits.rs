//! A rate limit service that both proxies ask, and that answers by what it is asked.
//!
//! The descriptor entry `run` names the run, for the journal; the entry `answer` says what to answer: `ok`, `over`,
//! `unknown`, `silent` (nothing, for longer than any scenario looks), `broken` (a gRPC error), each optionally with
//! words after it: `told` (the limit and what is left of it), `fields` (fields for the answer, and for the request),
//! `body` (a body of its own).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, server};
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus, RateLimit};
use ringsail_xds::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use crate::backend::{Journal, Seen};

/// Name of the service among the backends.
pub const SERVICE: &str = "limits";
/// Longer than any scenario looks.
const SILENCE: Duration = Duration::from_secs(20);

/// Starts the service, which lives as long as the process.
pub fn start(journal: Arc<Journal>) -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback listener");
    listener.set_nonblocking(true).expect("a socket can be made non-blocking");
    let address = listener.local_addr().expect("a bound listener has an address");
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listening socket");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, journal.clone()));
            }
        });
    });
    address
}

async fn serve(stream: TcpStream, journal: Arc<Journal>) {
    let Ok(mut connection) = server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, journal.clone()));
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: server::SendResponse<Bytes>,
    journal: Arc<Journal>,
) {
    let (head, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        bytes.extend_from_slice(&piece);
    }
    let Ok(question) = RateLimitRequest::decode(bytes.get(5..).unwrap_or_default()) else { return };
    let (run, script) = (entry(&question, "run"), entry(&question, "answer"));
    let host = head.uri.authority().map(ToString::to_string).unwrap_or_default();
    journal.note(&run, Seen { backend: SERVICE, start: shown(&question), host, step: script.clone() });
    if script.starts_with("silent") {
        return tokio::time::sleep(SILENCE).await;
    }
    let response = Response::builder().header("content-type", "application/grpc");
    if script.starts_with("broken") {
        let response = response.header("grpc-status", 13);
        let _ = respond.send_response(response.body(()).unwrap_or_default(), true);
        return;
    }
    let Ok(mut out) = respond.send_response(response.body(()).unwrap_or_default(), false) else { return };
    let message = verdict(&script).encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    let _ = out.send_data(framed.into(), false);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let _ = out.send_trailers(trailers);
}

/// The value of the first entry of this key.
fn entry(question: &RateLimitRequest, key: &str) -> String {
    let mut entries = question.descriptors.iter().flat_map(|descriptor| &descriptor.entries);
    entries.find(|entry| entry.key == key).map(|entry| entry.value.clone()).unwrap_or_default()
}

/// What was asked, without what tells runs apart.
fn shown(question: &RateLimitRequest) -> String {
    let mut text = format!("{} hits={}", question.domain, question.hits_addend);
    for descriptor in &question.descriptors {
        text.push_str(" {");
        for entry in descriptor.entries.iter().filter(|entry| entry.key != "run") {
            text.push_str(&format!(" {}={}", entry.key, entry.value));
        }
        if let Some(limit) = &descriptor.limit {
            text.push_str(&format!(" limit={}/{}", limit.requests_per_unit, limit.unit));
        }
        if let Some(hits) = descriptor.hits_addend {
            text.push_str(&format!(" hits={hits}"));
        }
        text.push_str(" }");
    }
    text
}

fn verdict(script: &str) -> RateLimitResponse {
    let says = |word: &str| script.split(' ').any(|said| said == word);
    let code = match script.split(' ').next() {
        Some("over") => Code::OverLimit,
        Some("unknown") => Code::Unknown,
        _ => Code::Ok,
    };
    let field = |key: &str, value: &str| core::HeaderValue {
        key: key.to_string(),
        value: value.to_string(),
        ..core::HeaderValue::default()
    };
    let status = |requests: u32, unit: i32, left: u32| DescriptorStatus {
        code: code as i32,
        current_limit: Some(RateLimit { requests_per_unit: requests, unit, name: String::new() }),
        limit_remaining: left,
        duration_until_reset: Some(prost_types::Duration { seconds: 9, nanos: 0 }),
        ..DescriptorStatus::default()
    };
    let mut verdict = RateLimitResponse { overall_code: code as i32, ..RateLimitResponse::default() };
    if says("told") {
        verdict.statuses = vec![status(10, 2, 4), status(100, 3, 2)];
    }
    if says("fields") {
        verdict.response_headers_to_add = vec![field("x-of-service", "1"), field("x-backend", "service")];
        verdict.request_headers_to_add = vec![field("x-for-upstream", "2")];
    }
    if says("body") {
        verdict.raw_body = b"so many".to_vec();
    }
    verdict
}
