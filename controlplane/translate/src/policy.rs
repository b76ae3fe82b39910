//! Traffic policy of a DestinationRule as settings of a cluster.

use ringsail_api::istio::mesh::v1alpha1::mesh_config::H2UpgradePolicy as MeshUpgradePolicy;
use ringsail_api::networking::connection_pool_settings::http_settings::H2UpgradePolicy;
use ringsail_api::networking::connection_pool_settings::tcp_settings;
use ringsail_api::networking::load_balancer_settings::consistent_hash_lb::HashAlgorithm;
use ringsail_api::networking::load_balancer_settings::{LbPolicy as DeclaredPolicy, SimpleLb};
use ringsail_api::networking::traffic_policy::RetryBudget;
use ringsail_api::networking::{ConnectionPoolSettings, LoadBalancerSettings, OutlierDetection};
use ringsail_model::{Locality, MeshSettings, Protocol};
use ringsail_xds::envoy::config::cluster::v3::circuit_breakers::{Thresholds, thresholds};
use ringsail_xds::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
    RoundRobinLbConfig, SlowStartConfig, common_lb_config,
};
use ringsail_xds::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, OutlierDetection as EnvoyOutlierDetection, UpstreamConnectionOptions,
};
use ringsail_xds::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonHttpOptions, KeepaliveSettings,
    RuntimeDouble, TcpKeepalive,
};
use ringsail_xds::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use ringsail_xds::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig, explicit_http_config,
};
use ringsail_xds::envoy::r#type::v3::Percent;
use ringsail_xds::pack;

/// Key of the upstream HTTP settings of a cluster.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// `minimumRingSize` default. Source: Istio API, `ConsistentHashLB.RingHash`.
const RING_SIZE_MIN_DEFAULT: u64 = 1024;

/// `retryBudget.percent` default. Source: Istio API, `TrafficPolicy.RetryBudget`.
const RETRY_BUDGET_PERCENT_DEFAULT: f64 = 20.0;
/// `retryBudget.minRetryConcurrency` default. Source: as above.
const RETRY_CONCURRENCY_MIN_DEFAULT: u32 = 3;

/// HTTP version towards the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamProtocol {
    /// HTTP/1.1, Envoy's default.
    Http1,
    /// HTTP/2.
    Http2,
    /// What the client spoke.
    Downstream,
}

/// Thresholds without a limit, unless the pool sets one.
pub(crate) fn circuit_breakers(
    pool: Option<&ConnectionPoolSettings>,
    budget: Option<&RetryBudget>,
) -> CircuitBreakers {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());
    let limit = |value: Option<i32>| {
        Some(
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value != 0).unwrap_or(u32::MAX),
        )
    };
    CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: limit(tcp.map(|tcp| tcp.max_connections)),
            max_pending_requests: limit(http.map(|http| http.http1_max_pending_requests)),
            max_requests: limit(http.map(|http| http.http2_max_requests)),
            max_retries: limit(http.map(|http| http.max_retries)),
            retry_budget: budget.map(|budget| thresholds::RetryBudget {
                budget_percent: Some(Percent {
                    value: budget.percent.unwrap_or(RETRY_BUDGET_PERCENT_DEFAULT),
                }),
                budget_interval: budget.budget_interval,
                min_retry_concurrency: Some(match budget.min_retry_concurrency {
                    0 => RETRY_CONCURRENCY_MIN_DEFAULT,
                    declared => declared,
                }),
            }),
            track_remaining: true,
            ..Thresholds::default()
        }],
        ..CircuitBreakers::default()
    }
}

/// Connect timeout and TCP keep-alive.
pub(crate) fn apply_pool(
    cluster: &mut Cluster,
    pool: Option<&ConnectionPoolSettings>,
    settings: &MeshSettings,
) {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    if let Some(timeout) = tcp.and_then(|tcp| tcp.connect_timeout) {
        cluster.connect_timeout = Some(timeout);
    }
    let keepalive = tcp.and_then(|tcp| tcp.tcp_keepalive).or(settings.config.tcp_keepalive);
    if let Some(tcp_settings::TcpKeepalive { probes, time, interval }) = keepalive {
        let seconds = |d: Option<prost_types::Duration>| d.and_then(|d| u32::try_from(d.seconds).ok());
        cluster.upstream_connection_options = Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_probes: (probes != 0).then_some(probes),
                keepalive_time: seconds(time),
                keepalive_interval: seconds(interval),
            }),
            ..UpstreamConnectionOptions::default()
        });
    }
}

