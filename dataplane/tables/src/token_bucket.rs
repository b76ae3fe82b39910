//! A token bucket that all shards of the process draw from.
//!
//! The bucket refills continuously. Its whole state is one number, the moment at which it was empty, so that drawing is
//! one exchange of that number. That exchange is the only atomic read-modify-write on the way of a request, and most
//! requests do without it: a shard draws a small lease at once and serves requests from there, with plain loads and
//! stores of a cell only it writes; a request that is refused only reads. Leases are a small part of what is left, so
//! that a shard refuses at most `LEASE_PART`th early, and outstanding leases count against the bucket's size, so that
//! the sum over all shards never exceeds the limit.
//!
//! Source: `envoy.type.v3.TokenBucket`; refill as of Envoy's `AtomicTokenBucketImpl`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Shards with a lease of their own; further ones draw token by token.
const LEASES: usize = 8;
/// A lease is at most this part of the tokens left, over all shards.
const LEASE_PART: u32 = 64;
/// Largest lease, in tokens.
const LEASE_MAX: u32 = 32;

/// Tokens for requests. Times are measured from any one moment that all shards share.
#[derive(Debug)]
pub struct TokenBucket {
    tokens_max: u32,
    tokens_per_second: f64,
    /// Seconds at which the bucket was empty, as bits.
    empty_at: AtomicU64,
    leases: [Lease; LEASES],
}

/// Tokens a shard has drawn and not used. On a cache line of its own: one shard writes it all the time.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Lease(AtomicU32);

impl TokenBucket {
    /// A full bucket: at most `tokens_max`, and `tokens_per_fill` more in every `interval`.
    pub fn new(tokens_max: u32, tokens_per_fill: u32, interval: Duration) -> TokenBucket {
        let tokens_per_second = f64::from(tokens_per_fill) / interval.as_secs_f64();
        TokenBucket::with_rate(tokens_max, tokens_per_second)
    }

    fn with_rate(tokens_max: u32, tokens_per_second: f64) -> TokenBucket {
        TokenBucket {
            tokens_max,
            tokens_per_second,
            empty_at: AtomicU64::new(f64::NEG_INFINITY.to_bits()),
            leases: Default::default(),
        }
    }

    /// A full bucket with the same settings.
    pub fn fresh(&self) -> TokenBucket {
        TokenBucket::with_rate(self.tokens_max, self.tokens_per_second)
    }

    /// Fills it up, for another use. Shards that draw meanwhile may keep what they have.
    pub fn refill(&self) {
        self.empty_at.store(f64::NEG_INFINITY.to_bits(), Ordering::Relaxed);
        self.leases.iter().for_each(|lease| lease.0.store(0, Ordering::Relaxed));
    }

    /// Its size.
    pub fn tokens_max(&self) -> u32 {
        self.tokens_max
    }

