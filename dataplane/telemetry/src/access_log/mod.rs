//! Access logs: what Envoy's format strings mean, and who writes the lines.
//!
//! ```text
//!  configuration ── LogFormat::text / json ──▶ operators, list of wanted header fields
//!  exchange      ── Record (plain values)  ──▶ LogQueue ──▶ writer thread ──▶ stdout, files
//! ```
//!
//! A format is compiled once, when its listener is. The request path copies values into a
//! [`Record`] and hands it over; formatting happens on the writer thread.

mod error;
mod evaluate;
mod format;
mod operator;
mod record;
mod template;
#[cfg(test)]
mod tests;
mod time;
mod writer;

pub use error::{FormatError, FormatProblem};
pub use format::{Context, ENVOY_TEXT, ISTIO_TEXT, JsonTemplate, LogFormat};
pub use operator::{HeaderSource, WantedHeader};
pub use record::{Address, Protocol, Record, RecordKind, Text, TimePoint};
pub use time::write_time;
pub use writer::{LogId, LogQueue, LogSink, LogSpec, LogWriter};
