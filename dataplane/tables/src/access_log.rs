//! Access-log settings. Formats are kept as written: telemetry compiles and renders them.

use std::sync::Arc;
use std::time::Duration;

use crate::cel::Expression;
use crate::collector::Collector;
use crate::fraction::Fraction;
use crate::metadata::Value;
use crate::route::{HeaderMatch, MetadataMatch};
use crate::strings::Str;
use crate::tracing::{CustomTag, Resource};

/// One access log of a listener, HTTP connection manager or TCP proxy.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Where records go, and how they look there.
    pub sink: Sink,
    /// Which records are written.
    pub filter: Option<Arc<Filter>>,
}

/// Where records go, and how they look there.
#[derive(Clone, PartialEq, Debug)]
pub enum Sink {
    /// A file, appended to. Source: `envoy.extensions.access_loggers.file.v3.FileAccessLog`.
    File(Str, Format),
    /// Standard output. Source: `envoy.extensions.access_loggers.stream.v3.StdoutAccessLog`.
    Stdout(Format),
    /// Standard error.
    Stderr(Format),
    /// An access-log service.
    Grpc(Arc<GrpcLog>),
    /// An OpenTelemetry collector.
    OpenTelemetry(Arc<OpenTelemetryLog>),
}

/// The format of a line, uncompiled.
#[derive(Clone, PartialEq, Debug)]
pub struct Format {
    /// What it shows.
    pub shape: Shape,
    /// Whether missing values leave nothing behind (`omit_empty_values`).
    pub omit_empty: bool,
    /// Whether `%REQ_WITHOUT_QUERY(…)%` is known (`envoy.formatter.req_without_query`).
    pub req_without_query: bool,
}

/// What a line shows.
#[derive(Clone, PartialEq, Debug)]
pub enum Shape {
    /// Envoy's default text format.
    Default,
    /// A text format; the line end is part of it.
    Text(Str),
    /// One JSON object per line; a [`Value::Struct`] whose leaves are formats.
    Json(Arc<Value>),
}

/// How many records are collected before they are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffering {
    /// Most bytes; 0 sends each record at once. Default 16 KiB.
    pub bytes: u32,
    /// Longest wait. Default 1 s.
    pub interval: Duration,
}

/// Source: `envoy.extensions.access_loggers.grpc.v3`.
#[derive(Clone, PartialEq, Debug)]
pub struct GrpcLog {
    /// The service.
    pub collector: Collector,
    /// Name of the log, told to the service.
    pub log_name: Str,
    /// Whether entries are those of TCP connections (`TcpGrpcAccessLogConfig`).
    pub tcp: bool,
    /// Buffering.
    pub buffering: Buffering,
    /// Tags of each entry.
    pub tags: Box<[CustomTag]>,
    /// Request headers in each entry, in lower case.
    pub request_headers: Box<[Str]>,
    /// The same of the answer.
    pub response_headers: Box<[Str]>,
    /// The same of its trailers.
    pub response_trailers: Box<[Str]>,
}

/// Source: `envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig`.
#[derive(Clone, PartialEq, Debug)]
pub struct OpenTelemetryLog {
    /// The collector.
    pub collector: Collector,
    /// Name of the log; an attribute of the resource unless [`Self::builtin_labels`] is off.
    pub log_name: Str,
    /// Whether the resource tells log name, zone, cluster and node.
    pub builtin_labels: bool,
    /// Buffering.
    pub buffering: Buffering,
    /// The resource.
    pub resource: Resource,
    /// Body of each record; strings in it are formats.
    pub body: Option<Value>,
    /// Attributes of each record; strings in them are formats.
    pub attributes: Box<[(Str, Value)]>,
    /// Tags of each record, as attributes.
    pub tags: Box<[CustomTag]>,
    /// Whether `%REQ_WITHOUT_QUERY(…)%` is known.
    pub req_without_query: bool,
}

/// When lines are written besides the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogMoments {
    /// When a request's head is there, or a connection's upstream is about to be sought.
    pub at_start: bool,
    /// When a connection's upstream is connected.
    pub on_connected: bool,
    /// Again and again in between.
    pub interval: Option<Duration>,
}

/// Which records are logged. Source: `envoy.config.accesslog.v3.AccessLogFilter`.
#[derive(Clone, Debug)]
pub enum Filter {
    /// `status_code_filter`: compares the response code.
    StatusCode(Comparison),
    /// `duration_filter`: compares the total duration in milliseconds.
    DurationMillis(Comparison),
    /// `not_health_check_filter`.
    NotHealthCheck,
    /// `traceable_filter`: the request was sampled.
    Traceable,
    /// `runtime_filter`.
    Share {
        /// Which share of the records.
        fraction: Fraction,
        /// Whether chance decides, and not the request id.
        independent: bool,
    },
    /// `header_filter`: on the request.
    Header(HeaderMatch),
    /// `response_flag_filter`: any of these flags is set; empty means any flag at all.
    ResponseFlags(Box<[Str]>),
    /// `grpc_status_filter`.
    GrpcStatus {
        /// The statuses.
        statuses: Box<[u32]>,
        /// Whether these are the ones left out.
        exclude: bool,
    },
    /// `metadata_filter`, on dynamic metadata.
    Metadata {
        /// The condition; `None` asks for nothing.
        matcher: Option<MetadataMatch>,
        /// What counts when there is no such value.
        if_missing: bool,
    },
    /// `log_type_filter`.
    LogType {
        /// The types, by their number.
        types: Box<[i32]>,
        /// Whether these are the ones left out.
        exclude: bool,
    },
    /// `envoy.access_loggers.extension_filters.cel`: the expression is true. One that fails is not.
    Cel(Expression),
    /// `and_filter`.
    And(Box<[Filter]>),
    /// `or_filter`.
    Or(Box<[Filter]>),
}

/// Source: `envoy.config.accesslog.v3.ComparisonFilter` without runtime overrides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Comparison {
    /// The operator.
    pub op: ComparisonOp,
    /// The right-hand side.
    pub value: u32,
}

/// Comparison operators of access-log filters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ComparisonOp {
    /// Equal.
    Eq,
    /// Greater or equal.
    Ge,
    /// Less or equal.
    Le,
    /// Not equal.
    Ne,
}

impl Comparison {
    /// Whether `left` compares as wanted.
    pub fn holds(&self, left: u64) -> bool {
        let right = u64::from(self.value);
        match self.op {
            ComparisonOp::Eq => left == right,
            ComparisonOp::Ge => left >= right,
            ComparisonOp::Le => left <= right,
            ComparisonOp::Ne => left != right,
        }
    }
}
