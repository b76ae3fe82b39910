//! A connection that began with HTTP/2's preface: every stream is answered like a request of its own, gRPC included.

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpStream;

use crate::limits::{HTTP2_STREAMS_MAX, HTTP2_WINDOW_BYTES};
use crate::message::Fields;
use crate::server::{Answer, Body, FILLER, Service};

/// The first bytes of HTTP/2 on a connection; no HTTP/1 method begins so. Source: RFC 9113 §3.4.
const PREFACE_BEGIN: &[u8] = b"PRI * ";

/// Whether the client speaks HTTP/2 from the first byte on. Takes nothing off the connection.
pub async fn is_spoken(stream: &TcpStream) -> io::Result<bool> {
    let mut begin = [0; PREFACE_BEGIN.len()];
    loop {
        let length = stream.peek(&mut begin).await?;
        if begin[..length] != PREFACE_BEGIN[..length] || length == 0 {
            return Ok(false);
        }
        if length == begin.len() {
            return Ok(true);
        }
        // The rest of these six bytes is on its way.
        tokio::task::yield_now().await;
    }
}

/// Serves one connection until either side ends it.
pub async fn serve(service: Rc<Service>, stream: TcpStream) -> io::Result<()> {
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(io::Error::other)?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted.map_err(io::Error::other)?;
        let service = Rc::clone(&service);
        // A stream the client gave up is nobody else's concern.
        tokio::task::spawn_local(async move {
            let _ = answer(service, request, respond).await;
        });
    }
    Ok(())
}

async fn answer(
    service: Rc<Service>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (parts, body) = request.into_parts();
    let headers: Vec<httparse::Header<'_>> = parts
        .headers
        .iter()
        .map(|(name, value)| httparse::Header { name: name.as_str(), value: value.as_bytes() })
        .collect();
    let fields = Fields(&headers);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let grpc = fields.get("content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
    let asked = service.asked(target, &fields);
    read_to_end(body).await?;

    let Answer { status, body } = service.answer(&asked).await;
    let (kind, length) = match &body {
        Body::Json(text) => ("application/json", text.len() as u64),
        Body::Filler(size) => ("text/plain", *size),
    };
    let kind = if grpc { "application/grpc" } else { kind };
    let mut head = Response::builder().status(status).header("content-type", kind);
    if !grpc {
        head = head.header("content-length", length);
    }
    let head = head.body(()).expect("a status from 200 to 599 and plain fields make a head");
    let bodiless = parts.method == http::Method::HEAD || matches!(status, 204 | 304);
    let mut out = respond.send_response(head, bodiless)?;
    if bodiless {
        return Ok(());
    }
    if grpc {
        // One message: not compressed, then its length. Source: gRPC over HTTP/2, Length-Prefixed-Message.
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        send(&mut out, Bytes::from([&[0], length.as_slice()].concat()), false).await?;
    }
    match body {
        Body::Json(text) => send(&mut out, text.into(), !grpc).await?,
        Body::Filler(size) => send_filler(&mut out, size, !grpc).await?,
    }
    if grpc {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        out.send_trailers(trailers)?;
    }
    Ok(())
}

async fn read_to_end(mut body: RecvStream) -> Result<(), h2::Error> {
    while let Some(bytes) = body.data().await {
        body.flow_control().release_capacity(bytes?.len())?;
    }
    body.trailers().await.map(drop)
}

async fn send_filler(out: &mut SendStream<Bytes>, size: u64, end: bool) -> Result<(), h2::Error> {
    let mut left = size;
    loop {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(FILLER.len());
        left -= piece as u64;
        send(out, Bytes::from_static(&FILLER[..piece]), end && left == 0).await?;
        if left == 0 {
            return Ok(());
        }
    }
}

/// Sends `bytes` as the client's window allows.
async fn send(out: &mut SendStream<Bytes>, mut bytes: Bytes, end: bool) -> Result<(), h2::Error> {
    loop {
        if bytes.is_empty() {
            return if end { out.send_data(bytes, true) } else { Ok(()) };
        }
        out.reserve_capacity(bytes.len());
        let granted = match std::future::poll_fn(|cx| out.poll_capacity(cx)).await {
            Some(granted) => granted?.min(bytes.len()),
            None => return Ok(()),
        };
        let piece = bytes.split_to(granted);
        let last = end && bytes.is_empty();
        out.send_data(piece, last)?;
        if last {
            return Ok(());
        }
    }
}
