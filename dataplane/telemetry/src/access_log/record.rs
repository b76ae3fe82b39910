//! What is known about one finished request or connection.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::extra::ExtraKind;
use crate::flags::ResponseFlags;
use crate::limits::{RECORD_HEADERS, RECORD_TEXT_BYTES};
use crate::trace::TraceId;

/// A range of a record's arena.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    len: u32,
}

/// Values for one access-log line. Plain data: filling it costs copies into one arena and no
/// formatting. `clear` keeps the memory, so a record can be used again.
#[derive(Clone, Debug)]
pub struct Record {
    /// What ended.
    pub kind: RecordKind,
    /// When the request, or the connection, began.
    pub start_time: SystemTime,
    /// From the beginning to the last byte out.
    pub duration: Option<Duration>,
    /// Downstream protocol; `None` for TCP.
    pub protocol: Option<Protocol>,
    /// Upstream protocol.
    pub upstream_protocol: Option<Protocol>,
    /// Status of the answer; 0 when none was started.
    pub response_code: u16,
    /// Why it ended so.
    pub flags: ResponseFlags,
    /// Body bytes received from the client.
    pub bytes_received: u64,
    /// Body bytes sent to the client.
    pub bytes_sent: u64,
    /// Head bytes of the request.
    pub request_headers_bytes: u64,
    /// Head bytes of the answer.
    pub response_headers_bytes: u64,
    /// Trailer bytes of the answer.
    pub response_trailers_bytes: u64,
    /// Bytes of header fields from the client, as on the wire.
    pub downstream_header_bytes_received: u64,
    /// Bytes of header fields to the client, as on the wire.
    pub downstream_header_bytes_sent: u64,
    /// All bytes from the client for this request.
    pub downstream_wire_bytes_received: u64,
    /// All bytes to the client for this request.
    pub downstream_wire_bytes_sent: u64,
    /// All bytes from the upstream for this request.
    pub upstream_wire_bytes_received: u64,
    /// All bytes to the upstream for this request.
    pub upstream_wire_bytes_sent: u64,
    /// Head bytes from the upstream.
    pub upstream_header_bytes_received: u64,
    /// Head bytes to the upstream.
    pub upstream_header_bytes_sent: u64,
    /// Tries made; 0 when no upstream was asked.
    pub upstream_attempts: u32,
    /// Downstream connection, numbered per process.
    pub connection_id: u64,
    /// Upstream connection.
    pub upstream_connection_id: Option<u64>,
    /// The client, as `x-forwarded-for` or the PROXY protocol tell it.
    pub downstream_remote: Option<Address>,
    /// The client's socket address.
    pub downstream_direct_remote: Option<Address>,
    /// Our address, as the client meant it.
    pub downstream_local: Option<Address>,
    /// Our socket's address.
    pub downstream_direct_local: Option<Address>,
    /// The endpoint that was picked, connected or not.
    pub upstream_remote: Option<Address>,
    /// Our address towards the endpoint; known once connected.
    pub upstream_local: Option<Address>,
    /// gRPC status of the answer.
    pub grpc_status: Option<u32>,
    /// Trace of the request, as far as it is traced.
    pub trace_id: Option<TraceId>,
    /// Span of the request, in tracing systems that tell it.
    pub span_id: Option<u64>,
    /// Nanoseconds since the beginning; before it they are negative.
    times: [Option<i64>; TimePoint::ALL.len()],
    texts: [Option<Span>; Text::ALL.len()],
    headers: Vec<(u16, Span)>,
    /// Metadata: JSON, except for text, which is as it is.
    metadata: Vec<(u16, Span, bool)>,
    extras: Vec<(u16, Span, ExtraKind)>,
    arena: Vec<u8>,
}

/// What a record tells of. Source: Envoy `AccessLogType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RecordKind {
    /// A connection that no filter chain took.
    NotSet,
    /// A TCP connection, whose upstream is connected.
    TcpUpstreamConnected,
    /// A TCP connection, in between.
    TcpPeriodic,
    /// The end of a TCP connection.
    TcpConnectionEnd,
    /// The beginning of an HTTP request.
    DownstreamStart,
    /// An HTTP request, in between.
    DownstreamPeriodic,
    /// The end of an HTTP request.
    #[default]
    DownstreamEnd,
    /// An HTTP request that became a tunnel.
    DownstreamTunnelSuccessfullyEstablished,
    /// The beginning of a TCP connection.
    TcpConnectionStart,
}

