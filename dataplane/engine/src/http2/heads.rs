//! Heads and trailers between `h2`'s form and ours.
//!
//! Inside the engine a head is an HTTP/1 head: the authority is also a `Host` field, and an extended CONNECT
//! (RFC 8441) is an upgrade: `GET` with `Upgrade`, answered by 101. So does Envoy's codec.

use ::h2::ext::Protocol;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method as H2Method, StatusCode, request, response};
use ringsail_http::{BodyLength, Fields, Framing, Method, RequestHead, ResponseHead, TargetForm};
use ringsail_tables::hcm::{HttpConnectionManager, UnderscoreHeaders};
use ringsail_telemetry::Http2Counter;

use super::codec_stats::CodecStats;

/// A request's head breaks a bound or a rule of ours; its stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// `max_request_headers_kb`.
    TooLarge,
    /// `max_headers_count`.
    TooMany,
    /// `headers_with_underscores_action: REJECT_REQUEST`.
    Underscore,
}

impl Refused {
    /// What it counts as.
    pub(super) fn counter(self) -> Http2Counter {
        match self {
            Refused::TooLarge | Refused::TooMany => Http2Counter::HeaderOverflow,
            Refused::Underscore => Http2Counter::RequestsRejectedWithUnderscoresInHeaders,
        }
    }

    /// `RESPONSE_CODE_DETAILS`.
    pub(super) fn details(self) -> &'static str {
        match self {
            Refused::TooLarge => "http2.header_list_size_too_large",
            Refused::TooMany => "http2.too_many_headers",
            Refused::Underscore => "http2.unexpected_underscore",
        }
    }
}

