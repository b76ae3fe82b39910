//! How much of its weight a new host has.

use std::time::Duration;

use ringsail_tables::balancing::SlowStart;

/// The share of its weight of a host that has been healthy for `age`: `(age / window) ^ (1 / aggression)`, at least the
/// configured minimum, and 1 after the window. Source: Envoy "Slow start mode".
pub(super) fn share_of_weight(slow: &SlowStart, age: Duration) -> f64 {
    if age >= slow.window {
        return 1.0;
    }
    let age = age.max(Duration::from_millis(1));
    let time = age.as_secs_f64() / slow.window.as_secs_f64();
    time.powf(1.0 / slow.aggression).clamp(slow.weight_min.min(1.0), 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(aggression: f64, weight_min: f64, millis: u64) -> f64 {
        let slow = SlowStart { window: Duration::from_secs(10), aggression, weight_min };
        share_of_weight(&slow, Duration::from_millis(millis))
    }

    #[test]
    fn the_share_grows_evenly_to_the_end_of_the_window() {
        assert_eq!(share(1.0, 0.0, 2_500), 0.25);
        assert_eq!(share(1.0, 0.0, 9_000), 0.9);
        assert_eq!(share(1.0, 0.0, 10_000), 1.0);
    }

    #[test]
    fn it_is_never_below_the_minimum() {
        assert_eq!(share(1.0, 0.1, 10), 0.1);
        assert_eq!(share(1.0, 1.0, 10), 1.0);
    }

    #[test]
    fn aggression_raises_it_early_or_late() {
        assert_eq!(share(2.0, 0.0, 2_500), 0.5);
        assert_eq!(share(0.5, 0.0, 5_000), 0.25);
    }
}
