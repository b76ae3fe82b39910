//! Everything that can keep a request from its upstream's answer, in one table.
//!
//! A [`Failure`] is small and `Copy`; [`Failure::row`] says what the client gets (status and body), what the
//! access log says (flag and details) and which cluster counter moves. Whether it may be retried is
//! [`crate::retry`]'s question, which reads [`Failure::retry_class`]. Adding a failure is adding a row.
//!
//! Compat: every string here is Envoy 1.40's, as observed.

use std::borrow::Cow;

use ringsail_http::DecodeError;
use ringsail_telemetry::{ClusterCounter, ResponseFlag};

use crate::filters::grpc_web::Base64Error;
use crate::tls::FailureText;

/// Why an exchange did not end with the upstream's complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    // Before routing.
    /// The client's bytes are not an acceptable request.
    Codec(DecodeError),
    /// HTTP/1.0 (or an unknown version) where it is not accepted.
    LowVersion,
    /// HTTP/1.1 without Host.
    MissingHost,
    /// The path has an escape that may not be decoded, or one that is configured to be refused.
    PathNormalization,
    /// The target is not a path: `OPTIONS *`.
    NotAPath,
    /// The body of a gRPC-Web request in the text form is no base64.
    Base64(Base64Error),
    /// Method QUERY without a content type.
    QueryWithoutContentType,
    /// `Upgrade` to a protocol the route does not allow.
    UpgradeNotAllowed,
    // Routing.
    /// No virtual host, or no route in it.
    RouteNotFound,
    /// The route names a cluster that does not exist; the status is the route's choice, 503 by default.
    ClusterNotFound {
        /// `cluster_not_found_response_code`.
        status: u16,
    },
    // Filters.
    /// The fault filter ended the request.
    FaultAbort {
        /// The configured status.
        status: u16,
    },
    // Upstream, before a response.
    /// No endpoint may be picked.
    NoHealthyUpstream,
    /// The connection could not be made; the reason is the system's.
    ConnectFailure(ConnectError),
    /// The connection was not made in time.
    ConnectTimeout,
    /// The upstream closed or reset the connection before the first byte of its answer.
    ConnectionTermination,
    /// The upstream's head was not HTTP, or it ended inside the head.
    UpstreamProtocol,
    /// The upstream has reset the stream before its answer.
    RemoteReset,
    /// The upstream has refused the stream, untouched.
    RemoteRefused,
    /// A circuit breaker has no room.
    Overflow,
    /// The route's timeout.
    RouteTimeout,
    /// The timeout of one try.
    PerTryTimeout,
    /// Nothing moved for the idle timeout of one try.
    PerTryIdleTimeout,
    /// The cluster's longest allowed exchange.
    UpstreamMaxDuration,
    // Upstream, after its head was forwarded.
    /// The upstream's connection ended inside the body of its answer, or the body's framing is broken.
    ResponseProtocol,
    /// An upgraded connection was closed or reset by the upstream.
    ResponseTermination,
    /// An accepted upgrade request was not answered with 101.
    UpgradeNotAnswered,
    /// The upstream has reset its stream inside the body of its answer.
    ResponseReset,
    // Downstream.
    /// The client has reset the request's stream.
    ClientReset,
    /// The head of an HTTP/2 request breaks a bound or a rule; its stream is reset.
    StreamRefused {
        /// `RESPONSE_CODE_DETAILS`.
        details: &'static str,
    },
    /// The client closed or reset its connection.
    ClientGone,
    /// Nothing moved for the stream idle timeout.
    StreamIdle,
    /// The request was not complete in time.
    RequestTimeout,
    /// The request head was not complete in time.
    RequestHeadersTimeout,
    /// The longest allowed exchange of the connection manager or route.
    MaxDuration,
    /// The head no longer fits its bound after the configured edits.
    HeadTooLargeAfterEdits,
}

/// Why a connection could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The system's error number.
    Errno(i32),
    /// The shard has no room for another connection, or the address is of no usable kind.
    Local,
    /// No TLS session: the reason.
    Tls(FailureText),
}

impl ConnectError {
    /// The error as Envoy words it; logs show it with `_` for blanks.
    pub fn transport_failure_reason(self) -> Cow<'static, str> {
        match self {
            ConnectError::Errno(errno) => Cow::Owned(format!("delayed connect error: {}", strerror(errno))),
            ConnectError::Local => Cow::Borrowed("delayed connect error: local resource limit"),
            ConnectError::Tls(text) => Cow::Owned(text.text().to_string()),
        }
    }
}

