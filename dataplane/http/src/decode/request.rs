//! Request heads.

use super::lines::Lines;
use super::parse::{self, Section, field_room};
use super::{Progress, RequestOptions, UnderscoreNames};
use crate::decode::lengths::Lengths;
use crate::error::DecodeError;
use crate::fields::Span;
use crate::framing::{BodyLength, Framing};
use crate::head::{RequestHead, TargetForm, Version};
use crate::limits::{FIELDS_CEILING, FIELDS_MAX};
use crate::method::Method;

/// Decodes the request heads of one connection, one after the other.
#[derive(Clone, Debug, Default)]
pub struct RequestDecoder {
    options: RequestOptions,
    lines: Lines,
}

impl RequestDecoder {
    /// A decoder at the start of a connection.
    pub fn new(options: RequestOptions) -> Self {
        Self { options, lines: Lines::default() }
    }

    /// Takes bytes of the current head. The first call for a message clears `head`; the same `head`
    /// must be passed until `Complete`, after which the decoder is ready for the next message.
    /// After an error the connection is beyond repair.
    pub fn decode(&mut self, input: &[u8], head: &mut RequestHead) -> Result<Progress, DecodeError> {
        if !self.lines.started() {
            head.clear();
        }
        let section = Section::Request { fields_max: self.options.fields_max };
        let taken = self.lines.take(input, section, self.options.head_bytes_max, &mut head.fields)?;
        let Some(consumed) = taken else { return Ok(Progress::NeedMore) };
        if self.options.fields_max <= FIELDS_MAX {
            self.complete::<FIELDS_MAX>(head)?;
        } else {
            self.complete::<FIELDS_CEILING>(head)?;
        }
        Ok(Progress::Complete { consumed })
    }

    /// Whether bytes of a head arrived and it is not complete: the connection is not idle.
    pub fn in_head(&self) -> bool {
        self.lines.started()
    }

    /// The peer closed its side: `Incomplete` when that was inside a head.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.in_head() { Err(DecodeError::Incomplete) } else { Ok(()) }
    }

    /// Parses the collected head, with room for `N` fields.
    fn complete<const N: usize>(&self, head: &mut RequestHead) -> Result<(), DecodeError> {
        let mut lengths = Lengths::default();
        let (arena, mut index) = head.fields.parts();
        let mut room = field_room::<N>();
        let parsed = parse::request(arena, self.options.fields_max, &mut room)?;

        let method_name = parsed.method.unwrap_or_default().as_bytes();
        let target = parsed.path.unwrap_or_default().as_bytes();
        head.version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
        head.method = Method::from_bytes(method_name);
        head.method_name = span_in(arena, method_name);
        head.target = span_in(arena, target);
        if head.method.is_none() && !self.options.custom_methods {
            return Err(DecodeError::Method);
        }
        let mut host = None;
        for field in parsed.headers.iter() {
            let name = field.name.as_bytes();
            match self.options.underscores {
                UnderscoreNames::Allow => {}
                UnderscoreNames::Reject if name.contains(&b'_') => return Err(DecodeError::Underscore),
                UnderscoreNames::Drop if name.contains(&b'_') => continue,
                UnderscoreNames::Reject | UnderscoreNames::Drop => {}
            }
            let value = span_in(arena, field.value);
            if name.eq_ignore_ascii_case(b"host") && host.replace(value).is_some() {
                return Err(DecodeError::DuplicateHost);
            }
            lengths.see(name, field.value)?;
            if !index.push(span_in(arena, name), value) {
                return Err(DecodeError::FieldName);
            }
        }
        head.fields.seal();
        head.framing = request_framing(&lengths, head.version, head.method)?;
        if let Some(host) = host {
            check_authority(head.fields.bytes(host))?;
            head.authority = Some(host);
        }
        resolve_target(head)
    }
}

fn request_framing(
    lengths: &Lengths,
    version: Version,
    method: Option<Method>,
) -> Result<Framing, DecodeError> {
    if lengths.chunked && version == Version::Http10 {
        return Err(DecodeError::TransferEncodingHttp10);
    }
    // A CONNECT that is refused must end the connection: its declared body, if any, would
    // otherwise be read as the next request (RFC 9110 §9.3.6).
    if method == Some(Method::Connect) {
        return Ok(Framing { body: BodyLength::Tunnel, persistent: false });
    }
    let body = match lengths.content_length {
        _ if lengths.chunked => BodyLength::Chunked,
        Some(length) => BodyLength::Length(length),
        None => BodyLength::None,
    };
    Ok(Framing { body, persistent: lengths.persistent(version) })
}

