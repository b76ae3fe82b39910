//! Tracing: who decides that a request becomes a span, what headers say of it, and how collectors get it.
//!
//! ```text
//!  request headers ── context ──▶ Incoming ─┐
//!  request id      ── sampling ─▶ Reason   ─┴▶ Span ── writer thread: zipkin, otlp ──▶ Batch
//! ```
//!
//! Everything here is a function of its arguments; ids and times come from the engine.

mod b3;
mod context;
mod otlp;
mod sampling;
mod span;
mod w3c;
mod zipkin;

pub use context::{Format, Incoming, Malformed, SpanContext, TraceId};
pub use otlp::{OtlpTracer, environment_attributes};
pub use sampling::{Reason, Shares, decide, reason_of, request_number, set_reason};
pub use span::{Kind, Span};
pub use zipkin::ZipkinTracer;

pub(crate) use context::write_hex64;
pub(crate) use otlp::span as otlp_span;