/// The text of an error number without the number that [`std::io::Error`] adds to it.
fn strerror(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}

/// Groups of failures as retry policies name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// Never.
    No,
    /// `connect-failure`.
    ConnectFailure,
    /// The upstream went away or spoke nonsense before a complete response head: `reset`.
    Reset,
    /// The timeout of one try.
    PerTryTimeout,
    /// `refused-stream`; it is a reset as well.
    RefusedStream,
}

/// What a failure looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Status of the local reply; 0 when no reply is possible.
    pub status: u16,
    /// Status when the request is not complete yet.
    pub status_if_incomplete: u16,
    /// Body of the local reply; empty means none. For [`Failure::is_reset`] the reset reason follows it.
    pub body: &'static str,
    /// Access-log flag.
    pub flag: Option<ResponseFlag>,
    /// `RESPONSE_CODE_DETAILS`.
    pub details: &'static str,
    /// Counter of the cluster.
    pub counter: Option<ClusterCounter>,
    /// The connection cannot be used after the reply.
    pub closes: bool,
}

impl Row {
    const fn new(status: u16, body: &'static str, flag: Option<ResponseFlag>, details: &'static str) -> Row {
        Row { status, status_if_incomplete: status, body, flag, details, counter: None, closes: false }
    }

    const fn closing(mut self) -> Row {
        self.closes = true;
        self
    }

    const fn or_408(mut self) -> Row {
        self.status_if_incomplete = 408;
        self
    }

    const fn counted(mut self, counter: ClusterCounter) -> Row {
        self.counter = Some(counter);
        self
    }
}

