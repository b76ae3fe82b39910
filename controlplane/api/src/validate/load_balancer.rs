//! Load balancing: hashing, localities, warm-up.

use std::collections::BTreeSet;

use crate::networking::load_balancer_settings::consistent_hash_lb::{HashAlgorithm, HashKey};
use crate::networking::load_balancer_settings::{ConsistentHashLb, LbPolicy};
use crate::networking::{LoadBalancerSettings, LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting};
use crate::validate::checker::Checker;
use crate::validate::common::duration;

/// Largest Maglev table. Source: Envoy `MaglevLbConfig.table_size`.
const MAGLEV_TABLE_MAX: u64 = 5_000_011;

/// Labels by which topology is compared anyway.
const TOPOLOGY_LABELS: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

/// `loadBalancer`. `detects_outliers`: the same policy has `outlierDetection`.
pub(crate) fn check(checker: &mut Checker, settings: &LoadBalancerSettings, detects_outliers: bool) {
    if let Some(LbPolicy::ConsistentHash(hash)) = &settings.lb_policy {
        checker.field("consistentHash", |checker| consistent_hash(checker, hash));
    }
    if settings.locality_lb_setting.is_some() && settings.zone_aware_lb_setting.is_some() {
        checker.error("`localityLbSetting` and `zoneAwareLbSetting` exclude each other");
    }
    checker.set("localityLbSetting", settings.locality_lb_setting.as_ref(), |checker, setting| {
        locality(checker, setting, detects_outliers);
    });
    checker.set("zoneAwareLbSetting", settings.zone_aware_lb_setting.as_ref(), |checker, setting| {
        zone_aware(checker, setting, detects_outliers);
    });
    checker.set("warmup", settings.warmup.as_ref(), |checker, warmup| {
        match &warmup.duration {
            Some(value) => checker.field("duration", |checker| duration(checker, value)),
            None => {
                checker.error("`duration` is required");
            }
        }
        if warmup.minimum_percent.is_some_and(|percent| percent > 100.0) {
            checker.error("`minimumPercent` is more than 100");
        }
        if warmup.aggression.is_some_and(|aggression| aggression <= 0.0) {
            checker.error("`aggression` must be greater than 0");
        }
    });
}

fn consistent_hash(checker: &mut Checker, hash: &ConsistentHashLb) {
    if let Some(HashKey::HttpCookie(cookie)) = &hash.hash_key {
        checker.field("httpCookie", |checker| {
            if cookie.name.is_empty() {
                checker.error("the cookie has no name");
            }
            let mut seen = BTreeSet::new();
            checker.each("attributes", &cookie.attributes, |checker, attribute| {
                if attribute.name.is_empty() {
                    checker.error("the attribute has no name");
                } else if !seen.insert(attribute.name.as_str()) {
                    checker.error(format!("`{}` stands twice", attribute.name));
                }
            });
        });
    }
    if hash.minimum_ring_size != 0 {
        checker.field("minimumRingSize", |checker| {
            let fix = "use `ringHash: {minimumRingSize: …}`";
            checker.warning("`minimumRingSize` is deprecated here").fix(fix);
            if hash.hash_algorithm.is_some() {
                checker.error("excludes `ringHash` and `maglev`");
            }
        });
    }
    if let Some(HashAlgorithm::Maglev(maglev)) = &hash.hash_algorithm {
        checker.field("maglev", |checker| {
            let size = maglev.table_size;
            if size == 0 || size >= MAGLEV_TABLE_MAX || !is_prime(size) {
                checker
                    .error(format!("`tableSize` {size} is not a prime number below {MAGLEV_TABLE_MAX}"))
                    .fix("use 65537");
            }
        });
    }
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

fn locality(checker: &mut Checker, setting: &LocalityLoadBalancerSetting, detects_outliers: bool) {
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        checker.error("`distribute` and `failover` exclude each other");
        return;
    }
    let by_topology =
        setting.failover_priority.iter().find(|label| TOPOLOGY_LABELS.contains(&label.as_str()));
    if let (false, Some(label)) = (setting.failover.is_empty(), by_topology) {
        checker.error(format!("`failover` and `{label}` in `failoverPriority` exclude each other"));
        return;
    }
    checker.each("distribute", &setting.distribute, |checker, distribute| {
        let outside = distribute.to.values().any(|weight| !(1..=100).contains(weight));
        let total: u64 = distribute.to.values().map(|weight| u64::from(*weight)).sum();
        checker.field("to", |checker| {
            if outside {
                checker.error("weights must be between 1 and 100");
            } else if total != 100 {
                checker.error(format!("the weights add up to {total}, not to 100"));
            }
            localities(checker, distribute.to.keys().map(String::as_str));
        });
    });
    localities(checker, setting.distribute.iter().map(|distribute| distribute.from.as_str()));
    failover_needs_outliers(
        checker,
        !setting.failover.is_empty() || !setting.failover_priority.is_empty(),
        detects_outliers,
    );
    checker.each("failover", &setting.failover, |checker, failover| {
        regions(checker, &failover.from, &failover.to);
    });
}

