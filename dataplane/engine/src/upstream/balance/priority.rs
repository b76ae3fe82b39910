//! How much of the traffic each priority takes, given how many of its hosts are healthy.
//!
//! A priority keeps all of its traffic while `healthy × 1.4 ≥ hosts` (the overprovisioning factor); what it
//! cannot carry spills to the next one. Degraded hosts take what no healthy host is left for. When every
//! priority is below its panic threshold, traffic is spread by host count and health is ignored.
//! Source: Envoy "Priority levels", "Degraded endpoints" and "Panic threshold" in its load-balancing pages.

/// The hosts of one priority, counted by health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounts {
    /// May be picked.
    pub healthy: u32,
    /// May be picked when healthy ones are not enough.
    pub degraded: u32,
    /// All of them, the unhealthy included.
    pub total: u32,
}

/// Share of the traffic of one priority, in percent; the sum over all priorities and both fields is 100
/// (0 when no host may be picked).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Percent for its healthy hosts.
    pub healthy: u32,
    /// Percent for its degraded hosts.
    pub degraded: u32,
    /// Too few healthy hosts: pick among all of them.
    pub panic: bool,
}

/// The settings that shape the spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Percent; Envoy `ClusterLoadAssignment.Policy.overprovisioning_factor`, default 140.
    pub overprovisioning_percent: u32,
    /// Percent, 0 turns panic off; Envoy `CommonLbConfig.healthy_panic_threshold`, default 50.
    pub panic_threshold_percent: u32,
}

impl Default for Spread {
    fn default() -> Self {
        Spread { overprovisioning_percent: 140, panic_threshold_percent: 50 }
    }
}

/// The load of each priority, first priority first.
pub fn loads(priorities: &[HostCounts], spread: Spread) -> Vec<Load> {
    let (mut loads, available) = distribute(priorities, spread);
    if available < 100 && spread.panic_threshold_percent > 0 {
        for (load, hosts) in loads.iter_mut().zip(priorities) {
            load.panic = hosts.total == 0
                || u64::from(hosts.healthy + hosts.degraded) * 100
                    < u64::from(hosts.total) * u64::from(spread.panic_threshold_percent);
        }
        if loads.iter().all(|load| load.panic) {
            spread_by_host_count(priorities, &mut loads);
        }
    }
    loads
}

/// The load when the priorities in `avoid` take none, or `loads` when the others could not carry anything.
/// Source: Envoy's retry priority `previous_priorities`.
pub fn without(priorities: &[HostCounts], loads: &[Load], spread: Spread, avoid: &[u32]) -> Vec<Load> {
    let rest = (0..).zip(priorities).map(|(priority, counts)| {
        if avoid.contains(&priority) { HostCounts { healthy: 0, degraded: 0, ..*counts } } else { *counts }
    });
    let (mut others, available) = distribute(&rest.collect::<Vec<_>>(), spread);
    if available == 0 {
        return loads.to_vec();
    }
    others.iter_mut().zip(loads).for_each(|(other, load)| other.panic = load.panic);
    others
}

/// Divides the traffic, and tells how much of it could be carried, in percent, at most 100.
fn distribute(priorities: &[HostCounts], spread: Spread) -> (Vec<Load>, u32) {
    let availability = |hosts: u32, total: u32| {
        if total == 0 {
            return 0;
        }
        (u64::from(spread.overprovisioning_percent) * u64::from(hosts) / u64::from(total)).min(100) as u32
    };
    let healthy: Vec<u32> = priorities.iter().map(|p| availability(p.healthy, p.total)).collect();
    let degraded: Vec<u32> = priorities.iter().map(|p| availability(p.degraded, p.total)).collect();
    let available = healthy.iter().chain(&degraded).sum::<u32>().min(100);
    let mut loads = vec![Load::default(); priorities.len()];
    if available > 0 {
        let share = |of: u32| of * 100 / available;
        let mut left = 100;
        for (load, available_here) in loads.iter_mut().zip(&healthy) {
            load.healthy = share(*available_here).min(left);
            left -= load.healthy;
        }
        for (load, available_here) in loads.iter_mut().zip(&degraded) {
            load.degraded = share(*available_here).min(left);
            left -= load.degraded;
        }
        // What integer division lost goes to the first priority that can carry anything.
        if let Some(first) = healthy.iter().position(|a| *a > 0) {
            loads[first].healthy += left;
        } else if let Some(first) = degraded.iter().position(|a| *a > 0) {
            loads[first].degraded += left;
        }
    }
    (loads, available)
}

/// Total panic: every priority takes its share of the hosts, whatever their health.
fn spread_by_host_count(priorities: &[HostCounts], loads: &mut [Load]) {
    let total: u64 = priorities.iter().map(|p| u64::from(p.total)).sum();
    let mut left = 100;
    for (load, hosts) in loads.iter_mut().zip(priorities) {
        let share = (u64::from(hosts.total) * 100).checked_div(total).unwrap_or(0) as u32;
        *load = Load { healthy: share, degraded: 0, panic: true };
        left -= share;
    }
    if let Some(first) = priorities.iter().position(|p| p.total > 0) {
        loads[first].healthy += left;
    }
}

