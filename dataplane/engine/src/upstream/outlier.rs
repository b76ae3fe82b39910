//! Which endpoints of a cluster are ejected, for how long, and why. Pure: it is told results and the time.
//!
//! Compat: thresholds, their order, and the growth and decay of ejection times are Envoy's
//! (`OutlierDetection`, and its page "Outlier detection").

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use ringsail_tables::cluster::OutlierDetection;
use ringsail_tables::ids::EndpointId;
use ringsail_tables::live::{InARow, Origin};

/// What is known of the endpoints of one cluster.
#[derive(Debug, Default)]
pub struct Detector {
    monitors: HashMap<EndpointId, Monitor>,
}

#[derive(Debug, Default)]
struct Monitor {
    ejected: Option<Ejection>,
    /// Multiplies the base ejection time of the next ejection.
    backoff: u32,
    released: Option<Instant>,
    /// Results up to the last sweep, by origin.
    seen: [Results; 2],
}

#[derive(Clone, Copy, Debug)]
struct Ejection {
    at: Instant,
    jitter: Duration,
}

/// Results of an endpoint since it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// All.
    pub total: u64,
    /// Those without an error.
    pub good: u64,
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It failed often in a row.
    Consecutive(InARow),
    /// Its success rate is far below the others'.
    SuccessRate(Origin),
    /// Its share of failures is too large.
    FailurePercentage(Origin),
}

/// What came of a judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An endpoint fulfils a rule.
    Detected(Cause),
    /// It gets no more requests.
    Ejected(EndpointId, Cause),
    /// It would have been ejected, but too many are already.
    Overflow,
    /// It gets requests again.
    Released(EndpointId),
}

/// What a sweep found out besides.
#[derive(Debug, Default, PartialEq)]
pub struct Swept {
    /// In order.
    pub events: Vec<Event>,
    /// Success rates in percent, of endpoints with enough requests.
    pub rates: Vec<(EndpointId, Origin, f64)>,
    /// The success rate below which endpoints are ejected, by origin, where enough endpoints had requests.
    pub thresholds: [Option<f64>; 2],
}

impl Detector {
    /// Watches exactly these endpoints; what was known of others is forgotten.
    pub fn follow(&mut self, endpoints: impl Iterator<Item = EndpointId>) {
        let mut old = std::mem::take(&mut self.monitors);
        self.monitors = endpoints.map(|id| (id, old.remove(&id).unwrap_or_default())).collect();
    }

    /// Endpoints that are ejected now.
    pub fn ejected(&self) -> impl Iterator<Item = EndpointId> {
        self.monitors.iter().filter(|(_, monitor)| monitor.ejected.is_some()).map(|(id, _)| *id)
    }

    /// An endpoint failed as often in a row as its rule allows.
    pub fn failed_in_a_row(
        &mut self,
        id: EndpointId,
        rule: InARow,
        config: &OutlierDetection,
        now: Instant,
        random: &mut impl FnMut() -> u64,
    ) -> Vec<Event> {
        match self.monitors.get(&id) {
            Some(monitor) if monitor.ejected.is_none() => {}
            Some(_) | None => return Vec::new(),
        }
        let mut events = Vec::new();
        self.detected(id, Cause::Consecutive(rule), config, now, random, &mut events);
        events
    }

    /// An active check found an ejected endpoint healthy.
    pub fn passed_check(&mut self, id: EndpointId, now: Instant) -> Option<Event> {
        let monitor = self.monitors.get_mut(&id)?;
        monitor.ejected.take()?;
        monitor.released = Some(now);
        Some(Event::Released(id))
    }

    /// What is due at the end of an interval. `results` are those since each endpoint is there.
    pub fn sweep(
        &mut self,
        config: &OutlierDetection,
        now: Instant,
        results: &[(EndpointId, [Results; 2])],
        random: &mut impl FnMut() -> u64,
    ) -> Swept {
        let mut swept = Swept::default();
        for (id, monitor) in &mut self.monitors {
            let Some(ejection) = monitor.ejected else { continue };
            let time = (config.base_ejection_time * monitor.backoff).min(config.max_ejection_time);
            if time + ejection.jitter <= now.saturating_duration_since(ejection.at) {
                monitor.ejected = None;
                monitor.released = Some(now);
                swept.events.push(Event::Released(*id));
            }
        }
        for origin in [Origin::External, Origin::Local] {
            self.judge_rates(origin, config, now, results, random, &mut swept);
        }
        for monitor in self.monitors.values_mut() {
            // Who stays well for an interval is ejected for a shorter time when it fails again.
            let long_enough =
                monitor.released.is_some_and(|at| now.saturating_duration_since(at) >= config.interval);
            if monitor.ejected.is_none() && long_enough {
                monitor.backoff = monitor.backoff.saturating_sub(1);
            }
        }
        swept
    }