impl Failure {
    /// The row of this failure.
    pub const fn row(self) -> Row {
        use ClusterCounter as Count;
        use ResponseFlag as Flag;
        match self {
            Self::Codec(error) => {
                Row::new(error.status(), error.body(), Some(Flag::DownstreamProtocolError), error.details())
                    .closing()
            }
            Self::LowVersion => {
                Row::new(426, "Upgrade Required", Some(Flag::DownstreamProtocolError), "low_version")
                    .closing()
            }
            Self::MissingHost => Row::new(400, "", None, "missing_host_header").closing(),
            Self::PathNormalization => Row::new(400, "", None, "path_normalization_failed").closing(),
            Self::NotAPath => Row::new(404, "", None, "absolute_path_rejected"),
            Self::Base64(error) => {
                let details = match error {
                    Base64Error::Length => "grpc_base_64_decode_failed_bad_size",
                    Base64Error::Byte => "grpc_base_64_decode_failed",
                };
                Row::new(400, "Bad gRPC-web request, invalid base64 data.", None, details).closing()
            }
            Self::QueryWithoutContentType => Row::new(400, "", None, "query_missing_content_type").closing(),
            Self::UpgradeNotAllowed => Row::new(403, "", None, "upgrade_failed").closing(),
            Self::RouteNotFound => Row::new(404, "", Some(Flag::NoRouteFound), "route_not_found"),
            Self::ClusterNotFound { status } => {
                Row::new(status, "", Some(Flag::NoClusterFound), "cluster_not_found")
            }
            Self::FaultAbort { status } => {
                Row::new(status, "fault filter abort", Some(Flag::FaultInjected), "fault_filter_abort")
            }
            Self::NoHealthyUpstream => {
                Row::new(503, "no healthy upstream", Some(Flag::NoHealthyUpstream), "no_healthy_upstream")
                    .counted(Count::UpstreamCxNoneHealthy)
            }
            Self::ConnectFailure(_) => Row::new(
                503,
                "remote connection failure",
                Some(Flag::UpstreamConnectionFailure),
                "remote_connection_failure",
            )
            .counted(Count::UpstreamCxConnectFail),
            Self::ConnectTimeout => Row::new(
                503,
                "connection timeout",
                Some(Flag::UpstreamConnectionFailure),
                "connection_timeout",
            )
            .counted(Count::UpstreamCxConnectTimeout),
            Self::ConnectionTermination => Row::new(
                503,
                "connection termination",
                Some(Flag::UpstreamConnectionTermination),
                "connection_termination",
            ),
            Self::UpstreamProtocol => {
                Row::new(502, "protocol error", Some(Flag::UpstreamProtocolError), "protocol_error")
                    .counted(Count::UpstreamCxProtocolError)
            }
            Self::RemoteReset => {
                Row::new(503, "remote reset", Some(Flag::UpstreamRemoteReset), "remote_reset")
            }
            Self::RemoteRefused => Row::new(
                503,
                "remote refused stream reset",
                Some(Flag::UpstreamRemoteReset),
                "remote_refused_stream_reset",
            ),
            Self::Overflow => Row::new(503, "overflow", Some(Flag::UpstreamOverflow), "overflow")
                .counted(Count::UpstreamRqPendingOverflow),
            Self::RouteTimeout => Row::new(
                504,
                "upstream request timeout",
                Some(Flag::UpstreamRequestTimeout),
                "response_timeout",
            )
            .counted(Count::UpstreamRqTimeout),
            Self::PerTryTimeout => Row::new(
                504,
                "upstream request timeout",
                Some(Flag::UpstreamRequestTimeout),
                "upstream_per_try_timeout",
            )
            .counted(Count::UpstreamRqPerTryTimeout),
            Self::PerTryIdleTimeout => Row::new(
                504,
                "upstream request timeout",
                Some(Flag::UpstreamRequestTimeout),
                "upstream_per_try_idle_timeout",
            )
            .counted(Count::UpstreamRqPerTryIdleTimeout),
            Self::UpstreamMaxDuration => Row::new(
                504,
                "upstream max stream duration reached",
                Some(Flag::UpstreamMaxStreamDurationReached),
                "upstream_max_stream_duration_reached",
            )
            .or_408()
            .counted(Count::UpstreamRqMaxDurationReached),
            Self::ResponseProtocol => Row::new(
                0,
                "",
                Some(Flag::UpstreamProtocolError),
                "upstream_reset_after_response_started{protocol_error}",
            )
            .closing()
            .counted(Count::UpstreamCxProtocolError),
            Self::ResponseTermination => Row::new(
                0,
                "",
                Some(Flag::UpstreamConnectionTermination),
                "upstream_reset_after_response_started{connection_termination}",
            )
            .closing(),
            Self::ResponseReset => Row::new(
                0,
                "",
                Some(Flag::UpstreamRemoteReset),
                "upstream_reset_after_response_started{remote_reset}",
            )
            .closing(),
            Self::ClientReset => {
                Row::new(0, "", Some(Flag::DownstreamRemoteReset), "http2.remote_reset").closing()
            }
            Self::StreamRefused { details } => {
                Row::new(0, "", Some(Flag::DownstreamRemoteReset), details).closing()
            }
            Self::UpgradeNotAnswered => Row::new(0, "", None, "websocket_handshake_unsuccessful").closing(),
            Self::ClientGone => {
                Row::new(0, "", Some(Flag::DownstreamConnectionTermination), "downstream_remote_disconnect")
                    .closing()
            }
            Self::StreamIdle => {
                Row::new(504, "stream timeout", Some(Flag::StreamIdleTimeout), "stream_idle_timeout").or_408()
            }
            Self::RequestTimeout => {
                Row::new(408, "request timeout", None, "request_overall_timeout").closing()
            }
            Self::RequestHeadersTimeout => {
                Row::new(408, "request header timeout", None, "request_header_timeout").closing()
            }
            Self::MaxDuration => {
                Row::new(504, "downstream duration timeout", None, "max_duration_timeout").or_408()
            }
            Self::HeadTooLargeAfterEdits => Row::new(
                431,
                "Request Header Fields Too Large",
                Some(Flag::DownstreamProtocolError),
                "http1.headers_too_large",
            )
            .closing(),
        }
    }

    /// Whether the request is received while it is waited for this: what came of it until then counts as received.
    pub const fn is_found_while_receiving(self) -> bool {
        matches!(
            self,
            Self::ConnectFailure(_)
                | Self::ConnectTimeout
                | Self::ConnectionTermination
                | Self::UpstreamProtocol
                | Self::RemoteReset
                | Self::RemoteRefused
                | Self::RouteTimeout
                | Self::PerTryTimeout
                | Self::PerTryIdleTimeout
        )
    }

