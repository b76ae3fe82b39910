//! Injected faults. Source: `envoy.extensions.filters.http.fault.v3.HTTPFault`.

use std::sync::Arc;
use std::time::Duration;

use ringsail_http::RequestHead;
use ringsail_runtime::lease::Pool;
use ringsail_tables::fraction::Fraction;
use ringsail_tables::policy::{AbortStatus, Fault};
use ringsail_telemetry::{HttpCounter, HttpGauge, HttpStats};

use crate::view::RequestView;

/// What to do to a request: first the delay, then the abort; the bandwidth is for an answer that comes after both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Hold it back for so long.
    pub delay: Option<Duration>,
    /// Answer it here.
    pub abort: Option<AbortStatus>,
    /// Send its answer at so many KiB a second.
    pub kib_per_second: Option<u64>,
}

/// Draws the faults for one request to a cluster. `random` gives a number per share, as Envoy draws anew for each.
pub fn judge(
    fault: &Fault,
    request: &RequestHead,
    cluster: Option<&str>,
    mut random: impl FnMut() -> u64,
) -> Verdict {
    let other_cluster =
        !fault.upstream_cluster.is_empty() && cluster.is_none_or(|name| fault.upstream_cluster != *name);
    if other_cluster || !fault.headers.iter().all(|header| header.matches(&RequestView(request))) {
        return Verdict::default();
    }
    if !fault.downstream_nodes.is_empty() {
        let node = request.fields().get("x-envoy-downstream-service-node");
        if !fault.downstream_nodes.iter().any(|wanted| node == Some(wanted.as_bytes())) {
            return Verdict::default();
        }
    }
    let delay = fault.delay.and_then(|delay| match delay.duration {
        Some(length) => delay.share.chooses(random()).then_some(length),
        None => {
            let share = asked_share(request, "x-envoy-fault-delay-request-percentage", delay.share);
            let millis =
                number(request, "x-envoy-fault-delay-request").filter(|_| share.chooses(random()))?;
            Some(Duration::from_millis(millis))
        }
    });
    let abort = fault.abort.and_then(|abort| match abort.status {
        Some(status) => abort.share.chooses(random()).then_some(status),
        None => {
            let share = asked_share(request, "x-envoy-fault-abort-request-percentage", abort.share);
            asked_status(request).filter(|_| share.chooses(random()))
        }
    });
    let kib_per_second = fault.response_rate.and_then(|rate| match rate.kib_per_second {
        Some(rate_fixed) => rate.share.chooses(random()).then_some(rate_fixed),
        None => {
            let share = asked_share(request, "x-envoy-fault-throughput-response-percentage", rate.share);
            number(request, "x-envoy-fault-throughput-response")
                .filter(|asked| *asked > 0 && share.chooses(random()))
        }
    });
    Verdict { delay, abort, kib_per_second }
}

/// The share a request asks for, as far as the configured one allows. It counts in the configured denominator.
fn asked_share(request: &RequestHead, name: &str, most: Fraction) -> Fraction {
    let asked = number(request, name).map_or(most.numerator, |n| u32::try_from(n).unwrap_or(u32::MAX));
    Fraction { numerator: asked.min(most.numerator), ..most }
}

/// Compat: an HTTP status goes before a gRPC status; one outside 200–599 asks for nothing.
fn asked_status(request: &RequestHead) -> Option<AbortStatus> {
    let http = number(request, "x-envoy-fault-abort-request")
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (200..600).contains(status));
    let grpc =
        || number(request, "x-envoy-fault-abort-grpc-request").and_then(|code| u32::try_from(code).ok());
    http.map(AbortStatus::Http).or_else(|| grpc().map(AbortStatus::Grpc))
}

fn number(request: &RequestHead, name: &str) -> Option<u64> {
    std::str::from_utf8(request.fields().get(name)?).ok()?.parse().ok()
}

/// A request that has a fault, until it is over.
#[derive(Debug)]
pub struct Active {
    stats: HttpStats,
    /// The limit a unit was taken from, and the shard that took it.
    taken: Option<(Arc<Pool>, usize)>,
}

impl Active {
    /// Counts one more for shard `shard` of `shards`, unless there are as many in the process as there may be.
    pub fn begin(
        stats: &HttpStats,
        limit: Option<&Arc<Pool>>,
        shard: usize,
        shards: usize,
    ) -> Option<Active> {
        if limit.is_some_and(|pool| !pool.take(shard, shards)) {
            stats.add(HttpCounter::FaultFaultsOverflow, 1);
            return None;
        }
        stats.raise(HttpGauge::FaultActiveFaults, 1);
        Some(Active { stats: stats.clone(), taken: limit.map(|pool| (pool.clone(), shard)) })
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.stats.lower(HttpGauge::FaultActiveFaults, 1);
        if let Some((pool, shard)) = &self.taken {
            pool.give_back(*shard);
        }
    }
}

