//! The operators of a format string: which exist and what they take.

use super::error::{FormatError, FormatProblem};
use super::evaluate::millis;
use super::extra::{Extra, FilterStateForm, TlsValue};
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
    /// The cluster's, once one of its endpoints was picked.
    PickedCluster,
    /// The endpoint's.
    Endpoint,
    /// The route's.
    Route,
    /// The listener's.
    Listener,
    /// The filter chain's.
    FilterChain,
    /// The virtual host's.
    VirtualHost,
}

/// What formats show that is not in every record. The engine copies it into the record, by its place here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Header fields.
    pub headers: Vec<WantedHeader>,
    /// Metadata.
    pub metadata: Vec<WantedMetadata>,
    /// What has to be looked up.
    pub extras: Vec<Extra>,
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

    /// Whether trailers of the answer are shown.
    pub fn trailers(&self) -> bool {
        let in_expression = |extra: &Extra| match extra {
            Extra::Expression { text, .. } => {
                ["response.trailers", "response.total_size"].iter().any(|a| text.contains(a))
            }
            _ => false,
        };
        self.headers.iter().any(|header| header.source == HeaderSource::ResponseTrailer)
            || self.extras.iter().any(in_expression)
    }

    /// The slot of a value that has to be looked up; each is listed once.
    pub(super) fn extra(&mut self, wanted: Extra) -> usize {
        let listed = self.extras.iter().position(|other| *other == wanted);
        listed.unwrap_or_else(|| {
            self.extras.push(wanted);
            self.extras.len() - 1
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
    /// The whole query of the path in this slot.
    Query {
        slot: usize,
        decoded: bool,
    },
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
    /// The endpoint's name in this slot, else its address.
    UpstreamHostName {
        slot: usize,
        port: bool,
        /// Only once it was connected.
        connected: bool,
    },
    /// Value in this slot.
    Extra(usize),
    /// Seconds since the epoch in this slot.
    ExtraTime(usize, TimeFormat),
    /// Part of the `x-forwarded-client-cert` in this slot.
    ClientCert(usize, String),
    /// The first of these that has a value.
    Coalesce(Vec<Operator>),
    /// Text with blanks written as `_`.
    Word(Text),
    Number(fn(&Record) -> Option<u64>),
    /// A number that JSON has as text.
    NumberText(fn(&Record) -> Option<u64>),
    /// Time between two moments in this unit; `None` is the beginning.
    Between(Moment, Moment, Unit),
    Address(AddressOf, Part),
    /// Without port, the first bits of it only.
    Network(AddressOf, u8),
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
    /// How the upstream connection was closed.
    CloseType,
    /// Known when the format is compiled.
    Fixed(String),
    /// Nothing ever has it here.
    Unavailable,
}

/// One of a record's addresses.
pub(super) type AddressOf = fn(&Record) -> Option<&Address>;

/// A moment in a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    Start,
    At(TimePoint),
    /// A filter's own; none here has any.
    Named,
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
    /// What only addresses of internal listeners have.
    EndpointId,
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
    let problem = |problem| FormatError { position: call.position, problem };
    if call.length.is_some() && !may_be_cut(call.name) {
        return Err(problem(FormatProblem::NoLength(call.name.to_owned())));
    }
    let mut compiler = Compiler { call, context, wanted };
    let value = compiler.value().map_err(problem)?;
    Ok(Operator { value, length: call.length })
}

/// The operators that take `:N`. Source: measured on Envoy 1.40.
fn may_be_cut(name: &str) -> bool {
    const NAMES: [&str; 19] = [
        "CEL",
        "COALESCE",
        "DYNAMIC_METADATA",
        "ENVIRONMENT",
        "FILTER_STATE",
        "METADATA",
        "PATH",
        "QUERY_PARAM",
        "QUERY_PARAMS",
        "REQ",
        "REQUEST_HEADER",
        "REQ_WITHOUT_QUERY",
        "RESP",
        "RESPONSE_HEADER",
        "RESPONSE_TRAILER",
        "TRAILER",
        "TYPED_CEL",
        "UPSTREAM_FILTER_STATE",
        "XFCC_VALUE",
    ];
    NAMES.contains(&name)
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
            "QUERY_PARAMS" => {
                let decoded = match self.call.parameter {
                    None | Some("" | "ORIG") => false,
                    Some("DECODED") => true,
                    Some(_) => return Err(self.bad_parameter()),
                };
                return Ok(Value::Query { slot: self.slot(H::Request, ":path"), decoded });
            }
            "PATH" => return self.path(),
            "XFCC_VALUE" => return self.client_cert(),
            "COALESCE" => return self.coalesce(),
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
            "FILTER_STATE" => return self.filter_state().map(Value::Extra),
            // Nothing here leaves objects with upstream connections.
            "UPSTREAM_FILTER_STATE" => return self.filter_state().map(|_| Value::Unavailable),
            "CEL" | "TYPED_CEL" => {
                let text = self.parameter()?.to_owned();
                let typed = name == "TYPED_CEL";
                return Ok(Value::Extra(self.wanted.extra(Extra::Expression { text, typed })));
            }
            "RESPONSE_CODE_DETAILS" if self.call.parameter == Some("ALLOW_WHITESPACES") => {
                return Ok(Value::Text(Text::ResponseCodeDetails));
            }
            // Compat: any other parameter means nothing.
            "RESPONSE_CODE_DETAILS" => return Ok(Value::Word(Text::ResponseCodeDetails)),
            "PROTOCOL" => Value::Protocol(|r| r.protocol),
            "UPSTREAM_PROTOCOL" => Value::Protocol(|r| r.upstream_protocol),
            "RESPONSE_CODE" => Value::Number(|r| Some(r.response_code.into())),
            "CONNECTION_TERMINATION_DETAILS" => Value::Text(Text::ConnectionTerminationDetails),
            "RESPONSE_FLAGS" => Value::Flags { long: false },
            "RESPONSE_FLAGS_LONG" => Value::Flags { long: true },
            "BYTES_RECEIVED" => Value::Number(|r| Some(r.bytes_received)),
            "BYTES_SENT" => Value::Number(|r| Some(r.bytes_sent)),
            "REQUEST_HEADERS_BYTES" => self.header_bytes(|r| Some(r.request_headers_bytes)),
            "RESPONSE_HEADERS_BYTES" => self.header_bytes(|r| Some(r.response_headers_bytes)),
            "DOWNSTREAM_HEADER_BYTES_RECEIVED" | "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED" => {
                self.header_bytes(|r| Some(r.downstream_header_bytes_received))
            }
            "DOWNSTREAM_HEADER_BYTES_SENT" | "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT" => {
                self.header_bytes(|r| Some(r.downstream_header_bytes_sent))
            }
            "RESPONSE_TRAILERS_BYTES" => Value::Number(|r| Some(r.response_trailers_bytes)),
            // Compat: known for HTTP/3 only.
            "BYTES_RETRANSMITTED" | "PACKETS_RETRANSMITTED" => Value::Number(|_| Some(0)),
            "UPSTREAM_WIRE_BYTES_SENT" => Value::Number(|r| Some(r.upstream_wire_bytes_sent)),
            "UPSTREAM_WIRE_BYTES_RECEIVED" => Value::Number(|r| Some(r.upstream_wire_bytes_received)),
            "UPSTREAM_HEADER_BYTES_SENT" | "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT" => {
                Value::Number(|r| Some(r.upstream_header_bytes_sent))
            }
            "UPSTREAM_HEADER_BYTES_RECEIVED" | "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED" => {
                Value::Number(|r| Some(r.upstream_header_bytes_received))
            }
            "DOWNSTREAM_WIRE_BYTES_SENT" => Value::Number(|r| Some(r.downstream_wire_bytes_sent)),
            "DOWNSTREAM_WIRE_BYTES_RECEIVED" => Value::Number(|r| Some(r.downstream_wire_bytes_received)),
            "DURATION" => Value::Number(|r| r.duration.map(millis)),
            "REQUEST_DURATION" => Value::Between(Start, At(P::RequestEnd), Unit::Millis),
            "REQUEST_TX_DURATION" => Value::Between(Start, At(P::UpstreamSendEnd), Unit::Millis),
            "RESPONSE_DURATION" => Value::Between(Start, At(P::UpstreamReceiveBegin), Unit::Millis),
            "RESPONSE_TX_DURATION" => {
                Value::Between(At(P::UpstreamReceiveBegin), At(P::ResponseEnd), Unit::Millis)
            }
            "UPSTREAM_CONNECTION_POOL_READY_DURATION" => {
                Value::Between(At(P::UpstreamAttemptBegin), At(P::UpstreamPoolReady), Unit::Millis)
            }
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Value::Number(|r| Some(r.upstream_attempts.into())),
            "CONNECTION_ID" => Value::Number(|r| Some(r.connection_id)),
            "UPSTREAM_CONNECTION_ID" => Value::Number(|r| Some(r.upstream_connection_id.unwrap_or(0))),
            "UPSTREAM_HOST" => Value::Address(|r| r.upstream_remote.as_ref(), Part::Whole),
            "UPSTREAM_HOST_NAME" => self.host_name(true, false),
            "UPSTREAM_HOST_NAME_WITHOUT_PORT" => self.host_name(false, false),
            // Compat: the lists name the last attempt's only, and only once it was connected.
            "UPSTREAM_HOST_NAMES_ATTEMPTED" => self.host_name(true, true),
            "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT" => self.host_name(false, true),
            "UPSTREAM_HOSTS_ATTEMPTED" => Value::Address(connected_upstream, Part::Whole),
            "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT" => Value::Address(connected_upstream, Part::WithoutPort),
            "UPSTREAM_CONNECTION_IDS_ATTEMPTED" => Value::NumberText(|r| r.upstream_connection_id),
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
            "LISTENER_NAME" => Value::Extra(self.wanted.extra(Extra::ListenerName)),
            // Compat: what is known of a close is how it came about; it is known to be ordinary until it is not.
            "DOWNSTREAM_DETECTED_CLOSE_TYPE" => Value::Fixed("Normal".to_owned()),
            "UPSTREAM_DETECTED_CLOSE_TYPE" => Value::CloseType,
            // Addresses of internal listeners have such ids, and there are none.
            "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID" | "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID" => {
                Value::Fixed(String::new())
            }
            "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID" => Value::Address(connected_upstream, Part::EndpointId),
            // Known for HTTP/3, and of connections that this proxy closed for a reason it tells.
            "ROUNDTRIP_DURATION" | "UPSTREAM_LOCAL_CLOSE_REASON" | "DOWNSTREAM_LOCAL_CLOSE_REASON" => {
                Value::Unavailable
            }
            "START_TIME_LOCAL"
            | "EMIT_TIME_LOCAL"
            | "DOWNSTREAM_CX_RTT"
            | "ROUTE_RESOLUTION_COUNT"
            | "ROUTE_RESOLUTION_TIME_US" => return Err(FormatProblem::Unsupported(name.to_owned())),
            "HOSTNAME" => Value::Fixed(self.context.hostname.to_owned()),
            _ => match (address(name), TlsValue::named(name)) {
                (Some((address, Part::WithoutPort)), _)
                    if self.call.parameter.is_some_and(|p| !p.is_empty()) =>
                {
                    let bits = self.parameter()?.parse().ok().filter(|bits| *bits <= 128);
                    return bits
                        .map(|bits| Value::Network(address, bits))
                        .ok_or_else(|| self.bad_parameter());
                }
                (Some((address, part)), _) => Value::Address(address, part),
                (None, Some(value)) => {
                    let slot = self.wanted.extra(Extra::Tls(value));
                    if value.is_time() {
                        return self.time().map(|format| Value::ExtraTime(slot, format));
                    }
                    Value::Extra(slot)
                }
                (None, None) => return Err(FormatProblem::Unknown(name.to_owned())),
            },
        };
        match self.call.parameter {
            None | Some("") => Ok(value),
            Some(parameter) => Err(FormatProblem::BadParameter(name.to_owned(), parameter.to_owned())),
        }
    }

    fn parameter(&self) -> Result<&str, FormatProblem> {
        match self.call.parameter {
            Some(parameter) if !parameter.is_empty() => Ok(parameter),
            _ => Err(FormatProblem::MissingParameter(self.call.name.to_owned())),
        }
    }

    fn header_bytes(&mut self, number: fn(&Record) -> Option<u64>) -> Value {
        self.wanted.header_bytes = true;
        Value::Number(number)
    }

    fn host_name(&mut self, port: bool, connected: bool) -> Value {
        Value::UpstreamHostName { slot: self.wanted.extra(Extra::HostName), port, connected }
    }

    /// `key`, `key:TYPED`, `key:PLAIN` or `key:FIELD:name`
    fn filter_state(&mut self) -> Result<usize, FormatProblem> {
        let parameter = self.parameter()?;
        let mut parts = parameter.splitn(3, ':');
        let (key, form, field) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let form = match (form, field) {
            (None | Some("TYPED"), None) => FilterStateForm::Typed,
            (Some("PLAIN"), None) => FilterStateForm::Plain,
            (Some("FIELD"), Some(field)) if !field.is_empty() => FilterStateForm::Field(field.to_owned()),
            _ => return Err(self.bad_parameter()),
        };
        if key.is_empty() {
            return Err(self.bad_parameter());
        }
        let key = key.to_owned();
        Ok(self.wanted.extra(Extra::FilterState { key, form }))
    }

    /// One of the keys of `x-forwarded-client-cert`.
    fn client_cert(&mut self) -> Result<Value, FormatProblem> {
        let key = self.parameter()?.to_ascii_lowercase();
        if !["by", "hash", "cert", "chain", "subject", "uri", "dns"].contains(&key.as_str()) {
            return Err(self.bad_parameter());
        }
        Ok(Value::ClientCert(self.slot(HeaderSource::Request, "x-forwarded-client-cert"), key))
    }

    /// `{"operators": ["NAME", {"command": "NAME", "param": "…", "max_length": 1}]}`
    fn coalesce(&mut self) -> Result<Value, FormatProblem> {
        let json: serde_json::Value =
            serde_json::from_str(self.parameter()?).map_err(|_| self.bad_parameter())?;
        let list = json.get("operators").and_then(|list| list.as_array()).filter(|list| !list.is_empty());
        let mut operators = Vec::new();
        for item in list.ok_or_else(|| self.bad_parameter())? {
            let name = item.as_str().or_else(|| item.get("command")?.as_str());
            let name = name.filter(|name| *name != "COALESCE").ok_or_else(|| self.bad_parameter())?;
            let parameter = item.get("param").and_then(|param| param.as_str());
            let length = item.get("max_length").and_then(|length| length.as_u64());
            let length = length.and_then(|length| usize::try_from(length).ok());
            let call = Call { position: self.call.position, name, parameter, length };
            operators.push(compile(call, self.context, self.wanted).map_err(|error| error.problem)?);
        }
        Ok(Value::Coalesce(operators))
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
            "LISTENER_FILTER_CHAIN" => MetadataOwner::FilterChain,
            "VIRTUAL_HOST" => MetadataOwner::VirtualHost,
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
        let (from, to, unit) = match parts.as_slice() {
            [from, to] => (from, to, "ms"),
            [from, to, unit] => (from, to, *unit),
            _ => return Err(self.bad_parameter()),
        };
        let unit = match unit {
            "ms" => Unit::Millis,
            "us" => Unit::Micros,
            "ns" => Unit::Nanos,
            _ => return Err(self.bad_parameter()),
        };
        Ok(Value::Between(moment(from), moment(to), unit))
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
        let (order, host) = match self.call.parameter.unwrap_or_default().split_once(':') {
            Some((order, host)) => (order, host),
            None => (self.call.parameter.unwrap_or_default(), ""),
        };
        let authority_first = match order {
            "" | "SNI_ONLY" => return Ok(Value::Text(Text::RequestedServerName)),
            "SNI_FIRST" => false,
            "HOST_FIRST" => true,
            _ => return Err(self.bad_parameter()),
        };
        let host = match host {
            "ORIG" => "x-envoy-original-host",
            "" | "HOST" => ":authority",
            _ => return Err(self.bad_parameter()),
        };
        let authority = self.slot(HeaderSource::Request, host);
        Ok(Value::ServerName { authority, authority_first })
    }
}

