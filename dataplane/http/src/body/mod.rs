//! Bodies: finds data and end in a stream of bytes, copying nothing but trailers.

mod chunked;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::error::DecodeError;
use crate::fields::Fields;
use crate::framing::BodyLength;
use chunked::Chunked;

/// What a call of [`BodyDecoder::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyStep {
    /// Bytes of the input that were used; the rest is for the next call, or the next message.
    pub consumed: usize,
    /// Body data, as a range of the input inside `..consumed`; may be empty.
    pub data: Range<usize>,
    /// The body is complete, trailers included.
    pub end: bool,
}

/// Decodes one body. Holds no body bytes.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// This many bytes are left.
    Length(u64),
    Chunked(Chunked),
    /// Until the peer closes.
    Open,
    Ended,
}

impl BodyDecoder {
    /// A decoder at the first byte after the head.
    pub fn new(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::None | BodyLength::Length(0) => State::Ended,
            BodyLength::Length(left) => State::Length(left),
            BodyLength::Chunked => State::Chunked(Chunked::default()),
            BodyLength::UntilClose | BodyLength::Tunnel => State::Open,
        };
        Self { state }
    }

    /// Whether the body is complete, before or without any input.
    pub fn is_end(&self) -> bool {
        match &self.state {
            State::Ended => true,
            State::Chunked(chunked) => chunked.is_end(),
            State::Length(_) | State::Open => false,
        }
    }

    /// Finds the next piece of data. Call until `consumed` reaches the input's length or `end`.
    ///
    /// After `end`, input is left alone (`consumed` is 0): it belongs to the next message.
    pub fn decode(&mut self, input: &[u8]) -> Result<BodyStep, DecodeError> {
        match &mut self.state {
            State::Ended => Ok(BodyStep { consumed: 0, data: 0..0, end: true }),
            State::Open => Ok(BodyStep { consumed: input.len(), data: 0..input.len(), end: false }),
            State::Length(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= len as u64;
                let end = *left == 0;
                if end {
                    self.state = State::Ended;
                }
                Ok(BodyStep { consumed: len, data: 0..len, end })
            }
            State::Chunked(chunked) => chunked.decode(input),
        }
    }

    /// The peer closed its side: ends an until-close body or a tunnel; any other body that is not
    /// complete is `Incomplete`.
    pub fn finish(&mut self) -> Result<(), DecodeError> {
        if matches!(self.state, State::Open) {
            self.state = State::Ended;
        }
        if self.is_end() { Ok(()) } else { Err(DecodeError::Incomplete) }
    }

    /// Bytes still to come of a body with Content-Length; `None` for other bodies.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Chunked(_) | State::Open | State::Ended => None,
        }
    }

    /// Trailer fields, once `end` was reported and there were any.
    pub fn trailers(&self) -> Option<&Fields> {
        match &self.state {
            State::Chunked(chunked) => chunked.trailers(),
            State::Length(_) | State::Open | State::Ended => None,
        }
    }
}
