//! Load balancing: the old `lb_policy` fields and the extensions of `load_balancing_policy`.

use ringsail_xds::envoy::config::cluster::v3 as pb;
use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::extensions::load_balancing_policies as ext;
use ringsail_xds::envoy::extensions::load_balancing_policies::common::v3 as common;
use ringsail_xds::envoy::r#type::v3::Percent;

use super::context::Context;
use super::subset::subsets;
use super::value::{duration, holds, percent, unpack};
use crate::balancing::{HashFunction, LbPolicy, LoadBalancing, SlowStart, ZoneAware};
use crate::cluster::Discovery;
use crate::limits::{MAGLEV_TABLE_MAX, RING_SIZE_MAX};

/// Source: `CommonLbConfig.healthy_panic_threshold`.
const PANIC_PERCENT_DEFAULT: u8 = 50;
/// Source: `LeastRequestLbConfig.choice_count`.
const LEAST_REQUEST_CHOICES_DEFAULT: u32 = 2;
/// Source: `RingHashLbConfig.minimum_ring_size`.
const RING_SIZE_MIN_DEFAULT: u64 = 1024;
/// Source: `MaglevLbConfig.table_size`.
const MAGLEV_TABLE_DEFAULT: u64 = 65_537;
/// Source: `ZoneAwareLbConfig.routing_enabled` and `.min_cluster_size`.
const ZONE_AWARE_DEFAULT: ZoneAware = ZoneAware { routing_percent: 100, hosts_min: 6 };
/// Source: `SlowStartConfig.min_weight_percent`.
const SLOW_START_WEIGHT_PERCENT_DEFAULT: f64 = 10.0;

/// The load balancing of a cluster.
pub(super) fn balancing(
    cx: &mut Context<'_>,
    value: &pb::Cluster,
    discovery: &Discovery,
) -> Option<LoadBalancing> {
    let shared = common_config(cx, value)?;
    let balancing = match &value.load_balancing_policy {
        // Compat: Envoy looks at nothing else when the extension is there.
        Some(list) => extension(cx, list, shared)?,
        None => by_field(cx, value, shared)?,
    };
    let original_dst = matches!(discovery, Discovery::OriginalDst { .. });
    if original_dst && balancing.subsets.is_some() {
        return cx.refuse("lb_subset_config", "excludes ORIGINAL_DST: its endpoints have no metadata");
    }
    match (original_dst, balancing.policy == LbPolicy::ClusterProvided) {
        (false, true) => cx.refuse("lb_policy", "CLUSTER_PROVIDED belongs to ORIGINAL_DST clusters"),
        (true, false) => cx.refuse("lb_policy", "ORIGINAL_DST clusters need CLUSTER_PROVIDED"),
        _ => Some(balancing),
    }
}

/// What `common_lb_config` says, with a policy to be replaced.
fn common_config(cx: &mut Context<'_>, value: &pb::Cluster) -> Option<LoadBalancing> {
    use pb::cluster::common_lb_config::LocalityConfigSpecifier as Locality;
    let config = value.common_lb_config.clone().unwrap_or_default();
    let panic_percent = match &config.healthy_panic_threshold {
        Some(threshold) => percent(cx, "common_lb_config.healthy_panic_threshold", threshold.value.round())?,
        None => PANIC_PERCENT_DEFAULT,
    };
    let hashing = config.consistent_hashing_lb_config.unwrap_or_default();
    let (zone, fail_on_panic) = match &config.locality_config_specifier {
        Some(Locality::ZoneAwareLbConfig(zone)) => {
            let field = "common_lb_config.zone_aware_lb_config.routing_enabled";
            (
                Some(zone_aware(cx, field, &zone.routing_enabled, zone.min_cluster_size)?),
                zone.fail_traffic_on_panic,
            )
        }
        Some(Locality::LocalityWeightedLbConfig(_)) => (None, false),
        // Compat: where nothing else is said about localities, zones count.
        None => (Some(ZONE_AWARE_DEFAULT), false),
    };
    Some(LoadBalancing {
        policy: LbPolicy::RoundRobin,
        locality_weighted: matches!(
            config.locality_config_specifier,
            Some(Locality::LocalityWeightedLbConfig(_))
        ),
        panic_percent,
        zone,
        fail_on_panic,
        slow_start: None,
        subsets: cx.at("lb_subset_config", |cx| subsets(cx, value.lb_subset_config.as_ref()))?,
        hash_by_hostname: hashing.use_hostname_for_hashing,
        hash_balance_percent: balance_percent(
            cx,
            "common_lb_config.consistent_hashing_lb_config.hash_balance_factor",
            hashing.hash_balance_factor,
        )?,
    })
}

