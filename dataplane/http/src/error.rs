//! What can be wrong with a message, whose fault it is, and what to answer.

/// Who caused a [`DecodeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer sent bytes that are not the protocol.
    Peer,
    /// The message may be valid but exceeds one of our [`limits`](crate::limits).
    Limit,
}

/// Why a message was refused. Flat and `Copy`: it carries no text of the peer.
///
/// On the downstream side [`status`](Self::status), [`body`](Self::body) and
/// [`details`](Self::details) are the local reply as Envoy gives it; the connection is closed after
/// it. On the upstream side every variant is the same event, an upstream protocol error: 502 and
/// [`UPSTREAM_DETAILS_BEFORE_HEAD`](Self::UPSTREAM_DETAILS_BEFORE_HEAD) before the response head,
/// a cut stream and [`UPSTREAM_DETAILS_AFTER_HEAD`](Self::UPSTREAM_DETAILS_AFTER_HEAD) after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not an HTTP/1 start line.
    #[error("malformed start line")]
    StartLine,
    /// The method is not one of the registered methods this crate knows.
    #[error("unknown method")]
    Method,
    /// The request target has a form that its method does not allow, or holds bytes outside
    /// visible ASCII.
    #[error("malformed request target")]
    Target,
    /// Asterisk form with a method other than OPTIONS.
    #[error("asterisk target needs OPTIONS")]
    AsteriskTarget,
    /// Absolute form with a scheme other than http or https.
    #[error("unsupported scheme in the request target")]
    Scheme,
    /// The authority (Host field or absolute target) has bytes that no authority has.
    #[error("invalid authority")]
    Authority,
    /// More than one Host field. Compat: Envoy joins them; two hosts are ambiguous
    /// (RFC 9112 §3.2), so we refuse.
    #[error("more than one Host field")]
    DuplicateHost,
    /// Well-formed `HTTP/x.y` that is neither 1.1 nor 1.0.
    #[error("unsupported HTTP version")]
    Version,
    /// A line ends in a bare LF, or holds a bare CR. Compat: Envoy accepts bare LF in heads and a
    /// bare CR inside values; both are request-smuggling material (RFC 9112 §2.2), so we refuse.
    #[error("line end is not CRLF")]
    LineEnd,
    /// A field name is empty, is followed by blanks, or has a byte outside `token`.
    #[error("malformed field name")]
    FieldName,
    /// A field value has a control byte.
    #[error("control byte in a field value")]
    FieldValue,
    /// A line begins with a blank (obsolete line folding). Compat: Envoy joins the lines.
    #[error("folded field line")]
    FoldedLine,
    /// Content-Length is not one decimal number that fits 63 bits, or occurs more than once.
    #[error("invalid Content-Length")]
    ContentLength,
    /// Both Content-Length and Transfer-Encoding.
    #[error("Content-Length together with Transfer-Encoding")]
    AmbiguousLength,
    /// Transfer-Encoding is anything but a single `chunked`.
    #[error("unsupported Transfer-Encoding")]
    TransferEncoding,
    /// Transfer-Encoding in an HTTP/1.0 message (RFC 9112 §6.1: faulty framing).
    #[error("Transfer-Encoding in an HTTP/1.0 message")]
    TransferEncodingHttp10,
    /// A chunk-size line, its extension, or the line end after chunk data is malformed.
    #[error("malformed chunk")]
    Chunk,
    /// A trailer field that may not stand in a trailer section: framing, routing or connection
    /// control (RFC 9110 §6.5.1).
    #[error("field not allowed in trailers")]
    ForbiddenTrailer,
    /// The status code is not three digits from 100 to 999.
    #[error("invalid status code")]
    Status,
    /// 101 to a request that did not ask for an upgrade.
    #[error("unexpected 101")]
    UnexpectedUpgrade,
    /// A 1xx or 204 answer that declares a body.
    #[error("body declared on a status that has none")]
    BodyNotAllowed,
    /// A field name with an underscore, where the configuration refuses them.
    #[error("underscore in a field name")]
    Underscore,
    /// The connection ended inside a message.
    #[error("connection ended inside a message")]
    Incomplete,
    /// The head is longer than its limit.
    #[error("head too large")]
    HeadTooLarge,
    /// The head has more fields than allowed.
    #[error("too many fields")]
    TooManyFields,
    /// The trailer section is longer than its limit or has too many fields.
    #[error("trailers too large")]
    TrailersTooLarge,
    /// Chunk extensions exceed their bound.
    #[error("chunk extensions too large")]
    ChunkExtensionsTooLarge,
    /// More empty lines before a start line than tolerated.
    #[error("too many empty lines before a start line")]
    TooManyEmptyLines,
}

impl DecodeError {
    /// `RESPONSE_CODE_DETAILS` when the upstream's head was malformed. Source: envoy-observed §1.
    pub const UPSTREAM_DETAILS_BEFORE_HEAD: &'static str =
        "upstream_reset_before_response_started{protocol_error}";
    /// `RESPONSE_CODE_DETAILS` when the upstream's body was malformed after its head was forwarded.
    pub const UPSTREAM_DETAILS_AFTER_HEAD: &'static str =
        "upstream_reset_after_response_started{protocol_error}";

    /// Whose fault it is.
    pub const fn fault(self) -> Fault {
        match self {
            Self::HeadTooLarge
            | Self::TooManyFields
            | Self::TrailersTooLarge
            | Self::ChunkExtensionsTooLarge
            | Self::TooManyEmptyLines => Fault::Limit,
            Self::StartLine
            | Self::Method
            | Self::Target
            | Self::AsteriskTarget
            | Self::Scheme
            | Self::Authority
            | Self::DuplicateHost
            | Self::Version
            | Self::LineEnd
            | Self::FieldName
            | Self::FieldValue
            | Self::FoldedLine
            | Self::ContentLength
            | Self::AmbiguousLength
            | Self::TransferEncoding
            | Self::TransferEncodingHttp10
            | Self::Chunk
            | Self::ForbiddenTrailer
            | Self::Status
            | Self::UnexpectedUpgrade
            | Self::BodyNotAllowed
            | Self::Underscore
            | Self::Incomplete => Fault::Peer,
        }
    }

    /// Status of the local reply on the downstream side.
    pub const fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => 431,
            Self::TransferEncoding => 501,
            Self::Version => 426,
            _ => 400,
        }
    }

    /// Body (`text/plain`) of the local reply: the reason phrase of [`status`](Self::status).
    pub const fn body(self) -> &'static str {
        match self.status() {
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            426 => "Upgrade Required",
            _ => "Bad Request",
        }
    }

    /// Envoy's `RESPONSE_CODE_DETAILS` on the downstream side. Source: envoy-observed §2, §3.
    pub const fn details(self) -> &'static str {
        match self {
            Self::HeadTooLarge => "http1.headers_too_large",
            Self::TooManyFields => "http1.too_many_headers",
            Self::TrailersTooLarge => "http1.trailers_too_large",
            Self::FieldValue => "http1.invalid_characters",
            Self::AmbiguousLength => "http1.content_length_and_chunked_not_allowed",
            Self::TransferEncoding | Self::TransferEncodingHttp10 => "http1.invalid_transfer_encoding",
            Self::AsteriskTarget => "http1.invalid_url",
            Self::Scheme => "http1.invalid_scheme",
            Self::Authority => "http.invalid_authority",
            Self::Version => "low_version",
            Self::Underscore => "http1.unexpected_underscore",
            _ => "http1.codec_error",
        }
    }
}
