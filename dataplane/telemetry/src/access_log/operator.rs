//! The operators of a format string: which exist and what they take.

use super::error::{FormatError, FormatProblem};
use super::evaluate::millis;
use super::format::Context;
use super::record::{Address, Protocol, Record, Text, TimePoint};
use super::template::Call;
use super::time::{self, TimeFormat};

/// A header field that a format shows. The engine copies its value into the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedHeader {
    /// Whose field.
    pub source: HeaderSource,
    /// Name in lower case. For requests also `:method`, `:path`, `:authority` and `:scheme`.
    pub name: String,
}

/// Which message a header field is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderSource {
    /// The request, as it was received (with edits made before routing).
    Request,
    /// The answer, as it was sent.
    Response,
    /// The answer's trailers.
    ResponseTrailer,
}

/// A metadata value that a format shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedMetadata {
    /// Whose.
    pub owner: MetadataOwner,
    /// Its name space.
    pub namespace: String,
    /// Keys below; the whole name space without any.
    pub path: Vec<String>,
}

/// Whose metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataOwner {
    /// The request's own, written by filters.
    Dynamic,
    /// The cluster's.
    Cluster,
    /// The endpoint's.
    Endpoint,
    /// The route's.
    Route,
    /// The listener's.
    Listener,
}

/// What formats show that is not in every record. The engine copies it into the record, by its place here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Header fields.
    pub headers: Vec<WantedHeader>,
    /// Metadata.
    pub metadata: Vec<WantedMetadata>,
    /// [`Text::UniqueId`].
    pub unique_id: bool,
    /// [`Record::request_headers_bytes`] and its like.
    pub header_bytes: bool,
}

impl Wanted {
    /// The slot of a header field; each is listed once.
    pub(super) fn header(&mut self, source: HeaderSource, name: &str) -> usize {
        let listed = self.headers.iter().position(|h| h.source == source && h.name == name);
        listed.unwrap_or_else(|| {
            self.headers.push(WantedHeader { source, name: name.to_owned() });
            self.headers.len() - 1
        })
    }

    /// The slot of a metadata value; each is listed once.
    pub(super) fn metadata(&mut self, wanted: WantedMetadata) -> usize {
        let listed = self.metadata.iter().position(|other| *other == wanted);
        listed.unwrap_or_else(|| {
            self.metadata.push(wanted);
            self.metadata.len() - 1
        })
    }
}

/// A compiled operator.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    pub(super) value: Value,
    /// Longest value in bytes.
    pub(super) length: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    StartTime(TimeFormat),
    EmitTime(TimeFormat),
    /// First of these slots that has a value.
    Header(Vec<usize>),
    HeaderWithoutQuery(Vec<usize>),
    /// Query parameter of the path in this slot.
    QueryParameter(usize, String),
    /// Path in the first slot that has one.
    Path {
        slots: Vec<usize>,
        query: bool,
    },
    Text(Text),
    /// Text that is empty rather than missing.
    TextOrEmpty(Text),
    /// SNI of the connection and the authority in this slot, whichever is first in this order.
    ServerName {
        authority: usize,
        authority_first: bool,
    },
    /// The endpoint's name, else its address.
    UpstreamHostName,
    /// Text with blanks written as `_`.
    Word(Text),
    Number(fn(&Record) -> Option<u64>),
    /// Time between two moments in this unit; `None` is the beginning.
    Between(Moment, Moment, Unit),
    Address(AddressOf, Part),
    Protocol(fn(&Record) -> Option<Protocol>),
    Flags {
        long: bool,
    },
    GrpcStatus(GrpcForm),
    Kind,
    /// Metadata in this slot.
    Metadata(usize),
    TraceId,
    SpanId,
    /// Known when the format is compiled.
    Fixed(String),
    /// Nothing ever has it here: TLS, filter state.
    Unavailable,
}

/// One of a record's addresses.
pub(super) type AddressOf = fn(&Record) -> Option<&Address>;

