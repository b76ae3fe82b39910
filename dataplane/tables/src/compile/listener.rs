//! Listeners and their filter chains.

use std::sync::Arc;
use std::time::Duration;

use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::config::listener::v3 as pb;
use ringsail_xds::envoy::extensions::filters::listener as inspectors;
use ringsail_xds::envoy::extensions::filters::network;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use ringsail_xds::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use ringsail_xds::prost::Message as _;
use ringsail_xds::stats::PluginConfig;

use super::access_log::access_logs;
use super::context::Context;
use super::fingerprint::Fingerprint;
use super::gate::gates;
use super::hcm::connection_manager;
use super::istio;
use super::metadata::metadata;
use super::rbac;
use super::tcp::{before, tcp_proxy};
use super::tls;
use super::value::{address, cidr, duration, holds, plain, port, timeout, unpack};
use crate::address::{Address, Cidr};
use crate::filter_chain::{ChainKey, FilterChain, FilterChainMatcher, Rule, SourceType, Terminal};
use crate::ids::ListenerId;
use crate::istio::IstioStats;
use crate::limits::{FILTER_CHAIN_RULES_MAX, NESTING_MAX};
use crate::listener::{
    Direction, Listener, ListenerFilter, ListenerFilterKind, PortPredicate, ProxyProtocol,
};
use crate::rbac::RbacFilter;
use crate::strings::Str;
use crate::tls::ServerTls;

/// Source: `Listener.listener_filters_timeout`.
const LISTENER_FILTERS_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
/// Source: `Listener.per_connection_buffer_limit_bytes`.
pub(super) const BUFFER_BYTES_DEFAULT: u32 = 1024 * 1024;
/// Name space of our own settings in the metadata of a listener.
const OWN_METADATA: &str = "ringsail";

pub(super) fn listener(cx: &mut Context<'_>, id: ListenerId, value: &pb::Listener) -> Option<Listener> {
    let addresses = addresses(cx, value)?;
    let mut chains: Vec<FilterChain> = Vec::with_capacity(value.filter_chains.len() + 1);
    let mut rules = Vec::new();
    for (index, chain) in value.filter_chains.iter().enumerate() {
        let mark = cx.report.enter(format_args!("filter_chains[{index}]"));
        let key = format!("inline routes of {}: {index}", value.name);
        if let Some(compiled) = filter_chain(cx, chain, &key, false) {
            add_rules(cx, chain.filter_chain_match.as_ref(), chains.len() as u32, &mut rules);
            chains.push(compiled);
        }
        cx.report.leave(mark);
    }
    let default = value.default_filter_chain.as_ref().and_then(|chain| {
        let key = format!("inline routes of {}: default", value.name);
        let compiled = cx.at("default_filter_chain", |cx| filter_chain(cx, chain, &key, true))?;
        chains.push(compiled);
        Some(chains.len() as u32 - 1)
    });
    if chains.is_empty() {
        return cx.refuse("filter_chains", "is empty");
    }
    let matcher = match FilterChainMatcher::new(rules, default) {
        Ok(matcher) => matcher,
        Err((first, second)) => {
            return cx.refuse(
                &format!("filter_chains[{second}].filter_chain_match"),
                format_args!("matches the same connections as filter_chains[{first}]"),
            );
        }
    };
    let old_bind = value.deprecated_v1.as_ref().and_then(|old| old.bind_to_port);
    Some(Listener {
        id,
        name: cx.intern(&value.name),
        stat_prefix: cx.intern(&value.stat_prefix),
        addresses,
        bind_to_port: value.bind_to_port.or(old_bind).unwrap_or(true),
        use_original_dst: value.use_original_dst.unwrap_or(false),
        transparent: value.transparent.unwrap_or(false),
        freebind: value.freebind.unwrap_or(false),
        direction: match core::TrafficDirection::try_from(value.traffic_direction) {
            Ok(core::TrafficDirection::Unspecified) => Direction::Unspecified,
            Ok(core::TrafficDirection::Inbound) => Direction::Inbound,
            Ok(core::TrafficDirection::Outbound) => Direction::Outbound,
            Err(_) => return cx.refuse("traffic_direction", "is not known"),
        },
        listener_filters: cx.each("listener_filters", &value.listener_filters, listener_filter),
        listener_filters_timeout: timeout(
            cx,
            "listener_filters_timeout",
            &value.listener_filters_timeout,
            Some(LISTENER_FILTERS_TIMEOUT_DEFAULT),
        ),
        continue_on_listener_filters_timeout: value.continue_on_listener_filters_timeout,
        server_first: server_first(cx, value.metadata.as_ref())?,
        buffer_bytes_max: value.per_connection_buffer_limit_bytes.unwrap_or(BUFFER_BYTES_DEFAULT),
        backlog: value.tcp_backlog_size,
        access_logs: access_logs(cx, &value.access_log),
        metadata: metadata(cx, value.metadata.as_ref()),
        filter_chains: chains.into(),
        matcher,
    })
}

