//! TCP proxies and the network filters before them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::config::listener::v3 as pb;
use ringsail_xds::envoy::extensions::filters::network::sni_cluster::v3::SniCluster;
use ringsail_xds::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use ringsail_xds::envoy::r#type::v3::{FractionalPercent, hash_policy::PolicySpecifier};
use ringsail_xds::ringsail::filters::network::fault::v1 as faults;

use super::access_log::access_logs;
use super::context::Context;
use super::subset::criteria;
use super::value::{duration, fraction, holds, timeout, unpack};
use crate::fraction::Fraction;
use crate::subset::Criteria;
use crate::tcp_fault::{ResetAt, TcpFault};
use crate::tcp_proxy::{Backoff, LogTimes, TcpCluster, TcpProxy};

/// Source: `TcpProxy.idle_timeout`.
const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3600);
/// Shortest `access_log_flush_interval`. Source: the field's rule in Envoy.
const LOG_INTERVAL_MIN: Duration = Duration::from_millis(1);
/// `backoff_options.max_interval` in base intervals when it is not set. Source: `BackoffStrategy.max_interval`.
const BACKOFF_MAX_DEFAULT: u32 = 10;

/// What filters before a terminal filter say of relaying.
#[derive(Default)]
pub(super) struct Before {
    cluster_by_server_name: bool,
    fault: Option<TcpFault>,
}

/// Reads the filters of a chain that concern relaying. A chain that serves HTTP may have none of them.
pub(super) fn before(cx: &mut Context<'_>, filters: &[pb::Filter], serves_http: bool) -> Option<Before> {
    let mut found = Before::default();
    for (index, filter) in filters.iter().enumerate() {
        let Some(pb::filter::ConfigType::TypedConfig(any)) = &filter.config_type else { continue };
        let (is_sni, is_fault) = (holds::<SniCluster>(any), holds::<faults::TcpFault>(any));
        if !is_sni && !is_fault {
            continue;
        }
        let field = format!("filters[{index}].typed_config");
        if serves_http {
            return cx.refuse(&field, "works before a TCP proxy only");
        }
        if is_sni {
            found.cluster_by_server_name = true;
        } else {
            let value: faults::TcpFault = unpack(cx, any)?;
            found.fault = Some(cx.at(&field, |cx| fault(cx, &value))?);
        }
    }
    Some(found)
}

pub(super) fn tcp_proxy(cx: &mut Context<'_>, value: &tcp::TcpProxy, before: Before) -> Option<TcpProxy> {
    use tcp::tcp_proxy::ClusterSpecifier;
    if value.stat_prefix.is_empty() {
        return cx.refuse("stat_prefix", "is empty");
    }
    let subset = cx.at("metadata_match", |cx| criteria(cx, value.metadata_match.as_ref(), None));
    let clusters: Box<[TcpCluster]> = match &value.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => Box::new([cluster(cx, name, 1, subset)?]),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => cx.at("weighted_clusters", |cx| {
            cx.each("clusters", &weighted.clusters, |cx, one| {
                let own =
                    cx.at("metadata_match", |cx| criteria(cx, one.metadata_match.as_ref(), subset.as_ref()));
                cluster(cx, &one.name, one.weight, own)
            })
        }),
        None => return cx.refuse("cluster", "is not set"),
    };
    let sum: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    let Some(total_weight) = u32::try_from(sum).ok().filter(|sum| *sum > 0) else {
        return cx.refuse("weighted_clusters", format_args!("weights add up to {sum}"));
    };
    let duration_max =
        timeout(cx, "max_downstream_connection_duration", &value.max_downstream_connection_duration, None);
    let jitter = value.max_downstream_connection_duration_jitter_percentage.map(|percent| percent.value);
    if jitter.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        return cx.refuse("max_downstream_connection_duration_jitter_percentage", "is not from 0 to 100");
    }
    Some(TcpProxy {
        stat_prefix: cx.intern(&value.stat_prefix),
        clusters,
        total_weight,
        cluster_by_server_name: before.cluster_by_server_name,
        hash_by_source_ip: hash_by_source_ip(cx, value)?,
        idle_timeout: timeout(cx, "idle_timeout", &value.idle_timeout, Some(IDLE_TIMEOUT_DEFAULT)),
        duration_max,
        duration_jitter_percent: jitter.unwrap_or(0.0),
        connect_attempts_max: value.max_connect_attempts.unwrap_or(1).max(1),
        backoff: match &value.backoff_options {
            Some(options) => Some(cx.at("backoff_options", |cx| backoff(cx, options))?),
            None => None,
        },
        connect_on_data: connect_on_data(cx, value)?,
        fault: before.fault,
        log_times: log_times(cx, value)?,
        access_logs: access_logs(cx, &value.access_log),
    })
}

fn cluster(
    cx: &mut Context<'_>,
    name: &str,
    weight: u32,
    subset: Option<Arc<Criteria>>,
) -> Option<TcpCluster> {
    if name.is_empty() {
        return cx.refuse("cluster", "is empty");
    }
    let (name, slot) = cx.cluster(name);
    Some(TcpCluster { name, slot, weight, subset })
}

