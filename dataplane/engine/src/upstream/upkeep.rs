//! What one shard does for all: judges endpoints that fail, and lets them back.
//!
//! Every shard counts results in cells of its own ([`ringsail_tables::live`]). The judge reads them all, alone writes
//! the health flags, and counts up the cluster's health version, which every shard compares at its next pick.

use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Instant;

use hashbrown::HashMap;
use ringsail_runtime::mailbox::Mailbox;
use ringsail_runtime::time::{now, sleep};
use ringsail_runtime::{Either, race};
use ringsail_tables::cluster::{ClusterRef, OutlierDetection};
use ringsail_tables::endpoint::Endpoints;
use ringsail_tables::ids::{ClusterId, EndpointId};
use ringsail_tables::live::{HealthFlags, HostCount, InARow, Origin};
use ringsail_telemetry::{ClusterCounter, ClusterGauge};

use super::host::Report;
use super::outlier::{Cause, Detector, Event, Results};
use crate::limits::{UPKEEP_INTERVAL, UPKEEP_INTERVAL_MIN};
use crate::shard::Shard;

/// Judges for all shards until nobody reports any more. Run it on one shard.
pub async fn upkeep(shard: Rc<Shard>, mut reports: Mailbox<Report>) {
    let mut judge = Judge::default();
    let mut next = now();
    loop {
        let pause = sleep(next.saturating_duration_since(now()));
        match race(reports.recv(), pause).await {
            Either::Left(Some(report)) => judge.report(&shard, report),
            Either::Left(None) => return,
            Either::Right(()) => next = judge.sweep(&shard),
        }
    }
}

#[derive(Default)]
struct Judge {
    courts: HashMap<ClusterId, Court>,
}

/// A cluster being judged.
struct Court {
    detector: Detector,
    /// The endpoints it follows. Holds none alive; only keeps their address from being used for others.
    endpoints: Weak<Endpoints>,
    due: Instant,
}

impl Judge {
    fn report(&mut self, shard: &Rc<Shard>, report: Report) {
        let tables = shard.tables.current();
        let Some(cluster) = tables.cluster(report.cluster) else { return };
        let Some(detection) = &cluster.cluster.outlier_detection else { return };
        let Some(host) = cluster.live.host(report.endpoint) else { return };
        let allowed = detection.in_a_row(report.rule);
        if allowed == 0 || host.run(report.rule) < allowed {
            // Another shard reported the same row.
            return;
        }
        let court = self.courts.entry(cluster.id).or_insert_with(|| Court::new(detection));
        court.follow(&cluster);
        let mut random = || fastrand::u64(..);
        let (id, rule) = (report.endpoint, report.rule);
        let events = court.detector.failed_in_a_row(id, rule, detection, now(), &mut random);
        host.forget_run(rule);
        court.act(shard, &cluster, &events);
    }

    /// Does what is due, and tells when to come again.
    fn sweep(&mut self, shard: &Rc<Shard>) -> Instant {
        let tables = shard.tables.current();
        let now = now();
        let mut next = now + UPKEEP_INTERVAL;
        self.courts.retain(|id, court| {
            let Some(cluster) = tables.cluster(*id) else { return false };
            if cluster.cluster.outlier_detection.is_none() {
                court.release_all(shard, &cluster);
                return false;
            }
            true
        });
        for cluster in tables.clusters() {
            let Some(detection) = &cluster.cluster.outlier_detection else { continue };
            let court = self.courts.entry(cluster.id).or_insert_with(|| Court::new(detection));
            if court.due <= now {
                court.due = now + detection.interval;
                court.sweep(shard, &cluster, detection, now);
            }
            next = next.min(court.due);
        }
        next.max(now + UPKEEP_INTERVAL_MIN)
    }
}

impl Court {
    fn new(detection: &OutlierDetection) -> Court {
        Court { detector: Detector::default(), endpoints: Weak::new(), due: now() + detection.interval }
    }

    fn follow(&mut self, cluster: &ClusterRef<'_>) {
        if !std::ptr::eq(self.endpoints.as_ptr(), Arc::as_ptr(cluster.endpoints)) {
            self.endpoints = Arc::downgrade(cluster.endpoints);
            self.detector.follow(cluster.endpoints.iter().map(|(_, _, endpoint)| endpoint.id));
        }
    }