/// Whether servers may speak first: `server_first` in the listener's metadata.
fn server_first(cx: &mut Context<'_>, metadata: Option<&core::Metadata>) -> Option<bool> {
    use prost_types::value::Kind;
    let own = metadata.and_then(|metadata| metadata.filter_metadata.get(OWN_METADATA));
    match own.and_then(|own| own.fields.get("server_first")).map(|value| &value.kind) {
        None => Some(true),
        Some(Some(Kind::BoolValue(value))) => Some(*value),
        Some(_) => cx.refuse("metadata.filter_metadata[ringsail].server_first", "is neither true nor false"),
    }
}

fn addresses(cx: &mut Context<'_>, value: &pb::Listener) -> Option<Box<[Address]>> {
    let first = address(cx, value.address.as_ref())?;
    let more = cx.each("additional_addresses", &value.additional_addresses, |cx, more| {
        address(cx, more.address.as_ref())
    });
    Some(std::iter::once(first).chain(more).collect())
}

fn listener_filter(cx: &mut Context<'_>, value: &pb::ListenerFilter) -> Option<ListenerFilter> {
    let Some(pb::listener_filter::ConfigType::TypedConfig(any)) = &value.config_type else {
        return cx.refuse("typed_config", "is not set");
    };
    let kind = if holds::<inspectors::original_dst::v3::OriginalDst>(any) {
        ListenerFilterKind::OriginalDst
    } else if holds::<inspectors::tls_inspector::v3::TlsInspector>(any) {
        ListenerFilterKind::TlsInspector
    } else if holds::<inspectors::http_inspector::v3::HttpInspector>(any) {
        ListenerFilterKind::HttpInspector
    } else if holds::<inspectors::proxy_protocol::v3::ProxyProtocol>(any) {
        let value = cx.at("typed_config", |cx| unpack(cx, any))?;
        ListenerFilterKind::ProxyProtocol(proxy_protocol(&value))
    } else {
        return cx
            .refuse("typed_config", format_args!("listener filter {:?} is not supported", any.type_url));
    };
    let disabled = match &value.filter_disabled {
        Some(predicate) => Some(cx.at("filter_disabled", |cx| port_predicate(cx, predicate, NESTING_MAX))?),
        None => None,
    };
    Some(ListenerFilter { kind, disabled })
}

fn proxy_protocol(value: &inspectors::proxy_protocol::v3::ProxyProtocol) -> ProxyProtocol {
    use core::proxy_protocol_config::Version;
    let allows = |version: Version| !value.disallowed_versions.contains(&(version as i32));
    ProxyProtocol {
        optional: value.allow_requests_without_proxy_protocol,
        v1: allows(Version::V1),
        v2: allows(Version::V2),
    }
}

fn port_predicate(
    cx: &mut Context<'_>,
    value: &pb::ListenerFilterChainMatchPredicate,
    depth: u32,
) -> Option<PortPredicate> {
    use pb::listener_filter_chain_match_predicate::Rule;
    if depth == 0 {
        return cx.refuse("", format_args!("nested deeper than {NESTING_MAX} rules"));
    }
    Some(match &value.rule {
        Some(Rule::AnyMatch(_)) => PortPredicate::Any,
        Some(Rule::DestinationPortRange(range)) => PortPredicate::Range {
            start: u32::try_from(range.start).unwrap_or(0),
            end: u32::try_from(range.end).unwrap_or(0),
        },
        Some(Rule::OrMatch(set)) => PortPredicate::Or(cx.at("or_match", |cx| {
            cx.each("rules", &set.rules, |cx, rule| port_predicate(cx, rule, depth - 1))
        })),
        Some(Rule::AndMatch(set)) => PortPredicate::And(cx.at("and_match", |cx| {
            cx.each("rules", &set.rules, |cx, rule| port_predicate(cx, rule, depth - 1))
        })),
        Some(Rule::NotMatch(rule)) => {
            PortPredicate::Not(Box::new(cx.at("not_match", |cx| port_predicate(cx, rule, depth - 1))?))
        }
        None => return cx.refuse("", "is no rule"),
    })
}

