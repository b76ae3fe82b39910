//! gRPC-Web: gRPC for clients that read neither trailers nor HTTP/2 frames, such as browsers.
//!
//! Frames are gRPC's own; the trailers of an answer become a last frame of its body. In the text form both bodies are
//! base64. Source: `doc/PROTOCOL-WEB.md` of gRPC. Compat: content types, fields and errors are those of Envoy's
//! `envoy.filters.http.grpc_web`.

use ringsail_http::{EditError, Fields, RequestHead, ResponseHead};

use crate::decimal::Decimal;
use crate::local_reply::{grpc_status, is_grpc, percent_encode};

/// A call that came as gRPC-Web and goes on as gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The request's body is base64.
    pub text_request: bool,
    /// The answer's is to be.
    pub text_answer: bool,
}

impl Call {
    /// Turns a request's head into that of a gRPC call. `None` for any other request.
    pub fn begin(head: &mut RequestHead) -> Result<Option<Call>, EditError> {
        let Some(text_request) = head.fields().get("content-type").and_then(is_text) else { return Ok(None) };
        let text_answer = head.fields().get("accept").and_then(is_text) == Some(true);
        let fields = head.fields_mut();
        // The length of what came, not of what goes on.
        fields.remove("content-length");
        fields.set("content-type", b"application/grpc")?;
        fields.set("te", b"trailers")?;
        fields.set("grpc-accept-encoding", b"identity")?;
        Ok(Some(Call { text_request, text_answer }))
    }

    /// The content type of the answer.
    pub fn answer_type(self) -> &'static [u8] {
        if self.text_answer { b"application/grpc-web-text+proto" } else { b"application/grpc-web+proto" }
    }
}

/// How the body of this content type is written; `None` when it is not of gRPC-Web.
fn is_text(content_type: &[u8]) -> Option<bool> {
    match content_type {
        b"application/grpc-web" | b"application/grpc-web+proto" => Some(false),
        b"application/grpc-web-text" | b"application/grpc-web-text+proto" => Some(true),
        _ => None,
    }
}

/// Whether an answer is gRPC, or gRPC-Web already; anything else becomes a status with a message.
pub fn is_of_grpc(head: &ResponseHead, is_whole: bool) -> bool {
    let content_type = head.fields().get("content-type");
    let grpc = match is_whole {
        true => head.fields().contains("grpc-status"),
        false => head.status() == 200 && is_grpc(content_type),
    };
    grpc || (head.status() == 200
        && content_type.is_some_and(|given| given.starts_with(b"application/grpc-web")))
}

/// Says in an answer's head what an answer that is not gRPC means; `text` is the begin of its body.
pub fn write_status(head: &mut ResponseHead, text: &[u8]) -> Result<(), EditError> {
    let status = Decimal::new(grpc_status(head.status()).into());
    let mut message = Vec::new();
    percent_encode(text, &mut message);
    let fields = head.fields_mut();
    fields.remove("transfer-encoding");
    fields.remove("content-length");
    fields.set("grpc-message", &message)?;
    fields.set("grpc-status", status.text())?;
    fields.append("content-length", b"0")
}

/// Why a request's base64 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base64Error {
    /// It ends inside a group of four.
    Length,
    /// It has other bytes than those of the alphabet.
    Byte,
}

/// Decodes the body of a request in the text form, group by group.
///
/// Compat: padding inside the body, where a client joined what it encoded in pieces, is decoded as the protocol says,
/// also where Envoy finds an error.
#[derive(Debug, Default)]
pub struct Decoder {
    group: [u8; 4],
    filled: usize,
    decoded: Vec<u8>,
}

impl Decoder {
    /// Decodes the next piece; `ends` says that it is the last.
    pub fn decode(&mut self, data: &[u8], ends: bool) -> Result<&[u8], Base64Error> {
        self.decoded.clear();
        self.decoded.reserve(data.len() / 4 * 3 + 3);
        for byte in data {
            self.group[self.filled] = *byte;
            self.filled += 1;
            if self.filled == self.group.len() {
                self.filled = 0;
                decode_group(self.group, &mut self.decoded)?;
            }
        }
        if ends && self.filled > 0 { Err(Base64Error::Length) } else { Ok(&self.decoded) }
    }

