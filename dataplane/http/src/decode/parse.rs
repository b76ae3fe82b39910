//! Calls httparse and words its verdicts.

use std::mem::MaybeUninit;

use httparse::{Error, Header, Request, Response, Status};

use crate::error::DecodeError;
use crate::fields::is_token_byte;
use crate::limits::FIELDS_CEILING;
use crate::method::Method;

/// Which grammar the bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// Request head with at most this many fields.
    Request { fields_max: usize },
    /// Response head with at most this many fields.
    Response { fields_max: usize },
    /// Trailer section with at most this many fields.
    Trailers { fields_max: usize },
}

impl Section {
    pub(crate) fn too_large(self) -> DecodeError {
        match self {
            Self::Request { .. } | Self::Response { .. } => DecodeError::HeadTooLarge,
            Self::Trailers { .. } => DecodeError::TrailersTooLarge,
        }
    }
}

/// Room for the field index of one head. Not initialised, and on the stack: creating it costs
/// nothing but touching its pages, so decoders take the small one unless configured otherwise.
pub(crate) type FieldRoom<'a, const N: usize> = [MaybeUninit<Header<'a>>; N];

pub(crate) const fn field_room<'a, const N: usize>() -> FieldRoom<'a, N> {
    [const { MaybeUninit::uninit() }; N]
}

/// Parses a complete request head.
pub(crate) fn request<'h, 'b>(
    bytes: &'b [u8],
    fields_max: usize,
    room: &'h mut [MaybeUninit<Header<'b>>],
) -> Result<Request<'h, 'b>, DecodeError> {
    let mut request = Request::new(&mut []);
    let room = up_to(room, fields_max);
    match request.parse_with_uninit_headers(bytes, room) {
        Ok(Status::Complete(end)) if end == bytes.len() => Ok(request),
        Ok(_) => Err(DecodeError::StartLine),
        Err(error) => Err(request_error(error, bytes)),
    }
}

/// Parses a complete response head.
pub(crate) fn response<'h, 'b>(
    bytes: &'b [u8],
    fields_max: usize,
    room: &'h mut [MaybeUninit<Header<'b>>],
) -> Result<Response<'h, 'b>, DecodeError> {
    let mut response = Response::new(&mut []);
    let room = up_to(room, fields_max);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, room) {
        Ok(Status::Complete(end)) if end == bytes.len() => Ok(response),
        Ok(_) => Err(DecodeError::StartLine),
        Err(error) => Err(response_error(error, bytes)),
    }
}

fn up_to<'r, 'b>(
    room: &'r mut [MaybeUninit<Header<'b>>],
    fields_max: usize,
) -> &'r mut [MaybeUninit<Header<'b>>] {
    let (room, _) = room.split_at_mut(fields_max.min(room.len()));
    room
}

/// Whether `bytes`, the beginning of a section, can still become a valid one.
pub(crate) fn check_prefix(section: Section, bytes: &[u8]) -> Result<(), DecodeError> {
    let mut room = field_room::<FIELDS_CEILING>();
    match section {
        Section::Request { fields_max } => {
            let mut request = Request::new(&mut []);
            let room = up_to(&mut room, fields_max);
            match request.parse_with_uninit_headers(bytes, room) {
                Ok(_) => Ok(()),
                Err(Error::Version) if version_may_follow(bytes) => Ok(()),
                Err(error) => Err(request_error(error, bytes)),
            }
        }
        Section::Response { fields_max } => {
            let mut response = Response::new(&mut []);
            let room = up_to(&mut room, fields_max);
            let config = httparse::ParserConfig::default();
            match config.parse_response_with_uninit_headers(&mut response, bytes, room) {
                Ok(_) => Ok(()),
                Err(error) => Err(response_error(error, bytes)),
            }
        }
        Section::Trailers { fields_max } => {
            let mut headers = [httparse::EMPTY_HEADER; crate::limits::FIELDS_MAX];
            let (headers, _) = headers.split_at_mut(fields_max.min(crate::limits::FIELDS_MAX));
            match httparse::parse_headers(bytes, headers) {
                Ok(_) => Ok(()),
                Err(error) => Err(trailer_error(error, bytes)),
            }
        }
    }
}

