//! How the names of DNS clusters are resolved.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringsail_xds::envoy::config::cluster::v3 as pb;
use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;

use super::context::Context;
use super::value::{address, duration, holds, timeout, unpack};
use crate::cluster::{DnsFamily, DnsResolver, DnsServers, DnsSettings};

/// Source: `Cluster.dns_refresh_rate`.
const DNS_REFRESH_DEFAULT: Duration = Duration::from_secs(5);
/// `dns_failure_refresh_rate.max_interval` in base intervals when it is not set. Source: `Cluster.RefreshRate`.
const FAILURE_REFRESH_MAX_DEFAULT: u32 = 10;
/// Of an extension without fields that change what we do.
const GETADDRINFO: &str = "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig";

pub(super) fn dns_settings(cx: &mut Context<'_>, value: &pb::Cluster) -> Option<DnsSettings> {
    use pb::cluster::DnsLookupFamily;
    let family = match DnsLookupFamily::try_from(value.dns_lookup_family) {
        Ok(DnsLookupFamily::Auto) => DnsFamily::Auto,
        Ok(DnsLookupFamily::V4Only) => DnsFamily::V4Only,
        Ok(DnsLookupFamily::V6Only) => DnsFamily::V6Only,
        Ok(DnsLookupFamily::V4Preferred) => DnsFamily::V4Preferred,
        Ok(DnsLookupFamily::All) => DnsFamily::All,
        Err(_) => return cx.refuse("dns_lookup_family", "is not known"),
    };
    let refresh_rate = timeout(cx, "dns_refresh_rate", &value.dns_refresh_rate, Some(DNS_REFRESH_DEFAULT));
    let Some(refresh_rate) = refresh_rate else { return cx.refuse("dns_refresh_rate", "is zero") };
    let failure_refresh = match &value.dns_failure_refresh_rate {
        Some(rate) => Some(cx.at("dns_failure_refresh_rate", |cx| failure_refresh(cx, rate))?),
        None => None,
    };
    Some(DnsSettings {
        family,
        resolver: resolver(cx, value)?,
        refresh_rate,
        failure_refresh,
        jitter: duration(cx, "dns_jitter", &value.dns_jitter).unwrap_or_default(),
        respect_ttl: value.respect_dns_ttl,
    })
}

fn failure_refresh(cx: &mut Context<'_>, value: &pb::cluster::RefreshRate) -> Option<(Duration, Duration)> {
    let base = duration(cx, "base_interval", &value.base_interval).filter(|base| !base.is_zero());
    let Some(base) = base else { return cx.refuse("base_interval", "is not set, or 0") };
    let max = duration(cx, "max_interval", &value.max_interval)
        .unwrap_or(base.saturating_mul(FAILURE_REFRESH_MAX_DEFAULT));
    if max < base {
        return cx.refuse("max_interval", "is less than base_interval");
    }
    Some((base, max))
}

/// Compat: of the extension and the two older forms, the newest that is there counts.
fn resolver(cx: &mut Context<'_>, value: &pb::Cluster) -> Option<DnsResolver> {
    let typed = value.typed_dns_resolver_config.as_ref().and_then(|typed| typed.typed_config.as_ref());
    let servers = if let Some(any) = typed {
        if any.type_url.rsplit('/').next() == Some(GETADDRINFO) {
            return Some(DnsResolver::System);
        }
        if !holds::<CaresDnsResolverConfig>(any) {
            return cx.refuse("typed_dns_resolver_config", "is neither c-ares nor getaddrinfo");
        }
        cx.at("typed_dns_resolver_config.typed_config", |cx| cares(cx, any))?
    } else if let Some(older) = &value.dns_resolution_config {
        cx.at("dns_resolution_config", |cx| {
            servers(cx, "resolvers", &older.resolvers, older.dns_resolver_options.as_ref())
        })?
    } else {
        let options = core::DnsResolverOptions {
            use_tcp_for_dns_lookups: value.use_tcp_for_dns_lookups,
            no_default_search_domain: false,
        };
        servers(cx, "dns_resolvers", &value.dns_resolvers, Some(&options))?
    };
    Some(DnsResolver::Servers(Arc::new(servers)))
}

fn cares(cx: &mut Context<'_>, any: &prost_types::Any) -> Option<DnsServers> {
    let config = unpack::<CaresDnsResolverConfig>(cx, any)?;
    let servers = servers(cx, "resolvers", &config.resolvers, config.dns_resolver_options.as_ref())?;
    let timeout = match config.query_timeout_seconds {
        Some(0) => return cx.refuse("query_timeout_seconds", "is zero"),
        seconds => seconds.map(Duration::from_secs),
    };
    let attempts = match config.query_tries {
        Some(0) => return cx.refuse("query_tries", "is zero"),
        attempts => attempts,
    };
    Some(DnsServers {
        as_fallback: config.use_resolvers_as_fallback,
        rotate: config.rotate_nameservers,
        timeout,
        attempts,
        ..servers
    })
}

fn servers(
    cx: &mut Context<'_>,
    field: &str,
    list: &[core::Address],
    options: Option<&core::DnsResolverOptions>,
) -> Option<DnsServers> {
    let addresses: Box<[SocketAddr]> = cx.each(field, list, |cx, value| {
        let Some(mut server) = address(cx, Some(value))?.socket() else {
            return cx.refuse("address", "is no socket address");
        };
        if server.port() == 0 {
            server.set_port(53);
        }
        Some(server)
    });
    Some(DnsServers {
        addresses,
        as_fallback: false,
        tcp: options.is_some_and(|options| options.use_tcp_for_dns_lookups),
        search: !options.is_some_and(|options| options.no_default_search_domain),
        rotate: false,
        timeout: None,
        attempts: None,
    })
}
