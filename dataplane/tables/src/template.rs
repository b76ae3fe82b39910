//! Header values with `%…%` operators, compiled once and rendered per request.
//!
//! Source: Envoy's "custom request/response headers"; the operators are a subset of the access-log ones. An operator
//! without a value renders as nothing, and a header whose whole value is empty is not added unless
//! [`crate::header_ops::HeaderAdd::keep_empty`] says so.

use crate::metadata::{Metadata, Value};
use crate::request::{query_parameter, split_path};
use crate::strings::{Interner, Str};

/// A compiled value.
#[derive(Clone, PartialEq, Debug)]
pub struct Template {
    parts: Box<[Part]>,
}

#[derive(Clone, PartialEq, Debug)]
enum Part {
    Literal(Str),
    Operator { operator: Operator, bytes_max: Option<usize> },
}

/// What stands between two `%`.
#[derive(Clone, PartialEq, Debug)]
pub enum Operator {
    /// `REQ(name?alternative)`.
    RequestHeader(Str, Option<Str>),
    /// `RESP(name?alternative)`.
    ResponseHeader(Str, Option<Str>),
    /// `QUERY_PARAM(name)`.
    QueryParameter(Str),
    /// `PATH(WQ|NQ)`: the path with or without its query.
    Path {
        /// Whether the query is part of it.
        query: bool,
    },
    /// `START_TIME(format)`; an empty format is ISO 8601 with milliseconds.
    StartTime(Str),
    /// `UPSTREAM_METADATA(namespace:key…)`: of the chosen endpoint.
    UpstreamMetadata(Str, Box<[Str]>),
    /// `CLUSTER_METADATA(namespace:key…)`: of the chosen cluster.
    ClusterMetadata(Str, Box<[Str]>),
    /// A plain attribute of the request.
    Property(Property),
}

