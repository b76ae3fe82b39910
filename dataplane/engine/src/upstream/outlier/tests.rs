use super::*;

fn config() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 5,
        enforcing_consecutive_5xx: 100,
        consecutive_gateway_failure: 5,
        enforcing_consecutive_gateway_failure: 100,
        consecutive_local_origin_failure: 5,
        enforcing_consecutive_local_origin_failure: 100,
        split_external_local_origin_errors: false,
        interval: seconds(10),
        base_ejection_time: seconds(30),
        max_ejection_time: seconds(100),
        max_ejection_percent: 100,
        enforcing_success_rate: 100,
        success_rate_minimum_hosts: 5,
        success_rate_request_volume: 100,
        success_rate_stdev_factor: 1900,
        enforcing_local_origin_success_rate: 100,
        failure_percentage_threshold: 85,
        enforcing_failure_percentage: 0,
        enforcing_failure_percentage_local_origin: 0,
        failure_percentage_minimum_hosts: 5,
        failure_percentage_request_volume: 50,
        max_ejection_time_jitter: Duration::ZERO,
        always_eject_one_host: false,
        uneject_after_check: true,
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn id(slot: u32) -> EndpointId {
    EndpointId { slot, generation: 1 }
}

fn detector(hosts: u32) -> Detector {
    let mut detector = Detector::default();
    detector.follow((0..hosts).map(id));
    detector
}

const ROW: Cause = Cause::Consecutive(InARow::Answer5xx);

fn fail(detector: &mut Detector, host: u32, config: &OutlierDetection, now: Instant) -> Vec<Event> {
    detector.failed_in_a_row(id(host), InARow::Answer5xx, config, now, &mut || 0)
}

fn released(detector: &mut Detector, config: &OutlierDetection, now: Instant) -> bool {
    let events = detector.sweep(config, now, &[], &mut || 0).events;
    events.iter().any(|event| matches!(event, Event::Released(_)))
}

#[test]
fn a_row_of_failures_ejects_and_time_releases() {
    let (mut detector, config, start) = (detector(2), config(), Instant::now());
    assert_eq!(fail(&mut detector, 0, &config, start), [Event::Detected(ROW), Event::Ejected(id(0), ROW)]);
    assert_eq!(fail(&mut detector, 0, &config, start), [], "it is ejected already");
    assert!(!released(&mut detector, &config, start + seconds(29)));
    assert!(released(&mut detector, &config, start + seconds(30)));
    assert_eq!(detector.ejected().count(), 0);
}

#[test]
fn each_ejection_lasts_longer_up_to_the_maximum_and_wellness_shortens_it() {
    let (mut detector, config) = (detector(2), config());
    let mut now = Instant::now();
    for length in [30, 60, 90, 100, 100] {
        fail(&mut detector, 0, &config, now);
        assert!(!released(&mut detector, &config, now + seconds(length) - seconds(1)), "{length}");
        now += seconds(length);
        assert!(released(&mut detector, &config, now), "{length}");
    }
    // Well for many intervals: the next ejection is a first one again.
    for _ in 0..10 {
        now += config.interval;
        detector.sweep(&config, now, &[], &mut || 0);
    }
    fail(&mut detector, 0, &config, now);
    assert!(released(&mut detector, &config, now + seconds(30)));
}

#[test]
fn no_more_than_the_maximum_share_is_ejected() {
    let (mut detector, now) = (detector(4), Instant::now());
    let config = OutlierDetection { max_ejection_percent: 50, ..config() };
    assert_eq!(fail(&mut detector, 0, &config, now).len(), 2);
    assert_eq!(fail(&mut detector, 1, &config, now).len(), 2);
    assert_eq!(fail(&mut detector, 2, &config, now), [Event::Detected(ROW), Event::Overflow]);
}

