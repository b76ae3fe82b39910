//! The request's body on its way upstream: what comes is passed on, and kept where another attempt may need it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use ringsail_http::BodyLength;

use crate::failure::Failure;
use crate::filters::grpc_web;
use crate::filters::mirror::Tap;
use crate::limits::UNREAD_BODY_BYTES_MAX;
use crate::message::{Incoming, Lost, Piece};
use crate::progress::Progress;

/// The body of one request.
#[derive(Debug)]
pub struct RequestBody<'a> {
    /// Where it comes from.
    pub incoming: Incoming<'a>,
    length: BodyLength,
    kept: Kept,
    /// Copies of it.
    taps: Vec<Tap>,
    /// What comes is base64 of what goes on.
    base64: Option<Box<grpc_web::Decoder>>,
}

impl<'a> RequestBody<'a> {
    /// A body that begins after the head.
    pub fn new(incoming: Incoming<'a>, length: BodyLength) -> RequestBody<'a> {
        RequestBody { incoming, length, kept: Kept::default(), taps: Vec::new(), base64: None }
    }

    /// How the body is framed, also upstream.
    pub fn length(&self) -> BodyLength {
        self.length
    }

    /// What follows the head belongs to another protocol.
    pub fn become_tunnel(&mut self) {
        self.length = BodyLength::Tunnel;
        self.incoming.become_tunnel();
    }

    /// It goes on with another length than it came with, decoded if it is base64.
    pub fn become_grpc(&mut self, base64: bool) {
        if let BodyLength::Length(1..) = self.length {
            self.length = BodyLength::Chunked;
        }
        self.base64 = base64.then(Box::default);
    }

    /// Whether all of it was received.
    pub fn is_complete(&self) -> bool {
        self.incoming.is_end()
    }

    /// Whether another attempt can send it from its beginning.
    pub fn is_repeatable(&self) -> bool {
        !self.kept.lost
    }

    /// Keeps the body from here on, as long as it has no more than `bytes_max`.
    pub fn keep_from_here(&mut self, bytes_max: usize) {
        self.kept.bytes_max = bytes_max;
    }

    /// Copies all of it to `tap`, also what has come already.
    pub fn copy_to(&mut self, tap: Tap) {
        tap.push(&self.kept.bytes);
        if self.is_complete() {
            tap.complete(self.incoming.trailers());
        }
        self.taps.push(tap);
    }

    /// Receives and keeps all of it. False when it has more than `bytes_max`: then it is lost.
    pub async fn hold(&mut self, bytes_max: usize, progress: &Progress) -> Result<bool, Failure> {
        self.keep_from_here(bytes_max);
        while !self.is_complete() {
            if self.incoming.is_empty() {
                self.fill().await.map_err(|_| Failure::ClientGone)?;
            }
            let taken = self.take()?;
            progress.count_received(taken.received(), taken.data());
            progress.touch();
            if taken.end() {
                progress.complete_request();
            }
            drop(taken);
            if self.kept.lost {
                return Ok(false);
            }
        }
        if self.length == BodyLength::Chunked {
            self.length = BodyLength::Length(self.kept.bytes.len() as u64);
        }
        Ok(true)
    }

    /// What an earlier attempt has sent, to be sent again.
    pub fn kept(&self) -> &[u8] {
        &self.kept.bytes
    }

    /// The request goes on without its body, which has arrived.
    pub fn forget(&mut self) {
        self.length = BodyLength::None;
        self.kept = Kept::default();
    }

    /// Waits for bytes when there are none.
    pub async fn fill(&mut self) -> Result<(), Lost> {
        self.incoming.fill().await
    }

    /// Takes the next piece of the bytes at hand.
    pub fn take(&mut self) -> Result<Taken<'_, 'a>, Failure> {
        let piece = self.incoming.piece().map_err(Failure::Codec)?;
        let mut data = self.incoming.bytes().get(piece.data.clone()).unwrap_or_default();
        if let Some(decoder) = &mut self.base64 {
            data = decoder.decode(data, piece.end).map_err(Failure::Base64)?;
        }
        self.kept.note(data);
        for tap in &self.taps {
            tap.push(data);
            if piece.end {
                tap.complete(self.incoming.trailers());
            }
        }
        Ok(Taken { body: self, piece })
    }

    /// Takes what came already and nobody has read, because nobody will any more: a request that is complete with it
    /// leaves its connection usable.
    pub async fn take_what_came(&mut self, progress: &Progress) {
        let mut taken = 0;
        while !self.incoming.is_end() && taken < UNREAD_BODY_BYTES_MAX {
            let came = {
                let mut filling = pin!(self.incoming.fill());
                poll_fn(|cx| Poll::Ready(matches!(filling.as_mut().poll(cx), Poll::Ready(Ok(()))))).await
            };
            let Ok(piece) = self.incoming.piece() else { return };
            if !came || piece.consumed == 0 && !piece.end {
                return;
            }
            progress.count_received(piece.data.len(), b"");
            self.incoming.consume(piece.consumed);
            taken += piece.consumed;
            if piece.end {
                progress.complete_request();
            }
        }
    }

    /// Waits for the client to leave.
    pub async fn client_gone(&mut self) -> Failure {
        self.incoming.gone().await;
        Failure::ClientGone
    }
}

/// A piece of the body. Its bytes are used up when this goes, however it goes: an attempt that is given up while its
/// upstream takes nothing has them in what was kept, and the decoder has counted them. Left behind, they would be read
/// as body again, or as the next request.
#[derive(Debug)]
pub struct Taken<'b, 'a> {
    body: &'b mut RequestBody<'a>,
    piece: Piece,
}

impl Taken<'_, '_> {
    /// What goes on.
    pub fn data(&self) -> &[u8] {
        match &self.body.base64 {
            Some(decoder) => decoder.decoded(),
            None => self.body.incoming.bytes().get(self.piece.data.clone()).unwrap_or_default(),
        }
    }