    fn judge_rates(
        &mut self,
        origin: Origin,
        config: &OutlierDetection,
        now: Instant,
        results: &[(EndpointId, [Results; 2])],
        random: &mut impl FnMut() -> u64,
        swept: &mut Swept,
    ) {
        let mut for_success_rate: Vec<(EndpointId, f64)> = Vec::new();
        let mut for_failure_percentage: Vec<(EndpointId, f64)> = Vec::new();
        let volumes = (
            u64::from(config.success_rate_request_volume),
            u64::from(config.failure_percentage_request_volume),
        );
        for (id, all) in results {
            let Some(monitor) = self.monitors.get_mut(id) else { continue };
            let seen = std::mem::replace(&mut monitor.seen[origin as usize], all[origin as usize]);
            let total = all[origin as usize].total.wrapping_sub(seen.total);
            let good = all[origin as usize].good.wrapping_sub(seen.good);
            if monitor.ejected.is_some() || total == 0 {
                continue;
            }
            let rate = good as f64 * 100.0 / total as f64;
            if total >= volumes.0.min(volumes.1) {
                swept.rates.push((*id, origin, rate));
            }
            if total >= volumes.0 {
                for_success_rate.push((*id, rate));
            }
            if total >= volumes.1 {
                for_failure_percentage.push((*id, rate));
            }
        }
        let enough =
            |hosts: &[(EndpointId, f64)], minimum: u32| !hosts.is_empty() && hosts.len() >= minimum as usize;
        if enough(&for_success_rate, config.success_rate_minimum_hosts) {
            let threshold = success_rate_threshold(&for_success_rate, config.success_rate_stdev_factor);
            swept.thresholds[origin as usize] = Some(threshold);
            for (id, _) in for_success_rate.iter().filter(|(_, rate)| *rate < threshold) {
                self.detected(*id, Cause::SuccessRate(origin), config, now, random, &mut swept.events);
            }
        }
        if enough(&for_failure_percentage, config.failure_percentage_minimum_hosts) {
            let threshold = f64::from(config.failure_percentage_threshold);
            for (id, _) in for_failure_percentage.iter().filter(|(_, rate)| 100.0 - rate >= threshold) {
                self.detected(*id, Cause::FailurePercentage(origin), config, now, random, &mut swept.events);
            }
        }
    }

    /// Ejects an endpoint if its cluster allows one more, and chance wants it.
    fn detected(
        &mut self,
        id: EndpointId,
        cause: Cause,
        config: &OutlierDetection,
        now: Instant,
        random: &mut impl FnMut() -> u64,
        events: &mut Vec<Event>,
    ) {
        events.push(Event::Detected(cause));
        let (ejected, hosts) = (self.ejected().count() as u64, self.monitors.len() as u64);
        let allowed = (ejected + 1) * 100 <= u64::from(config.max_ejection_percent.min(100)) * hosts
            || (config.always_eject_one_host && ejected == 0);
        if !allowed {
            events.push(Event::Overflow);
            return;
        }
        let Some(monitor) = self.monitors.get_mut(&id).filter(|monitor| monitor.ejected.is_none()) else {
            return;
        };
        if random() % 100 >= u64::from(enforcing(config, cause)) {
            return;
        }
        let jitter_max = config.max_ejection_time_jitter.as_millis() as u64;
        let jitter = Duration::from_millis(random() % (jitter_max + 1));
        monitor.ejected = Some(Ejection { at: now, jitter });
        if config.base_ejection_time * monitor.backoff < config.max_ejection_time + config.base_ejection_time
        {
            monitor.backoff += 1;
        }
        events.push(Event::Ejected(id, cause));
    }
}

/// The percent chance that a cause ejects.
fn enforcing(config: &OutlierDetection, cause: Cause) -> u32 {
    match cause {
        Cause::Consecutive(InARow::Answer5xx) => config.enforcing_consecutive_5xx,
        Cause::Consecutive(InARow::Gateway) => config.enforcing_consecutive_gateway_failure,
        Cause::Consecutive(InARow::LocalOrigin) => config.enforcing_consecutive_local_origin_failure,
        Cause::SuccessRate(Origin::External) => config.enforcing_success_rate,
        Cause::SuccessRate(Origin::Local) => config.enforcing_local_origin_success_rate,
        Cause::FailurePercentage(Origin::External) => config.enforcing_failure_percentage,
        Cause::FailurePercentage(Origin::Local) => config.enforcing_failure_percentage_local_origin,
    }
}

/// Mean minus so many thousandths of the standard deviation.
fn success_rate_threshold(rates: &[(EndpointId, f64)], factor: u32) -> f64 {
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    mean - f64::from(factor) / 1000.0 * variance.sqrt()
}

#[cfg(test)]
mod tests;