fn filter_chain(
    cx: &mut Context<'_>,
    value: &pb::FilterChain,
    inline_key: &str,
    is_default: bool,
) -> Option<FilterChain> {
    let tls = match &value.transport_socket {
        Some(socket) => tls::downstream(cx, socket)?,
        None => None,
    };
    let terminal = terminal(cx, &value.filters, inline_key)?;
    let gates = gates(cx, &value.filters)?;
    let access = access(cx, &value.filters, &terminal)?;
    Some(FilterChain {
        name: cx.intern(&value.name),
        key: chain_key(value, is_default, &terminal, tls.as_deref()),
        terminal,
        gates,
        tls,
        access,
        stats: istio_stats(cx, &value.filters),
        transport_connect_timeout: duration(
            cx,
            "transport_socket_connect_timeout",
            &value.transport_socket_connect_timeout,
        ),
        metadata: metadata(cx, value.metadata.as_ref()),
    })
}

/// The filters that judge a connection. `None`: one of them is not understood.
fn access(
    cx: &mut Context<'_>,
    filters: &[pb::Filter],
    terminal: &Terminal,
) -> Option<Box<[Arc<RbacFilter>]>> {
    let mut found = Vec::new();
    for (index, filter) in filters.iter().enumerate() {
        let Some(pb::filter::ConfigType::TypedConfig(any)) = &filter.config_type else { continue };
        if !holds::<network::rbac::v3::Rbac>(any) {
            continue;
        }
        let field = format!("filters[{index}].typed_config");
        if matches!(terminal, Terminal::Http(_)) {
            return cx.refuse(&field, "works before a TCP proxy only: use envoy.filters.http.rbac");
        }
        found.push(cx.at(&field, |cx| {
            let value = unpack(cx, any)?;
            rbac::network_filter(cx, &value)
        })?);
    }
    Some(found.into())
}

