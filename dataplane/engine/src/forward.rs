//! Moves one exchange's bytes: the request upstream, the answer's head back, the answer's body downstream.
//!
//! The request side and the answer side are two futures of one task, polled together by [`together`]; neither
//! buffers more than one block, so the slower socket holds the faster one back.

use std::future::{Future, pending, poll_fn};
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Poll;

use ringsail_http::{
    BodyDecoder, BodyLength, CHUNK_END, ChunkHead, Fields, LAST_CHUNK, Progress as Decoded, ResponseDecoder,
    ResponseHead, encode_last_chunk,
};
use ringsail_runtime::net::Stream;
use ringsail_runtime::time::now;

use crate::body::RequestBody;
use crate::failure::Failure;
use crate::inflow::Inflow;
use crate::limits::{COPIED_BODY_BYTES_MAX, INTERIM_RESPONSES_MAX};
use crate::progress::{Deadlines, Progress};

/// Runs `main` while the client's side goes on and the deadlines are watched. `client` ends only by failing.
pub async fn together<T>(
    mut client: Pin<&mut impl Future<Output = Failure>>,
    deadlines: &mut Deadlines,
    progress: &Progress,
    main: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut main = std::pin::pin!(main);
    poll_fn(|cx| {
        // An answer that is complete counts even when the client leaves in the same moment.
        if let Poll::Ready(result) = main.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        if let Poll::Ready(failure) = client.as_mut().poll(cx) {
            return Poll::Ready(Err(failure));
        }
        deadlines.poll_passed(progress, cx).map(Err)
    })
    .await
}

/// Waits for the client to leave. Bytes that come meanwhile (a pipelined request, or the begin of a body nobody reads
/// yet) are kept, one block of them; behind those a leaving client cannot be seen.
pub async fn client_gone(downstream: &Stream, inflow: &mut Inflow) -> Failure {
    if inflow.is_empty() && !inflow.fill(downstream).await.unwrap_or(false) {
        return Failure::ClientGone;
    }
    pending().await
}

/// The client's side of an attempt: sends `head` and the body upstream, then watches for the client to leave.
///
/// An upstream that takes no more bytes is not a failure here: it may have answered already, and if not, the
/// answer's side sees its connection end.
pub async fn request(
    downstream: &Stream,
    inflow: &mut Inflow,
    body: &mut RequestBody,
    head: &mut Vec<u8>,
    upstream: &Stream,
    progress: &Progress,
) -> Failure {
    let tunnel = body.length() == BodyLength::Tunnel;
    let mut out = std::mem::take(head);
    let sent = match send_kept(body, &mut out, upstream, progress).await {
        Ok(()) if tunnel => send_tunnel(downstream, inflow, &mut out, upstream, progress).await,
        Ok(()) => send_body(downstream, inflow, body, &mut out, upstream, progress).await,
        Err(stopped) => Err(stopped),
    };
    out.clear();
    *head = out;
    match sent {
        Ok(()) | Err(Stopped::UpstreamClosed) => client_gone(downstream, inflow).await,
        Err(Stopped::Failed(failure)) => failure,
    }
}

enum Stopped {
    UpstreamClosed,
    Failed(Failure),
}

/// Sends the head, unless body bytes can go with it, and what an earlier attempt had read of the body.
async fn send_kept(
    body: &RequestBody,
    out: &mut Vec<u8>,
    upstream: &Stream,
    progress: &Progress,
) -> Result<(), Stopped> {
    let kept = body.kept();
    if !kept.is_empty() {
        frame(kept, body.length(), out);
        if body.is_complete() && body.length() == BodyLength::Chunked {
            out.extend_from_slice(LAST_CHUNK);
        }
        flush(upstream, out, progress).await?;
    }
    if body.is_complete() {
        flush(upstream, out, progress).await?;
        progress.complete_request();
        progress.request_sent.set(Some(now()));
    }
    Ok(())
}

