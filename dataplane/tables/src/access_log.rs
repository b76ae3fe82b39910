//! Access-log settings. The format is kept as written: telemetry compiles and renders it.

use std::sync::Arc;

use crate::metadata::Value;
use crate::strings::Str;

/// One access log of a listener, HTTP connection manager or TCP proxy.
#[derive(Clone, PartialEq, Debug)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: Sink,
    /// How a line looks.
    pub format: Format,
    /// Which records are written.
    pub filter: Option<Filter>,
}

/// Where access-log lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sink {
    /// A file, appended to. Source: `envoy.extensions.access_loggers.file.v3.FileAccessLog`.
    File(Str),
    /// Standard output. Source: `envoy.extensions.access_loggers.stream.v3.StdoutAccessLog`.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The format of a line, uncompiled.
#[derive(Clone, PartialEq, Debug)]
pub enum Format {
    /// Envoy's default text format.
    Default,
    /// A text format; the line end is part of it.
    Text(Str),
    /// One JSON object per line; a [`Value::Struct`] whose leaves are formats.
    Json(Arc<Value>),
}

/// Which records are logged. Source: `envoy.config.accesslog.v3.AccessLogFilter`.
#[derive(Clone, PartialEq, Debug)]
pub enum Filter {
    /// `status_code_filter`: compares the response code.
    StatusCode(Comparison),
    /// `duration_filter`: compares the total duration in milliseconds.
    DurationMillis(Comparison),
    /// `not_health_check_filter`.
    NotHealthCheck,
    /// `response_flag_filter`: any of these flags is set; empty means any flag at all.
    ResponseFlags(Box<[Str]>),
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
