//! Heads and chunk framing to bytes, appended to the caller's buffer.

use crate::decode::lengths::content_length;
use crate::fields::Fields;
use crate::framing::{BodyLength, Framing};
use crate::head::{RequestHead, ResponseHead, Version};
use crate::hop::list_contains;

/// Writes the request line (`METHOD path HTTP/1.1`), the fields in order, and the framing fields
/// that [`RequestHead::framing`] asks for.
///
/// `Content-Length` and `Transfer-Encoding` in the fields are written in place when they agree with the framing, left
/// out when not, and added at the end when missing. Compat: a deliberate difference, Envoy always writes
/// `transfer-encoding: chunked` at the end. `connection: close` is added when the framing is not persistent and no Connection
/// field says so.
pub fn encode_request(head: &RequestHead, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method_name());
    out.push(b' ');
    out.extend_from_slice(head.path());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut framing = head.framing();
    // The client's side of a tunnel has no persistence to announce.
    framing.persistent |= framing.body == BodyLength::Tunnel;
    encode_fields(head.fields(), framing, Version::Http11, Lengths::ByFraming, out);
}

/// Writes the status line with `version` (the version to answer with) and the reason phrase as it was received, or the
/// standard one when there was none; then the fields in order, and
/// the framing fields, as [`encode_request`] does. On HTTP/1.0, `connection: keep-alive` is added
/// when the framing is persistent. With [`BodyLength::None`] length fields are left as they are:
/// they describe the body a HEAD or 304 answer does not carry.
pub fn encode_response(head: &ResponseHead, version: Version, out: &mut Vec<u8>) {
    let status = head.status();
    out.extend_from_slice(version.as_str().as_bytes());
    let digits = [status / 100, status / 10 % 10, status % 10].map(|d| b'0' + (d % 10) as u8);
    out.push(b' ');
    out.extend_from_slice(&digits);
    out.push(b' ');
    // Compat: a deliberate difference, Envoy replaces the phrase by the standard one.
    out.extend_from_slice(head.reason());
    out.extend_from_slice(b"\r\n");
    let mut framing = head.framing();
    // 1xx never ends a connection; a tunnel is not HTTP any more.
    framing.persistent |= status < 200 || framing.body == BodyLength::Tunnel;
    let lengths = match framing.body {
        BodyLength::None => Lengths::AsTheyAre,
        BodyLength::Length(_) | BodyLength::Chunked | BodyLength::UntilClose | BodyLength::Tunnel => {
            Lengths::ByFraming
        }
    };
    encode_fields(head.fields(), framing, version, lengths, out);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lengths {
    ByFraming,
    AsTheyAre,
}

fn encode_fields(fields: &Fields, framing: Framing, version: Version, lengths: Lengths, out: &mut Vec<u8>) {
    let mut framing_written = false;
    let mut connection_says = false;
    for (name, value) in fields.iter() {
        match name.len() {
            14 if lengths == Lengths::ByFraming && name.eq_ignore_ascii_case(b"content-length") => {
                if framing_written || !declares_length(framing.body, value) {
                    continue;
                }
                framing_written = true;
            }
            17 if lengths == Lengths::ByFraming && name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let agrees = framing.body == BodyLength::Chunked && value.eq_ignore_ascii_case(b"chunked");
                if framing_written || !agrees {
                    continue;
                }
                framing_written = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let close = list_contains(value, "close");
                let keep_alive = list_contains(value, "keep-alive");
                if (close && framing.persistent) || (keep_alive && !framing.persistent) {
                    continue;
                }
                connection_says |= close || keep_alive;
            }
            _ => {}
        }
        encode_field(name, value, out);
    }
    if lengths == Lengths::ByFraming && !framing_written {
        match framing.body {
            BodyLength::Length(len) => {
                out.extend_from_slice(b"content-length: ");
                push_decimal(len, out);
                out.extend_from_slice(b"\r\n");
            }
            BodyLength::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            BodyLength::None | BodyLength::UntilClose | BodyLength::Tunnel => {}
        }
    }
    match (framing.persistent, version) {
        _ if connection_says => {}
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, Version::Http11 | Version::Http2) => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn encode_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn declares_length(body: BodyLength, value: &[u8]) -> bool {
    let BodyLength::Length(len) = body else { return false };
    content_length(value) == Some(len)
}

/// Appends `number` in decimal.
fn push_decimal(mut number: u64, out: &mut Vec<u8>) {
    let start = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

/// `HTTP/1.1 100 Continue` with its empty line.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Line end after the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Last chunk and empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The size line of a chunk, for writing around body bytes without copying them.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHead {
    /// Up to 16 hexadecimal digits and CRLF, right-aligned.
    bytes: [u8; 18],
    start: u8,
}

impl ChunkHead {
    /// The size line of a chunk of `len` bytes. A length of 0 would be the last chunk: empty data
    /// must be skipped by the caller.
    pub fn new(len: usize) -> Self {
        let mut bytes = [0; 18];
        let mut start = 18u8;
        let mut left = len as u64;
        let mut digits_done = false;
        for slot in bytes.iter_mut().rev() {
            *slot = match start {
                18 => b'\n',
                17 => b'\r',
                _ if digits_done => break,
                _ => {
                    let digit = char::from_digit((left & 15) as u32, 16).map_or(b'0', |c| c as u8);
                    left >>= 4;
                    digits_done = left == 0;
                    digit
                }
            };
            start -= 1;
        }
        Self { bytes, start }
    }

    /// The line, its line end included.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(usize::from(self.start)..).unwrap_or(&[])
    }
}

