//! A bandwidth: how many bytes may go now, and when the next may.
//!
//! Source: Envoy's `StreamRateLimiter`: bytes are given out in slices, one at once and one more every 50 ms.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long a slice lasts.
const SLICE: Duration = Duration::from_millis(50);

/// What is left of a bandwidth.
#[derive(Debug)]
pub struct Pace {
    slice_bytes: usize,
    left: Cell<usize>,
    /// When the next slice begins.
    next: Cell<Instant>,
}

impl Pace {
    /// So many bytes a second from `now` on, but at least one in a slice.
    pub fn new(bytes_per_second: u64, now: Instant) -> Pace {
        let slices = (Duration::from_secs(1).as_millis() / SLICE.as_millis()) as u64;
        let slice_bytes = usize::try_from(bytes_per_second / slices).unwrap_or(usize::MAX).max(1);
        Pace { slice_bytes, left: Cell::new(0), next: Cell::new(now) }
    }

    /// Takes up to `wanted` bytes at `now`; or else says when there are some again.
    pub fn take(&self, wanted: usize, now: Instant) -> Result<usize, Instant> {
        if self.left.get() == 0 {
            let next = self.next.get();
            if now < next {
                return Err(next);
            }
            // What was not asked for in time is not made up for.
            self.left.set(self.slice_bytes);
            self.next.set(now + SLICE);
        }
        let taken = wanted.min(self.left.get());
        self.left.set(self.left.get() - taken);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_gives_out_the_bandwidth_in_slices() {
        let begin = Instant::now();
        let pace = Pace::new(20 * 1000, begin);
        let (mut at, mut sent) = (begin, 0);
        while at < begin + Duration::from_secs(1) {
            match pace.take(700, at) {
                Ok(bytes) => sent += bytes,
                Err(next) => {
                    assert!(next > at && next <= at + SLICE);
                    at = next;
                }
            }
        }
        assert_eq!(sent, 20 * 1000);
    }

    #[test]
    fn a_tiny_bandwidth_still_moves() {
        let begin = Instant::now();
        let pace = Pace::new(1, begin);
        assert_eq!(pace.take(10, begin), Ok(1));
        assert_eq!(pace.take(10, begin), Err(begin + SLICE));
        assert_eq!(pace.take(10, begin + SLICE), Ok(1));
    }
}