    /// What the last piece was.
    pub fn decoded(&self) -> &[u8] {
        &self.decoded
    }
}

fn decode_group(group: [u8; 4], out: &mut Vec<u8>) -> Result<(), Base64Error> {
    let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 {
        return Err(Base64Error::Byte);
    }
    let mut bits = 0_u32;
    for (index, byte) in group.into_iter().enumerate() {
        let value = if index >= group.len() - padding { 0 } else { sextet(byte).ok_or(Base64Error::Byte)? };
        bits = bits << 6 | value;
    }
    let bytes = bits.to_be_bytes();
    out.extend_from_slice(&bytes[1..4 - padding]);
    Ok(())
}

/// Source: RFC 4648 §4.
fn sextet(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes as base64, whose padding comes where [`Encoder::pad`] is called.
#[derive(Debug, Default)]
struct Encoder {
    group: [u8; 3],
    filled: usize,
}

impl Encoder {
    fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) {
        out.reserve(data.len() / 3 * 4 + 4);
        for byte in data {
            self.group[self.filled] = *byte;
            self.filled += 1;
            if self.filled == self.group.len() {
                self.write(out);
            }
        }
    }

    fn pad(&mut self, out: &mut Vec<u8>) {
        if self.filled > 0 {
            self.group[self.filled..].fill(0);
            self.write(out);
        }
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        let [a, b, c] = self.group;
        let bits = u32::from_be_bytes([0, a, b, c]);
        for index in 0..4 {
            let sextet = bits >> (18 - 6 * index) & 63;
            let padding = index as usize > self.filled;
            out.push(if padding { b'=' } else { ALPHABET[sextet as usize] });
        }
        self.filled = 0;
    }
}

/// Writes the body of an answer.
///
/// Compat: in the text form each message is a piece of base64 with padding of its own. It is written as the message
/// comes, where Envoy waits for its end.
#[derive(Debug, Default)]
pub struct Writer {
    text: bool,
    encoder: Encoder,
    /// Bytes of the current message's prefix that came, and the length in them.
    prefix: (usize, u32),
    /// Bytes of the current message that are still to come.
    left: usize,
    written: Vec<u8>,
}

/// A flag and the length in four bytes. Source: gRPC over HTTP/2, "Length-Prefixed-Message".
const PREFIX_BYTES: usize = 5;

/// The flag of the frame that carries trailers.
const TRAILERS: u8 = 0x80;

impl Writer {
    /// For a call's answer.
    pub fn new(call: Call) -> Writer {
        Writer { text: call.text_answer, ..Writer::default() }
    }

    /// The next piece of the body as it leaves.
    pub fn data<'a>(&'a mut self, data: &'a [u8]) -> &'a [u8] {
        if !self.text {
            return data;
        }
        self.written.clear();
        let mut rest = data;
        while !rest.is_empty() {
            let (message, others) = rest.split_at(self.in_message(rest));
            self.encoder.encode(message, &mut self.written);
            if self.left == 0 && self.prefix.0 == 0 {
                self.encoder.pad(&mut self.written);
            }
            rest = others;
        }
        &self.written
    }

    /// How many of the bytes belong to the current message.
    fn in_message(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while self.left == 0 {
            let Some(byte) = bytes.get(taken) else { return taken };
            let (seen, length) = self.prefix;
            // The first byte says whether the message is compressed.
            let length = if seen == 0 { 0 } else { length << 8 | u32::from(*byte) };
            taken += 1;
            self.prefix = (seen + 1, length);
            if self.prefix.0 == PREFIX_BYTES {
                self.prefix = (0, 0);
                self.left = length as usize;
                if length == 0 {
                    return taken;
                }
            }
        }
        let rest = self.left.min(bytes.len() - taken);
        self.left -= rest;
        taken + rest
    }

