//! What operators give for a record.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use super::digits::{push_number, push_socket_address};
use super::extra::ExtraKind;
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
    /// Appends the operator's value for `record`. As text it is cut to its length; as JSON only where it is a string.
    pub(super) fn write(&self, record: &Record, out: &mut Vec<u8>, as_json: bool) -> Given {
        let start = out.len();
        let given = self.value.write(record, out, as_json);
        if let Some(length) = self.length
            && (given == Given::Text || !as_json)
        {
            out.truncate(start.saturating_add(length).min(out.len()));
        }
        given
    }
}

impl Value {
    fn write(&self, record: &Record, out: &mut Vec<u8>, as_json: bool) -> Given {
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
                let value = record.header(*slot).and_then(|path| query_parameter(path, name));
                write_text(value.map(|value| decoded(value, |_| true)).as_deref(), out)
            }
            Self::Query { slot, decoded: false } => write_text(record.header(*slot).and_then(query), out),
            Self::Query { slot, decoded: true } => {
                // Compat: what a header could not carry stays encoded.
                let shown = |byte: u8| byte.is_ascii_graphic();
                write_text(
                    record.header(*slot).and_then(query).map(|text| decoded(text, shown)).as_deref(),
                    out,
                )
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
            Self::UpstreamHostName { connected: true, .. } if record.upstream_local.is_none() => {
                Given::Nothing
            }
            Self::UpstreamHostName { slot, port, .. } => match (record.extra(*slot), &record.upstream_remote)
            {
                (Some((name, _)), _) if *port => write_text(Some(name), out),
                (Some((name, _)), _) => write_text(name.split(|byte| *byte == b':').next(), out),
                (None, Some(address)) => {
                    write_address(address, if *port { Part::Whole } else { Part::WithoutPort }, out)
                }
                (None, None) => Given::Nothing,
            },
            Self::Extra(slot) => match record.extra(*slot) {
                Some((value, kind)) => {
                    out.extend_from_slice(value);
                    match kind {
                        ExtraKind::Text => Given::Text,
                        ExtraKind::Json => Given::Json,
                    }
                }
                None => Given::Nothing,
            },
            Self::ExtraTime(slot, format) => {
                let seconds =
                    record.extra(*slot).and_then(|(text, _)| std::str::from_utf8(text).ok()?.parse().ok());
                let Some(seconds) = seconds else { return Given::Nothing };
                format.write(UNIX_EPOCH + Duration::from_secs(seconds), out);
                Given::Text
            }
            Self::ClientCert(slot, key) => {
                write_text(record.header(*slot).and_then(|value| client_cert(value, key)).as_deref(), out)
            }
            Self::Coalesce(operators) => {
                let start = out.len();
                for operator in operators {
                    let given = operator.write(record, out, as_json);
                    if given != Given::Nothing && out.len() > start {
                        return given;
                    }
                    out.truncate(start);
                }
                Given::Nothing
            }
            Self::CloseType => write_text(record.upstream_remote.as_ref().map(|_| b"Normal".as_slice()), out),
            Self::Word(text) => {
                let start = out.len();
                let given = write_text(record.text(*text), out);
                for byte in out.iter_mut().skip(start).filter(|b| b.is_ascii_whitespace()) {
                    *byte = b'_';
                }
                given
            }
            Self::Number(number) => write_number(number(record), out),
            Self::NumberText(number) => match write_number(number(record), out) {
                Given::Number => Given::Text,
                other => other,
            },
            Self::Network(address, bits) => match address(record) {
                Some(Address::Ip(ip)) => write_network(ip.ip(), *bits, out),
                Some(Address::Pipe(_)) | None => Given::Nothing,
            },
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

/// What follows the path; `None` when nothing does.
fn query(path: &[u8]) -> Option<&[u8]> {
    path.iter().position(|b| *b == b'?').and_then(|at| path.get(at + 1..)).filter(|query| !query.is_empty())
}

fn query_parameter<'p>(path: &'p [u8], name: &str) -> Option<&'p [u8]> {
    query(path)?.split(|b| *b == b'&').find_map(|pair| {
        let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let (key, value) = pair.split_at(at);
        (key == name.as_bytes()).then(|| value.get(1..).unwrap_or(&[]))
    })
}

/// Percent-decodes where that gives a byte that is `shown`; what is no escape stays as it is.
fn decoded(text: &[u8], shown: impl Fn(u8) -> bool) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let escape = (byte == b'%').then(|| Some((digit(at + 1)? * 16 + digit(at + 2)?) as u8)).flatten();
        match escape.filter(|value| shown(*value)) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// The values of a key in a client-cert header, joined by commas: of every element, in order.
fn client_cert(value: &[u8], key: &str) -> Option<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    for pair in split_unquoted(value, b",;") {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair.get(..at)?, pair.get(at + 1..)?);
        if name.trim_ascii().eq_ignore_ascii_case(key.as_bytes()) {
            let value =
                value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
            found.push(value.to_vec());
        }
    }
    (!found.is_empty()).then(|| found.join(&b","[..]))
}

/// Parts between any of `separators`, quoted ones not counted.
fn split_unquoted<'t>(text: &'t [u8], separators: &'static [u8]) -> impl Iterator<Item = &'t [u8]> {
    let mut quoted = false;
    text.split(move |byte| {
        quoted ^= *byte == b'"';
        !quoted && separators.contains(byte)
    })
}

/// The first `bits` of an address. An address has not more than it has.
fn write_network(address: IpAddr, bits: u8, out: &mut Vec<u8>) -> Given {
    let masked = match address {
        IpAddr::V4(ip) if bits <= 32 => {
            IpAddr::V4((u32::from(ip) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).into())
        }
        IpAddr::V6(ip) if bits <= 128 => {
            IpAddr::V6((u128::from(ip) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).into())
        }
        IpAddr::V4(_) | IpAddr::V6(_) => return Given::Nothing,
    };
    let _ = write!(out, "{masked}/{bits}");
    Given::Text
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
        Moment::Start => Some(0),
        Moment::At(point) => record.nanos(point),
        Moment::Named => None,
    };
    // Compat: time does not run backwards.
    let nanos = u64::try_from(at(to)?.checked_sub(at(from)?)?).ok()?;
    Some(match unit {
        Unit::Millis => nanos / 1_000_000,
        Unit::Micros => nanos / 1_000,
        Unit::Nanos => nanos,
    })
}

fn write_address(address: &Address, part: Part, out: &mut Vec<u8>) -> Given {
    match (address, part) {
        (_, Part::EndpointId) => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_client_certs_are_those_of_every_element() {
        let header =
            br#"By=spiffe://a;Hash=1;Subject="CN=a,O=b";URI=u1;DNS=d1;DNS=d2,By=b2;URI=u2;Cert="c2""#;
        let value =
            |key: &str| client_cert(header, key).map(|value| String::from_utf8_lossy(&value).into_owned());
        assert_eq!(value("uri").as_deref(), Some("u1,u2"));
        assert_eq!(value("dns").as_deref(), Some("d1,d2"));
        assert_eq!(value("subject").as_deref(), Some("CN=a,O=b"));
        assert_eq!(value("chain"), None);
    }

    #[test]
    fn what_is_no_escape_stays_as_it_is() {
        assert_eq!(decoded(b"%20x%4%zz%%41", |_| true), b" x%4%zz%A");
        assert_eq!(decoded(b"%20x%41", |byte| byte.is_ascii_graphic()), b"%20xA");
    }
}
