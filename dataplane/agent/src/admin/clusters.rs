//! `/clusters`: clusters that serve, with their endpoints, what the shards counted of them and what was found out about
//! their health.

use std::fmt::Write as _;
use std::sync::Arc;

use ringsail_tables::ResourceType;
use ringsail_tables::cluster::{Breakers, ClusterRef};
use ringsail_tables::endpoint::{Endpoint, Health, LocalityEndpoints};
use ringsail_tables::live::{HealthFlags, HostCount, HostLive, Origin};
use ringsail_xds::envoy::admin::v3::{
    ClusterStatus, Clusters, HostHealthStatus, HostStatus, SimpleMetric, simple_metric,
};
use ringsail_xds::envoy::config::cluster::v3::{CircuitBreakers, circuit_breakers::Thresholds};
use ringsail_xds::envoy::config::core::v3::{HealthStatus, Locality, RoutingPriority};
use ringsail_xds::envoy::r#type::v3::Percent;
use ringsail_xds::json::{Print, Schema};

use super::{Admin, Page, Query, listeners};
use crate::store;

/// What Envoy counts per endpoint, in the order of its text form. A waiting request belongs to no endpoint's connection
/// yet and is counted by its cluster.
const COUNTERS: [(&str, simple_metric::Type, Option<HostCount>); 9] = [
    ("cx_active", simple_metric::Type::Gauge, Some(HostCount::CxActive)),
    ("cx_connect_fail", simple_metric::Type::Counter, Some(HostCount::CxConnectFail)),
    ("cx_total", simple_metric::Type::Counter, Some(HostCount::CxTotal)),
    ("rq_active", simple_metric::Type::Gauge, Some(HostCount::RqActive)),
    ("rq_error", simple_metric::Type::Counter, Some(HostCount::RqError)),
    ("rq_pending_active", simple_metric::Type::Gauge, None),
    ("rq_success", simple_metric::Type::Counter, Some(HostCount::RqSuccess)),
    ("rq_timeout", simple_metric::Type::Counter, Some(HostCount::RqTimeout)),
    ("rq_total", simple_metric::Type::Counter, Some(HostCount::RqTotal)),
];

pub(super) fn page(admin: &Admin, query: &Query) -> Page {
    let filter = match query.regex("filter") {
        Ok(filter) => filter,
        Err(page) => return page,
    };
    let state = admin.state.borrow();
    let mut clusters: Vec<(ClusterRef<'_>, bool)> = state
        .tables
        .clusters()
        .filter(|one| filter.as_ref().is_none_or(|filter| filter.is_match(&one.cluster.name)))
        .map(|one| {
            let entry = state.store.get(ResourceType::Cluster, &one.cluster.name);
            (one, entry.is_none_or(|entry| entry.origin == store::Origin::Dynamic))
        })
        .collect();
    clusters.sort_by(|(one, _), (other, _)| one.cluster.name.cmp(&other.cluster.name));
    if query.get("format") == Some("json") {
        let statuses = clusters.iter().map(|(cluster, added)| status(cluster, *added)).collect();
        return Page::json(&Schema::shared().to_json(&Clusters { cluster_statuses: statuses }, Print::Set));
    }
    let mut text = String::new();
    for (cluster, added) in &clusters {
        write_text(cluster, *added, &mut text);
    }
    Page::ok(text)
}

fn status(one: &ClusterRef<'_>, added_via_api: bool) -> ClusterStatus {
    let thresholds = |priority: RoutingPriority, breakers: &Breakers| Thresholds {
        priority: priority.into(),
        max_connections: Some(breakers.connections_max),
        max_pending_requests: Some(breakers.pending_max),
        max_requests: Some(breakers.requests_max),
        max_retries: Some(breakers.retries_max),
        ..Thresholds::default()
    };
    ClusterStatus {
        name: one.cluster.name.to_string(),
        added_via_api,
        host_statuses: one
            .endpoints
            .iter()
            .map(|(priority, locality, host)| host_status(one, priority, locality, host))
            .collect(),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![
                thresholds(RoutingPriority::Default, &one.cluster.breakers),
                thresholds(RoutingPriority::High, &one.cluster.breakers_high),
            ],
            ..CircuitBreakers::default()
        }),
        success_rate_ejection_threshold: one.live.success_rate_threshold(Origin::External).map(percent),
        local_origin_success_rate_ejection_threshold: one
            .live
            .success_rate_threshold(Origin::Local)
            .map(percent),
        observability_name: one.cluster.stat_name().to_string(),
        eds_service_name: match &one.cluster.discovery {
            ringsail_tables::cluster::Discovery::Eds { service_name }
                if *service_name != one.cluster.name =>
            {
                service_name.to_string()
            }
            _ => String::new(),
        },
    }
}

fn percent(value: f64) -> Percent {
    Percent { value }
}

/// A count of an endpoint over all shards; 0 while nobody called it.
fn count(live: Option<&Arc<HostLive>>, of: Option<HostCount>) -> u64 {
    live.zip(of).map_or(0, |(live, of)| live.sum(of))
}

fn flags(live: Option<&Arc<HostLive>>) -> HealthFlags {
    live.map(|live| live.flags()).unwrap_or_default()
}

