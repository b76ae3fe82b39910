//! Where a message ends, and whether its connection lives on.

/// How the end of a body is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BodyLength {
    /// No body bytes follow the head.
    #[default]
    None,
    /// Exactly this many bytes follow; 0 when `Content-Length: 0` was sent.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// All bytes until the peer closes (responses only).
    UntilClose,
    /// Not HTTP any more: the connection is a tunnel from here (101, or 2xx to CONNECT, and the
    /// client's side of a CONNECT).
    Tunnel,
}

/// What head decoding found out about the rest of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// How the body ends.
    pub body: BodyLength,
    /// Whether the sender allows another message on this connection after this one. False for
    /// `Connection: close`, HTTP/1.0 without `keep-alive`, and [`BodyLength::UntilClose`].
    pub persistent: bool,
}

impl Default for Framing {
    fn default() -> Self {
        Self { body: BodyLength::None, persistent: true }
    }
}