fn balance_percent(cx: &mut Context<'_>, field: &str, factor: Option<u32>) -> Option<Option<u32>> {
    match factor {
        None | Some(0) => Some(None),
        Some(factor @ 100..) => Some(Some(factor)),
        Some(_) => cx.refuse(field, "is below 100"),
    }
}

fn by_field(cx: &mut Context<'_>, value: &pb::Cluster, shared: LoadBalancing) -> Option<LoadBalancing> {
    use pb::cluster::{LbConfig, LbPolicy as Wire};
    let mut slow_start = None;
    let policy = match Wire::try_from(value.lb_policy) {
        Ok(Wire::RoundRobin) => {
            if let Some(LbConfig::RoundRobinLbConfig(config)) = &value.lb_config {
                slow_start = cx.at("round_robin_lb_config", |cx| {
                    old_slow_start(cx, config.slow_start_config.as_ref())
                })?;
            }
            LbPolicy::RoundRobin
        }
        Ok(Wire::LeastRequest) => {
            let config = match &value.lb_config {
                Some(LbConfig::LeastRequestLbConfig(config)) => config.clone(),
                _ => pb::cluster::LeastRequestLbConfig::default(),
            };
            cx.at("least_request_lb_config", |cx| {
                slow_start = old_slow_start(cx, config.slow_start_config.as_ref())?;
                least_request(cx, config.choice_count, false, config.active_request_bias.as_ref())
            })?
        }
        Ok(Wire::Random) => LbPolicy::Random,
        Ok(Wire::ClusterProvided) => LbPolicy::ClusterProvided,
        Ok(Wire::RingHash) => {
            use pb::cluster::ring_hash_lb_config::HashFunction as Function;
            let config = match &value.lb_config {
                Some(LbConfig::RingHashLbConfig(config)) => *config,
                _ => pb::cluster::RingHashLbConfig::default(),
            };
            cx.at("ring_hash_lb_config", |cx| {
                let function = match Function::try_from(config.hash_function) {
                    Ok(Function::XxHash) => HashFunction::XxHash,
                    Ok(Function::MurmurHash2) => HashFunction::MurmurHash2,
                    Err(_) => return cx.refuse("hash_function", "is not known"),
                };
                ring(cx, config.minimum_ring_size, config.maximum_ring_size, function)
            })?
        }
        Ok(Wire::Maglev) => {
            let size = match &value.lb_config {
                Some(LbConfig::MaglevLbConfig(config)) => config.table_size,
                _ => None,
            };
            cx.at("maglev_lb_config", |cx| maglev(cx, size))?
        }
        Ok(Wire::LoadBalancingPolicyConfig) => {
            return cx.refuse("load_balancing_policy", "is not set, as lb_policy says");
        }
        Err(_) => return cx.refuse("lb_policy", "is not known"),
    };
    Some(LoadBalancing { policy, slow_start, ..shared })
}

/// The first policy of the list that is known, as in Envoy.
fn extension(
    cx: &mut Context<'_>,
    list: &pb::LoadBalancingPolicy,
    shared: LoadBalancing,
) -> Option<LoadBalancing> {
    // Compat: everything but the panic threshold comes from the extension.
    let shared = LoadBalancing {
        locality_weighted: false,
        zone: Some(ZONE_AWARE_DEFAULT),
        fail_on_panic: false,
        hash_by_hostname: false,
        hash_balance_percent: None,
        subsets: None,
        ..shared
    };
    for (index, policy) in list.policies.iter().enumerate() {
        let Some(any) = policy.typed_extension_config.as_ref().and_then(|one| one.typed_config.as_ref())
        else {
            continue;
        };
        let mark = cx.report.enter(format_args!(
            "load_balancing_policy.policies[{index}].typed_extension_config.typed_config"
        ));
        let found = one_extension(cx, any, shared.clone());
        cx.report.leave(mark);
        if found.is_some() || cx.report.is_refused() {
            return found;
        }
    }
    cx.refuse("load_balancing_policy.policies", "holds no policy that is supported")
}

