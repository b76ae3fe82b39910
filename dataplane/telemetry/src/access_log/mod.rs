//! Access logs: what Envoy's format strings mean, and who writes the lines.
//!
//! ```text
//!  configuration ── LogFormat::text / json ──▶ operators, list of wanted header fields
//!  exchange      ── Record (plain values)  ──▶ LogQueue ──▶ writer thread ──▶ stdout, files
//!                ── Span                   ──▶    │               └────────▶ Exports: collectors
//! ```
//!
//! A format is compiled once, when its listener is. The request path copies values into a
//! [`Record`] and hands it over; formatting happens on the writer thread.

mod declared;
mod digits;
mod error;
mod evaluate;
mod extra;
mod format;
mod grpc;
mod operator;
mod otlp;
mod record;
mod tag;
mod template;
#[cfg(test)]
mod tests;
mod time;
mod writer;

pub use crate::render::push_json_string as write_json_string;
pub use declared::Declaration;
pub use error::{FormatError, FormatProblem};
pub use extra::{Extra, ExtraKind, FilterStateForm, TlsValue};
pub use format::{Context, ENVOY_TEXT, ISTIO_TEXT, JsonTemplate, LogFormat, check};
pub use grpc::{GrpcLog, GrpcLogSettings};
pub use operator::{HeaderSource, MetadataOwner, Wanted, WantedHeader, WantedMetadata};
pub use otlp::{OtlpLog, OtlpLogSettings};
pub use record::{Address, Protocol, Record, RecordKind, Text, TimePoint};
pub use tag::{Tag, TagSource, TagValue};
pub use time::write_time;
pub use writer::{
    Buffering, DeclaredLog, DeclaredTracer, LogQueue, LogSink, LogSpec, LogWriter, SpanSpec, TracerKind,
};
