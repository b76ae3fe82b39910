//! A message as it leaves.

use std::cell::Cell;
use std::io::IoSlice;

use ringsail_http::{
    CHUNK_END, CONTINUE, ChunkHead, Fields, LAST_CHUNK, ResponseHead, Version, encode_last_chunk,
    encode_response,
};

use crate::http2;
use crate::limits::COPIED_BODY_BYTES_MAX;
use crate::stream::Stream;

/// Where a message goes. The head is put in front by whoever made it; the body follows through here.
#[derive(Debug)]
pub enum Outgoing<'a> {
    /// An HTTP/1 connection.
    H1 {
        /// Its socket.
        stream: &'a Stream,
        /// What was not sent yet: the head, and small pieces of the body behind it.
        out: &'a mut Vec<u8>,
        /// The body leaves as chunks.
        chunked: bool,
        /// With the trailers it came with.
        trailers: bool,
        /// Becomes true when a part of the message has reached the socket.
        written: &'a Cell<bool>,
    },
    /// An HTTP/2 stream.
    H2(http2::Send<'a>),
}

/// The receiver takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl<'a> Outgoing<'a> {
    /// A message to an HTTP/1 connection, with its head in `out`; the body as it is until
    /// [`Outgoing::set_framing`].
    pub fn h1(stream: &'a Stream, out: &'a mut Vec<u8>, written: &'a Cell<bool>) -> Outgoing<'a> {
        Outgoing::H1 { stream, out, chunked: false, trailers: false, written }
    }

    /// Puts the head of an answer in front. `version` is what the client's side of HTTP/1 is told.
    pub fn head(&mut self, head: &ResponseHead, version: Version) {
        match self {
            Outgoing::H1 { out, .. } => {
                out.clear();
                encode_response(head, version, out);
            }
            Outgoing::H2(send) => send.head(head),
        }
    }

    /// Sends an interim (1xx) head before the answer's own.
    pub async fn interim(&mut self, head: &ResponseHead) -> Result<(), Closed> {
        match self {
            Outgoing::H1 { stream, .. } => {
                let mut bytes = Vec::new();
                encode_response(head, Version::Http11, &mut bytes);
                stream.send_all(&bytes).await.map_err(|_| Closed)
            }
            Outgoing::H2(send) => send.interim(head.status(), Some(head.fields())),
        }
    }

    /// Sends `100 Continue`.
    pub async fn send_continue(&mut self) -> Result<(), Closed> {
        match self {
            Outgoing::H1 { stream, .. } => stream.send_all(CONTINUE).await.map_err(|_| Closed),
            Outgoing::H2(send) => send.interim(100, None),
        }
    }

    /// How the body leaves on HTTP/1: as chunks or as it is, with its trailers or without.
    pub fn set_framing(&mut self, as_chunks: bool, with_trailers: bool) {
        match self {
            Outgoing::H1 { chunked, trailers, .. } => {
                *chunked = as_chunks;
                *trailers = with_trailers;
            }
            Outgoing::H2(_) => {}
        }
    }

    /// Sends a piece of the body. A small one may wait for the next, up to [`Outgoing::flush`].
    pub async fn data(&mut self, data: &[u8]) -> Result<(), Closed> {
        match self {
            Outgoing::H1 { stream, out, chunked, written, .. } => {
                if data.len() > COPIED_BODY_BYTES_MAX {
                    send_piece(stream, out, data, *chunked).await?;
                    written.set(true);
                } else if !data.is_empty() {
                    frame(data, *chunked, out);
                    if out.len() > COPIED_BODY_BYTES_MAX {
                        self.flush().await?;
                    }
                }
                Ok(())
            }
            Outgoing::H2(send) => send.data(data).await,
        }
    }

    /// Sends what waits. Returns whether there was something.
    pub async fn flush(&mut self) -> Result<bool, Closed> {
        match self {
            Outgoing::H1 { out, .. } if out.is_empty() => Ok(false),
            Outgoing::H1 { stream, out, written, .. } => {
                let before = stream.bytes_sent();
                let result = stream.send_all(out).await;
                out.clear();
                if stream.bytes_sent() > before {
                    written.set(true);
                }
                result.map(|()| true).map_err(|_| Closed)
            }
            Outgoing::H2(send) => send.flush().await,
        }
    }

    /// Ends the body, and sends what waits.
    pub async fn finish(&mut self, fields: Option<&Fields>) -> Result<(), Closed> {
        match self {
            Outgoing::H1 { out, chunked, trailers, .. } => match (*chunked, fields) {
                (true, Some(fields)) if *trailers => encode_last_chunk(fields, out),
                (true, _) => out.extend_from_slice(LAST_CHUNK),
                (false, _) => {}
            },
            Outgoing::H2(send) => return send.finish(fields).await,
        }
        self.flush().await.map(|_| ())
    }
}

impl Outgoing<'_> {
    /// Ends our direction of a switched protocol; the other goes on.
    pub async fn end_tunnel(&mut self) -> Result<(), Closed> {
        match self {
            Outgoing::H1 { stream, .. } => stream.shutdown_write().map_err(|_| Closed),
            Outgoing::H2(send) => send.finish(None).await,
        }
    }

    /// Whether the receiver has reset the stream it goes to.
    pub fn was_reset(&self) -> bool {
        match self {
            Outgoing::H1 { .. } => false,
            Outgoing::H2(send) => send.was_reset(),
        }
    }

    /// The message cannot be completed. On HTTP/1 the connection will say so by its end.
    pub async fn abort(&mut self) {
        match self {
            Outgoing::H1 { .. } => {}
            Outgoing::H2(send) => send.abort(http2::INTERNAL_ERROR).await,
        }
    }
}

/// Copies a piece, framed.
fn frame(data: &[u8], chunked: bool, out: &mut Vec<u8>) {
    if chunked {
        out.extend_from_slice(ChunkHead::new(data.len()).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(CHUNK_END);
    } else {
        out.extend_from_slice(data);
    }
}

/// Sends what is in `out`, then `data` from where it is.
async fn send_piece(stream: &Stream, out: &mut Vec<u8>, data: &[u8], chunked: bool) -> Result<(), Closed> {
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
    result.map_err(|_| Closed)
}