/// The priority for a number drawn evenly from `0..100`, and whether its degraded hosts are meant.
pub fn choose(loads: &[Load], percent: u32) -> Option<(usize, bool)> {
    let mut sum = 0;
    for (priority, load) in loads.iter().enumerate() {
        sum += load.healthy;
        if percent < sum {
            return Some((priority, false));
        }
    }
    for (priority, load) in loads.iter().enumerate() {
        sum += load.degraded;
        if percent < sum {
            return Some((priority, true));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy_of(counts: &[(u32, u32)]) -> Vec<u32> {
        let counts: Vec<_> =
            counts.iter().map(|&(healthy, total)| HostCounts { healthy, degraded: 0, total }).collect();
        loads(&counts, Spread::default()).iter().map(|l| l.healthy).collect()
    }

    // The table of Envoy's "Priority levels" page, with two and three priorities.
    #[test]
    fn traffic_spills_over_as_envoy_documents() {
        assert_eq!(healthy_of(&[(100, 100), (100, 100)]), [100, 0]);
        assert_eq!(healthy_of(&[(72, 100), (72, 100)]), [100, 0]);
        assert_eq!(healthy_of(&[(71, 100), (71, 100)]), [99, 1]);
        assert_eq!(healthy_of(&[(50, 100), (50, 100)]), [70, 30]);
        assert_eq!(healthy_of(&[(25, 100), (100, 100)]), [35, 65]);
        assert_eq!(healthy_of(&[(25, 100), (25, 100)]), [50, 50]);
        assert_eq!(healthy_of(&[(0, 100), (25, 100), (100, 100)]), [0, 35, 65]);
    }

    #[test]
    fn a_healthy_total_never_panics() {
        let counts = [
            HostCounts { healthy: 1, degraded: 0, total: 10 },
            HostCounts { healthy: 10, degraded: 0, total: 10 },
        ];
        assert!(loads(&counts, Spread::default()).iter().all(|l| !l.panic));
    }

    #[test]
    fn below_the_threshold_everywhere_health_is_ignored() {
        let counts = [
            HostCounts { healthy: 1, degraded: 0, total: 30 },
            HostCounts { healthy: 1, degraded: 0, total: 10 },
        ];
        let loads = loads(&counts, Spread::default());
        assert_eq!(loads[0], Load { healthy: 75, degraded: 0, panic: true });
        assert_eq!(loads[1], Load { healthy: 25, degraded: 0, panic: true });
    }

    #[test]
    fn without_panic_nothing_healthy_means_no_load_at_all() {
        let counts = [HostCounts { healthy: 0, degraded: 0, total: 3 }];
        let spread = Spread { panic_threshold_percent: 0, ..Spread::default() };
        assert_eq!(choose(&loads(&counts, spread), 0), None);
    }

    #[test]
    fn degraded_hosts_take_what_healthy_ones_cannot() {
        let counts = [HostCounts { healthy: 1, degraded: 3, total: 4 }];
        let loads = loads(&counts, Spread::default());
        assert_eq!((loads[0].healthy, loads[0].degraded), (35, 65));
        assert_eq!(choose(&loads, 34), Some((0, false)));
        assert_eq!(choose(&loads, 35), Some((0, true)));
    }

    #[test]
    fn an_avoided_priority_takes_nothing_while_another_can() {
        let healthy = HostCounts { healthy: 2, degraded: 0, total: 2 };
        let sick = HostCounts { healthy: 0, degraded: 0, total: 2 };
        let after = |counts: &[HostCounts], avoid: &[u32]| -> Vec<u32> {
            let all = loads(counts, Spread::default());
            without(counts, &all, Spread::default(), avoid).iter().map(|load| load.healthy).collect()
        };
        assert_eq!(after(&[healthy, healthy], &[0]), [0, 100]);
        assert_eq!(after(&[healthy, sick], &[0]), [100, 0], "nobody else is there");
        assert_eq!(after(&[healthy, healthy], &[0, 1]), [100, 0], "all were tried");
    }

    #[test]
    fn loads_always_add_up_to_one_hundred() {
        for healthy in 0..=7 {
            for degraded in 0..=(7 - healthy) {
                for second in 0..=3 {
                    let counts = [
                        HostCounts { healthy, degraded, total: 7 },
                        HostCounts { healthy: second, degraded: 0, total: 3 },
                    ];
                    let sum: u32 =
                        loads(&counts, Spread::default()).iter().map(|l| l.healthy + l.degraded).sum();
                    assert_eq!(sum, 100, "{counts:?}");
                }
            }
        }
    }
}