/// Finds form, scheme, authority and path of the target (RFC 9112 §3.2).
fn resolve_target(head: &mut RequestHead) -> Result<(), DecodeError> {
    let span = head.target;
    let target = head.fields.bytes(span);
    if target.iter().any(|b| !b.is_ascii_graphic()) {
        return Err(DecodeError::Target);
    }
    if head.method == Some(Method::Connect) {
        check_connect_target(target)?;
        head.form = TargetForm::Authority;
        head.authority = Some(span);
        head.path = span;
        return Ok(());
    }
    match target {
        [b'/', ..] => {
            head.form = TargetForm::Origin;
            head.path = span;
            Ok(())
        }
        b"*" if head.method == Some(Method::Options) => {
            head.form = TargetForm::Asterisk;
            head.path = span;
            Ok(())
        }
        b"*" => Err(DecodeError::AsteriskTarget),
        _ => resolve_absolute(head),
    }
}

/// `scheme://authority[/path][?query]`: the authority replaces the Host field (RFC 9112 §3.2.2).
fn resolve_absolute(head: &mut RequestHead) -> Result<(), DecodeError> {
    let span = head.target;
    let target = head.fields.bytes(span);
    let scheme_len = memchr::memmem::find(target, b"://").ok_or(DecodeError::Target)?;
    let (scheme, rest) = target.split_at(scheme_len);
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !is_scheme {
        return Err(DecodeError::Target);
    }
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(DecodeError::Scheme);
    }
    let rest = rest.get(3..).unwrap_or(&[]);
    let authority_len = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_len);
    if authority.is_empty() {
        return Err(DecodeError::Authority);
    }
    check_authority(authority)?;
    let path_has_slash = path.first() == Some(&b'/');

    // Offsets stay below the head limit, far from 4 GiB.
    let authority_start = span.start + scheme_len as u32 + 3;
    let authority_span = Span { start: authority_start, len: authority_len as u32 };
    let path_span = Span { start: authority_start + authority_len as u32, len: path.len() as u32 };
    head.scheme = Span { start: span.start, len: scheme_len as u32 };
    head.form = TargetForm::Absolute;
    head.path = path_span;
    if !path_has_slash {
        head.path = head.fields.store_joined(b"/", path_span).map_err(|_| DecodeError::HeadTooLarge)?;
    }
    head.authority = Some(authority_span);
    head.fields.set_from_arena("Host", authority_span).map_err(|_| DecodeError::HeadTooLarge)
}

/// CONNECT takes `host:port` with a port (RFC 9110 §9.3.6).
fn check_connect_target(target: &[u8]) -> Result<(), DecodeError> {
    let colon = memchr::memrchr(b':', target).ok_or(DecodeError::Target)?;
    let (host, port) = target.split_at(colon);
    let port = port.get(1..).unwrap_or(&[]);
    // Digits only: `parse` alone would take a sign.
    let port = Some(port).filter(|p| p.iter().all(u8::is_ascii_digit));
    let port: Option<u16> = port.and_then(|p| std::str::from_utf8(p).ok()?.parse().ok());
    if host.is_empty() || port.is_none_or(|p| p == 0) || target.contains(&b'@') {
        return Err(DecodeError::Target);
    }
    check_authority(host)
}

/// `[userinfo@]host[:port]` with the bytes an authority may have (RFC 3986 §3.2): unreserved,
/// sub-delims, `%`; one `@` at most; brackets only around a whole host.
///
/// The empty authority is allowed, as Envoy allows an empty Host.
fn check_authority(authority: &[u8]) -> Result<(), DecodeError> {
    let host = match memchr::memchr(b'@', authority) {
        Some(at) => authority.get(at + 1..).unwrap_or(&[]),
        None => authority,
    };
    let userinfo = authority.get(..authority.len() - host.len()).unwrap_or(&[]);
    let (literal, rest) = match host {
        [b'[', inside @ ..] => {
            let end = memchr::memchr(b']', inside).ok_or(DecodeError::Authority)?;
            let (literal, rest) = inside.split_at(end);
            let rest = rest.get(1..).unwrap_or(&[]);
            if literal.is_empty() || !matches!(rest, [] | [b':', ..]) {
                return Err(DecodeError::Authority);
            }
            (literal, rest)
        }
        host => (&[][..], host),
    };
    let userinfo = userinfo.strip_suffix(b"@").unwrap_or(userinfo);
    let valid = [userinfo, literal, rest].into_iter().flatten().all(|b| is_authority_byte(*b));
    if valid { Ok(()) } else { Err(DecodeError::Authority) }
}

fn is_authority_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*')
        || matches!(byte, b'+' | b',' | b';' | b'=' | b'%' | b':')
}

/// Place of `part` in `arena`; `part` is always one of its sub-slices.
pub(crate) fn span_in(arena: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).saturating_sub(arena.as_ptr() as usize);
    Span { start: start as u32, len: part.len() as u32 }
}