fn host_status(
    one: &ClusterRef<'_>,
    priority: usize,
    locality: &LocalityEndpoints,
    host: &Endpoint,
) -> HostStatus {
    let live = one.live.used_host(host.id);
    let flags = flags(live);
    let mut stats: Vec<SimpleMetric> = COUNTERS
        .iter()
        .map(|(name, kind, of)| SimpleMetric {
            name: name.to_string(),
            r#type: (*kind).into(),
            value: count(live, *of),
        })
        .collect();
    // Compat: in JSON counters come before gauges.
    stats.sort_by_key(|metric| metric.r#type);
    let eds_health_status = match host.health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Degraded => HealthStatus::Degraded,
        Health::Unhealthy => HealthStatus::Unhealthy,
        Health::Draining => HealthStatus::Draining,
    };
    HostStatus {
        address: Some(listeners::wire_address(&host.address)),
        stats,
        health_status: Some(HostHealthStatus {
            eds_health_status: eds_health_status.into(),
            failed_active_health_check: flags.any(HealthFlags::FAILED_ACTIVE_CHECK),
            failed_outlier_check: flags.any(HealthFlags::FAILED_OUTLIER_CHECK),
            failed_active_degraded_check: flags.any(HealthFlags::DEGRADED_ACTIVE_CHECK),
            pending_active_hc: flags.any(HealthFlags::PENDING_ACTIVE_CHECK),
            excluded_via_immediate_hc_fail: flags.any(HealthFlags::EXCLUDED_AT_ONCE),
            active_hc_timeout: flags.any(HealthFlags::ACTIVE_CHECK_TIMEOUT),
            ..HostHealthStatus::default()
        }),
        success_rate: live.and_then(|live| live.success_rate(Origin::External)).map(percent),
        local_origin_success_rate: live.and_then(|live| live.success_rate(Origin::Local)).map(percent),
        weight: host.weight,
        hostname: host.hostname.as_ref().map(ToString::to_string).unwrap_or_default(),
        priority: u32::try_from(priority).unwrap_or(u32::MAX),
        // Compat: Envoy always has the message, also for an endpoint without locality.
        locality: Some(locality.locality.as_ref().map_or_else(Locality::default, |locality| Locality {
            region: locality.region.to_string(),
            zone: locality.zone.to_string(),
            sub_zone: locality.sub_zone.to_string(),
        })),
    }
}

fn write_text(one: &ClusterRef<'_>, added_via_api: bool, out: &mut String) {
    let name = &one.cluster.name;
    let _ = writeln!(out, "{name}::observability_name::{}", one.cluster.stat_name());
    for (priority, breakers) in
        [("default_priority", &one.cluster.breakers), ("high_priority", &one.cluster.breakers_high)]
    {
        let _ = writeln!(out, "{name}::{priority}::max_connections::{}", breakers.connections_max);
        let _ = writeln!(out, "{name}::{priority}::max_pending_requests::{}", breakers.pending_max);
        let _ = writeln!(out, "{name}::{priority}::max_requests::{}", breakers.requests_max);
        let _ = writeln!(out, "{name}::{priority}::max_retries::{}", breakers.retries_max);
    }
    let _ = writeln!(out, "{name}::added_via_api::{added_via_api}");
    for (priority, locality, host) in one.endpoints.iter() {
        let at = &host.address;
        let live = one.live.used_host(host.id);
        for (counter, _, of) in COUNTERS {
            let _ = writeln!(out, "{name}::{at}::{counter}::{}", count(live, of));
        }
        let hostname = host.hostname.as_ref().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(out, "{name}::{at}::hostname::{hostname}");
        let _ = writeln!(out, "{name}::{at}::health_flags::{}", flags_text(host.health, flags(live)));
        let _ = writeln!(out, "{name}::{at}::weight::{}", host.weight);
        let part = |part: fn(&ringsail_tables::endpoint::Locality) -> &ringsail_tables::Str| {
            locality.locality.as_ref().map(|locality| part(locality).to_string()).unwrap_or_default()
        };
        let _ = writeln!(out, "{name}::{at}::region::{}", part(|locality| &locality.region));
        let _ = writeln!(out, "{name}::{at}::zone::{}", part(|locality| &locality.zone));
        let _ = writeln!(out, "{name}::{at}::sub_zone::{}", part(|locality| &locality.sub_zone));
        let _ = writeln!(out, "{name}::{at}::canary::false");
        let _ = writeln!(out, "{name}::{at}::priority::{priority}");
        for (label, origin) in
            [("success_rate", Origin::External), ("local_origin_success_rate", Origin::Local)]
        {
            let rate = live.and_then(|live| live.success_rate(origin)).unwrap_or(-1.0);
            let _ = writeln!(out, "{name}::{at}::{label}::{rate}");
        }
    }
}

/// Source: Envoy's `healthFlagsToString`: every flag that is set, in the order of the flags.
fn flags_text(by_eds: Health, flags: HealthFlags) -> String {
    let set = [
        (flags.any(HealthFlags::FAILED_ACTIVE_CHECK), "/failed_active_hc"),
        (flags.any(HealthFlags::FAILED_OUTLIER_CHECK), "/failed_outlier_check"),
        (by_eds == Health::Unhealthy, "/failed_eds_health"),
        (flags.any(HealthFlags::DEGRADED_ACTIVE_CHECK), "/degraded_active_hc"),
        (by_eds == Health::Degraded, "/degraded_eds_health"),
        (flags.any(HealthFlags::PENDING_ACTIVE_CHECK), "/pending_active_hc"),
        (flags.any(HealthFlags::EXCLUDED_AT_ONCE), "/excluded_via_immediate_hc_fail"),
        (flags.any(HealthFlags::ACTIVE_CHECK_TIMEOUT), "/active_hc_timeout"),
        (by_eds == Health::Draining, "/eds_status_draining"),
    ];
    let text: String = set.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    if text.is_empty() { "healthy".to_string() } else { text }
}
