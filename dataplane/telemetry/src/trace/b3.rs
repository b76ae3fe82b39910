//! B3 headers. Source: openzipkin/b3-propagation; order and leniency as Envoy's `SpanContextExtractor`.

use super::context::{Format, Incoming, Malformed, SpanContext, TraceId, hex, write_hex64};

pub(super) fn extract<'h>(header: &impl Fn(&str) -> Option<&'h [u8]>) -> Result<Incoming, Malformed> {
    if let Some(value) = header("b3") {
        return single(value);
    }
    let sampled = match (header("x-b3-flags"), header("x-b3-sampled")) {
        (Some(b"1"), _) => Some(true),
        (_, Some(value)) => Some(matches!(value, b"1" | b"true")),
        (_, None) => None,
    };
    let context = match (header("x-b3-traceid"), header("x-b3-spanid")) {
        (Some(trace), Some(span)) => {
            let parent = match header("x-b3-parentspanid") {
                None | Some(b"") => None,
                Some(parent) => Some(hex(parent, 16).ok_or(Malformed)?),
            };
            Some(SpanContext {
                trace: trace_id(trace).ok_or(Malformed)?,
                span: hex(span, 16).ok_or(Malformed)?,
                parent: parent.filter(|id| *id != 0),
                sampled: sampled.unwrap_or(false),
            })
        }
        _ => None,
    };
    let format = (context.is_some() || sampled.is_some()).then_some(Format::B3Multi);
    Ok(Incoming { context, sampled, format })
}

/// `trace-span`, `trace-span-sampled`, `trace-span-sampled-parent`, or the decision alone.
fn single(value: &[u8]) -> Result<Incoming, Malformed> {
    let format = Some(Format::B3Single);
    if let Some(sampled) = decision(value) {
        return Ok(Incoming { context: None, sampled: Some(sampled), format });
    }
    let mut parts = value.split(|byte| *byte == b'-');
    let (Some(trace), Some(span)) = (parts.next(), parts.next()) else { return Err(Malformed) };
    let sampled = parts.next().map(|part| decision(part).ok_or(Malformed)).transpose()?;
    let parent = parts.next().map(|part| hex(part, 16).ok_or(Malformed)).transpose()?;
    if parts.next().is_some() {
        return Err(Malformed);
    }
    let context = SpanContext {
        trace: trace_id(trace).ok_or(Malformed)?,
        span: hex(span, 16).ok_or(Malformed)?,
        parent: parent.filter(|id| *id != 0),
        sampled: sampled.unwrap_or(false),
    };
    Ok(Incoming { context: Some(context), sampled, format })
}

fn decision(value: &[u8]) -> Option<bool> {
    match value {
        b"0" => Some(false),
        b"1" | b"d" => Some(true),
        _ => None,
    }
}

fn trace_id(text: &[u8]) -> Option<TraceId> {
    match text.len() {
        16 => Some(TraceId { high: None, low: hex(text, 16)? }),
        32 => {
            let (high, low) = text.split_at_checked(16)?;
            // An upper half of zero is none.
            Some(TraceId { high: Some(hex(high, 16)?).filter(|high| *high != 0), low: hex(low, 16)? })
        }
        _ => None,
    }
}

pub(super) fn inject_multi(context: &SpanContext, set: &mut impl FnMut(&'static str, &[u8])) {
    let mut text = String::with_capacity(32);
    context.trace.write(&mut text);
    set("x-b3-traceid", text.as_bytes());
    let mut id = |name: &'static str, id: u64| {
        text.clear();
        write_hex64(id, &mut text);
        set(name, text.as_bytes());
    };
    id("x-b3-spanid", context.span);
    if let Some(parent) = context.parent {
        id("x-b3-parentspanid", parent);
    }
    set("x-b3-sampled", if context.sampled { b"1" } else { b"0" });
}

pub(super) fn inject_single(context: &SpanContext, set: &mut impl FnMut(&'static str, &[u8])) {
    let mut text = String::with_capacity(68);
    context.trace.write(&mut text);
    text.push('-');
    write_hex64(context.span, &mut text);
    text.push_str(if context.sampled { "-1" } else { "-0" });
    if let Some(parent) = context.parent {
        text.push('-');
        write_hex64(parent, &mut text);
    }
    set("b3", text.as_bytes());
}