fn one_extension(
    cx: &mut Context<'_>,
    any: &prost_types::Any,
    shared: LoadBalancing,
) -> Option<LoadBalancing> {
    if holds::<ext::round_robin::v3::RoundRobin>(any) {
        let config = unpack::<ext::round_robin::v3::RoundRobin>(cx, any)?;
        let slow_start = slow_start(cx, config.slow_start_config.as_ref())?;
        let policy = LbPolicy::RoundRobin;
        with_locality(cx, config.locality_lb_config.as_ref(), LoadBalancing { policy, slow_start, ..shared })
    } else if holds::<ext::least_request::v3::LeastRequest>(any) {
        use ext::least_request::v3::least_request::SelectionMethod;
        let config = unpack::<ext::least_request::v3::LeastRequest>(cx, any)?;
        let scan = config.enable_full_scan.unwrap_or(false)
            || config.selection_method == SelectionMethod::FullScan as i32;
        let slow_start = slow_start(cx, config.slow_start_config.as_ref())?;
        let policy = least_request(cx, config.choice_count, scan, config.active_request_bias.as_ref())?;
        with_locality(cx, config.locality_lb_config.as_ref(), LoadBalancing { policy, slow_start, ..shared })
    } else if holds::<ext::random::v3::Random>(any) {
        let config = unpack::<ext::random::v3::Random>(cx, any)?;
        let policy = LbPolicy::Random;
        with_locality(cx, config.locality_lb_config.as_ref(), LoadBalancing { policy, ..shared })
    } else if holds::<ext::ring_hash::v3::RingHash>(any) {
        let config = unpack::<ext::ring_hash::v3::RingHash>(cx, any)?;
        ring_extension(cx, config, shared)
    } else if holds::<ext::maglev::v3::Maglev>(any) {
        let config = unpack::<ext::maglev::v3::Maglev>(cx, any)?;
        let policy = maglev(cx, config.table_size)?;
        let locality_weighted = config.locality_weighted_lb_config.is_some();
        let hashing = config.consistent_hashing_lb_config.as_ref();
        with_hashing(cx, hashing, LoadBalancing { policy, locality_weighted, ..shared })
    } else if holds::<ext::cluster_provided::v3::ClusterProvided>(any) {
        Some(LoadBalancing { policy: LbPolicy::ClusterProvided, ..shared })
    } else if holds::<ext::wrr_locality::v3::WrrLocality>(any) {
        let config = unpack::<ext::wrr_locality::v3::WrrLocality>(cx, any)?;
        let Some(inner) = &config.endpoint_picking_policy else {
            return cx.refuse("endpoint_picking_policy", "is not set");
        };
        let inner = cx.at("endpoint_picking_policy", |cx| extension(cx, inner, shared))?;
        Some(LoadBalancing { locality_weighted: true, zone: None, ..inner })
    } else {
        None
    }
}

fn ring_extension(
    cx: &mut Context<'_>,
    config: ext::ring_hash::v3::RingHash,
    shared: LoadBalancing,
) -> Option<LoadBalancing> {
    use ext::ring_hash::v3::ring_hash::HashFunction as Function;
    let function = match Function::try_from(config.hash_function) {
        Ok(Function::DefaultHash | Function::XxHash) => HashFunction::XxHash,
        Ok(Function::MurmurHash2) => HashFunction::MurmurHash2,
        Err(_) => return cx.refuse("hash_function", "is not known"),
    };
    let policy = ring(cx, config.minimum_ring_size, config.maximum_ring_size, function)?;
    let locality_weighted = config.locality_weighted_lb_config.is_some();
    let old = common::ConsistentHashingLbConfig {
        use_hostname_for_hashing: config.use_hostname_for_hashing,
        hash_balance_factor: config.hash_balance_factor,
        hash_policy: Vec::new(),
    };
    let hashing = config.consistent_hashing_lb_config.as_ref().unwrap_or(&old);
    with_hashing(cx, Some(hashing), LoadBalancing { policy, locality_weighted, ..shared })
}

fn with_hashing(
    cx: &mut Context<'_>,
    config: Option<&common::ConsistentHashingLbConfig>,
    shared: LoadBalancing,
) -> Option<LoadBalancing> {
    let Some(config) = config else { return Some(shared) };
    Some(LoadBalancing {
        hash_by_hostname: config.use_hostname_for_hashing,
        hash_balance_percent: balance_percent(cx, "hash_balance_factor", config.hash_balance_factor)?,
        ..shared
    })
}

fn with_locality(
    cx: &mut Context<'_>,
    config: Option<&common::LocalityLbConfig>,
    shared: LoadBalancing,
) -> Option<LoadBalancing> {
    use common::locality_lb_config::LocalityConfigSpecifier as Locality;
    Some(match config.and_then(|config| config.locality_config_specifier.as_ref()) {
        Some(Locality::LocalityWeightedLbConfig(_)) => {
            LoadBalancing { locality_weighted: true, zone: None, ..shared }
        }
        Some(Locality::ZoneAwareLbConfig(zone)) => {
            let field = "locality_lb_config.zone_aware_lb_config.routing_enabled";
            let found = zone_aware(cx, field, &zone.routing_enabled, zone.min_cluster_size)?;
            LoadBalancing { zone: Some(found), fail_on_panic: zone.fail_traffic_on_panic, ..shared }
        }
        None => shared,
    })
}

