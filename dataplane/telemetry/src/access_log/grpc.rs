//! Records as entries of Envoy's access-log service.
//!
//! Source: `envoy.data.accesslog.v3`; which fields are filled, and with what, as Envoy's gRPC access loggers do.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::data::accesslog::v3 as pb;
use ringsail_xds::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use ringsail_xds::envoy::service::accesslog::v3::stream_access_logs_message::{
    HttpAccessLogEntries, LogEntries, TcpAccessLogEntries,
};

use super::error::FormatError;
use super::format::Context;
use super::operator::{HeaderSource, Wanted};
use super::record::{Address, Protocol, Record, RecordKind, Text, TimePoint};
use super::tag::{Tag, TagValue};
use crate::flags::ResponseFlag;

/// What entries hold besides what all do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcLogSettings {
    /// Entries of TCP connections.
    pub tcp: bool,
    /// Tags.
    pub tags: Vec<Tag>,
    /// Request headers, in lower case.
    pub request_headers: Vec<String>,
    /// The answer's headers.
    pub response_headers: Vec<String>,
    /// The answer's trailers.
    pub response_trailers: Vec<String>,
}

/// Encodes records.
#[derive(Clone, Debug)]
pub struct GrpcLog {
    tcp: bool,
    tags: Vec<TagValue>,
    fixed: Fixed,
    request_headers: Vec<(String, usize)>,
    response_headers: Vec<(String, usize)>,
    response_trailers: Vec<(String, usize)>,
    wanted: Wanted,
}

/// Slots of the headers that every entry has.
#[derive(Clone, Copy, Debug)]
struct Fixed {
    method: usize,
    scheme: usize,
    authority: usize,
    path: usize,
    user_agent: usize,
    referer: usize,
    forwarded_for: usize,
    request_id: usize,
    original_path: usize,
}

/// Entries that are sent together.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    http: Vec<pb::HttpAccessLogEntry>,
    tcp: Vec<pb::TcpAccessLogEntry>,
}

impl GrpcLog {
    /// Compiles the settings.
    ///
    /// # Errors
    /// When the format of a tag is wrong.
    pub fn new(settings: &GrpcLogSettings, context: &Context<'_>) -> Result<GrpcLog, FormatError> {
        let mut wanted = Wanted { header_bytes: true, ..Wanted::default() };
        let tags = TagValue::compile(&settings.tags, context, &mut wanted)?;
        let mut request = |name: &str| wanted.header(HeaderSource::Request, name);
        let fixed = Fixed {
            method: request(":method"),
            scheme: request(":scheme"),
            authority: request(":authority"),
            path: request(":path"),
            user_agent: request("user-agent"),
            referer: request("referer"),
            forwarded_for: request("x-forwarded-for"),
            request_id: request("x-request-id"),
            original_path: request("x-envoy-original-path"),
        };
        let mut slots = |source: HeaderSource, names: &[String]| -> Vec<(String, usize)> {
            names.iter().map(|name| (name.clone(), wanted.header(source, name))).collect()
        };
        let request_headers = slots(HeaderSource::Request, &settings.request_headers);
        let response_headers = slots(HeaderSource::Response, &settings.response_headers);
        let response_trailers = slots(HeaderSource::ResponseTrailer, &settings.response_trailers);
        Ok(GrpcLog {
            tcp: settings.tcp,
            tags,
            fixed,
            request_headers,
            response_headers,
            response_trailers,
            wanted,
        })
    }

    /// What entries show that the engine has to copy.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Adds a record; gives about how many bytes that will be.
    pub(super) fn add(&self, record: &Record, entries: &mut Entries) -> usize {
        if self.tcp {
            let entry = self.tcp_entry(record);
            let bytes = entry.encoded_len();
            entries.tcp.push(entry);
            bytes
        } else {
            let entry = self.http_entry(record);
            let bytes = entry.encoded_len();
            entries.http.push(entry);
            bytes
        }
    }