/// Upstream HTTP settings; absent when Envoy's defaults hold.
pub(crate) fn apply_protocol(
    cluster: &mut Cluster,
    protocol: UpstreamProtocol,
    declared: Protocol,
    pool: Option<&ConnectionPoolSettings>,
    settings: &MeshSettings,
) {
    let http = pool.and_then(|pool| pool.http.as_ref());
    let upgrade = match http.map(|http| http.h2_upgrade_policy()) {
        Some(H2UpgradePolicy::Upgrade) => true,
        Some(H2UpgradePolicy::DoNotUpgrade) => false,
        Some(H2UpgradePolicy::Default) | None => {
            settings.config.h2_upgrade_policy() == MeshUpgradePolicy::Upgrade
        }
    };
    let protocol = match protocol {
        _ if http.is_some_and(|http| http.use_client_protocol) => UpstreamProtocol::Downstream,
        UpstreamProtocol::Http1 if upgrade && declared.is_http() => UpstreamProtocol::Http2,
        other => other,
    };
    let mut http2 = Http2ProtocolOptions::default();
    let mut common = None;
    if let Some(http) = http {
        http2.max_concurrent_streams =
            u32::try_from(http.max_concurrent_streams).ok().filter(|streams| *streams != 0);
        http2.connection_keepalive = http.http2_keep_alive.map(|keep| KeepaliveSettings {
            interval: keep.interval,
            timeout: keep.timeout,
            ..KeepaliveSettings::default()
        });
        let requests = u32::try_from(http.max_requests_per_connection).ok().filter(|requests| *requests != 0);
        common = Some(CommonHttpOptions {
            idle_timeout: http.idle_timeout,
            max_requests_per_connection: requests,
            ..CommonHttpOptions::default()
        });
    }
    if let Some(tcp) = pool.and_then(|pool| pool.tcp.as_ref()) {
        let options = common.get_or_insert_with(CommonHttpOptions::default);
        options.max_connection_duration = tcp.max_connection_duration;
        options.idle_timeout = options.idle_timeout.or(tcp.idle_timeout);
    }
    let common = common.filter(|options| *options != CommonHttpOptions::default());
    let explicit = |config| {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        }))
    };
    let protocol = match protocol {
        UpstreamProtocol::Http1 if common.is_none() => return,
        UpstreamProtocol::Http1 => explicit(explicit_http_config::ProtocolConfig::HttpProtocolOptions(
            Http1ProtocolOptions::default(),
        )),
        UpstreamProtocol::Http2 => {
            explicit(explicit_http_config::ProtocolConfig::Http2ProtocolOptions(http2))
        }
        UpstreamProtocol::Downstream => Some(downstream(http2)),
    };
    let options = HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_protocol_options: protocol,
        ..HttpProtocolOptions::default()
    };
    cluster.typed_extension_protocol_options.insert(HTTP_OPTIONS.to_owned(), pack(&options));
}

/// Speaks upstream what the client spoke, for clusters outside a traffic policy; `idle_timeout` limits idle
/// connections.
pub(crate) fn use_downstream_protocol(cluster: &mut Cluster, idle_timeout: Option<prost_types::Duration>) {
    let options = HttpProtocolOptions {
        common_http_protocol_options: idle_timeout
            .map(|timeout| CommonHttpOptions { idle_timeout: Some(timeout), ..CommonHttpOptions::default() }),
        upstream_protocol_options: Some(downstream(Http2ProtocolOptions::default())),
        ..HttpProtocolOptions::default()
    };
    cluster.typed_extension_protocol_options.insert(HTTP_OPTIONS.to_owned(), pack(&options));
}

fn downstream(http2: Http2ProtocolOptions) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(http2),
        ..UseDownstreamHttpConfig::default()
    })
}

/// Whether the policy sends requests to the dialled address.
pub(crate) fn asks_for_original_destination(lb: Option<&LoadBalancerSettings>) -> bool {
    matches!(lb.and_then(|lb| lb.lb_policy.as_ref()), Some(DeclaredPolicy::Simple(simple))
        if SimpleLb::try_from(*simple) == Ok(SimpleLb::Passthrough))
}