/// A moment in a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    Start,
    At(TimePoint),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Whole,
    WithoutPort,
    Port,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum GrpcForm {
    Camel,
    Snake,
    Number,
}

/// Compiles one operator call; what it shows is added to `wanted`.
pub(super) fn compile(
    call: Call<'_>,
    context: &Context<'_>,
    wanted: &mut Wanted,
) -> Result<Operator, FormatError> {
    let mut compiler = Compiler { call, context, wanted };
    let value = compiler.value().map_err(|problem| FormatError { position: call.position, problem })?;
    Ok(Operator { value, length: call.length })
}

struct Compiler<'c, 'f> {
    call: Call<'f>,
    context: &'c Context<'c>,
    wanted: &'c mut Wanted,
}

impl Compiler<'_, '_> {
    fn value(&mut self) -> Result<Value, FormatProblem> {
        use HeaderSource as H;
        use Moment::{At, Start};
        use TimePoint as P;
        let name = self.call.name;
        let value = match name {
            "START_TIME" => return self.time().map(Value::StartTime),
            "EMIT_TIME" => return self.time().map(Value::EmitTime),
            "REQ" | "REQUEST_HEADER" => return self.header(H::Request).map(Value::Header),
            "RESP" | "RESPONSE_HEADER" => return self.header(H::Response).map(Value::Header),
            "TRAILER" | "RESPONSE_TRAILER" => return self.header(H::ResponseTrailer).map(Value::Header),
            "REQ_WITHOUT_QUERY" if self.context.req_without_query => {
                return self.header(H::Request).map(Value::HeaderWithoutQuery);
            }
            "QUERY_PARAM" => {
                let name = self.parameter()?.to_owned();
                return Ok(Value::QueryParameter(self.slot(H::Request, ":path"), name));
            }
            "PATH" => return self.path(),
            "COMMON_DURATION" => return self.common_duration(),
            "GRPC_STATUS" => return self.grpc_status(),
            "GRPC_STATUS_NUMBER" => Value::GrpcStatus(GrpcForm::Number),
            "ENVIRONMENT" => {
                let variable = (self.context.environment)(self.parameter()?);
                // Compat: Envoy writes `-` for a variable that is not set, also in JSON.
                return Ok(Value::Fixed(variable.unwrap_or_else(|| "-".to_owned())));
            }
            "REQUESTED_SERVER_NAME" => return self.requested_server_name(),
            "CLUSTER_METADATA" | "UPSTREAM_METADATA" | "DYNAMIC_METADATA" => {
                let owner = match name {
                    "CLUSTER_METADATA" => MetadataOwner::Cluster,
                    "UPSTREAM_METADATA" => MetadataOwner::Endpoint,
                    _ => MetadataOwner::Dynamic,
                };
                let parameter = self.parameter()?.to_owned();
                return self.metadata(owner, &parameter);
            }
            "METADATA" => return self.metadata_of_kind(),
            // No filter here keeps such objects, so none is found, as in Envoy without the filter that makes it.
            "FILTER_STATE" | "UPSTREAM_FILTER_STATE" => {
                self.parameter()?;
                return Ok(Value::Unavailable);
            }
            "CEL" => return Err(FormatProblem::Unsupported(name.to_owned())),
            "PROTOCOL" => Value::Protocol(|r| r.protocol),
            "UPSTREAM_PROTOCOL" => Value::Protocol(|r| r.upstream_protocol),
            "RESPONSE_CODE" => Value::Number(|r| Some(r.response_code.into())),
            "RESPONSE_CODE_DETAILS" => Value::Word(Text::ResponseCodeDetails),
            "CONNECTION_TERMINATION_DETAILS" => Value::Text(Text::ConnectionTerminationDetails),
            "RESPONSE_FLAGS" => Value::Flags { long: false },
            "RESPONSE_FLAGS_LONG" => Value::Flags { long: true },
            "BYTES_RECEIVED" => Value::Number(|r| Some(r.bytes_received)),
            "BYTES_SENT" => Value::Number(|r| Some(r.bytes_sent)),
            "REQUEST_HEADERS_BYTES"
            | "RESPONSE_HEADERS_BYTES"
            | "DOWNSTREAM_HEADER_BYTES_SENT"
            | "DOWNSTREAM_HEADER_BYTES_RECEIVED" => {
                self.wanted.header_bytes = true;
                match name {
                    "REQUEST_HEADERS_BYTES" | "DOWNSTREAM_HEADER_BYTES_RECEIVED" => {
                        Value::Number(|r| Some(r.request_headers_bytes))
                    }
                    _ => Value::Number(|r| Some(r.response_headers_bytes)),
                }
            }
            "RESPONSE_TRAILERS_BYTES" => Value::Number(|r| Some(r.response_trailers_bytes)),
            "UPSTREAM_WIRE_BYTES_SENT" => Value::Number(|r| Some(r.upstream_wire_bytes_sent)),
            "UPSTREAM_WIRE_BYTES_RECEIVED" => Value::Number(|r| Some(r.upstream_wire_bytes_received)),
            "UPSTREAM_HEADER_BYTES_SENT" => Value::Number(|r| Some(r.upstream_header_bytes_sent)),
            "UPSTREAM_HEADER_BYTES_RECEIVED" => Value::Number(|r| Some(r.upstream_header_bytes_received)),
            "DOWNSTREAM_WIRE_BYTES_SENT" => Value::Number(|r| Some(r.downstream_wire_bytes_sent)),
            "DOWNSTREAM_WIRE_BYTES_RECEIVED" => Value::Number(|r| Some(r.downstream_wire_bytes_received)),
            "DURATION" => Value::Number(|r| r.duration.map(millis)),
            "REQUEST_DURATION" => Value::Between(Start, At(P::RequestEnd), Unit::Millis),
            "REQUEST_TX_DURATION" => Value::Between(Start, At(P::UpstreamSendEnd), Unit::Millis),
            "RESPONSE_DURATION" => Value::Between(Start, At(P::UpstreamReceiveBegin), Unit::Millis),
            "RESPONSE_TX_DURATION" => {
                Value::Between(At(P::UpstreamReceiveBegin), At(P::ResponseEnd), Unit::Millis)
            }
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Value::Number(|r| Some(r.upstream_attempts.into())),
            "CONNECTION_ID" => Value::Number(|r| Some(r.connection_id)),
            "UPSTREAM_CONNECTION_ID" => Value::Number(|r| Some(r.upstream_connection_id.unwrap_or(0))),
            "UPSTREAM_HOST" => Value::Address(|r| r.upstream_remote.as_ref(), Part::Whole),
            "UPSTREAM_HOST_NAME" => Value::UpstreamHostName,
            "UPSTREAM_CLUSTER" => Value::Text(Text::UpstreamCluster),
            "UPSTREAM_CLUSTER_RAW" => Value::Text(Text::UpstreamClusterRaw),
            "ROUTE_NAME" => Value::Text(Text::RouteName),
            "DOWNSTREAM_PEER_URI_SAN" => Value::Text(Text::DownstreamPeerUriSan),
            "DOWNSTREAM_PEER_DNS_SAN" => Value::Text(Text::DownstreamPeerDnsSan),
            "DOWNSTREAM_PEER_IP_SAN" => Value::Text(Text::DownstreamPeerIpSan),
            "DOWNSTREAM_PEER_SUBJECT" => Value::Text(Text::DownstreamPeerSubject),
            "DOWNSTREAM_PEER_ISSUER" => Value::Text(Text::DownstreamPeerIssuer),
            "DOWNSTREAM_PEER_SERIAL" => Value::Text(Text::DownstreamPeerSerial),
            "DOWNSTREAM_PEER_FINGERPRINT_256" => Value::Text(Text::DownstreamPeerFingerprint),
            "DOWNSTREAM_LOCAL_URI_SAN" => Value::Text(Text::DownstreamLocalUriSan),
            "DOWNSTREAM_LOCAL_DNS_SAN" => Value::Text(Text::DownstreamLocalDnsSan),
            "DOWNSTREAM_LOCAL_SUBJECT" => Value::Text(Text::DownstreamLocalSubject),
            "DOWNSTREAM_TLS_VERSION" => Value::Text(Text::DownstreamTlsVersion),
            "DOWNSTREAM_TLS_CIPHER" => Value::Text(Text::DownstreamTlsCipher),
            "DOWNSTREAM_TLS_SESSION_ID" => Value::Text(Text::DownstreamTlsSessionId),
            "UPSTREAM_PEER_URI_SAN" => Value::Text(Text::UpstreamPeerUriSan),
            "UPSTREAM_PEER_DNS_SAN" => Value::Text(Text::UpstreamPeerDnsSan),
            "UPSTREAM_PEER_SUBJECT" => Value::Text(Text::UpstreamPeerSubject),
            "UPSTREAM_PEER_ISSUER" => Value::Text(Text::UpstreamPeerIssuer),
            "UPSTREAM_TLS_VERSION" => Value::Text(Text::UpstreamTlsVersion),
            "UPSTREAM_TLS_CIPHER" => Value::Text(Text::UpstreamTlsCipher),
            "UPSTREAM_TLS_SESSION_ID" => Value::Text(Text::UpstreamTlsSessionId),
            "VIRTUAL_CLUSTER_NAME" => Value::Text(Text::VirtualClusterName),
            "FILTER_CHAIN_NAME" => Value::Text(Text::FilterChainName),
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Value::Word(Text::UpstreamTransportFailureReason),
            "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => Value::Word(Text::DownstreamTransportFailureReason),
            "LOCAL_REPLY_BODY" => Value::TextOrEmpty(Text::LocalReplyBody),
            "CUSTOM_FLAGS" => Value::Fixed(String::new()),
            "STREAM_ID" => Value::Text(Text::StreamId),
            "ACCESS_LOG_TYPE" => Value::Kind,
            "TRACE_ID" => Value::TraceId,
            "SPAN_ID" => Value::SpanId,
            "UNIQUE_ID" => {
                self.wanted.unique_id = true;
                Value::Text(Text::UniqueId)
            }
            "HOSTNAME" => Value::Fixed(self.context.hostname.to_owned()),
            _ => match address(name) {
                Some((address, part)) => Value::Address(address, part),
                None if is_unavailable(name) => Value::Unavailable,
                None => return Err(FormatProblem::Unknown(name.to_owned())),
            },
        };
        match self.call.parameter {
            None => Ok(value),
            Some(parameter) => Err(FormatProblem::BadParameter(name.to_owned(), parameter.to_owned())),
        }
    }