fn hash_by_source_ip(cx: &mut Context<'_>, value: &tcp::TcpProxy) -> Option<bool> {
    for (index, policy) in value.hash_policy.iter().enumerate() {
        match &policy.policy_specifier {
            Some(PolicySpecifier::SourceIp(_)) => {}
            Some(PolicySpecifier::FilterState(_)) => {
                let field = format!("hash_policy[{index}].filter_state");
                return cx.refuse(&field, "no filter sets state that could be hashed");
            }
            None => return cx.refuse(&format!("hash_policy[{index}]"), "is no policy"),
        }
    }
    Some(!value.hash_policy.is_empty())
}

fn backoff(cx: &mut Context<'_>, value: &core::BackoffStrategy) -> Option<Backoff> {
    let base = duration(cx, "base_interval", &value.base_interval).filter(|base| !base.is_zero());
    let Some(base) = base else { return cx.refuse("base_interval", "is not set, or 0") };
    let max = duration(cx, "max_interval", &value.max_interval);
    match max {
        Some(max) if max < base => cx.refuse("max_interval", "is less than base_interval"),
        Some(max) => Some(Backoff { base, max }),
        None => Some(Backoff { base, max: base.saturating_mul(BACKOFF_MAX_DEFAULT) }),
    }
}

fn connect_on_data(cx: &mut Context<'_>, value: &tcp::TcpProxy) -> Option<bool> {
    match tcp::UpstreamConnectMode::try_from(value.upstream_connect_mode) {
        Ok(tcp::UpstreamConnectMode::Immediate) => Some(false),
        // Compat: Envoy refuses it, too.
        Ok(tcp::UpstreamConnectMode::OnDownstreamData) if value.max_early_data_bytes.is_none() => {
            cx.refuse("upstream_connect_mode", "needs max_early_data_bytes")
        }
        Ok(tcp::UpstreamConnectMode::OnDownstreamData) => Some(true),
        Ok(tcp::UpstreamConnectMode::OnDownstreamTlsHandshake) => {
            cx.refuse("upstream_connect_mode", "ON_DOWNSTREAM_TLS_HANDSHAKE is not supported")
        }
        Err(_) => cx.refuse("upstream_connect_mode", "is not known"),
    }
}

/// The options, or the older fields beside them.
fn log_times(cx: &mut Context<'_>, value: &tcp::TcpProxy) -> Option<LogTimes> {
    let (field, interval, on_connected, on_start) = match &value.access_log_options {
        Some(options) if value.access_log_flush_interval.is_some() || value.flush_access_log_on_connected => {
            let _ = options;
            return cx.refuse("access_log_options", "stands beside the older fields it replaces");
        }
        Some(options) => (
            "access_log_options.access_log_flush_interval",
            &options.access_log_flush_interval,
            options.flush_access_log_on_connected,
            options.flush_access_log_on_start,
        ),
        None => (
            "access_log_flush_interval",
            &value.access_log_flush_interval,
            value.flush_access_log_on_connected,
            false,
        ),
    };
    let interval = duration(cx, field, interval);
    if interval.is_some_and(|interval| interval < LOG_INTERVAL_MIN) {
        return cx.refuse(field, "is shorter than 1 ms");
    }
    Some(LogTimes { interval, on_connected, on_start })
}

fn fault(cx: &mut Context<'_>, value: &faults::TcpFault) -> Option<TcpFault> {
    let connect_delay = match &value.connect_delay {
        Some(one) => {
            let share = share(cx, "connect_delay", one.percentage)?;
            let Some(delay) = duration(cx, "connect_delay.delay", &one.delay) else {
                return cx.refuse("connect_delay.delay", "is not set");
            };
            Some((share, delay))
        }
        None => None,
    };
    let refuse = match &value.refuse {
        Some(one) => Some(share(cx, "refuse", one.percentage)?),
        None => None,
    };
    let blackhole = match &value.blackhole {
        Some(one) => Some(share(cx, "blackhole", one.percentage)?),
        None => None,
    };
    let reset = match &value.reset {
        Some(one) => {
            let share = share(cx, "reset", one.percentage)?;
            let at = ResetAt { bytes: one.after_bytes, time: duration(cx, "reset.after", &one.after) };
            if at == (ResetAt { bytes: None, time: None }) {
                return cx.refuse("reset", "needs after_bytes or after");
            }
            Some((share, at))
        }
        None => None,
    };
    let bandwidth = match &value.bandwidth {
        Some(one) if one.bytes_per_second == 0 => {
            return cx.refuse("bandwidth.bytes_per_second", "is 0; blackhole lets nothing through");
        }
        Some(one) => Some((share(cx, "bandwidth", one.percentage)?, one.bytes_per_second)),
        None => None,
    };
    let half_close = match &value.half_close {
        Some(one) => Some((share(cx, "half_close", one.percentage)?, one.after_bytes)),
        None => None,
    };
    let expires_at = match value.expires_at {
        Some(at) => match SystemTime::try_from(at) {
            Ok(at) => Some(at),
            Err(_) => return cx.refuse("expires_at", "is no moment"),
        },
        None => None,
    };
    Some(TcpFault { connect_delay, refuse, blackhole, reset, bandwidth, half_close, expires_at })
}

/// A fault without a share would be one of nobody or of everybody: it has to be said.
fn share(cx: &mut Context<'_>, field: &str, value: Option<FractionalPercent>) -> Option<Fraction> {
    match value {
        Some(value) => fraction(cx, &format!("{field}.percentage"), &value),
        None => cx.refuse(&format!("{field}.percentage"), "is not set"),
    }
}
