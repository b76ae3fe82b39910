//! Small values: durations, fractions, percentages, addresses, packed messages.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use prost::{Message, Name};
use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::r#type::v3 as types;
use ringsail_xds::json;

use super::context::Context;
use crate::address::{Address, Cidr};
use crate::fraction::Fraction;

/// A duration, or `None` when it is not set or (with a finding) not valid.
pub(super) fn duration(
    cx: &mut Context<'_>,
    field: &str,
    value: &Option<prost_types::Duration>,
) -> Option<Duration> {
    let value = value.as_ref()?;
    match Duration::try_from(*value) {
        Ok(duration) => Some(duration),
        Err(_) => cx.refuse(field, "is not a valid, non-negative duration"),
    }
}

/// A timeout whose zero means "none": `default` when it is not set.
pub(super) fn timeout(
    cx: &mut Context<'_>,
    field: &str,
    value: &Option<prost_types::Duration>,
    default: Option<Duration>,
) -> Option<Duration> {
    match value {
        None => default,
        Some(_) => duration(cx, field, value).filter(|timeout| !timeout.is_zero()),
    }
}

/// A fraction; `None` with a finding when its denominator is not known.
pub(super) fn fraction(
    cx: &mut Context<'_>,
    field: &str,
    value: &types::FractionalPercent,
) -> Option<Fraction> {
    use types::fractional_percent::DenominatorType;
    let denominator = match DenominatorType::try_from(value.denominator) {
        Ok(DenominatorType::Hundred) => 100,
        Ok(DenominatorType::TenThousand) => 10_000,
        Ok(DenominatorType::Million) => 1_000_000,
        Err(_) => return cx.refuse(field, "has an unknown denominator"),
    };
    Some(Fraction { numerator: value.numerator, denominator })
}

/// A fraction with a runtime key; runtime overrides do not exist.
pub(super) fn runtime_fraction(
    cx: &mut Context<'_>,
    field: &str,
    value: &core::RuntimeFractionalPercent,
) -> Option<Fraction> {
    match &value.default_value {
        Some(fraction_value) => cx.at(field, |cx| fraction(cx, "default_value", fraction_value)),
        None => Some(Fraction { numerator: 0, denominator: 100 }),
    }
}

/// A port number.
pub(super) fn port(cx: &mut Context<'_>, field: &str, value: u32) -> Option<u16> {
    match u16::try_from(value) {
        Ok(port) => Some(port),
        Err(_) => cx.refuse(field, format_args!("{value} is no port")),
    }
}

/// Where an address points: a place, or a host name to be resolved.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Target {
    Address(Address),
    Host { name: String, port: u16 },
}

/// An address that may hold a host name.
pub(super) fn target(cx: &mut Context<'_>, value: Option<&core::Address>) -> Option<Target> {
    cx.at("address", |cx| match value.and_then(|value| value.address.as_ref()) {
        Some(core::address::Address::SocketAddress(address)) => {
            cx.at("socket_address", |cx| socket_target(cx, address))
        }
        Some(core::address::Address::Pipe(pipe)) => {
            if pipe.path.is_empty() {
                return cx.refuse("pipe.path", "is empty");
            }
            Some(Target::Address(Address::Pipe(cx.intern(&pipe.path))))
        }
        Some(core::address::Address::EnvoyInternalAddress(_)) => {
            cx.refuse("envoy_internal_address", "internal listeners are not supported")
        }
        None => cx.refuse("", "is not set"),
    })
}

fn socket_target(cx: &mut Context<'_>, value: &core::SocketAddress) -> Option<Target> {
    if value.protocol != core::socket_address::Protocol::Tcp as i32 {
        return cx.refuse("protocol", "only TCP is supported");
    }
    let port = match value.port_specifier {
        Some(core::socket_address::PortSpecifier::PortValue(value)) => port(cx, "port_value", value)?,
        Some(core::socket_address::PortSpecifier::NamedPort(_)) => {
            return cx.refuse("named_port", "named ports are not supported");
        }
        None => 0,
    };
    if value.address.is_empty() {
        return cx.refuse("address", "is empty");
    }
    Some(match value.address.parse::<IpAddr>() {
        Ok(ip) => Target::Address(Address::Socket(SocketAddr::new(ip, port))),
        Err(_) => Target::Host { name: value.address.clone(), port },
    })
}

/// An address without a host name.
pub(super) fn address(cx: &mut Context<'_>, value: Option<&core::Address>) -> Option<Address> {
    match target(cx, value)? {
        Target::Address(address) => Some(address),
        Target::Host { name, .. } => {
            cx.refuse("address.socket_address.address", format_args!("{name:?} is no IP address"))
        }
    }
}

/// The source address connections are bound to.
pub(super) fn source_address(
    cx: &mut Context<'_>,
    field: &str,
    value: &core::SocketAddress,
) -> Option<SocketAddr> {
    cx.at(field, |cx| match socket_target(cx, value)? {
        Target::Address(address) => address.socket(),
        Target::Host { name, .. } => cx.refuse("address", format_args!("{name:?} is no IP address")),
    })
}

/// A range of addresses.
pub(super) fn cidr(cx: &mut Context<'_>, value: &core::CidrRange) -> Option<Cidr> {
    let Ok(ip) = value.address_prefix.parse::<IpAddr>() else {
        return cx.refuse("address_prefix", format_args!("{:?} is no IP address", value.address_prefix));
    };
    let len = u8::try_from(value.prefix_len.unwrap_or(0)).ok().and_then(|len| Cidr::new(ip, len));
    match len {
        Some(range) => Some(range),
        None => cx.refuse("prefix_len", "is longer than the address"),
    }
}

/// A percentage between 0 and 100; fractions of a percent are cut off.
pub(super) fn percent(cx: &mut Context<'_>, field: &str, value: f64) -> Option<u8> {
    if (0.0..=100.0).contains(&value) {
        return Some(value as u8);
    }
    cx.refuse(field, format_args!("{value} is no percentage"))
}

/// The message of a typed struct in its binary form; other messages as they are. The table of fields has refused what
/// cannot be read.
pub(super) fn plain(any: &prost_types::Any) -> Cow<'_, prost_types::Any> {
    if !json::is_typed_struct(&any.type_url) {
        return Cow::Borrowed(any);
    }
    match json::Schema::shared().from_typed_struct(any) {
        Ok(Some(message)) => Cow::Owned(message),
        Ok(None) | Err(_) => Cow::Borrowed(any),
    }
}

/// Whether an `Any` holds this type.
pub(super) fn holds<M: Name>(any: &prost_types::Any) -> bool {
    any.type_url.rsplit('/').next() == Some(M::full_name().as_str())
}

/// Unpacks an `Any` that holds this type; a finding when its bytes are malformed.
pub(super) fn unpack<M: Message + Name + Default>(cx: &mut Context<'_>, any: &prost_types::Any) -> Option<M> {
    match M::decode(any.value.as_slice()) {
        Ok(message) => Some(message),
        Err(error) => cx.refuse("", format_args!("not a valid {}: {error}", M::full_name())),
    }
}