    fn parameter(&self) -> Result<&str, FormatProblem> {
        match self.call.parameter {
            Some(parameter) if !parameter.is_empty() => Ok(parameter),
            _ => Err(FormatProblem::MissingParameter(self.call.name.to_owned())),
        }
    }

    fn bad_parameter(&self) -> FormatProblem {
        let parameter = self.call.parameter.unwrap_or_default();
        FormatProblem::BadParameter(self.call.name.to_owned(), parameter.to_owned())
    }

    fn time(&self) -> Result<TimeFormat, FormatProblem> {
        if self.call.length.is_some() {
            return Err(FormatProblem::NoLength(self.call.name.to_owned()));
        }
        let format = self.call.parameter.filter(|p| !p.is_empty()).unwrap_or(time::DEFAULT);
        TimeFormat::parse(format).ok_or_else(|| self.bad_parameter())
    }

    /// `name` or `name?alternative`
    fn header(&mut self, source: HeaderSource) -> Result<Vec<usize>, FormatProblem> {
        let names: Vec<String> = self.parameter()?.split('?').map(str::to_ascii_lowercase).collect();
        if names.len() > 2 || names.iter().any(|name| !is_field_name(name)) {
            return Err(self.bad_parameter());
        }
        Ok(names.iter().map(|name| self.slot(source, name)).collect())
    }