impl RecordKind {
    /// Envoy's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotSet => "NotSet",
            Self::TcpUpstreamConnected => "TcpUpstreamConnected",
            Self::TcpPeriodic => "TcpPeriodic",
            Self::TcpConnectionEnd => "TcpConnectionEnd",
            Self::DownstreamStart => "DownstreamStart",
            Self::DownstreamPeriodic => "DownstreamPeriodic",
            Self::DownstreamEnd => "DownstreamEnd",
            Self::DownstreamTunnelSuccessfullyEstablished => "DownstreamTunnelSuccessfullyEstablished",
            Self::TcpConnectionStart => "TcpConnectionStart",
        }
    }

    /// Envoy's number.
    pub fn number(self) -> i32 {
        match self {
            Self::NotSet => 0,
            Self::TcpUpstreamConnected => 1,
            Self::TcpPeriodic => 2,
            Self::TcpConnectionEnd => 3,
            Self::DownstreamStart => 4,
            Self::DownstreamPeriodic => 5,
            Self::DownstreamEnd => 6,
            Self::DownstreamTunnelSuccessfullyEstablished => 10,
            Self::TcpConnectionStart => 14,
        }
    }
}

/// A protocol, as it is written in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
    /// `HTTP/2`
    Http2,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// An address, as it is written in logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// IP address and port.
    Ip(SocketAddr),
    /// Path of a Unix socket.
    Pipe(Box<str>),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

/// Declares an enum whose variants index an array of a record.
macro_rules! indexed {
    ($(#[doc = $edoc:literal])* $name:ident { $($(#[doc = $doc:literal])* $variant:ident,)+ }) => {
        $(#[doc = $edoc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $doc])* $variant,)+ }

        impl $name {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)+];
        }
    };
}

indexed! {
    /// Text values.
    Text {
        /// `RESPONSE_CODE_DETAILS`
        ResponseCodeDetails,
        /// `CONNECTION_TERMINATION_DETAILS`
        ConnectionTerminationDetails,
        /// `UPSTREAM_TRANSPORT_FAILURE_REASON`
        UpstreamTransportFailureReason,
        /// `DOWNSTREAM_TRANSPORT_FAILURE_REASON`
        DownstreamTransportFailureReason,
        /// `UPSTREAM_CLUSTER`: the cluster's statistics name where it has one.
        UpstreamCluster,
        /// `UPSTREAM_CLUSTER_RAW`: the cluster's name.
        UpstreamClusterRaw,
        /// `ROUTE_NAME`
        RouteName,
        /// `VIRTUAL_CLUSTER_NAME`
        VirtualClusterName,
        /// `FILTER_CHAIN_NAME`
        FilterChainName,
        /// `REQUESTED_SERVER_NAME`
        RequestedServerName,
        /// `LOCAL_REPLY_BODY`
        LocalReplyBody,
        /// `STREAM_ID`
        StreamId,
        /// `UNIQUE_ID`
        UniqueId,
        /// `DOWNSTREAM_PEER_URI_SAN`
        DownstreamPeerUriSan,
        /// `DOWNSTREAM_PEER_DNS_SAN`
        DownstreamPeerDnsSan,
        /// `DOWNSTREAM_PEER_IP_SAN`
        DownstreamPeerIpSan,
        /// `DOWNSTREAM_PEER_SUBJECT`
        DownstreamPeerSubject,
        /// `DOWNSTREAM_PEER_ISSUER`
        DownstreamPeerIssuer,
        /// `DOWNSTREAM_PEER_SERIAL`
        DownstreamPeerSerial,
        /// `DOWNSTREAM_PEER_FINGERPRINT_256`
        DownstreamPeerFingerprint,
        /// `DOWNSTREAM_LOCAL_URI_SAN`
        DownstreamLocalUriSan,
        /// `DOWNSTREAM_LOCAL_DNS_SAN`
        DownstreamLocalDnsSan,
        /// `DOWNSTREAM_LOCAL_SUBJECT`
        DownstreamLocalSubject,
        /// `DOWNSTREAM_TLS_VERSION`
        DownstreamTlsVersion,
        /// `DOWNSTREAM_TLS_CIPHER`
        DownstreamTlsCipher,
        /// `DOWNSTREAM_TLS_SESSION_ID`
        DownstreamTlsSessionId,
        /// `UPSTREAM_PEER_URI_SAN`
        UpstreamPeerUriSan,
        /// `UPSTREAM_PEER_DNS_SAN`
        UpstreamPeerDnsSan,
        /// `UPSTREAM_PEER_SUBJECT`
        UpstreamPeerSubject,
        /// `UPSTREAM_PEER_ISSUER`
        UpstreamPeerIssuer,
        /// `UPSTREAM_TLS_VERSION`
        UpstreamTlsVersion,
        /// `UPSTREAM_TLS_CIPHER`
        UpstreamTlsCipher,
        /// `UPSTREAM_TLS_SESSION_ID`
        UpstreamTlsSessionId,
    }
}

