//! The chunked transfer coding (RFC 9112 §7.1), strict: CRLF everywhere, no blanks around the size.
//!
//! ```text
//!  ┌▶ Size ──;──▶ ExtName ─=▶ ExtValue / ExtQuoted ──┐
//!  │    │ CR         │ CR          │ CR              │ CR
//!  │    └────────────┴──────┬──────┴─────────────────┘
//!  │                     SizeLf ──size > 0──▶ Data ──▶ DataCr ──▶ DataLf ─┐
//!  │                        │ size = 0                                    │
//!  └────────────────────────┼─────────────────────────────────────────────┘
//!                           ▼
//!                     TrailerStart ──CR──▶ EndLf ──LF──▶ End
//!                           └─other──▶ Trailers ── empty line ──▶ End
//! ```
//!
//! Compat: Envoy accepts a blank after the chunk size; we refuse it with the rest, because what
//! follows the blank is read differently by different receivers.

use crate::body::BodyStep;
use crate::decode::lines::Lines;
use crate::decode::parse::{Section, trailer_error};
use crate::decode::span_in;
use crate::error::DecodeError;
use crate::fields::{Fields, is_token_byte};
use crate::limits::{CHUNK_EXTENSION_BYTES_MAX, CHUNK_LINE_BYTES_MAX, FIELDS_MAX, TRAILER_BYTES_MAX};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Hexadecimal digits; whether one was seen.
    Size {
        digits: bool,
    },
    /// Extension name; whether a byte of it was seen.
    ExtName {
        some: bool,
    },
    /// Unquoted extension value; whether a byte of it was seen.
    ExtValue {
        some: bool,
    },
    /// Inside a quoted value; whether the last byte was a backslash.
    ExtQuoted {
        escaped: bool,
    },
    /// After the closing quote.
    ExtQuotedEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    EndLf,
    Trailers,
    End,
}

#[derive(Clone, Debug)]
pub(super) struct Chunked {
    state: State,
    /// Size of the current chunk while it is read, then bytes left of it.
    left: u64,
    /// Bytes of the current size line.
    line_len: usize,
    /// Extension bytes of the whole body.
    extension_bytes: usize,
    trailers: Option<Box<Trailers>>,
}

#[derive(Clone, Debug)]
struct Trailers {
    lines: Lines,
    fields: Fields,
}

impl Default for Chunked {
    fn default() -> Self {
        let state = State::Size { digits: false };
        Self { state, left: 0, line_len: 0, extension_bytes: 0, trailers: None }
    }
}

impl Chunked {
    pub(super) fn is_end(&self) -> bool {
        self.state == State::End
    }

    pub(super) fn trailers(&self) -> Option<&Fields> {
        self.trailers.as_deref().filter(|_| self.is_end()).map(|t| &t.fields)
    }