    fn tcp_entry(&self, record: &Record) -> pb::TcpAccessLogEntry {
        pb::TcpAccessLogEntry {
            common_properties: Some(self.common(record)),
            connection_properties: Some(pb::ConnectionProperties {
                received_bytes: record.bytes_received,
                sent_bytes: record.bytes_sent,
            }),
        }
    }

    fn http_entry(&self, record: &Record) -> pb::HttpAccessLogEntry {
        use pb::http_access_log_entry::HttpVersion;
        let header = |slot: usize| record.header(slot).map(text).unwrap_or_default();
        let method = core::RequestMethod::from_str_name(&header(self.fixed.method));
        pb::HttpAccessLogEntry {
            common_properties: Some(self.common(record)),
            protocol_version: match record.protocol {
                None => HttpVersion::ProtocolUnspecified,
                Some(Protocol::Http10) => HttpVersion::Http10,
                Some(Protocol::Http11) => HttpVersion::Http11,
                Some(Protocol::Http2) => HttpVersion::Http2,
            }
            .into(),
            request: Some(pb::HttpRequestProperties {
                request_method: method.unwrap_or(core::RequestMethod::MethodUnspecified).into(),
                scheme: header(self.fixed.scheme),
                authority: header(self.fixed.authority),
                port: None,
                path: header(self.fixed.path),
                user_agent: header(self.fixed.user_agent),
                referer: header(self.fixed.referer),
                forwarded_for: header(self.fixed.forwarded_for),
                request_id: header(self.fixed.request_id),
                original_path: header(self.fixed.original_path),
                request_headers_bytes: record.request_headers_bytes,
                request_body_bytes: record.bytes_received,
                request_headers: fields(record, &self.request_headers),
                upstream_header_bytes_sent: record.upstream_header_bytes_sent,
                downstream_header_bytes_received: record.downstream_header_bytes_received,
            }),
            response: Some(pb::HttpResponseProperties {
                response_code: (record.response_code > 0).then_some(record.response_code.into()),
                response_headers_bytes: record.response_headers_bytes,
                response_body_bytes: record.bytes_sent,
                response_headers: fields(record, &self.response_headers),
                response_trailers: fields(record, &self.response_trailers),
                response_code_details: record.text(Text::ResponseCodeDetails).map(text).unwrap_or_default(),
                upstream_header_bytes_received: record.upstream_header_bytes_received,
                downstream_header_bytes_sent: record.downstream_header_bytes_sent,
            }),
        }
    }

    fn common(&self, record: &Record) -> pb::AccessLogCommon {
        let own_text = |which| record.text(which).map(text).unwrap_or_default();
        let since_start = |point| record.time(point).and_then(wire_duration);
        // Compat: a cluster is named once one of its endpoints was picked.
        let picked = record.upstream_remote.is_some();
        let tags = self.tags.iter().filter_map(|tag| Some((tag.name().to_owned(), tag.value(record)?)));
        pb::AccessLogCommon {
            downstream_remote_address: record.downstream_remote.as_ref().map(address),
            downstream_direct_remote_address: record.downstream_direct_remote.as_ref().map(address),
            downstream_local_address: record.downstream_local.as_ref().map(address),
            upstream_remote_address: record.upstream_remote.as_ref().map(address),
            upstream_local_address: record.upstream_local.as_ref().map(address),
            upstream_cluster: if picked { own_text(Text::UpstreamClusterRaw) } else { String::new() },
            start_time: Some(record.start_time.into()),
            time_to_last_rx_byte: since_start(TimePoint::RequestEnd),
            time_to_first_upstream_tx_byte: since_start(TimePoint::UpstreamSendBegin),
            time_to_last_upstream_tx_byte: since_start(TimePoint::UpstreamSendEnd),
            time_to_first_upstream_rx_byte: since_start(TimePoint::UpstreamReceiveBegin),
            time_to_last_upstream_rx_byte: since_start(TimePoint::UpstreamReceiveEnd),
            time_to_first_downstream_tx_byte: since_start(TimePoint::ResponseBegin),
            time_to_last_downstream_tx_byte: since_start(TimePoint::ResponseEnd),
            duration: record.duration.and_then(wire_duration),
            response_flags: Some(flags(record)).filter(|flags| *flags != pb::ResponseFlags::default()),
            upstream_transport_failure_reason: own_text(Text::UpstreamTransportFailureReason),
            downstream_transport_failure_reason: own_text(Text::DownstreamTransportFailureReason),
            route_name: own_text(Text::RouteName),
            connection_termination_details: own_text(Text::ConnectionTerminationDetails),
            stream_id: own_text(Text::StreamId),
            upstream_request_attempt_count: record.upstream_attempts,
            downstream_wire_bytes_sent: record.downstream_wire_bytes_sent,
            downstream_wire_bytes_received: record.downstream_wire_bytes_received,
            upstream_wire_bytes_sent: record.upstream_wire_bytes_sent,
            upstream_wire_bytes_received: record.upstream_wire_bytes_received,
            access_log_type: record.kind.number(),
            intermediate_log_entry: matches!(
                record.kind,
                RecordKind::DownstreamPeriodic | RecordKind::TcpPeriodic | RecordKind::DownstreamStart
            ),
            custom_tags: tags.collect(),
            ..pb::AccessLogCommon::default()
        }
    }
}

