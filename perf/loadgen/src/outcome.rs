//! What a run measured.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::limits::LATENCY_US_MAX;

/// The quantiles that are reported.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// Counts and latencies of the measured part of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Answers that were a success.
    pub successes: u64,
    /// Answers that were none, and connections that failed.
    pub failures: u64,
    /// How long the measured part lasted.
    pub elapsed: Duration,
    /// Microseconds from due (open loop) or sent (closed loop) to the answer's last byte.
    latency_us: Histogram<u64>,
}

impl Outcome {
    /// Nothing measured yet.
    pub fn new() -> Outcome {
        // 3 significant digits up to the bound: about 200 KiB.
        let latency_us =
            Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bound is above 2 and 3 digits are valid");
        Outcome { successes: 0, failures: 0, elapsed: Duration::ZERO, latency_us }
    }

    /// One exchange that took `latency`.
    pub fn record(&mut self, success: bool, latency: Duration) {
        if success {
            self.successes += 1;
            self.latency_us.saturating_record(latency.as_micros().min(u128::from(LATENCY_US_MAX)) as u64);
        } else {
            self.failures += 1;
        }
    }

    /// Successes per second.
    pub fn rate(&self) -> f64 {
        self.successes as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    /// One JSON object; `curve` holds `[quantile, microseconds]` points for a latency plot.
    pub fn to_json(&self) -> Value {
        let quantiles: serde_json::Map<String, Value> = QUANTILES
            .iter()
            .map(|(name, quantile)| (name.to_string(), json!(self.latency_us.value_at_quantile(*quantile))))
            .collect();
        let curve: Vec<Value> = self
            .latency_us
            .iter_quantiles(2)
            .map(|step| json!([step.quantile_iterated_to(), step.value_iterated_to()]))
            .collect();
        json!({
            "successes": self.successes,
            "failures": self.failures,
            "seconds": self.elapsed.as_secs_f64(),
            "per_second": self.rate(),
            "latency_us": quantiles,
            "curve": curve,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "requests   {} ok, {} failed", self.successes, self.failures)?;
        writeln!(out, "rate       {:.0} per second over {:.1} s", self.rate(), self.elapsed.as_secs_f64())?;
        for (name, quantile) in QUANTILES {
            writeln!(out, "{name:<10} {} µs", self.latency_us.value_at_quantile(quantile))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_but_do_not_make_the_latency_look_better() {
        let mut outcome = Outcome::new();
        outcome.record(true, Duration::from_millis(5));
        outcome.record(false, Duration::from_micros(1));
        assert_eq!((outcome.successes, outcome.failures), (1, 1));
        let json = outcome.to_json();
        let p50 = json["latency_us"]["p50"].as_u64().unwrap();
        assert!((5000..5010).contains(&p50), "{p50}");
    }

    #[test]
    fn a_latency_past_the_bound_counts_as_the_bound() {
        let mut outcome = Outcome::new();
        outcome.record(true, Duration::from_secs(3600));
        let max = outcome.to_json()["latency_us"]["max"].as_u64().unwrap();
        assert!((LATENCY_US_MAX..LATENCY_US_MAX + LATENCY_US_MAX / 500).contains(&max), "{max}");
    }
}
