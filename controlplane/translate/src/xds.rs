//! Small constructors for Envoy messages.

use std::net::IpAddr;
use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{Any, ListValue, Struct, Value};
use ringsail_xds::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, CidrRange, ConfigSource, Metadata, Pipe, SocketAddress,
    address, config_source, socket_address,
};
use ringsail_xds::envoy::config::listener::v3::{self as listener, Filter, ListenerFilter, listener_filter};
use ringsail_xds::envoy::r#type::matcher::v3::RegexMatcher;
use ringsail_xds::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use ringsail_xds::pack;
use ringsail_xds::prost::Name;

/// Longest duration that every Envoy field takes: 10,000 years in seconds, protobuf's own bound.
const DURATION_SECONDS_MAX: u64 = 315_576_000_000;

/// A protobuf duration.
pub(crate) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: duration.as_secs().min(DURATION_SECONDS_MAX) as i64,
        nanos: duration.subsec_nanos() as i32,
    }
}

/// No time: where a field distinguishes it from an absent one.
pub(crate) const ZERO: prost_types::Duration = prost_types::Duration { seconds: 0, nanos: 0 };

/// A TCP address.
pub(crate) fn socket_address(ip: &str, port: u32) -> SocketAddress {
    SocketAddress {
        address: ip.to_owned(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    }
}

/// A TCP address of an IP or, for DNS clusters, a name.
pub(crate) fn tcp_address(ip: &str, port: u32) -> Address {
    Address { address: Some(address::Address::SocketAddress(socket_address(ip, port))) }
}

/// A Unix socket.
pub(crate) fn pipe_address(path: &str) -> Address {
    Address { address: Some(address::Address::Pipe(Pipe { path: path.to_owned(), mode: 0 })) }
}

/// A block of addresses.
pub(crate) fn cidr(ip: IpAddr, len: u8) -> CidrRange {
    CidrRange { address_prefix: ip.to_string(), prefix_len: Some(u32::from(len)) }
}

/// "From the same aggregated stream", waiting for ever for the first answer.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        initial_fetch_timeout: Some(ZERO),
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

/// A network filter.
pub(crate) fn network_filter(name: &str, config: &impl Name) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack(config))),
    }
}

/// A listener filter.
pub(crate) fn listener_filter(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        filter_disabled: None,
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
    }
}

/// A regular expression.
pub(crate) fn regex(text: &str) -> RegexMatcher {
    RegexMatcher { regex: text.to_owned(), ..RegexMatcher::default() }
}

/// A percentage with four decimals, 0 to 100.
pub(crate) fn percent(value: f64) -> FractionalPercent {
    FractionalPercent {
        numerator: (value.clamp(0.0, 100.0) * 10_000.0).round() as u32,
        denominator: DenominatorType::Million as i32,
    }
}

/// A string in a `Struct`.
pub(crate) fn text(value: impl Into<String>) -> Value {
    Value { kind: Some(Kind::StringValue(value.into())) }
}

/// An object in a `Struct`.
pub(crate) fn object<const N: usize>(fields: [(&str, Value); N]) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}

/// A list in a `Struct`.
pub(crate) fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values })) }
}

/// Metadata under the key `istio`.
pub(crate) fn istio_metadata(fields: Struct) -> Metadata {
    Metadata { filter_metadata: [("istio".to_owned(), fields)].into(), ..Metadata::default() }
}
