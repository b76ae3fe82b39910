//! Response heads.

use super::Progress;
use super::lengths::Lengths;
use super::lines::Lines;
use super::parse::{self, Section, field_room};
use super::request::span_in;
use crate::error::DecodeError;
use crate::fields::Span;
use crate::framing::{BodyLength, Framing};
use crate::head::{ResponseHead, Version};
use crate::limits::{FIELDS_CEILING, FIELDS_MAX, RESPONSE_HEAD_BYTES_MAX};
use crate::method::Method;

/// What a response answers; decides whether it has a body.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseTo {
    /// The request's method; `None` for an extension method.
    pub method: Option<Method>,
    /// Whether the request asked for an upgrade: otherwise 101 is a protocol error.
    pub upgrade: bool,
}

/// What a response decoder accepts; from the cluster's configuration.
#[derive(Clone, Copy, Debug)]
pub struct ResponseOptions {
    /// Longest head in bytes. Envoy `max_response_headers_kb` × 1024.
    pub head_bytes_max: usize,
    /// Most fields, at most [`FIELDS_CEILING`](crate::limits::FIELDS_CEILING). Envoy `max_headers_count`.
    pub fields_max: usize,
}

impl Default for ResponseOptions {
    fn default() -> Self {
        Self { head_bytes_max: RESPONSE_HEAD_BYTES_MAX, fields_max: FIELDS_MAX }
    }
}

/// Decodes the heads of one response: any number of 1xx, then the final one.
#[derive(Clone, Debug)]
pub struct ResponseDecoder {
    to: ResponseTo,
    options: ResponseOptions,
    lines: Lines,
    answered: bool,
}

impl ResponseDecoder {
    /// A decoder for the response to one request, with default limits.
    pub fn new(to: ResponseTo) -> Self {
        Self::with_options(to, ResponseOptions::default())
    }

    /// A decoder for the response to one request.
    pub fn with_options(to: ResponseTo, options: ResponseOptions) -> Self {
        Self { to, options, lines: Lines::default(), answered: false }
    }

    /// Takes bytes of the response. After `Complete` with a status below 200 other than 101, call
    /// again for the next head. See [`RequestDecoder::decode`](crate::RequestDecoder::decode).
    pub fn decode(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<Progress, DecodeError> {
        if !self.lines.started() {
            head.clear();
        }
        let section = Section::Response { fields_max: self.options.fields_max };
        let taken = self.lines.take(input, section, self.options.head_bytes_max, &mut head.fields)?;
        self.answered |= self.lines.started();
        let Some(consumed) = taken else { return Ok(Progress::NeedMore) };
        self.answered = true;
        if self.options.fields_max <= FIELDS_MAX {
            self.complete::<FIELDS_MAX>(head)?;
        } else {
            self.complete::<FIELDS_CEILING>(head)?;
        }
        Ok(Progress::Complete { consumed })
    }

    /// Whether any byte of the response arrived, 1xx included: before that, a closed connection
    /// means "closed before any response byte".
    pub fn answered(&self) -> bool {
        self.answered
    }

    /// Parses the collected head, with room for `N` fields.
    fn complete<const N: usize>(&self, head: &mut ResponseHead) -> Result<(), DecodeError> {
        let mut lengths = Lengths::default();
        let (arena, mut index) = head.fields.parts();
        let mut room = field_room::<N>();
        let parsed = parse::response(arena, self.options.fields_max, &mut room)?;

        head.status = parsed.code.unwrap_or_default();
        head.version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
        head.reason = reason_span(arena);
        if head.status < 100 {
            return Err(DecodeError::Status);
        }
        for field in parsed.headers.iter() {
            let name = field.name.as_bytes();
            lengths.see(name, field.value)?;
            if !index.push(span_in(arena, name), span_in(arena, field.value)) {
                return Err(DecodeError::FieldName);
            }
        }
        head.fields.seal();
        head.framing = self.framing(head.status, head.version, &lengths)?;
        Ok(())
    }

    /// RFC 9112 §6.3, in its order.
    fn framing(&self, status: u16, version: Version, lengths: &Lengths) -> Result<Framing, DecodeError> {
        let persistent = lengths.persistent(version);
        let declares_body = lengths.chunked || lengths.content_length.is_some_and(|n| n > 0);
        let body = match status {
            101 if self.to.upgrade => BodyLength::Tunnel,
            101 => return Err(DecodeError::UnexpectedUpgrade),
            // Compat: Envoy refuses a declared body on 1xx and 204 too; a receiver that believes
            // the declaration would read the next response as this one's body.
            100..=199 | 204 if declares_body => return Err(DecodeError::BodyNotAllowed),
            100..=199 | 204 | 304 => BodyLength::None,
            200..=299 if self.to.method == Some(Method::Connect) => BodyLength::Tunnel,
            _ if self.to.method == Some(Method::Head) => BodyLength::None,
            _ => match lengths.content_length {
                _ if lengths.chunked => BodyLength::Chunked,
                Some(length) => BodyLength::Length(length),
                None => BodyLength::UntilClose,
            },
        };
        let open_ended = matches!(body, BodyLength::UntilClose | BodyLength::Tunnel);
        // A chunked HTTP/1.0 answer has a known end, but its sender cannot be trusted with more.
        let persistent = persistent && !open_ended && !(lengths.chunked && version == Version::Http10);
        Ok(Framing { body, persistent })
    }
}

/// The reason phrase, byte-exact: what follows `HTTP/x.y NNN ` up to the line end.
fn reason_span(arena: &[u8]) -> Span {
    const REASON_START: usize = "HTTP/1.1 200 ".len();
    let line_end = memchr::memchr(b'\n', arena).unwrap_or(0);
    let end = match arena.get(line_end.wrapping_sub(1)) {
        Some(b'\r') => line_end - 1,
        _ => line_end,
    };
    Span { start: REASON_START as u32, len: end.saturating_sub(REASON_START) as u32 }
}