fn zone_aware(checker: &mut Checker, setting: &ZoneAwareLoadBalancerSetting, detects_outliers: bool) {
    checker.each("failoverPriority", &setting.failover_priority, |checker, label| {
        if TOPOLOGY_LABELS.contains(&label.as_str()) {
            checker.error(format!("`{label}` is compared anyway")).fix("leave it out");
        }
    });
    failover_needs_outliers(
        checker,
        !setting.failover.is_empty() || !setting.failover_priority.is_empty(),
        detects_outliers,
    );
    checker.each("failover", &setting.failover, |checker, failover| {
        regions(checker, &failover.from, &failover.to);
    });
}

fn failover_needs_outliers(checker: &mut Checker, fails_over: bool, detects_outliers: bool) {
    if fails_over && !detects_outliers {
        let fix = "add `outlierDetection` to the same policy";
        checker.warning("failover has no effect without outlier detection").fix(fix);
    }
}

fn regions(checker: &mut Checker, from: &str, to: &str) {
    if from == to {
        checker.error("`from` and `to` must be different regions");
    }
    for region in [from, to] {
        if region.contains(['/', '*']) {
            checker.error(format!("`{region}` is not a region")).fix("name regions, without zones and `*`");
        }
    }
}

/// Localities (`region/zone/subzone`, `*` at the end) must not overlap.
fn localities<'a>(checker: &mut Checker, list: impl Iterator<Item = &'a str>) {
    let mut before: Vec<Vec<&str>> = Vec::new();
    for locality in list {
        let parts: Vec<&str> = locality.split('/').collect();
        let stars = locality.matches('*').count();
        if stars > 1 || stars == 1 && !locality.ends_with('*') {
            checker.error(format!("locality `{locality}`: `*` may stand once, at the end"));
            return;
        }
        if parts.len() > 3 || parts.iter().any(|part| part.is_empty()) {
            checker.error(format!("locality `{locality}` is not REGION, REGION/ZONE or REGION/ZONE/SUBZONE"));
            return;
        }
        let parts: Vec<&str> = parts.into_iter().take_while(|part| *part != "*").collect();
        let overlaps = |earlier: &Vec<&str>| earlier.iter().zip(&parts).all(|(left, right)| left == right);
        if before.iter().any(overlaps) {
            checker.error(format!("locality `{locality}` overlaps with another one"));
            return;
        }
        before.push(parts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(list: &[&str]) -> Vec<String> {
        let mut checker = Checker::new([]);
        localities(&mut checker, list.iter().copied());
        checker.into_findings().into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn localities_that_contain_each_other_overlap() {
        assert_eq!(messages(&["a/x/1", "a/x/2", "a/y/*", "b"]), Vec::<String>::new());
        for list in [["a", "a/x"], ["*", "a"], ["a/x/*", "a/x/1"], ["a/x", "a/x"]] {
            assert_eq!(messages(&list).len(), 1, "{list:?}");
        }
        assert_eq!(messages(&["a/*/x"]).len(), 1);
        assert_eq!(messages(&["a//x"]).len(), 1);
    }

    #[test]
    fn primes_are_told_from_other_numbers() {
        assert!([2, 3, 65537, 5_000_011].into_iter().all(is_prime));
        assert!(![0, 1, 4, 65536, 65535].into_iter().any(is_prime));
    }
}