macro_rules! properties {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Attributes of the request that take no argument.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Property { $($(#[$doc])* $variant,)* }

        impl Property {
            /// Every property.
            pub const ALL: &[Property] = &[$(Property::$variant,)*];

            /// The operator's name in a format.
            pub fn name(self) -> &'static str {
                match self { $(Property::$variant => $name,)* }
            }
        }
    };
}

properties! {
    /// `HTTP/1.1` and so on.
    Protocol = "PROTOCOL",
    /// The upstream connection's protocol.
    UpstreamProtocol = "UPSTREAM_PROTOCOL",
    /// Name of this machine.
    Hostname = "HOSTNAME",
    /// Client address after `x-forwarded-for` evaluation, with port.
    DownstreamRemoteAddress = "DOWNSTREAM_REMOTE_ADDRESS",
    /// The same without its port.
    DownstreamRemoteAddressWithoutPort = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    /// The same's port.
    DownstreamRemotePort = "DOWNSTREAM_REMOTE_PORT",
    /// Address of the connection's peer.
    DownstreamDirectRemoteAddress = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    /// The same without its port.
    DownstreamDirectRemoteAddressWithoutPort = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    /// The same's port.
    DownstreamDirectRemotePort = "DOWNSTREAM_DIRECT_REMOTE_PORT",
    /// Our address; the original destination where it was restored.
    DownstreamLocalAddress = "DOWNSTREAM_LOCAL_ADDRESS",
    /// The same without its port.
    DownstreamLocalAddressWithoutPort = "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    /// The same's port.
    DownstreamLocalPort = "DOWNSTREAM_LOCAL_PORT",
    /// First URI name of the client's certificate.
    DownstreamPeerUriSan = "DOWNSTREAM_PEER_URI_SAN",
    /// Subject of the client's certificate.
    DownstreamPeerSubject = "DOWNSTREAM_PEER_SUBJECT",
    /// TLS version of the downstream connection.
    DownstreamTlsVersion = "DOWNSTREAM_TLS_VERSION",
    /// Server name asked for in the TLS handshake.
    RequestedServerName = "REQUESTED_SERVER_NAME",
    /// Number of the downstream connection.
    ConnectionId = "CONNECTION_ID",
    /// `x-request-id`.
    StreamId = "STREAM_ID",
    /// A number unique in this process.
    UniqueId = "UNIQUE_ID",
    /// Trace id.
    TraceId = "TRACE_ID",
    /// Name of the chosen route.
    RouteName = "ROUTE_NAME",
    /// Name of the chosen filter chain.
    FilterChainName = "FILTER_CHAIN_NAME",
    /// Address of the chosen endpoint.
    UpstreamHost = "UPSTREAM_HOST",
    /// Cluster, by its alternative statistics name if it has one.
    UpstreamCluster = "UPSTREAM_CLUSTER",
    /// Cluster, by its name.
    UpstreamClusterRaw = "UPSTREAM_CLUSTER_RAW",
    /// The upstream connection's peer, with port.
    UpstreamRemoteAddress = "UPSTREAM_REMOTE_ADDRESS",
    /// The same without its port.
    UpstreamRemoteAddressWithoutPort = "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    /// The same's port.
    UpstreamRemotePort = "UPSTREAM_REMOTE_PORT",
    /// Our end of the upstream connection, with port.
    UpstreamLocalAddress = "UPSTREAM_LOCAL_ADDRESS",
    /// The same without its port.
    UpstreamLocalAddressWithoutPort = "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    /// The same's port.
    UpstreamLocalPort = "UPSTREAM_LOCAL_PORT",
    /// How often the request was tried.
    UpstreamRequestAttemptCount = "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    /// Why the upstream connection failed.
    UpstreamTransportFailureReason = "UPSTREAM_TRANSPORT_FAILURE_REASON",
    /// Response code, 0 before there is one.
    ResponseCode = "RESPONSE_CODE",
    /// Response-code details.
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS",
    /// Response flags, short.
    ResponseFlags = "RESPONSE_FLAGS",
    /// Response flags, long.
    ResponseFlagsLong = "RESPONSE_FLAGS_LONG",
    /// Body bytes from the client.
    BytesReceived = "BYTES_RECEIVED",
    /// Body bytes to the client.
    BytesSent = "BYTES_SENT",
    /// Milliseconds since the request began.
    Duration = "DURATION",
    /// Milliseconds until the request was read completely.
    RequestDuration = "REQUEST_DURATION",
    /// Milliseconds until the response's first byte.
    ResponseDuration = "RESPONSE_DURATION",
}

/// Where a template finds its values; implemented by the engine.
pub trait Values {
    /// First value of a request header, pseudo headers included.
    fn request_header(&self, name: &str) -> Option<&[u8]>;
    /// First value of a response header; `None` before there is a response.
    fn response_header(&self, name: &str) -> Option<&[u8]>;
    /// Appends a property's value; appends nothing when it has none.
    fn property(&self, property: Property, out: &mut Vec<u8>);
    /// Appends the request's start time in an Envoy (strftime) format; empty means the default.
    fn start_time(&self, format: &str, out: &mut Vec<u8>);
    /// Metadata of the chosen endpoint.
    fn upstream_metadata(&self) -> Option<&Metadata>;
    /// Metadata of the chosen cluster.
    fn cluster_metadata(&self) -> Option<&Metadata>;
}

impl Template {
    /// Whether the value is the same for every request.
    pub fn is_literal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// Appends the value for one request.
    pub fn render(&self, values: &dyn Values, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Operator { operator, bytes_max } => {
                    let start = out.len();
                    operator.render(values, out);
                    if let Some(max) = bytes_max {
                        out.truncate(start + max);
                    }
                }
            }
        }
    }

    /// Compiles `text`; `%%` is a percent sign. The error is a sentence for a diagnostic.
    pub(crate) fn compile(text: &str, strings: &mut Interner) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let (command, after) = command_end(rest)
                .map(|end| (&rest[..end], &rest[end + 1..]))
                .ok_or_else(|| format!("`%` without its pair in {text:?} (write `%%` for a percent sign)"))?;
            if !literal.is_empty() {
                parts.push(Part::Literal(strings.intern(&literal)));
                literal.clear();
            }
            parts.push(operator(command, strings)?);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(strings.intern(&literal)));
        }
        Ok(Template { parts: parts.into() })
    }
}

