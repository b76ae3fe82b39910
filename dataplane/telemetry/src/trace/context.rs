//! The context of a span, as it travels in headers.

use std::fmt::Write as _;

use super::{b3, w3c};

/// The id of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId {
    /// Its upper half; `None` in traces with ids of 64 bits.
    pub high: Option<u64>,
    /// Its lower half.
    pub low: u64,
}

/// What identifies a span to other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: u64,
    /// The span it is a part of.
    pub parent: Option<u64>,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

/// In which headers a context came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `x-b3-traceid` and its like.
    B3Multi,
    /// `b3`.
    B3Single,
    /// `traceparent`.
    W3c,
}

/// What a request's headers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// The caller's span, if it told one. Its `sampled` is false when nothing is said; see the field of that name.
    pub context: Option<SpanContext>,
    /// The caller's decision, also without a span.
    pub sampled: Option<bool>,
    /// The headers that said so.
    pub format: Option<Format>,
}

/// Headers that are no context. The request then has no span, and its headers pass as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Incoming {
    /// B3 headers, the single one first; with `w3c`, a `traceparent` where there are none.
    ///
    /// Source: Envoy's `Zipkin::SpanContextExtractor`.
    pub fn b3<'h>(header: impl Fn(&str) -> Option<&'h [u8]>, w3c: bool) -> Result<Incoming, Malformed> {
        let found = b3::extract(&header)?;
        if w3c && found == Incoming::default() {
            return w3c::extract(&header);
        }
        Ok(found)
    }

    /// A `traceparent`.
    pub fn w3c<'h>(header: impl Fn(&str) -> Option<&'h [u8]>) -> Result<Incoming, Malformed> {
        w3c::extract(&header)
    }
}

impl SpanContext {
    /// The headers for the next process, in B3 as `format` says and, with `w3c`, a `traceparent` besides.
    pub fn inject(&self, format: Format, with_w3c: bool, mut set: impl FnMut(&'static str, &[u8])) {
        match format {
            Format::B3Multi => b3::inject_multi(self, &mut set),
            Format::B3Single => b3::inject_single(self, &mut set),
            Format::W3c => {}
        }
        if with_w3c || format == Format::W3c {
            w3c::inject(self, &mut set);
        }
    }
}

impl TraceId {
    /// As B3 and Zipkin write it: 16 or 32 digits.
    pub fn write(&self, out: &mut String) {
        if let Some(high) = self.high {
            write_hex64(high, out);
        }
        write_hex64(self.low, out);
    }

    /// As W3C and OTLP want it: 16 bytes.
    pub fn bytes(&self) -> [u8; 16] {
        let value = u128::from(self.high.unwrap_or(0)) << 64 | u128::from(self.low);
        value.to_be_bytes()
    }
}

/// 16 digits.
pub(crate) fn write_hex64(value: u64, out: &mut String) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{value:016x}");
}

/// A number of exactly this many hex digits.
pub(super) fn hex(text: &[u8], digits: usize) -> Option<u64> {
    if text.len() != digits || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";

    fn incoming(headers: &[(&str, &str)], w3c: bool) -> Result<Incoming, Malformed> {
        Incoming::b3(
            |name| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_bytes()),
            w3c,
        )
    }

    fn injected(context: &SpanContext, format: Format, w3c: bool) -> String {
        let mut text = String::new();
        context.inject(format, w3c, |name, value| {
            let _ = write!(text, "{name}={} ", String::from_utf8_lossy(value));
        });
        text.trim_end().to_owned()
    }

    #[test]
    fn what_is_injected_is_what_was_extracted() {
        let multi = [
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", "e457b5a2e4d86bd1"),
            ("x-b3-parentspanid", "05e3ac9a4f6e3b90"),
            ("x-b3-sampled", "1"),
        ];
        let found = incoming(&multi, false).expect("well-formed");
        assert_eq!((found.sampled, found.format), (Some(true), Some(Format::B3Multi)));
        let context = found.context.expect("a context");
        let multi = "x-b3-traceid=80f198ee56343ba864fe8b2a57d3eff7 x-b3-spanid=e457b5a2e4d86bd1 \
x-b3-parentspanid=05e3ac9a4f6e3b90 x-b3-sampled=1";
        assert_eq!(injected(&context, Format::B3Multi, false), multi);
        let single = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90";
        assert_eq!(injected(&context, Format::B3Single, false), format!("b3={single}"));
        let traceparent = "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";
        assert_eq!(injected(&context, Format::B3Multi, true), format!("{multi} traceparent={traceparent}"));
        assert_eq!(injected(&context, Format::W3c, false), format!("traceparent={traceparent}"));

        let again = incoming(&[("b3", single)], false).expect("well-formed");
        assert_eq!((again.context, again.format), (Some(context), Some(Format::B3Single)));
        let again = incoming(&[("traceparent", traceparent)], true).expect("well-formed");
        let without_parent = SpanContext { parent: None, ..context };
        assert_eq!((again.context, again.format), (Some(without_parent), Some(Format::W3c)));
        assert_eq!(incoming(&[("traceparent", traceparent)], false), Ok(Incoming::default()));
    }

    #[test]
    fn b3_goes_before_w3c() {
        let found = incoming(
            &[
                ("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1"),
                ("traceparent", "00-80f198ee56343ba864fe8b2a57d3eff7-05e3ac9a4f6e3b90-01"),
            ],
            true,
        );
        let context = found.expect("well-formed").context.expect("a context");
        assert_eq!(context.trace, TraceId { high: None, low: 0x64fe_8b2a_57d3_eff7 });
    }

    #[test]
    fn a_decision_may_come_without_a_span() {
        for (headers, sampled) in [
            (&[("b3", "0")][..], Some(false)),
            (&[("b3", "1")], Some(true)),
            (&[("b3", "d")], Some(true)),
            (&[("x-b3-sampled", "0")], Some(false)),
            (&[("x-b3-sampled", "true")], Some(true)),
            (&[("x-b3-flags", "1")], Some(true)),
            (&[("x-b3-flags", "0")], None),
            (&[], None),
        ] {
            let found = incoming(headers, false).expect("well-formed");
            assert_eq!((found.context, found.sampled), (None, sampled), "{headers:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_no_context() {
        for headers in [
            &[("x-b3-traceid", "zz"), ("x-b3-spanid", "e457b5a2e4d86bd1")][..],
            &[("x-b3-traceid", TRACE), ("x-b3-spanid", "1")],
            &[("b3", "80f198ee56343ba864fe8b2a57d3eff7")],
            &[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-x")],
            &[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05")],
            &[("b3", "")],
            &[("traceparent", "junk")],
            &[("traceparent", "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01-x")],
            &[("traceparent", "00-00000000000000000000000000000000-e457b5a2e4d86bd1-01")],
        ] {
            assert_eq!(incoming(headers, true), Err(Malformed), "{headers:?}");
        }
    }
}