    /// The slot of a wanted header field.
    fn slot(&mut self, source: HeaderSource, name: &str) -> usize {
        self.wanted.header(source, name)
    }

    /// `namespace:key:key…`
    fn metadata(&mut self, owner: MetadataOwner, text: &str) -> Result<Value, FormatProblem> {
        let mut parts = text.split(':').map(str::to_owned);
        let namespace = parts.next().filter(|name| !name.is_empty()).ok_or_else(|| self.bad_parameter())?;
        let wanted = WantedMetadata { owner, namespace, path: parts.collect() };
        Ok(Value::Metadata(self.wanted.metadata(wanted)))
    }

    /// `KIND:namespace:key:key…`
    fn metadata_of_kind(&mut self) -> Result<Value, FormatProblem> {
        let parameter = self.parameter()?.to_owned();
        let (kind, rest) = parameter.split_once(':').ok_or_else(|| self.bad_parameter())?;
        let owner = match kind {
            "DYNAMIC" => MetadataOwner::Dynamic,
            "CLUSTER" => MetadataOwner::Cluster,
            "UPSTREAM_HOST" => MetadataOwner::Endpoint,
            "ROUTE" => MetadataOwner::Route,
            "LISTENER" => MetadataOwner::Listener,
            _ => return Err(self.bad_parameter()),
        };
        self.metadata(owner, rest)
    }

