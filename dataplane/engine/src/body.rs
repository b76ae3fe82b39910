//! The request's body on its way upstream: what comes is passed on, and kept where another attempt may need it.

use ringsail_http::BodyLength;

use crate::failure::Failure;
use crate::filters::mirror::Tap;
use crate::message::{Incoming, Lost, Piece};

/// The body of one request.
#[derive(Debug)]
pub struct RequestBody<'a> {
    /// Where it comes from.
    pub incoming: Incoming<'a>,
    length: BodyLength,
    kept: Kept,
    /// Copies of it.
    taps: Vec<Tap>,
}

impl<'a> RequestBody<'a> {
    /// A body that begins after the head.
    pub fn new(incoming: Incoming<'a>, length: BodyLength) -> RequestBody<'a> {
        RequestBody { incoming, length, kept: Kept::default(), taps: Vec::new() }
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

    /// Copies all that comes to `tap`.
    pub fn copy_to(&mut self, tap: Tap) {
        self.taps.push(tap);
    }

    /// What an earlier attempt has sent, to be sent again.
    pub fn kept(&self) -> &[u8] {
        &self.kept.bytes
    }

    /// Waits for bytes when there are none.
    pub async fn fill(&mut self) -> Result<(), Lost> {
        self.incoming.fill().await
    }

    /// Finds the next piece in the bytes at hand.
    pub fn piece(&mut self) -> Result<Piece, Failure> {
        let piece = self.incoming.piece().map_err(Failure::Codec)?;
        let data = self.incoming.bytes().get(piece.data.clone()).unwrap_or_default();
        self.kept.note(data);
        for tap in &self.taps {
            tap.push(data);
            if piece.end {
                tap.complete();
            }
        }
        Ok(piece)
    }

    /// Waits for the client to leave.
    pub async fn client_gone(&mut self) -> Failure {
        self.incoming.gone().await;
        Failure::ClientGone
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
