//! Active checks: when an endpoint is asked, and what its answers mean. Made by one shard for all.
//!
//! Compat: thresholds and intervals are Envoy's: the first check decides alone; after that a bad answer makes an
//! endpoint unhealthy at once, and silence only as often as the threshold says.

mod probe;

use std::time::Duration;

use ringsail_tables::health_check::HealthCheck;

pub use probe::{Asked, UNWELL_AT_ONCE, probe};

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It passed.
    Passed,
    /// It passed, and says that others should be asked first.
    Degraded,
    /// The answer was not the expected one.
    Failed,
    /// The same, and it asks to be left out.
    FailedAtOnce,
    /// It asked to be left out in an answer to somebody's request.
    ToldInPassing,
    /// The answer was one that counts as none.
    Retriable,
    /// Nobody was there, or the connection ended.
    NoAnswer,
    /// No answer in time.
    TimedOut,
}

impl Finding {
    /// Whether the endpoint may be asked.
    pub fn is_passed(self) -> bool {
        matches!(self, Finding::Passed | Finding::Degraded)
    }

    /// Whether it asks to be left out of the counts of its cluster, too.
    pub fn excludes(self) -> bool {
        matches!(self, Finding::FailedAtOnce | Finding::ToldInPassing)
    }
}

/// What is known of one endpoint from its checks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    /// Whether a check is over.
    any: bool,
    healthy: bool,
    /// Checks in a row that speak against `healthy`.
    against: u32,
}

impl Checked {
    /// Takes a finding in. True when the health changed, or is known for the first time.
    pub fn take(&mut self, finding: Finding, check: &HealthCheck) -> bool {
        let first = !std::mem::replace(&mut self.any, true);
        let passed = finding.is_passed();
        if first {
            self.healthy = passed;
            return true;
        }
        if passed == self.healthy {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let threshold = match finding {
            Finding::Passed | Finding::Degraded => check.healthy_threshold,
            Finding::Failed | Finding::FailedAtOnce | Finding::ToldInPassing => 1,
            Finding::Retriable | Finding::NoAnswer | Finding::TimedOut => check.unhealthy_threshold,
        };
        if self.against < threshold {
            return false;
        }
        self.healthy = passed;
        self.against = 0;
        true
    }

    /// Whether it is healthy.
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// The pause before the next check; `changed` is what the last [`Checked::take`] said.
    pub fn pause(&self, check: &HealthCheck, changed: bool, traffic: bool, random: u64) -> Duration {
        let base = match (traffic, changed || self.against > 0, self.healthy) {
            (false, _, true) => check.no_traffic_healthy_interval,
            (false, _, false) => check.no_traffic_interval,
            // On its way from one state to the other, or just there.
            (true, true, healthy) => match healthy != (self.against > 0) {
                true => check.healthy_edge_interval,
                false => check.unhealthy_edge_interval,
            },
            (true, false, true) => check.interval,
            (true, false, false) => check.unhealthy_interval,
        };
        let below = |bound: Duration| match bound.as_millis() as u64 {
            0 => Duration::ZERO,
            bound => Duration::from_millis(random % bound),
        };
        base + below(base * check.interval_jitter_percent / 100) + below(check.interval_jitter)
    }
}

#[cfg(test)]
mod tests {
    use ringsail_tables::health_check::Probe;

    use super::*;

    fn check() -> HealthCheck {
        let seconds = Duration::from_secs;
        HealthCheck {
            probe: Probe::Tcp { send: Box::default(), receive: Box::default() },
            timeout: seconds(1),
            interval: seconds(10),
            initial_jitter: Duration::ZERO,
            interval_jitter: Duration::ZERO,
            interval_jitter_percent: 0,
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            no_traffic_interval: seconds(60),
            no_traffic_healthy_interval: seconds(70),
            unhealthy_interval: seconds(20),
            unhealthy_edge_interval: seconds(21),
            healthy_edge_interval: seconds(11),
            alt_port: None,
        }
    }

    fn take(checked: &mut Checked, findings: &[Finding]) -> Vec<bool> {
        findings.iter().map(|finding| checked.take(*finding, &check())).collect()
    }

    #[test]
    fn the_first_check_decides_alone() {
        for finding in [Finding::Passed, Finding::TimedOut] {
            let mut checked = Checked::default();
            assert_eq!(take(&mut checked, &[finding]), [true]);
            assert_eq!(checked.is_healthy(), finding == Finding::Passed);
        }
    }

    #[test]
    fn silence_needs_the_threshold_and_a_bad_answer_does_not() {
        use Finding::*;
        let mut checked = Checked::default();
        assert_eq!(take(&mut checked, &[Passed, NoAnswer, TimedOut, Passed]), [true, false, false, false]);
        assert_eq!(take(&mut checked, &[Retriable, NoAnswer, NoAnswer]), [false, false, true]);
        assert!(!checked.is_healthy());
        for bad in [Failed, FailedAtOnce, ToldInPassing] {
            let mut other = Checked::default();
            assert_eq!(take(&mut other, &[Degraded, bad]), [true, true]);
            assert!(!other.is_healthy());
        }
    }

    #[test]
    fn an_endpoint_comes_back_after_as_many_successes_in_a_row() {
        use Finding::*;
        let mut checked = Checked::default();
        assert_eq!(
            take(&mut checked, &[Failed, Passed, Failed, Passed, Passed]),
            [true, false, false, false, true]
        );
        assert!(checked.is_healthy());
    }

    #[test]
    fn pauses_follow_state_edge_and_traffic() {
        use Finding::*;
        let pause = |findings: &[Finding], traffic| {
            let mut checked = Checked::default();
            let changed = take(&mut checked, findings).pop().unwrap();
            checked.pause(&check(), changed, traffic, 0).as_secs()
        };
        assert_eq!(pause(&[Passed, Passed], true), 10);
        assert_eq!(pause(&[Failed, Failed], true), 20);
        assert_eq!(pause(&[Passed, NoAnswer], true), 21, "on its way down");
        assert_eq!(pause(&[Passed, Failed], true), 21);
        assert_eq!(pause(&[Failed, Passed], true), 11, "on its way up");
        assert_eq!(pause(&[Failed, Passed, Passed], true), 11);
        assert_eq!((pause(&[Passed], false), pause(&[Failed], false)), (70, 60));
    }

    #[test]
    fn jitter_is_below_its_bounds() {
        let check =
            HealthCheck { interval_jitter_percent: 50, interval_jitter: Duration::from_secs(1), ..check() };
        let mut checked = Checked::default();
        let changed = checked.take(Finding::Passed, &check);
        for random in [0, 999, 5_499, u64::MAX] {
            let pause = checked.pause(&check, changed, true, random);
            assert!((11_000..17_500).contains(&pause.as_millis()), "{pause:?}");
        }
    }
}