/// Copies a whole piece, framed.
fn frame(data: &[u8], length: BodyLength, out: &mut Vec<u8>) {
    if length == BodyLength::Chunked {
        out.extend_from_slice(ChunkHead::new(data.len()).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(CHUNK_END);
    } else {
        out.extend_from_slice(data);
    }
}

async fn flush(upstream: &Stream, out: &mut Vec<u8>, progress: &Progress) -> Result<(), Stopped> {
    if out.is_empty() {
        return Ok(());
    }
    let before = upstream.bytes_sent();
    let result = upstream.send_all(out).await;
    out.clear();
    if upstream.bytes_sent() > before {
        progress.request_written.set(true);
    }
    result.map_err(|_| Stopped::UpstreamClosed)
}

async fn send_body(
    downstream: &Stream,
    inflow: &mut Inflow,
    body: &mut RequestBody,
    out: &mut Vec<u8>,
    upstream: &Stream,
    progress: &Progress,
) -> Result<(), Stopped> {
    let chunked = body.length() == BodyLength::Chunked;
    while !body.is_complete() {
        if inflow.is_empty() {
            // Nothing to add: the head does not wait for the body.
            flush(upstream, out, progress).await?;
            if !inflow.fill(downstream).await.unwrap_or(false) {
                return Err(Stopped::Failed(Failure::ClientGone));
            }
        }
        let piece = body.next(inflow.bytes()).map_err(|error| Stopped::Failed(Failure::Codec(error)))?;
        let data = inflow.bytes().get(piece.data).unwrap_or_default();
        progress.bytes_received.set(progress.bytes_received.get() + data.len() as u64);
        progress.touch();
        progress.body_lost.set(!body.is_repeatable());
        if piece.end {
            progress.complete_request();
        }
        if data.len() <= COPIED_BODY_BYTES_MAX {
            if !data.is_empty() {
                frame(data, body.length(), out);
            }
        } else {
            send_piece(upstream, out, data, chunked).await.map_err(|_| Stopped::UpstreamClosed)?;
            progress.request_written.set(true);
        }
        inflow.consume(piece.consumed);
        if piece.end && chunked {
            // Compat: trailers are dropped towards HTTP/1.
            out.extend_from_slice(LAST_CHUNK);
        }
        if inflow.is_empty() || piece.end || out.len() > COPIED_BODY_BYTES_MAX {
            flush(upstream, out, progress).await?;
        }
    }
    progress.request_sent.set(Some(now()));
    Ok(())
}

/// Sends the head. Once the protocol is switched, everything the client sends goes upstream as it is; before, nothing
/// does.
async fn send_tunnel(
    downstream: &Stream,
    inflow: &mut Inflow,
    out: &mut Vec<u8>,
    upstream: &Stream,
    progress: &Progress,
) -> Result<(), Stopped> {
    flush(upstream, out, progress).await?;
    progress.request_sent.set(Some(now()));
    loop {
        if !inflow.fill(downstream).await.unwrap_or(false) {
            return Err(Stopped::Failed(Failure::ClientGone));
        }
        // The answer's side runs in the same task: whenever it has come further, this is polled again.
        poll_fn(|_| if progress.upgraded.get() { Poll::Ready(()) } else { Poll::Pending }).await;
        let bytes = inflow.bytes();
        let count = bytes.len();
        upstream.send_all(bytes).await.map_err(|_| Stopped::UpstreamClosed)?;
        progress.bytes_received.set(progress.bytes_received.get() + count as u64);
        progress.touch();
        inflow.consume(count);
    }
}

/// Sends what is in `out`, then `data` from where it is, as one chunk where `chunked`.
async fn send_piece(stream: &Stream, out: &mut Vec<u8>, data: &[u8], chunked: bool) -> std::io::Result<()> {
    let result = if chunked {
        let size = ChunkHead::new(data.len());
        let parts = &mut [
            IoSlice::new(out),
            IoSlice::new(size.as_bytes()),
            IoSlice::new(data),
            IoSlice::new(CHUNK_END),
        ];
        stream.send_vectored(parts).await
    } else {
        stream.send_vectored(&mut [IoSlice::new(out), IoSlice::new(data)]).await
    };
    out.clear();
    result
}

/// Receives the head of the final answer into `head`. `interim` is called for each 1xx head and may write bytes for the
/// client, which are sent before going on.
pub async fn response_head(
    upstream: &Stream,
    inflow: &mut Inflow,
    mut decoder: ResponseDecoder,
    head: &mut ResponseHead,
    downstream: &Stream,
    progress: &Progress,
    mut interim: impl FnMut(&ResponseHead, &mut Vec<u8>),
) -> Result<(), Failure> {
    let mut interim_count = 0;
    loop {
        if !inflow.fill(upstream).await.unwrap_or(false) {
            let broken_off = decoder.answered();
            return Err(if broken_off { Failure::UpstreamProtocol } else { Failure::ConnectionTermination });
        }
        progress.touch();
        if progress.answer_began.get().is_none() {
            progress.answer_began.set(Some(now()));
        }
        let decoded = decoder.decode(inflow.bytes(), head).map_err(|_| Failure::UpstreamProtocol)?;
        match decoded {
            Decoded::NeedMore => inflow.consume(inflow.bytes().len()),
            Decoded::Complete { consumed } => {
                inflow.consume(consumed);
                if head.status() >= 200 || head.status() == 101 {
                    return Ok(());
                }
                interim_count += 1;
                if interim_count > INTERIM_RESPONSES_MAX {
                    return Err(Failure::UpstreamProtocol);
                }
                progress.answer_began.set(None);
                let mut bytes = Vec::new();
                interim(head, &mut bytes);
                if !bytes.is_empty() {
                    downstream.send_all(&bytes).await.map_err(|_| Failure::ClientGone)?;
                }
            }
        }
    }
}

/// How a body is written to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outward {
    /// As chunks.
    pub chunked: bool,
    /// With the upstream's trailers.
    pub trailers: bool,
}