    fn sweep(
        &mut self,
        shard: &Rc<Shard>,
        cluster: &ClusterRef<'_>,
        detection: &OutlierDetection,
        now: Instant,
    ) {
        self.follow(cluster);
        let mut results = Vec::new();
        for (_, _, endpoint) in cluster.endpoints.iter() {
            let Some(host) = cluster.live.used_host(endpoint.id).filter(|host| host.is_used()) else {
                continue;
            };
            let of = |total, good| Results { total: host.sum(total), good: host.sum(good) };
            let external = of(HostCount::Results, HostCount::GoodResults);
            let local = of(HostCount::LocalResults, HostCount::GoodLocalResults);
            host.set_success_rate(Origin::External, None);
            host.set_success_rate(Origin::Local, None);
            results.push((endpoint.id, [external, local]));
        }
        if results.is_empty() {
            return;
        }
        let swept = self.detector.sweep(detection, now, &results, &mut || fastrand::u64(..));
        for (id, origin, rate) in swept.rates {
            if let Some(host) = cluster.live.used_host(id) {
                host.set_success_rate(origin, Some(rate));
            }
        }
        for origin in [Origin::External, Origin::Local] {
            cluster.live.set_success_rate_threshold(origin, swept.thresholds[origin as usize]);
        }
        self.act(shard, cluster, &swept.events);
    }

    fn release_all(&mut self, shard: &Rc<Shard>, cluster: &ClusterRef<'_>) {
        let events: Vec<Event> = self.detector.ejected().map(Event::Released).collect();
        self.detector = Detector::default();
        self.act(shard, cluster, &events);
    }

    /// Makes events come true.
    fn act(&mut self, shard: &Rc<Shard>, cluster: &ClusterRef<'_>, events: &[Event]) {
        let state = shard.cluster(cluster);
        for event in events {
            match *event {
                Event::Detected(cause) => state.stats.add(detected(cause), 1),
                Event::Overflow => state.stats.add(ClusterCounter::OutlierEjectionsOverflow, 1),
                Event::Ejected(id, cause) => {
                    state.stats.add(ClusterCounter::OutlierEjectionsEnforcedTotal, 1);
                    state.stats.add(enforced(cause), 1);
                    set_ejected(cluster, id, true);
                }
                Event::Released(id) => {
                    set_ejected(cluster, id, false);
                    if let Some(host) = cluster.live.used_host(id) {
                        [InARow::Answer5xx, InARow::Gateway, InARow::LocalOrigin]
                            .into_iter()
                            .for_each(|rule| host.forget_run(rule));
                    }
                }
            }
        }
        state.stats.set(ClusterGauge::OutlierEjectionsActive, self.detector.ejected().count() as u64);
    }
}

fn set_ejected(cluster: &ClusterRef<'_>, id: EndpointId, ejected: bool) {
    if let Some(host) = cluster.live.host(id)
        && host.set_flag(HealthFlags::FAILED_OUTLIER_CHECK, ejected)
    {
        cluster.live.health_changed();
    }
}

fn detected(cause: Cause) -> ClusterCounter {
    use ClusterCounter as C;
    match cause {
        Cause::Consecutive(InARow::Answer5xx) => C::OutlierEjectionsDetectedConsecutive5xx,
        Cause::Consecutive(InARow::Gateway) => C::OutlierDetectedGateway,
        Cause::Consecutive(InARow::LocalOrigin) => C::OutlierDetectedLocal,
        Cause::SuccessRate(Origin::External) => C::OutlierDetectedSuccessRate,
        Cause::SuccessRate(Origin::Local) => C::OutlierDetectedLocalSuccessRate,
        Cause::FailurePercentage(Origin::External) => C::OutlierDetectedFailurePercentage,
        Cause::FailurePercentage(Origin::Local) => C::OutlierDetectedLocalFailurePercentage,
    }
}

fn enforced(cause: Cause) -> ClusterCounter {
    use ClusterCounter as C;
    match cause {
        Cause::Consecutive(InARow::Answer5xx) => C::OutlierEjectionsEnforcedConsecutive5xx,
        Cause::Consecutive(InARow::Gateway) => C::OutlierEnforcedGateway,
        Cause::Consecutive(InARow::LocalOrigin) => C::OutlierEnforcedLocal,
        Cause::SuccessRate(Origin::External) => C::OutlierEnforcedSuccessRate,
        Cause::SuccessRate(Origin::Local) => C::OutlierEnforcedLocalSuccessRate,
        Cause::FailurePercentage(Origin::External) => C::OutlierEnforcedFailurePercentage,
        Cause::FailurePercentage(Origin::Local) => C::OutlierEnforcedLocalFailurePercentage,
    }
}
