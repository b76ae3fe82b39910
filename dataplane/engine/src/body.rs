//! The request's body on its way upstream: decoded, framed again, and kept where another attempt may need it.

use std::ops::Range;

use ringsail_http::{BodyDecoder, BodyLength, DecodeError};

use crate::limits::KEPT_BODY_BYTES_MAX;

/// The body of one request.
#[derive(Debug)]
pub struct RequestBody {
    decoder: BodyDecoder,
    length: BodyLength,
    /// Data that went upstream, while all of it is still here.
    kept: Vec<u8>,
    keep: bool,
    /// A part is gone for good.
    lost: bool,
}

/// A piece of a body found in the received bytes.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Bytes to consume.
    pub consumed: usize,
    /// Data among them.
    pub data: Range<usize>,
    /// The body ends here.
    pub end: bool,
}

impl RequestBody {
    /// A body that begins after the head. `keep` asks for it to be repeatable as far as its size allows.
    pub fn new(length: BodyLength, keep: bool) -> RequestBody {
        RequestBody { decoder: BodyDecoder::new(length), length, kept: Vec::new(), keep, lost: false }
    }

    /// How the body is framed, also upstream.
    pub fn length(&self) -> BodyLength {
        self.length
    }

    /// Whether all of it was received.
    pub fn is_complete(&self) -> bool {
        self.decoder.is_end()
    }

    /// Whether another attempt can send it from its beginning.
    pub fn is_repeatable(&self) -> bool {
        !self.lost
    }

    /// Keeps the body from here on; false when a part has been lost already.
    pub fn keep_from_here(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// What an earlier attempt has sent, to be sent again.
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Finds the next piece.
    pub fn next(&mut self, received: &[u8]) -> Result<Piece, DecodeError> {
        let step = self.decoder.decode(received)?;
        let data = received.get(step.data.clone()).unwrap_or_default();
        if !data.is_empty() {
            if self.keep && !self.lost && self.kept.len() + data.len() <= KEPT_BODY_BYTES_MAX {
                self.kept.extend_from_slice(data);
            } else {
                self.lost = true;
                self.kept = Vec::new();
            }
        }
        Ok(Piece { consumed: step.consumed, data: step.data, end: step.end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(body: &mut RequestBody, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = body.next(rest).unwrap();
            rest = &rest[piece.consumed..];
        }
    }

    #[test]
    fn a_kept_body_can_be_sent_again() {
        let mut body = RequestBody::new(BodyLength::Chunked, true);
        drain(&mut body, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        assert!(body.is_complete() && body.is_repeatable());
        assert_eq!(body.kept(), b"abcde");
    }

    #[test]
    fn a_body_past_the_bound_cannot_be_sent_again_and_holds_nothing() {
        let bytes = vec![b'x'; KEPT_BODY_BYTES_MAX + 1];
        let mut body = RequestBody::new(BodyLength::Length(bytes.len() as u64), true);
        drain(&mut body, &bytes[..KEPT_BODY_BYTES_MAX]);
        assert!(body.is_repeatable());
        drain(&mut body, &bytes[KEPT_BODY_BYTES_MAX..]);
        assert!(!body.is_repeatable());
        assert!(body.kept().is_empty());
    }

    #[test]
    fn an_untouched_body_is_repeatable_without_being_kept() {
        let mut body = RequestBody::new(BodyLength::Length(3), false);
        assert!(body.is_repeatable());
        drain(&mut body, b"abc");
        assert!(!body.is_repeatable());
    }
}