impl Entries {
    /// The message for these entries, without who sends it; empties the list.
    pub(super) fn take_message(&mut self) -> Vec<u8> {
        let Entries { http, tcp } = std::mem::take(self);
        let entries = if tcp.is_empty() {
            LogEntries::HttpLogs(HttpAccessLogEntries { log_entry: http })
        } else {
            LogEntries::TcpLogs(TcpAccessLogEntries { log_entry: tcp })
        };
        StreamAccessLogsMessage { identifier: None, log_entries: Some(entries) }.encode_to_vec()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn fields(record: &Record, slots: &[(String, usize)]) -> BTreeMap<String, String> {
    slots.iter().filter_map(|(name, slot)| Some((name.clone(), text(record.header(*slot)?)))).collect()
}

fn wire_duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

fn address(value: &Address) -> core::Address {
    use core::address::Address as Wire;
    use core::socket_address::PortSpecifier;
    let wire = match value {
        Address::Ip(address) => Wire::SocketAddress(core::SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..core::SocketAddress::default()
        }),
        Address::Pipe(path) => Wire::Pipe(core::Pipe { path: path.to_string(), ..core::Pipe::default() }),
    };
    core::Address { address: Some(wire) }
}

fn flags(record: &Record) -> pb::ResponseFlags {
    use pb::response_flags::{Unauthorized, unauthorized::Reason};
    let mut set = pb::ResponseFlags::default();
    for flag in record.flags.iter() {
        match flag {
            ResponseFlag::FailedLocalHealthCheck => set.failed_local_healthcheck = true,
            ResponseFlag::NoHealthyUpstream => set.no_healthy_upstream = true,
            ResponseFlag::UpstreamRequestTimeout => set.upstream_request_timeout = true,
            ResponseFlag::LocalReset => set.local_reset = true,
            ResponseFlag::UpstreamRemoteReset => set.upstream_remote_reset = true,
            ResponseFlag::UpstreamConnectionFailure => set.upstream_connection_failure = true,
            ResponseFlag::UpstreamConnectionTermination => set.upstream_connection_termination = true,
            ResponseFlag::UpstreamOverflow => set.upstream_overflow = true,
            ResponseFlag::NoRouteFound => set.no_route_found = true,
            ResponseFlag::DelayInjected => set.delay_injected = true,
            ResponseFlag::FaultInjected => set.fault_injected = true,
            ResponseFlag::RateLimited => set.rate_limited = true,
            ResponseFlag::UnauthorizedExternalService => {
                set.unauthorized_details = Some(Unauthorized { reason: Reason::ExternalService.into() });
            }
            ResponseFlag::RateLimitServiceError => set.rate_limit_service_error = true,
            ResponseFlag::DownstreamConnectionTermination => set.downstream_connection_termination = true,
            ResponseFlag::UpstreamRetryLimitExceeded => set.upstream_retry_limit_exceeded = true,
            ResponseFlag::StreamIdleTimeout => set.stream_idle_timeout = true,
            ResponseFlag::InvalidEnvoyRequestHeaders => set.invalid_envoy_request_headers = true,
            ResponseFlag::DownstreamProtocolError => set.downstream_protocol_error = true,
            ResponseFlag::UpstreamMaxStreamDurationReached => {
                set.upstream_max_stream_duration_reached = true;
            }
            ResponseFlag::ResponseFromCacheFilter => set.response_from_cache_filter = true,
            ResponseFlag::NoFilterConfigFound => set.no_filter_config_found = true,
            ResponseFlag::DurationTimeout => set.duration_timeout = true,
            ResponseFlag::UpstreamProtocolError => set.upstream_protocol_error = true,
            ResponseFlag::NoClusterFound => set.no_cluster_found = true,
            ResponseFlag::OverloadManager => set.overload_manager = true,
            ResponseFlag::DnsResolutionFailed => set.dns_resolution_failure = true,
            ResponseFlag::DownstreamRemoteReset => set.downstream_remote_reset = true,
            // The message has no place for these.
            ResponseFlag::DropOverload | ResponseFlag::UnconditionalDropOverload => {}
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn an_entry_tells_what_the_record_does() {
        let settings = GrpcLogSettings {
            request_headers: vec!["x-a".into(), "x-none".into()],
            response_headers: vec!["x-b".into()],
            ..GrpcLogSettings::default()
        };
        let log = GrpcLog::new(&settings, &Context::default()).expect("valid");
        let mut record = Record::new();
        record.start_time = UNIX_EPOCH + Duration::from_millis(1500);
        record.duration = Some(Duration::from_millis(7));
        record.protocol = Some(Protocol::Http11);
        record.response_code = 503;
        record.flags.insert(ResponseFlag::UpstreamConnectionFailure);
        record.upstream_remote = Some(Address::Ip("10.0.0.2:80".parse().expect("address")));
        record.set(Text::UpstreamClusterRaw, b"outbound|80||a");
        for (slot, wanted) in log.wanted().headers.iter().enumerate() {
            match wanted.name.as_str() {
                ":method" => record.push_header(slot, b"GET"),
                ":path" => record.push_header(slot, b"/p"),
                "x-a" => record.push_header(slot, b"a"),
                "x-b" => record.push_header(slot, b"b"),
                _ => {}
            }
        }
        let mut entries = Entries::default();
        assert!(log.add(&record, &mut entries) > 0);
        let message = StreamAccessLogsMessage::decode(entries.take_message().as_slice()).expect("valid");
        assert_eq!(message.identifier, None);
        let Some(LogEntries::HttpLogs(logs)) = message.log_entries else { panic!("{message:?}") };
        let entry = &logs.log_entry[0];
        let (common, request) = (entry.common_properties.as_ref(), entry.request.as_ref());
        let (common, request) = (common.expect("set"), request.expect("set"));
        assert_eq!(request.request_method(), core::RequestMethod::Get);
        assert_eq!(request.path, "/p");
        assert_eq!(request.request_headers, BTreeMap::from([("x-a".to_owned(), "a".to_owned())]));
        assert!(common.response_flags.as_ref().is_some_and(|flags| flags.upstream_connection_failure));
        assert!(common.upstream_remote_address.is_some(), "it was picked, if not connected");
        assert_eq!(common.access_log_type, 6);
        let response = entry.response.as_ref().expect("set");
        assert_eq!(response.response_code, Some(503));
        assert_eq!(response.response_headers["x-b"], "b");
    }
}
