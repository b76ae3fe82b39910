//! A body as it arrives.

use std::future::pending;
use std::ops::Range;

use ringsail_http::{BodyDecoder, BodyLength, DecodeError, Fields};

use crate::http2;
use crate::inflow::Inflow;
use crate::stream::Stream;

/// Where a body's bytes come from.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// An HTTP/1 connection.
    H1 {
        /// Its socket.
        stream: &'a Stream,
        /// What was received of it.
        inflow: &'a mut Inflow,
        /// Finds the body in there.
        decoder: BodyDecoder,
    },
    /// An HTTP/2 stream.
    H2(http2::Receive),
}

/// A piece of a body among the bytes at hand.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Bytes to consume.
    pub consumed: usize,
    /// Data among them.
    pub data: Range<usize>,
    /// The body ends here.
    pub end: bool,
}

/// Why no more of a body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The peer has ended its side of the connection: the end of a body that has no other.
    Ended,
    /// The connection is broken.
    Broken,
    /// The connection of a stream has ended under it.
    Closed,
    /// The peer breaks the protocol.
    Malformed,
    /// The peer has reset the stream, with this code.
    Reset(u32),
}

impl<'a> Incoming<'a> {
    /// The body that follows an HTTP/1 head.
    pub fn h1(stream: &'a Stream, inflow: &'a mut Inflow, length: BodyLength) -> Incoming<'a> {
        Incoming::H1 { stream, inflow, decoder: BodyDecoder::new(length) }
    }

    /// What follows belongs to another protocol.
    pub fn become_tunnel(&mut self) {
        match self {
            Incoming::H1 { decoder, .. } => *decoder = BodyDecoder::new(BodyLength::Tunnel),
            // The same frames carry it.
            Incoming::H2(_) => {}
        }
    }

    /// Whether the body was received completely.
    pub fn is_end(&self) -> bool {
        match self {
            Incoming::H1 { decoder, .. } => decoder.is_end(),
            Incoming::H2(receive) => receive.is_end(),
        }
    }

    /// Whether nothing is at hand: [`Incoming::fill`] would wait.
    pub fn is_empty(&self) -> bool {
        match self {
            Incoming::H1 { inflow, .. } => inflow.is_empty(),
            Incoming::H2(receive) => receive.is_empty(),
        }
    }

    /// The bytes at hand.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Incoming::H1 { inflow, .. } => inflow.bytes(),
            Incoming::H2(receive) => receive.bytes(),
        }
    }

    /// Waits for bytes when there are none. Dropping the future loses nothing.
    pub async fn fill(&mut self) -> Result<(), Lost> {
        match self {
            Incoming::H1 { stream, inflow, .. } => match inflow.fill(stream).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Lost::Ended),
                Err(_) => Err(Lost::Broken),
            },
            Incoming::H2(receive) => receive.fill().await,
        }
    }

    /// Finds the next piece of the body in the bytes at hand.
    pub fn piece(&mut self) -> Result<Piece, DecodeError> {
        match self {
            Incoming::H1 { inflow, decoder, .. } => {
                let step = decoder.decode(inflow.bytes())?;
                Ok(Piece { consumed: step.consumed, data: step.data, end: step.end })
            }
            Incoming::H2(receive) => Ok(receive.piece()),
        }
    }

    /// Uses up the first `count` bytes at hand.
    pub fn consume(&mut self, count: usize) {
        match self {
            Incoming::H1 { inflow, .. } => inflow.consume(count),
            Incoming::H2(receive) => receive.consume(count),
        }
    }

    /// The peer has ended its side: is the body complete with that?
    pub fn finish(&mut self) -> Result<(), DecodeError> {
        match self {
            Incoming::H1 { decoder, .. } => decoder.finish(),
            // Only frames end a stream.
            Incoming::H2(_) => Err(DecodeError::Incomplete),
        }
    }

    /// The trailers of a complete body.
    pub fn trailers(&self) -> Option<&Fields> {
        match self {
            Incoming::H1 { decoder, .. } => decoder.trailers(),
            Incoming::H2(receive) => receive.trailers(),
        }
    }

    /// Waits for the sender to leave, and reads no more than that takes. On HTTP/1, bytes that come meanwhile (a
    /// pipelined request, or the begin of a body nobody reads yet) are kept, one block of them; behind those a leaving
    /// peer cannot be seen.
    pub async fn gone(&mut self) {
        match self {
            Incoming::H1 { stream, inflow, .. } => {
                if inflow.is_empty() && !inflow.fill(stream).await.unwrap_or(false) {
                    return;
                }
                pending().await
            }
            Incoming::H2(receive) => receive.gone().await,
        }
    }
}