#[test]
fn one_of_few_is_ejected_only_when_asked_for() {
    let (mut few, now) = (detector(3), Instant::now());
    let config = OutlierDetection { max_ejection_percent: 10, ..config() };
    assert_eq!(fail(&mut few, 0, &config, now), [Event::Detected(ROW), Event::Overflow]);
    let config = OutlierDetection { always_eject_one_host: true, ..config };
    assert_eq!(fail(&mut few, 0, &config, now), [Event::Detected(ROW), Event::Ejected(id(0), ROW)]);
    assert_eq!(fail(&mut few, 1, &config, now), [Event::Detected(ROW), Event::Overflow]);
}

#[test]
fn an_unenforced_rule_only_detects() {
    let (mut detector, now) = (detector(1), Instant::now());
    let config = OutlierDetection { enforcing_consecutive_5xx: 30, ..config() };
    let mut roll =
        |value: u64| detector.failed_in_a_row(id(0), InARow::Answer5xx, &config, now, &mut || value).len();
    assert_eq!(roll(30), 1);
    assert_eq!(roll(29), 2);
}

#[test]
fn an_endpoint_that_left_is_forgotten() {
    let (mut detector, config, now) = (detector(2), config(), Instant::now());
    fail(&mut detector, 0, &config, now);
    detector.follow([id(1)].into_iter());
    assert_eq!(detector.ejected().count(), 0);
    assert_eq!(fail(&mut detector, 0, &config, now), []);
}

fn results(rates: &[u64]) -> Vec<(EndpointId, [Results; 2])> {
    let of =
        |(host, good): (u32, &u64)| (id(host), [Results { total: 100, good: *good }, Results::default()]);
    (0..).zip(rates).map(of).collect()
}

#[test]
fn a_success_rate_far_below_the_others_ejects() {
    let (mut detector, config, now) = (detector(5), config(), Instant::now());
    // Envoy's own example: mean 90, deviation 20, threshold 52.
    let swept = detector.sweep(&config, now, &results(&[50, 100, 100, 100, 100]), &mut || 0);
    let cause = Cause::SuccessRate(Origin::External);
    assert_eq!(swept.events, [Event::Detected(cause), Event::Ejected(id(0), cause)]);
    assert_eq!(swept.thresholds, [Some(52.0), None]);
    assert_eq!(swept.rates[0], (id(0), Origin::External, 50.0));
}

#[test]
fn success_rates_are_those_of_the_interval() {
    let (mut detector, config, now) = (detector(5), config(), Instant::now());
    detector.sweep(&config, now, &results(&[100; 5]), &mut || 0);
    // The same totals again: nothing happened since.
    let swept = detector.sweep(&config, now, &results(&[100; 5]), &mut || 0);
    assert_eq!((swept.rates.len(), swept.thresholds), (0, [None, None]));
}

#[test]
fn too_few_hosts_or_requests_are_not_compared() {
    let (config, now) = (config(), Instant::now());
    let swept = detector(4).sweep(&config, now, &results(&[0, 100, 100, 100]), &mut || 0);
    assert_eq!(swept.thresholds, [None, None]);
    let config = OutlierDetection { success_rate_request_volume: 101, ..config };
    let swept = detector(5).sweep(&config, now, &results(&[0, 100, 100, 100, 100]), &mut || 0);
    assert_eq!(swept.thresholds, [None, None]);
}

#[test]
fn a_large_share_of_failures_ejects_where_it_is_enforced() {
    let cause = Cause::FailurePercentage(Origin::External);
    let config = OutlierDetection { enforcing_success_rate: 0, ..config() };
    let now = Instant::now();
    let found = results(&[15, 16, 15, 100, 100]);
    let swept = detector(5).sweep(&config, now, &found, &mut || 0);
    assert_eq!(swept.events, [Event::Detected(cause); 2]);
    let config = OutlierDetection { enforcing_failure_percentage: 100, ..config };
    let swept = detector(5).sweep(&config, now, &found, &mut || 0);
    assert!(swept.events.contains(&Event::Ejected(id(2), cause)), "{swept:?}");
}

#[test]
fn a_passed_check_releases() {
    let (mut detector, config, now) = (detector(2), config(), Instant::now());
    assert_eq!(detector.passed_check(id(0), now), None);
    fail(&mut detector, 0, &config, now);
    assert_eq!(detector.passed_check(id(0), now), Some(Event::Released(id(0))));
}
