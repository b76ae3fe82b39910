//! What one shard does for all: judges endpoints that fail, lets them back, and checks those that are to be checked.
//!
//! Every shard counts results in cells of its own ([`ringsail_tables::live`]). The judge reads them all, alone writes
//! the health flags, and counts up the cluster's health version, which every shard compares at its next pick.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Instant;

use hashbrown::HashMap;
use ringsail_runtime::mailbox::Mailbox;
use ringsail_runtime::task::{self, JoinHandle};
use ringsail_runtime::time::{now, sleep};
use ringsail_runtime::{Either, race};
use ringsail_tables::address::Address;
use ringsail_tables::cluster::{Cluster, ClusterRef, OutlierDetection};
use ringsail_tables::endpoint::Endpoints;
use ringsail_tables::health_check::HealthCheck;
use ringsail_tables::ids::{ClusterId, EndpointId};
use ringsail_tables::live::{HealthFlags, HostCount, InARow, Origin};
use ringsail_telemetry::{ClusterCounter, ClusterGauge};

use super::health::{self, Checked, Finding};
use super::host::{Fact, Report};
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
    checkers: HashMap<ClusterId, Checkers>,
}

/// The tasks that check the endpoints of a cluster.
struct Checkers {
    check: Arc<HealthCheck>,
    endpoints: Weak<Endpoints>,
    tasks: HashMap<EndpointId, (JoinHandle<()>, Rc<Subject>)>,
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
        if report.fact == Fact::SaysUnwell {
            let checkers = self.checkers.get(&cluster.id);
            let subject = checkers.and_then(|checkers| checkers.tasks.get(&report.endpoint));
            if let (Some((_, subject)), Some(check)) = (subject, &cluster.cluster.health_check) {
                subject.find(shard, Finding::ToldInPassing, check);
            }
            return;
        }
        let Some(detection) = &cluster.cluster.outlier_detection else { return };
        let Some(host) = cluster.live.host(report.endpoint) else { return };
        let court = self.courts.entry(cluster.id).or_insert_with(|| Court::new(detection));
        court.follow(&cluster);
        let events = match report.fact {
            Fact::FailedInARow(rule) => {
                let allowed = detection.in_a_row(rule);
                if allowed == 0 || host.run(rule) < allowed {
                    // Another shard reported the same row.
                    return;
                }
                let mut random = || fastrand::u64(..);
                let events =
                    court.detector.failed_in_a_row(report.endpoint, rule, detection, now(), &mut random);
                host.forget_run(rule);
                events
            }
            Fact::PassedCheck if detection.uneject_after_check => {
                court.detector.passed_check(report.endpoint, now()).into_iter().collect()
            }
            Fact::PassedCheck | Fact::SaysUnwell => return,
        };
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
        self.checkers.retain(|id, checkers| {
            let check = tables.cluster(*id).and_then(|cluster| cluster.cluster.health_check.as_ref());
            let stays = check.is_some_and(|check| Arc::ptr_eq(check, &checkers.check));
            if !stays {
                checkers.tasks.values().for_each(|(task, _)| task.abort());
            }
            stays
        });
        for cluster in tables.clusters() {
            if let Some(check) = &cluster.cluster.health_check {
                let checkers = self.checkers.entry(cluster.id).or_insert_with(|| Checkers {
                    check: check.clone(),
                    endpoints: Weak::new(),
                    tasks: HashMap::new(),
                });
                checkers.follow(shard, &cluster);
            }
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

impl Checkers {
    /// Starts and stops tasks so that exactly the endpoints of `cluster` are checked.
    fn follow(&mut self, shard: &Rc<Shard>, cluster: &ClusterRef<'_>) {
        if std::ptr::eq(self.endpoints.as_ptr(), Arc::as_ptr(cluster.endpoints)) {
            return;
        }
        self.endpoints = Arc::downgrade(cluster.endpoints);
        let mut old = std::mem::take(&mut self.tasks);
        for (_, _, endpoint) in cluster.endpoints.iter() {
            let task = old.remove(&endpoint.id).unwrap_or_else(|| {
                let address = match &endpoint.address {
                    Address::Socket(address) => (*address).into(),
                    Address::Pipe(path) => ringsail_runtime::net::Address::Unix(path.as_str().into()),
                };
                let subject = Rc::new(Subject {
                    cluster: cluster.id,
                    endpoint: endpoint.id,
                    address,
                    checked: RefCell::default(),
                });
                let checking = subject.clone().keep_checking(shard.clone(), self.check.clone());
                (task::spawn(checking), subject)
            });
            self.tasks.insert(endpoint.id, task);
        }
        old.values().for_each(|(task, _)| task.abort());
    }
}

/// An endpoint being checked.
struct Subject {
    cluster: ClusterId,
    endpoint: EndpointId,
    address: ringsail_runtime::net::Address,
    checked: RefCell<Checked>,
}

impl Subject {
    async fn keep_checking(self: Rc<Self>, shard: Rc<Shard>, check: Arc<HealthCheck>) {
        if !check.initial_jitter.is_zero() {
            sleep(check.initial_jitter.mul_f64(fastrand::f64())).await;
        }
        loop {
            let Some(settings) = self.begin(&shard) else { return };
            let asked = health::Asked {
                address: &self.address,
                cluster: &settings.name,
                connection: &settings.connection,
            };
            let finding = health::probe(&check, asked).await;
            let Some((changed, traffic)) = self.find(&shard, finding, &check) else { return };
            let pause = self.checked.borrow().pause(&check, changed, traffic, fastrand::u64(..));
            sleep(pause).await;
        }
    }

    /// A check begins; `None` when the cluster is gone.
    fn begin(&self, shard: &Rc<Shard>) -> Option<Arc<Cluster>> {
        let tables = shard.tables.current();
        let cluster = tables.cluster(self.cluster)?;
        shard.cluster(&cluster).stats.add(ClusterCounter::HealthCheckAttempt, 1);
        Some(cluster.cluster.clone())
    }

    /// Makes a finding known, and tells whether the health changed and whether the cluster is used; `None` when the
    /// endpoint is gone.
    fn find(&self, shard: &Rc<Shard>, finding: Finding, check: &HealthCheck) -> Option<(bool, bool)> {
        let turned = self.checked.borrow_mut().take(finding, check);
        let tables = shard.tables.current();
        let cluster = tables.cluster(self.cluster)?;
        let host = cluster.live.host(self.endpoint)?;
        let stats = &shard.cluster(&cluster).stats;
        match finding {
            Finding::Passed | Finding::Degraded => stats.add(ClusterCounter::HealthCheckSuccess, 1),
            Finding::Failed | Finding::FailedAtOnce | Finding::Retriable => {
                stats.add(ClusterCounter::HealthCheckFailure, 1);
            }
            Finding::ToldInPassing => {
                stats.add(ClusterCounter::HealthCheckFailure, 1);
                stats.add(ClusterCounter::HealthCheckPassiveFailure, 1);
            }
            Finding::NoAnswer | Finding::TimedOut => {
                stats.add(ClusterCounter::HealthCheckFailure, 1);
                stats.add(ClusterCounter::HealthCheckNetworkFailure, 1);
            }
        }
        let healthy = self.checked.borrow().is_healthy();
        let mut changed = host.set_flag(HealthFlags::PENDING_ACTIVE_CHECK, false);
        changed |= host.set_flag(HealthFlags::FAILED_ACTIVE_CHECK, !healthy);
        if finding.is_passed() {
            changed |= host.set_flag(HealthFlags::DEGRADED_ACTIVE_CHECK, finding == Finding::Degraded);
        }
        if healthy || finding.excludes() {
            changed |= host.set_flag(HealthFlags::EXCLUDED_AT_ONCE, !healthy);
        }
        host.set_flag(HealthFlags::ACTIVE_CHECK_TIMEOUT, !healthy && finding == Finding::TimedOut);
        if changed {
            cluster.live.health_changed();
        }
        let with = |flag: HealthFlags| {
            let flags = |id| cluster.live.host(id).map(|host| host.flags()).unwrap_or_default();
            cluster.endpoints.iter().filter(|(_, _, endpoint)| flags(endpoint.id).any(flag)).count()
        };
        let healthy_count = cluster.endpoints.len() - with(HealthFlags::FAILED_ACTIVE_CHECK);
        stats.set(ClusterGauge::HealthCheckHealthy, healthy_count as u64);
        let degraded_count = with(HealthFlags::DEGRADED_ACTIVE_CHECK);
        stats.set(ClusterGauge::HealthCheckDegraded, degraded_count as u64);
        if healthy && host.flags().any(HealthFlags::FAILED_OUTLIER_CHECK) {
            shard.clusters.report(Report {
                cluster: self.cluster,
                endpoint: self.endpoint,
                fact: Fact::PassedCheck,
            });
        }
        let of = |id| cluster.live.host(id).map_or(0, |host| host.sum(HostCount::CxTotal));
        Some((turned, cluster.endpoints.iter().any(|(_, _, endpoint)| of(endpoint.id) > 0)))
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