fn request_error(error: Error, bytes: &[u8]) -> DecodeError {
    match error {
        Error::Token => token_error(bytes),
        Error::Version if !has_known_method(bytes) => DecodeError::Method,
        Error::Version if is_http_version(version_bytes(bytes)) => DecodeError::Version,
        Error::Version | Error::Status => DecodeError::StartLine,
        Error::NewLine => DecodeError::LineEnd,
        Error::HeaderName => name_error(after_first_line(bytes)),
        Error::HeaderValue => DecodeError::FieldValue,
        Error::TooManyHeaders => DecodeError::TooManyFields,
    }
}

fn response_error(error: Error, bytes: &[u8]) -> DecodeError {
    match error {
        Error::Status => DecodeError::Status,
        Error::Version | Error::Token => DecodeError::StartLine,
        Error::NewLine => DecodeError::LineEnd,
        Error::HeaderName => name_error(after_first_line(bytes)),
        Error::HeaderValue => DecodeError::FieldValue,
        Error::TooManyHeaders => DecodeError::TooManyFields,
    }
}

pub(crate) fn trailer_error(error: Error, bytes: &[u8]) -> DecodeError {
    match error {
        Error::TooManyHeaders => DecodeError::TrailersTooLarge,
        Error::HeaderName => name_error(bytes),
        Error::HeaderValue => DecodeError::FieldValue,
        Error::NewLine | Error::Version | Error::Status | Error::Token => DecodeError::LineEnd,
    }
}

/// A byte that may not stand in the method or the target.
fn token_error(bytes: &[u8]) -> DecodeError {
    let Some(space) = memchr::memchr(b' ', bytes) else { return DecodeError::StartLine };
    let (method, rest) = bytes.split_at(space);
    if method.is_empty() || !method.iter().all(|b| is_token_byte(*b)) {
        return DecodeError::StartLine;
    }
    let target = rest.get(1..).unwrap_or(&[]);
    match target.iter().position(|b| !(0x21..0x7f).contains(b)) {
        // `GET /path` and a line end: HTTP/0.9.
        Some(end)
            if target.first() == Some(&b'/')
                && target.get(end) == Some(&b'\r')
                && has_known_method(bytes) =>
        {
            DecodeError::Version
        }
        _ => DecodeError::Target,
    }
}

/// Compat: only a request with a registered method is told to upgrade; anything else is not HTTP.
fn has_known_method(bytes: &[u8]) -> bool {
    bytes.split(|b| *b == b' ').next().is_some_and(|method| Method::from_bytes(method).is_some())
}

/// What stands in the place of the version: at most 8 bytes after the second space.
fn version_bytes(bytes: &[u8]) -> &[u8] {
    let version = bytes.splitn(3, |b| *b == b' ').nth(2).unwrap_or(&[]);
    version.get(..8).unwrap_or(version)
}

fn is_http_version(bytes: &[u8]) -> bool {
    matches!(bytes, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'])
}

/// Whether an unfinished version may still become a well-formed one: it decides between the
/// answers 400 and 426, so it must not depend on where a read ended.
fn version_may_follow(bytes: &[u8]) -> bool {
    let version = version_bytes(bytes);
    version.len() < 8
        && version.iter().zip(b"HTTP/0.0").all(|(byte, pattern)| match pattern {
            b'0' => byte.is_ascii_digit(),
            _ => byte == pattern,
        })
}

/// Tells a folded line from a malformed name: the first line with a name problem decides.
fn name_error(lines: &[u8]) -> DecodeError {
    for line in lines.split(|b| *b == b'\n') {
        if line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
            return DecodeError::FoldedLine;
        }
        let name_len = line.iter().take_while(|b| is_token_byte(**b)).count();
        if !line.is_empty() && line != b"\r" && (name_len == 0 || line.get(name_len) != Some(&b':')) {
            return DecodeError::FieldName;
        }
    }
    DecodeError::FieldName
}

fn after_first_line(bytes: &[u8]) -> &[u8] {
    memchr::memchr(b'\n', bytes).and_then(|at| bytes.get(at + 1..)).unwrap_or(&[])
}
