//! What operators give for a record.

use std::time::Duration;

use super::digits::{push_number, push_socket_address};
use super::operator::{GrpcForm, Moment, Operator, Part, Unit, Value};
use super::record::{Address, Record, Text};
use crate::trace::write_hex64;

/// What an operator gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// Nothing was written.
    Nothing,
    /// A number was written.
    Number,
    /// Text was written.
    Text,
    /// Other JSON was written.
    Json,
}

impl Operator {
    /// Appends the operator's value for `record`.
    pub(super) fn write(&self, record: &Record, out: &mut Vec<u8>) -> Given {
        let start = out.len();
        let given = self.value.write(record, out);
        if let Some(length) = self.length
            && given == Given::Text
        {
            out.truncate(start.saturating_add(length).min(out.len()));
        }
        given
    }
}

impl Value {
    fn write(&self, record: &Record, out: &mut Vec<u8>) -> Given {
        match self {
            Self::StartTime(format) => {
                format.write(record.start_time, out);
                Given::Text
            }
            Self::EmitTime(format) => {
                format.write(record.start_time + record.duration.unwrap_or_default(), out);
                Given::Text
            }
            Self::Header(slots) => write_text(first_header(record, slots), out),
            Self::HeaderWithoutQuery(slots) => {
                write_text(first_header(record, slots).map(without_query), out)
            }
            Self::QueryParameter(slot, name) => {
                write_text(record.header(*slot).and_then(|path| query_parameter(path, name)), out)
            }
            Self::Path { slots, query } => {
                let path = first_header(record, slots);
                write_text(if *query { path } else { path.map(without_query) }, out)
            }
            Self::Text(text) => write_text(record.text(*text), out),
            Self::TextOrEmpty(text) => write_text(Some(record.text(*text).unwrap_or_default()), out),
            Self::ServerName { authority, authority_first } => {
                let (sni, authority) = (record.text(Text::RequestedServerName), record.header(*authority));
                write_text(if *authority_first { authority.or(sni) } else { sni.or(authority) }, out)
            }
            Self::UpstreamHostName => match (record.text(Text::UpstreamHostName), &record.upstream_remote) {
                (None, Some(address)) => write_address(address, Part::Whole, out),
                (name, _) => write_text(name, out),
            },
            Self::Word(text) => {
                let start = out.len();
                let given = write_text(record.text(*text), out);
                for byte in out.iter_mut().skip(start).filter(|b| b.is_ascii_whitespace()) {
                    *byte = b'_';
                }
                given
            }
            Self::Number(number) => write_number(number(record), out),
            Self::Between(from, to, unit) => write_number(between(record, *from, *to, *unit), out),
            Self::Address(address, part) => match address(record) {
                Some(address) => write_address(address, *part, out),
                None => Given::Nothing,
            },
            Self::Protocol(protocol) => write_text(protocol(record).map(|p| p.as_str().as_bytes()), out),
            Self::Flags { long } => write_flags(record, *long, out),
            Self::GrpcStatus(form) => write_grpc_status(record.grpc_status, *form, out),
            Self::Kind => write_text(Some(record.kind.name().as_bytes()), out),
            Self::Metadata(slot) => match record.metadata(*slot) {
                Some((value, is_text)) => {
                    out.extend_from_slice(value);
                    if is_text { Given::Text } else { Given::Json }
                }
                None => Given::Nothing,
            },
            Self::TraceId => {
                let mut text = String::new();
                record.trace_id.inspect(|id| id.write(&mut text));
                write_text(record.trace_id.map(|_| text.as_bytes()), out)
            }
            Self::SpanId => {
                let mut text = String::new();
                record.span_id.inspect(|id| write_hex64(*id, &mut text));
                write_text(record.span_id.map(|_| text.as_bytes()), out)
            }
            Self::Fixed(text) => write_text(Some(text.as_bytes()), out),
            Self::Unavailable => Given::Nothing,
        }
    }
}

fn first_header<'r>(record: &'r Record, slots: &[usize]) -> Option<&'r [u8]> {
    slots.iter().find_map(|slot| record.header(*slot))
}