/// Sends `out` (the encoded head) and the answer's body to the client. Returns whether the upstream's connection ends
/// with a complete answer and nothing after it.
pub async fn response_body(
    upstream: &Stream,
    inflow: &mut Inflow,
    length: BodyLength,
    outward: Outward,
    out: &mut Vec<u8>,
    downstream: &Stream,
    progress: &Progress,
) -> Result<bool, Failure> {
    let mut decoder = BodyDecoder::new(length);
    let ended_early =
        if length == BodyLength::Tunnel { Failure::ResponseTermination } else { Failure::ResponseProtocol };
    loop {
        while !decoder.is_end() && !inflow.is_empty() {
            let step = match decoder.decode(inflow.bytes()) {
                Ok(step) => step,
                Err(_) => {
                    // What was good of the answer still goes out.
                    send(downstream, out, progress).await?;
                    return Err(ended_early);
                }
            };
            let data = inflow.bytes().get(step.data).unwrap_or_default();
            progress.bytes_sent.set(progress.bytes_sent.get() + data.len() as u64);
            if data.len() <= COPIED_BODY_BYTES_MAX {
                if !data.is_empty() {
                    frame(data, if outward.chunked { BodyLength::Chunked } else { BodyLength::None }, out);
                }
            } else {
                send_piece(downstream, out, data, outward.chunked).await.map_err(|_| Failure::ClientGone)?;
                progress.response_started.set(true);
                progress.touch();
            }
            inflow.consume(step.consumed);
            if out.len() > COPIED_BODY_BYTES_MAX {
                send(downstream, out, progress).await?;
            }
        }
        if decoder.is_end() {
            finish(outward, decoder.trailers(), out);
            send(downstream, out, progress).await?;
            return Ok(length != BodyLength::UntilClose && inflow.is_empty());
        }
        send(downstream, out, progress).await?;
        match inflow.fill(upstream).await {
            Ok(true) => progress.touch(),
            Ok(false) if length == BodyLength::Tunnel => return Err(ended_early),
            Ok(false) => decoder.finish().map_err(|_| ended_early)?,
            Err(_) => return Err(ended_early),
        }
    }
}

fn finish(outward: Outward, trailers: Option<&Fields>, out: &mut Vec<u8>) {
    match (outward.chunked, trailers) {
        (true, Some(trailers)) if outward.trailers => encode_last_chunk(trailers, out),
        (true, _) => out.extend_from_slice(LAST_CHUNK),
        (false, _) => {}
    }
}

async fn send(downstream: &Stream, out: &mut Vec<u8>, progress: &Progress) -> Result<(), Failure> {
    if out.is_empty() {
        return Ok(());
    }
    let before = downstream.bytes_sent();
    let result = downstream.send_all(out).await;
    out.clear();
    if downstream.bytes_sent() > before {
        progress.response_started.set(true);
        progress.touch();
    }
    result.map_err(|_| Failure::ClientGone)
}
