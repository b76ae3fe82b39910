//! `traceparent`. Source: W3C Trace Context, version 00; `tracestate` passes as it came.

use super::context::{Format, Incoming, Malformed, SpanContext, TraceId, hex, write_hex64};

/// `00-` 32 digits `-` 16 digits `-` 2 digits.
const LEN: usize = 55;

pub(super) fn extract<'h>(header: &impl Fn(&str) -> Option<&'h [u8]>) -> Result<Incoming, Malformed> {
    let Some(value) = header("traceparent") else { return Ok(Incoming::default()) };
    let context = parse(value).ok_or(Malformed)?;
    Ok(Incoming { context: Some(context), sampled: Some(context.sampled), format: Some(Format::W3c) })
}

fn parse(value: &[u8]) -> Option<SpanContext> {
    if value.len() != LEN {
        return None;
    }
    let mut parts = value.split(|byte| *byte == b'-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || trace.len() != 32 {
        return None;
    }
    hex(version, 2)?;
    let (high, low) = trace.split_at_checked(16)?;
    let (high, low) = (hex(high, 16)?, hex(low, 16)?);
    let span = hex(span, 16).filter(|span| *span != 0)?;
    if high == 0 && low == 0 {
        return None;
    }
    let sampled = hex(flags, 2)? & 1 == 1;
    Some(SpanContext { trace: TraceId { high: Some(high), low }, span, parent: None, sampled })
}

pub(super) fn inject(context: &SpanContext, set: &mut impl FnMut(&'static str, &[u8])) {
    let mut text = String::with_capacity(LEN);
    text.push_str("00-");
    write_hex64(context.trace.high.unwrap_or(0), &mut text);
    write_hex64(context.trace.low, &mut text);
    text.push('-');
    write_hex64(context.span, &mut text);
    text.push_str(if context.sampled { "-01" } else { "-00" });
    set("traceparent", text.as_bytes());
}