    /// How fast it refills.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens_per_second
    }

    /// Takes `hits` tokens for a request on shard number `shard`; false when there are not so many.
    pub fn take(&self, hits: u32, shard: u32, now: Duration) -> bool {
        match self.leases.get(shard as usize) {
            Some(lease) if hits == 1 => self.take_from(&lease.0, now),
            _ => self.draw(now, |left| if left >= hits { hits } else { 0 }) == hits,
        }
    }

    fn take_from(&self, lease: &AtomicU32, now: Duration) -> bool {
        let mut tokens = lease.load(Ordering::Relaxed);
        if tokens == 0 {
            tokens = self.draw(now, |left| left.min((left / LEASE_PART).clamp(1, LEASE_MAX)));
            if tokens == 0 {
                return false;
            }
        }
        // Only this shard writes its lease.
        lease.store(tokens - 1, Ordering::Relaxed);
        true
    }

    /// Takes as many of the tokens left as `wanted` says.
    fn draw(&self, now: Duration, wanted: impl Fn(u32) -> u32) -> u32 {
        let now = now.as_secs_f64();
        let mut empty_at = self.empty_at.load(Ordering::Relaxed);
        loop {
            let left = self.left(f64::from_bits(empty_at), now);
            let taken = wanted(left as u32);
            if taken == 0 {
                return 0;
            }
            let next = now - (left - f64::from(taken)) / self.tokens_per_second;
            match self.empty_at.compare_exchange_weak(
                empty_at,
                next.to_bits(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return taken,
                Err(other) => empty_at = other,
            }
        }
    }

    /// Tokens in the bucket itself.
    fn left(&self, empty_at: f64, now: f64) -> f64 {
        let room = f64::from(self.tokens_max.saturating_sub(self.leased()));
        ((now - empty_at) * self.tokens_per_second).clamp(0.0, room)
    }

    fn leased(&self) -> u32 {
        self.leases.iter().map(|lease| lease.0.load(Ordering::Relaxed)).sum()
    }

    /// Tokens left for all shards.
    pub fn remaining(&self, now: Duration) -> u32 {
        let empty_at = f64::from_bits(self.empty_at.load(Ordering::Relaxed));
        self.left(empty_at, now.as_secs_f64()) as u32 + self.leased()
    }

    /// Time until there is a token; zero when there is one.
    pub fn next_token(&self, now: Duration) -> Duration {
        if self.remaining(now) > 0 {
            return Duration::ZERO;
        }
        let empty_at = f64::from_bits(self.empty_at.load(Ordering::Relaxed));
        let at = empty_at + 1.0 / self.tokens_per_second;
        Duration::try_from_secs_f64(at - now.as_secs_f64()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(1000.0 + seconds)
    }

    #[test]
    fn a_full_bucket_serves_its_size_and_then_its_rate() {
        let bucket = TokenBucket::new(3, 1, Duration::from_secs(10));
        assert_eq!((bucket.remaining(at(0.0)), bucket.next_token(at(0.0))), (3, Duration::ZERO));
        for _ in 0..3 {
            assert!(bucket.take(1, 0, at(0.0)));
        }
        assert!(!bucket.take(1, 0, at(0.0)) && !bucket.take(1, 0, at(9.9)));
        assert_eq!(bucket.next_token(at(4.0)).as_secs_f64().round() as u32, 6);
        assert!(bucket.take(1, 0, at(10.1)));
        assert!(!bucket.take(1, 0, at(10.2)));
    }

    #[test]
    fn an_idle_bucket_does_not_grow_past_its_size() {
        let bucket = TokenBucket::new(2, 2, Duration::from_secs(1));
        assert!(bucket.take(1, 0, at(0.0)));
        let taken = (0..10).filter(|_| bucket.take(1, 0, at(1e6))).count();
        assert_eq!(taken, 2);
    }

    #[test]
    fn several_hits_are_all_taken_or_none() {
        let bucket = TokenBucket::new(5, 1, Duration::from_secs(60));
        assert!(bucket.take(4, 0, at(0.0)));
        assert!(!bucket.take(2, 0, at(0.0)));
        assert_eq!(bucket.remaining(at(0.0)), 1);
    }

    #[test]
    fn small_buckets_are_exact_whichever_shards_ask() {
        for size in 1..=64 {
            let bucket = TokenBucket::new(size, 1, Duration::from_secs(3600));
            let taken = (0..200).filter(|i| bucket.take(1, i % 3, at(0.0))).count();
            assert_eq!(taken, size as usize);
        }
    }

    #[test]
    fn threads_together_never_take_more_than_there_is() {
        const SIZE: u32 = 10_000;
        let bucket = TokenBucket::new(SIZE, 1, Duration::from_secs(3600));
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|shard| {
                    let bucket = &bucket;
                    scope.spawn(move || (0..SIZE).filter(|_| bucket.take(1, shard, at(0.0))).count())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // Every thread asks for more than there is, so no lease is left over.
        assert_eq!(taken, SIZE as usize);
    }

    #[test]
    fn what_is_leased_counts_against_the_size() {
        let bucket = TokenBucket::new(6400, 6400, Duration::from_secs(1));
        assert!(bucket.take(1, 0, at(0.0)));
        assert!(bucket.leased() > 0);
        assert_eq!(bucket.remaining(at(1e6)), 6400);
    }
}
