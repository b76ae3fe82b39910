//! A hierarchical timer wheel: six levels of 64 slots over 1 ms ticks. Insert and cancel cost O(1) and no
//! allocation once the slab has grown; a timer moves down at most five times in its life. Sans-io: ticks in,
//! wakers out.

use std::task::Waker;

const LEVELS: usize = 6;
const SLOTS: usize = 64;
const SLOT_BITS: u32 = 6;
const NONE: u32 = u32::MAX;

/// Longest delay the wheel holds, in ticks; longer ones fire then and are set again by their owner.
pub(crate) const DELAY_TICKS_MAX: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;

/// A timer's place; stale keys are told by the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    index: u32,
    generation: u32,
}

struct Entry {
    deadline: u64,
    waker: Option<Waker>,
    generation: u32,
    /// Level × 64 + slot while linked.
    list: u16,
    linked: bool,
    next: u32,
    previous: u32,
}

pub(crate) struct Wheel {
    /// All ticks up to and including this one have been fired.
    now: u64,
    entries: Vec<Entry>,
    free: Vec<u32>,
    heads: [u32; LEVELS * SLOTS],
    occupied: [u64; LEVELS],
    len: usize,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Wheel {
            now: 0,
            entries: Vec::new(),
            free: Vec::new(),
            heads: [NONE; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            len: 0,
        }
    }

