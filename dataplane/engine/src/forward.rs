//! Moves one exchange's bytes: the request upstream, the answer's head back, the answer's body downstream.
//!
//! The request side and the answer side are two futures of one task, polled together by [`together`]; neither
//! buffers more than one block, so the slower peer holds the faster one back.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use ringsail_http::{BodyLength, Progress as Decoded, ResponseDecoder, ResponseHead};
use ringsail_runtime::time::{now, sleep_until};

use crate::body::RequestBody;
use crate::failure::Failure;
use crate::filters::grpc_web;
use crate::inflow::Inflow;
use crate::limits::{COPIED_BODY_BYTES_MAX, INTERIM_RESPONSES_MAX};
use crate::message::{Closed, Incoming, Lost, Outgoing};
use crate::pace::Pace;
use crate::progress::{Deadlines, Progress, count};
use crate::stream::Stream;

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

/// The client's side of an attempt: sends what `upstream` holds (the head) and the body after it, then watches for the
/// client to leave.
///
/// An upstream that takes no more bytes is not a failure here: it may have answered already, and if not, the
/// answer's side sees its connection end.
pub async fn request(body: &mut RequestBody<'_>, mut upstream: Outgoing<'_>, progress: &Progress) -> Failure {
    upstream.set_framing(body.length() == BodyLength::Chunked, false);
    let tunnel = body.length() == BodyLength::Tunnel;
    let sent = match send_kept(body, &mut upstream, progress).await {
        Ok(()) if tunnel => send_tunnel(body, &mut upstream, progress).await,
        Ok(()) => send_body(body, &mut upstream, progress).await,
        Err(stopped) => Err(stopped),
    };
    match sent {
        Ok(()) | Err(Stopped::UpstreamClosed) => body.client_gone().await,
        Err(Stopped::Failed(failure)) => failure,
    }
}

enum Stopped {
    UpstreamClosed,
    Failed(Failure),
}

impl From<Closed> for Stopped {
    fn from(_: Closed) -> Stopped {
        Stopped::UpstreamClosed
    }
}

impl From<Lost> for Stopped {
    fn from(_: Lost) -> Stopped {
        Stopped::Failed(Failure::ClientGone)
    }
}

/// Sends what an earlier attempt had read of the body; the head waits for body bytes that can go with it.
async fn send_kept(
    body: &RequestBody<'_>,
    upstream: &mut Outgoing<'_>,
    progress: &Progress,
) -> Result<(), Stopped> {
    let kept = body.kept();
    if !kept.is_empty() {
        upstream.data(kept).await?;
        upstream.flush().await?;
    }
    if body.is_complete() {
        upstream.finish(body.incoming.trailers()).await?;
        progress.complete_request();
        progress.request_sent.set(Some(now()));
    }
    Ok(())
}

async fn send_body(
    body: &mut RequestBody<'_>,
    upstream: &mut Outgoing<'_>,
    progress: &Progress,
) -> Result<(), Stopped> {
    while !body.is_complete() {
        if body.incoming.is_empty() {
            // Nothing to add: the head does not wait for the body.
            upstream.flush().await?;
            body.fill().await?;
        }
        let taken = body.take().map_err(Stopped::Failed)?;
        progress.count_received(taken.received(), taken.data());
        progress.touch();
        progress.body_lost.set(!taken.is_repeatable());
        let end = taken.end();
        if end {
            progress.complete_request();
        }
        upstream.data(taken.data()).await?;
        count(&progress.wire.downstream.received, taken.consumed());
        drop(taken);
        if end {
            upstream.finish(body.incoming.trailers()).await?;
        } else if body.incoming.is_empty() {
            upstream.flush().await?;
        }
    }
    progress.request_sent.set(Some(now()));
    Ok(())
}

/// Sends the head. Once the protocol is switched, everything the client sends goes upstream as it is; before, nothing
/// does.
async fn send_tunnel(
    body: &mut RequestBody<'_>,
    upstream: &mut Outgoing<'_>,
    progress: &Progress,
) -> Result<(), Stopped> {
    upstream.flush().await?;
    progress.request_sent.set(Some(now()));
    while !body.is_complete() {
        body.fill().await?;
        // The answer's side runs in the same task: whenever it has come further, this is polled again.
        poll_fn(|_| if progress.upgraded.get() { Poll::Ready(()) } else { Poll::Pending }).await;
        let piece = body.incoming.piece().map_err(|error| Stopped::Failed(Failure::Codec(error)))?;
        let data = body.incoming.bytes().get(piece.data).unwrap_or_default();
        upstream.data(data).await?;
        upstream.flush().await?;
        progress.count_received(data.len(), data);
        progress.touch();
        count(&progress.wire.downstream.received, piece.consumed);
        body.incoming.consume(piece.consumed);
    }
    upstream.end_tunnel().await?;
    Ok(())
}

