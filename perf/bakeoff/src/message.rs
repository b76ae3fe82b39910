//! What the proxy understands of HTTP: a request without body, a response with `content-length`. Nothing else is
//! sent by our client and backend, and nothing else is answered.

use std::io::{self, ErrorKind, Write};

/// The header the proxy adds, as a stand-in for what a real one does to a head.
const ADDED: &[u8] = b"x-request-id: 00000000-0000-4000-8000-000000000000\r\n";

/// Rewrites a complete request into `out`. `false` while more bytes are needed.
pub fn forward_request(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<bool> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    if request.parse(bytes).map_err(invalid)?.is_partial() {
        return Ok(false);
    }
    write!(out, "{} {} HTTP/1.1\r\n", request.method.unwrap_or(""), request.path.unwrap_or(""))?;
    fields_into(request.headers, out);
    Ok(true)
}

/// Rewrites a complete response into `out`. `false` while more bytes are needed.
pub fn forward_response(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<bool> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head_len) = response.parse(bytes).map_err(invalid)? else {
        return Ok(false);
    };
    let body = &bytes[head_len..];
    if body.len() < content_length(response.headers)? {
        return Ok(false);
    }
    write!(out, "HTTP/1.1 {} {}\r\n", response.code.unwrap_or(0), response.reason.unwrap_or(""))?;
    fields_into(response.headers, out);
    out.extend_from_slice(body);
    Ok(true)
}

/// Bytes of the complete response at the start of `bytes`, if one is there.
pub fn response_len(bytes: &[u8]) -> io::Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head_len) = response.parse(bytes).map_err(invalid)? else {
        return Ok(None);
    };
    let len = head_len + content_length(response.headers)?;
    Ok((bytes.len() >= len).then_some(len))
}

fn fields_into(fields: &[httparse::Header<'_>], out: &mut Vec<u8>) {
    for field in fields {
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(ADDED);
    out.extend_from_slice(b"\r\n");
}

fn content_length(fields: &[httparse::Header<'_>]) -> io::Result<usize> {
    let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let text = field.and_then(|field| std::str::from_utf8(field.value).ok());
    text.and_then(|text| text.trim().parse().ok()).ok_or_else(|| invalid("no content-length"))
}

fn invalid(reason: impl ToString) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_forwarded_when_its_body_is_complete() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        for cut in 0..bytes.len() {
            assert!(!forward_response(&bytes[..cut], &mut Vec::new()).unwrap(), "at {cut}");
            assert_eq!(response_len(&bytes[..cut]).unwrap(), None);
        }
        let mut out = Vec::new();
        assert!(forward_response(bytes, &mut out).unwrap());
        assert_eq!(response_len(&out).unwrap(), Some(out.len()));
        assert!(out.ends_with(b"\r\n\r\nabc"));
    }

    #[test]
    fn response_without_length_is_an_error() {
        forward_response(b"HTTP/1.1 200 OK\r\n\r\n", &mut Vec::new()).unwrap_err();
    }
}