fn chain_key(
    value: &pb::FilterChain,
    is_default: bool,
    terminal: &Terminal,
    tls: Option<&ServerTls>,
) -> ChainKey {
    let kind = match terminal {
        Terminal::Http(_) => 0,
        Terminal::Tcp(_) => 1,
    };
    let mut bytes = vec![u8::from(is_default), kind, u8::from(tls.is_some())];
    for half in tls.iter().flat_map(|tls| tls.common.fingerprint) {
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    bytes.extend_from_slice(&(value.name.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value.name.as_bytes());
    if let Some(asked) = value.filter_chain_match.as_ref().filter(|_| !is_default) {
        bytes.extend_from_slice(&asked.encode_to_vec());
    }
    ChainKey(Fingerprint::of(&bytes).0)
}

/// The last filter. Filters before it are those the table of fields ignores.
fn terminal(cx: &mut Context<'_>, filters: &[pb::Filter], inline_key: &str) -> Option<Terminal> {
    let mut found = None;
    for (index, filter) in filters.iter().enumerate() {
        let Some(pb::filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
            return cx.refuse(&format!("filters[{index}].typed_config"), "is not set");
        };
        let serves_http = holds::<HttpConnectionManager>(any);
        if !serves_http && !holds::<tcp::TcpProxy>(any) {
            continue;
        }
        let before = before(cx, &filters[..index], serves_http)?;
        let mark = cx.report.enter(format_args!("filters[{index}].typed_config"));
        let terminal = if serves_http {
            unpack::<HttpConnectionManager>(cx, any)
                .and_then(|value| connection_manager(cx, &value, inline_key))
                .map(|manager| Terminal::Http(Arc::new(manager)))
        } else {
            unpack::<tcp::TcpProxy>(cx, any)
                .and_then(|value| tcp_proxy(cx, &value, before))
                .map(|proxy| Terminal::Tcp(Arc::new(proxy)))
        };
        if index + 1 != filters.len() {
            cx.report.refuse("must be the last filter of its chain");
        }
        cx.report.leave(mark);
        found = Some(terminal?);
    }
    match found {
        Some(terminal) => Some(terminal),
        None => cx.refuse("filters", "end in neither an HTTP connection manager nor a TCP proxy"),
    }
}

/// Istio's metrics of connections; the table of fields has judged the message.
fn istio_stats(cx: &mut Context<'_>, filters: &[pb::Filter]) -> Option<Arc<IstioStats>> {
    filters.iter().enumerate().find_map(|(index, filter)| {
        let Some(pb::filter::ConfigType::TypedConfig(any)) = &filter.config_type else { return None };
        let any = plain(any);
        if !holds::<PluginConfig>(&any) {
            return None;
        }
        let mark = cx.report.enter(format_args!("filters[{index}].typed_config"));
        let stats = unpack(cx, &any).and_then(|value| istio::stats(cx, &value));
        cx.report.leave(mark);
        stats
    })
}

/// Adds every combination of the values of a match.
fn add_rules(cx: &mut Context<'_>, value: Option<&pb::FilterChainMatch>, chain: u32, rules: &mut Vec<Rule>) {
    let none = pb::FilterChainMatch::default();
    let value = value.unwrap_or(&none);
    let mark = cx.report.enter(format_args!("filter_chain_match"));
    let first = Rule {
        port: value.destination_port.and_then(|number| port(cx, "destination_port", number)),
        destination: None,
        server_name: Str::default(),
        transport_protocol: cx.intern(&value.transport_protocol),
        application_protocol: Str::default(),
        direct_source: None,
        source_type: source_type(cx, value.source_type).unwrap_or(SourceType::Any),
        source: None,
        source_port: None,
        chain,
    };
    let ranges = |cx: &mut Context<'_>, field: &str, list: &[core::CidrRange]| cx.each(field, list, cidr);
    let destinations = ranges(cx, "prefix_ranges", &value.prefix_ranges);
    let direct_sources = ranges(cx, "direct_source_prefix_ranges", &value.direct_source_prefix_ranges);
    let sources = ranges(cx, "source_prefix_ranges", &value.source_prefix_ranges);
    let server_names = cx.each("server_names", &value.server_names, |cx, name| server_name(cx, name));
    let protocols: Box<[Str]> = value.application_protocols.iter().map(|name| cx.intern(name)).collect();
    let source_ports = cx.each("source_ports", &value.source_ports, |cx, number| port(cx, "", *number));

    let counts = [
        destinations.len(),
        server_names.len(),
        protocols.len(),
        direct_sources.len(),
        sources.len(),
        source_ports.len(),
    ];
    let product = counts.iter().fold(1_usize, |product, count| product.saturating_mul(*count.max(&1)));
    if rules.len().saturating_add(product) > FILTER_CHAIN_RULES_MAX {
        cx.report.refuse(format_args!("more than {FILTER_CHAIN_RULES_MAX} combinations in this listener"));
        cx.report.leave(mark);
        return;
    }
    let mut combined = vec![first];
    combine(&mut combined, &destinations, |rule, range: &Cidr| rule.destination = Some(*range));
    combine(&mut combined, &server_names, |rule, name: &Str| rule.server_name = name.clone());
    combine(&mut combined, &protocols, |rule, name: &Str| rule.application_protocol = name.clone());
    combine(&mut combined, &direct_sources, |rule, range: &Cidr| rule.direct_source = Some(*range));
    combine(&mut combined, &sources, |rule, range: &Cidr| rule.source = Some(*range));
    combine(&mut combined, &source_ports, |rule, port: &u16| rule.source_port = Some(*port));
    rules.append(&mut combined);
    cx.report.leave(mark);
}

/// Each rule once per value; unchanged when there are no values.
fn combine<T>(rules: &mut Vec<Rule>, values: &[T], set: impl Fn(&mut Rule, &T)) {
    if values.is_empty() {
        return;
    }
    let old = std::mem::take(rules);
    for rule in old {
        for value in values {
            let mut rule = rule.clone();
            set(&mut rule, value);
            rules.push(rule);
        }
    }
}

/// Compat: a star is allowed as the whole first label only; `*.a` is kept as `.a`.
fn server_name(cx: &mut Context<'_>, name: &str) -> Option<Str> {
    let stripped = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    if stripped.contains('*') {
        return cx.refuse("", format_args!("{name:?}: a star may only be the whole first label"));
    }
    Some(cx.intern_lower(stripped))
}

fn source_type(cx: &mut Context<'_>, value: i32) -> Option<SourceType> {
    use pb::filter_chain_match::ConnectionSourceType;
    match ConnectionSourceType::try_from(value) {
        Ok(ConnectionSourceType::Any) => Some(SourceType::Any),
        Ok(ConnectionSourceType::SameIpOrLoopback) => Some(SourceType::SameIpOrLoopback),
        Ok(ConnectionSourceType::External) => Some(SourceType::External),
        Err(_) => cx.refuse("source_type", "is not known"),
    }
}