fn zone_aware(
    cx: &mut Context<'_>,
    field: &str,
    routing_enabled: &Option<Percent>,
    min_cluster_size: Option<u64>,
) -> Option<ZoneAware> {
    let routing_percent = match routing_enabled {
        Some(enabled) => percent(cx, field, enabled.value.round())?,
        None => ZONE_AWARE_DEFAULT.routing_percent,
    };
    let hosts_min =
        min_cluster_size.map_or(ZONE_AWARE_DEFAULT.hosts_min, |size| u32::try_from(size).unwrap_or(u32::MAX));
    Some(ZoneAware { routing_percent, hosts_min })
}

fn least_request(
    cx: &mut Context<'_>,
    choices: Option<u32>,
    scan: bool,
    bias: Option<&core::RuntimeDouble>,
) -> Option<LbPolicy> {
    let choices = choices.unwrap_or(LEAST_REQUEST_CHOICES_DEFAULT);
    if choices < 2 {
        return cx.refuse("choice_count", "is below 2");
    }
    let bias = bias.map_or(1.0, |bias| bias.default_value);
    if !bias.is_finite() || bias < 0.0 {
        return cx.refuse("active_request_bias", format_args!("{bias} is below 0"));
    }
    Some(LbPolicy::LeastRequest { choices: (!scan).then_some(choices), active_request_bias: bias })
}

fn ring(
    cx: &mut Context<'_>,
    size_min: Option<u64>,
    size_max: Option<u64>,
    function: HashFunction,
) -> Option<LbPolicy> {
    let size_min = size_min.unwrap_or(RING_SIZE_MIN_DEFAULT);
    let size_max = size_max.unwrap_or(RING_SIZE_MAX);
    if size_max > RING_SIZE_MAX {
        return cx.refuse("maximum_ring_size", format_args!("{size_max} is above {RING_SIZE_MAX}"));
    }
    if size_min > size_max {
        return cx.refuse("minimum_ring_size", format_args!("{size_min} is above maximum_ring_size"));
    }
    Some(LbPolicy::RingHash { size_min, size_max, function })
}

fn maglev(cx: &mut Context<'_>, size: Option<u64>) -> Option<LbPolicy> {
    let size = size.unwrap_or(MAGLEV_TABLE_DEFAULT);
    if size > MAGLEV_TABLE_MAX {
        return cx.refuse("table_size", format_args!("{size} is above {MAGLEV_TABLE_MAX}"));
    }
    if !is_prime(size) {
        return cx.refuse("table_size", format_args!("{size} is no prime number"));
    }
    // MAGLEV_TABLE_MAX fits.
    Some(LbPolicy::Maglev { table_size: size as u32 })
}

fn is_prime(number: u64) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

fn old_slow_start(
    cx: &mut Context<'_>,
    value: Option<&pb::cluster::SlowStartConfig>,
) -> Option<Option<SlowStart>> {
    let value = value.map(|value| common::SlowStartConfig {
        slow_start_window: value.slow_start_window,
        aggression: value.aggression.clone(),
        min_weight_percent: value.min_weight_percent,
    });
    slow_start(cx, value.as_ref())
}

/// `Some(None)` without slow start, `None` after a refusal.
fn slow_start(cx: &mut Context<'_>, value: Option<&common::SlowStartConfig>) -> Option<Option<SlowStart>> {
    let Some(value) = value else { return Some(None) };
    cx.at("slow_start_config", |cx| {
        let window = duration(cx, "slow_start_window", &value.slow_start_window);
        if cx.report.is_refused() {
            return None;
        }
        let aggression = value.aggression.as_ref().map_or(1.0, |aggression| aggression.default_value);
        if !aggression.is_finite() || aggression <= 0.0 {
            return cx.refuse("aggression", format_args!("{aggression} is not above 0"));
        }
        let least = value
            .min_weight_percent
            .as_ref()
            .map_or(SLOW_START_WEIGHT_PERCENT_DEFAULT, |p: &Percent| p.value);
        if !(0.0..=100.0).contains(&least) {
            return cx.refuse("min_weight_percent", format_args!("{least} is no percentage"));
        }
        let window = window.filter(|window| !window.is_zero());
        Some(window.map(|window| SlowStart { window, aggression, weight_min: least / 100.0 }))
    })
}

#[cfg(test)]
mod tests {
    use super::is_prime;

    #[test]
    fn primes_are_told_from_products() {
        let primes: Vec<u64> = (0..30).filter(|n| is_prime(*n)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && is_prime(5_000_011) && !is_prime(65_537 * 3));
    }
}