    /// Whether our answer stands for one of the cluster, and is counted as such.
    pub const fn is_of_upstream(self) -> bool {
        self.is_reset()
            || matches!(
                self,
                Self::NoHealthyUpstream | Self::RouteTimeout | Self::PerTryTimeout | Self::PerTryIdleTimeout
            )
    }

    /// Whether `x-envoy-upstream-rq-timeout-alt-response` replaces our answer.
    pub const fn is_upstream_timeout(self) -> bool {
        matches!(self, Self::RouteTimeout | Self::PerTryTimeout | Self::PerTryIdleTimeout)
    }

    /// Whether Envoy treats it as a reset of the upstream stream: body and details are then composed from the
    /// reset reason in the row.
    pub const fn is_reset(self) -> bool {
        matches!(
            self,
            Self::ConnectFailure(_)
                | Self::ConnectTimeout
                | Self::ConnectionTermination
                | Self::UpstreamProtocol
                | Self::RemoteReset
                | Self::RemoteRefused
                | Self::Overflow
        )
    }

    /// The group retry policies know it by.
    pub const fn retry_class(self) -> RetryClass {
        match self {
            Self::ConnectFailure(_) | Self::ConnectTimeout => RetryClass::ConnectFailure,
            Self::ConnectionTermination | Self::UpstreamProtocol | Self::RemoteReset => RetryClass::Reset,
            Self::RemoteRefused => RetryClass::RefusedStream,
            Self::PerTryTimeout | Self::PerTryIdleTimeout => RetryClass::PerTryTimeout,
            _ => RetryClass::No,
        }
    }

    /// Appends the body of the local reply. `retried` says that this was not the first attempt.
    pub fn write_body(self, retried: bool, out: &mut Vec<u8>) {
        let row = self.row();
        if self.is_reset() {
            out.extend_from_slice(b"upstream connect error or disconnect/reset before headers. ");
            out.extend_from_slice(if retried {
                &b"retried and the latest reset reason: "[..]
            } else {
                b"reset reason: "
            });
        }
        out.extend_from_slice(row.body.as_bytes());
    }

    /// `RESPONSE_CODE_DETAILS`.
    pub fn details(self) -> Cow<'static, str> {
        match self {
            Self::ConnectFailure(error) => Cow::Owned(format!(
                "upstream_reset_before_response_started{{remote_connection_failure|{}}}",
                error.transport_failure_reason().replace(' ', "_")
            )),
            Self::ConnectTimeout => "upstream_reset_before_response_started{connection_timeout}".into(),
            Self::ConnectionTermination => {
                "upstream_reset_before_response_started{connection_termination}".into()
            }
            Self::UpstreamProtocol => "upstream_reset_before_response_started{protocol_error}".into(),
            Self::RemoteReset => "upstream_reset_before_response_started{remote_reset}".into(),
            Self::RemoteRefused => {
                "upstream_reset_before_response_started{remote_refused_stream_reset}".into()
            }
            Self::Overflow => "upstream_reset_before_response_started{overflow}".into(),
            _ => self.row().details.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(failure: Failure, retried: bool) -> String {
        let mut out = Vec::new();
        failure.write_body(retried, &mut out);
        String::from_utf8(out).unwrap()
    }

    const REFUSED: Failure = Failure::ConnectFailure(ConnectError::Errno(111));

    #[test]
    fn a_refused_connection_is_worded_as_envoy_does() {
        assert_eq!(
            body(REFUSED, false),
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
        );
        assert_eq!(
            body(REFUSED, true),
            "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: \
             remote connection failure"
        );
        assert_eq!(
            REFUSED.details(),
            "upstream_reset_before_response_started{remote_connection_failure|\
             delayed_connect_error:_Connection_refused}"
        );
        assert_eq!(REFUSED.row().status, 503);
    }

    #[test]
    fn a_broken_answer_is_502() {
        assert_eq!(Failure::UpstreamProtocol.row().status, 502);
        assert_eq!(
            Failure::UpstreamProtocol.details(),
            "upstream_reset_before_response_started{protocol_error}"
        );
    }

    #[test]
    fn timeouts_of_an_unfinished_request_are_408() {
        for failure in [Failure::StreamIdle, Failure::MaxDuration, Failure::UpstreamMaxDuration] {
            assert_eq!((failure.row().status, failure.row().status_if_incomplete), (504, 408), "{failure:?}");
        }
    }
}