    /// Consumes framing up to and including one run of data.
    pub(super) fn decode(&mut self, input: &[u8]) -> Result<BodyStep, DecodeError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let room = input.len() - at;
                    let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(room);
                    self.left -= len as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(BodyStep { consumed: at + len, data: at..at + len, end: false });
                }
                State::Trailers => {
                    let rest = input.get(at..).unwrap_or(&[]);
                    let used = self.take_trailers(rest)?;
                    return Ok(BodyStep { consumed: at + used, data: 0..0, end: self.is_end() });
                }
                State::TrailerStart if byte != b'\r' => {
                    let trailers = Trailers { lines: Lines::trailers(), fields: Fields::new() };
                    self.trailers = Some(Box::new(trailers));
                    self.state = State::Trailers;
                }
                State::End => break,
                _ => {
                    self.state = self.framing_byte(byte)?;
                    at += 1;
                }
            }
        }
        Ok(BodyStep { consumed: at, data: 0..0, end: self.is_end() })
    }

    /// The state after one byte that is neither data nor a trailer.
    fn framing_byte(&mut self, byte: u8) -> Result<State, DecodeError> {
        if !matches!(self.state, State::SizeLf | State::DataCr | State::DataLf) {
            self.count(byte)?;
        }
        let next = match (self.state, byte) {
            (State::Size { digits: true }, b';') => State::ExtName { some: false },
            (State::Size { digits: true }, b'\r') => State::SizeLf,
            (State::Size { .. }, _) => {
                let digit = (byte as char).to_digit(16).ok_or(DecodeError::Chunk)?;
                // Four bits are left of 64: one more digit fits only below 2^60.
                if self.left >> 60 != 0 {
                    return Err(DecodeError::Chunk);
                }
                self.left = self.left << 4 | u64::from(digit);
                State::Size { digits: true }
            }
            (State::ExtName { some: true }, b'=') => State::ExtValue { some: false },
            (State::ExtValue { some: false }, b'"') => State::ExtQuoted { escaped: false },
            (State::ExtName { some: true } | State::ExtValue { some: true } | State::ExtQuotedEnd, b';') => {
                State::ExtName { some: false }
            }
            (State::ExtName { some: true } | State::ExtValue { some: true } | State::ExtQuotedEnd, b'\r') => {
                State::SizeLf
            }
            (State::ExtName { .. }, _) if is_token_byte(byte) => State::ExtName { some: true },
            (State::ExtValue { .. }, _) if is_token_byte(byte) => State::ExtValue { some: true },
            (State::ExtQuoted { escaped: false }, b'"') => State::ExtQuotedEnd,
            (State::ExtQuoted { escaped: false }, b'\\') => State::ExtQuoted { escaped: true },
            (State::ExtQuoted { .. }, b'\t' | 0x20..=0x7e | 0x80..) => State::ExtQuoted { escaped: false },
            (State::SizeLf, b'\n') => {
                self.line_len = 0;
                if self.left == 0 { State::TrailerStart } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { digits: false },
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => State::End,
            _ => return Err(DecodeError::Chunk),
        };
        Ok(next)
    }

    /// Bounds size lines and extensions.
    fn count(&mut self, byte: u8) -> Result<(), DecodeError> {
        self.line_len += 1;
        if !matches!(self.state, State::Size { .. } | State::TrailerStart | State::EndLf) && byte != b'\r' {
            self.extension_bytes += 1;
        }
        if self.line_len > CHUNK_LINE_BYTES_MAX || self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX {
            return Err(DecodeError::ChunkExtensionsTooLarge);
        }
        Ok(())
    }

    fn take_trailers(&mut self, input: &[u8]) -> Result<usize, DecodeError> {
        let Some(trailers) = self.trailers.as_deref_mut() else { return Err(DecodeError::Chunk) };
        let section = Section::Trailers { fields_max: FIELDS_MAX };
        let Some(used) = trailers.lines.take(input, section, TRAILER_BYTES_MAX, &mut trailers.fields)? else {
            return Ok(input.len());
        };
        index_trailers(&mut trailers.fields)?;
        self.state = State::End;
        Ok(used)
    }
}

fn index_trailers(fields: &mut Fields) -> Result<(), DecodeError> {
    let (arena, mut index) = fields.parts();
    let mut room = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let parsed = match httparse::parse_headers(arena, &mut room) {
        Ok(httparse::Status::Complete((end, parsed))) if end == arena.len() => parsed,
        Ok(_) => return Err(DecodeError::LineEnd),
        Err(error) => return Err(trailer_error(error, arena)),
    };
    for field in parsed {
        let name = field.name.as_bytes();
        if FORBIDDEN.iter().any(|f| name.eq_ignore_ascii_case(f)) {
            return Err(DecodeError::ForbiddenTrailer);
        }
        if !index.push(span_in(arena, name), span_in(arena, field.value)) {
            return Err(DecodeError::FieldName);
        }
    }
    fields.seal();
    Ok(())
}

/// Fields whose meaning is needed before the body (RFC 9110 §6.5.1): framing and routing.
const FORBIDDEN: [&[u8]; 5] = [b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer"];