impl Operator {
    fn render(&self, values: &dyn Values, out: &mut Vec<u8>) {
        match self {
            Operator::RequestHeader(name, alternative) => {
                let value = values.request_header(name);
                let value = value.or_else(|| values.request_header(alternative.as_deref()?));
                out.extend_from_slice(value.unwrap_or_default());
            }
            Operator::ResponseHeader(name, alternative) => {
                let value = values.response_header(name);
                let value = value.or_else(|| values.response_header(alternative.as_deref()?));
                out.extend_from_slice(value.unwrap_or_default());
            }
            Operator::QueryParameter(name) => {
                let path = path_of(values);
                out.extend_from_slice(
                    query_parameter(split_path(path).query, name).unwrap_or_default().as_bytes(),
                );
            }
            Operator::Path { query: true } => out.extend_from_slice(path_of(values).as_bytes()),
            Operator::Path { query: false } => {
                out.extend_from_slice(split_path(path_of(values)).path.as_bytes());
            }
            Operator::StartTime(format) => values.start_time(format, out),
            Operator::UpstreamMetadata(namespace, path) => {
                write_metadata(values.upstream_metadata(), namespace, path, out);
            }
            Operator::ClusterMetadata(namespace, path) => {
                write_metadata(values.cluster_metadata(), namespace, path, out);
            }
            Operator::Property(property) => values.property(*property, out),
        }
    }
}

fn path_of(values: &dyn Values) -> &str {
    let path = values.request_header(":path").unwrap_or_default();
    std::str::from_utf8(path).unwrap_or_default()
}

fn write_metadata(metadata: Option<&Metadata>, namespace: &str, path: &[Str], out: &mut Vec<u8>) {
    let text = match metadata.and_then(|metadata| metadata.at(namespace, path)) {
        Some(Value::String(text)) => text.as_str().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Null | Value::List(_) | Value::Struct(_)) | None => return,
    };
    out.extend_from_slice(text.as_bytes());
}