fn without_query(path: &[u8]) -> &[u8] {
    path.split(|b| *b == b'?').next().unwrap_or(path)
}

fn query_parameter<'p>(path: &'p [u8], name: &str) -> Option<&'p [u8]> {
    let query = path.iter().position(|b| *b == b'?').and_then(|at| path.get(at + 1..))?;
    query.split(|b| *b == b'&').find_map(|pair| {
        let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let (key, value) = pair.split_at(at);
        (key == name.as_bytes()).then(|| value.get(1..).unwrap_or(&[]))
    })
}

fn write_text(text: Option<&[u8]>, out: &mut Vec<u8>) -> Given {
    match text {
        Some(text) => {
            out.extend_from_slice(text);
            Given::Text
        }
        None => Given::Nothing,
    }
}

fn write_number(number: Option<u64>, out: &mut Vec<u8>) -> Given {
    let Some(number) = number else { return Given::Nothing };
    push_number(number, out);
    Given::Number
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn between(record: &Record, from: Moment, to: Moment, unit: Unit) -> Option<u64> {
    let at = |moment| match moment {
        Moment::Start => Some(Duration::ZERO),
        Moment::At(point) => record.time(point),
    };
    let duration = at(to)?.checked_sub(at(from)?)?;
    let number = match unit {
        Unit::Millis => duration.as_millis(),
        Unit::Micros => duration.as_micros(),
        Unit::Nanos => duration.as_nanos(),
    };
    u64::try_from(number).ok()
}

fn write_address(address: &Address, part: Part, out: &mut Vec<u8>) -> Given {
    match (address, part) {
        (Address::Ip(ip), Part::Whole) => push_socket_address(ip, out),
        (Address::Ip(ip), Part::WithoutPort) => out.extend_from_slice(ip.ip().to_string().as_bytes()),
        (Address::Ip(ip), Part::Port) => return write_number(Some(ip.port().into()), out),
        (Address::Pipe(_), Part::Port) => return Given::Nothing,
        (Address::Pipe(path), Part::Whole | Part::WithoutPort) => out.extend_from_slice(path.as_bytes()),
    }
    Given::Text
}

fn write_flags(record: &Record, long: bool, out: &mut Vec<u8>) -> Given {
    for (i, flag) in record.flags.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(if long { flag.long() } else { flag.short() }.as_bytes());
    }
    if record.flags.is_empty() {
        // Compat: text, not a missing value: `-` in JSON too.
        out.push(b'-');
    }
    Given::Text
}

fn write_grpc_status(status: Option<u32>, form: GrpcForm, out: &mut Vec<u8>) -> Given {
    /// Names of the gRPC status codes, by number.
    const NAMES: [(&str, &str); 17] = [
        ("OK", "OK"),
        ("Canceled", "CANCELLED"),
        ("Unknown", "UNKNOWN"),
        ("InvalidArgument", "INVALID_ARGUMENT"),
        ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
        ("NotFound", "NOT_FOUND"),
        ("AlreadyExists", "ALREADY_EXISTS"),
        ("PermissionDenied", "PERMISSION_DENIED"),
        ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
        ("FailedPrecondition", "FAILED_PRECONDITION"),
        ("Aborted", "ABORTED"),
        ("OutOfRange", "OUT_OF_RANGE"),
        ("Unimplemented", "UNIMPLEMENTED"),
        ("Internal", "INTERNAL"),
        ("Unavailable", "UNAVAILABLE"),
        ("DataLoss", "DATA_LOSS"),
        ("Unauthenticated", "UNAUTHENTICATED"),
    ];
    let Some(status) = status else { return Given::Nothing };
    match (form, NAMES.get(status as usize)) {
        (GrpcForm::Camel, Some((camel, _))) => write_text(Some(camel.as_bytes()), out),
        (GrpcForm::Snake, Some((_, snake))) => write_text(Some(snake.as_bytes()), out),
        (GrpcForm::Number, _) | (_, None) => write_number(Some(status.into()), out),
    }
}