#[cfg(test)]
mod tests {
    use ringsail_http::Method;
    use ringsail_tables::policy::{FaultAbort, FaultDelay, FaultRate};

    use super::*;

    fn request(fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::build(Method::Get, b"a", b"/").unwrap();
        for (name, value) in fields {
            head.fields_mut().append(name, value.as_bytes()).unwrap();
        }
        head
    }

    fn by_header(numerator: u32, denominator: u32) -> Fault {
        let share = Fraction { numerator, denominator };
        Fault {
            delay: Some(FaultDelay { duration: None, share }),
            abort: Some(FaultAbort { status: None, share }),
            headers: Box::default(),
            upstream_cluster: Default::default(),
            downstream_nodes: Box::default(),
            response_rate: None,
            active_faults: None,
        }
    }

    fn asked(fields: &[(&str, &str)]) -> Verdict {
        judge(&by_header(100, 100), &request(fields), None, || 99)
    }

    #[test]
    fn a_request_may_ask_for_its_delay_and_abort() {
        assert_eq!(asked(&[]), Verdict::default());
        assert_eq!(asked(&[("x-envoy-fault-delay-request", "20")]).delay, Some(Duration::from_millis(20)));
        assert_eq!(asked(&[("x-envoy-fault-abort-request", "418")]).abort, Some(AbortStatus::Http(418)));
        assert_eq!(asked(&[("x-envoy-fault-abort-grpc-request", "7")]).abort, Some(AbortStatus::Grpc(7)));
        let both = [("x-envoy-fault-abort-grpc-request", "7"), ("x-envoy-fault-abort-request", "500")];
        assert_eq!(asked(&both).abort, Some(AbortStatus::Http(500)));
        for bad in ["199", "600", "-1", "x", "", "99999999999999999999"] {
            assert_eq!(asked(&[("x-envoy-fault-abort-request", bad)]).abort, None, "{bad}");
            assert_eq!(asked(&[("x-envoy-fault-delay-request", "x")]).delay, None);
        }
    }

    #[test]
    fn a_request_may_ask_for_the_bandwidth_of_its_answer() {
        let share = Fraction { numerator: 50, denominator: 100 };
        let fault =
            Fault { response_rate: Some(FaultRate { kib_per_second: None, share }), ..by_header(0, 100) };
        let asked =
            |fields: &[(&str, &str)], random| judge(&fault, &request(fields), None, || random).kib_per_second;
        let rate = ("x-envoy-fault-throughput-response", "64");
        assert_eq!((asked(&[rate], 49), asked(&[rate], 50), asked(&[], 0)), (Some(64), None, None));
        let never = ("x-envoy-fault-throughput-response-percentage", "0");
        assert_eq!(asked(&[rate, never], 0), None);
        assert_eq!(asked(&[("x-envoy-fault-throughput-response", "0")], 0), None);
    }

    #[test]
    fn a_request_may_lower_the_share_but_not_raise_it() {
        let chosen = |share: u32, asked: &str| {
            let head = request(&[
                ("x-envoy-fault-abort-request", "500"),
                ("x-envoy-fault-abort-request-percentage", asked),
            ]);
            let fault = by_header(share, 10_000);
            (0..10_000).filter(|random| judge(&fault, &head, None, || *random).abort.is_some()).count()
        };
        assert_eq!((chosen(500, "50"), chosen(500, "501"), chosen(500, "0")), (50, 500, 0));
        assert_eq!(chosen(500, "nonsense"), 500);
    }

    #[test]
    fn shares_are_exact_for_every_denominator() {
        let seed = std::env::var("RINGSAIL_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        println!("RINGSAIL_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        const DRAWS: u32 = 200_000;
        for (numerator, denominator) in [(1, 100), (50, 100), (12, 10_000), (9_999, 10_000), (333, 1_000_000)]
        {
            let share = Fraction { numerator, denominator };
            let fault = Fault {
                abort: Some(FaultAbort { status: Some(AbortStatus::Http(500)), share }),
                delay: None,
                ..by_header(0, 100)
            };
            let head = request(&[]);
            let aborts =
                (0..DRAWS).filter(|_| judge(&fault, &head, None, || random.u64(..)).abort.is_some()).count();
            let p = f64::from(numerator) / f64::from(denominator);
            let (mean, deviation) = (f64::from(DRAWS) * p, (f64::from(DRAWS) * p * (1.0 - p)).sqrt());
            // Six standard deviations: wrong once in five hundred million draws of a share.
            assert!((aborts as f64 - mean).abs() <= 6.0 * deviation, "{aborts} of {mean} ± {deviation}");
        }
    }
}