/// Balancing policy, slow start and locality weights.
pub(crate) fn apply_load_balancer(
    cluster: &mut Cluster,
    lb: Option<&LoadBalancerSettings>,
    settings: &MeshSettings,
    locality: &Locality,
) {
    let slow_start = lb.and_then(slow_start);
    let declared = lb.and_then(|lb| lb.lb_policy.as_ref());
    match declared {
        Some(DeclaredPolicy::ConsistentHash(hash)) => match hash.hash_algorithm {
            Some(HashAlgorithm::Maglev(maglev)) => {
                cluster.lb_policy = LbPolicy::Maglev as i32;
                if maglev.table_size != 0 {
                    let config = MaglevLbConfig { table_size: Some(maglev.table_size) };
                    cluster.lb_config = Some(LbConfig::MaglevLbConfig(config));
                }
            }
            ring => {
                let declared = match ring {
                    Some(HashAlgorithm::RingHash(ring)) => ring.minimum_ring_size,
                    _ => hash.minimum_ring_size,
                };
                cluster.lb_policy = LbPolicy::RingHash as i32;
                cluster.lb_config = Some(LbConfig::RingHashLbConfig(RingHashLbConfig {
                    minimum_ring_size: Some(if declared == 0 { RING_SIZE_MIN_DEFAULT } else { declared }),
                    ..RingHashLbConfig::default()
                }));
            }
        },
        simple => {
            let simple = match simple {
                Some(DeclaredPolicy::Simple(simple)) => {
                    SimpleLb::try_from(*simple).unwrap_or(SimpleLb::Unspecified)
                }
                _ => SimpleLb::Unspecified,
            };
            match simple {
                SimpleLb::Unspecified
                | SimpleLb::LeastConn
                | SimpleLb::LeastRequest
                | SimpleLb::Passthrough => {
                    cluster.lb_policy = LbPolicy::LeastRequest as i32;
                    if slow_start.is_some() {
                        cluster.lb_config = Some(LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                            slow_start_config: slow_start,
                            ..LeastRequestLbConfig::default()
                        }));
                    }
                }
                SimpleLb::RoundRobin => {
                    cluster.lb_policy = LbPolicy::RoundRobin as i32;
                    if slow_start.is_some() {
                        let config = RoundRobinLbConfig { slow_start_config: slow_start };
                        cluster.lb_config = Some(LbConfig::RoundRobinLbConfig(config));
                    }
                }
                SimpleLb::Random => cluster.lb_policy = LbPolicy::Random as i32,
            }
        }
    }
    let setting =
        lb.and_then(|lb| lb.locality_lb_setting.as_ref()).or(settings.config.locality_lb_setting.as_ref());
    let enabled = setting.is_none_or(|setting| setting.enabled != Some(false));
    let distributes = setting.is_some_and(|setting| !setting.distribute.is_empty());
    if enabled && !locality.is_empty() && (distributes || cluster.outlier_detection.is_some()) {
        let common = cluster.common_lb_config.get_or_insert_with(CommonLbConfig::default);
        common.locality_config_specifier =
            Some(common_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig(
                common_lb_config::LocalityWeightedLbConfig {},
            ));
    }
}

/// `warmup`, or its deprecated form with only a duration.
fn slow_start(lb: &LoadBalancerSettings) -> Option<SlowStartConfig> {
    let (window, minimum_percent, aggression) = match (&lb.warmup, lb.warmup_duration_secs) {
        (Some(warmup), _) => (warmup.duration?, warmup.minimum_percent, warmup.aggression),
        (None, Some(duration)) => (duration, None, None),
        (None, None) => return None,
    };
    Some(SlowStartConfig {
        slow_start_window: Some(window),
        aggression: aggression
            .map(|value| RuntimeDouble { default_value: value, runtime_key: "aggression".to_owned() }),
        min_weight_percent: minimum_percent.map(|value| Percent { value }),
    })
}

/// Ejection of failing hosts; success-rate ejection is always off.
pub(crate) fn apply_outlier_detection(cluster: &mut Cluster, outlier: Option<&OutlierDetection>) {
    let Some(outlier) = outlier else { return };
    // A value of 0 switches the rule off, which Envoy says with an enforcing share of 0.
    let enforced = |count: u32| Some(if count > 0 { 100 } else { 0 });
    let mut config = EnvoyOutlierDetection {
        enforcing_success_rate: Some(0),
        interval: outlier.interval,
        base_ejection_time: outlier.base_ejection_time,
        split_external_local_origin_errors: outlier.split_external_local_origin_errors,
        ..EnvoyOutlierDetection::default()
    };
    if let Some(count) = outlier.consecutive_5xx_errors {
        config.consecutive_5xx = Some(count);
        config.enforcing_consecutive_5xx = enforced(count);
    }
    if let Some(count) = outlier.consecutive_gateway_errors {
        config.consecutive_gateway_failure = Some(count);
        config.enforcing_consecutive_gateway_failure = enforced(count);
    }
    if outlier.split_external_local_origin_errors
        && let Some(count) = outlier.consecutive_local_origin_failures
    {
        config.consecutive_local_origin_failure = Some(count);
        config.enforcing_consecutive_local_origin_failure = enforced(count);
    }
    if let Ok(percent @ 1..) = u32::try_from(outlier.max_ejection_percent) {
        config.max_ejection_percent = Some(percent);
    }
    cluster.outlier_detection = Some(config);
    let common = cluster.common_lb_config.get_or_insert_with(CommonLbConfig::default);
    common.healthy_panic_threshold = Some(Percent { value: f64::from(outlier.min_health_percent.max(0)) });
}