    /// Bytes of it that came.
    pub fn received(&self) -> usize {
        self.piece.data.len()
    }

    /// Bytes of it that came, with their framing.
    pub fn consumed(&self) -> usize {
        self.piece.consumed
    }

    /// Whether the body ends with it.
    pub fn end(&self) -> bool {
        self.piece.end
    }

    /// Whether another attempt can send the body from its beginning.
    pub fn is_repeatable(&self) -> bool {
        self.body.is_repeatable()
    }
}

impl Drop for Taken<'_, '_> {
    fn drop(&mut self) {
        self.body.incoming.consume(self.piece.consumed);
    }
}

/// Data that went upstream, while all of it is still here.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// A part is gone for good.
    lost: bool,
}

impl Kept {
    fn note(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if !self.lost && self.bytes.len() + data.len() <= self.bytes_max {
            self.bytes.extend_from_slice(data);
        } else {
            self.lost = true;
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_body_can_be_sent_again() {
        let mut kept = Kept { bytes_max: 5, ..Kept::default() };
        kept.note(b"abc");
        kept.note(b"de");
        assert!(!kept.lost);
        assert_eq!(kept.bytes, b"abcde");
    }

    #[test]
    fn a_body_past_the_bound_cannot_be_sent_again_and_holds_nothing() {
        let mut kept = Kept { bytes_max: 3, ..Kept::default() };
        kept.note(b"xxx");
        assert!(!kept.lost);
        kept.note(b"x");
        assert!(kept.lost);
        assert!(kept.bytes.is_empty());
    }

    #[test]
    fn an_untouched_body_is_repeatable_without_being_kept() {
        let mut kept = Kept::default();
        kept.note(b"");
        assert!(!kept.lost);
        kept.note(b"abc");
        assert!(kept.lost);
    }
}