indexed! {
    /// Moments, as time since the beginning. Names in parentheses are `COMMON_DURATION`'s.
    TimePoint {
        /// Request complete (`DS_RX_END`).
        RequestEnd,
        /// Connecting to the upstream begins (`US_CX_BEG`).
        UpstreamConnectBegin,
        /// Connected to the upstream (`US_CX_END`).
        UpstreamConnectEnd,
        /// TLS handshake with the upstream done (`US_HS_END`).
        UpstreamHandshakeEnd,
        /// First request byte to the upstream (`US_TX_BEG`).
        UpstreamSendBegin,
        /// Last request byte to the upstream (`US_TX_END`).
        UpstreamSendEnd,
        /// First answer byte from the upstream (`US_RX_BEG`).
        UpstreamReceiveBegin,
        /// First byte of the answer's body from the upstream (`US_RX_BODY_BEG`).
        UpstreamBodyBegin,
        /// The last attempt begins.
        UpstreamAttemptBegin,
        /// The last attempt has a connection, or there is none for it.
        UpstreamPoolReady,
        /// Last answer byte from the upstream (`US_RX_END`).
        UpstreamReceiveEnd,
        /// First answer byte to the client (`DS_TX_BEG`).
        ResponseBegin,
        /// Last answer byte to the client (`DS_TX_END`).
        ResponseEnd,
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            kind: RecordKind::default(),
            start_time: SystemTime::UNIX_EPOCH,
            duration: None,
            protocol: None,
            upstream_protocol: None,
            response_code: 0,
            flags: ResponseFlags::new(),
            bytes_received: 0,
            bytes_sent: 0,
            request_headers_bytes: 0,
            response_headers_bytes: 0,
            response_trailers_bytes: 0,
            downstream_header_bytes_received: 0,
            downstream_header_bytes_sent: 0,
            downstream_wire_bytes_received: 0,
            downstream_wire_bytes_sent: 0,
            upstream_wire_bytes_received: 0,
            upstream_wire_bytes_sent: 0,
            upstream_header_bytes_received: 0,
            upstream_header_bytes_sent: 0,
            upstream_attempts: 0,
            connection_id: 0,
            upstream_connection_id: None,
            downstream_remote: None,
            downstream_direct_remote: None,
            downstream_local: None,
            downstream_direct_local: None,
            upstream_remote: None,
            upstream_local: None,
            grpc_status: None,
            trace_id: None,
            span_id: None,
            times: [None; TimePoint::ALL.len()],
            texts: [None; Text::ALL.len()],
            headers: Vec::new(),
            metadata: Vec::new(),
            extras: Vec::new(),
            arena: Vec::new(),
        }
    }
}