/// Reads a request's head. `ends` says that no body follows.
pub(super) fn read_request(
    parts: &request::Parts,
    ends: bool,
    manager: &HttpConnectionManager,
    stats: &CodecStats,
    head: &mut RequestHead,
) -> Result<(), Refused> {
    let host = || parts.headers.get("host").map(HeaderValue::as_bytes);
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes()).or_else(host);
    let scheme = parts.uri.scheme_str().unwrap_or_default().as_bytes();
    let path = parts.uri.path_and_query().map(|path| path.as_str().as_bytes());
    let protocol = parts.extensions.get::<Protocol>();
    match protocol {
        Some(protocol) => {
            head.receive(b"GET", scheme, authority, path);
            head.fields_mut().receive(b"connection", b"upgrade");
            head.fields_mut().receive(b"upgrade", protocol.as_ref());
        }
        None => {
            let path = path.filter(|_| parts.method != H2Method::CONNECT);
            head.receive(parts.method.as_str().as_bytes(), scheme, authority, path);
        }
    }
    let mut bytes = scheme.len() + authority.map_or(0, <[u8]>::len) + path.map_or(0, <[u8]>::len);
    let mut count = 0;
    for name in parts.headers.keys() {
        if name == http::header::HOST {
            continue;
        }
        if name.as_str().contains('_') {
            match manager.underscores {
                UnderscoreHeaders::Allow => {}
                UnderscoreHeaders::Drop => {
                    stats.count(Http2Counter::DroppedHeadersWithUnderscores);
                    continue;
                }
                UnderscoreHeaders::Reject => return Err(Refused::Underscore),
            }
        }
        if name == http::header::COOKIE {
            continue;
        }
        for value in parts.headers.get_all(name) {
            bytes += name.as_str().len() + value.len();
            count += 1;
            head.fields_mut().receive(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    // Crumbs, RFC 9113 §8.2.3. Compat: joined behind all other fields.
    let crumbs: Vec<&[u8]> =
        parts.headers.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if !crumbs.is_empty() {
        let cookie = crumbs.join(&b"; "[..]);
        bytes += http::header::COOKIE.as_str().len() + cookie.len();
        count += 1;
        head.fields_mut().receive(b"cookie", &cookie);
    }
    head.fields_mut().seal();
    if bytes > manager.request_head_bytes_max as usize {
        return Err(Refused::TooLarge);
    }
    if count > manager.request_headers_max as usize {
        return Err(Refused::TooMany);
    }
    let body = match (content_length(&parts.headers), ends) {
        _ if head.target_form() == TargetForm::Authority => BodyLength::Tunnel,
        (Some(length), _) => BodyLength::Length(length),
        (None, true) => BodyLength::None,
        (None, false) => BodyLength::Chunked,
    };
    head.set_framing(Framing { body, persistent: true });
    Ok(())
}

/// `h2` has checked that there is one at most, and that it is a number.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Writes an answer's head.
pub(super) fn write_response(head: &ResponseHead) -> http::Response<()> {
    let mut answer = http::Response::new(());
    // The answer to an extended CONNECT.
    let status = if head.status() == 101 { 200 } else { head.status() };
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    write_fields(head.fields(), answer.headers_mut());
    answer
}

/// Writes a request's head. `None` when its target cannot be said in HTTP/2.
pub(super) fn write_request(head: &RequestHead) -> Option<http::Request<()>> {
    let mut request = http::Request::new(());
    let mut target = http::uri::Parts::default();
    let authority = head.authority().unwrap_or_default();
    if !authority.is_empty() {
        target.authority = Some(authority.try_into().ok()?);
    }
    let connect = head.target_form() == TargetForm::Authority;
    if !connect {
        let scheme = crate::view::scheme(head);
        target.scheme = Some(scheme.try_into().ok()?);
        target.path_and_query = Some(head.path().try_into().ok()?);
        if target.authority.is_none() {
            // `http` knows no URI with a scheme and without an authority.
            target.authority = Some(http::uri::Authority::from_static("localhost"));
        }
    }
    *request.uri_mut() = http::Uri::from_parts(target).ok()?;
    *request.method_mut() = match head.upgrade() {
        Some(protocol) => {
            let protocol = std::str::from_utf8(protocol).ok()?;
            request.extensions_mut().insert(Protocol::from(protocol));
            H2Method::CONNECT
        }
        None => H2Method::from_bytes(head.method_name()).ok()?,
    };
    write_fields(head.fields(), request.headers_mut());
    request.headers_mut().remove(http::header::HOST);
    Some(request)
}

/// Reads an answer's head. `ends` says that no body follows, `upgrade` which protocol was asked for.
pub(super) fn read_response(
    parts: &response::Parts,
    ends: bool,
    method: Option<Method>,
    upgrade: Option<&[u8]>,
    head: &mut ResponseHead,
) {
    let status = parts.status.as_u16();
    let switched = upgrade.filter(|_| status == 200);
    head.receive(if switched.is_some() { 101 } else { status });
    if let Some(protocol) = switched {
        head.fields_mut().receive(b"upgrade", protocol);
        head.fields_mut().receive(b"connection", b"upgrade");
    }
    for (name, value) in &parts.headers {
        head.fields_mut().receive(name.as_str().as_bytes(), value.as_bytes());
    }
    head.fields_mut().seal();
    let body = match (content_length(&parts.headers), ends) {
        _ if switched.is_some() => BodyLength::Tunnel,
        _ if method == Some(Method::Connect) && (200..300).contains(&status) => BodyLength::Tunnel,
        _ if method == Some(Method::Head) || matches!(status, 204 | 304) => BodyLength::None,
        (Some(length), _) => BodyLength::Length(length),
        (None, true) => BodyLength::Length(0),
        (None, false) => BodyLength::Chunked,
    };
    head.set_framing(Framing { body, persistent: true });
}

/// Reads trailers.
pub(super) fn read_trailers(trailers: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in trailers {
        fields.receive(name.as_str().as_bytes(), value.as_bytes());
    }
    fields.seal();
    fields
}

/// Writes trailers.
pub(super) fn write_trailers(fields: &Fields) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(fields.len());
    write_fields(fields, &mut trailers);
    trailers
}

fn write_fields(fields: &Fields, headers: &mut HeaderMap) {
    for (name, value) in fields.iter() {
        if is_of_the_connection(name) {
            continue;
        }
        // Names are tokens by now. One that `http` does not know to be a token cannot be written.
        let Ok(name) = HeaderName::from_bytes(name) else { continue };
        let value = HeaderValue::from_bytes(value).unwrap_or_else(|_| {
            // What HTTP/1 lets through and HTTP/2 does not: bare CR and control bytes.
            let clean: Vec<u8> =
                value.iter().map(|byte| if *byte < b' ' || *byte == 0x7f { b' ' } else { *byte }).collect();
            HeaderValue::from_bytes(&clean).unwrap_or_else(|_| HeaderValue::from_static(""))
        });
        headers.append(name, value);
    }
}

/// Fields that HTTP/2 forbids (RFC 9113 §8.2.2), `te` apart, whose value was settled before.
fn is_of_the_connection(name: &[u8]) -> bool {
    const NAMES: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    NAMES.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}
