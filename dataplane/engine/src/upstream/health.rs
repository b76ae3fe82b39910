//! Active checks: when an endpoint is asked, and what its answers mean. Made by one shard for all.
//!
//! Compat: thresholds and intervals are Envoy's: the first check decides alone; after that a bad answer makes an
//! endpoint unhealthy at once, and silence only as often as the threshold says. Every check makes a connection of its
//! own; Envoy keeps one if `reuse_connection` is not switched off.

use std::net::SocketAddr;
use std::time::Duration;

use ringsail_http::{Progress as Decoded, ResponseDecoder, ResponseHead, ResponseTo};
use ringsail_runtime::net::{self, Address, ConnectOptions};
use ringsail_runtime::time::timeout;
use ringsail_tables::health_check::{HealthCheck, Probe};

use crate::inflow::Inflow;
use crate::limits::CHECK_ANSWER_BYTES_MAX;
use crate::stream::Stream;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It passed.
    Passed,
    /// The answer was not the expected one.
    Failed,
    /// The answer was one that counts as none.
    Retriable,
    /// Nobody was there, or the connection ended.
    NoAnswer,
    /// No answer in time.
    TimedOut,
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
        let passed = finding == Finding::Passed;
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
            Finding::Passed => check.healthy_threshold,
            Finding::Failed => 1,
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

/// Asks an endpoint once. `name` is the authority when the check gives none.
pub async fn probe(check: &HealthCheck, address: &Address, name: &str) -> Finding {
    let address = match (address.as_inet(), check.alt_port) {
        (Some(inet), Some(port)) => Address::from(SocketAddr::new(inet.ip(), port)),
        _ => address.clone(),
    };
    let asked = async {
        let options = ConnectOptions { timeout: Some(check.timeout), ..ConnectOptions::default() };
        let stream = Stream::from(net::Stream::connect(&address, &options).await.ok()?);
        match &check.probe {
            Probe::Http { method, host, path, expected, retriable } => {
                let host = host.as_deref().unwrap_or(name);
                let request =
                    format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: Envoy/HC\r\n\r\n");
                stream.send_all(request.as_bytes()).await.ok()?;
                let status = status(&stream).await?;
                let is_in =
                    |ranges: &[(u16, u16)]| ranges.iter().any(|(from, to)| (*from..*to).contains(&status));
                Some(match (is_in(expected), is_in(retriable)) {
                    (true, _) => Finding::Passed,
                    (false, true) => Finding::Retriable,
                    (false, false) => Finding::Failed,
                })
            }
            Probe::Tcp { send, receive } => {
                if !send.is_empty() {
                    stream.send_all(send).await.ok()?;
                }
                wait_for(&stream, receive).await.then_some(Finding::Passed)
            }
        }
    };
    match timeout(check.timeout, asked).await {
        Ok(finding) => finding.unwrap_or(Finding::NoAnswer),
        Err(_) => Finding::TimedOut,
    }
}

/// The status of the answer. Its body is left with the connection.
async fn status(stream: &Stream) -> Option<u16> {
    let mut inflow = Inflow::default();
    let mut decoder = ResponseDecoder::new(ResponseTo { method: None, upgrade: false });
    let mut head = ResponseHead::new();
    loop {
        if !inflow.fill(stream).await.ok()? {
            return None;
        }
        match decoder.decode(inflow.bytes(), &mut head).ok()? {
            Decoded::NeedMore => inflow.consume(inflow.bytes().len()),
            Decoded::Complete { consumed } => {
                inflow.consume(consumed);
                if head.status() >= 200 {
                    return Some(head.status());
                }
            }
        }
    }
}

/// Whether all of `parts` arrive, in this order.
async fn wait_for(stream: &Stream, parts: &[Box<[u8]>]) -> bool {
    let mut arrived: Vec<u8> = Vec::new();
    loop {
        let mut rest = arrived.as_slice();
        let all =
            parts.iter().all(|part| match rest.windows(part.len()).position(|window| *window == **part) {
                Some(at) => {
                    rest = &rest[at + part.len()..];
                    true
                }
                None => false,
            });
        if all || arrived.len() > CHECK_ANSWER_BYTES_MAX {
            return all;
        }
        let mut inflow = Inflow::default();
        if !inflow.fill(stream).await.unwrap_or(false) {
            return false;
        }
        arrived.extend_from_slice(inflow.bytes());
    }
}

#[cfg(test)]
mod tests {
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
        let mut other = Checked::default();
        assert_eq!(take(&mut other, &[Passed, Failed]), [true, true]);
        assert!(!other.is_healthy());
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