/// Writes the last chunk with `trailers`.
pub fn encode_last_chunk(trailers: &Fields, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.iter() {
        encode_field(name, value, out);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, Progress, RequestDecoder, RequestOptions, ResponseDecoder, ResponseTo};

    fn request(text: &str) -> RequestHead {
        let mut head = RequestHead::new();
        let progress = RequestDecoder::new(RequestOptions::default()).decode(text.as_bytes(), &mut head);
        assert_eq!(progress, Ok(Progress::Complete { consumed: text.len() }));
        head
    }

    fn response(to: Method, text: &str) -> ResponseHead {
        let mut head = ResponseHead::new();
        let to = ResponseTo { method: Some(to), upgrade: false };
        let progress = ResponseDecoder::new(to).decode(text.as_bytes(), &mut head);
        assert_eq!(progress, Ok(Progress::Complete { consumed: text.len() }));
        head
    }

    fn encoded(head: &RequestHead) -> String {
        let mut out = Vec::new();
        encode_request(head, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn encoded_response(head: &ResponseHead, version: Version) -> String {
        let mut out = Vec::new();
        encode_response(head, version, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_unchanged_request_leaves_byte_for_byte() {
        for text in [
            "GET /a?b HTTP/1.1\r\nHost: x\r\nX-MiXed: 1\r\nx-mixed: 2\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nHOST: x\r\n\r\n",
        ] {
            assert_eq!(encoded(&request(text)), text);
        }
    }

    #[test]
    fn transfer_encoding_keeps_its_place_and_spelling() {
        let text = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nA: b\r\n\r\n";
        assert_eq!(encoded(&request(text)), text);
        let mut head = request(text);
        head.set_framing(Framing { body: BodyLength::Length(3), persistent: true });
        assert_eq!(encoded(&head), "POST / HTTP/1.1\r\nA: b\r\ncontent-length: 3\r\n\r\n");
    }

    #[test]
    fn reason_phrases_travel_as_they_came() {
        for text in [
            "HTTP/1.1 200 Fine by me\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 299 äh\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert_eq!(encoded_response(&response(Method::Get, text), Version::Http11), text);
        }
        let mut head = response(Method::Get, "HTTP/1.1 200 Fine by me\r\nContent-Length: 0\r\n\r\n");
        head.set_status(503);
        let answer = encoded_response(&head, Version::Http11);
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    }

    #[test]
    fn changed_framing_replaces_the_length_fields() {
        let mut head = request("POST / HTTP/1.1\r\nContent-Length: 3\r\nHost: x\r\n\r\n");
        head.set_framing(Framing { body: BodyLength::Chunked, persistent: true });
        assert_eq!(encoded(&head), "POST / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        head.set_framing(Framing { body: BodyLength::Length(1234567890), persistent: false });
        assert_eq!(
            encoded(&head),
            "POST / HTTP/1.1\r\nHost: x\r\ncontent-length: 1234567890\r\nconnection: close\r\n\r\n"
        );
        head.set_framing(Framing { body: BodyLength::None, persistent: true });
        assert_eq!(encoded(&head), "POST / HTTP/1.1\r\nHost: x\r\n\r\n");
    }

    #[test]
    fn absolute_target_leaves_in_origin_form_with_its_authority() {
        let head = request("GET http://b.example:81?q HTTP/1.1\r\nHost: a\r\nA: 1\r\n\r\n");
        assert_eq!(encoded(&head), "GET /?q HTTP/1.1\r\nHost: b.example:81\r\nA: 1\r\n\r\n");
    }

    #[test]
    fn head_answer_keeps_the_length_of_the_body_it_does_not_carry() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(encoded_response(&response(Method::Head, text), Version::Http11), text);
        let text = "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(encoded_response(&response(Method::Get, text), Version::Http11), text);
    }

    #[test]
    fn response_connection_follows_the_framing() {
        let mut head = response(Method::Get, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(
            encoded_response(&head, Version::Http10),
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nconnection: keep-alive\r\n\r\n"
        );
        head.set_framing(Framing { body: BodyLength::Length(0), persistent: false });
        assert_eq!(
            encoded_response(&head, Version::Http11),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nconnection: close\r\n\r\n"
        );
    }

    #[test]
    fn local_answer_gets_the_standard_reason() {
        let mut head = ResponseHead::new();
        head.reset(503);
        head.set_framing(Framing { body: BodyLength::Length(0), persistent: true });
        assert_eq!(
            encoded_response(&head, Version::Http11),
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
        );
    }

    #[test]
    fn chunk_heads_are_hexadecimal() {
        for len in [1, 15, 16, 255, 4096, usize::MAX] {
            assert_eq!(ChunkHead::new(len).as_bytes(), format!("{len:x}\r\n").as_bytes());
        }
    }

    #[test]
    fn trailers_follow_the_last_chunk() {
        let mut trailers = Fields::new();
        trailers.append("A", b"1").unwrap();
        let mut out = Vec::new();
        encode_last_chunk(&trailers, &mut out);
        assert_eq!(out, b"0\r\nA: 1\r\n\r\n");
    }
}