/// Receives the head of the final answer of an HTTP/1 upstream into `head`. An interim (1xx) head goes to `interim`,
/// where there is one, before going on.
pub async fn response_head(
    upstream: &Stream,
    inflow: &mut Inflow,
    decoder: &mut ResponseDecoder,
    head: &mut ResponseHead,
    mut interim: Option<&mut Outgoing<'_>>,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut interim_count = 0;
    let mut head_bytes = 0;
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
            Decoded::NeedMore => {
                head_bytes += inflow.bytes().len();
                inflow.consume(inflow.bytes().len());
            }
            Decoded::Complete { consumed } => {
                inflow.consume(consumed);
                head_bytes += consumed;
                let side = &progress.wire.upstream;
                count(&side.received, head_bytes);
                // Compat: each field with its colon and line end, without the blank after the colon.
                let status_line = "HTTP/1.1 200 \r\n".len() + head.reason().len();
                let others = status_line + head.fields().len() + "\r\n".len();
                count(&side.fields_received, head_bytes.saturating_sub(others));
                head_bytes = 0;
                if head.status() >= 200 || head.status() == 101 {
                    return Ok(());
                }
                interim_count += 1;
                if interim_count > INTERIM_RESPONSES_MAX {
                    return Err(Failure::UpstreamProtocol);
                }
                progress.answer_began.set(None);
                // Compat: other interim answers than 100 are swallowed.
                if let Some(client) = interim.as_deref_mut().filter(|_| head.status() == 100) {
                    client.interim(head).await.map_err(|_| Failure::ClientGone)?;
                }
            }
        }
    }
}

/// Sends what `downstream` holds (the head) and the answer's body to the client, rewritten by `web`. Returns whether the upstream's
/// connection ends with a complete answer and nothing after it.
pub async fn response_body(
    incoming: &mut Incoming<'_>,
    length: BodyLength,
    downstream: &mut Outgoing<'_>,
    mut web: Option<&mut grpc_web::Writer>,
    pace: Option<&Pace>,
    progress: &Progress,
) -> Result<bool, Failure> {
    let ended_early =
        if length == BodyLength::Tunnel { Failure::ResponseTermination } else { Failure::ResponseProtocol };
    loop {
        while !incoming.is_end() && !incoming.is_empty() {
            let piece = match incoming.piece() {
                Ok(piece) => piece,
                Err(_) => {
                    // What was good of the answer still goes out.
                    flush(downstream, progress).await?;
                    return Err(ended_early);
                }
            };
            let data = incoming.bytes().get(piece.data).unwrap_or_default();
            // An HTTP/2 upstream can send data where none may be (204, 304, an answer to HEAD). An HTTP/1 client would
            // read it as the begin of the next answer.
            if length == BodyLength::None && !data.is_empty() {
                flush(downstream, progress).await?;
                return Err(ended_early);
            }
            if progress.answer_body_began.get().is_none() && !data.is_empty() {
                progress.answer_body_began.set(Some(now()));
            }
            count(&progress.wire.upstream.received, piece.consumed);
            let leaving = web.as_mut().map_or(data, |web| web.data(data));
            progress.count_sent(leaving.len(), data);
            match pace {
                None => downstream.data(leaving).await.map_err(|_| Failure::ClientGone)?,
                Some(pace) => send_paced(leaving, pace, downstream, progress).await?,
            }
            if data.len() > COPIED_BODY_BYTES_MAX {
                progress.touch();
            }
            incoming.consume(piece.consumed);
        }
        if incoming.is_end() {
            let mut trailers = incoming.trailers();
            progress.note_trailers(trailers);
            if let Some(web) = web {
                let last = web.end(trailers.take());
                progress.count_sent(last.len(), b"");
                downstream.data(last).await.map_err(|_| Failure::ClientGone)?;
            }
            downstream.finish(trailers).await.map_err(|_| Failure::ClientGone)?;
            progress.touch();
            return Ok(length != BodyLength::UntilClose && incoming.is_empty());
        }
        flush(downstream, progress).await?;
        match incoming.fill().await {
            Ok(()) => progress.touch(),
            Err(Lost::Ended) if length == BodyLength::Tunnel => return Err(ended_early),
            Err(Lost::Ended) => incoming.finish().map_err(|_| ended_early)?,
            Err(Lost::Broken) => return Err(ended_early),
            Err(Lost::Reset(_)) => return Err(Failure::ResponseReset),
            Err(Lost::Closed) => return Err(Failure::ResponseTermination),
            Err(Lost::Malformed) => return Err(Failure::ResponseProtocol),
        }
    }
}

/// Sends data no faster than allowed.
async fn send_paced(
    mut data: &[u8],
    pace: &Pace,
    downstream: &mut Outgoing<'_>,
    progress: &Progress,
) -> Result<(), Failure> {
    while !data.is_empty() {
        match pace.take(data.len(), now()) {
            Ok(length) => {
                let (piece, rest) = data.split_at(length);
                downstream.data(piece).await.map_err(|_| Failure::ClientGone)?;
                data = rest;
            }
            Err(next) => {
                flush(downstream, progress).await?;
                sleep_until(next).await;
            }
        }
    }
    Ok(())
}

async fn flush(downstream: &mut Outgoing<'_>, progress: &Progress) -> Result<(), Failure> {
    if downstream.flush().await.map_err(|_| Failure::ClientGone)? {
        progress.touch();
    }
    Ok(())
}