impl Record {
    /// An empty record; allocates with the first text.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty record with room for the texts and header fields that most lines show, so that it does not grow in
    /// steps while it is filled.
    pub fn with_room() -> Self {
        Self {
            arena: Vec::with_capacity(RECORD_TEXT_BYTES),
            headers: Vec::with_capacity(RECORD_HEADERS),
            ..Self::default()
        }
    }

    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        let mut metadata = std::mem::take(&mut self.metadata);
        let mut extras = std::mem::take(&mut self.extras);
        let mut arena = std::mem::take(&mut self.arena);
        headers.clear();
        metadata.clear();
        extras.clear();
        arena.clear();
        *self = Self { headers, metadata, extras, arena, ..Self::default() };
    }

    /// Sets a text value. An empty one counts as missing.
    pub fn set(&mut self, text: Text, value: &[u8]) {
        let span = (!value.is_empty()).then(|| self.store(value));
        if let Some(slot) = self.texts.get_mut(text as usize) {
            *slot = span;
        }
    }

    /// A text value.
    pub fn text(&self, text: Text) -> Option<&[u8]> {
        let span = self.texts.get(text as usize).copied().flatten()?;
        self.bytes(span)
    }

    /// Sets the value of a wanted header field; `slot` is its place in
    /// [`Wanted::headers`](super::Wanted::headers).
    pub fn push_header(&mut self, slot: usize, value: &[u8]) {
        let Ok(slot) = u16::try_from(slot) else { return };
        let span = self.store(value);
        self.headers.push((slot, span));
    }

    /// The value of a wanted header field.
    pub fn header(&self, slot: usize) -> Option<&[u8]> {
        let (_, span) = self.headers.iter().find(|(s, _)| usize::from(*s) == slot)?;
        self.bytes(*span)
    }

    /// Sets a wanted metadata value; `slot` is its place in `Wanted::metadata`. Text is given
    /// as it is (`is_text`), anything else as JSON.
    pub fn push_metadata(&mut self, slot: usize, value: &[u8], is_text: bool) {
        let Ok(slot) = u16::try_from(slot) else { return };
        let span = self.store(value);
        self.metadata.push((slot, span, is_text));
    }

    /// A wanted metadata value, and whether it is text.
    pub(super) fn metadata(&self, slot: usize) -> Option<(&[u8], bool)> {
        let (_, span, is_text) = self.metadata.iter().find(|(s, ..)| usize::from(*s) == slot)?;
        Some((self.bytes(*span)?, *is_text))
    }

    /// Sets a value that was looked up; `slot` is its place in [`Wanted::extras`](super::Wanted::extras).
    pub fn push_extra(&mut self, slot: usize, value: &[u8], kind: ExtraKind) {
        let Ok(slot) = u16::try_from(slot) else { return };
        let span = self.store(value);
        self.extras.push((slot, span, kind));
    }

    /// A value that was looked up.
    pub(super) fn extra(&self, slot: usize) -> Option<(&[u8], ExtraKind)> {
        let (_, span, kind) = self.extras.iter().find(|(s, ..)| usize::from(*s) == slot)?;
        Some((self.bytes(*span)?, *kind))
    }

    /// Notes when something happened, as time since the beginning.
    pub fn mark(&mut self, point: TimePoint, since_start: Duration) {
        self.set_nanos(point, i64::try_from(since_start.as_nanos()).unwrap_or(i64::MAX));
    }

    /// Notes that something happened that long before the beginning.
    pub fn mark_before(&mut self, point: TimePoint, until_start: Duration) {
        self.set_nanos(point, -i64::try_from(until_start.as_nanos()).unwrap_or(i64::MAX));
    }

    fn set_nanos(&mut self, point: TimePoint, nanos: i64) {
        if let Some(slot) = self.times.get_mut(point as usize) {
            *slot = Some(nanos);
        }
    }

    /// When something happened, as time since the beginning; `None` also when it was before.
    pub fn time(&self, point: TimePoint) -> Option<Duration> {
        self.nanos(point).and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos)
    }

    /// When something happened, in nanoseconds since the beginning.
    pub(super) fn nanos(&self, point: TimePoint) -> Option<i64> {
        self.times.get(point as usize).copied().flatten()
    }

    fn store(&mut self, value: &[u8]) -> Span {
        let start = self.arena.len();
        self.arena.extend_from_slice(value);
        // Values come from heads, whose size is limited far below 4 GiB.
        Span { start: start as u32, len: value.len() as u32 }
    }

    fn bytes(&self, span: Span) -> Option<&[u8]> {
        let start = span.start as usize;
        self.arena.get(start..start + span.len as usize)
    }
}