/// Index of the `%` that ends a command: the first one outside parentheses.
fn command_end(text: &str) -> Option<usize> {
    let mut depth = 0_u32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'%' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

fn operator(command: &str, strings: &mut Interner) -> Result<Part, String> {
    let (head, bytes_max) = match command.rsplit_once(':') {
        Some((head, max)) if !head.contains('(') || head.ends_with(')') => {
            let max = max.parse().map_err(|_| format!("length {max:?} in %{command}% is no number"))?;
            (head, Some(max))
        }
        _ => (command, None),
    };
    let (name, argument) = match head.split_once('(') {
        Some((name, argument)) => {
            let argument = argument.strip_suffix(')');
            (name, Some(argument.ok_or_else(|| format!("%{command}% lacks a closing parenthesis"))?))
        }
        None => (head, None),
    };
    let operator = match (name, argument) {
        ("REQ" | "REQUEST_HEADER", Some(names)) => {
            let (name, alternative) = header_names(names, command, strings)?;
            Operator::RequestHeader(name, alternative)
        }
        ("RESP" | "RESPONSE_HEADER", Some(names)) => {
            let (name, alternative) = header_names(names, command, strings)?;
            Operator::ResponseHeader(name, alternative)
        }
        ("QUERY_PARAM", Some(name)) if !name.is_empty() => Operator::QueryParameter(strings.intern(name)),
        ("PATH", None | Some("WQ" | "")) => Operator::Path { query: true },
        ("PATH", Some("NQ")) => Operator::Path { query: false },
        ("START_TIME", format) => Operator::StartTime(strings.intern(format.unwrap_or_default())),
        ("UPSTREAM_METADATA", Some(path)) => {
            let (namespace, path) = metadata_path(path, command, strings)?;
            Operator::UpstreamMetadata(namespace, path)
        }
        ("CLUSTER_METADATA", Some(path)) => {
            let (namespace, path) = metadata_path(path, command, strings)?;
            Operator::ClusterMetadata(namespace, path)
        }
        (name, argument) => {
            let property = Property::ALL.iter().find(|property| property.name() == name);
            match (property, argument) {
                (Some(property), None) => Operator::Property(*property),
                (Some(_), Some(_)) => return Err(format!("%{name}% takes no argument")),
                (None, _) => return Err(format!("operator %{command}% is not supported")),
            }
        }
    };
    Ok(Part::Operator { operator, bytes_max })
}

fn header_names(names: &str, command: &str, strings: &mut Interner) -> Result<(Str, Option<Str>), String> {
    let (name, alternative) = match names.split_once('?') {
        Some((name, alternative)) => (name, Some(alternative)),
        None => (names, None),
    };
    if name.is_empty() && alternative.is_none() {
        return Err(format!("%{command}% names no header"));
    }
    if names.contains(['\r', '\n', '\0']) || alternative.is_some_and(|a| a.contains('?')) {
        return Err(format!("%{command}% names no valid header"));
    }
    let mut lower = |name: &str| strings.intern(&name.to_ascii_lowercase());
    Ok((lower(name), alternative.map(lower)))
}

/// `namespace:key:key`, or the older JSON form `["namespace", "key"]`.
fn metadata_path(path: &str, command: &str, strings: &mut Interner) -> Result<(Str, Box<[Str]>), String> {
    let path = path.trim();
    let parts: Vec<&str> = match path.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        Some(list) => list
            .split(',')
            .map(|item| item.trim().strip_prefix('"').and_then(|item| item.strip_suffix('"')))
            .collect::<Option<_>>()
            .ok_or_else(|| format!("%{command}% is no list of strings"))?,
        None => path.split(':').collect(),
    };
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!("%{command}% has an empty key"));
    }
    let mut parts = parts.into_iter().map(|part| strings.intern(part));
    let namespace = parts.next().ok_or_else(|| format!("%{command}% names no name space"))?;
    Ok((namespace, parts.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample;

    impl Values for Sample {
        fn request_header(&self, name: &str) -> Option<&[u8]> {
            match name {
                ":path" => Some(b"/a?x=1"),
                "x-user" => Some(b"jason"),
                _ => None,
            }
        }
        fn response_header(&self, _: &str) -> Option<&[u8]> {
            None
        }
        fn property(&self, property: Property, out: &mut Vec<u8>) {
            out.extend_from_slice(property.name().to_ascii_lowercase().as_bytes());
        }
        fn start_time(&self, format: &str, out: &mut Vec<u8>) {
            out.extend_from_slice(format.as_bytes());
        }
        fn upstream_metadata(&self) -> Option<&Metadata> {
            None
        }
        fn cluster_metadata(&self) -> Option<&Metadata> {
            None
        }
    }

    fn render(text: &str) -> Result<String, String> {
        let template = Template::compile(text, &mut Interner::default())?;
        let mut out = Vec::new();
        template.render(&Sample, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn operators_stand_between_literals() {
        assert_eq!(render("u=%REQ(X-User)%;p=%PROTOCOL%").unwrap(), "u=jason;p=protocol");
        assert_eq!(render("100%%").unwrap(), "100%");
        assert_eq!(render("plain").unwrap(), "plain");
    }

    #[test]
    fn a_missing_value_renders_as_nothing() {
        assert_eq!(render("[%REQ(x-none)%]").unwrap(), "[]");
        assert_eq!(render("%UPSTREAM_METADATA([\"a\", \"b\"])%").unwrap(), "");
    }

    #[test]
    fn alternatives_and_lengths_apply() {
        assert_eq!(render("%REQ(x-none?x-user):3%").unwrap(), "jas");
        assert_eq!(render("%PATH(NQ)% %QUERY_PARAM(x)%").unwrap(), "/a 1");
        assert_eq!(render("%START_TIME(%Y/%m:%S)%").unwrap(), "%Y/%m:%S");
    }

    #[test]
    fn what_we_cannot_render_is_refused() {
        for text in
            ["%", "a%b", "%NOSUCH%", "%REQ()%", "%REQ(a%", "%PROTOCOL(x)%", "%REQ(a):x%", "%SECRET(a)%"]
        {
            assert!(render(text).is_err(), "{text}");
        }
    }
}