    /// Timers set.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Sets a timer for a tick. A tick that has passed fires at the next one.
    pub(crate) fn insert(&mut self, deadline: u64, waker: Waker) -> TimerKey {
        let deadline = deadline.clamp(self.now + 1, self.now + DELAY_TICKS_MAX);
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.entries.push(Entry {
                    deadline: 0,
                    waker: None,
                    generation: 0,
                    list: 0,
                    linked: false,
                    next: NONE,
                    previous: NONE,
                });
                self.entries.len() as u32 - 1
            }
        };
        let entry = &mut self.entries[index as usize];
        entry.deadline = deadline;
        entry.waker = Some(waker);
        let generation = entry.generation;
        self.link(index);
        self.len += 1;
        TimerKey { index, generation }
    }

    /// Gives a set timer another waker. `false` when it has fired.
    pub(crate) fn replace_waker(&mut self, key: TimerKey, waker: &Waker) -> bool {
        let entry = &mut self.entries[key.index as usize];
        if entry.generation != key.generation {
            return false;
        }
        match &mut entry.waker {
            Some(present) => present.clone_from(waker),
            absent => *absent = Some(waker.clone()),
        }
        true
    }

    /// Forgets a timer; nothing happens when it has fired.
    pub(crate) fn cancel(&mut self, key: TimerKey) {
        if self.entries[key.index as usize].generation == key.generation {
            self.unlink(key.index);
            self.release(key.index);
        }
    }

    /// The tick at which [`Wheel::advance`] next has work: never later than the earliest deadline, earlier only
    /// by the timers' moves between levels.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        (0..LEVELS)
            .filter_map(|level| {
                let shift = SLOT_BITS * level as u32;
                let here = self.now >> shift;
                let after = self.occupied[level].rotate_right((here + 1) as u32 % SLOTS as u32);
                (after != 0).then(|| (here + 1 + u64::from(after.trailing_zeros())) << shift)
            })
            .min()
    }

    /// Fires all timers up to and including `tick`, passing their wakers in order of deadline.
    pub(crate) fn advance(&mut self, tick: u64, mut fire: impl FnMut(Waker)) {
        while let Some(next) = self.next_tick() {
            if next > tick {
                break;
            }
            self.now = next;
            // From the top, so that a timer may pass through several levels at one tick.
            for level in (1..LEVELS).rev() {
                let shift = SLOT_BITS * level as u32;
                if next & ((1 << shift) - 1) == 0 {
                    self.cascade(level * SLOTS + (next >> shift) as usize % SLOTS);
                }
            }
            let list = next as usize % SLOTS;
            while self.heads[list] != NONE {
                let index = self.heads[list];
                self.unlink(index);
                if let Some(waker) = self.release(index) {
                    fire(waker);
                }
            }
        }
        self.now = self.now.max(tick);
    }

    /// Moves the timers of a slot whose time has begun to lower levels.
    fn cascade(&mut self, list: usize) {
        let mut index = self.heads[list];
        self.heads[list] = NONE;
        self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        while index != NONE {
            let next = self.entries[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    fn link(&mut self, index: u32) {
        let deadline = self.entries[index as usize].deadline;
        // The level is where the deadline's and now's slots first differ, seen from the top.
        let level = ((63 - ((deadline ^ self.now) | 1).leading_zeros()) / SLOT_BITS) as usize;
        let level = level.min(LEVELS - 1);
        let slot = (deadline >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let list = level * SLOTS + slot;
        let head = self.heads[list];
        let entry = &mut self.entries[index as usize];
        entry.list = list as u16;
        entry.linked = true;
        entry.next = head;
        entry.previous = NONE;
        if head != NONE {
            self.entries[head as usize].previous = index;
        }
        self.heads[list] = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        if !std::mem::take(&mut entry.linked) {
            return;
        }
        let (list, next, previous) = (entry.list as usize, entry.next, entry.previous);
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if previous != NONE {
            self.entries[previous as usize].next = next;
        } else {
            self.heads[list] = next;
            if next == NONE {
                self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
            }
        }
    }

    fn release(&mut self, index: u32) -> Option<Waker> {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        self.len -= 1;
        entry.waker.take()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU64);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fired(wheel: &mut Wheel, tick: u64) -> usize {
        let mut count = 0;
        wheel.advance(tick, |waker| {
            waker.wake();
            count += 1;
        });
        count
    }

    #[test]
    fn timer_fires_at_its_tick_and_not_before() {
        for deadline in [1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, 262_143, 262_144, 20_000_000] {
            let mut wheel = Wheel::new();
            wheel.insert(deadline, Waker::noop().clone());
            assert_eq!(fired(&mut wheel, deadline - 1), 0, "early at {deadline}");
            assert_eq!(fired(&mut wheel, deadline), 1, "late at {deadline}");
            assert_eq!(wheel.len(), 0);
            assert_eq!(wheel.next_tick(), None);
        }
    }

    #[test]
    fn wheel_agrees_with_a_sorted_list() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut wheel, mut list, mut now) = (Wheel::new(), Vec::new(), 0);
            for _ in 0..500 {
                match random.u32(0..4) {
                    0 | 1 => {
                        let reach = random.u32(1..24);
                        let deadline = now + random.u64(1..1 << reach);
                        list.push((deadline, wheel.insert(deadline, Waker::noop().clone())));
                    }
                    2 if !list.is_empty() => {
                        let (_, key) = list.swap_remove(random.usize(0..list.len()));
                        wheel.cancel(key);
                    }
                    _ => {
                        let reach = random.u32(1..20);
                        now += random.u64(0..1 << reach);
                        let due = list.iter().filter(|(deadline, _)| *deadline <= now).count();
                        list.retain(|(deadline, _)| *deadline > now);
                        assert_eq!(fired(&mut wheel, now), due, "seed {seed} tick {now}");
                    }
                }
                assert_eq!(wheel.len(), list.len(), "seed {seed}");
                let earliest = list.iter().map(|(deadline, _)| *deadline).min();
                match (wheel.next_tick(), earliest) {
                    (Some(next), Some(earliest)) => assert!(next <= earliest && next > now, "seed {seed}"),
                    (next, earliest) => assert_eq!(next, earliest, "seed {seed}"),
                }
            }
        }
    }

    #[test]
    fn canceled_timer_does_not_fire_and_its_key_is_stale() {
        let count = Arc::new(Count::default());
        let mut wheel = Wheel::new();
        let key = wheel.insert(5, count.clone().into());
        wheel.cancel(key);
        wheel.cancel(key);
        let reused = wheel.insert(6, count.clone().into());
        assert_eq!(reused.index, key.index);
        assert!(!wheel.replace_waker(key, Waker::noop()));
        wheel.cancel(key);
        fired(&mut wheel, 10);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn timers_fire_in_order_of_deadline() {
        let mut wheel = Wheel::new();
        let counts: Vec<Arc<Count>> = (0..3).map(|_| Arc::default()).collect();
        for (count, deadline) in counts.iter().zip([300, 5, 70]) {
            wheel.insert(deadline, count.clone().into());
        }
        let mut order = Vec::new();
        wheel.advance(1000, |waker| {
            waker.wake();
            order.push(counts.iter().map(|count| count.0.load(Ordering::Relaxed)).collect::<Vec<_>>());
        });
        assert_eq!(order, [[0, 1, 0], [0, 1, 1], [1, 1, 1]]);
    }
}
