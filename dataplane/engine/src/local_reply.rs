//! Answers of our own: written into a response head as Envoy writes them.
//!
//! Compat: header order is *the filter's own*, `content-length`, `content-type`, `date`, `server`, `x-request-id`, `via`,
//! `connection: close`; without a body there is no content type and `content-length: 0` comes last, but for statuses
//! that have no body (204, 304). A gRPC request gets HTTP 200 and the outcome in `grpc-status` and `grpc-message`.

use ringsail_http::{BodyLength, EditError, Framing, ResponseHead};

use crate::decimal::Decimal;

/// What to answer.
#[derive(Clone, Copy, Debug)]
pub struct LocalReply<'a> {
    /// Status for HTTP clients.
    pub status: u16,
    /// Body; empty means none.
    pub body: &'a [u8],
    /// Its type, where the head names none.
    pub content_type: &'a [u8],
    /// The body is not the one that the head was made for, and so is its type.
    pub body_replaced: bool,
    /// The request's content type says gRPC.
    pub grpc: bool,
    /// gRPC status, when it is not the one that follows from `status`.
    pub grpc_status: Option<u32>,
    /// The request's method is HEAD.
    pub head_only: bool,
    /// The connection ends after this reply.
    pub close: bool,
    /// Value of `date`.
    pub date: &'a [u8],
    /// Value of `server`; `None` leaves it out.
    pub server: Option<&'a [u8]>,
    /// Value of `x-request-id`; `None` leaves it out.
    pub request_id: Option<&'a [u8]>,
    /// Value of `via`; empty leaves it out.
    pub via: &'a [u8],
}

impl LocalReply<'_> {
    /// Begins `head`, which may hold the filter's own headers and must have been reset for this reply: the status and
    /// what the body needs. The error means that the head's own bound is reached.
    pub fn begin(self, head: &mut ResponseHead) -> Result<(), EditError> {
        if self.grpc {
            return self.begin_grpc(head);
        }
        head.set_status(self.status);
        let fields = head.fields_mut();
        if self.body.is_empty() {
            fields.remove("content-type");
            return Ok(());
        }
        fields.append("content-length", Decimal::new(self.body.len() as u64).text())?;
        if self.body_replaced || !fields.contains("content-type") {
            fields.set("content-type", self.content_type)?;
        }
        Ok(())
    }

    /// Trailers-only: the status is in the head and there is no body.
    fn begin_grpc(self, head: &mut ResponseHead) -> Result<(), EditError> {
        head.set_status(200);
        let grpc = self.grpc_status.unwrap_or_else(|| grpc_status(self.status).into());
        let fields = head.fields_mut();
        fields.set("content-type", b"application/grpc")?;
        fields.append("grpc-status", Decimal::new(u64::from(grpc)).text())?;
        if !self.body.is_empty() {
            let mut message = Vec::with_capacity(self.body.len());
            percent_encode(self.body, &mut message);
            fields.append("grpc-message", &message)?;
        }
        Ok(())
    }

    /// Ends `head`, which other filters may have edited meanwhile. Returns whether the body is to be sent after it.
    pub fn finish(self, head: &mut ResponseHead) -> Result<bool, EditError> {
        self.write_tail(head)?;
        let with_body = !self.grpc && !self.body.is_empty() && !self.head_only;
        let bodiless = !self.grpc && matches!(self.status, 100..200 | 204 | 304);
        let body = match (self.grpc || self.body.is_empty(), self.head_only && !self.grpc) {
            // There is nothing whose length could be told (RFC 9110 section 8.6).
            (true, _) if bodiless => BodyLength::None,
            (false, false) => BodyLength::Length(self.body.len() as u64),
            (false, true) => BodyLength::None,
            (true, false) => BodyLength::Length(0),
            (true, true) => {
                // Compat: what Envoy's encoder makes of an answer to HEAD without a length.
                head.fields_mut().append("transfer-encoding", b"chunked")?;
                BodyLength::None
            }
        };
        head.set_framing(Framing { body, persistent: !self.close });
        Ok(with_body)
    }

    fn write_tail(self, head: &mut ResponseHead) -> Result<(), EditError> {
        let fields = head.fields_mut();
        fields.append("date", self.date)?;
        if let Some(server) = self.server {
            fields.append("server", server)?;
        }
        if let Some(id) = self.request_id {
            fields.set("x-request-id", id)?;
        }
        if !self.via.is_empty() {
            fields.append("via", self.via)?;
        }
        if self.close {
            fields.append("connection", b"close")?;
        }
        Ok(())
    }
}

/// Whether a content type is gRPC's: `application/grpc`, alone or followed by `+…` or `;…`.
pub fn is_grpc(content_type: Option<&[u8]>) -> bool {
    content_type
        .and_then(|value| value.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The gRPC status for an HTTP status. Source: "HTTP to gRPC status code mapping" of the gRPC documentation.
pub fn grpc_status(http: u16) -> u8 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// `grpc-message` is percent-encoded outside printable ASCII. Source: gRPC over HTTP/2, "Responses".
pub(crate) fn percent_encode(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}