    /// `WQ` or `NQ`, then `PATH`, `ORIG` or `ORIG_OR_PATH`, separated by a colon.
    fn path(&mut self) -> Result<Value, FormatProblem> {
        let parameter = self.call.parameter.unwrap_or_default();
        let (query, which) = parameter.split_once(':').unwrap_or((parameter, ""));
        let query = match query {
            "" | "WQ" => true,
            "NQ" => false,
            _ => return Err(self.bad_parameter()),
        };
        let names: &[&str] = match which {
            "" | "ORIG_OR_PATH" => &["x-envoy-original-path", ":path"],
            "ORIG" => &["x-envoy-original-path"],
            "PATH" => &[":path"],
            _ => return Err(self.bad_parameter()),
        };
        let slots = names.iter().map(|name| self.slot(HeaderSource::Request, name)).collect();
        Ok(Value::Path { slots, query })
    }

    /// `start:end:unit`
    fn common_duration(&self) -> Result<Value, FormatProblem> {
        let parts: Vec<&str> = self.parameter()?.split(':').collect();
        let [from, to, unit] = parts.as_slice() else { return Err(self.bad_parameter()) };
        let unit = match *unit {
            "ms" => Unit::Millis,
            "us" => Unit::Micros,
            "ns" => Unit::Nanos,
            _ => return Err(self.bad_parameter()),
        };
        let moment = |name: &str| moment(name).ok_or_else(|| self.bad_parameter());
        Ok(Value::Between(moment(from)?, moment(to)?, unit))
    }

    fn grpc_status(&self) -> Result<Value, FormatProblem> {
        match self.call.parameter {
            None | Some("" | "CAMEL_STRING") => Ok(Value::GrpcStatus(GrpcForm::Camel)),
            Some("SNAKE_STRING") => Ok(Value::GrpcStatus(GrpcForm::Snake)),
            Some("NUMBER") => Ok(Value::GrpcStatus(GrpcForm::Number)),
            Some(_) => Err(self.bad_parameter()),
        }
    }