    /// What comes after the last piece: the trailers, where there are some.
    pub fn end(&mut self, trailers: Option<&Fields>) -> &[u8] {
        self.written.clear();
        self.encoder.pad(&mut self.written);
        let Some(trailers) = trailers else { return &self.written };
        let mut lines = Vec::new();
        for (name, value) in trailers.iter() {
            lines.extend(name.iter().map(u8::to_ascii_lowercase));
            lines.push(b':');
            lines.extend_from_slice(value);
            lines.extend_from_slice(b"\r\n");
        }
        let mut frame = vec![TRAILERS];
        frame.extend_from_slice(&(lines.len() as u32).to_be_bytes());
        frame.extend_from_slice(&lines);
        if self.text {
            self.encoder.encode(&frame, &mut self.written);
            self.encoder.pad(&mut self.written);
        } else {
            self.written = frame;
        }
        &self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 §10.
    const VECTORS: [(&[u8], &[u8]); 6] = [
        (b"f", b"Zg=="),
        (b"fo", b"Zm8="),
        (b"foo", b"Zm9v"),
        (b"foob", b"Zm9vYg=="),
        (b"fooba", b"Zm9vYmE="),
        (b"\xfb\xff\xfe", b"+//+"),
    ];

    fn decoded(pieces: &[&[u8]]) -> Result<Vec<u8>, Base64Error> {
        let mut decoder = Decoder::default();
        let mut all = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            all.extend_from_slice(decoder.decode(piece, index + 1 == pieces.len())?);
        }
        Ok(all)
    }

    #[test]
    fn base64_is_decoded_however_it_is_split() {
        for (plain, text) in VECTORS {
            for at in 0..=text.len() {
                assert_eq!(decoded(&[&text[..at], &text[at..]]).as_deref(), Ok(plain));
            }
        }
        assert_eq!(decoded(&[b"Zg==Zm8=Zm9v"]).as_deref(), Ok(&b"ffofoo"[..]));
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in [&b"Z==="[..], b"====", b"Zm9*", b"Z=9v", b"Zm9\n"] {
            assert_eq!(decoded(&[text]), Err(Base64Error::Byte), "{text:?}");
        }
        assert_eq!(decoded(&[b"Zm9vZ"]), Err(Base64Error::Length));
        assert_eq!(decoded(&[b"Zm9vZ", b""]), Err(Base64Error::Length));
    }

    #[test]
    fn base64_is_encoded_with_padding() {
        for (plain, text) in VECTORS {
            let (mut encoder, mut out) = (Encoder::default(), Vec::new());
            encoder.encode(plain, &mut out);
            encoder.pad(&mut out);
            assert_eq!(out, text);
        }
    }

    fn trailers() -> Fields {
        let mut trailers = Fields::new();
        trailers.append("Grpc-Status", b"0").unwrap();
        trailers
    }

    #[test]
    fn trailers_are_the_last_frame() {
        let mut writer = Writer::default();
        assert_eq!(writer.data(b"\0\0\0\0\x01x"), b"\0\0\0\0\x01x");
        assert_eq!(writer.end(Some(&trailers())), b"\x80\0\0\0\x0fgrpc-status:0\r\n");
        assert_eq!(writer.end(None), b"");
    }

    #[test]
    fn each_message_is_a_piece_of_base64_however_it_is_split() {
        let messages = [&b"\0\0\0\0\x01x"[..], b"\0\0\0\0\0", b"\x01\0\0\x01\0", &[7; 256]].concat();
        let mut whole = Vec::new();
        for message in [&messages[..6], &messages[6..11], &messages[11..]] {
            let mut encoder = Encoder::default();
            encoder.encode(message, &mut whole);
            encoder.pad(&mut whole);
        }
        for size in 1..=messages.len() {
            let mut writer = Writer { text: true, ..Writer::default() };
            let mut out = Vec::new();
            messages.chunks(size).for_each(|piece| out.extend_from_slice(writer.data(piece)));
            assert_eq!(out, whole, "in pieces of {size}");
            assert_eq!(writer.end(Some(&trailers())), b"gAAAAA9ncnBjLXN0YXR1czowDQo=");
        }
    }

    #[test]
    fn other_content_types_are_not_of_grpc_web() {
        for other in
            ["application/grpc", "application/grpc-web+json", "application/grpc-web; a=b", "text/plain"]
        {
            assert_eq!(is_text(other.as_bytes()), None, "{other}");
        }
    }
}