fn is_field_name(name: &str) -> bool {
    let token = name.strip_prefix(':').unwrap_or(name);
    !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&b))
}

fn moment(name: &str) -> Moment {
    match name {
        "DS_RX_BEG" => Moment::Start,
        "DS_RX_END" => Moment::At(TimePoint::RequestEnd),
        "US_CX_BEG" => Moment::At(TimePoint::UpstreamConnectBegin),
        "US_CX_END" => Moment::At(TimePoint::UpstreamConnectEnd),
        "US_HS_END" => Moment::At(TimePoint::UpstreamHandshakeEnd),
        "US_TX_BEG" => Moment::At(TimePoint::UpstreamSendBegin),
        "US_TX_END" => Moment::At(TimePoint::UpstreamSendEnd),
        "US_RX_BEG" => Moment::At(TimePoint::UpstreamReceiveBegin),
        "US_RX_BODY_BEG" => Moment::At(TimePoint::UpstreamBodyBegin),
        "US_RX_END" => Moment::At(TimePoint::UpstreamReceiveEnd),
        "DS_TX_BEG" => Moment::At(TimePoint::ResponseBegin),
        "DS_TX_END" => Moment::At(TimePoint::ResponseEnd),
        _ => Moment::Named,
    }
}

/// The endpoint, once it was connected.
fn connected_upstream(record: &Record) -> Option<&Address> {
    record.upstream_remote.as_ref().filter(|_| record.upstream_local.is_some())
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
        "UPSTREAM_REMOTE" => connected_upstream,
        "UPSTREAM_LOCAL" => |r| r.upstream_local.as_ref(),
        _ => return None,
    };
    Some((address, part))
}