    fn requested_server_name(&mut self) -> Result<Value, FormatProblem> {
        let authority_first = match self.call.parameter {
            None | Some("" | "SNI_ONLY") => return Ok(Value::Text(Text::RequestedServerName)),
            Some("SNI_FIRST") => false,
            Some("HOST_FIRST") => true,
            Some(_) => return Err(self.bad_parameter()),
        };
        let authority = self.slot(HeaderSource::Request, ":authority");
        Ok(Value::ServerName { authority, authority_first })
    }
}

fn is_field_name(name: &str) -> bool {
    let token = name.strip_prefix(':').unwrap_or(name);
    !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&b))
}

fn moment(name: &str) -> Option<Moment> {
    Some(match name {
        "DS_RX_BEG" => Moment::Start,
        "DS_RX_END" => Moment::At(TimePoint::RequestEnd),
        "US_CX_BEG" => Moment::At(TimePoint::UpstreamConnectBegin),
        "US_CX_END" => Moment::At(TimePoint::UpstreamConnectEnd),
        "US_HS_END" => Moment::At(TimePoint::UpstreamHandshakeEnd),
        "US_TX_BEG" => Moment::At(TimePoint::UpstreamSendBegin),
        "US_TX_END" => Moment::At(TimePoint::UpstreamSendEnd),
        "US_RX_BEG" => Moment::At(TimePoint::UpstreamReceiveBegin),
        "US_RX_END" => Moment::At(TimePoint::UpstreamReceiveEnd),
        "DS_TX_BEG" => Moment::At(TimePoint::ResponseBegin),
        "DS_TX_END" => Moment::At(TimePoint::ResponseEnd),
        _ => return None,
    })
}

/// `DOWNSTREAM_REMOTE_ADDRESS`, `…_ADDRESS_WITHOUT_PORT`, `…_PORT` and their like.
fn address(name: &str) -> Option<(AddressOf, Part)> {
    let parts =
        [("_ADDRESS_WITHOUT_PORT", Part::WithoutPort), ("_ADDRESS", Part::Whole), ("_PORT", Part::Port)];
    let (whose, part) = parts.iter().find_map(|(end, part)| Some((name.strip_suffix(end)?, *part)))?;
    let address: AddressOf = match whose {
        "DOWNSTREAM_REMOTE" => |r| r.downstream_remote.as_ref(),
        "DOWNSTREAM_DIRECT_REMOTE" => |r| r.downstream_direct_remote.as_ref(),
        "DOWNSTREAM_LOCAL" => |r| r.downstream_local.as_ref(),
        "DOWNSTREAM_DIRECT_LOCAL" => |r| r.downstream_direct_local.as_ref(),
        // Compat: known once connected, unlike UPSTREAM_HOST.
        "UPSTREAM_REMOTE" => |r| r.upstream_remote.as_ref().filter(|_| r.upstream_local.is_some()),
        "UPSTREAM_LOCAL" => |r| r.upstream_local.as_ref(),
        _ => return None,
    };
    Some((address, part))
}

/// Operators Envoy accepts whose value is not known here: nothing is written for them.
/// Source: envoy-observed §10.
fn is_unavailable(name: &str) -> bool {
    const NAMES: [&str; 15] = [
        "BYTES_RETRANSMITTED",
        "PACKETS_RETRANSMITTED",
        "DOWNSTREAM_HANDSHAKE_DURATION",
        "ROUNDTRIP_DURATION",
        "UPSTREAM_PEER_CERT",
        "UPSTREAM_DETECTED_CLOSE_TYPE",
        "DOWNSTREAM_DETECTED_CLOSE_TYPE",
        "UPSTREAM_LOCAL_CLOSE_REASON",
        "DOWNSTREAM_LOCAL_CLOSE_REASON",
        "DOWNSTREAM_PEER_CERT",
        "DOWNSTREAM_PEER_CERT_V_START",
        "DOWNSTREAM_PEER_CERT_V_END",
        "DOWNSTREAM_PEER_FINGERPRINT_1",
        "TLS_JA3_FINGERPRINT",
        "TLS_JA4_FINGERPRINT",
    ];
    NAMES.contains(&name)
}
