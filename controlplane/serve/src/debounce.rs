//! When a burst of changes is over.

use std::time::{Duration, Instant};

/// Waits for `quiet` after the last change, but no longer than `max` after the first.
#[derive(Debug, Clone)]
pub struct Debounce {
    quiet: Duration,
    max: Duration,
    /// First and last change of the burst at hand.
    burst: Option<(Instant, Instant)>,
}

impl Debounce {
    /// A debounce with nothing pending.
    pub fn new(quiet: Duration, max: Duration) -> Self {
        Self { quiet, max, burst: None }
    }

    /// Notes a change.
    pub fn changed(&mut self, now: Instant) {
        let first = self.burst.map_or(now, |(first, _)| first);
        self.burst = Some((first, now));
    }

    /// When the pending burst is to be pushed; `None` when nothing is pending.
    pub fn due(&self) -> Option<Instant> {
        self.burst.map(|(first, last)| (last + self.quiet).min(first + self.max))
    }

    /// Ends the burst and says when it began.
    pub fn take(&mut self) -> Option<Instant> {
        self.burst.take().map(|(first, _)| first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn a_single_change_waits_for_quiet() {
        let start = Instant::now();
        let mut debounce = Debounce::new(QUIET, MAX);
        assert_eq!(debounce.due(), None);
        debounce.changed(start);
        assert_eq!(debounce.due(), Some(start + QUIET));
        assert_eq!(debounce.take(), Some(start));
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn changes_without_end_are_pushed_after_the_longest_wait() {
        let start = Instant::now();
        let mut debounce = Debounce::new(QUIET, MAX);
        for step in 0..100 {
            debounce.changed(start + Duration::from_millis(50 * step));
        }
        assert_eq!(debounce.due(), Some(start + MAX));
    }
}
