//! How far a share may be from what was asked before chance stops being an explanation.

use std::ops::RangeInclusive;

/// Chance that a correct mesh falls outside the bounds: half of it on either side.
const OUTSIDE: f64 = 0.001;

/// Counts that a binomial variable with `n` trials and probability `p` takes in 99.9% of all runs.
///
/// Exact: both tails are sums of the distribution itself, no normal approximation. With `p` 0 or 1 only one count is
/// possible.
pub fn bounds(n: u64, p: f64) -> RangeInclusive<u64> {
    if p <= 0.0 || n == 0 {
        return 0..=0;
    }
    if p >= 1.0 {
        return n..=n;
    }
    let upper = upper_bound(n, p);
    // The lower tail is the upper tail of the failures.
    (n - upper_bound(n, 1.0 - p))..=upper
}

/// Smallest count whose excess probability P(X > count) is at most half of [`OUTSIDE`].
fn upper_bound(n: u64, p: f64) -> u64 {
    let mut tail = 0.0;
    // ln P(X = n), then downward: P(k - 1) = P(k) · k (1 - p) / ((n - k + 1) p).
    let mut log_probability = n as f64 * p.ln();
    let mut k = n;
    while k > 0 {
        tail += log_probability.exp();
        if tail > OUTSIDE / 2.0 {
            return k;
        }
        log_probability += (k as f64).ln() + (1.0 - p).ln() - ((n - k + 1) as f64).ln() - p.ln();
        k -= 1;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certain_shares_leave_no_room() {
        assert_eq!(bounds(100, 0.0), 0..=0);
        assert_eq!(bounds(100, 1.0), 100..=100);
        assert_eq!(bounds(0, 0.5), 0..=0);
    }

    #[test]
    fn small_cases_match_the_distribution_written_out() {
        // Ten fair coins: P(0) = 1/1024 > 0.0005, so nothing can be excluded.
        assert_eq!(bounds(10, 0.5), 0..=10);
        // Twelve: P(0) = 1/4096 < 0.0005 and P(0) + P(1) = 13/4096 > 0.0005.
        assert_eq!(bounds(12, 0.5), 1..=11);
        // Five hundred at 10%: P(X > 72) = 0.00073 and P(X > 73) = 0.00045.
        assert_eq!(*bounds(500, 0.1).end(), 73);
    }

    #[test]
    fn a_correct_share_is_inside_nearly_always() {
        fastrand::seed(11);
        let (n, p) = (400, 0.1);
        let inside = bounds(n, p);
        let outside = (0..10_000)
            .filter(|_| !inside.contains(&((0..n).filter(|_| fastrand::f64() < p).count() as u64)))
            .count();
        assert!(outside <= 25, "{outside} of 10000 runs outside");
    }
}
