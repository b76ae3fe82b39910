//! When each request is due.

use std::time::Duration;

/// A fixed arrival schedule: request `i` is due `i / rate` seconds after the start.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    rate: u64,
}

impl Schedule {
    /// `rate` requests per second, at least one.
    pub fn new(rate: u64) -> Schedule {
        Schedule { rate: rate.max(1) }
    }

    /// When request `index` is due, counted from the start.
    pub fn due(&self, index: u64) -> Duration {
        Duration::from_nanos((u128::from(index) * 1_000_000_000 / u128::from(self.rate)) as u64)
    }

    /// How many requests are due within `length` of the start.
    pub fn due_within(&self, length: Duration) -> u64 {
        (length.as_nanos() * u128::from(self.rate)).div_ceil(1_000_000_000) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_evenly_spaced_and_never_drift() {
        let schedule = Schedule::new(3);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(3), Duration::from_secs(1));
        assert_eq!(schedule.due(3_000_000), Duration::from_secs(1_000_000));
    }

    #[test]
    fn as_many_are_due_in_a_second_as_the_rate_says() {
        let schedule = Schedule::new(1000);
        let length = Duration::from_secs(1);
        assert_eq!(schedule.due_within(length), 1000);
        assert!(schedule.due(999) < length && schedule.due(1000) >= length);
    }
}
